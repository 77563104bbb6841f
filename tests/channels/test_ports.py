"""The ports' contract, for the real ones against a scripted server and for their in-memory twins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from channels.base import AnswerLost, HttpPort, HttpReply, NotSent, SmtpPort, SmtpReply, TargetRefused
from channels.memory import MemoryHttp, MemorySmtp
from infra.http import HttpClient
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.lean_http import CLOSE, lean_http
from tests.channels.lean_smtp import lean_smtp


@dataclass
class Smtp:
    port: SmtpPort
    refuse: Callable[[], None]
    not_sent: Callable[[], None]
    lost: Callable[[], None]
    taken: Callable[[], int]


@dataclass
class Http:
    port: HttpPort
    url: str
    private_url: str
    busy: Callable[[], None]
    lost: Callable[[], None]
    refuse_target: Callable[[], None]


def _twin_smtp() -> Smtp:
    twin = MemorySmtp()
    return Smtp(
        twin,
        refuse=lambda: twin.script(SmtpReply(550, "5.1.1", "rcpt")),
        not_sent=lambda: twin.script(NotSent("x")),
        lost=lambda: twin.script(AnswerLost("x")),
        taken=lambda: len(twin.letters),
    )


@pytest.fixture(params=["real", "twin"])
async def smtp(request: pytest.FixtureRequest) -> AsyncIterator[Smtp]:
    if request.param == "twin":
        yield _twin_smtp()
        return
    async with lean_smtp() as lean:
        pool = SmtpPool(SmtpServer(host="127.0.0.1", port=lean.port, security=SmtpSecurity.NONE))
        yield Smtp(
            pool,
            refuse=lambda: lean.then("rcpt", "550 5.1.1 no"),
            not_sent=lambda: lean.then("greeting", CLOSE),
            lost=lambda: lean.then("body", CLOSE),
            taken=lambda: len(lean.taken),
        )
        await pool.close()


def _twin_http() -> Http:
    twin = MemoryHttp()
    return Http(
        twin,
        url="https://hooks.example/",
        private_url="http://127.0.0.1/",
        busy=lambda: twin.script(HttpReply(503, {"retry-after": "5"}, b"later")),
        lost=lambda: twin.script(AnswerLost("x")),
        refuse_target=lambda: twin.script(TargetRefused("target_address")),
    )


@pytest.fixture(params=["real", "twin"])
async def http(request: pytest.FixtureRequest) -> AsyncIterator[Http]:
    if request.param == "twin":
        yield _twin_http()
        return
    async with lean_http() as lean:
        client = HttpClient(connections=2, allow_networks=("127.0.0.1/32",))
        yield Http(
            client,
            url=lean.url,
            private_url="http://10.0.0.1/",
            busy=lambda: lean.then("HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 5\r\n\r\nlater"),
            lost=lambda: lean.then(CLOSE),
            refuse_target=lambda: None,
        )
        await client.close()


async def submit(smtp: Smtp) -> SmtpReply:
    return await smtp.port.submit(sender="a@b.example", recipient="c@d.example", message=b"X: y\r\n\r\nz\r\n", timeout_s=3)


async def test_smtp_answers_are_returned(smtp: Smtp) -> None:
    assert (await submit(smtp)).code == 250
    assert smtp.taken() == 1
    smtp.refuse()
    assert await submit(smtp) == SmtpReply(550, "5.1.1", "rcpt")


async def test_smtp_failures_are_raised_and_the_port_goes_on(smtp: Smtp) -> None:
    smtp.not_sent()
    with pytest.raises(NotSent):
        await submit(smtp)
    smtp.lost()
    with pytest.raises(AnswerLost):
        await submit(smtp)
    assert (await submit(smtp)).code == 250


async def test_smtp_is_checked_without_sending(smtp: Smtp) -> None:
    smtp.not_sent()
    with pytest.raises(NotSent):
        await smtp.port.check(timeout_s=3)
    assert (await smtp.port.check(timeout_s=3)).code == 250
    assert smtp.taken() == 0
    assert (await submit(smtp)).code == 250


async def request(http: Http, url: str) -> HttpReply:
    return await http.port.request("POST", url, headers={"X-A": "b"}, body=b"{}", timeout_s=3)


async def test_http_answers_are_returned_with_names_in_lower_case(http: Http) -> None:
    assert (await request(http, http.url)).status == 200
    http.busy()
    reply = await request(http, http.url)
    assert (reply.status, reply.headers["retry-after"], reply.body) == (503, "5", b"later")


async def test_http_failures_are_raised_and_the_port_goes_on(http: Http) -> None:
    http.lost()
    with pytest.raises(AnswerLost):
        await request(http, http.url)
    http.refuse_target()
    with pytest.raises(TargetRefused):
        await request(http, http.private_url)
    assert (await request(http, http.url)).status == 200
