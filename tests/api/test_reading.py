"""A notification by itself, and its timeline. Rows are written by hand, as the engine would leave them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.routes.notification_shapes import Notification, Timeline
from api.views import masked
from domain.ids import uuid7
from infra.postgres.tenants.account_health import AccountHealthRepository, AccountState
from tests.api.conftest import TENANT, Api, insert_delivery, insert_event, insert_notification, insert_step

PROCESS = uuid7()
NOW = datetime.now(UTC) - timedelta(hours=1)


async def read(api: Api, notification: UUID) -> dict[str, Any]:
    answer = await api.get(f"/v1/notifications/{notification}")
    assert answer.status_code == 200
    Notification.model_validate_json(answer.content)  # what the reference page promises; unknown fields would fail
    shown: dict[str, Any] = answer.json()
    return shown


async def timeline(api: Api, notification: UUID) -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/notifications/{notification}/timeline")
    Timeline.model_validate_json(answer.content)
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_what_was_posted_is_shown(api: Api) -> None:
    posted = {
        "to": {"email": "fang@example.com"}, "channels": ["email"], "strategy": "all",
        "content": {"title": "你好", "text": "hello"}, "priority": "high", "category": "orders",
        "send_at": "2027-06-01T09:00:00+08:00", "on_unknown": "hold", "metadata": {"trace": "abc"},
    }  # fmt: skip
    answer = await api.post("/v1/notifications", {**posted, "expires_in": "PT2H"})
    assert answer.status_code == 202, answer.text
    shown = await read(api, UUID(answer.json()["id"]))
    assert {name: shown[name] for name in posted if name != "send_at"} == {
        k: v for k, v in posted.items() if k != "send_at"
    }
    assert datetime.fromisoformat(shown["send_at"]) == datetime.fromisoformat("2027-06-01T09:00:00+08:00")
    assert datetime.fromisoformat(shown["expires_at"]) == datetime.fromisoformat("2027-06-01T11:00:00+08:00")
    assert (shown["status"], shown["final"], shown["lane"], shown["deliveries"]) == ("scheduled", False, "high", [])


async def test_open_steps_and_records_are_one_list(api: Api) -> None:
    notification = await insert_notification(api.pool, channels=["inapp", "email", "webhook"])
    await insert_delivery(api.pool, notification, n=1, channel="inapp", address="u-1", status="delivered")
    await insert_delivery(api.pool, notification, n=2, status="retrying", **{"class": "RETRY", "code": "451 4.3.0"})
    await insert_step(api.pool, notification, n=2, attempt=1, due_at=NOW)
    await insert_step(api.pool, notification, n=3, channel="webhook", address="https://h.example.com/x/secret", state=1)
    shown = await read(api, notification)
    assert [(d["n"], d["channel"], d["status"]) for d in shown["deliveries"]] == [
        (1, "inapp", "delivered"), (2, "email", "retrying"), (3, "webhook", "processing"),
    ]  # fmt: skip
    assert datetime.fromisoformat(shown["deliveries"][1]["due_at"]) == NOW
    assert [d["address"] for d in shown["deliveries"]] == ["u-1", "f***@example.com", "https://h.example.com/***"]
    assert shown["status"] == "processing"


async def test_every_workflow_that_drove_it_is_linked_once(api: Api) -> None:
    first, second = uuid7(), uuid7()
    notification = await insert_notification(api.pool)
    for epoch, cohort in ((1, first), (1, first), (2, first)):
        await insert_event(api.pool, notification, cohort=cohort, epoch=epoch, at=NOW + timedelta(seconds=epoch))
    await insert_event(api.pool, notification, type="cancelled")
    lease = datetime.now(UTC)
    await api.pool.execute("INSERT INTO cohort (id, lane, epoch, size, lease) VALUES ($1, 1, 4, 1, $2)", second, lease)
    await insert_step(api.pool, notification, cohort=second)
    shown = await read(api, notification)
    assert shown["workflows"] == [
        {"id": f"delivery-{cohort}-{epoch}",
         "url": f"http://ui.test/namespaces/default/workflows/delivery-{cohort}-{epoch}"}
        for cohort, epoch in ((first, 1), (first, 2), (second, 4))
    ]  # fmt: skip


async def test_the_timeline_is_whole_and_in_order(api: Api) -> None:
    cohort = uuid7()
    end = NOW + timedelta(seconds=9)
    notification = await insert_notification(
        api.pool, accepted_at=NOW, finished_at=end, status="failed", final=True, reason="retries_exhausted", lane=0
    )
    late, early = uuid7(), uuid7()
    await insert_event(api.pool, notification, id=late, at=NOW + timedelta(seconds=5), type="attempt", n=1, cohort=cohort,
                       epoch=2, detail='{"attempt": 2, "class": "PERMANENT"}')  # fmt: skip
    await insert_event(
        api.pool, notification, id=early, at=NOW + timedelta(seconds=1), type="planned", cohort=cohort, epoch=1
    )
    same_time = [uuid7() for _ in range(3)]
    for number, event in enumerate(same_time):
        detail = f'{{"attempt": {number}}}'
        await insert_event(
            api.pool, notification, id=event, at=NOW + timedelta(seconds=3), type="attempt", n=1, detail=detail
        )
    items = await timeline(api, notification)
    assert [item["type"] for item in items] == ["accepted", "planned", *["attempt"] * 4, "finished"]
    assert [item["detail"]["attempt"] for item in items[2:6]] == [0, 1, 2, 2]
    assert items[0]["detail"] == {"lane": "high", "app": "shop"}
    assert items[-1]["detail"] == {"status": "failed", "reason": "retries_exhausted"}
    assert items[1]["detail"]["workflow"]["id"] == f"delivery-{cohort}-1"
    assert items[5]["detail"]["workflow"]["id"] == f"delivery-{cohort}-2"
    assert "workflow" not in items[3]["detail"]
    assert "example.com" not in str(items)


async def test_the_first_and_the_last_entry_tell_what_was_then(api: Api) -> None:
    """Caught: `finished status=read` stood before `read`, because both came from the row as it is now."""
    end = NOW + timedelta(seconds=2)
    notification = await insert_notification(
        api.pool, accepted_at=NOW, finished_at=end, status="read", final=True, lane=0, user_id="u-1"
    )
    for seconds, kind, n, detail in (
        (1, "expedited", 0, '{"from": "medium", "to": "high"}'),
        (2, "attempt", 1, '{"attempt": 1, "status": "sent"}'),
        (9, "receipt", 1, '{"status": "delivered"}'),
        (20, "read", 1, None),
    ):
        at = NOW + timedelta(seconds=seconds)
        await insert_event(api.pool, notification, at=at, type=kind, n=n, detail=detail)
    items = await timeline(api, notification)
    assert [item["type"] for item in items] == ["accepted", "expedited", "attempt", "finished", "receipt", "read"]
    assert items[0]["detail"]["lane"] == "medium"
    assert items[3]["detail"] == {"status": "sent", "reason": None}


async def test_expedited_and_edited_tell_both_lanes(api: Api) -> None:
    body = {
        "to": {"email": "a@example.com"},
        "content": {"title": "x"},
        "priority": "low",
        "send_at": "2027-01-01T00:00:00Z",
    }
    one = (await api.post("/v1/notifications", body)).json()["id"]
    assert (await api.call("PATCH", f"/v1/notifications/{one}", json={"priority": "medium"})).status_code == 200
    assert (await api.post(f"/v1/notifications/{one}/expedite")).json()["result"] == "expedited"
    accepted, edited, expedited = [item["detail"] for item in (await timeline(api, UUID(one)))][:3]
    assert accepted["lane"] == "low"
    assert (edited["from"], edited["to"]) == ("low", "medium")
    assert expedited == {"from": "medium", "to": "high"}


async def test_a_removed_notification_is_gone_everywhere(api: Api) -> None:
    notification = await insert_notification(api.pool, deleted_at=datetime.now(UTC))
    for path in ("", "/timeline"):
        assert (await api.get(f"/v1/notifications/{notification}{path}")).status_code == 404
    assert (await api.post(f"/v1/notifications/{notification}/cancel")).status_code == 404
    assert (await api.get("/v1/notifications")).json()["items"] == []


async def test_cancel_says_what_happened_and_says_it_again(api: Api) -> None:
    accepted = await api.post("/v1/notifications", {"to": {"email": "a@example.com"}, "content": {"title": "x"}})
    path = accepted.headers["location"]
    for _ in range(2):
        answer = (await api.post(f"{path}/cancel")).json()
        assert (answer["result"], answer["status"]) == ("cancelled", "cancelled")
    shown = (await api.get(path)).json()
    assert (shown["status"], shown["final"], shown["reason"]) == ("cancelled", True, "cancelled_by_request")
    assert "cancelled" in [item["type"] for item in await timeline(api, UUID(shown["id"]))]


@pytest.mark.parametrize(
    ("channel", "address", "shown"),
    [
        ("email", "fang@example.com", "f***@example.com"),
        ("email", "@example.com", "***@example.com"),
        ("webhook", "https://hooks.example.com:8443/a?token=b", "https://hooks.example.com:8443/***"),
        ("sms", "+8613800000000", "+86***"),
        ("inapp", "u-1", "u-1"),
        ("email", None, None),
    ],
)
def test_addresses_are_masked(channel: str, address: str | None, shown: str | None) -> None:
    assert masked(address, channel=channel) == shown


async def test_an_open_step_says_what_keeps_its_account_from_taking_it(api: Api) -> None:
    """Catches: a message that waits over an account whose circuit is open, and looks like any other that waits."""
    notification = await insert_notification(api.pool)
    await insert_step(api.pool, notification, account="relay-a", due_at=NOW)
    health = AccountHealthRepository(api.pool)

    async def shown(*, account: str = "relay-a", circuit: str = "closed", problem: str | None = None) -> str | None:
        state = AccountState(account, circuit, None, 0.0, 0, 4, None, None, None, problem)
        await health.write(PROCESS, states=[state])
        [step] = (await read(api, notification))["deliveries"]
        found: str | None = step["held_up_by"]
        return found

    await health.sign(PROCESS, name="a:1", accounts_version=1)
    assert await shown() is None
    assert await shown(circuit="open") == "circuit_open"
    assert await shown(circuit="half_open") == "circuit_open"
    assert await shown(problem="credentials_unreadable") == "account_broken"
    assert await shown(problem="refused_by_provider") is None, "its circuit says whether it is called"
    await shown(circuit="open")
    await api.pool.execute("UPDATE work SET state = 1")
    assert await shown(circuit="open") is None, "it is being handed over"
    await api.pool.execute("UPDATE work SET state = 0")
    await api.pool.execute("UPDATE worker SET at = now() - interval '1 minute'")
    assert await shown(circuit="open") is None, "nobody lives who says so"
    await api.pool.execute(
        "INSERT INTO provider_account (id, tenant, name, provider, paused_at) VALUES ('relay-a', $1, 'a', 'smtp', now())",
        TENANT,
    )
    assert await shown() == "account_paused"


async def test_attempts_are_hand_overs_and_not_looks(api: Api) -> None:
    """Catches: ATTEMPTS 1 of a message that waited over a paused account, with nothing handed over."""
    notification = await insert_notification(api.pool, channels=["email", "webhook"])
    await insert_step(api.pool, notification, n=1, attempt=3)
    await insert_step(api.pool, notification, n=2, channel="webhook", address="https://h.example.com/x", attempt=5)
    await insert_delivery(api.pool, notification, n=2, status="retrying", attempts=5, channel="webhook")
    for n, kind in ((0, "planned"), (1, "put_off"), (2, "attempt"), (2, "attempt"), (2, "unknown")):
        await insert_event(api.pool, notification, n=n, type=kind)
    shown = await read(api, notification)
    assert [step["attempts"] for step in shown["deliveries"]] == [0, 2]
