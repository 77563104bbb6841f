"""Rows that this version cannot read or claim, and claims whose reply was lost: none of them spoils another message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from activities.accounts.account import Stop
from activities.handing_over.losses import Losses
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import CLAIM_WINDOW, FLUSH_MARGIN
from domain.results import ResultClass, SendResult
from domain.retries import MOST_ATTEMPTS
from domain.unreadable import ASIDE_WAITS
from infra.clock import ManualClock
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.setting_aside import Unreadable
from tests.engine.driving import accounts_of, hand_over, handed_over
from tests.engine.gates import Cut, gated
from tests.engine.support import RETRY, Engine
from tests.engine.sweeping import DriverTwin, sweep_of
from tests.engine.test_edits import refused

EMAIL = Channel.EMAIL
THROTTLED = SendResult(ResultClass.RATE, code="429", retry_after=timedelta(seconds=1))
TAKES_S = (CLAIM_WINDOW + timedelta(seconds=1) + FLUSH_MARGIN).total_seconds()
ODD = {
    "a channel": "UPDATE work SET channel = 'pigeon' WHERE notification_id = $1",
    "a chain": """UPDATE work SET chain = '[[2, "pigeon", "coop 7"]]' WHERE notification_id = $1""",
    "a chain's shape": "UPDATE work SET chain = '[1]' WHERE notification_id = $1",
    "a wait": """UPDATE notification SET options = '{"fallback_after": "soon"}' WHERE id = $1""",
    "a code": """UPDATE notification SET options = '{"otp": 7}' WHERE id = $1""",
    "a receipt": "UPDATE work SET awaiting = true, receipt = 'EATEN' WHERE notification_id = $1",
}
"""What only another version can read."""
READABLE = "UPDATE work SET channel = 'email', due_at = now() WHERE notification_id = $1"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.recording.patience.RETRY_FIRST_S", 0.001)


async def made_odd(engine: Engine, one: UUID, what: str = "a channel") -> None:
    await engine.pool.execute(ODD[what], one)


@pytest.mark.parametrize("what", ODD)
async def test_what_cannot_be_read_goes_back_and_others_are_sent(engine: Engine, what: str) -> None:
    """Caught: one row of the next version in a claim of sixty-four made the claim fail after it was made. None of them was
    sent, and all became unknown."""
    cohort, [one, odd, three] = await engine.planned(3)
    await made_odd(engine, odd, what)
    await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
    assert [await engine.end(i) for i in (one, three)] == [("sent", None, True)] * 2
    [left] = await engine.work()
    assert (left["notification_id"], left["state"], left["cohort"], left["faults"]) == (odd, 0, None, 1)
    assert await engine.pool.fetchval("SELECT due_at > now() FROM work"), "this worker would take it again at once"


async def test_a_worker_that_can_read_it_sends_it(engine: Engine) -> None:
    """It is given back for those of the next version: a deploy loses nothing."""
    cohort, [odd] = await engine.planned(1)
    await made_odd(engine, odd)
    accounts = accounts_of(MemoryProvider(channel=EMAIL))
    await handed_over(engine, cohort, accounts)
    assert "unknown" not in await engine.events(odd)
    await engine.pool.execute(READABLE, odd)
    await handed_over(engine, await engine.grouped(), accounts)
    assert await engine.end(odd) == ("sent", None, True)


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (f"UPDATE work SET faults = {len(ASIDE_WAITS)}", ("failed", "quarantined")),
        ("UPDATE work SET expires_at = now()", ("expired", "expired_before_hand_over")),
        ("UPDATE notification SET cancelled_at = now()", ("cancelled", "cancelled_by_request")),
    ],
)
async def test_nothing_that_cannot_be_read_is_kept_for_ever(engine: Engine, change: str, end: tuple[str, str]) -> None:
    """Catches: giving back without an end. It would be claimed again and again, and its notification never be final."""
    cohort, [odd] = await engine.planned(1)
    await made_odd(engine, odd)
    await engine.pool.execute(change)
    await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
    assert await engine.end(odd) == (*end, True)
    assert await engine.work() == []
    if end[1] == "quarantined":
        assert (await engine.detail(odd, "quarantined"))["code"] == "ValueError"


async def test_what_was_sent_stays_sent(engine: Engine) -> None:
    """Catches: an end that is written over what an earlier attempt has brought."""
    cohort, [odd] = await engine.planned(1)
    [claim] = await engine.claim(cohort)
    await engine.pool.execute(
        "INSERT INTO delivery (notification_id, n, tenant, channel, status) VALUES ($1, $2, $3, 'email', 'sent')",
        odd, claim.n, claim.tenant,
    )  # fmt: skip
    await engine.pool.execute("UPDATE work SET state = 0, awaiting = true, expires_at = now()")
    await made_odd(engine, odd)
    await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
    assert await engine.end(odd) == ("sent", None, True)


async def lost_odd(engine: Engine) -> tuple[CohortRow, UUID, UUID]:
    """Two that a killed worker had in hand; this version can read one of them."""
    cohort, [odd, one] = await engine.planned(2)
    await engine.claim(cohort)
    await made_odd(engine, odd)
    await engine.lose(odd, ago=timedelta(minutes=1))
    await engine.lose(one)
    return cohort, odd, one


async def test_a_lost_one_that_cannot_be_read_stops_no_recovery(engine: Engine) -> None:
    """Caught: every drive of its cohort failed at it, for ever."""
    cohort, odd, one = await lost_odd(engine)
    losses = Losses(engine.claims, engine.accounts, clock=(clock := ManualClock()))
    assert await losses.of(cohort.id, limit=1) == []
    clock.advance(timedelta(seconds=TAKES_S))
    found = [*await losses.of(cohort.id, limit=1), *await losses.of(cohort.id, limit=1)]
    assert [claim.notification_id for claim in found] == [one], "it is left to others, and stands before nobody"
    assert (await engine.work(odd))[0]["state"] == 1
    await engine.pool.execute("UPDATE work SET expires_at = now()")
    clock.advance(timedelta(seconds=TAKES_S))
    await losses.of(cohort.id, limit=9)
    assert await engine.end(odd) == ("unknown", "answer_lost", True), "when its time is over, nobody waits for others"


async def test_what_was_handed_over_and_lost_cannot_be_edited(engine: Engine) -> None:
    """Caught: the loss had no class, and nothing else was ever handed over. An edit that gave it a longer life planned it
    anew, and it was sent twice."""
    cohort, [one] = await engine.planned(user="u-1", channels=[EMAIL, Channel.WEBHOOK])
    [claim] = await engine.claim(cohort)
    await engine.pool.execute("UPDATE work SET expires_at = now()")
    await engine.claims.set_aside([Unreadable(one, claim.n, claim.attempt, claim.faults, "ValueError")], sent=True)
    assert await engine.deliveries(one) == {"email": ("unknown", "answer_lost")}
    assert await refused(engine, one) == "planned"


async def test_a_duty_of_the_sweep_that_fails_stops_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: windows of receipts stayed open, and nothing was tidied up, as long as one row could not be read. Whatever
    fails in one duty, the others are done."""
    cohort, [one] = await engine.planned(1)
    await engine.answer(await engine.claim(cohort))
    await engine.pool.execute("UPDATE delivery SET receipt_until = now() - interval '1 second'")
    await engine.pool.execute("UPDATE notification SET final = false")

    async def fails(_: object, __: object, *, limit: int) -> None:
        raise LookupError(limit)

    monkeypatch.setattr(Losses, "of", fails)
    with pytest.raises(LookupError):
        await sweep_of(engine, DriverTwin(), clock=ManualClock()).run_once()
    assert await engine.end(one) == ("sent", None, True)


