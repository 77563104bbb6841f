"""One HTTP connection against whatever a server may send: random answers, and answers with random damage."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from channels.base import AnswerLost, HttpReply
from tests.channels.http_wire import CASES, answered, wired

names = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,30}", fullmatch=True).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding", "connection", "proxy-connection", "upgrade")
)
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x2FF, exclude_characters="\x7f"), max_size=60)


@given(
    st.integers(200, 599).filter(lambda s: s not in (204, 304)),
    st.dictionaries(names, values, max_size=8),
    st.lists(st.binary(min_size=1, max_size=300), max_size=5),
    st.sampled_from(["length", "chunked", "end"]),
    st.lists(st.integers(0, 3000), max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_any_answer_is_read_as_it_was_meant(
    runner: asyncio.Runner, status: int, headers: dict[str, str], body: list[bytes], framing: str, cuts: list[int]
) -> None:
    lines = [f"HTTP/1.1 {status} Word", *(f"{n}: {v}" for n, v in headers.items())]
    whole = b"".join(body)
    content = whole
    if framing == "length":
        lines.append(f"Content-Length: {len(whole)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        content = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in body) + b"0\r\n\r\n"
    raw = "\r\n".join([*lines, "", ""]).encode() + content
    reply, again = runner.run(answered(cut(raw, cuts), eof=framing == "end"))
    assert (reply.status, reply.body, again) == (status, whole, framing != "end")
    assert {n: v for n, v in reply.headers.items() if n in {h.lower() for h in headers}} == {
        n.lower(): v for n, v in headers.items()
    }


def cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    return [raw[a:b] for a, b in pairwise(marks)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound answer with bytes changed, doubled, left out or put in."""
    raw = draw(st.sampled_from([c.raw for c in CASES.values()]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=6) | st.just(raw[at : at + 9] * 2)) + raw[at + draw(st.integers(0, 5)) :]
    return raw


@given(damaged() | st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=500, deadline=None)
def test_whatever_a_server_sends_ends_in_an_answer_or_in_answer_lost(
    runner: asyncio.Runner, raw: bytes, cuts: list[int]
) -> None:
    async def check() -> None:
        async with wired() as wire:
            answer = wire.send()
            wire.read(*cut(raw, cuts))
            wire.connection.eof_received()
            assert not wire.connection.reusable
            failure = answer.exception()
            if failure is not None:
                assert isinstance(failure, AnswerLost)
                assert failure.code in ("http_bad_reply", "http_disconnected")
            else:
                reply = answer.result()
                assert 100 <= reply.status <= 999
                assert len(reply.body) <= len(raw)

    runner.run(check())


@given(damaged(), st.lists(st.integers(0, 200), max_size=8))
@settings(max_examples=500, deadline=None)
def test_a_connection_that_is_used_again_is_in_step(runner: asyncio.Runner, raw: bytes, cuts: list[int]) -> None:
    """Whatever the first answer looked like: if the connection survives it, the next answer is the next one's own."""

    async def check() -> None:
        async with wired() as wire:
            first = wire.send()
            wire.read(*cut(raw, cuts))
            if not first.done():
                return
            first.exception()
            if wire.connection.reusable and not wire.connection.spent():
                second = wire.send()
                wire.read(b"HTTP/1.1 201 Mine\r\nContent-Length: 4\r\n\r\nmine")
                assert second.result() == HttpReply(201, {"content-length": "4"}, b"mine")
                assert wire.connection.reusable

    runner.run(check())
