"""Which connection a request gets, who waits for whom, and what is left behind."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import infra.http_pool
from channels.base import HttpReply, NotSent, TransportError
from infra.http import HttpClient
from infra.http_connection import HttpConnection
from infra.http_pool import HttpPool
from tests.channels.certificates import Certificate
from tests.channels.http_calls import CLOSING, EMPTY, bodies, client, post, until
from tests.channels.lean_http import STALL, lean_http


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
            stuck = [asyncio.create_task(post(http, slow.url, timeout_s=60)) for _ in range(2)]
            await until(lambda: len(slow.requests) == 2)
            waiting = [asyncio.create_task(post(http, slow.url, timeout_s=0.3)) for _ in range(4)]
            await asyncio.sleep(0)
            for _ in range(5):
                assert (await post(http, quick.url)).status == 200
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(r) for r in results] == [NotSent] * 4
            for task in stuck:
                task.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)
            assert (await post(http, slow.url)).status == 200
            assert slow.connections == 3

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
            before = lean.connections
            assert (await post(http, lean.url)).status == 200
            assert lean.connections == before + 1

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
            async with lean_http() as lean, asyncio.timeout(60):
                lean.then(*[STALL] * 4)
                stuck = [asyncio.create_task(post(http, lean.url, timeout_s=30)) for _ in range(4)]
                await until(lambda: len(lean.requests) == 4)  # all slots of an origin are there
                for one in stuck:
                    one.cancel()
                await asyncio.gather(*stuck, return_exceptions=True)
        server.close()
        await asyncio.sleep(0.05)

    runner.run(check())