@asynccontextmanager
async def poisoned(engine: Engine, one: UUID, *, when: str = "NEW.state = 1") -> AsyncIterator[None]:
    """This row cannot be claimed (or changed so), and the statement fails at it."""
    await engine.pool.execute(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'poison' USING ERRCODE = 'numeric_value_out_of_range'; END $$"
    )
    await engine.pool.execute(
        "CREATE TRIGGER poison BEFORE UPDATE ON work FOR EACH ROW "
        f"WHEN ({when} AND NEW.notification_id = '{one}') EXECUTE FUNCTION poison()"
    )
    try:
        yield
    finally:
        await engine.pool.execute("DROP TRIGGER poison ON work; DROP FUNCTION poison()")


async def test_one_that_cannot_be_claimed_holds_up_no_other(engine: Engine) -> None:
    """Caught: the claim failed as a whole, and again each time it was repeated: nothing of the cohort was sent."""
    cohort, [one, bad, three] = await engine.planned(3)
    async with poisoned(engine, bad):
        await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
        assert [await engine.end(i) for i in (one, three)] == [("sent", None, True)] * 2
        [left] = await engine.work()
        assert (left["notification_id"], left["cohort"], left["faults"]) == (bad, None, 1)
        await engine.pool.execute("UPDATE work SET expires_at = now(), due_at = now()")
        await handed_over(engine, await engine.grouped(), accounts_of(MemoryProvider(channel=EMAIL)))
        assert await engine.end(bad) == ("expired", "expired_before_hand_over", True)


