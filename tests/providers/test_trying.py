"""`POST /v1/providers/{id}/test` against real servers, and what it says."""

from __future__ import annotations

import asyncio
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest

import sandbox
from tests.api.conftest import Api, codes
from tests.channels.samples import SECRET
from tests.providers.conftest import mails, make


async def test_it_connects_and_logs_in_and_sends_nothing(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    tried = (await api.post(f"/v1/providers/{account}/test", key="operator")).json()
    assert (tried["ok"], tried["sent"], tried["message"]) == (True, False, "It connects and logs in.")
    assert box.record.find()[0] == []


async def closed_port() -> int:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"password": "not-this-one"}, "535 5.7.8", "user name and password"),
        ({"security": "starttls"}, "smtp_session_failed", "STARTTLS"),
        ({"security": "tls"}, "smtp_tls_failed", "TLS"),
        ({"port": None}, "smtp_connect_refused", "Nothing listens"),
    ],
)
async def test_what_does_not_work_is_said_in_plain_words(
    api: Api, box: sandbox.Box, changes: dict[str, Any], code: str, says: str
) -> None:
    if "port" in changes:
        changes = {"port": await closed_port()}
    account = await make(api, box, settings=changes)
    tried = (await api.post(f"/v1/providers/{account}/test")).json()
    assert (tried["ok"], tried["code"]) == (False, code)
    assert says in tried["message"]


async def test_a_message_to_somebody_is_marked_as_a_test(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    await api.post(f"/v1/providers/{account}/pause")
    tried = (await api.post(f"/v1/providers/{account}/test", {"to": "fang@example.com"})).json()
    assert (tried["ok"], tried["sent"], tried["class"]) == (True, True, "OK")
    [item] = box.record.find()[0]
    assert (item.seen.recipient, item.seen.subject) == ("fang@example.com", "[Test] Tongda")
    assert BytesParser(policy=default).parsebytes(item.seen.raw)["to"] == "fang@example.com"
    refused = (await api.post(f"/v1/providers/{account}/test", {"to": "bounce@example.com"})).json()
    assert (refused["ok"], refused["class"], refused["code"]) == (False, "RECIPIENT", "550 5.1.1")
    assert "the account works" in refused["message"].lower()


async def test_nothing_is_sent_to_what_is_no_address_or_wants_nothing(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    path = f"/v1/providers/{account}/test"
    assert codes(await api.post(path, {"to": "nobody"})) == [("/to", "format")]
    await api.post("/v1/suppressions", {"channel": "email", "address": "no@example.com"})
    assert codes(await api.post(path, {"to": "no@example.com"})) == [("/to", "suppressed")]
    assert mails(box) == []


async def test_a_webhook_account_is_tried_by_a_call_with_its_own_secret(api: Api) -> None:
    async with sandbox.running(webhook_secret=SECRET) as box:
        settings = {"signing_secret": SECRET, "timeout_seconds": 2}
        body = {"name": "hooks", "provider": "webhook", "settings": settings}
        account = (await api.post("/v1/providers", body)).json()["id"]
        path = f"/v1/providers/{account}/test"
        assert codes(await api.post(path)) == [("/to", "required")]
        tried = (await api.post(path, {"to": f"{box.http_url}/hook/someone"})).json()
        assert (tried["ok"], tried["code"]) == (True, "http_200"), tried
        inside = (await api.post(path, {"to": "http://10.0.0.1/"})).json()
        assert (inside["ok"], inside["sent"], inside["code"]) == (False, False, "target_address")


async def test_tests_have_a_limit(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    for _ in range(30):
        api.container.providers.turns.take("acme", now_s=api.container.clock.monotonic_s())
    refused = await api.post(f"/v1/providers/{account}/test")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
