"""The hand-over: as wide as the account's free slots, honest about every message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.base import Content, Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.errors import Broken, Failed, Invalid
from domain.lanes import MOST_INTERNAL_FAILURES
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.giving_back import Returned
from tests.engine.driving import (
    BrokenContents,
    HeldProvider,
    OddProvider,
    SignallingOutcomes,
    accounts_of,
    hand_over,
    handed_over,
)
from tests.engine.support import OK, RETRY, Engine, PlainContents, soon

EMAIL = Channel.EMAIL


async def test_free_slots_are_never_exceeded(engine: Engine) -> None:
    """Catches: claiming without slots. A provider that allows three connections would get a hundred."""
    cohort, ids = await engine.planned(12)
    provider = HeldProvider()
    passing = hand_over(engine, cohort, accounts_of(provider, slots=3))
    loop = asyncio.create_task(passing.account("memory-email"))
    for done in range(0, 12, 3):
        await provider.until(lambda: provider.inside == 3)
        assert sum(r["state"] for r in await engine.work()) >= 3
        await provider.let_go(3)
        await provider.until(lambda done=done: len(provider.sent) == done + 3)  # type: ignore[misc]
    await loop
    await passing.close()
    assert provider.most_inside == 3
    assert sorted(m.notification_id for m in provider.sent) == sorted(ids)


async def test_rows_are_claimed_only_for_free_slots(engine: Engine) -> None:
    """Catches: a claim of the whole cohort. What waits in a killed worker's hand becomes unknown."""
    cohort, _ = await engine.planned(9)
    provider = HeldProvider(max_batch=2)
    passing = hand_over(engine, cohort, accounts_of(provider, slots=2))
    loop = asyncio.create_task(passing.account("memory-email"))
    await provider.until(lambda: provider.inside == 2)
    assert sum(r["state"] for r in await engine.work()) == 4
    await provider.let_go()
    await loop
    await passing.close()
    assert provider.calls == [2, 2, 2, 2, 1]


async def test_a_slow_message_stalls_no_other(engine: Engine) -> None:
    """Catches: a barrier after each window. The slowest of a hundred would set the pace of all."""
    cohort, ids = await engine.planned(10)
    provider = HeldProvider()
    passing = hand_over(engine, cohort, accounts_of(provider, slots=2))
    loop = asyncio.create_task(passing.account("memory-email"))
    await provider.until(lambda: provider.inside == 2)
    slow = provider.waiting[0]
    await provider.let_go_all_but(slow)
    await provider.until(lambda: len(provider.sent) == 9)
    assert provider.waiting == [slow]
    await provider.let_go(1)
    await loop
    await passing.close()
    assert sorted(m.notification_id for m in provider.sent) == sorted(ids)


async def test_a_lone_outcome_is_flushed_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a flush by rows and time only. A lone OTP would wait a tenth of a second for nobody."""
    monkeypatch.setattr("activities.recording.outcomes.FLUSH_AFTER_S", 3600.0)
    cohort, [one] = await engine.planned(1)
    outcomes = SignallingOutcomes(engine.pool)
    passing = hand_over(engine, cohort, engine.accounts, outcomes=outcomes)
    await passing.account("memory-email")
    await outcomes.flushed.wait()
    assert await engine.end(one) == ("sent", None, True)
    await passing.close()


async def test_what_is_not_started_in_time_goes_back_unsent(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: no start_by. Rendering took so long that the claim may be called unknown while it is being sent."""
    monkeypatch.setattr("activities.handing_over.account_loop.CLAIM_WINDOW", timedelta(0))
    cohort, ids = await engine.planned(3)
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[EMAIL].sent == []
    assert [(r["state"], r["faults"], r["failures"]) for r in await engine.work()] == [(0, 0, 0)] * 3
    monkeypatch.undo()
    await handed_over(engine, cohort, engine.accounts)
    assert sorted(m.notification_id for m in engine.providers[EMAIL].sent) == sorted(ids)


async def test_a_step_of_an_older_version_goes_back_unsent(engine: Engine) -> None:
    """Catches: sending what an edit has replaced; and a failure for it, though nothing is wrong with the message."""
    cohort, [one] = await engine.planned(1)
    await engine.pool.execute("UPDATE notification SET version = version + 1")
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[EMAIL].sent == []
    assert [(r["state"], r["attempt"], r["faults"], r["failures"]) for r in await engine.work(one)] == [(0, 1, 0, 0)]
    await engine.pool.execute("UPDATE work SET version = version + 1, due_at = now()")
    await handed_over(engine, cohort, engine.accounts)
    assert await engine.end(one) == ("sent", None, True)