async def test_a_row_set_aside_twice_is_set_aside_once(engine: Engine) -> None:
    """Caught: a reply of COMMIT that was lost. The repetition found the same attempt, counted a second fault, which is a
    longer wait, and took the row out of the cohort of the version that can read it."""
    cohort, [odd] = await engine.planned(1)
    await made_odd(engine, odd)
    gate = Cut("COMMIT")
    passing = hand_over(engine, cohort, engine.accounts, claims=ClaimRepository(gated(engine.pool, gate)))
    await passing.account("memory-email")
    await passing.close()
    assert gate.times == 0
    [left] = await engine.work()
    assert (left["state"], left["faults"]) == (0, 1)


async def test_a_row_that_cannot_be_set_aside_holds_up_no_other(engine: Engine) -> None:
    """Catches: one statement for all of them, or nothing. The others would stay in hand, and become unknown."""
    cohort, [odd, stuck, one] = await engine.planned(3)
    await made_odd(engine, odd)
    await made_odd(engine, stuck)
    async with poisoned(engine, stuck, when="NEW.faults > OLD.faults"):
        await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
    assert await engine.end(one) == ("sent", None, True)
    assert {row["notification_id"]: (row["state"], row["faults"]) for row in await engine.work()} == {
        odd: (0, 1),
        stuck: (1, 0),
    }


async def test_what_an_outage_kept_in_hand_is_set_aside_at_the_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: rows that are forgotten after the first try, and become unknown though nobody has begun with them."""
    monkeypatch.setattr("activities.recording.patience.HELD_FOR_S", 0.0)
    cohort, [odd] = await engine.planned(1)
    await made_odd(engine, odd)
    gate = Cut("faults = w.faults + 1")
    passing = hand_over(engine, cohort, engine.accounts, claims=ClaimRepository(gated(engine.pool, gate)))
    await passing.account("memory-email")
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await passing.settle()
    assert (await engine.work(odd))[0]["state"] == 1
    await passing.close()
    [left] = await engine.work(odd)
    assert (left["state"], left["faults"]) == (0, 1)


async def test_what_cannot_be_put_off_holds_up_no_sweep(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caught: it was tried for ten minutes within an activity that has one."""
    monkeypatch.setattr("activities.handing_over.losses.WRITTEN_WITHIN_S", 0.0)
    _, odd, _ = await lost_odd(engine)
    gate = Cut("FOR UPDATE", times=1000)
    losses = Losses(ClaimRepository(gated(engine.pool, gate)), engine.accounts, clock=(clock := ManualClock()))
    await losses.of(None, limit=9)
    clock.advance(timedelta(seconds=TAKES_S))
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await losses.of(None, limit=9)
    assert (await engine.work(odd))[0]["state"] == 1


async def test_the_number_of_claims_has_an_end(engine: Engine) -> None:
    """Caught: `smallint out of range`, after a day of answers that asked for a second's wait. What has come so far ends,
    and nothing else with it."""
    cohort, [one, bad] = await engine.planned(2)
    await engine.pool.execute("UPDATE work SET attempt = 32767 WHERE notification_id = $1", bad)
    await handed_over(engine, cohort, accounts_of(MemoryProvider(channel=EMAIL)))
    assert await engine.end(one) == ("sent", None, True)
    assert await engine.end(bad) == ("failed", "quarantined", True)
    assert MOST_ATTEMPTS < 32767


