"""HTTP calls: what was sent, what was not, and which addresses are never connected to."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

import infra.http
from channels.base import AnswerLost, HttpReply, NotSent, TargetRefused, TransportError
from infra.http import MAX_BODY_BYTES, HttpClient
from tests.channels.certificates import Certificate
from tests.channels.http_calls import until
from tests.channels.lean_http import CLOSE, OK, RESET, STALL, LeanHttp, lean_http

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.fixture
async def lean() -> AsyncIterator[LeanHttp]:
    async with lean_http() as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient(connections=4, allow_networks=LOOPBACK)
    yield client
    await client.close()


async def post(http: HttpClient, url: str, *, timeout_s: float = 5.0, body: bytes = b'{"a":1}') -> HttpReply:
    return await http.request(
        "POST", url, headers={"Content-Type": "application/json", "X-Own": "1"}, body=body, timeout_s=timeout_s
    )


async def test_the_request_is_what_the_adapter_made_and_nothing_else(lean: LeanHttp, http: HttpClient) -> None:
    lean.then("HTTP/1.1 202 Accepted\r\nX-Answer: Yes\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\nok")
    reply = await post(http, lean.url + "hook?x=%2F&y=1#fragment")
    assert (reply.status, reply.body, reply.headers["x-answer"]) == (202, b"ok", "Yes")
    await post(http, lean.url)
    (head, body), (again, _) = lean.requests
    assert body == b'{"a":1}'
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?x=%2F&y=1 HTTP/1.1"
    names = sorted(line.partition(":")[0].lower() for line in lines[1:] if line)
    assert names == ["content-length", "content-type", "host", "x-own"]
    assert b"cookie" not in again.lower()
    assert lean.connections == 1


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
    lean: LeanHttp, http: HttpClient, path: str, line: bytes
) -> None:
    await post(http, lean.url + path)
    assert lean.requests[0][0].split(b"\r\n")[0] == line


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(lean: LeanHttp, http: HttpClient, status: int) -> None:
    lean.then(f"HTTP/1.1 {status} Moved\r\nLocation: {lean.url}other\r\nContent-Length: 0\r\n\r\n")
    assert (await post(http, lean.url)).status == status
    assert len(lean.requests) == 1


async def test_a_proxy_of_the_environment_is_not_used(
    lean: LeanHttp, http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    assert (await post(http, lean.url)).status == 200


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
    lean: LeanHttp, http: HttpClient, answer: str, code: str, before: int
) -> None:
    for _ in range(before):  # on a new connection, and on one that has been used
        await post(http, lean.url)
    lean.then(answer)
    with pytest.raises(AnswerLost) as raised:
        await post(http, lean.url, timeout_s=0.3)
    assert raised.value.code == code
    assert len(lean.requests) == before + 1
    assert (await post(http, lean.url)).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_no_method_is_resent_behind_our_back(lean: LeanHttp, http: HttpClient, method: str) -> None:
    await post(http, lean.url)
    lean.then(RESET)
    with pytest.raises(AnswerLost):
        await http.request(method, lean.url, headers={}, body=b"", timeout_s=2)
    assert len(lean.requests) == 2


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


async def test_a_time_out_in_the_queue_is_not_sent(lean: LeanHttp) -> None:
    http = HttpClient(connections=1, allow_networks=LOOPBACK)
    lean.then(STALL)
    first = asyncio.create_task(post(http, lean.url, timeout_s=2.0))
    await until(lambda: len(lean.requests) == 1)
    with pytest.raises(NotSent, match="http_timeout"):
        await post(http, lean.url, timeout_s=0.1)
    with pytest.raises(AnswerLost, match="http_timeout"):
        await first
    assert len(lean.requests) == 1
    await http.close()


async def test_a_connection_closed_while_idle_is_not_used(lean: LeanHttp, http: HttpClient) -> None:
    for _ in range(20):
        assert (await post(http, lean.url)).status == 200
        for writer in list(lean.writers):
            writer.close()
        # this turn of the loop closes the server's end; ours has not read that yet when the next call looks
        await asyncio.sleep(0)
    assert len(lean.requests) == 20


async def test_bodies_are_bounded(lean: LeanHttp, http: HttpClient) -> None:
    size = 20 * MAX_BODY_BYTES
    lean.then(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n" + "x" * size)
    assert len((await post(http, lean.url)).body) == MAX_BODY_BYTES
    lean.then(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n" + "x" * MAX_BODY_BYTES)
    assert len((await post(http, lean.url)).body) == MAX_BODY_BYTES
    assert lean.connections == 2  # the first was closed, not read to its end


@pytest.mark.parametrize("end", [STALL, RESET, CLOSE])
async def test_an_answer_whose_body_breaks_off_is_an_answer(lean: LeanHttp, http: HttpClient, end: str) -> None:
    lean.then("HTTP/1.1 503 Busy\r\nContent-Length: 100\r\nRetry-After: 7\r\n\r\nhalf" + end)
    reply = await post(http, lean.url, timeout_s=0.3)
    assert (reply.status, reply.headers["retry-after"]) == (503, "7")
    assert b"half".startswith(reply.body)
    assert (await post(http, lean.url)).status == 200
    assert lean.connections == 2


async def test_cancelling_closes_the_connection(lean: LeanHttp, http: HttpClient) -> None:
    lean.then(STALL)
    task = asyncio.create_task(post(http, lean.url))
    await until(lambda: len(lean.requests) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await post(http, lean.url)).status == 200
    assert lean.connections == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "http://[::1]:{}/", "http://localhost:{}/", "http://127.1:{}/"])
async def test_a_private_target_is_never_connected_to(lean: LeanHttp, url: str) -> None:
    http = HttpClient(connections=4)
    with pytest.raises(TargetRefused):
        await post(http, url.format(lean.port))
    assert lean.connections == 0
    await http.close()


async def test_a_name_is_judged_by_the_address_that_is_connected_to(
    lean: LeanHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when it is looked up first, loopback the next time. There is one look-up, and it is used."""
    answers = iter([["203.0.114.1", "127.0.0.1"], ["127.0.0.1"], ["::1", "10.0.0.1"]])
    asked: list[str] = []

    def lookup(host: str, port: int, family: int) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)
        ]

    reached: list[str] = []

    async def start_connection(*, addr_infos: list[Any], **_: object) -> socket.socket:
        reached.extend(info[4][0] for info in addr_infos)
        raise ConnectionRefusedError

    monkeypatch.setattr(infra.http, "_lookup_blocking", lookup)
    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)
    http = HttpClient(connections=4)
    with pytest.raises(NotSent):
        await post(http, f"http://first.example:{lean.port}/")
    for name in ("second", "third"):
        with pytest.raises(TargetRefused, match="target_address"):
            await post(http, f"http://{name}.example:{lean.port}/")
    assert reached == ["203.0.114.1"]
    assert len(asked) == 3
    await http.close()


