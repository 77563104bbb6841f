"""Which connection a request gets, who waits for whom, and what is left behind."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohappyeyeballs
import pytest

import infra.http
import infra.http_opening
import infra.http_pool
from channels.base import AnswerLost, HttpReply, NotSent, TransportError
from infra.http import HttpClient
from infra.http_connection import HttpConnection
from infra.http_pool import HttpPool
from tests.channels.certificates import Certificate
from tests.channels.lean_http import STALL, LeanHttp, lean_http

LOOPBACK = ("127.0.0.0/8", "::1/128")
CLOSING = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

EMPTY = "HTTP/1.1 204 No Content\r\n\r\n"


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[HttpClient]:
    http = HttpClient(**{"connections": 4, "allow_networks": LOOPBACK, **options})
    try:
        yield http
    finally:
        await http.close()


async def post(http: HttpClient, url: str, *, body: str = "x", timeout_s: float = 5.0) -> HttpReply:
    return await http.request("POST", url, headers={}, body=body.encode(), timeout_s=timeout_s)


def bodies(lean: LeanHttp) -> list[str]:
    return [body.decode() for _, body in lean.requests]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for happens in the other end's own code
            await asyncio.sleep(0.002)


def test_requests_get_their_turn_in_the_order_of_asking(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client(connections=1) as http:
            lean.then(*[EMPTY, CLOSING] * 5)
            tasks = [asyncio.create_task(post(http, lean.url, body=str(n))) for n in range(20)]
            await asyncio.sleep(0)
            await asyncio.gather(post(http, lean.url, body="last"), *tasks)
            assert bodies(lean) == [*(str(n) for n in range(20)), "last"]

    runner.run(check())


def test_an_origin_that_is_full_holds_up_no_other(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as slow, lean_http() as quick, client(connections=3, per_origin=2) as http:
            slow.then(STALL, STALL)
            stuck = [asyncio.create_task(post(http, slow.url, timeout_s=0.5)) for _ in range(6)]
            await until(lambda: len(slow.requests) == 2)
            for _ in range(5):
                assert (await post(http, quick.url)).status == 200
            results = await asyncio.gather(*stuck, return_exceptions=True)
            assert [type(r) for r in results[:2]] == [AnswerLost, AnswerLost]
            assert all(isinstance(r, NotSent) for r in results[2:])
            assert slow.connections == 2

    runner.run(check())


def test_open_connections_are_bounded_and_the_oldest_idle_one_makes_room(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as one, lean_http() as two, lean_http() as three, client(connections=2) as http:
            servers = (one, two, three)
            for _ in range(3):
                for server in servers:
                    await post(http, server.url)
                    await until(lambda: sum(len(s.writers) for s in servers) <= 2)
            await post(http, one.url)
            before = [s.connections for s in servers]
            await post(http, three.url)  # was used later than the one that made room, so it is still open
            assert [s.connections for s in servers] == before

    runner.run(check())


def test_the_connection_that_came_back_last_is_used_first(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            await asyncio.gather(*(post(http, lean.url) for _ in range(3)))
            for _ in range(6):
                await post(http, lean.url)
            assert len(lean.served) == 3
            assert sorted(lean.served.values()) == [1, 1, 7]

    runner.run(check())


def test_idle_connections_are_closed_in_time(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infra.http_pool, "KEEPALIVE_S", 0.1)

    async def check() -> None:
        async with lean_http() as lean, client() as http:
            await asyncio.gather(*(post(http, lean.url) for _ in range(3)))
            await asyncio.sleep(0.05)
            await post(http, lean.url)
            await until(lambda: not lean.writers)
            assert (await post(http, lean.url)).status == 200
            assert lean.connections == 4

    runner.run(check())


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("over", ["http", "https"])
def test_a_close_that_has_arrived_costs_no_request(
    runner: asyncio.Runner, certificate: Certificate, over: str, *, reset: bool
) -> None:
    async def check() -> None:
        tls = certificate.server() if over == "https" else None
        async with lean_http(tls) as lean, client(tls=certificate.client()) as http:
            url = f"{over}://localhost:{lean.port}/"
            for round_ in range(10):
                assert (await post(http, url, body=str(round_))).status == 200
                for writer in list(lean.writers):
                    if reset:
                        writer.transport.abort()
                    else:
                        writer.close()
                await until(lambda: not lean.writers)
            assert bodies(lean) == [str(n) for n in range(10)]
            assert lean.connections == 10

    runner.run(check())


@pytest.mark.parametrize("event", ["close", "speaks"])
def test_a_server_that_ends_it_before_the_request_got_nothing_of_it(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    async def start_connection(**_: object) -> socket.socket:
        if event == "close":
            theirs.shutdown(socket.SHUT_WR)
        else:
            theirs.send(b"220 mail.example ESMTP\r\n")
        return ours

    monkeypatch.setattr("aiohappyeyeballs.start_connection", start_connection)

    async def check() -> None:
        async with client() as http:
            with pytest.raises(NotSent, match="http_disconnected"):
                await post(http, "http://127.0.0.1:8080/")

    runner.run(check())
    with theirs:
        theirs.settimeout(2)
        try:
            assert theirs.recv(100) == b""
        except ConnectionResetError:  # what it said was never read
            assert event == "speaks"


def resolving(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Every name has these addresses (the list may change). The names that are looked up."""
    asked: list[str] = []

    def lookup(host: str, port: int, _family: int) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (a, port)) for a in addresses]

    monkeypatch.setattr(infra.http, "_lookup_blocking", lookup)
    return asked


