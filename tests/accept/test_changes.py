"""Over HTTP: edited by the rules of accept, hurried, sent again, removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.accept.conftest import Api, body

TEMPLATE: dict[str, Any] = {
    "name": "order",
    "category": "orders",
    "variables": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}},
    "contents": {"en": {"default": {"title": "Order {{ order }}", "text": "Hello"}}},
    "example_data": {"order": "A-77"},
}


async def made(api: Api, **changes: Any) -> str:
    answer = await api.post(body(**changes))
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["id"]
    return found


async def patch(api: Api, one: str, **fields: Any) -> httpx.Response:
    return await api.http.patch(f"/v1/notifications/{one}", json=fields)


async def read(api: Api, one: str) -> dict[str, Any]:
    answer = await api.http.get(f"/v1/notifications/{one}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def finish(api: Api, one: str, status: str = "sent") -> None:
    await api.pool.execute("DELETE FROM work WHERE notification_id = $1", one)
    await api.pool.execute(
        "UPDATE notification SET status = $2, final = true, finished_at = now() WHERE id = $1", one, status
    )


async def template(api: Api) -> None:
    assert (await api.post(TEMPLATE, path="/v1/templates")).status_code == 201
    assert (await api.post({}, path="/v1/templates/order/publish")).status_code == 200


def at(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_what_was_edited_is_shown_and_the_rest_stays(api: Api) -> None:
    one = await made(api, metadata={"trace": "abc"}, on_unknown="hold")
    send_at = at(hours=2)
    answer = await patch(api, one, content={"title": "New", "text": "Text"}, send_at=send_at, priority="low")
    assert (answer.status_code, answer.json()["version"]) == (200, 2), answer.text
    shown = await read(api, one)
    assert shown["content"] == {"title": "New", "text": "Text"}
    assert (shown["status"], shown["priority"]) == ("scheduled", "low")
    assert (shown["metadata"], shown["on_unknown"], shown["to"]) == (
        {"trace": "abc"}, "hold", {"email": "fang@example.com"},
    )  # fmt: skip
    assert moment(shown["expires_at"]) - moment(shown["send_at"]) == timedelta(hours=72), "the lane's own life moves along"
    items = (await api.http.get(f"/v1/notifications/{one}/timeline")).json()["items"]
    [edited] = [item for item in items if item["type"] == "edited"]
    lanes = {"from": "medium", "to": "low"}
    assert edited["detail"] == {"fields": ["content", "send_at", "priority"], "version": 2, **lanes}


async def test_a_posted_span_moves_along_and_a_moment_stays(api: Api) -> None:
    span = await made(api, expires_in="PT2H")
    await patch(api, span, send_at=at(hours=5))
    shown = await read(api, span)
    assert moment(shown["expires_at"]) - moment(shown["send_at"]) == timedelta(hours=2)
    until = at(hours=3)
    fixed = await made(api, expires_at=until)
    refused = await patch(api, fixed, send_at=at(hours=5))
    assert [e["pointer"] for e in refused.json()["errors"]] == ["/send_at"]
    await patch(api, fixed, send_at=at(hours=1))
    assert moment((await read(api, fixed))["expires_at"]) == moment(until)


async def test_null_sends_now(api: Api) -> None:
    one = await made(api, send_at=at(days=30))
    assert (await patch(api, one, send_at=None)).status_code == 200
    shown = await read(api, one)
    assert (shown["status"], shown["send_at"]) == ("accepted", None)
    assert moment(shown["expires_at"]) < datetime.now(UTC) + timedelta(hours=25)


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({}, "", "required"),
        ({"to": {"email": "a@example.com"}}, "/to", "unknown_field"),
        ({"priority": "urgent"}, "/priority", "not_allowed"),
        ({"data": {"order": "1"}}, "/data", "with_template"),
        ({"template": "nothing"}, "/template", "unknown"),
        ({"template": "x", "content": {"text": "x"}}, "/content", "exactly_one"),
        ({"content": {"title": "a\nb"}}, "/content/title", "control_character"),
        ({"content": {"text": ""}}, "/content", "required"),
        ({"expires_in": "PT1H", "expires_at": "2999-01-01T00:00:00Z"}, "/expires_at", "exactly_one"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at", "range"),
        ({"expires_in": 0}, "/expires_in", "range"),
        ({"send_at": "2999-01-01T00:00:00Z"}, "/send_at", "range"),
        ({"send_at": "2026-12-01T09:00:00"}, "/send_at", "format"),
    ],
)
async def test_the_rules_of_accept(api: Api, fields: dict[str, Any], pointer: str, code: str) -> None:
    """One definition: what accept refuses, an edit cannot bring in."""
    one = await made(api)
    answer = await patch(api, one, **fields)
    assert answer.status_code == 422, answer.text
    assert pointer in [e["pointer"] for e in answer.json()["errors"]]
    assert (await read(api, one))["content"] == {"title": "你好", "text": "hello"}


async def test_data_pins_the_published_version_anew(api: Api) -> None:
    await template(api)
    one = await made(api, content=None, template="order", data={"order": "A-1"})
    await api.post({"contents": TEMPLATE["contents"]}, path="/v1/templates/order/versions")
    await api.post({}, path="/v1/templates/order/publish")
    await patch(api, one, priority="low")
    assert (await read(api, one))["template_version"] == 1, "nothing of the content was touched"
    assert (await patch(api, one, data={"order": 5})).status_code == 422
    assert (await patch(api, one, data={"order": "A-2"})).status_code == 200
    shown = await read(api, one)
    assert (shown["template_version"], shown["data"]) == (2, {"order": "A-2"})
    await patch(api, one, content={"text": "plain"})
    shown = await read(api, one)
    assert (shown["template"], shown.get("data"), shown["template_version"]) == (None, None, None)


async def test_too_late_names_the_fence(api: Api) -> None:
    one = await made(api)
    await finish(api, one)
    problem = (await patch(api, one, priority="low")).json()
    assert (problem["status"], problem["code"], problem["fence"]) == (409, "handed_off", "finished")


async def test_sent_again(api: Api) -> None:
    await template(api)
    one = await made(api, to={"user": "u-1"}, content=None, template="order", data={"order": "A-1"}, expires_in="PT2H")
    path = f"/v1/notifications/{one}/resend"
    still = await api.post(b"", path=path)
    assert (still.status_code, still.json()["code"]) == (409, "still_open")
    await finish(api, one, "failed")
    first = await api.post(b"", path=path, key="k")
    assert first.status_code == 202, first.text
    again = await api.post(b"", path=path, key="k")
    assert (again.status_code, again.headers["Idempotent-Replay"], again.json()) == (200, "true", first.json())
    assert (await api.post({"a": 1}, path=path, key="k")).status_code == 409
    old, new = await read(api, one), await read(api, first.json()["id"])
    for name in ("to", "template", "template_version", "data", "category", "app", "priority", "expires_in"):
        assert new[name] == old[name], name
    assert (new["resend_of"], new["status"]) == (one, "accepted")
    assert await api.count("work") == 1
    kinds = [i["type"] for i in (await api.http.get(f"/v1/notifications/{one}/timeline")).json()["items"]]
    assert kinds.count("resent") == 1


async def test_who_is_gone_is_not_written_to_again(api: Api) -> None:
    one = await made(api, to={"user": "u-1"})
    await finish(api, one)
    await api.pool.execute("UPDATE person SET state = 'erased' WHERE id = 'u-1'")
    api.container.accept._recipients._known.clear()
    answer = await api.post(b"", path=f"/v1/notifications/{one}/resend")
    assert (answer.status_code, answer.json()["code"]) == (422, "recipient_gone")
    assert await api.count() == 1


async def test_removed_from_view(api: Api) -> None:
    one = await made(api)
    answer = await api.http.delete(f"/v1/notifications/{one}")
    assert answer.json() == {"id": one, "result": "cancelled", "status": "cancelled", "deleted": True}
    for path in (f"/v1/notifications/{one}", f"/v1/notifications/{one}/timeline"):
        assert (await api.http.get(path)).status_code == 404
    assert (await api.http.get("/v1/notifications")).json()["items"] == []
    assert (await patch(api, one, priority="low")).status_code == 404
    assert await api.count() == 1


async def test_expedited(api: Api) -> None:
    one = await made(api, send_at=at(days=3))
    answer = await api.post(b"", path=f"/v1/notifications/{one}/expedite")
    assert answer.json() == {"id": one, "result": "expedited", "lane": "high"}
    shown = await read(api, one)
    assert (shown["status"], shown["lane"]) == ("accepted", "high")
