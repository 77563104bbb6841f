"""Our adapters and ports against the strict sandbox: what each of its behaviours comes to, by its own record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

import sandbox
from channels.base import Content, Message, Provider
from channels.email.smtp import SmtpProvider
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from domain.results import ResultClass, SendResult
from infra.http import HttpClient
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.samples import SECRET, message


class Bench(NamedTuple):
    box: sandbox.Box
    email: Provider
    webhook: Provider

    def taken(self, delivery: str) -> int:
        """How many times the sandbox says that it has this message."""
        items, _ = self.box.record.find(delivery=delivery)
        return sum(item.seen.taken for item in items)

    async def mail(self, name: str, **changes: Any) -> tuple[Message, SendResult]:
        sent = message(address=f"{name}@sandbox.example", notification_id=uuid4(), **changes)
        return sent, (await self.email.send([sent]))[0]

    async def call(self, name: str, **changes: Any) -> tuple[Message, SendResult]:
        url = f"{self.box.http_url}/hook/{name}"
        sent = message(Channel.WEBHOOK, url, notification_id=uuid4(), **changes)
        return sent, (await self.webhook.send([sent]))[0]


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[Bench]:
    async with sandbox.running(webhook_secret=SECRET, slow_s=0.2, hang_s=1.5) as box:
        pool = SmtpPool(SmtpServer(host=box.host, port=box.smtp_port, security=SmtpSecurity.NONE, connections=2))
        http = HttpClient(connections=4, allow_networks=("127.0.0.0/8",))
        email = SmtpProvider(pool, sender="通达 <notify@tongda.example>", timeout_s=1.0)
        webhook = WebhookProvider(http, secret_for=lambda tenant: SECRET, timeout_s=1.0)
        yield Bench(box, email, webhook)
        await email.close()
        await http.close()


@pytest.mark.parametrize(
    ("name", "meaning", "code", "taken"),
    [
        ("zhang.wei", ResultClass.OK, "250 2.0.0", 1),
        ("slow", ResultClass.OK, "250 2.0.0", 1),
        ("bounce", ResultClass.RECIPIENT, "550 5.1.1", 0),
        ("redirect", ResultClass.RECIPIENT, "551 5.1.6", 0),
        ("full", ResultClass.PERMANENT, "552 5.2.2", 0),
        ("spam", ResultClass.PERMANENT, "554 5.7.1", 0),
        ("http404", ResultClass.PERMANENT, "554 5.3.0", 0),
        ("greylist", ResultClass.RETRY, "450 4.7.1", 0),
        ("http500", ResultClass.RETRY, "451 4.3.0", 0),
        ("busy", ResultClass.RETRY, "421 4.3.2", 0),
        ("auth", ResultClass.CONFIG, "535 5.7.8", 0),
        ("reset", ResultClass.RETRY, "smtp_disconnected", 0),
        ("drop", ResultClass.UNKNOWN, "smtp_lost", 1),
        ("dropreset", ResultClass.UNKNOWN, "smtp_lost", 1),
        ("garbage", ResultClass.UNKNOWN, "smtp_bad_reply", 1),
        ("hang", ResultClass.UNKNOWN, "smtp_timeout", 0),
    ],
)
async def test_mail(bench: Bench, name: str, meaning: ResultClass, code: str, taken: int) -> None:
    sent, result = await bench.mail(name)
    assert (result.result, result.code) == (meaning, code)
    assert bench.taken(sent.delivery_id) == taken
    _, next_one = await bench.mail("next")  # whatever happened, the pool is fit for the next message
    assert next_one.result is ResultClass.OK


@pytest.mark.parametrize(
    ("name", "meaning", "code", "taken"),
    [
        ("orders", ResultClass.OK, "http_200", 1),
        ("slow", ResultClass.OK, "http_200", 1),
        ("garbage", ResultClass.OK, "http_200", 1),  # any 2xx is success, whatever the body
        ("http204", ResultClass.OK, "http_204", 1),
        ("bounce", ResultClass.RECIPIENT, "http_410", 0),
        ("redirect", ResultClass.PERMANENT, "http_302", 0),
        ("http404", ResultClass.PERMANENT, "http_404", 0),
        ("http422", ResultClass.PERMANENT, "http_422", 0),
        ("greylist", ResultClass.RATE, "http_429", 0),
        ("busy", ResultClass.RATE, "http_503", 0),
        ("full", ResultClass.RETRY, "http_507", 0),
        ("http500", ResultClass.RETRY, "http_500", 0),
        ("http408", ResultClass.RETRY, "http_408", 0),
        ("auth", ResultClass.RETRY, "http_401", 0),
        ("spam", ResultClass.RETRY, "http_403", 0),
        ("drop", ResultClass.UNKNOWN, "http_disconnected", 1),
        ("dropreset", ResultClass.UNKNOWN, "http_disconnected", 1),
        # nothing was taken, but from outside it looks like a reset after reading
        ("reset", ResultClass.UNKNOWN, "http_disconnected", 0),
        ("hang", ResultClass.UNKNOWN, "http_timeout", 0),
    ],
)
async def test_webhooks(bench: Bench, name: str, meaning: ResultClass, code: str, taken: int) -> None:
    sent, result = await bench.call(name)
    assert (result.result, result.code, result.delivered) == (meaning, code, meaning is ResultClass.OK)
    assert bench.taken(sent.delivery_id) == taken
    _, next_one = await bench.call("next")
    assert next_one.result is ResultClass.OK


async def test_the_second_attempt_of_a_greylisted_message_is_taken_once(bench: Bench) -> None:
    for send in (bench.mail, bench.call):
        first, refused = await send("greylist")
        assert refused.result in (ResultClass.RETRY, ResultClass.RATE)
        provider = bench.email if send == bench.mail else bench.webhook
        (again,) = await provider.send([first])
        assert again.result is ResultClass.OK
        assert bench.taken(first.delivery_id) == 1


async def test_the_wait_of_a_busy_hook(bench: Bench) -> None:
    _, result = await bench.call("busy")
    assert result.retry_after == timedelta(seconds=2)


@pytest.mark.parametrize(
    "content",
    [
        Content(
            title="验证码 123456",
            text="您的验证码是 123456。\n.\n..\nFrom here\n",
            html="<p>您的验证码是 <b>123456</b></p>",
        ),
        Content(title="a" * 400, text="x" * 5000),
        Content(title="", text=""),
        Content(title="🎉" * 60, text="\t tabs \t\n\n\n  ends with spaces   \r\nmixed\rends\n", html="\n"),
        Content(
            title="=?utf-8?q?no?=", text="=3D=\n=", html="<p>" + "長" * 3000 + "</p>", url="https://x.example/?a=b&c=d"
        ),
        Content(title=" led and trailed ", html="<h1>Only HTML</h1><p>A <a href='https://x.example'>link</a></p>"),
    ],
)
async def test_the_strict_server_takes_every_kind_of_content(bench: Bench, content: Content) -> None:
    sent, result = await bench.mail("zhang.wei", content=content)
    assert result.result is ResultClass.OK, result
    assert bench.taken(sent.delivery_id) == 1
    _, result = await bench.call("orders", content=content)
    assert result.result is ResultClass.OK, result


async def test_the_sandbox_finds_every_signature_valid(bench: Bench) -> None:
    sent, _ = await bench.call("signed")
    (item,) = bench.box.record.find(delivery=sent.delivery_id)[0]
    assert item.seen.signature is sandbox.Signature.VALID
