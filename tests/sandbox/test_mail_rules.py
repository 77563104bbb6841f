"""What the SMTP server refuses, and that it says why on the wire and on the record."""

from __future__ import annotations

import pytest

import sandbox
from sandbox import mail_rules
from tests.sandbox.mails import RawClient, mail, new_delivery, transferred

HEAD = (
    b"From: a@tongda.example\r\nTo: fang@demo.example\r\nDate: Mon, 23 Nov 2026 10:00:00 +0800\r\n"
    b"Message-ID: <1@tongda.example>\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
)
TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
PLAIN = HEAD + TEXT + b"\r\nhello\r\n"


def without(name: bytes) -> bytes:
    lines = PLAIN.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(name + b":"))


def with_header(line: bytes) -> bytes:
    return HEAD + line + b"\r\n" + TEXT + b"\r\nhello\r\n"


def with_part(headers: bytes, body: bytes) -> bytes:
    return HEAD + headers + b"\r\n\r\n" + body


MULTIPART = b'Content-Type: multipart/alternative; boundary="b"'

REFUSED = {
    "bare LF": (PLAIN.replace(b"hello\r\n", b"hel\nlo\r\n"), "550 5.5.2"),
    "bare CR": (PLAIN + b"a\rb\r\n", "550 5.5.2"),
    "smuggled end": (PLAIN + b"\n.\r\nMAIL FROM:<x@y.z>\r\n", "550 5.5.2"),
    "NUL": (PLAIN + b"a\0b\r\n", "550 5.6.0"),
    "long line": (PLAIN + b"x" * 999 + b"\r\n", "550 5.6.0 Line of 999"),
    "very long line": (PLAIN + b"x" * 300_000 + b"\r\n", "550 5.6.0 Line of 300000"),
    "no From": (without(b"From"), "550 5.6.0 Header From is missing"),
    "no Date": (without(b"Date"), "550 5.6.0 Header Date is missing"),
    "no Message-ID": (without(b"Message-ID"), "550 5.6.0 Header Message-Id is missing"),
    "two Subjects": (with_header(b"Subject: again"), "550 5.6.0 Header Subject appears 2 times"),
    "two Tos": (with_header(b"To: b@demo.example"), "550 5.6.0 Header To appears 2 times"),
    "two Message-IDs": (with_header(b"Message-ID: <2@b.c>"), "550 5.6.0 Header Message-Id appears 2 times"),
    "Date without zone": (PLAIN.replace(b" +0800", b"").replace(b"Mon, 23 Nov", b"23.11."), "550 5.6.0 Date"),
    "Message-ID without brackets": (PLAIN.replace(b"<1@tongda.example>", b"1@tongda.example"), "550 5.6.0 Message-Id"),
    "malformed From": (PLAIN.replace(b"From: a@tongda.example", b"From: a@@tongda.example"), "550 5.1.3"),
    "malformed To": (PLAIN.replace(b"To: fang@demo.example", b"To: fang"), "550 5.1.3"),
    "UTF-8 in headers": (PLAIN.replace(b"Subject: hello", "Subject: 你好".encode()), "550 5.6.9"),
    "header without colon": (with_header(b"this is no header"), "550 5.6.0"),
    "space before colon": (with_header(b"X-Odd : 1"), "550 5.6.0"),
    "empty folded line": (with_header(b"X-Odd: 1\r\n  "), "550 5.6.0"),
    "too many headers": (with_header(b"\r\n".join(b"X-%d: 1" % n for n in range(250))), "550 5.6.0 More than"),
    "too large headers": (with_header(b"\r\n".join(b"X-%d: " % n + b"x" * 900 for n in range(150))), "550 5.3.4"),
    "encoded word of no charset": (with_header(b"X-Odd: =?nope?b?aGk=?="), "550 5.6.0 Encoded word"),
    "encoded word over 75": (with_header(b"X-Odd: =?utf-8?q?" + b"a" * 70 + b"?="), "550 5.6.0 Malformed encoded"),
    "content type without MIME-Version": (PLAIN.replace(b"MIME-Version: 1.0\r\n", b""), "550 5.6.0 Content headers"),
    "text without charset": (with_part(b"Content-Type: text/plain", b"hello\r\n"), "550 5.6.0 Text part without charset"),
    "unknown charset": (with_part(b"Content-Type: text/plain; charset=klingon", b"hello\r\n"), "550 5.6.0 Text part does"),
    "bytes against the charset": (
        with_part(TEXT + b"Content-Transfer-Encoding: quoted-printable", b"=FF=FE\r\n"),
        "550 5.6.0 Text part does not decode",
    ),
    "bad base64": (with_part(TEXT + b"Content-Transfer-Encoding: base64", b"a$$b\r\n"), "550 5.6.0 base64"),
    "bad quoted-printable": (
        with_part(TEXT + b"Content-Transfer-Encoding: quoted-printable", b"a=ZZ\r\n"),
        "550 5.6.0 quoted-printable",
    ),
    "unknown transfer encoding": (with_part(TEXT + b"Content-Transfer-Encoding: rot13", b"uv\r\n"), "550 5.6.1"),
    "multipart without boundary": (with_part(b"Content-Type: multipart/alternative", b"hi\r\n"), "550 5.6.0 MIME"),
    "multipart that never starts": (with_part(MULTIPART, b"hi\r\n"), "550 5.6.0 MIME does not parse"),
    "multipart that never ends": (
        with_part(MULTIPART, b"--b\r\n" + TEXT + b"\r\nhi\r\n"),
        "550 5.6.0 MIME does not parse: CloseBoundaryNotFoundDefect",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_with_code_and_recorded_with_why(name: str, box: sandbox.Box) -> None:
    content, reason = REFUSED[name]
    reply = await transferred(box, content)
    assert reply.startswith(reason)
    items, count = box.record.find()
    assert count == 1
    assert (items[0].seen.taken, items[0].seen.verdict) == (False, sandbox.Verdict.REFUSED)
    assert items[0].seen.why == reply.strip()


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN + b"x" * 998 + b"\r\n",
        PLAIN + b".\r\n..two dots\r\n",
        mail(),
        with_header(b"Reply-To: =?utf-8?b?6YCa6L6+?= <help@tongda.example>\r\nReceived: a\r\nReceived: b"),
        with_header(b"X-Folded: one\r\n two\r\n\tthree"),
    ],
)
async def test_proper_mail_is_taken_byte_for_byte(content: bytes, box: sandbox.Box) -> None:
    assert (await transferred(box, content)).startswith("250 2.0.0")
    assert box.record.find()[0][0].seen.raw == content