async def test_no_message_leaves_over_another_tenants_account(engine: Engine) -> None:
    """Whatever brought its row there. Catches: a claim that is sent because it names the account."""
    cohort, [one] = await engine.planned(1)
    others, own = MemoryProvider(), MemoryProvider()
    accounts = Accounts([
        Account("memory-email", others, Slots(4), tenant="other"),
        Account("installation", own, Slots(4)),
    ])  # fmt: skip
    passing = hand_over(engine, cohort, accounts)
    await passing.account("memory-email")
    await passing.settle()
    await passing.account("installation")
    await passing.close()
    assert (len(others.sent), len(own.sent)) == (0, 1)
    assert await engine.end(one) == ("sent", None, True)


async def raises(batch: Sequence[Message]) -> Any:
    raise KeyError("a@example.com")


async def hangs(batch: Sequence[Message]) -> Any:
    await asyncio.Event().wait()


async def too_few(batch: Sequence[Message]) -> Any:
    return []


async def cancels_itself(batch: Sequence[Message]) -> Any:
    raise asyncio.CancelledError


async def nonsense(batch: Sequence[Message]) -> Any:
    return [None for _ in batch]


@pytest.mark.parametrize("behaviour", [raises, hangs, too_few, cancels_itself, nonsense])
async def test_an_adapter_that_misbehaves_leaves_the_outcome_open(engine: Engine, behaviour: Any) -> None:
    """Catches: a defect that is taken for a failure (it may have been sent), and one that leaves the row in limbo."""
    cohort, [one] = await engine.planned(1)
    accounts = accounts_of(OddProvider(behaviour))
    await handed_over(engine, cohort, accounts)
    assert await engine.end(one) == ("unknown", "answer_lost", True)
    assert await engine.work() == []
    assert [account.slots.free for account in accounts] == [8]


async def test_one_bad_answer_of_a_batch_spoils_no_other(engine: Engine) -> None:
    """Caught: the results after it were lost with it."""

    async def second_is_nonsense(batch: Sequence[Message]) -> Any:
        return [OK, None, OK]

    cohort, ids = await engine.planned(3)
    await handed_over(engine, cohort, accounts_of(OddProvider(second_is_nonsense, max_batch=3)))
    assert sorted([(await engine.end(i))[0] for i in ids]) == ["sent", "sent", "unknown"]


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ("UPDATE work SET expires_at = now()", ("expired", "expired_before_hand_over", True)),
        ("UPDATE person SET state = 'merged'", ("suppressed", "recipient_gone", True)),
        (
            "INSERT INTO suppression VALUES ('acme', 'email', 'a@example.com', 'complaint')",
            ("suppressed", "address_suppressed", True),
        ),
        ("UPDATE notification SET cancelled_at = now()", ("cancelled", "cancelled_by_request", True)),
    ],
)
async def test_what_must_not_be_sent_any_more_ends_with_its_reason(engine: Engine, change: str, end: Any) -> None:
    """Catches: a hand-over that ignores the claim's verdict."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[EMAIL])
    await engine.pool.execute(change)
    await handed_over(engine, cohort, engine.accounts)
    assert engine.providers[EMAIL].sent == []
    assert await engine.end(one) == end


async def test_a_retry_after_the_end_of_its_life_is_expired(engine: Engine) -> None:
    """The third place where time can run out: the next attempt would come too late."""
    cohort, [one] = await engine.planned(1, expires_at=soon(0.9))
    engine.providers[EMAIL].script(RETRY)
    await handed_over(engine, cohort, engine.accounts)
    assert await engine.end(one) == ("expired", "expired_before_retry", True)


async def test_a_suppressed_address_goes_on_with_the_chain(engine: Engine) -> None:
    """Nothing was sent: the next place is as good as the first."""
    cohort, [one] = await engine.planned(1, user="u-1", channels=[EMAIL, Channel.INAPP], strategy="fallback")
    await engine.pool.execute("INSERT INTO suppression VALUES ('acme', 'email', 'a@example.com', 'complaint')")
    await handed_over(engine, cohort, engine.accounts)
    assert [r["channel"] for r in await engine.work(one)] == ["inapp"]


async def test_a_message_that_cannot_be_made_fails_alone(engine: Engine) -> None:
    """Catches: an exception of one row that ends the loop. Three failures of ours and it is quarantined."""
    cohort, ids = await engine.planned(5)
    bad = ids[2]
    contents = BrokenContents(lambda claim: TypeError("x") if claim.notification_id == bad else None)
    for turn in range(MOST_INTERNAL_FAILURES):
        assert (await engine.end(bad))[2] is False
        await handed_over(engine, cohort, engine.accounts, contents=contents)
        assert [r["faults"] for r in await engine.work()] == [turn + 1][: MOST_INTERNAL_FAILURES - 1 - turn]
        await engine.make_due()
    assert await engine.end(bad) == ("failed", "quarantined", True)
    assert sorted(m.notification_id for m in engine.providers[EMAIL].sent) == sorted(set(ids) - {bad})


async def test_a_template_that_refuses_its_data_fails_at_once(engine: Engine) -> None:
    """Trying again cannot help; the next channel's block may well render."""
    cohort, [one] = await engine.planned(1)
    failure = Invalid.field("/data/name", "required", "The template needs it.")
    await handed_over(engine, cohort, engine.accounts, contents=BrokenContents(lambda _: failure))
    assert await engine.end(one) == ("failed", "template_broken", True)


