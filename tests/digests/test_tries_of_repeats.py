"""What is tried anew, however often and from wherever, is one original: any of its tries may have arrived."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from domain.channels import Channel
from infra.postgres.accept import slots
from tests.digests.conftest import Office
from tests.digests.test_repeats import made_again, posted, state
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, OK, PERMANENT


async def tried(office: Office, *results: object) -> list[UUID]:
    """One and its new tries, each of the one before; what their providers said."""
    office.engine.providers[Channel.EMAIL].script(*results)  # type: ignore[arg-type]
    tries = [await posted(office.api, on_unknown="hold")]
    await office.deliver()
    for _ in results[1:]:
        tries.append(await made_again(office, tries[-1], how="retry"))
        await office.deliver()
    return tries


async def slot(office: Office) -> tuple[UUID, list[UUID]]:
    """Whose the only one is, and the tries before."""
    [row] = await office.pool.fetch("SELECT notification_id, earlier FROM dedupe")
    return row["notification_id"], row["earlier"]


@pytest.mark.parametrize("more", [1, 2, 5])
async def test_after_any_number_of_tries_what_may_have_arrived_is_an_original(office: Office, more: int) -> None:
    """Caught: after two of them it was forgotten, and the same was accepted and sent once more."""
    tries = await tried(office, LOST, *[PERMANENT] * more)
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(tries[-1]))
    await office.deliver()
    assert len(office.texts) == 1 + more


async def test_of_which_none_has_arrived_is_no_original(office: Office) -> None:
    await tried(office, PERMANENT, PERMANENT, PERMANENT)
    again = await posted(office.api)
    assert (await state(office.api, again))[0] == "accepted"
    assert await office.pool.fetchval("SELECT earlier FROM dedupe") is None, "who takes it over has no earlier tries"


async def test_what_is_known_later_counts(office: Office) -> None:
    """A receipt says of the lost one that it failed."""
    [lost, *_] = await tried(office, LOST, PERMANENT, PERMANENT)
    await office.pool.execute("UPDATE notification SET status = 'failed' WHERE id = $1", lost)
    assert (await state(office.api, await posted(office.api)))[0] == "accepted"


async def test_two_new_tries_of_one(office: Office) -> None:
    """The second is made of the first, which has no slot any more, and arrives. Caught: it took no part."""
    [first, again] = await tried(office, PERMANENT, PERMANENT)
    resent = await made_again(office, first, how="resend")
    await office.deliver()
    assert [(await state(office.api, i))[0] for i in (again, resent)] == ["failed", "sent"]
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(resent))


async def test_two_that_are_tried_anew_in_one_call(office: Office) -> None:
    """Both are of one family, whose slot has both from then on."""
    office.engine.providers[Channel.EMAIL].script(PERMANENT, PERMANENT, PERMANENT, OK, PERMANENT)
    first = await posted(office.api)
    await office.deliver()
    for _ in range(2):
        await made_again(office, first, how="resend")
        await office.deliver()
    answer = await office.api.post({"status": "failed"}, path="/v1/notifications/retry")
    assert answer.json()["retried"] == 2
    made = sorted(UUID(one["as"]) for one in answer.json()["made"])
    await office.deliver()
    assert sorted([(await state(office.api, i))[0] for i in made]) == ["failed", "sent"]
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(made[-1]))


async def test_the_first_are_remembered_and_not_without_end(office: Office) -> None:
    """Nor is a try more remembered by the trigger, to which a slot that is full looks like one of the version before."""
    [lost, *failed] = await tried(office, LOST, PERMANENT, PERMANENT)
    full = [lost, *failed[:1] * (slots.MOST_TRIES - 1)]
    await office.pool.execute("UPDATE dedupe SET earlier = $1", full)
    again = await made_again(office, failed[-1], how="resend")
    assert await slot(office) == (again, full)
    assert (await state(office.api, await posted(office.api)))[0] == "suppressed"


async def test_two_new_tries_of_one_family_at_the_same_time(office: Office) -> None:
    """Caught: the second, which had waited for the first, took no part; it arrived, and the same was sent once more."""
    [first, again] = await tried(office, PERMANENT, PERMANENT)
    gate = Gate("UPDATE dedupe", after=True)
    office.api.container.changes.retries._retries._pool = gated(office.pool, gate)
    retrying = asyncio.create_task(made_again(office, again, how="retry"))
    await gate.reached.wait()
    resending = asyncio.create_task(made_again(office, first, how="resend"))
    await done_or_blocked(office.pool, resending)
    waits = not resending.done()
    gate.open.set()
    retried, resent = await retrying, await resending
    assert await slot(office) == (resent, [first, again, retried])
    assert waits


async def test_what_another_has_taken_meanwhile_is_left(office: Office) -> None:
    [first, again] = await tried(office, PERMANENT, PERMANENT)
    other = await posted(office.api)
    for old in (again, first):
        await made_again(office, old, how="resend")
        assert (await state(office.api, await posted(office.api)))[2] == str(other)
