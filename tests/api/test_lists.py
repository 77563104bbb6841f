"""Lists by keyset: nothing is skipped and nothing comes twice, whatever comes in meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.routes.notification_shapes import NotificationPage
from domain.ids import uuid7
from tests.api.conftest import OTHER, Api, insert_delivery, insert_notification, insert_step


@pytest.mark.parametrize("limit", [1, 3, 7, 500])
async def test_notifications_while_others_come_in(api: Api, limit: int) -> None:
    before = [str(await insert_notification(api.pool)) for _ in range(20)]
    seen: list[str] = []
    async for items in api.pages("/v1/notifications", limit=limit):
        assert len(items) <= limit
        seen += [item["id"] for item in items]
        await insert_notification(api.pool)
        await insert_notification(api.pool, tenant=OTHER)
    assert len(seen) == len(set(seen))
    assert [i for i in seen if i in before] == before[::-1]


async def test_notifications_while_a_crowd_writes(api: Api) -> None:
    before = {str(await insert_notification(api.pool)) for _ in range(50)}
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await insert_notification(api.pool)

    writers = [asyncio.create_task(write()) for _ in range(3)]
    try:
        for _ in range(3):
            seen = [item["id"] async for items in api.pages("/v1/notifications", limit=9) for item in items]
            assert len(seen) == len(set(seen))
            assert before <= set(seen)
    finally:
        stop.set()
        await asyncio.gather(*writers)


async def test_users_while_others_come_in(api: Api) -> None:
    before = [f"u-{n:03}" for n in range(0, 60, 3)]
    for user in before:
        await api.pool.execute("INSERT INTO person (tenant, id) VALUES ('acme', $1)", user)
    seen: list[str] = []
    new = iter(range(1, 60, 3))
    async for items in api.pages("/v1/users", limit=4):
        seen += [item["id"] for item in items]
        await api.pool.execute("INSERT INTO person (tenant, id) VALUES ('acme', $1)", f"u-{next(new):03}")
    assert len(seen) == len(set(seen))
    assert [user for user in seen if user in before] == before


async def test_api_keys_and_apps_page_too(api: Api) -> None:
    for path, count in (("/v1/api-keys", 8), ("/v1/apps", 1)):
        seen = [item["id"] async for items in api.pages(path, limit=3) for item in items]
        assert len(seen) == len(set(seen)) == count


async def test_the_last_page_says_so_even_when_it_is_full(api: Api) -> None:
    for _ in range(4):
        await insert_notification(api.pool)
    assert [len(items) async for items in api.pages("/v1/notifications", limit=2)] == [2, 2]


ENDS = {
    "sent": None, "delivered": None, "read": None, "failed": "content_refused", "expired": "expired_before_plan",
    "cancelled": "cancelled_by_request", "suppressed": "no_address", "unknown": "answer_lost",
}  # fmt: skip


async def states(api: Api) -> dict[str, str]:
    """Shown state -> id of one notification in it."""
    now = datetime.now(UTC)
    made = {
        "accepted": await insert_notification(api.pool),
        "scheduled": await insert_notification(api.pool, status="scheduled", send_at=now + timedelta(hours=1)),
        "processing": await insert_notification(api.pool),
        **{
            status: await insert_notification(api.pool, status=status, reason=reason, final=True, finished_at=now)
            for status, reason in ENDS.items()
        },
    }
    for status in ("accepted", "scheduled"):
        await insert_step(api.pool, made[status], n=0, channel=None, account=None, address=None)
    await insert_step(api.pool, made["processing"])
    return {status: str(id_) for status, id_ in made.items()}


async def test_the_filter_agrees_with_what_is_shown(api: Api) -> None:
    made = await states(api)
    due = await insert_notification(api.pool, status="scheduled", send_at=datetime.now(UTC) - timedelta(seconds=1))
    await insert_step(api.pool, due, n=0, channel=None, account=None, address=None)
    for status, id_ in made.items():
        answer = (await api.get("/v1/notifications", params={"status": status})).json()
        NotificationPage.model_validate_json((await api.get("/v1/notifications")).content)
        expected = {id_, str(due)} if status == "accepted" else {id_}
        assert {item["id"] for item in answer["items"]} == expected
        assert {item["status"] for item in answer["items"]} == {status}
        assert (await api.get(f"/v1/notifications/{id_}")).json()["status"] == status


async def test_each_filter(api: Api) -> None:
    now = datetime.now(UTC)
    wanted: dict[str, Any] = {
        "priority": ("high", {"lane": 0}), "app": ("crm", {"app": "crm"}), "category": ("otp", {"category": "otp"}),
        "user": ("u-1", {"user_id": "u-1", "to_channel": None, "to_address": None}),
        "template": ("shipped", {"template": "shipped"}), "channel": ("inapp", {"channels": ["inapp", "email"]}),
        "reason": ("no_address", {"reason": "no_address", "status": "suppressed", "final": True}),
        "final": (True, {"final": True, "status": "sent"}),
        "from": ((now - timedelta(minutes=1)).isoformat(), {}),
        "to": ((now - timedelta(hours=2)).isoformat(), {"accepted_at": now - timedelta(hours=3)}),
    }  # fmt: skip
    other = await insert_notification(
        api.pool, accepted_at=now - timedelta(minutes=90), id=_id_of(now - timedelta(minutes=90))
    )
    for name, (value, columns) in wanted.items():
        extra = {"id": _id_of(columns["accepted_at"])} if "accepted_at" in columns else {}
        mine = str(await insert_notification(api.pool, **columns, **extra))
        found = [item["id"] for item in (await api.get("/v1/notifications", params={name: value})).json()["items"]]
        assert mine in found, name
        assert str(other) not in found, name


async def test_the_channel_filter_knows_what_was_planned(api: Api) -> None:
    routed = await insert_notification(api.pool, channels=[], user_id="u-1", to_channel=None, to_address=None)
    await insert_delivery(api.pool, routed, channel="inapp", provider="inapp")
    found = (await api.get("/v1/notifications", params={"channel": "inapp"})).json()["items"]
    assert [item["id"] for item in found] == [str(routed)]


def _id_of(at: datetime) -> Any:
    """An id made at that time."""
    from uuid import UUID

    return UUID(int=(uuid7().int & ((1 << 80) - 1)) | int(at.timestamp() * 1000) << 80)
