"""What comes back on one HTTP connection: whole, in pieces, broken, endless."""

from __future__ import annotations

import asyncio
import socket

import pytest

from channels.base import AnswerLost
from infra.http_connection import MAX_BODY_BYTES, MAX_HEAD_BYTES, MAX_REST_BYTES
from tests.channels.http_wire import CASES, OK, Case, answered, head, wired


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_answer_is_the_same_wherever_it_is_split(runner: asyncio.Runner, case: Case) -> None:
    async def check() -> None:
        splits = [[case.raw[:i], case.raw[i:]] for i in range(1, len(case.raw))]
        for pieces in ([case.raw], *splits, [bytes([b]) for b in case.raw]):
            assert await answered(pieces, eof=case.eof) == (case.reply, case.again), pieces

    runner.run(check())


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.again])
@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1", OK, b"\0", b"0\r\n\r\n"])
def test_bytes_that_nobody_asked_for_end_the_connection_and_not_the_answer(
    runner: asyncio.Runner, case: Case, extra: bytes
) -> None:
    async def check() -> None:
        assert await answered([case.raw + extra]) == (case.reply, False)
        assert await answered([case.raw, extra]) == (case.reply, False)

    runner.run(check())


@pytest.mark.parametrize(
    "raw",
    [
        b"what?\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"220 mail.example ESMTP\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        head("HTTP/1.1 2x0 OK\n\n"),
        head("HTTP/1.1 099 OK\nContent-Length: 0\n\n"),
        head("HTTP/1.1 1000 OK\nContent-Length: 0\n\n"),
        head("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nokk"),
        head("HTTP/1.1 200 OK\nContent-Length: -1\n\n"),
        head("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999999\n\n"),
        head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 3\n\n2\nok\n0\n\n"),
        head("HTTP/1.1 200 OK\nno colon\n\n"),
        b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 102 Wait\r\n\r\n" * MAX_HEAD_BYTES,
    ],
)
def test_what_is_no_answer_is_answer_lost(runner: asyncio.Runner, raw: bytes) -> None:
    async def check() -> None:
        for step in (len(raw), max(1, len(raw) // 50)):
            async with wired() as wire:
                answer = wire.send()
                for at in range(0, len(raw), step):
                    wire.read(raw[at : at + step])
                with pytest.raises(AnswerLost, match="http_bad_reply"):
                    await answer
                assert not wire.connection.reusable

    runner.run(check())


def test_a_head_may_be_as_long_as_the_limit(runner: asyncio.Runner) -> None:
    async def check() -> None:
        fill = MAX_HEAD_BYTES - len(head("HTTP/1.1 200 OK\nContent-Length: 2\nA: \n\n"))
        raw = head(f"HTTP/1.1 200 OK\nContent-Length: 2\nA: {'x' * fill}\n\nok")
        reply, again = await answered([raw])
        assert (reply.body, len(reply.headers["a"]), again) == (b"ok", fill, True)
        with pytest.raises(AnswerLost, match="http_bad_reply"):
            await answered([raw.replace(b"A: ", b"A: x")])
        empty = head(f"HTTP/1.1 204 No Content\nA: {'x' * (MAX_HEAD_BYTES - 32)}\n\n")
        assert len(empty) == MAX_HEAD_BYTES
        assert (await answered([empty]))[1]
        assert not (await answered([empty + b"x"]))[1]

    runner.run(check())


@pytest.mark.parametrize(
    ("start", "endless", "body"),
    [
        ("", b"10000\r\n" + b"x" * 0x10000 + b"\r\n", MAX_BODY_BYTES),
        ("3\nabc\n0\n", b"A: b\r\n", 3),
        ("3\nabc\n0\nA: ", b"x", 3),
        ("3\nabc\n1;", b"x", 3),
        ("3\nabc\n", b"zzz", 3),
        ("3\nabc\nffffffffffffffffffff\n", b"", 3),
    ],
)
def test_a_body_without_end_is_cut(runner: asyncio.Runner, start: str, endless: bytes, body: int) -> None:
    """Chunks, trailers, a trailer, a chunk's extension; and chunks that make no sense."""

    async def check() -> None:
        async with wired() as wire:
            answer = wire.send()
            wire.read(head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n" + start))
            block = endless * (1 + 65536 // max(1, len(endless)))
            for _ in range(3 + MAX_REST_BYTES // 65536):
                wire.read(block)
            assert (answer.result().status, len(answer.result().body), wire.connection.reusable) == (200, body, False)

    runner.run(check())


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES - 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
def test_a_body_of_the_limit_is_whole_and_one_byte_more_is_not(runner: asyncio.Runner, size: int) -> None:
    async def check() -> None:
        body, kept = b"x" * size, min(size, MAX_BODY_BYTES)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[:1000], body[1000:]) if c)
        for raw in (
            head(f"HTTP/1.1 200 OK\nContent-Length: {size}\n\n") + body,
            head("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n") + chunks + b"0\r\n\r\n",
        ):
            reply, again = await answered([raw])
            assert (len(reply.body), again) == (kept, size == kept)

    runner.run(check())


def test_an_answer_to_head_has_no_body_and_the_connection_is_not_trusted(runner: asyncio.Runner) -> None:
    raw = head("HTTP/1.1 200 OK\nContent-Length: 9\n\n")
    for extra in (b"", b"surprise!"):
        reply, again = runner.run(answered([raw + extra], head_only=True))
        assert (reply.headers["content-length"], reply.body, again) == ("9", b"", False)


def test_many_exchanges_on_one_connection(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with wired() as wire:
            for case in [c for c in CASES.values() if c.again] * 3:
                assert not wire.connection.spent()
                answer = wire.send()
                wire.read(case.raw)
                assert answer.result() == case.reply
                assert wire.connection.reusable

    runner.run(check())


def test_the_deadline_of_each_exchange_is_its_own(runner: asyncio.Runner) -> None:
    """One timer serves a connection: it rings for a later exchange with a nearer deadline, and for none with a later."""

    async def check() -> None:
        async with wired() as wire:
            for wait_s in (60.0, 0.02, 60.0):
                answer = wire.send(wait_s=wait_s)
                wire.read(OK)
                await answer
            answer = wire.send(wait_s=1.5)
            await asyncio.sleep(0.1)  # the second exchange's deadline has passed
            assert not answer.done()
            with pytest.raises(AnswerLost, match="http_timeout"):
                await asyncio.wait_for(answer, 30)
        async with wired() as wire:
            answer = wire.send(wait_s=0.02)
            wire.read(head("HTTP/1.1 200 OK\nContent-Length: 9\n\nhalf"))
            assert (await answer).body == b"half"
            assert not wire.connection.reusable

    runner.run(check())


def test_an_answer_before_the_request_is_written_ends_the_connection(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with wired() as wire:
            deadline = asyncio.get_running_loop().time() + 60
            answer = wire.connection.send(b"x" * 10_000_000, deadline=deadline)  # more than the other end's buffers hold
            wire.peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            assert (await answer).status == 413
            assert not wire.connection.reusable

    runner.run(check())


def test_what_comes_while_idle_spends_the_connection(runner: asyncio.Runner) -> None:
    async def check() -> None:
        for event in ("data", "shutdown", "close"):
            async with wired() as wire:
                answer = wire.send()
                wire.read(OK)
                await answer
                assert not wire.connection.spent()
                if event == "data":
                    wire.peer.send(b"HTTP/1.1 408 Too Late\r\n\r\n")
                elif event == "shutdown":
                    wire.peer.shutdown(socket.SHUT_WR)
                else:
                    wire.peer.close()
                assert wire.connection.spent()  # before the loop has read any of it
                await asyncio.sleep(0.01)
                assert wire.connection.spent()

    runner.run(check())
