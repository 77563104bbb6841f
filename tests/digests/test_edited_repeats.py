"""What is edited repeats what it says now, and no longer what it said."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import httpx

from domain.channels import Channel
from infra.postgres.engine.edits import EditRepository
from tests.digests.conftest import Office
from tests.digests.test_repeats import ONCE, made_again, posted, state
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, soon

A, B, C = ({"text": text} for text in "ABC")


async def later(office: Office, **changes: Any) -> UUID:
    return await posted(office.api, send_at=soon(86_400).isoformat(), **changes)


async def patch(office: Office, one: UUID, **fields: Any) -> httpx.Response:
    return await office.api.http.patch(f"/v1/notifications/{one}", json=fields)


async def edited(office: Office, one: UUID, **fields: Any) -> None:
    answer = await patch(office, one, **fields)
    assert answer.status_code == 200, answer.text


async def test_it_repeats_what_it_says_now(office: Office) -> None:
    """Caught: A was taken for a repeat of what says B by now, and B was sent twice."""
    first = await later(office, content=A)
    await edited(office, first, content=B, send_at=None)
    a, b = await posted(office.api, content=A), await posted(office.api, content=B)
    assert (await state(office.api, a))[0] == "accepted"
    assert await state(office.api, b) == ("suppressed", "duplicate", str(first))
    await office.deliver()
    assert sorted(office.texts) == ["A", "B"]


async def test_its_window_is_the_one_that_began_when_it_was_posted(office: Office) -> None:
    first = await later(office, content=A)
    until = await office.pool.fetchval("SELECT until FROM dedupe")
    await edited(office, first, content=B)
    assert [tuple(row) for row in await office.pool.fetch("SELECT notification_id, until FROM dedupe")] == [(first, until)]
    await office.pool.execute("UPDATE dedupe SET until = now() - interval '1 second'")
    other = await posted(office.api, content=C)
    await edited(office, first, content=C)
    assert (await state(office.api, await posted(office.api, content=C)))[2] == str(other)


async def test_what_another_says_already_is_refused(office: Office) -> None:
    """Nothing is changed: whoever edits decides whether it is still to be sent as it was."""
    first, other = await later(office, content=A), await later(office, content=B)
    problem = (await patch(office, first, content=B)).json()
    assert (problem["status"], problem["code"], problem["duplicate_of"]) == (409, "duplicate", str(other))
    assert (await office.read(first))["content"] == A
    assert (await state(office.api, await posted(office.api, content=A)))[2] == str(first)
    await office.call(other, "cancel")
    await edited(office, first, content=B)
    assert (await state(office.api, await posted(office.api, content=B)))[2] == str(first)


async def test_what_is_too_late_says_so_first(office: Office) -> None:
    first = await posted(office.api, content=A)
    await posted(office.api, content=B)
    await office.deliver()
    assert (await patch(office, first, content=B)).json()["code"] == "handed_off"


async def test_data_and_back_again(office: Office) -> None:
    """Also there and back, and by a template's data alone."""
    first = await later(office, content=A)
    await edited(office, first, content=B)
    await edited(office, first, content=A)
    assert (await state(office.api, await posted(office.api, content=B)))[0] == "accepted"
    assert (await state(office.api, await posted(office.api, content=A)))[2] == str(first)
    item = await office.posted(1, dedupe=ONCE)
    await edited(office, item, data={"n": 2})
    assert await office.state(await office.posted(2, dedupe=ONCE)) == ("suppressed", "duplicate")
    assert (await office.state(await office.posted(1, dedupe=ONCE)))[0] == "collected"


async def test_a_key_stands_for_whatever_it_says(office: Office) -> None:
    keyed = {**ONCE, "key": "k"}
    first = await later(office, content=A, dedupe=keyed)
    await posted(office.api, content=B)
    await edited(office, first, content=B)
    assert (await state(office.api, await posted(office.api, content=C, dedupe=keyed)))[2] == str(first)


async def test_who_never_asked_for_it_is_not_asked(office: Office) -> None:
    plain = await later(office, content=A, dedupe=None)
    await posted(office.api, content=B)
    await edited(office, plain, content=B)
    assert await office.api.count("dedupe") == 1


async def test_a_new_try_that_is_edited_leaves_the_old_content_to_the_first(office: Office) -> None:
    """The first may have arrived with it. And a new try has its slot from the one that it was made of."""
    office.engine.providers[Channel.EMAIL].script(LOST)
    lost = await posted(office.api, content=A, on_unknown="hold")
    await office.deliver()
    again = await made_again(office, lost, how="retry")
    await edited(office, again, content=B)
    assert (await state(office.api, await posted(office.api, content=A)))[2] == str(lost)
    assert (await state(office.api, await posted(office.api, content=B)))[2] == str(again)


async def test_an_edit_and_the_same_posted_at_the_same_time(office: Office) -> None:
    """Catches: slots that are read without their locks. Who comes second sees what the first has done."""
    first = await later(office, content=A)
    gate = Gate("UPDATE dedupe", after=True)
    office.api.container.changes.edits._repository = EditRepository(gated(office.pool, gate))
    editing = asyncio.create_task(edited(office, first, content=B))
    await gate.reached.wait()
    posting = asyncio.create_task(posted(office.api, content=B))
    await done_or_blocked(office.pool, posting)
    waits = not posting.done()
    gate.open.set()
    await editing
    assert await state(office.api, await posting) == ("suppressed", "duplicate", str(first))
    assert waits
