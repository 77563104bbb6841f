"""The same to the same recipient within a window is sent once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from domain.channels import Channel
from tests.accept.conftest import Api, body
from tests.digests.conftest import Office
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, PERMANENT

ONCE = {"window": "PT5M"}


async def posted(api: Api, **changes: Any) -> UUID:
    answer = await api.post(body(**{"dedupe": ONCE, **changes}))
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


async def state(api: Api, notification_id: UUID) -> tuple[str, str | None, str | None]:
    found = (await api.http.get(f"/v1/notifications/{notification_id}")).json()
    return found["status"], found["reason"], found.get("duplicate_of")


async def test_a_repeat_is_accepted_and_not_sent(office: Office) -> None:
    first, again = await posted(office.api), await posted(office.api)
    assert await state(office.api, again) == ("suppressed", "duplicate", str(first))
    assert await office.told(again, "suppressed") == [{"reason": "duplicate", "stage": "accept", "of": str(first)}]
    await office.deliver()
    assert office.texts == ["hello"]
    assert (await state(office.api, first))[0] == "sent"


async def test_other_content_recipient_channel_or_key_is_no_repeat(office: Office) -> None:
    api = office.api
    await posted(api)
    await posted(api, dedupe={**ONCE, "key": "k"})
    for changes in (
        {"content": {"text": "other"}}, {"to": {"email": "other@example.com"}}, {"to": {"user": "u-1"}},
        {"to": {"user": "u-1"}, "channels": ["inapp"]}, {"dedupe": {**ONCE, "key": "l"}},
    ):  # fmt: skip
        assert (await state(api, await posted(api, **changes)))[0] == "accepted"


async def test_a_key_stands_for_the_content(office: Office) -> None:
    keyed = {**ONCE, "key": "order-7"}
    first = await posted(office.api, dedupe=keyed)
    again = await posted(office.api, dedupe=keyed, content={"text": "other words"})
    assert (await state(office.api, again))[2] == str(first)


async def test_after_the_window_it_is_sent_again(office: Office) -> None:
    await posted(office.api)
    await office.pool.execute("UPDATE dedupe SET until = now() - interval '1 second'")
    second = await posted(office.api)
    assert (await state(office.api, second))[0] == "accepted"
    assert (await state(office.api, await posted(office.api)))[2] == str(second)


async def test_what_never_arrived_is_no_original(office: Office) -> None:
    """Whoever cancels, or learns of a failure, and sends it anew means it."""
    await office.call(await posted(office.api), "cancel")
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    failed = await posted(office.api)
    await office.deliver()
    assert (await state(office.api, failed))[0] == "failed"
    third = await posted(office.api)
    await office.deliver()
    assert (await state(office.api, third))[0] == "sent"
    assert (await state(office.api, await posted(office.api)))[2] == str(third)


@pytest.mark.parametrize("again", ["retry", "retry many", "resend"])
async def test_a_new_try_is_the_original_from_then_on(office: Office, again: str) -> None:
    """It is on its way: the same that is posted now would be a second one."""
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    failed = await posted(office.api)
    await office.deliver()
    made = await made_again(office, failed, how=again)
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(made))
    await office.deliver()
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(made))
    assert office.texts == ["hello", "hello"]
    assert (await state(office.api, made))[0] == "sent"


async def test_a_new_try_that_fails_is_no_original_either(office: Office) -> None:
    office.engine.providers[Channel.EMAIL].script(PERMANENT, PERMANENT)
    failed = await posted(office.api)
    await office.deliver()
    await made_again(office, failed, how="retry")
    await office.deliver()
    assert (await state(office.api, await posted(office.api)))[0] == "accepted"


async def test_a_new_try_of_what_may_have_arrived_leaves_it_an_original(office: Office) -> None:
    """The first may be there, whatever became of the second."""
    office.engine.providers[Channel.EMAIL].script(LOST, PERMANENT)
    lost = await posted(office.api, on_unknown="hold")
    await office.deliver()
    made = await made_again(office, lost, how="retry")
    await office.deliver()
    assert [(await state(office.api, i))[0] for i in (lost, made)] == ["unknown", "failed"]
    assert (await state(office.api, await posted(office.api)))[0] == "suppressed"


async def test_a_new_try_takes_no_slot_that_another_has_by_now(office: Office) -> None:
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    failed = await posted(office.api)
    await office.deliver()
    second = await posted(office.api)
    await made_again(office, failed, how="retry")
    assert (await state(office.api, await posted(office.api)))[2] == str(second)


async def test_a_new_try_and_the_same_again_at_the_same_time(office: Office) -> None:
    """Whoever comes second waits for the first, and sees what it did."""
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    failed = await posted(office.api)
    await office.deliver()
    gate = Gate("UPDATE dedupe", after=True)
    office.api.container.changes.retries._retries._pool = gated(office.pool, gate)
    retrying = asyncio.create_task(made_again(office, failed, how="retry"))
    await gate.reached.wait()
    posting = asyncio.create_task(posted(office.api))
    await done_or_blocked(office.pool, posting)
    waits = not posting.done()
    gate.open.set()
    assert await state(office.api, await posting) == ("suppressed", "duplicate", str(await retrying))
    assert waits


async def made_again(office: Office, old: UUID, *, how: str) -> UUID:
    """The id of the new one."""
    if how == "resend":
        return UUID((await office.call(old, "resend"))["id"])
    asked = {"id": str(old)} if how == "retry" else {"status": "failed"}
    answer = await office.api.post(asked, path="/v1/notifications/retry")
    assert answer.json()["retried"] == 1, answer.text
    made: UUID = await office.pool.fetchval("SELECT id FROM notification WHERE origin = $1", old)
    return made


async def test_many_at_the_same_time_are_sent_once(office: Office) -> None:
    """Catches: a look before the insert, which two can do at once."""
    single = [posted(office.api, content={"text": str(n % 4)}) for n in range(40)]
    items = [body(dedupe=ONCE, content={"text": str(n)}) for n in range(4)] * 2
    ids, batch = await asyncio.gather(asyncio.gather(*single), office.batch(items))
    every = [*ids, *(UUID(item["id"]) for item in batch)]
    await office.deliver()
    assert sorted(office.texts) == ["0", "1", "2", "3"]
    found = [await state(office.api, i) for i in every]
    assert [s for s, _, _ in found].count("suppressed") == len(every) - 4
    sent = {str(i) for i, (status, _, _) in zip(every, found, strict=True) if status == "sent"}
    assert {original for _, _, original in found} - {None} == sent


async def test_a_repeat_is_not_collected(office: Office) -> None:
    ids = [await office.posted(n, dedupe=ONCE) for n in (1, 1, 2)]
    await office.close()
    assert office.texts == ["2: 1 2"]
    assert await office.state(ids[1]) == ("suppressed", "duplicate")


async def test_a_repeat_is_not_tried_anew(office: Office) -> None:
    await posted(office.api)
    again = await posted(office.api)
    answer = await office.api.post({"id": str(again)}, path="/v1/notifications/retry")
    assert answer.json()["skipped"] == [{"id": str(again), "code": "duplicate"}]


async def test_windows_that_have_ended_are_swept(office: Office) -> None:
    await posted(office.api)
    await office.posted(1, digest={"key": "a", "window": 60, "first": "at_once"})
    await office.posted(1)
    await office.pool.execute(
        "UPDATE dedupe SET until = now() - interval '1 s'; UPDATE digest SET until = now() - interval '1 s'"
    )
    assert await office.engine.accept.forget_slots(limit=10) == 1
    assert (await office.api.count("dedupe"), await office.api.count("digest")) == (0, 1)


async def test_what_may_have_arrived_and_was_cancelled_is_still_the_original(office: Office) -> None:
    """Caught: cancelled while its resend waited, it was taken for what had never been handed over, and the repeat was sent
    to whoever had it already."""
    first = await posted(office.api, on_unknown="resend")
    office.engine.providers[Channel.EMAIL].script(LOST)
    await office.deliver()
    assert (await office.call(first, "cancel"))["may_have_arrived"] == ["email"]
    again = await posted(office.api, on_unknown="resend")
    assert await state(office.api, again) == ("suppressed", "duplicate", str(first))
    await office.deliver()
    assert office.texts == ["hello"]
