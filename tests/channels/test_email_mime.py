"""What a reader's mail program makes of our mail; the standard library's parser stands in for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Content
from channels.email.address import Unsendable, parse_sender, wire_address
from channels.email.mime import Mail, build
from channels.email.smtp import SmtpProvider, bodies
from channels.memory import MemorySmtp
from channels.plaintext import text_of
from domain.results import ResultClass
from tests.channels.samples import content, message

SENDER = parse_sender("通达 <notify@tongda.example>")
titles = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029"), max_size=300)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=2000)


def mail(*, subject: str = "s", text: str = "t", html: str | None = None) -> bytes:
    return build(
        Mail(
            sender=SENDER,
            recipient="zhang@example.com",
            subject=subject,
            text=text,
            html=html,
            date="Sun, 01 Mar 2026 08:30:00 +0000",
            expires="Sun, 01 Mar 2026 09:30:00 +0000",
            message_id="a-1@tongda.example",
            delivery_id="a-1",
        )
    )


def parsed(raw: bytes) -> EmailMessage:
    got = message_from_bytes(raw, policy=policy.default)
    assert isinstance(got, EmailMessage)
    return got


def lines(text: str) -> list[str]:
    """Text apart from how its lines end."""
    return re.split(r"\r\n|\r|\n", text.removesuffix("\n").removesuffix("\r"))


def body(part: EmailMessage) -> str:
    raw = part.get_payload(decode=True)
    assert isinstance(raw, bytes)
    return raw.decode("utf-8")


@given(titles)
def test_any_title_comes_back(title: str) -> None:
    assert str(parsed(mail(subject=title))["Subject"] or "") == title


@given(texts)
def test_any_text_comes_back(text: str) -> None:
    assert lines(body(parsed(mail(text=text)))) == lines(text)


@given(texts, texts)
def test_any_text_and_html_come_back(text: str, html: str) -> None:
    got = parsed(mail(text=text, html=html))
    assert got.get_content_type() == "multipart/alternative"
    plain, rich = got.iter_parts()
    assert isinstance(plain, EmailMessage)
    assert isinstance(rich, EmailMessage)
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert lines(body(plain)) == lines(text)
    assert lines(body(rich)) == lines(html)
    assert not got.defects


@given(titles, texts, texts | st.none())
def test_every_line_is_short_ascii_and_ends_in_crlf(title: str, text: str, html: str | None) -> None:
    raw = mail(subject=title, text=text, html=html)
    assert raw.isascii()
    assert b"\0" not in raw
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 76
    assert raw.endswith(b"\r\n")


@given(titles, st.sampled_from("\r\n\0\x0b\x0c\x1b\x7f\x85\u2028\u2029"), titles)
def test_a_control_character_in_the_title_is_refused(before: str, control: str, after: str) -> None:
    with pytest.raises(Unsendable) as refused:
        mail(subject=before + control + after)
    assert refused.value.code == "header_injection"


@given(titles)
def test_a_title_adds_no_header(title: str) -> None:
    assert parsed(mail(subject=title)).keys() == parsed(mail(subject="x")).keys()


@given(st.text(max_size=80))
def test_an_address_is_plain_or_refused(address: str) -> None:
    try:
        wire = wire_address(address)
    except Unsendable:
        return
    assert re.fullmatch(r"[!-~]+@[A-Za-z0-9.-]+", wire)
    assert not set(wire) & set('<>()[]:;,\\" ')


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("a@example.com\r\nBcc: b@example.com", "header_injection"),
        ("a@example.com\0", "header_injection"),
        ("a\n@example.com", "header_injection"),
        ("张伟@example.com", "smtputf8_needed"),
        ("a@", "address_invalid"),
        ("@example.com", "address_invalid"),
        ("nobody", "address_invalid"),
        ("a b@example.com", "address_invalid"),
        ("a>@example.com", "address_invalid"),
        ('"a b"@example.com', "address_invalid"),
        ("a@[127.0.0.1]", "address_invalid"),
        ("a@-example.com", "address_invalid"),
        ("a@exa_mple..com", "address_invalid"),
        ("a" * 65 + "@example.com", "address_invalid"),
        ("a@xn--\u00e4.com", "address_invalid"),
    ],
)
async def test_a_bad_address_is_permanent_and_not_sent(address: str, code: str) -> None:
    port = MemorySmtp()
    (result,) = await SmtpProvider(port, sender="a@b.example").send([message(address=address)])
    assert (result.result, result.code, port.letters) == (ResultClass.PERMANENT, code, [])


async def test_an_international_domain_goes_out_in_ascii() -> None:
    port = MemorySmtp()
    (result,) = await SmtpProvider(port, sender="a@b.example").send([message(address="zhang@例子.测试")])
    assert result.result is ResultClass.OK
    assert port.letters[0].recipient == "zhang@xn--fsqu00a.xn--0zwm56d"
    assert parsed(port.letters[0].message)["To"] == "zhang@xn--fsqu00a.xn--0zwm56d"


async def test_headers_of_a_message() -> None:
    port = MemorySmtp()
    at = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
    provider = SmtpProvider(port, sender="通达 <notify@tongda.example>", now=lambda: at)
    first, again = message(attempt=1), message(attempt=2)
    results = [*(await provider.send([first])), *(await provider.send([again]))]
    got = parsed(port.letters[0].message)
    assert got["Message-ID"] == f"<{first.delivery_id}@tongda.example>"
    assert got["Message-ID"] == parsed(port.letters[1].message)["Message-ID"]
    assert [r.provider_id for r in results] == [f"{first.delivery_id}@tongda.example"] * 2
    assert str(got["From"]) == "通达 <notify@tongda.example>"
    assert got["X-Tongda-Delivery"] == first.delivery_id
    assert got["Auto-Submitted"] == "auto-generated"
    assert got["Date"].datetime == at
    assert datetime.strptime(got["Expires"], "%a, %d %b %Y %H:%M:%S %z") == first.expires_at
    assert port.letters[0].within_s == 3600, "what is left, for a server that can keep to it"
    assert port.letters[0].sender == "notify@tongda.example"


async def test_a_lone_surrogate_is_permanent() -> None:
    port = MemorySmtp()
    (result,) = await SmtpProvider(port, sender="a@b.example").send([message(content=content(text="\ud800"))])
    assert (result.result, result.code) == (ResultClass.PERMANENT, "not_unicode")


@pytest.mark.parametrize("sender", ["", "nobody", "A <a@b\n>", "A\r\nBcc: c@d.example <a@b.example>", "A <ä@b.example>"])
def test_a_bad_sender_is_refused_when_the_account_is_made(sender: str) -> None:
    with pytest.raises(ValueError, match="not a mail address"):
        SmtpProvider(MemorySmtp(), sender=sender)


def test_text_is_derived_from_html() -> None:
    html = (
        "<html><head><title>no</title><style>p{}</style></head><body><h1>Hello</h1><p>Dear &amp; near,<br>go <b>on</b></p>"
        '<ul><li>one</li><li>two</li></ul><a href="https://x.example/a">here</a><script>no()</script>'
        '<img alt="Logo"></body>'
    )
    assert text_of(html) == "Hello\n\nDear & near,\ngo on\n\n- one\n\n- two\n\nhere (https://x.example/a)Logo"
    assert bodies(Content(html="<p>Only</p>")) == ("Only", "<p>Only</p>")


@given(texts)
def test_deriving_text_never_fails(html: str) -> None:
    text_of(html)


def test_the_link_is_added_where_it_is_missing() -> None:
    url = "https://x.example/?a=1&b=2"
    assert bodies(Content(text="Hi", url=url)) == (f"Hi\n\n{url}\n", None)
    assert bodies(Content(text=f"see {url}", url=url)) == (f"see {url}", None)
    text, html = bodies(Content(text="Hi", html="<html><body><p>Hi</p></body></html>", url=url))
    assert text == f"Hi\n\n{url}\n"
    assert html == (
        '<html><body><p>Hi</p><p><a href="https://x.example/?a=1&amp;b=2">https://x.example/?a=1&amp;b=2</a></p></body></html>'
    )
    assert bodies(Content(text=url, html=html, url=url)) == (url, html)


def test_a_link_cannot_break_out_of_its_attribute() -> None:
    _, html = bodies(Content(text="x", html="<p>x</p>", url='https://x.example/"><script>'))
    assert html is not None
    assert "<script>" not in html
    assert bodies(Content(text="x", html="<p>x</p>", url="javascript:alert(1)"))[1] == "<p>x</p>"
