"""The API of tests/api, with one of everything that has an id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.ids import uuid7
from infra.email_accounts import WEBHOOK_DEFAULT
from infra.secrets import receipt_secret
from tests.api.conftest import SECRET_KEY, Api, insert_notification, make_keys, running

Ids = dict[str, str]
"""Parameter of a path -> an id of tenant acme."""


@pytest.fixture(scope="module")
async def routes_api(module_database: str) -> AsyncIterator[Api]:
    async with running(module_database) as made:
        made.keys = await make_keys(module_database)
        yield made


@pytest.fixture(scope="module")
def document(routes_api: Api) -> dict[str, Any]:
    return routes_api.front.fastapi.openapi()


@pytest.fixture(scope="module")
async def ids(routes_api: Api) -> Ids:
    return await one_of_each(routes_api)


async def one_of_each(api: Api) -> Ids:
    """Makes them; a new kind of id needs a line here, or the generated tests fail."""
    user = {"id": "u-acme", "identities": [{"channel": "email", "address": "a@example.com"}]}
    template = {"name": "t-acme", "category": "c-acme", "contents": {"en": {"default": {"text": "Hello"}}}}
    category = {"name": "c-acme", "channels": ["email"]}
    for path, body in (("users", user), ("templates", template), ("categories", category)):
        assert (await api.post(f"/v1/{path}", body)).status_code == 201, path
    await api.post("/v1/templates/t-acme/publish", {})
    assert (await api.post("/v1/apps", {"id": "a-acme", "name": "x"})).status_code == 201
    key = (await api.post("/v1/api-keys", {"name": "k", "app": "shop", "roles": ["sender"]})).json()["id"]
    suppressed = {"channel": "email", "address": "a@example.com"}
    suppression = (await api.post("/v1/users/u-acme/suppressions", suppressed)).json()["id"]
    device = (await api.post("/v1/users/u-acme/devices", {"kind": "android", "token": "t" * 20})).json()["id"]
    identity = (await api.get("/v1/users/u-acme/identities")).json()["items"][0]["id"]
    chosen = {"channels": {"email": False}, "quiet_hours": {"from": "22:00", "to": "08:00"}}
    assert (await api.call("PUT", "/v1/users/u-acme/preferences", json=chosen)).status_code == 200
    notification = await insert_notification(api.pool, user_id="u-acme", content='{"text": "Hello"}')
    relay = {"name": "relay", "provider": "smtp", "settings": {"host": "mail.example.com", "sender": "a@example.com"}}
    provider = (await api.post("/v1/providers", relay)).json()["id"]
    # A test of it must not look for a host out there.
    await api.pool.execute('UPDATE provider_account SET settings = settings || \'{"host": "127.0.0.1"}\'')
    otp = (await api.post("/v1/otp", {"to": {"user": "u-acme"}})).json()["id"]
    # Its message is due at once: grouped while a test runs, it would look as if another tenant had changed it.
    await api.pool.execute("UPDATE work SET due_at = now() + interval '1 day'")
    item = uuid7()
    await api.pool.execute(
        "INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, category, expires_at) "
        "VALUES ($1, 'acme', 'u-acme', $2, 1, 't', 't', 'c', now() + interval '1 day')", item, notification,
    )  # fmt: skip
    return {
        "/v1/notifications/{notification_id}": str(notification), "/v1/templates/{name}": "t-acme",
        "/v1/categories/{name}": "c-acme", "/v1/users/{user_id}": "u-acme", "/v1/apps/{app_id}": "a-acme",
        "/v1/api-keys/{key_id}": key, "/v1/otp/{otp_id}": otp, "/v1/providers/{provider_id}": provider,
        "{provider}": "webhook", "{account}": WEBHOOK_DEFAULT,
        "{secret}": receipt_secret(SECRET_KEY, provider="webhook", account=WEBHOOK_DEFAULT),
        "{identity_id}": identity, "{suppression_id}": suppression, "{device_id}": device, "{item_id}": str(item),
        "{version}": "1",
    }  # fmt: skip


def filled(path: str, ids: Ids) -> str:
    """The path with acme's ids."""
    for pattern, found in ids.items():
        place = "{" + pattern.partition("{")[2]
        if pattern.startswith("/"):
            if path.startswith(pattern):
                path = path.replace(place, found, 1)
        else:
            path = path.replace(place, found)
    assert "{" not in path, f"tests/routes knows no id for {path}"
    return path