CLAIM = "unknown_at = now() + $6"


@pytest.mark.parametrize("cuts", [1, 3])
async def test_what_a_lost_reply_had_claimed_is_sent(engine: Engine, cuts: int) -> None:
    """Caught: a connection that was cut after the claim was committed. Not a byte of any of its rows had left, and all of
    them became unknown."""
    cohort, ids = await engine.planned(3)
    gate = Cut("FROM work" if cuts > 1 else CLAIM, after=True, times=cuts)
    passing = hand_over(engine, cohort, engine.accounts, claims=ClaimRepository(gated(engine.pool, gate)))
    await passing.account("memory-email")
    await passing.close()
    assert gate.times == 0
    assert [(row["state"], row["start_by"]) for row in await engine.work()] == [(0, None)] * 3
    await handed_over(engine, cohort, engine.accounts)
    assert [await engine.end(i) for i in ids] == [("sent", None, True)] * 3
    assert len(engine.providers[EMAIL].sent) == 3


async def test_nothing_else_in_hand_is_taken_for_it(engine: Engine) -> None:
    """Catches: asking for what the cohort has in hand. What somebody else sends at this moment would be sent twice."""
    cohort, [one, two] = await engine.planned(2)
    [other] = await engine.claim(cohort, limit=1)
    gate = Cut(CLAIM, after=True)
    passing = hand_over(engine, cohort, engine.accounts, claims=ClaimRepository(gated(engine.pool, gate)))
    await passing.account("memory-email")
    await passing.close()
    assert {row["notification_id"]: row["state"] for row in await engine.work()} == {
        i: int(i == other.notification_id) for i in (one, two)
    }


async def test_a_claim_that_comes_through_after_it_was_asked_about_goes_back(engine: Engine) -> None:
    """Catches: asking once. A statement may still be under way when its connection is gone."""
    cohort, [one] = await engine.planned(1)
    gate = Cut(CLAIM)
    claims = ClaimRepository(gated(engine.pool, gate))
    passing = hand_over(engine, cohort, engine.accounts, claims=claims)
    marks: list[timedelta] = []
    asked = claims.unheard

    async def remember(*arguments: UUID, account: str, call_timeout: timedelta, mark: timedelta) -> object:
        marks.append(mark)
        return await asked(*arguments, account=account, call_timeout=call_timeout, mark=mark)

    claims.unheard = remember  # type: ignore[method-assign, assignment]
    await passing.account("memory-email")
    await passing.settle()
    await engine.claims.claim(cohort, account="memory-email", limit=1, call_timeout=timedelta(seconds=1), mark=marks[0])
    await passing.close()
    [left] = await engine.work()
    assert (left["notification_id"], left["state"], left["start_by"]) == (one, 0, None)


async def test_a_claim_knows_of_the_throttle_before_it_and_of_no_other(engine: Engine) -> None:
    """Caught: claims that were only looks counted as throttles, so that the first one was waited for as if it were the
    eighth."""
    cohort, [_] = await engine.planned(1)
    await engine.pool.execute("UPDATE work SET attempt = 6")
    [claim] = await engine.claim(cohort)
    assert claim.throttled is None
    await engine.answer([claim], THROTTLED)
    [claim] = await engine.claim(await time_passed(engine, cohort))
    assert claim.throttled is not None
    assert timedelta(seconds=1) < claim.throttled < timedelta(seconds=3)
    await engine.flush(engine.decider(cohort).unserved(claim, stopped=Stop.PAUSED))
    [claim] = await engine.claim(await time_passed(engine, cohort))
    assert claim.throttled is None, "a stopped account says nothing of how busy it is"
    await engine.answer([claim], RETRY)
    [claim] = await engine.claim(await time_passed(engine, cohort))
    assert claim.throttled is None


async def time_passed(engine: Engine, cohort: CohortRow) -> CohortRow:
    """An hour."""
    await engine.pool.execute("UPDATE work SET due_at = due_at - interval '1 hour'")
    await engine.pool.execute("UPDATE delivery SET updated_at = updated_at - interval '1 hour'")
    return cohort