def test_one_look_up_serves_all_who_ask_and_is_kept_for_a_moment(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        asked = resolving(monkeypatch, ["127.0.0.1"])
        async with lean_http() as lean, client() as http:
            url = f"http://hook.example:{lean.port}/"
            await asyncio.gather(*(post(http, url) for _ in range(4)))
            assert lean.connections == 4
            assert f"Host: hook.example:{lean.port}".encode() in lean.requests[0][0]
            lean.then(CLOSING, CLOSING, CLOSING, CLOSING)
            await asyncio.gather(*(post(http, url) for _ in range(8)))
            assert asked == ["hook.example"]
            monkeypatch.setattr(infra.http_opening, "DNS_TTL_S", -1.0)
            for _ in range(2):
                lean.then(CLOSING)
                await post(http, url.replace("hook", "other"))
            assert asked == ["hook.example", "other.example", "other.example"]

    runner.run(check())


def test_every_address_is_tried_beginning_with_the_next(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        asked = resolving(monkeypatch, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
        first: list[str] = []
        connect = aiohappyeyeballs.start_connection

        async def start_connection(**options: Any) -> socket.socket:
            first.append(options["addr_infos"][0][4][0])
            return await connect(**options)

        monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_connection)
        async with lean_http() as lean, client() as http:
            for _ in range(4):
                lean.then(CLOSING)
                assert (await post(http, f"http://hook.example:{lean.port}/")).status == 200
        assert first == ["127.0.0.2", "127.0.0.3", "127.0.0.1", "127.0.0.2"]
        assert asked == ["hook.example"]

    runner.run(check())


def test_a_name_of_which_no_address_answers_is_looked_up_again_and_holds_no_slot(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        addresses = ["127.0.0.2", "127.0.0.3"]
        resolving(monkeypatch, addresses)
        async with lean_http() as lean, client(connections=1) as http:
            url = f"http://hook.example:{lean.port}/"
            for _ in range(3):
                with pytest.raises(NotSent, match="http_connect_refused"):
                    await post(http, url)
            addresses[:] = ["127.0.0.1"]
            assert (await post(http, url)).status == 200

    runner.run(check())


def test_a_caller_that_leaves_in_the_moment_of_its_turn_passes_it_on(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with lean_http() as lean, client(connections=1) as http:
            first = asyncio.create_task(post(http, lean.url))
            await asyncio.sleep(0)
            leaving, staying = (asyncio.create_task(post(http, lean.url, body=name)) for name in ("leaving", "staying"))
            give = HttpPool.give

            def give_and_cancel(pool: HttpPool, connection: HttpConnection) -> None:
                give(pool, connection)
                leaving.cancel()

            with monkeypatch.context() as patch:
                patch.setattr(HttpPool, "give", give_and_cancel)
                await first
                assert (await staying).status == 200
            assert leaving.cancelled()
            assert bodies(lean) == ["x", "staying"]

    runner.run(check())


def test_cancelled_in_the_moment_of_the_answer(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            send = HttpConnection.send

            def send_and_cancel(connection: HttpConnection, request: bytes, **options: Any) -> asyncio.Future[HttpReply]:
                answer = send(connection, request, **options)
                answer.add_done_callback(lambda _: task.cancel())
                return answer

            for script in (EMPTY, "what?\r\n\r\n"):
                with monkeypatch.context() as patch:
                    patch.setattr(HttpConnection, "send", send_and_cancel)
                    lean.then(script)
                    task = asyncio.create_task(post(http, lean.url))
                    with pytest.raises(asyncio.CancelledError):
                        await task
                assert (await post(http, lean.url)).status == 200
            assert lean.connections == 3

    runner.run(check())


def test_a_slow_look_up_is_bounded_by_the_time_out_and_closed_over(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        answer = asyncio.Event()
        loop = asyncio.get_running_loop()

        def lookup(*_: object) -> list[Any]:
            asyncio.run_coroutine_threadsafe(answer.wait(), loop).result()
            raise socket.gaierror(socket.EAI_NONAME, "no")

        monkeypatch.setattr(infra.http, "_lookup_blocking", lookup)
        async with client() as http:
            with pytest.raises(NotSent, match="http_timeout"):
                await post(http, "http://slow.example/", timeout_s=0.1)
        answer.set()

    runner.run(check())


def test_close_leaves_nothing_open(runner: asyncio.Runner, certificate: Certificate) -> None:
    async def check() -> None:
        async with lean_http(certificate.server()) as secure, lean_http() as plain:
            async with client(tls=certificate.client()) as http:
                urls = [f"https://localhost:{secure.port}/", plain.url]
                await asyncio.gather(*(post(http, url) for url in urls * 2))
                assert len(secure.writers) == len(plain.writers) == 2
            await until(lambda: not secure.writers and not plain.writers)

    runner.run(check())


def test_no_answer_goes_to_another_request_and_no_slot_is_lost(runner: asyncio.Runner) -> None:
    """Hundreds of requests over a few connections, to a server with every bad habit, with callers that give up."""
    chance = random.Random(20261126)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                habit = chance.random()
                if habit < 0.1:
                    answer = answer[: chance.randrange(len(answer))]
                elif habit < 0.2:
                    answer += chance.choice([b"x", answer, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"])
                at = chance.randrange(len(answer) + 1)
                writer.write(answer[:at])
                await asyncio.sleep(0)
                writer.write(answer[at:])
                if 0.2 < habit < 0.3:
                    writer.transport.abort()
                elif habit < 0.1 or 0.3 < habit < 0.4:
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def ask(http: HttpClient, url: str, name: str) -> str:
        try:
            reply = await post(http, url, body=name, timeout_s=chance.choice([0.005, 2.0, 2.0]))
        except TransportError as error:
            return type(error).__name__
        assert name.encode().startswith(reply.body)
        return "whole" if reply.body == name.encode() else "cut"

    async def check() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with client(connections=5, per_origin=4) as http:
            tasks = [asyncio.create_task(ask(http, url, f"request-{n}")) for n in range(600)]
            for task in chance.sample(tasks, 100):
                asyncio.get_running_loop().call_later(chance.random() * 0.3, task.cancel)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(r) for r in results} <= {str, asyncio.CancelledError}
            assert results.count("whole") > 100
            async with lean_http() as lean, asyncio.timeout(10):
                lean.then(*[STALL] * 4)
                stuck = [asyncio.create_task(post(http, lean.url, timeout_s=3)) for _ in range(4)]
                await until(lambda: len(lean.requests) == 4)  # all slots of an origin are there
                for one in stuck:
                    one.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
        server.close()
        await asyncio.sleep(0.05)

    runner.run(check())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-Evil: 1"), ("X-A", "b\nc"), ("X-A", "b\rc"), ("X-A", "b\0c"), ("X-A", "\x7f"), ("X-A", "\x0b"),
        ("X-A", "\ud800"), ("X A", "b"), ("X-A: b\r\nX-Evil", "1"), ("X-A:", "b"), ("", "b"), ("标题", "b"), ("X-A\n", "b"),
        ("Host", "other.example"), ("content-length", "0"), ("Transfer-Encoding", "chunked"), ("Connection", "close"),
        ("Upgrade", "h2c"), ("Expect", "100-continue"),
    ],
)  # fmt: skip
def test_a_header_that_would_make_another_request_is_a_defect(runner: asyncio.Runner, name: str, value: str) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            with pytest.raises(ValueError, match=r"."):
                await http.request("POST", lean.url, headers={name: value}, body=b"", timeout_s=2)
            assert lean.connections == 0

    runner.run(check())


@pytest.mark.parametrize("method", ["", "post", "CONNECT", "GET /evil HTTP/1.1\r\nX:", "GET ", "ПОСТ"])
def test_a_method_that_is_none_is_a_defect(runner: asyncio.Runner, method: str) -> None:
    async def check() -> None:
        async with client() as http:
            with pytest.raises(ValueError, match="method"):
                await http.request(method, "http://127.0.0.1:8080/", headers={}, body=b"", timeout_s=2)

    runner.run(check())


def test_header_values_are_written_as_they_are(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            values = {"X-Tab": "a\tb", "X-Name": "通达", "X-Empty": "", "X-Soft": "a\u00adb"}
            await http.request("POST", lean.url, headers=values, body=b"", timeout_s=2)
            await http.request("DELETE", lean.url, headers={}, body=b"", timeout_s=2)
            (first, _), (second, _) = lean.requests
            for name, value in values.items():
                assert f"\r\n{name}: {value}\r\n".encode() in first
            assert b"\r\nContent-Length: 0\r\n" in first
            assert b"content-length" not in second.lower()

    runner.run(check())


def test_head_has_an_answer_without_a_body(runner: asyncio.Runner) -> None:
    async def check() -> None:
        async with lean_http() as lean, client() as http:
            lean.then("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
            reply = await http.request("HEAD", lean.url, headers={}, body=b"", timeout_s=2)
            assert (reply.headers["content-length"], reply.body) == ("500", b"")
            assert (await post(http, lean.url)).status == 200

    runner.run(check())