def _sqlalchemy_away() -> Exception:
    driver = Exception("asyncpg wrapped")
    driver.__cause__ = asyncpg.ConnectionDoesNotExistError("gone")
    return DBAPIError("SELECT", {}, driver)


@pytest.mark.parametrize("failure", [OSError("gone"), asyncpg.InterfaceError("closed"), _sqlalchemy_away(), Failed()])
async def test_a_database_that_is_away_is_no_fault_of_the_row(engine: Engine, failure: Exception) -> None:
    """Caught: templates are read through SQLAlchemy, whose errors are others; fifteen seconds without a database, and
    everything that was just being rendered was quarantined."""
    cohort, [one] = await engine.planned(1)
    for _ in range(MOST_INTERNAL_FAILURES + 1):
        await handed_over(engine, cohort, engine.accounts, contents=BrokenContents(lambda _: failure))
        await engine.make_due()
    assert [(r["state"], r["faults"]) for r in await engine.work()] == [(0, 0)]
    await handed_over(engine, cohort, engine.accounts)
    assert await engine.end(one) == ("sent", None, True)


async def test_a_defect_of_ours_counts_as_a_fault(engine: Engine) -> None:
    """Caught: an error that says of itself that it will not pass was tried again every second, for ever."""
    cohort, [one] = await engine.planned(1)
    for _ in range(MOST_INTERNAL_FAILURES):
        await handed_over(engine, cohort, engine.accounts, contents=BrokenContents(lambda _: Broken()))
        await engine.make_due()
    assert await engine.end(one) == ("failed", "quarantined", True)


async def test_steps_whose_account_was_taken_away_end_with_a_reason(engine: Engine) -> None:
    """Catches: a KeyError that fails the activity, so that the whole cohort is driven again for ever."""
    cohort, ids = await engine.planned(3)
    passing = hand_over(engine, cohort, accounts_of())
    await passing.account("memory-email")
    await passing.close()
    assert not await engine.work()
    for notification_id in ids:
        assert await engine.deliveries(notification_id) == {"email": ("failed", "no_account")}


async def test_what_expires_while_it_is_rendered_is_not_sent(engine: Engine) -> None:
    """Catches: a look at the clock at the claim alone. The first byte may be written seconds later."""
    cohort, [one] = await engine.planned(1, expires_in=timedelta(seconds=2))

    class Slow(PlainContents):
        async def content(self, claim: Claim) -> Content:
            await asyncio.sleep(2)
            return await super().content(claim)

    await handed_over(engine, cohort, engine.accounts, contents=Slow())
    assert engine.providers[EMAIL].sent == []
    assert await engine.end(one) == ("expired", "expired_before_hand_over", True)
    assert (await engine.detail(one, "expired"))["stage"] == "hand_over"


async def test_what_could_not_be_given_back_is_given_back_at_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: it is forgotten when the first try fails, and counts as unknown although not a byte of it left."""
    real, tries = ClaimRepository.give_back, 0

    async def give_back(claims: ClaimRepository, back: Sequence[Returned]) -> None:
        nonlocal tries
        tries += bool(back)
        if back and tries == 1:
            raise RuntimeError("a defect")
        await real(claims, back)

    monkeypatch.setattr(ClaimRepository, "give_back", give_back)
    cohort, [one] = await engine.planned(1)
    passing = hand_over(engine, cohort, engine.accounts, contents=BrokenContents(lambda _: ConnectionError()))
    await passing.account("memory-email")
    with pytest.raises(RuntimeError):
        await passing.settle()
    await passing.close()
    assert [row["state"] for row in await engine.work(one)] == [0]
