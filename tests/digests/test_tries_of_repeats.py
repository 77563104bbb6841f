"""What is tried anew, however often and from wherever, is one original: any of its tries may have arrived."""

from __future__ import annotations

from importlib import resources
from uuid import UUID

import pytest

from domain.channels import Channel
from infra.postgres.accept import slots
from infra.postgres.migrations import versions
from tests.digests.conftest import Office
from tests.digests.test_repeats import made_again, posted, state
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


async def test_the_first_are_remembered_and_not_without_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_GO_OVER", slots._GO_OVER.replace(f"[:{slots.MOST_TRIES}]", "[:2]"))
    tries = await tried(office, LOST, *[PERMANENT] * 4)
    assert await office.pool.fetchval("SELECT earlier FROM dedupe") == tries[:2]
    assert (await state(office.api, await posted(office.api)))[0] == "suppressed"


async def test_what_another_has_taken_meanwhile_is_left(office: Office) -> None:
    [first, again] = await tried(office, PERMANENT, PERMANENT)
    other = await posted(office.api)
    for old in (again, first):
        await made_again(office, old, how="resend")
        assert (await state(office.api, await posted(office.api)))[2] == str(other)


async def test_tries_of_before_the_migration_are_remembered(office: Office) -> None:
    """The version before remembered the newest alone, and looked one further."""
    tries = await tried(office, LOST, PERMANENT, PERMANENT)
    other = await posted(office.api, content={"text": "other"})
    await office.pool.execute("UPDATE dedupe SET earlier = NULL")
    script = resources.files(versions).joinpath("0033_tries_of_originals.sql").read_text(encoding="utf-8")
    [fill] = [statement for statement in script.split(";") if "UPDATE dedupe" in statement]
    await office.pool.execute(fill)
    rows = await office.pool.fetch("SELECT notification_id, earlier FROM dedupe")
    assert {row["notification_id"]: row["earlier"] for row in rows} == {tries[-1]: tries[:-1], other: None}
