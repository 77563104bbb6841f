"""Devices: registered, seen again, moved to another user, removed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from api.routes.device_shapes import DeviceIn
from domain.devices import MOST_DEVICES
from tests.api.conftest import Api, at_once, codes

PATH = "/v1/users/u-1/devices"
EXAMPLES: Any = DeviceIn.model_config.get("json_schema_extra")
BROWSER, PHONE = EXAMPLES["examples"]


@pytest.fixture
async def users(api: Api) -> Api:
    for name in ("u-1", "u-2"):
        await api.post("/v1/users", {"id": name})
    return api


async def listed(api: Api, user: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await api.get(f"/v1/users/{user}/devices")).json()["items"]
    return items


async def test_a_browser_and_a_phone(users: Api) -> None:
    made = [await users.post(PATH, body, key="sender") for body in (BROWSER, PHONE)]
    assert [answer.status_code for answer in made] == [201, 201]
    shown = await listed(users, "u-1")
    assert shown == [made[1].json(), made[0].json()]
    assert shown[1]["token_hint"] == "https://updates.push.services.mozilla.com/***"
    assert (shown[0]["app"], shown[0]["token_hint"]) == ("com.example.shop", "0f0f0f***")
    stored = await users.pool.fetchrow("SELECT token, keys FROM device WHERE kind = 'webpush'")
    assert stored is not None
    assert stored["token"] == BROWSER["subscription"]["endpoint"]
    assert all(key in stored["keys"] for key in BROWSER["subscription"]["keys"].values())


async def test_no_answer_holds_what_pushing_needs(users: Api) -> None:
    """Answers are logged by callers and kept under idempotency keys; a token is as good as the device."""
    made = await users.post(PATH, BROWSER, once="k")
    secret = (BROWSER["subscription"]["endpoint"], *BROWSER["subscription"]["keys"].values())
    told = made.text + str(await listed(users, "u-1")) + str(await users.pool.fetchval("SELECT answer FROM idempotency"))
    assert not any(part in told for part in secret)


async def test_registered_again_it_is_the_same_device_seen_now(users: Api) -> None:
    first = await users.post(PATH, PHONE)
    again = await users.post(PATH, {**PHONE, "locale": "en"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert (again.json()["locale"], again.json()["created_at"]) == ("en", first.json()["created_at"])
    assert again.json()["last_seen_at"] > first.json()["last_seen_at"]
    assert len(await listed(users, "u-1")) == 1


async def test_a_token_that_moves_to_another_user_leaves_the_first(users: Api) -> None:
    """A phone that is handed on must not show the messages of who had it before."""
    first = (await users.post(PATH, PHONE)).json()
    moved = await users.post("/v1/users/u-2/devices", PHONE)
    assert moved.status_code == 201
    assert await listed(users, "u-1") == []
    assert await listed(users, "u-2") == [moved.json()]
    assert (await users.call("DELETE", f"{PATH}/{first['id']}")).status_code == 404
    assert moved.json()["id"] != first["id"]


async def test_the_same_token_in_another_tenant_is_another_device(users: Api) -> None:
    await users.post(PATH, PHONE)
    await users.post("/v1/users", {"id": "u-1"}, key="other")
    assert (await users.post(PATH, PHONE, key="other")).status_code == 201
    assert len(await listed(users, "u-1")) == 1


async def test_a_user_has_a_bounded_number_also_when_all_come_at_once(users: Api) -> None:
    def phone(number: int) -> dict[str, Any]:
        return {"kind": "android", "token": f"token-{number:04}"}

    answers = await at_once(users.post(PATH, phone(n)) for n in range(MOST_DEVICES + 5))
    assert sorted(answer.status_code for answer in answers) == [201] * MOST_DEVICES + [422] * 5
    assert next(codes(answer) for answer in answers if answer.status_code == 422) == [("", "too_many")]
    known = answers.index(next(answer for answer in answers if answer.status_code == 201))
    assert (await users.post(PATH, phone(known))).status_code == 200


async def test_removed_it_is_gone(users: Api) -> None:
    gone = f"{PATH}/{(await users.post(PATH, PHONE)).json()['id']}"
    assert (await users.call("DELETE", gone.replace("u-1", "u-2"))).status_code == 404
    assert [(await users.call("DELETE", gone, key="sender")).status_code for _ in range(2)] == [204, 404]


async def test_an_erased_user_gets_none(users: Api) -> None:
    await users.pool.execute("UPDATE person SET state = 'erased'")
    answer = await users.post(PATH, PHONE)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


def browser(**changes: Any) -> dict[str, Any]:
    keys = {**BROWSER["subscription"]["keys"], **changes.pop("keys", {})}
    return {"kind": "webpush", "subscription": {**BROWSER["subscription"], "keys": keys, **changes}}


SHORT = base64.urlsafe_b64encode(b"\x04" + b"x" * 63).decode()
NO_POINT = base64.urlsafe_b64encode(b"\x02" + b"x" * 64).decode()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"kind": "fax", "token": "t" * 20}, ("/kind", "not_allowed")),
        ({"kind": "ios"}, ("/token", "required")),
        ({"kind": "ios", "token": "xyz" * 30}, ("/token", "format")),
        ({"kind": "android", "token": "a b" * 10}, ("/token", "format")),
        ({"kind": "android", "token": "t" * 4097}, ("/token", "too_long")),
        ({"kind": "webpush", "token": "t" * 20}, ("/subscription", "required")),
        ({**PHONE, "subscription": BROWSER["subscription"]}, ("/subscription", "not_allowed")),
        (browser(endpoint="http://push.example.com/x"), ("/subscription/endpoint", "format")),
        (browser(endpoint="https://user:pw@push.example.com/x"), ("/subscription/endpoint", "format")),
        (browser(endpoint="https://"), ("/subscription/endpoint", "format")),
        (browser(keys={"auth": "BTBZMqHH6r4Tts7J_aSI"}), ("/subscription/keys/auth", "format")),
        (browser(keys={"auth": "not base64!"}), ("/subscription/keys/auth", "format")),
        (browser(keys={"p256dh": SHORT}), ("/subscription/keys/p256dh", "format")),
        (browser(keys={"p256dh": NO_POINT}), ("/subscription/keys/p256dh", "format")),
        (browser(extra=1), ("/subscription/extra", "unknown_field")),
    ],
)
async def test_what_is_refused(shared_api: Api, body: dict[str, Any], where: tuple[str, str]) -> None:
    answer = await shared_api.post("/v1/users/u-1/devices", body)
    found = (where[0], answer.status_code)
    assert found == (where[0], 422), answer.text
    assert where in codes(answer)
