"""What arrived on one channel and failed on another: listed with what failed and why, and tried again over that alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.routes.notification_shapes import NotificationPage
from tests.accept.conftest import Api
from tests.accept.test_changes import made, read
from tests.accept.test_retry import RETRY, ended, news, retry, suppress

LIST = "/v1/notifications"
HOOK = "https://hook.example.com/a"
NOTHING_MADE: dict[str, Any] = {"made": [], "skipped": [], "skipped_by_code": {}, "next_cursor": None}


async def person(api: Api) -> None:
    await api.pool.execute(
        "INSERT INTO identity (tenant, person_id, channel, address, id) VALUES "
        "('acme', 'u-1', 'email', 'a@example.com', gen_random_uuid()), ('acme', 'u-1', 'webhook', $1, gen_random_uuid()) "
        "ON CONFLICT DO NOTHING", HOOK,
    )  # fmt: skip


async def partial(
    api: Api,
    *,
    missed: str = "failed",
    reason: str = "endpoint_refused",
    arrived: str = "email",
    failed: str = "webhook",
    **changes: Any,
) -> str:
    """To a user, over two channels, as it ends where one has failed."""
    await person(api)
    one = await made(api, to={"user": "u-1"}, channels=[arrived, failed], **changes)
    await api.pool.execute("DELETE FROM work WHERE notification_id = $1", one)
    await api.pool.executemany(
        "INSERT INTO delivery (notification_id, n, tenant, channel, provider, account, address, status, reason, class,"
        " code, attempts) VALUES ($1, $2, 'acme', $3, 'memory', 'memory', 'x', $4, $5, $6, $7, 1)",
        [(one, 1, arrived, "sent", None, "OK", "250"), (one, 2, failed, missed, reason, "PERMANENT", "404")],
    )
    await api.pool.execute(
        "UPDATE notification SET status = 'sent', partial = true, final = true, finished_at = now() WHERE id = $1", one
    )
    return one


async def listed(api: Api, **filters: Any) -> dict[str, list[str]]:
    """Notification -> its channels that failed, with their reasons."""
    answer = await api.http.get(LIST, params={"partial": "true", **filters})
    assert answer.status_code == 200, answer.text
    NotificationPage.model_validate(answer.json())
    return {
        item["id"]: [f"{one['channel']} {one['status']} {one['reason']}" for one in item["failed_channels"]]
        for item in answer.json()["items"]
    }


async def opened(api: Api) -> list[tuple[str, str]]:
    """Steps that are open again."""
    rows = await api.pool.fetch("SELECT notification_id::text, channel FROM work WHERE n > 0 ORDER BY 1, n")
    return [(row["notification_id"], row["channel"]) for row in rows]


async def test_the_list_says_what_failed_and_why(api: Api) -> None:
    hook = await partial(api)
    mail = await partial(api, arrived="webhook", failed="email", reason="mailbox_full")
    lost = await partial(api, missed="unknown", reason="answer_lost")
    await ended(api)
    await ended(api, "sent", None)
    webhook, email = ["webhook failed endpoint_refused"], ["email failed mailbox_full"]
    unknown = ["webhook unknown answer_lost"]
    assert await listed(api) == {hook: webhook, mail: email, lost: unknown}
    assert await listed(api, channel="webhook") == {hook: webhook, lost: unknown}
    assert await listed(api, reason="mailbox_full") == {mail: email}
    assert await listed(api, channel="email", reason="answer_lost") == {}
    assert await listed(api, status="sent", user="u-1") == {hook: webhook, mail: email, lost: unknown}
    whole = (await api.http.get(LIST, params={"partial": "false"})).json()["items"]
    assert len(whole) == 2
    assert all(item["failed_channels"] == [] for item in whole)
    assert (await read(api, hook))["failed_channels"] == [
        {
            "n": 2,
            "channel": "webhook",
            "status": "failed",
            "reason": "endpoint_refused",
            "class": "PERMANENT",
            "code": "404",
        }
    ]


async def test_what_failed_goes_again_and_nothing_else(api: Api) -> None:
    ones = [await partial(api) for _ in range(3)]
    await partial(api, arrived="webhook", failed="email", reason="mailbox_full")
    await ended(api, reason="endpoint_refused")
    wanted: dict[str, Any] = {"partial": True, "status": "failed", "channel": "webhook"}
    counts = {"matched": 3, "retriable": 3, "channels": {"webhook": 3}, **NOTHING_MADE}
    assert await retry(api, **wanted, dry_run=True) == {"dry_run": True, "retried": 0, "reopened": [], **counts}
    assert await opened(api) == []
    done = await retry(api, **wanted)
    reopened = sorted(done.pop("reopened"), key=lambda one: str(one["id"]))
    assert reopened == [{"id": one, "channels": ["webhook"]} for one in sorted(ones)]
    assert done == {"dry_run": False, "retried": 3, **counts}
    assert await opened(api) == [(one, "webhook") for one in sorted(ones)]
    assert await news(api) == [], "the same notifications go on"
    assert list(await listed(api, channel="webhook")) == []
    shown = await read(api, ones[0])
    assert (shown["status"], shown["final"], shown["partial"], shown["finished_at"]) == ("processing", False, False, None)
    assert [(one["channel"], one["status"]) for one in shown["deliveries"]] == [("email", "sent"), ("webhook", "retrying")]
    items = (await api.http.get(f"{LIST}/{ones[0]}/timeline")).json()["items"]
    assert [(i["n"], i["detail"]) for i in items if i["type"] == "retried"] == [
        (2, {"channel": "webhook", "was": "failed", "reason": "endpoint_refused"})
    ]
    row = await api.pool.fetchrow("SELECT address, account, attempt, expires_at > now() AS lives FROM work WHERE n = 2")
    assert row is not None
    assert tuple(row) == (HOOK, "memory", 2, True)
    assert (await retry(api, **wanted))["matched"] == 0
    assert (await retry(api, id=ones[0], partial=True))["skipped"] == [{"id": ones[0], "code": "still_open"}]


async def test_asked_for_at_once_and_with_keys_each_goes_once(api: Api) -> None:
    ones = [await partial(api) for _ in range(10)]
    wanted: dict[str, Any] = {"partial": True, "status": "failed"}
    answers = await asyncio.gather(*(retry(api, **wanted) for _ in range(4)))
    assert sum(answer["retried"] for answer in answers) == 10
    assert [one for one, _ in await opened(api)] == sorted(ones)
    more = await partial(api)
    keyed = await asyncio.gather(*(retry(api, once="k", **wanted) for _ in range(4)))
    assert all(answer == keyed[0] for answer in keyed)
    assert keyed[0]["reopened"] == [{"id": more, "channels": ["webhook"]}]
    again = await api.post(wanted, path=RETRY, key="k")
    assert (again.status_code, again.json(), again.headers["Idempotent-Replay"]) == (200, keyed[0], "true")
    other = await api.post({**wanted, "channel": "email"}, path=RETRY, key="k")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_so_many_a_call_and_on_with_the_cursor(api: Api) -> None:
    """Also past those that cannot go: they would otherwise fill every page."""
    for _ in range(3):
        await partial(api)
    await suppress(api, "a@example.com")
    stuck = [await partial(api, arrived="webhook", failed="email") for _ in range(2)]
    seen, cursor, skipped = 0, None, []
    while True:
        more: dict[str, Any] = {"cursor": cursor} if cursor else {}
        done = await retry(api, partial=True, status="failed", limit=2, **more)
        seen += done["retried"]
        skipped += [one["id"] for one in done["skipped"] if one["code"] == "address_suppressed"]
        cursor = done["next_cursor"]
        if cursor is None:
            break
    assert (seen, sorted(skipped)) == (3, sorted(stuck))


async def test_what_may_have_arrived_is_asked_for_by_its_name(api: Api) -> None:
    lost = await partial(api, missed="unknown", reason="answer_lost")
    assert (await retry(api, partial=True, status="failed"))["matched"] == 0
    for fields in ({"id": lost}, {"id": lost, "partial": True}):
        assert (await retry(api, **fields))["skipped"] == [{"id": lost, "code": "may_have_arrived"}]
    assert (await retry(api, id=lost, partial=True, status="unknown", dry_run=True))["channels"] == {"webhook": 1}
    assert (await retry(api, partial=True, status="unknown"))["reopened"] == [{"id": lost, "channels": ["webhook"]}]


async def test_one_by_its_id(api: Api) -> None:
    one, whole = await partial(api), await ended(api, "sent", None)
    failed = await ended(api)
    assert (await retry(api, id=one, dry_run=True))["channels"] == {"webhook": 1}
    assert (await retry(api, id=one, partial=True, channel="email"))["skipped"] == [{"id": one, "code": "other_channel"}]
    assert (await retry(api, id=one))["reopened"] == [{"id": one, "channels": ["webhook"]}]
    assert (await retry(api, id=one))["skipped"] == [{"id": one, "code": "still_open"}]
    assert (await retry(api, id=whole, partial=True))["skipped"] == [{"id": whole, "code": "arrived"}]
    assert (await retry(api, id=failed, partial=True))["skipped"] == [{"id": failed, "code": "not_partial"}]
    assert (await retry(api, id=failed))["retried"] == 1


async def test_what_was_sent_anew_as_a_whole_is_left_alone(api: Api) -> None:
    one = await partial(api)
    assert (await api.post(None, path=f"{LIST}/{one}/resend")).status_code == 202
    assert (await retry(api, partial=True, status="failed"))["matched"] == 0
    assert (await retry(api, id=one))["skipped"] == [{"id": one, "code": "already_retried"}]
    assert [each for each, _ in await opened(api)] == []


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"partial": True}, "/status", "exactly_one"),
        ({"partial": True, "status": "suppressed"}, "/status", "not_allowed"),
        ({"partial": True, "status": "delivered"}, "/status", "not_allowed"),
        ({"partial": "yes", "status": "failed"}, "/partial", "type"),
        ({"partial": True, "id": "01a20a32-744b-7020-809a-bb07e52cad04", "app": "x"}, "/app", "with_status"),
        ({"id": "01a20a32-744b-7020-809a-bb07e52cad04", "channel": "email"}, "/channel", "with_status"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.post(fields, path=RETRY)
    assert answer.status_code == 422, answer.text
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]


async def test_only_this_tenants(api: Api) -> None:
    one = await partial(api)
    await api.pool.execute("UPDATE notification SET tenant = 'other' WHERE id = $1", one)
    assert await listed(api) == {}
    assert (await retry(api, partial=True, status="failed"))["matched"] == 0
    for dry_run in (True, False):
        answer = await api.post({"id": one, "partial": True, "dry_run": dry_run}, path=RETRY)
        assert answer.status_code == 404
    assert await opened(api) == []