async def test_the_last_gate_is_the_socket_itself(lean: LeanHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a look-up to slip past the guard, the socket would still not be made."""
    monkeypatch.setattr("infra.ssrf.SsrfGuard.check_url", lambda *_: None)
    http = HttpClient(connections=4)
    with pytest.raises(NotSent, match="http_connect_failed"):
        await post(http, lean.url)
    assert lean.connections == 0
    await http.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "http://",
        "http://[::1",
        "http://a b/",
        "http://x:y/",
        "ftp://example.com/",
        "\0",
        "http://%6c%6f/",
        "http://a\r\nb/",
        "http://a/ HTTP/1.1",
        "http://a/x\ty",
        "http://a/x\r\nX-Evil: 1",
    ],
)
async def test_bad_urls_are_refused(http: HttpClient, url: str) -> None:
    with pytest.raises(TargetRefused):
        await post(http, url)


async def test_tls_is_verified(certificate: Certificate) -> None:
    async with lean_http(certificate.server()) as lean:
        url = f"https://localhost:{lean.port}/"
        async with lean_http() as plain:
            for tls, target, failure in (
                (certificate.client(), url, None),
                (None, url, "http_tls_failed"),  # an authority that we do not know
                (certificate.client(), f"https://127.0.0.1:{lean.port}/", "http_tls_failed"),  # another name
                (certificate.client(), f"https://localhost:{plain.port}/", "http_"),  # no TLS there at all
            ):
                http = HttpClient(connections=1, allow_networks=LOOPBACK, tls=tls)
                if failure is None:
                    assert (await post(http, target)).status == 200
                    assert (await post(http, target)).status == 200
                else:
                    with pytest.raises(NotSent, match=failure):
                        await post(http, target, timeout_s=1)
                await http.close()
            assert plain.requests == []
        assert (len(lean.requests), OK[:12]) == (2, "HTTP/1.1 200")


async def test_failures_name_no_host(http: HttpClient) -> None:
    for url in ("http://127.0.0.1:2/secret", "http://secret.invalid/", "http://10.1.1.1/secret"):
        with pytest.raises(TransportError) as raised:
            await post(http, url, timeout_s=3)
        shown = repr(raised.value) + str(raised.value)
        assert not any(word in shown for word in ("secret", "127.0", "10.1"))
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
