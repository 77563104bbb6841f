"""HTTP calls: what was sent, and what was not."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

import infra.http
from channels.base import AnswerLost, HttpReply, NotSent
from infra.http import MAX_BODY_BYTES, HttpClient
from tests.channels.http_calls import until
from tests.channels.lean_http import CLOSE, RESET, STALL, LeanHttp

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(connections=4, allow_networks=LOOPBACK)
    yield client
    await client.close()


async def post(http: HttpClient, url: str, *, timeout_s: float = 5.0, body: bytes = b'{"a":1}') -> HttpReply:
    return await http.request(
        "POST", url, headers={"Content-Type": "application/json", "X-Own": "1"}, body=body, timeout_s=timeout_s
    )


async def test_the_request_is_what_the_adapter_made_and_nothing_else(web: LeanHttp, http: HttpClient) -> None:
    web.then("HTTP/1.1 202 Accepted\r\nX-Answer: Yes\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\nok")
    reply = await post(http, web.url + "hook?x=%2F&y=1#fragment")
    assert (reply.status, reply.body, reply.headers["x-answer"]) == (202, b"ok", "Yes")
    await post(http, web.url)
    (head, body), (again, _) = web.requests
    assert body == b'{"a":1}'
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?x=%2F&y=1 HTTP/1.1"
    names = sorted(line.partition(":")[0].lower() for line in lines[1:] if line)
    assert names == ["content-length", "content-type", "host", "x-own"]
    assert b"cookie" not in again.lower()
    assert web.connections == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a%2fb%2F?x=%2f+%20&y", b"POST /a%2fb%2F?x=%2f+%20&y HTTP/1.1"),
        ("标题?q=通达", b"POST /%E6%A0%87%E9%A2%98?q=%E9%80%9A%E8%BE%BE HTTP/1.1"),
        ("a?b\u2028c", b"POST /a?b%E2%80%A8c HTTP/1.1"),
        ("a%zz", b"POST /a%25zz HTTP/1.1"),
        ("", b"POST / HTTP/1.1"),
    ],
)
async def test_the_request_line_is_the_url_to_the_byte_or_quoted(
    web: LeanHttp, http: HttpClient, path: str, line: bytes
) -> None:
    await post(http, web.url + path)
    assert web.requests[0][0].split(b"\r\n")[0] == line


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(web: LeanHttp, http: HttpClient, status: int) -> None:
    web.then(f"HTTP/1.1 {status} Moved\r\nLocation: {web.url}other\r\nContent-Length: 0\r\n\r\n")
    assert (await post(http, web.url)).status == status
    assert len(web.requests) == 1


async def test_a_proxy_of_the_environment_is_not_used(
    web: LeanHttp, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    assert (await post(http, web.url)).status == 200


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (RESET, "http_disconnected"),
        (CLOSE, "http_disconnected"),
        (STALL, "http_timeout"),
        ("what?\r\n\r\n" + CLOSE, "http_bad_reply"),
        ("HTTP/1.1 2" + CLOSE, "http_disconnected"),
        ("HTTP/1.1 200 OK\r\nContent-Le" + STALL, "http_timeout"),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
async def test_after_the_request_silence_is_unknown_and_nothing_is_resent(
    web: LeanHttp, http: HttpClient, answer: str, code: str, before: int
) -> None:
    for _ in range(before):  # on a new connection, and on one that has been used
        await post(http, web.url)
    web.then(answer)
    with pytest.raises(AnswerLost) as raised:
        await post(http, web.url, timeout_s=0.3)
    assert raised.value.code == code
    assert len(web.requests) == before + 1
    assert (await post(http, web.url)).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_no_method_is_resent_behind_our_back(web: LeanHttp, http: HttpClient, method: str) -> None:
    await post(http, web.url)
    web.then(RESET)
    with pytest.raises(AnswerLost):
        await http.request(method, web.url, headers={}, body=b"", timeout_s=2)
    assert len(web.requests) == 2


async def test_a_port_where_nobody_listens(http: HttpClient) -> None:
    with pytest.raises(NotSent, match="http_connect_refused"):
        await post(http, "http://127.0.0.1:2/")


async def test_a_name_that_does_not_resolve(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(infra.http, "_lookup_blocking", lookup)
    with pytest.raises(NotSent, match="http_dns_failed"):
        await post(http, "http://gone.example/")


async def test_a_time_out_while_connecting_is_not_sent(http: HttpClient) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:  # fills the queue, so that the next SYN is not answered
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(NotSent, match="http_timeout"):
                await post(http, f"http://127.0.0.1:{full.getsockname()[1]}/", timeout_s=0.3)
        finally:
            for one in waiting:
                one.close()


async def test_a_time_out_in_the_queue_is_not_sent(web: LeanHttp) -> None:
    http = HttpClient(connections=1, allow_networks=LOOPBACK)
    web.then(STALL)
    first = asyncio.create_task(post(http, web.url, timeout_s=2.0))
    await until(lambda: len(web.requests) == 1)
    with pytest.raises(NotSent, match="http_timeout"):
        await post(http, web.url, timeout_s=0.1)
    with pytest.raises(AnswerLost, match="http_timeout"):
        await first
    assert len(web.requests) == 1
    await http.close()


async def test_a_connection_closed_while_idle_is_not_used(web: LeanHttp, http: HttpClient) -> None:
    for _ in range(20):
        assert (await post(http, web.url)).status == 200
        for writer in list(web.writers):
            writer.close()
        # this turn of the loop closes the server's end; ours has not read that yet when the next call looks
        await asyncio.sleep(0)
    assert len(web.requests) == 20


async def test_bodies_are_bounded(web: LeanHttp, http: HttpClient) -> None:
    size = 20 * MAX_BODY_BYTES
    web.then(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n" + "x" * size)
    assert len((await post(http, web.url)).body) == MAX_BODY_BYTES
    web.then(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n" + "x" * MAX_BODY_BYTES)
    assert len((await post(http, web.url)).body) == MAX_BODY_BYTES
    assert web.connections == 2  # the first was closed, not read to its end


@pytest.mark.parametrize("end", [STALL, RESET, CLOSE])
async def test_an_answer_whose_body_breaks_off_is_an_answer(web: LeanHttp, http: HttpClient, end: str) -> None:
    web.then("HTTP/1.1 503 Busy\r\nContent-Length: 100\r\nRetry-After: 7\r\n\r\nhalf" + end)
    reply = await post(http, web.url, timeout_s=0.3)
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    assert b"half".startswith(reply.body)
    assert (await post(http, web.url)).status == 200
    assert web.connections == 2


async def test_cancelling_closes_the_connection(web: LeanHttp, http: HttpClient) -> None:
    web.then(STALL)
    task = asyncio.create_task(post(http, web.url))
    await until(lambda: len(web.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await post(http, web.url)).status == 200
    assert web.connections == 2
