"""What `domain.carrying` declares of a channel, held against what its adapter really hands over."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Content
from channels.email.smtp import SmtpProvider
from channels.inapp.inbox import InboxProvider
from channels.memory import MemoryHttp, MemoryInbox, MemorySmtp
from channels.plaintext import text_of
from channels.webhook.standard import WebhookProvider
from domain.addresses import has_control
from domain.carrying import BYTES, CARRYING, CHARACTERS, PARTS, Alphabet, Beyond, Carrying, Limit, Unit
from domain.channels import Channel
from domain.judging import Judged, judged
from domain.results import ResultClass
from infra.rendering.block import one_line
from tests.channels.samples import SECRET, message

LINK = "https://shop.example/o?a=1&b=2"
WHOLE = Content("Title-1", "Text-2", "<p>Html-3</p>", LINK, {"icon": "Icon-4", "fields": {"a": "Own-5"}})
MARKS = {"/title": "Title-1", "/text": "Text-2", "/html": "Html-3", "/extra/icon": "Icon-4", "/extra/fields": "Own-5"}


@dataclass(frozen=True)
class Arrived:
    """What an adapter handed over."""

    result: ResultClass
    parts: Mapping[str, str]
    """Place -> text, of what is a part of its own."""
    everything: str


async def by_mail(content: Content) -> Arrived:
    port = MemorySmtp()
    [result] = await SmtpProvider(port, sender="noreply@example.com").send([message(content=content)])
    if not port.letters:
        return Arrived(result.result, {}, "")
    mail = message_from_bytes(port.letters[0].message, policy=policy.default)
    parts = {f"/{part.get_content_subtype()}": part.get_content() for part in mail.walk() if not part.is_multipart()}
    parts["/text"] = parts.pop("/plain")
    parts["/title"] = mail["Subject"] or ""
    return Arrived(result.result, parts, "\n".join(parts.values()))


async def by_inbox(content: Content) -> Arrived:
    port = MemoryInbox()
    [result] = await InboxProvider(port).send([message(Channel.INAPP, "u-1", content=content)])
    [item] = port.items.values()
    parts = {"/title": item.title, "/text": item.text, "/url": item.url or ""}
    return Arrived(result.result, parts, str(item))


async def by_webhook(content: Content) -> Arrived:
    port = MemoryHttp()
    [result] = await WebhookProvider(port, secret_for=lambda _: SECRET).send(
        [message(Channel.WEBHOOK, "u", content=content)]
    )
    body = json.loads(port.calls[0].body)["data"]
    parts = {f"/{name}": body[name] or "" for name in ("title", "text", "html", "url")}
    return Arrived(result.result, parts, json.dumps(body, ensure_ascii=False))


SENDING: Mapping[Channel, Callable[[Content], Awaitable[Arrived]]] = {
    Channel.EMAIL: by_mail, Channel.INAPP: by_inbox, Channel.WEBHOOK: by_webhook,
}  # fmt: skip
"""A new channel stands here too."""
each_channel = pytest.mark.parametrize("channel", list(Channel))


def judge(content: Content, channel: Channel) -> Judged:
    return judged(content, CARRYING[channel], text_of=text_of)


def places(findings: object) -> set[str]:
    return {found.pointer for found in findings}  # type: ignore[attr-defined]  # a tuple of Finding


@each_channel
async def test_what_is_said_to_be_left_out_is_left_out_and_nothing_else(channel: Channel) -> None:
    arrived = await SENDING[channel](WHOLE)
    missing = {at for at, mark in MARKS.items() if mark not in arrived.everything}
    if LINK not in arrived.everything:
        missing.add("/url")
    assert places(judge(WHOLE, channel).not_carried) == missing


@each_channel
async def test_the_parts_that_a_channel_has_are_the_ones_declared(channel: Channel) -> None:
    carrying = CARRYING[channel]
    arrived = await SENDING[channel](WHOLE)
    assert {*arrived.parts, *(("/url",) if carrying.linked else ())} == carrying.carries
    assert carrying.carries <= set(PARTS)


@each_channel
async def test_a_text_is_made_from_html_where_that_is_said(channel: Channel) -> None:
    bare = Content("Title", "", "<p>Only <b>html</b></p>")
    arrived = await SENDING[channel](bare)
    found = judge(bare, channel)
    assert ("made" in {note.code for note in found.notes}) == (arrived.parts["/text"].strip() == "Only html")
    assert found.sizes["/text"]["characters"] == len("Only html")
    assert "empty" not in {warning.code for warning in found.warnings}


@each_channel
@pytest.mark.parametrize("url", ["https://shop.example/", LINK, "myapp://order/77"])
@pytest.mark.parametrize("html", [None, "<p>Hello</p>", '<a href="https://shop.example/o?a=1&amp;b=2">there</a>'])
@pytest.mark.parametrize("text", ["", "Hello", f"Look at {LINK}"])
async def test_a_link_is_added_where_that_is_said(channel: Channel, url: str, html: str | None, text: str) -> None:
    content = Content("Title", text, html, url)
    without = await SENDING[channel](Content("Title", text, html))
    arrived = await SENDING[channel](content)
    grown = {at for at in ("/text", "/html") if arrived.parts.get(at, "").strip() != without.parts.get(at, "").strip()}
    assert {note.pointer for note in judge(content, channel).notes if note.code == "link_added"} == grown


@each_channel
async def test_what_is_beyond_advice_is_sent_as_it_is_and_what_is_refused_is_not_sent(channel: Channel) -> None:
    for limit in CARRYING[channel].limits:
        long = "x" * (limit.most + 1)
        content = Content("t" if limit.at != "/title" else long, long, f"<p>{long}</p>")
        arrived = await SENDING[channel](content)
        assert "too_long" in {w.code for w in judge(content, channel).warnings if w.pointer == limit.at}
        expected = {Beyond.ADVISED: (ResultClass.OK, True), Beyond.REFUSED: (ResultClass.PERMANENT, False)}
        assert (arrived.result, long in arrived.everything) == expected[limit.beyond]


@each_channel
async def test_nothing_to_say_is_said(channel: Channel) -> None:
    for content in (Content(), Content(url="https://x.example/"), Content("", "", "<script>1</script>", None, {})):
        codes = {w.code for w in judge(content, channel).warnings}
        arrived = await SENDING[channel](content)
        if not any(arrived.parts.get(at, "").strip() for at in ("/title", "/text", "/html")):
            assert "empty" in codes
    assert judge(WHOLE, channel).warnings == ()


@given(st.text(max_size=200))
async def test_a_title_that_was_rendered_or_accepted_is_a_subject_that_can_be_mailed(text: str) -> None:
    """Caught: C1 control characters passed both and were refused by the adapter, after the 202."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # neither comes past the body's check
    for title in (one_line(text), *([] if has_control(text) else [text])):
        assert (await by_mail(Content(title, "x"))).result is ResultClass.OK


