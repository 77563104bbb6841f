"""From a name to a connection: look-ups, several addresses, and servers that end it before it began."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohappyeyeballs
import pytest

import infra.http
import infra.http_opening
from channels.base import NotSent
from tests.channels.certificates import Certificate
from tests.channels.http_calls import CLOSING, client, post
from tests.channels.lean_http import lean_http


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


def test_tls_that_fails_or_stalls_is_not_sent_and_holds_no_slot(runner: asyncio.Runner, certificate: Certificate) -> None:
    async def check() -> None:
        async with lean_http(certificate.server()) as secure, lean_http() as plain:
            async with client(connections=1, tls=certificate.client()) as http:
                for _ in range(2):
                    with pytest.raises(NotSent, match="http_tls_failed"):  # another name
                        await post(http, f"https://127.0.0.1:{secure.port}/")
                    with pytest.raises(NotSent, match="http_timeout"):  # nobody there speaks TLS
                        await post(http, f"https://localhost:{plain.port}/", timeout_s=0.2)
                assert (await post(http, f"https://localhost:{secure.port}/")).status == 200
            async with client(connections=1) as http:
                with pytest.raises(NotSent, match="http_tls_failed"):  # an authority that we do not know
                    await post(http, f"https://localhost:{secure.port}/")
            assert (len(secure.requests), plain.requests) == (1, [])

    runner.run(check())
