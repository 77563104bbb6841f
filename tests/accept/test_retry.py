"""`POST /v1/notifications/retry`: what ended undelivered is tried anew, each once, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.accept.conftest import Api
from tests.accept.test_changes import made, read

RETRY = "/v1/notifications/retry"
NOTHING_PARTIAL: dict[str, Any] = {"reopened": [], "channels": {}}


async def ended(api: Api, status: str = "failed", reason: str | None = "content_refused", **changes: Any) -> str:
    one = await made(api, **changes)
    await api.pool.execute("DELETE FROM work WHERE notification_id = $1", one)
    await api.pool.execute(
        "UPDATE notification SET status = $2, reason = $3, final = true, finished_at = now() WHERE id = $1",
        one, status, reason,
    )  # fmt: skip
    return one


async def retry(api: Api, *, once: str | None = None, **fields: Any) -> dict[str, Any]:
    answer = await api.post(fields, path=RETRY, key=once)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def news(api: Api) -> list[str]:
    """Old ids of which a new notification was made."""
    rows = await api.pool.fetch("SELECT origin::text FROM notification WHERE origin IS NOT NULL ORDER BY origin")
    return [row["origin"] for row in rows]


async def test_a_new_one_for_each_that_fits(api: Api) -> None:
    failed = [await ended(api, priority="low") for _ in range(3)]
    other = await ended(api, reason="retries_exhausted")
    await ended(api, "expired", "expired_before_plan")
    await ended(api, "sent", None)
    await made(api)
    done = await retry(api, status="failed", reason="content_refused")
    counts = {"matched": 3, "retried": 3, "retriable": 3}
    made_of = {one["id"]: one["as"] for one in done.pop("made")}
    assert sorted(made_of) == sorted(failed)
    assert {(await read(api, new))["resend_of"] for new in made_of.values()} == set(failed)
    assert done == {
        "dry_run": False,
        **counts,
        **NOTHING_PARTIAL,
        "skipped": [],
        "skipped_by_code": {},
        "next_cursor": None,
    }
    assert await news(api) == sorted(failed)
    rows = await api.pool.fetch(
        "SELECT n.lane, n.status, n.final, n.expires_at > now() AS lives, w.n FROM notification n "
        "JOIN work w ON w.notification_id = n.id WHERE n.origin IS NOT NULL"
    )
    assert [tuple(row) for row in rows] == [(2, "accepted", False, True, 0)] * 3, "in its own lane, with a life of its own"
    shown = await read(api, failed[0])
    assert (shown["status"], shown["final"]) == ("failed", True), "the old one keeps its end"
    items = (await api.http.get(f"/v1/notifications/{failed[0]}/timeline")).json()["items"]
    assert [item["type"] for item in items].count("resent") == 1
    assert (await retry(api, status="failed"))["retried"] == 1
    assert other in await news(api)


async def test_each_is_tried_anew_once_however_often_and_at_once(api: Api) -> None:
    """Catches: two calls that choose before either has written. Everybody would get two messages."""
    failed = [await ended(api) for _ in range(20)]
    answers = await asyncio.gather(*(retry(api, status="failed") for _ in range(5)))
    assert sum(answer["retried"] for answer in answers) == 20
    assert await news(api) == sorted(failed)
    assert (await retry(api, status="failed"))["matched"] == 0


async def test_the_same_key_gives_the_same_answer(api: Api) -> None:
    [one] = [await ended(api)]
    first = await api.post({"status": "failed"}, path=RETRY, key="a")
    again = await api.post({"status": "failed"}, path=RETRY, key="a")
    assert (first.status_code, again.status_code) == (202, 200)
    assert (again.json(), again.headers["Idempotent-Replay"]) == (first.json(), "true")
    assert await news(api) == [one]
    other = await api.post({"status": "expired"}, path=RETRY, key="a")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    await ended(api)
    at_once = await asyncio.gather(*(retry(api, once="b", status="failed") for _ in range(4)))
    assert all(answer == at_once[0] for answer in at_once)
    assert len(await news(api)) == 2


async def test_a_dry_run_counts_and_does_nothing(api: Api) -> None:
    for _ in range(3):
        await ended(api)
    done = await retry(api, status="failed", dry_run=True)
    counts = {"matched": 3, "retried": 0, "retriable": 3}
    skipped: dict[str, Any] = {"skipped": [], "skipped_by_code": {}, "next_cursor": None}
    assert done == {"dry_run": True, **counts, "made": [], **NOTHING_PARTIAL, **skipped}
    assert await news(api) == []
    one = await ended(api)
    assert (await retry(api, id=one, dry_run=True))["matched"] == 1
    assert await news(api) == []


async def test_a_dry_run_says_what_the_real_one_does(api: Api) -> None:
    """Catches: a count of all that matches the filter, of which the real run then does far less."""
    for _ in range(3):
        await ended(api)
    for options in ('{"test": true}', '{"otp": "01a20a32-744b-7020-809a-bb07e52cad04"}'):
        one = await ended(api)
        await api.pool.execute("UPDATE notification SET options = $2 WHERE id = $1", one, options)
    erased = await ended(api)
    await api.pool.execute("UPDATE notification SET content = NULL WHERE id = $1", erased)
    await ended(api, to={"user": "u-1"}, channels=["email"])
    await api.http.delete("/v1/users/u-1")
    api.container.accept._recipients._known.clear()  # remembered for moments
    said = await retry(api, status="failed", dry_run=True)
    assert await news(api) == []
    done = await retry(api, status="failed")
    assert (said["matched"], said["retriable"]) == (7, 3) == (done["matched"], done["retried"])
    codes = {"content_erased": 1, "is_a_test": 1, "otp_message": 1, "recipient_gone": 1}
    assert said["skipped_by_code"] == done["skipped_by_code"] == codes
    assert said["skipped"] == done["skipped"]
    [first, *_] = await news(api)
    again = await retry(api, id=first, dry_run=True)
    assert (again["retriable"], again["skipped_by_code"]) == (0, {"already_retried": 1})


async def test_a_retry_takes_so_many_a_call_and_goes_on_with_the_cursor(api: Api) -> None:
    """Also past those that cannot be tried: they would otherwise fill every page."""
    for _ in range(3):
        await ended(api)
    gone = [await ended(api, to={"user": "u-1"}, channels=["email"]) for _ in range(2)]
    await api.http.delete("/v1/users/u-1")
    api.container.accept._recipients._known.clear()  # remembered for moments
    seen, cursor, skipped = 0, None, []
    while True:
        done = await retry(api, status="failed", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += done["retried"]
        skipped += done["skipped"]
        cursor = done["next_cursor"]
        if cursor is None:
            break
    assert seen == 3
    assert sorted(skipped, key=lambda one: one["id"]) == [{"id": one, "code": "recipient_gone"} for one in sorted(gone)]


@pytest.mark.parametrize(
    ("status", "code"), [("sent", "arrived"), ("cancelled", "cancelled"), (None, "still_open"), ("failed", None)]
)
async def test_one_by_its_id(api: Api, status: str | None, code: str | None) -> None:
    one = await made(api) if status is None else await ended(api, status, None if status == "sent" else "x")
    done = await retry(api, id=one)
    assert done["skipped"] == ([] if code is None else [{"id": one, "code": code}])
    assert await news(api) == ([one] if code is None else [])
    if code is None:
        assert (await retry(api, id=one))["skipped"] == [{"id": one, "code": "already_retried"}]


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({}, "/status", "exactly_one"),
        ({"channel": "email"}, "/status", "exactly_one"),
        ({"status": "sent"}, "/status", "not_allowed"),
        ({"status": "failed", "limit": 0}, "/limit", "range"),
        ({"status": "failed", "cursor": "x"}, "/cursor", "format"),
        ({"status": "failed", "from": "yesterday"}, "/from", "format"),
        ({"status": "failed", "since": "2026-12-01T00:00:00Z"}, "/since", "unknown_field"),
        ({"id": "01a20a32-744b-7020-809a-bb07e52cad04", "channel": "email"}, "/channel", "with_status"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, fields: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.post(fields, path=RETRY)
    assert answer.status_code == 422, answer.text
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]


async def test_only_this_tenants(api: Api) -> None:
    one = await ended(api)
    await api.pool.execute("UPDATE notification SET tenant = 'other' WHERE id = $1", one)
    assert (await retry(api, status="failed"))["matched"] == 0
    answer = await api.post({"id": one}, path=RETRY)
    assert answer.status_code == 404


async def suppress(api: Api, address: str) -> None:
    await api.pool.execute(
        "INSERT INTO suppression (tenant, channel, address, reason, id)"
        " VALUES ('acme', 'email', $1, 'recipient_refused', gen_random_uuid())", address,
    )  # fmt: skip


async def test_what_cannot_go_out_is_skipped_and_counted(api: Api) -> None:
    """Catches: an address that its 550 has suppressed. A dry run and the real one counted it, and it ended suppressed."""
    gone = await ended(api, reason="recipient_refused", to={"email": "gone@example.com"})
    there = await ended(api, reason="recipient_refused", to={"email": "there@example.com"})
    await suppress(api, "gone@example.com")
    for dry_run in (True, False):
        done = await retry(api, status="failed", dry_run=dry_run)
        assert (done["matched"], done["retriable"], done["retried"]) == (2, 1, 0 if dry_run else 1)
        assert done["skipped"] == [{"id": gone, "code": "address_suppressed"}]
        assert done["skipped_by_code"] == {"address_suppressed": 1}
    assert await news(api) == [there]
    alone = await retry(api, id=gone)
    assert (alone["retried"], alone["made"]) == (0, [])


async def test_a_user_with_a_way_that_is_left_is_tried_anew(api: Api) -> None:
    """The address that a plan would take counts, on each channel; the inbox is always there."""
    person = "INSERT INTO person (tenant, id) VALUES ('acme', $1)"
    identity = (
        "INSERT INTO identity (tenant, person_id, channel, address, id) VALUES ('acme', $1, 'email', $2, gen_random_uuid())"
    )
    for user, addresses in (("u-none", ["a@x.example"]), ("u-two", ["c@x.example", "b@x.example"])):
        await api.pool.execute(person, user)
        for address in addresses:
            await api.pool.execute(identity, user, address)
    for address in ("a@x.example", "b@x.example"):
        await suppress(api, address)
    none = await ended(api, to={"user": "u-none"}, channels=["email"])
    inbox = await ended(api, to={"user": "u-none"}, channels=["email", "inapp"])
    two = await ended(api, to={"user": "u-two"}, channels=["email"])
    done = await retry(api, status="failed")
    assert done["skipped"] == [{"id": none, "code": "address_suppressed"}]
    assert await news(api) == sorted([inbox, two])