SEGMENTS = Unit("segments", lambda text: 1 if len(text) <= 70 else -(-len(text) // 67))
SMS = Carrying(
    carries=frozenset({"/text"}),
    own=("vendor_template",),
    linked={"/text": ()},
    limits=(Limit("/text", 3, SEGMENTS, Beyond.REFUSED, "the vendor refuses it"),),
    alphabets=(Alphabet("/text", re.compile("[^\x00-\x7f]"), "it is sent as UCS-2, 70 characters a part"),),
)
WECHAT = Carrying(
    carries=frozenset({"/url"}),
    own=("template_id", "data"),
    needs=("/extra/template_id",),
    text_from_html=False,
    limits=(Limit("/extra/data/thing*/value", 20, CHARACTERS, Beyond.CUT, "WeChat cuts it off"),),
)
PUSH = Carrying(
    carries=frozenset({"/title", "/text", "/url"}),
    own=("badge", "sound"),
    limits=(Limit("", 4096, BYTES, Beyond.REFUSED, "the platform refuses the payload"),),
)


def test_channels_that_are_to_come_are_only_data() -> None:
    """SMS in parts, a template message with fields of its own, a payload with one limit over all: no special cases."""
    texting = judged(Content("Title", "字" * 202, url=LINK, extra={"vendor_template": "S1", "x": 1}), SMS, text_of=text_of)
    assert places(texting.not_carried) == {"/title", "/extra/x"}
    assert [(w.pointer, w.code) for w in texting.warnings] == [("/text", "too_long"), ("/text", "characters")]
    assert [note.code for note in texting.notes] == ["link_added"]
    assert texting.sizes["/text"] == {"characters": 202, "bytes": 606, "segments": 4}

    fields = {"thing1": {"value": "x" * 21}, "date2": {"value": "y" * 30}}
    template = judged(Content("T", "words", url=LINK, extra={"data": fields}), WECHAT, text_of=text_of)
    assert places(template.not_carried) == {"/title", "/text"}
    assert [(w.pointer, w.code) for w in template.warnings] == [
        ("/extra/template_id", "required"), ("/extra/data/thing1/value", "too_long"),
    ]  # fmt: skip

    pushing = judged(Content("Title", "x" * 4096, extra={"badge": 1}), PUSH, text_of=text_of)
    assert [(w.pointer, w.code) for w in pushing.warnings] == [("", "too_long")]
    assert judged(Content("Title", "x" * 4000), PUSH, text_of=text_of).warnings == ()


def test_control_characters_are_said() -> None:
    found = judge(Content("T", "a\x07b\nc\td"), Channel.INAPP)
    assert [(w.pointer, w.code) for w in found.warnings] == [("/text", "characters")]
    assert judge(Content("T", "a\nb\tc"), Channel.INAPP).warnings == ()


def test_every_channel_is_declared() -> None:
    assert set(CARRYING) == set(Channel) == set(SENDING)