async def test_refused_mail_still_names_its_delivery(box: sandbox.Box) -> None:
    delivery = new_delivery()
    await transferred(box, mail(delivery=delivery).replace(b"Date:", b"X-Date:"))
    assert box.record.find(delivery=delivery)[1] == 1


async def test_eight_bit_body_needs_8bitmime(box: sandbox.Box) -> None:
    content = with_part(TEXT + b"Content-Transfer-Encoding: 8bit", "你好\r\n".encode())
    assert (await transferred(box, content)).startswith("550 5.6.3")
    assert (await transferred(box, content, options=b" BODY=8BITMIME")).startswith("250")
    lying = with_part(TEXT + b"Content-Transfer-Encoding: 7bit", "你好\r\n".encode())
    assert (await transferred(box, lying, options=b" BODY=8BITMIME")).startswith("550 5.6.3")


@pytest.mark.parametrize(
    "address",
    [
        *(b"fang", b"fang@", b"@demo.example", b"a b@demo.example", b".a@demo.example", b"a..b@demo.example", b"a@b@c.de"),
        *(
            b"a@-x.example",
            b"a@demo..example",
            b"a@demo_x.example",
            b"x" * 65 + b"@demo.example",
            b"a@" + b"x" * 64 + b".y",
        ),
    ],
)
async def test_malformed_recipient_is_501(address: bytes, box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    await client.say(b"MAIL FROM:<a@tongda.example>")
    assert (await client.say(b"RCPT TO:<" + address + b">")).startswith("501 5.1.3")
    await client.close()
    assert box.record.find()[0][0].seen.verdict is sandbox.Verdict.REFUSED


async def test_neither_smtputf8_nor_non_ascii_addresses(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    assert (await client.say(b"MAIL FROM:<a@tongda.example> SMTPUTF8"))[0] == "5"
    assert (await client.say("MAIL FROM:<通达@tongda.example>".encode()))[0] == "5"
    await client.close()


async def test_size_is_advertised_and_enforced(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    assert "250-SIZE 10485760" in await client.say(b"EHLO client.example")
    assert (await client.say(b"MAIL FROM:<a@tongda.example> SIZE=10485761")).startswith("552 5.3.4")
    large = PLAIN + (b"x" * 900 + b"\r\n") * 11_700
    assert len(large) > 10_485_760
    assert (await client.transfer(large)).startswith("552 5.3.4")
    assert (await client.transfer(PLAIN)).startswith("250")  # the connection is still good
    await client.close()
    assert [item.seen.verdict for item in box.record.find()[0]].count(sandbox.Verdict.REFUSED) == 2


async def test_order_of_commands_is_kept(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box, hello=b"NOOP")
    assert (await client.say(b"MAIL FROM:<a@tongda.example>")).startswith("503 5.5.1")
    await client.say(b"EHLO client.example")
    assert (await client.say(b"DATA")).startswith("503 5.5.1")
    assert (await client.say(b"RCPT TO:<fang@demo.example>")).startswith("503 5.5.1")
    assert (await client.say(b"MAIL FROM:<>")).startswith("250 2.1.0")  # the null sender of bounces
    await client.close()


@pytest.mark.parametrize(
    "address", ["a@b", "a.b+c@d-e.example", '"a b"@c.example', "a@[127.0.0.1]", "!#$%&'*/=?^_`{|}~-@x.y"]
)
def test_odd_but_valid_addresses(address: str) -> None:
    assert mail_rules.is_address(address)
