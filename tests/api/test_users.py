"""Users and their addresses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api, codes

FANG: dict[str, Any] = {
    "id": "u-1024", "name": "王芳", "locale": "zh-CN", "time_zone": "Asia/Shanghai",
    "attributes": {"city": "Suzhou", "vip": True},
    "identities": [{"channel": "email", "address": "fang@example.com", "verified": True, "primary": True},
                   {"channel": "sms", "address": "+8613800000000"}, {"channel": "wecom", "address": "fang.wang"},
                   {"channel": "wechat", "address": "oABC", "app": "wx123"}],
}  # fmt: skip
"""The contract's own example."""


async def test_a_user_reads_as_it_was_written(api: Api) -> None:
    made = await api.post("/v1/users", FANG)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/users/u-1024")
    read = (await api.get("/v1/users/u-1024")).json()
    assert read == made.json()
    assert {name: read[name] for name in FANG if name != "identities"} == {
        k: v for k, v in FANG.items() if k != "identities"
    }
    assert read["state"] == "active"
    for sent, shown in zip(FANG["identities"], read["identities"], strict=True):
        assert sent.items() <= shown.items()


async def test_only_the_id_is_needed_and_one_that_exists_is_a_conflict(api: Api) -> None:
    assert (await api.post("/v1/users", {"id": "u-1"})).json()["identities"] == []
    again = await api.post("/v1/users", {"id": "u-1", "name": "somebody else"})
    assert (again.status_code, again.json()["code"]) == (409, "user_exists")
    assert (await api.get("/v1/users/u-1")).json()["name"] is None


async def test_locales_get_one_spelling(api: Api) -> None:
    assert (await api.post("/v1/users", {"id": "u-1", "locale": "zh_hant_tw"})).json()["locale"] == "zh-Hant-TW"


async def test_a_change_touches_only_what_it_names(api: Api) -> None:
    await api.post("/v1/users", FANG)
    changed = await api.call("PATCH", "/v1/users/u-1024", json={"locale": "en", "attributes": {"vip": None, "n": 1.5}})
    assert changed.json()["attributes"] == {"city": "Suzhou", "n": 1.5}
    assert (changed.json()["locale"], changed.json()["name"]) == ("en", "王芳")
    emptied = await api.call("PATCH", "/v1/users/u-1024", json={"name": None, "locale": None, "time_zone": None})
    assert [emptied.json()[name] for name in ("name", "locale", "time_zone")] == [None, None, None]
    assert len(emptied.json()["identities"]) == 4


