"""POST /v1/receipts: who may report, what is refused and how, and that nothing of a refused request is kept."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import SecretStr

from activities.accounts.making import AccountMaker
from api.receipts import receipt_service
from channels.memory import MemoryHttp
from channels.registry import Wiring, provider_types
from infra.credentials import CredentialBox
from infra.secrets import receipt_path, webhook_secret
from tests.receipts.conftest import KEY, OTHERS_SECRET, SECRET, Site


async def kept(site: Site) -> int:
    count: int = await site.engine.pool.fetchval("SELECT count(*) FROM receipt_inbox WHERE status <> 'sent'")
    return count


async def test_a_report_and_its_repetition(site: Site) -> None:
    one = await site.send("orders")
    body = {"id": f"{one}-1", "status": "delivered", "at": "2026-03-01T09:00:00+08:00"}
    for _ in range(2):
        answer = await site.post(body)
        assert (answer.status_code, answer.json()) == (200, {"taken": 1})
    found = await site.seen(one)
    assert (found["status"], found["final"]) == ("delivered", True)
    assert found["deliveries"][0]["delivered_at"] == "2026-03-01T01:00:00+00:00"
    assert (await site.post(body | {"status": "failed"})).status_code == 200
    assert (await site.seen(one))["status"] == "delivered"


async def test_many_at_once_are_taken_or_refused_together(site: Site) -> None:
    ones = [await site.send("orders") for _ in range(3)]
    bodies: list[Any] = [{"id": f"{one}-1", "status": "read"} for one in ones]
    refused = await site.post([*bodies, {"id": f"{ones[0]}-1", "status": "seen"}])
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/3/status")
    assert {(await site.seen(one))["status"] for one in ones} == {"sent"}
    assert (await site.post(bodies)).json() == {"taken": 3}
    assert {(await site.seen(one))["status"] for one in ones} == {"read"}


async def test_only_who_knows_the_address_is_heard(site: Site) -> None:
    """A wrong secret, another account's and another provider's are as little there as an account that does not exist."""
    one = await site.send("orders")
    body = {"id": f"{one}-1", "status": "failed"}
    right = site.post.path
    others = receipt_path(KEY, provider="webhook", account="other")
    elsewhere = receipt_path("another installation's key, 32 long", provider="webhook", account="webhook-default")
    for path in (right[:-1] + "x", right + "x", others, elsewhere, right.replace("/webhook/", "/smtp/"),
                 others.rpartition("/")[0] + "/" + right.rpartition("/")[2], "/v1/receipts/webhook/%00/x"):  # fmt: skip
        answer = await site.post(body, path=path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert (await site.http.get(right)).status_code == 405
    assert (await site.seen(one))["status"] == "sent"


async def test_an_account_of_a_tenant_has_an_address_and_a_secret_of_its_own(site: Site) -> None:
    """Its messages are reported on under its own address alone; off again, that address is not there any more."""
    own = "whsec_" + b64encode(b"an account's own secret, 32 long").decode()
    body = {"name": "crm", "provider": "webhook", "settings": {"receipts": True, "signing_secret": own}}
    made = await site.http.post("/v1/providers", json=body, headers=site.auth())
    account = made.json()["id"]
    where = f"/v1/providers/{account}"
    told = (await site.http.get(f"{where}/receipts", headers=site.auth())).json()
    path = urlsplit(told["url"]).path
    assert (told["window"], path) == ("P1D", receipt_path(KEY, provider="webhook", account=account))
    assert (await site.http.get(f"{where}/receipts", headers=site.auth("viewer"))).status_code == 403
    await use(site, account, reply_to=told["url"])
    one = await site.send("orders")
    assert (await site.seen(one))["deliveries"][0]["account"] == account
    receipt = {"id": f"{one}-1", "status": "delivered"}
    assert (await site.post(receipt, path=path)).status_code == 401
    assert (await site.post(receipt, secret=own)).status_code == 401
    assert (await site.post(receipt, path=path, secret=own)).json() == {"taken": 1}
    assert (await site.seen(one))["status"] == "delivered"
    off = await site.http.patch(where, json={"settings": {"receipts": False}}, headers=site.auth())
    assert off.status_code == 200, off.text
    assert (await site.post(receipt, path=path, secret=own)).status_code == 404
    assert (await site.http.get(f"{where}/receipts", headers=site.auth())).json() == {"url": None, "window": None}


async def use(site: Site, account: str, *, reply_to: str) -> None:
    """Its messages go over it from now on, as a worker would take it over; what is called answers 200 to everything."""
    stored = await site.api.container.providers.accounts.get("acme", account)
    wiring = Wiring(http=MemoryHttp(), secret_for=lambda _: SECRET, receipt_url=lambda *_: reply_to)
    made = AccountMaker(provider_types(), wiring, box=CredentialBox(KEY), leases=None).account(stored)
    assert made is not None
    assert made.provider.capabilities.receipts
    site.accounts.replace([made])


async def test_only_the_tenants_own_signature_counts(site: Site) -> None:
    one = await site.send("orders")
    theirs = await site.accept("orders", key="other")
    await site.drive()
    body = {"id": f"{one}-1", "status": "failed"}
    wrong = [
        await site.post(body, secret=OTHERS_SECRET),
        await site.post(body, at=time.time() - 301),
        await site.post(body, at=time.time() + 310),
        await site.post(body, headers={"webhook-signature": "v1,AAAA"}),
        await site.post(body, headers={"webhook-signature": ""}),
        await site.post(body, headers={"webhook-timestamp": "now"}),
        await site.post({"id": f"{uuid4()}-1", "status": "failed"}),
    ]
    assert [(a.status_code, a.json()["code"]) for a in wrong] == [(401, "receipt_signature")] * len(wrong)
    mixed = await site.post([{"id": f"{one}-1", "status": "read"}, {"id": f"{theirs}-1", "status": "failed"}])
    assert mixed.json() == {"taken": 1}, "the other tenant's is dropped"
    assert await site.engine.deliveries(theirs) == {"webhook": ("retrying", None)}, "the hook knows only acme's signature"
    assert (await site.seen(one))["status"] == "read"


GOOD = {"status": "failed"}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"id": "no such"}, "/id"), ({"id": 5}, "/id"), ({"id": None}, "/id"), ({"status": "arrived"}, "/status"),
        ({"status": ["failed"]}, "/status"), ({"status": None}, "/status"), ({"at": "yesterday"}, "/at"),
        ({"at": "2026-03-01T09:00:00"}, "/at"), ({"at": "0001-01-01T00:00:00+08:00"}, "/at"), ({"at": 12}, "/at"),
        ({"class": "OK"}, "/class"), ({"class": {}}, "/class"), ({"code": "a@example.com"}, "/code"),
        ({"code": "\x00"}, "/code"),
        ({"status": "delivered", "code": "x"}, "/code"), ({"status": "read", "class": "RETRY"}, "/class"),
        ({"text/~": 1}, "/text~1~0"),
    ],
)  # fmt: skip
async def test_a_field_that_breaks_a_rule_is_named(site: Site, change: dict[str, Any], pointer: str) -> None:
    one = await site.send("orders")
    answer = await site.post({"id": f"{one}-1"} | GOOD | change)
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]
    assert (await site.seen(one))["status"] == "sent"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"id": "\\ud800"}', b"[]", b"7", b"null", b"[[]]"])
async def test_what_is_no_receipt_is_refused(site: Site, body: bytes) -> None:
    before = await kept(site)
    answer = await site.post(body)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert await kept(site) == before


async def test_a_body_that_is_too_large(site: Site) -> None:
    answer = await site.post(b" " * (1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_parameters_that_a_provider_appends_are_its_own(site: Site) -> None:
    one = await site.send("orders")
    answer = await site.post({"id": f"{one}-1", "status": "delivered"}, path=site.post.path + "?nonce=1&timestamp=2")
    assert answer.status_code == 200


async def test_an_address_and_a_secret_of_the_key_before_are_still_heard(site: Site) -> None:
    """Catches: a rotation after which what was sent the minute before is never reported on."""
    one = await site.send("orders")
    settings = site.api.container.settings
    rotated = settings.model_copy(update={"secret_key": SecretStr("n" * 32), "other_secret_keys": SecretStr(KEY)})
    container = site.api.container
    made = receipt_service(
        rotated, container.receipts._repository, providers=container.providers, now=time.time, due=lambda _: None
    )
    before, container.receipts = container.receipts, made
    try:
        body = {"id": f"{one}-1", "status": "delivered"}
        assert (await site.post(body)).json() == {"taken": 1}
        path = receipt_path("n" * 32, provider="webhook", account="webhook-default")
        assert (await site.post(body, path=path, secret=webhook_secret("n" * 32, "acme"))).json() == {"taken": 1}
        path = receipt_path("o" * 32, provider="webhook", account="webhook-default")
        assert (await site.post(body, path=path)).status_code == 404
    finally:
        container.receipts = before


async def test_without_a_secret_key_nobody_is_heard(site: Site) -> None:
    """What derives from "" is known to all."""
    service = site.api.container.receipts
    service._secret_key = ""
    answer = await site.post({}, path=receipt_path("", provider="webhook", account="webhook-default"))
    assert answer.status_code == 404


async def test_what_was_sent_can_be_sent_again_before_it_is_final(site: Site) -> None:
    one = await site.send("orders")
    answer = await site.http.post(f"/v1/notifications/{one}/resend", headers=site.auth())
    assert answer.status_code == 202
