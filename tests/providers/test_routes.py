"""/v1/providers and /v1/provider-types: what is taken, what is shown, what is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

import sandbox
from api.provider_parts import open_providers
from channels.registry import provider_types
from infra.postgres.tables import metadata
from tests.api.conftest import Api, codes
from tests.api.conftest import running as running_api
from tests.providers.conftest import PASSWORD, changed, make, settings_of

OTHER_PASSWORD = "battery-staple-7741"


async def everything(pool: asyncpg.Pool) -> str:
    """All rows of all tables, as text."""
    found = []
    for table in metadata.sorted_tables:
        found += [row[0] for row in await pool.fetch(f'SELECT t::text FROM "{table.name}" t')]
        for column in table.columns:
            if column.type.__class__.__name__ == "LargeBinary":
                rows = await pool.fetch(f'SELECT encode("{column.name}", \'escape\') FROM "{table.name}"')
                found += [row[0] for row in rows if row[0]]
    return "\n".join(found)


async def test_types_say_everything_that_an_account_needs(api: Api) -> None:
    shown = {one["name"]: one for one in (await api.get("/v1/provider-types", key="viewer")).json()["items"]}
    assert set(shown) == set(provider_types())
    smtp = shown["smtp"]
    assert (smtp["channel"], smtp["accounts"], smtp["secrets"]) == ("email", True, ["password"])
    assert smtp["settings"]["properties"]["password"]["writeOnly"] is True
    assert smtp["settings"]["required"] == ["host", "sender"]
    assert smtp["capabilities"] == {"idempotent": False, "receipts": False, "recall": False, "check": True}
    assert smtp["limits"] == {"messages_per_call": 1, "call_timeout_seconds": 31}
    assert shown["inapp"]["accounts"] is False
    assert shown["webhook"]["secrets"] == ["signing_secret"]


async def test_an_account_is_shown_without_its_secret_everywhere(api: Api, box: sandbox.Box) -> None:
    """In answers, repetitions, lists and every column of every table."""
    body = {"name": "relay", "provider": "smtp", "settings": settings_of(box), "rate_per_second": 5, "receipt_within": 60}
    made = await api.post("/v1/providers", body, once="k", key="administrator")
    again = await api.post("/v1/providers", body, once="k", key="administrator")
    assert (made.status_code, again.status_code) == (201, 200)
    shown = made.json()
    assert shown == again.json()
    assert made.headers["location"] == f"/v1/providers/{shown['id']}"
    assert shown["id"].startswith("relay-")
    assert shown["settings"] == {
        "host": box.host, "port": box.smtp_port, "security": "none", "username": "tongda", "connections": 16,
        "sender": "Acme <notify@acme.example>",
    }  # fmt: skip
    assert (shown["secrets"], shown["source"], shown["state"]) == (["password"], "tenant", "active")
    assert (shown["rate_per_second"], shown["receipt_within"], shown["channel"]) == (5.0, "PT1M", "email")
    read = await api.get(f"/v1/providers/{shown['id']}", key="viewer")
    assert read.json() == shown
    listed = await api.get("/v1/providers", key="viewer")
    assert shown in listed.json()["items"]
    other = await api.post("/v1/providers", {**body, "settings": settings_of(box, password=OTHER_PASSWORD)})
    assert other.status_code == 409
    rows = await everything(api.pool)
    assert "notify@acme.example" in rows
    assert PASSWORD not in rows + made.text + again.text + read.text + listed.text
    assert OTHER_PASSWORD not in rows + other.text


async def test_the_same_key_with_another_password_is_another_request(api: Api, box: sandbox.Box) -> None:
    """And what is kept of the first body is no means to guess the password in it."""
    body: dict[str, Any] = {"name": "relay", "provider": "smtp", "settings": settings_of(box)}
    assert (await api.post("/v1/providers", body, once="k")).status_code == 201
    body["settings"]["password"] = OTHER_PASSWORD
    assert (await api.post("/v1/providers", body, once="k")).json()["code"] == "idempotency_conflict"
    kept = await api.pool.fetchval("SELECT body_hash FROM idempotency")
    plain = json.dumps({**body, "settings": settings_of(box)}, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(kept) == 32
    assert kept != hashlib.sha256(plain).digest()


async def test_a_change_keeps_what_is_not_given(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box, order=2)
    shown = (await changed(api, account, {"settings": {"connections": 4}, "weight": 3})).json()
    assert (shown["settings"]["connections"], shown["weight"], shown["order"], shown["secrets"]) == (4, 3, 2, ["password"])
    assert (await api.post(f"/v1/providers/{account}/test")).json()["ok"] is True
    shown = (await changed(api, account, {"settings": {"connections": None}, "name": "renamed"})).json()
    assert (shown["settings"]["connections"], shown["name"], shown["id"]) == (16, "renamed", account)
    bare = {"settings": {"username": None, "password": None}}
    assert (await changed(api, account, bare)).json()["secrets"] == []
    assert await api.pool.fetchval("SELECT sealed FROM provider_account") is None


async def test_a_secret_goes_to_no_other_host_than_it_was_given_for(
    api: Api, box: sandbox.Box, second: sandbox.Box
) -> None:
    """Catches: an operator who may not read the password has it sent to a server of their own."""
    account = await make(api, box)
    moved = {"settings": {"port": second.smtp_port}}
    refused = await changed(api, account, moved)
    assert codes(refused) == [("/settings/password", "required")]
    moved["settings"]["password"] = PASSWORD  # type: ignore[assignment]
    assert (await changed(api, account, moved)).status_code == 200


@pytest.mark.parametrize(
    ("body", "place", "code"),
    [
        ({"provider": "fax"}, "/provider", "not_allowed"),
        ({"provider": "inapp"}, "/provider", "not_allowed"),
        ({"name": "Relay A"}, "/name", "format"),
        ({"settings": {}}, "/settings/host", "required"),
        ({"settings": {"host": "h", "sender": "a@b.example", "token": "x"}}, "/settings/token", "unknown_field"),
        ({"settings": {"host": "h", "sender": "a@b.example", "port": "587"}}, "/settings/port", "type"),
        ({"settings": {"host": "h", "sender": "a@b.example", "port": 0}}, "/settings/port", "range"),
        ({"settings": {"host": "h h", "sender": "a@b.example"}}, "/settings/host", "format"),
        ({"settings": {"host": "h", "sender": "nobody"}}, "/settings/sender", "format"),
        ({"settings": {"host": "h", "sender": "a@b.example", "security": "ssl"}}, "/settings/security", "not_allowed"),
        ({"settings": {"host": "h", "sender": "a@b.example", "username": "u"}}, "/settings/password", "required"),
        ({"settings": {"host": "h", "sender": "a@b.example", "port": 6379}}, "/settings/port", "not_allowed"),
        ({"settings": {"host": "10.0.0.7", "sender": "a@b.example"}}, "/settings/host", "not_allowed"),
        ({"settings": {"host": "169.254.169.254", "sender": "a@b.example"}}, "/settings/host", "not_allowed"),
        ({"settings": {"host": "2130706433", "sender": "a@b.example"}}, "/settings/host", "not_allowed"),
        ({"settings": {"host": "::1", "sender": "a@b.example"}}, "/settings/host", "not_allowed"),
        ({"weight": -1}, "/weight", "range"),
        ({"rate_per_second": 0}, "/rate_per_second", "range"),
        ({"receipt_within": "P9D"}, "/receipt_within", "range"),
        ({"receipt_within": "soon"}, "/receipt_within", "format"),
        ({"secret": "x"}, "/secret", "unknown_field"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_kept(api: Api, body: dict[str, Any], place: str, code: str) -> None:
    good = {"name": "relay", "provider": "smtp", "settings": {"host": "mail.example.com", "sender": "a@b.example"}}
    refused = await api.post("/v1/providers", {**good, **body})
    assert refused.status_code == 422, refused.text
    assert codes(refused) == [(place, code)], refused.text
    assert await api.count("provider_account") == 0


async def test_this_machine_is_refused_where_the_operator_does_not_allow_it(database: str, api: Api) -> None:
    body = {"name": "relay", "provider": "smtp", "settings": {"host": "127.0.0.1", "sender": "a@b.example"}}
    async with running_api(database) as strict:
        strict.keys = api.keys
        refused = await strict.post("/v1/providers", body)
        assert codes(refused) == [("/settings/host", "not_allowed")]
        assert "TONGDA_WEBHOOK_ALLOW_NETWORKS" in refused.json()["errors"][0]["detail"]
        body["settings"]["host"] = "localhost"  # type: ignore[index]
        account = (await strict.post("/v1/providers", body)).json()["id"]
        tried = (await strict.post(f"/v1/providers/{account}/test")).json()
        assert (tried["ok"], tried["code"]) == (False, "target_address")


async def test_names_are_unique_in_a_tenant_and_accounts_are_its_own(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    twice = await api.post("/v1/providers", {"name": "relay", "provider": "smtp", "settings": settings_of(box)})
    assert (twice.status_code, twice.json()["code"]) == (409, "provider_exists")
    theirs = await make(api, box, key="other")
    assert theirs != account
    own = {one["id"] for one in (await api.get("/v1/providers")).json()["items"] if one["source"] == "tenant"}
    assert own == {account}
    for method, end, body in (
        ("GET", "", None), ("GET", "/health", None), ("PATCH", "", {"weight": 1}), ("DELETE", "", None),
        ("POST", "/pause", None), ("POST", "/resume", None), ("POST", "/test", None),
    ):  # fmt: skip
        answer = await api.call(method, f"/v1/providers/{theirs}{end}", json=body)
        assert answer.status_code == 404, (method, end)
    second = await make(api, box, name="second")
    assert (await changed(api, second, {"name": "relay"})).json()["code"] == "provider_exists"


async def test_the_installations_accounts_are_shown_and_not_touched(api: Api) -> None:
    items = {one["id"]: one for one in (await api.get("/v1/providers")).json()["items"]}
    assert set(items) == {"smtp-default", "webhook-default", "inapp-default"}
    assert {(one["source"], json.dumps(one["settings"])) for one in items.values()} == {("installation", "{}")}
    assert (await api.get("/v1/providers/smtp-default")).json() == items["smtp-default"]
    assert (await api.get("/v1/providers/smtp-default/health")).json()["workers"] == []
    for method, path, body in (
        ("PATCH", "", {"weight": 1}), ("DELETE", "", None), ("POST", "/pause", None), ("POST", "/test", None),
    ):  # fmt: skip
        answer = await api.call(method, f"/v1/providers/smtp-default{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "provider_read_only")


async def test_pages(api: Api, box: sandbox.Box) -> None:
    made = {await make(api, box, name=f"relay-{n}") for n in range(5)}
    seen = [one["id"] async for page in api.pages("/v1/providers", limit=2) for one in page]
    assert sorted(seen) == seen
    assert set(seen) == made | {"smtp-default", "webhook-default", "inapp-default"}


async def test_pausing_twice_is_pausing_once(api: Api, box: sandbox.Box) -> None:
    account = await make(api, box)
    first = (await api.post(f"/v1/providers/{account}/pause")).json()
    assert first["state"] == "paused"
    assert (await api.post(f"/v1/providers/{account}/pause")).json() == first
    resumed = (await api.post(f"/v1/providers/{account}/resume")).json()
    assert (resumed["state"], resumed["paused_at"]) == ("active", None)


async def test_without_a_secret_key_no_credential_is_taken(database: str, api: Api, box: sandbox.Box) -> None:
    bare = api.container.settings.model_copy(update={"secret_key": SecretStr("")})
    async with open_providers(bare, database=api.container.database) as parts:
        api.container.providers = parts
        refused = await api.post("/v1/providers", {"name": "relay", "provider": "smtp", "settings": settings_of(box)})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert "TONGDA_SECRET_KEY" in refused.json()["detail"]