async def test_a_deactivated_user_is_not_written_to_until_active_again(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    send = {"to": {"user": "u-1"}, "content": {"title": "x"}}
    for _ in range(2):
        assert (await api.call("DELETE", "/v1/users/u-1")).json()["state"] == "deactivated"
    refused = await api.post("/v1/notifications", send)
    assert (refused.status_code, refused.json()["code"]) == (422, "recipient_gone")
    assert (await api.get("/v1/users", params={"state": "deactivated"})).json()["items"][0]["id"] == "u-1"
    assert (await api.call("PATCH", "/v1/users/u-1", json={"state": "active"})).json()["state"] == "active"
    assert (await api.post("/v1/notifications", send)).status_code == 202


async def test_an_erased_user_cannot_be_changed(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    await api.pool.execute("UPDATE person SET state = 'erased'")
    answer = await api.call("PATCH", "/v1/users/u-1", json={"name": "back"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert await api.pool.fetchval("SELECT name FROM person") is None


async def test_users_are_found_by_their_addresses(api: Api) -> None:
    await api.post("/v1/users", FANG)
    await api.post("/v1/users", {"id": "u-2", "identities": [{"channel": "wecom", "address": "fang@example.com"}]})

    async def found(**query: str) -> list[str]:
        return [user["id"] for user in (await api.get("/v1/users", params=query)).json()["items"]]

    assert await found(address="fang@example.com") == ["u-1024", "u-2"]
    assert await found(address="fang@example.com", channel="email") == ["u-1024"]
    assert await found(channel="sms") == ["u-1024"]
    assert await found(address="nobody@example.com") == []


async def test_one_identity_of_a_channel_is_primary(api: Api) -> None:
    await api.post("/v1/users", FANG)
    path = "/v1/users/u-1024/identities"
    added = await api.post(path, {"channel": "email", "address": "f@example.com", "primary": True})
    assert (added.status_code, added.headers["location"]) == (201, f"{path}/{added.json()['id']}")
    emails = [i for i in (await api.get(path)).json()["items"] if i["channel"] == "email"]
    assert [(i["address"], i["primary"]) for i in emails] == [("f@example.com", True), ("fang@example.com", False)]
    again = await api.call("PATCH", f"{path}/{emails[1]['id']}", json={"primary": True})
    assert again.json()["primary"] is True
    emails = [i for i in (await api.get(path)).json()["items"] if i["channel"] == "email"]
    assert [(i["address"], i["primary"]) for i in emails] == [("fang@example.com", True), ("f@example.com", False)]


async def test_an_identity_is_there_once_and_can_be_removed(api: Api) -> None:
    await api.post("/v1/users", FANG)
    path = "/v1/users/u-1024/identities"
    twice = await api.post(path, {"channel": "email", "address": "fang@example.com"})
    assert (twice.status_code, twice.json()["code"]) == (409, "identity_exists")
    other_app = await api.post(path, {"channel": "wechat", "address": "oABC", "app": "wx999"})
    assert other_app.status_code == 201
    gone = f"{path}/{other_app.json()['id']}"
    assert [(await api.call("DELETE", gone)).status_code for _ in range(2)] == [204, 404]


BAD: list[tuple[dict[str, Any], tuple[str, str]]] = [
    ({}, ("/id", "required")),
    ({"id": 5}, ("/id", "type")),
    ({"id": ""}, ("/id", "format")),
    ({"id": "a/b"}, ("/id", "format")),
    ({"id": "a\nb"}, ("/id", "format")),
    ({"id": ".."}, ("/id", "format")),
    ({"id": "x" * 129}, ("/id", "format")),
    ({"id": "u", "nickname": "x"}, ("/nickname", "unknown_field")),
    ({"id": "u", "name": ["x"]}, ("/name", "type")),
    ({"id": "u", "name": "x" * 256}, ("/name", "too_long")),
    ({"id": "u", "name": "a\r\nBcc: b@example.com"}, ("/name", "control_character")),
    ({"id": "u", "locale": "chinese"}, ("/locale", "format")),
    ({"id": "u", "time_zone": "Asia"}, ("/time_zone", "format")),
    ({"id": "u", "time_zone": "../../etc/passwd"}, ("/time_zone", "format")),
    ({"id": "u", "attributes": [1]}, ("/attributes", "type")),
    ({"id": "u", "attributes": {"x": "y" * 17_000}}, ("/attributes", "too_long")),
    ({"id": "u", "identities": [{"channel": "inapp", "address": "u"}]}, ("/identities/0/channel", "not_allowed")),
    ({"id": "u", "identities": [{"channel": "fax", "address": "u"}]}, ("/identities/0/channel", "not_allowed")),
    ({"id": "u", "identities": [{"channel": "email"}]}, ("/identities/0/address", "required")),
    ({"id": "u", "identities": [{"channel": "email", "address": "nobody"}]}, ("/identities/0/address", "format")),
    ({"id": "u", "identities": [{"channel": "email", "address": "a@b.c\r\nX: 1"}]}, ("/identities/0/address", "format")),
    ({"id": "u", "identities": [{"channel": "sms", "address": "13800000000"}]}, ("/identities/0/address", "format")),
    ({"id": "u", "identities": [{"channel": "webhook", "address": "ftp://x"}]}, ("/identities/0/address", "format")),
    ({"id": "u", "identities": [{"channel": "wecom", "address": "a b"}]}, ("/identities/0/address", "format")),
    ({"id": "u", "identities": [{"channel": "wecom", "address": "a", "verified": 1}]}, ("/identities/0/verified", "type")),
    ({"id": "u", "identities": [{"channel": "wecom", "address": "a"}] * 2}, ("/identities/1", "unique")),
    ({"id": "u", "identities": [{"channel": "wecom", "address": a, "primary": True} for a in "ab"]},
     ("/identities/1/primary", "unique")),
    ({"id": "u", "identities": [{"channel": "wecom", "address": str(n)} for n in range(101)]}, ("/identities", "too_long")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "error"), BAD, ids=lambda value: str(value)[:60])
async def test_bad_users_are_named_and_not_stored(shared_api: Api, body: dict[str, Any], error: tuple[str, str]) -> None:
    answer = await shared_api.post("/v1/users", body, once="the-key-is-not-used-up")
    assert answer.status_code == 422, answer.text
    assert error in codes(answer)
    for table in ("person", "identity", "idempotency"):
        assert await shared_api.count(table) == 0


async def test_all_broken_fields_are_named_at_once(shared_api: Api) -> None:
    answer = await shared_api.post("/v1/users", {"id": "a b", "name": 1, "locale": "?", "x": 1})
    assert set(codes(answer)) == {("/id", "format"), ("/name", "type"), ("/locale", "format"), ("/x", "unknown_field")}


@pytest.mark.parametrize(
    "body", [{"state": "erased"}, {"state": None}, {"attributes": None}, {"id": "u-2"}, {"identities": []}]
)
async def test_bad_changes(shared_api: Api, body: dict[str, Any]) -> None:
    answer = await shared_api.call("PATCH", "/v1/users/u-1", json=body)
    assert answer.status_code == 422
    assert codes(answer)[0][0] == f"/{next(iter(body))}"


async def test_a_user_has_a_bounded_number_of_identities(api: Api) -> None:
    many = [{"channel": "push", "address": f"device-{n}"} for n in range(100)]
    assert (await api.post("/v1/users", {"id": "u-1", "identities": many})).status_code == 201
    answer = await api.post("/v1/users/u-1/identities", {"channel": "push", "address": "one-more"})
    assert (answer.status_code, codes(answer)) == (422, [("", "too_many")])
