"""A digest that may not go yet goes on collecting: one message when quiet hours or a window end, and not several."""

from __future__ import annotations

import pytest

from domain.ids import uuid7
from domain.windows import Because, PutOff
from tests.digests.conftest import Office, around_now
from tests.engine.support import soon


async def test_quiet_hours_make_one_message(office: Office) -> None:
    await office.quiet()
    ids = [await office.posted(n) for n in (1, 2)]
    await office.close()
    for n in (3, 4):
        ids.append(await office.posted(n))
        await office.close()
    assert office.texts == []
    assert [(await office.state(i))[0] for i in ids] == ["scheduled", "collected", "collected", "collected"]
    [row] = await office.engine.work()
    assert (row["n"], row["due_at"]) == (0, await office.pool.fetchval("SELECT until FROM digest"))
    assert (await office.told(ids[0], "put_off"))[0] == {"reason": "quiet_hours", "until": row["due_at"].isoformat()}
    await office.loud()
    await office.deliver()
    assert office.texts == ["4: 1 2 3 4"]
    assert {await office.state(i) for i in ids} == {("sent", None)}


async def test_a_window_of_the_low_lane_makes_one_message(office: Office) -> None:
    start, end = (f"{at:%H:%M}" for at in around_now())
    closed = {"from": end, "to": start, "time_zone": "UTC"}
    for n in (1, 2, 3):
        await office.posted(n, priority="low", window=closed)
        await office.close()
    assert office.texts == []
    await office.pool.execute("UPDATE notification SET options = options::jsonb - 'window'")
    await office.close()
    assert office.texts == ["3: 1 2 3"]


async def test_what_waits_for_the_morning_can_be_taken_out_changed_and_hurried(office: Office) -> None:
    await office.quiet()
    ids = [await office.posted(n) for n in (1, 2, 3, 4)]
    await office.close()
    assert (await office.call(ids[3], "cancel"))["result"] == "cancelled"
    assert (await office.call(ids[0], "cancel"))["result"] == "cancelled"
    edit = await office.api.http.patch(f"/v1/notifications/{ids[2]}", json={"data": {"n": 30}})
    assert edit.json()["result"] == "edited"
    [row] = await office.engine.work()
    assert (row["notification_id"], row["due_at"]) == (ids[1], await office.pool.fetchval("SELECT until FROM digest"))
    assert (await office.call(ids[2], "expedite"))["result"] == "expedited"
    await office.deliver()
    assert office.texts == ["2: 2 30"]


async def test_a_carrier_that_will_not_live_till_morning_hands_on(office: Office) -> None:
    """Its digest stays open meanwhile: what comes until then goes along."""
    await office.quiet()
    ids = [await office.posted(n) for n in (1, 2)]
    await office.pool.execute("UPDATE work SET expires_at = now() + interval '1 hour'")
    await office.close()
    assert [await office.state(i) for i in ids] == [("expired", "expired_in_quiet_hours"), ("scheduled", None)]
    ids.append(await office.posted(3))
    assert (await office.read(ids[2]))["collected_in"] == str(ids[1])
    await office.loud()
    await office.deliver()
    assert office.texts == ["2: 2 3"]


@pytest.mark.parametrize("meanwhile", ["edited", "cancelled", "driven by another"])
async def test_a_digest_that_somebody_else_has_by_now_is_not_put_off(office: Office, meanwhile: str) -> None:
    one = await office.posted(1)
    await office.engine.make_due()
    cohort = await office.engine.grouped()
    if meanwhile == "edited":
        await office.api.http.patch(f"/v1/notifications/{one}", json={"data": {"n": 10}})
    elif meanwhile == "cancelled":
        await office.call(one, "cancel")
    else:
        await office.pool.execute("UPDATE cohort SET epoch = epoch + 1")
    before = await office.engine.work()
    wait = {one: PutOff(soon(3600), Because.QUIET_HOURS)}
    assert await office.engine.plans.put_off_digests(cohort, waits=wait) == set()
    assert await office.engine.work() == before


async def test_a_digest_that_was_closed_and_not_planned_waits_closed(office: Office) -> None:
    """A worker died between the two: its list is complete, and what comes opens the next."""
    first = await office.posted(1)
    await office.engine.plans.close_digests(uuid7(), [first])
    await office.quiet()
    await office.close()
    [row] = await office.engine.work()
    assert row["n"] == 1
    await office.posted(2)
    await office.loud()
    await office.deliver()
    assert sorted(office.texts) == ["1: 1", "1: 2"]


async def test_a_carrier_that_cannot_be_planned_leaves_no_open_digest(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    await office.pool.execute("UPDATE notification SET channels = '{telex}' WHERE id = $1", ids[0])
    for _ in range(3):
        await office.close()
    assert {await office.state(i) for i in ids} == {("failed", "quarantined")}
    assert await office.api.count("digest") == 0
