"""The proof that the rules are tested: each rule is taken out, and the test that guards it must fail.

docs/architecture.md lists the rules. A test that passes without its rule proves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from domain.rechecks import Verdict
from domain.recording import AttemptOutcome, KnownStep, Recording, record
from tests.engine import (
    test_accepting,
    test_cancel,
    test_caps,
    test_claims,
    test_ends,
    test_epochs,
    test_giving_back,
    test_held_locks,
    test_locks,
    test_losses,
    test_missing_receipts,
    test_odd_rows,
    test_outcomes,
    test_plan_step,
    test_preferences,
    test_receipts,
    test_windows,
)
from tests.engine import test_clock_steps_of_chains as of_chains
from tests.engine.conftest import EMPTY, open_pool
from tests.engine.mutations import ENGINE, RECORDING, Mutations, Swap, Value
from tests.engine.mutations_of_cohorts import OF_COHORTS
from tests.engine.mutations_of_lost import OF_LOST
from tests.engine.mutations_of_receipts import OF_RECEIPTS, reported
from tests.engine.mutations_of_reopening import OF_REOPENING
from tests.engine.support import OK, PERMANENT, RETRY, Engine

NOTIFICATION, _ = test_held_locks.WAYS
NO_LOCK = Swap("locks._LOCK", " FOR UPDATE")
DECIDED_IN_ONE_STATEMENT = (
    NO_LOCK,
    Swap(
        "ends._CLOSED", "SELECT n.id",
        "WITH l AS MATERIALIZED (SELECT id FROM notification WHERE id = ANY ($1) FOR UPDATE) SELECT n.id",
    ),
    Swap("ends._CLOSED", "x(id)\n", "x(id) JOIN l ON l.id = x.id\n"),
)  # fmt: skip
NO_PICK_LOCK = (
    Swap("claims._CLAIM", " FOR UPDATE SKIP LOCKED"),
    Swap(
        "claims._CLAIM", "WHERE ctid = ANY (ARRAY(SELECT tid FROM s)) AND cohort = $1 AND state = 0",
        "WHERE (notification_id, n) IN (SELECT notification_id, n FROM s)",
    ),
    Swap("claims._CLAIM", "SELECT ctid AS tid FROM work", "SELECT notification_id, n FROM work"),
)  # fmt: skip
AT_ONCE = Value("activities.handing_over.losses.Losses._takes", lambda _, __: timedelta(0))
OUTCOMES_FENCED = Swap(
    "outcomes._MATCH", "AND n = o.n FOR UPDATE",
    "AND n = o.n AND cohort IN (SELECT id FROM cohort WHERE epoch = 1) FOR UPDATE",
)  # fmt: skip

WORK_FOR_EVERY_ROW = test_accepting.PLAIN.replace(
    "ON CONFLICT (id) DO NOTHING", "ON CONFLICT (id) DO UPDATE SET app = EXCLUDED.app"
)
CUT_OFF_WITHIN_S = 30.0
CUT_OFF_EVERY_S = 0.5
NOT_CANCELLED = ("n.cancelled_at IS NOT NULL", "false")

changed = test_claims.test_what_changed_since_the_plan_is_seen


def any_outcome_opens_the_next(known: KnownStep, outcome: AttemptOutcome) -> Recording:
    return replace(record(known, outcome), opens_next=outcome.decision.falls_back and outcome.has_next)


MUTATIONS: Mutations = {
    **OF_COHORTS,
    **OF_LOST,
    **OF_RECEIPTS,
    **OF_REOPENING,
    "claim: neither lock nor state": (NO_PICK_LOCK, test_claims.test_two_overlapping_attempts_never_both_get_a_row),
    "claim: waits for locked rows": (
        (Swap("claims._CLAIM", " SKIP LOCKED"),), test_claims.test_a_claim_does_not_wait_for_another,
    ),
    "claim: any epoch": (
        (Swap("claims._CLAIM", "c.epoch = $2", "c.epoch <> $2 + 9"),), test_claims.test_an_old_epoch_claims_nothing,
    ),
    "claim: epochs by row": (
        (Swap("claims._CLAIM", "EXISTS (SELECT FROM cohort c WHERE c.id = $1 AND c.epoch = $2)", "failures + $2 > 0"),),
        test_epochs.test_the_new_epoch_holds_for_every_row,
    ),
    "claim: trusts the plan": (
        (Value(f"{ENGINE}.claimed.verdict", lambda **_: Verdict.SEND),),
        partial(changed, change="UPDATE person SET state = 'erased'", verdict=Verdict.GONE),
    ),
    "claim: consent as it was planned": (
        (Swap("claims._CLAIM", "FROM preference WHERE tenant", "FROM preference WHERE false AND tenant"),),
        partial(changed, change=test_claims.OPT_OUT, verdict=Verdict.OPTED_OUT),
    ),
    "claim: sends what was opted out of": (
        (Value("domain.preferences.Wishes.permit", lambda *_: True),),
        test_preferences.test_an_opt_out_between_plan_and_hand_over_stops_it,
    ),
    "claim: nothing is mandatory": (
        (Swap("claims._CLAIM", "coalesce(g.mandatory, false)", "false"),),
        test_preferences.test_what_is_mandatory_is_sent_all_the_same,
    ),
    "claim: quiet hours as they were planned": (
        (Value("domain.preferences.Wishes.quiet_until", lambda *_, **__: None),),
        test_preferences.test_a_retry_in_quiet_hours_waits_for_their_end,
    ),
    "claim: windows as they were planned": (
        (Value(f"{ENGINE}.claimed.decode_window", lambda _: None),),
        test_windows.test_a_retry_after_its_end_waits_for_the_next_opening,
    ),
    "claim: what is put off is recorded as untried": (
        (Value(f"{RECORDING}.AttemptOutcome.puts_off", False),),
        test_preferences.test_a_retry_in_quiet_hours_waits_for_their_end,
    ),
    "cap: no lock": (
        (Swap("caps._LOCK", " FOR UPDATE"),), test_caps.test_of_two_that_are_planned_at_once_one_gets_the_last_place,
    ),
    "cap: places for what is not planned": (
        (
            Swap(
                "caps._LOCK",
                "FROM work WHERE notification_id = x.id AND n = 0 AND state = 0 AND cohort = $1",
                "FROM notification WHERE id = x.id AND $1::uuid IS NOT NULL",
            ),
        ),
        test_caps.test_what_was_cancelled_before_its_plan_takes_no_place,
    ),
    "cap: whatever became of it": (
        (Swap("caps._USES", "d.status NOT IN ('failed', 'expired', 'cancelled', 'suppressed')", "true"),),
        test_caps.test_what_ends_without_being_sent_gives_its_place_back,
    ),
    "cap: a chain that was never opened": (
        (Swap("caps._USES", "n.final IS NOT TRUE", "true"),),
        test_caps.test_what_ends_without_being_sent_gives_its_place_back,
    ),
    "give back: any attempt": (
        (Swap("giving_back._GIVE_BACK", " AND attempt = g.attempt", " AND g.attempt > 0"),),
        test_claims.test_giving_back_late_leaves_the_next_claim_alone,
    ),
    "give back: what arrived is sent again": (
        (Swap("giving_back._GIVE_BACK", "w.awaiting OR b.came IS NOT NULL", "w.awaiting"),),
        test_outcomes.test_a_resend_given_back_after_the_first_has_arrived_is_not_sent,
    ),
    "lock: below the condition": (
        (Swap("locks._LOCK", " OFFSET 0"),), test_locks.test_a_notification_that_is_not_cancelled_is_locked,
    ),
    "held: what is gone": (
        (Swap("locks._FREE", " OR there.id IS NULL"),), test_held_locks.test_what_is_gone_is_held_by_nobody,
    ),
    "held: waited for each time": (
        (Value(f"{ENGINE}.locks.REMEMBERED_S", 0.0),), test_held_locks.test_what_was_held_is_not_waited_for_again,
    ),
    "held: planned again at once": (
        (Swap("plans._PUT_OFF", ", cohort = NULL"),),
        partial(test_held_locks.test_others_are_planned_and_sent, by=NOTIFICATION),
    ),
    "deadlock: not repeated": (
        (Value(f"{ENGINE}.locks.TRIES", 1),), test_locks.test_a_flush_that_loses_a_deadlock_is_repeated,
    ),
    "plan: no lock against cancel": ((NO_LOCK,), test_cancel.test_a_plan_that_waited_for_a_cancel_plans_nothing),
    "plan: no lock against itself": ((NO_LOCK,), test_plan_step.test_two_attempts_that_plan_at_once_write_one_plan),
    "plan: any epoch": (
        (Swap("plans._WRITE", "c.epoch = $2", "c.epoch <> $2 + 9"),), test_plan_step.test_an_old_epoch_plans_nothing,
    ),
    "plan: poison is everybody's": (
        (Value("activities.cohorts.planning.POISON", ()),), test_plan_step.test_a_row_that_poisons_the_plan_fails_alone,
    ),
    "cancel: no lock": (
        (Swap("cancelling._LOCK", " FOR UPDATE"),), test_cancel.test_a_cancel_that_waited_for_the_plan_stops_its_steps,
    ),
    "flush: no lock against cancel": ((NO_LOCK,), test_cancel.test_no_fallback_follows_a_cancel),
    "cancel: claims do not look": (
        (Swap("claims._CLAIM", *NOT_CANCELLED),),
        test_cancel.test_what_came_back_unsent_after_a_cancel_is_not_sent,
    ),
    "end: no lock": ((NO_LOCK,), test_ends.test_two_channels_that_end_in_the_same_moment),
    "end: lock and decision in one snapshot": (
        DECIDED_IN_ONE_STATEMENT, test_ends.test_two_channels_that_end_in_the_same_moment,
    ),
    "end: open steps do not matter": (
        (Swap("ends._CLOSED", "NOT EXISTS (SELECT FROM work w WHERE w.notification_id = x.id OFFSET 0)", "true"),),
        test_ends.test_it_does_not_end_while_a_channel_is_open,
    ),
    "chain: any outcome opens the next place": (
        (Value(f"{ENGINE}.outcomes.record", any_outcome_opens_the_next),),
        test_ends.test_the_next_place_of_a_chain_is_opened_exactly_once,
    ),
    "outcome: fenced by epoch": ((OUTCOMES_FENCED,), test_outcomes.test_an_outcome_is_recorded_after_a_redrive),
    "outcome: a resend is not taken back": (
        (Value(f"{RECORDING}._outruns_its_resend", lambda *_: False),),
        test_outcomes.test_a_success_takes_back_a_resend_that_has_not_begun,
    ),
    "outcome: what is told again is waited for anew": (
        (Value(f"{RECORDING}._is_awaited", lambda *_: False),),
        partial(of_chains.test_an_answer_told_again_brings_back_no_time_of_the_clock_as_it_was, fails=False),
    ),
    "outcome: what was lost is known to be awaited": (
        (Value(f"{RECORDING}._is_awaited", lambda known, outcome: known.awaiting and outcome.decision.awaiting),),
        test_outcomes.test_of_two_that_were_taken_after_all_the_later_one_is_waited_for,
    ),
    "outcome: unknown is for ever": (
        (Value(f"{RECORDING}.merge", lambda known, _: known), Value(f"{RECORDING}.FINAL", ())),
        test_outcomes.test_a_late_answer_corrects_unknown,
    ),
    "outcome: an assumption always stands": (
        (Value(f"{ENGINE}.outcomes.gives_way", lambda *_: False),),
        test_outcomes.test_two_who_find_the_same_loss_tell_it_once,
    ),
    "events: ids made in the flush": (
        (Swap("outcomes._WRITE", "SELECT id, event, n", "SELECT id, gen_random_uuid(), n"),),
        partial(test_outcomes.test_a_flush_repeated_after_a_lost_commit_writes_nothing_twice, result=OK),
    ),
    "claim: all in hand is what a lost reply took": (
        (Swap("claims._UNHEARD", "AND unknown_at - start_by = $3", "AND $3::interval IS NOT NULL"),),
        test_odd_rows.test_nothing_else_in_hand_is_taken_for_it,
    ),
    "claim: a lost reply is not asked about": (
        (Swap("claims._UNHEARD", "AND state = 1", "AND state = 9"),),
        partial(test_odd_rows.test_what_a_lost_reply_had_claimed_is_sent, cuts=1),
    ),
    "aside: in its cohort": (
        (Swap("setting_aside._ASIDE", "cohort = NULL,"),),
        partial(test_odd_rows.test_what_cannot_be_read_goes_back_and_others_are_sent, what="a channel"),
    ),
    "aside: over what was sent": (
        (Swap("setting_aside._RECORD", "WHERE d.status = 'retrying'"),), test_odd_rows.test_what_was_sent_stays_sent,
    ),
    "lost: as seen before an outage": (
        (Value("activities.handing_over.losses.TOLD_WITHIN_S", 0.0),),
        partial(test_losses.test_after_an_outage_whoever_knows_says_it_first, meets=test_losses.met_by_a_flush),
    ),
    "lost: what this process holds": (
        (Value("activities.handing_over.holding.Holding.held", lambda _: ()),),
        test_losses.test_what_this_process_knows_is_not_lost,
    ),
    "aside: whatever happened since": (
        (Swap("setting_aside._LOOK", "AND faults = x.faults"),), test_odd_rows.test_a_row_set_aside_twice_is_set_aside_once,
    ),
    "lost: by the clock, in a turn": ((AT_ONCE,), test_losses.test_the_turn_of_another_account_calls_nothing_unknown),
    "lost: by the clock, in a sweep": ((AT_ONCE,), test_losses.test_a_sweep_that_has_only_begun_to_look_calls_nothing_lost),
    "give back: a moved one is not sent": (
        (Swap("giving_back._GIVE_BACK", "AND r.receipt IS DISTINCT FROM 'OK'"),),
        test_giving_back.test_what_goes_over_another_account_is_sent_in_its_turn,
    ),
    "give back: nothing is waited for": (
        (Swap("giving_back._GIVE_BACK", "CASE WHEN NOT w.awaiting THEN b.sent_at + b.within END", "now()"),),
        test_giving_back.test_a_lost_attempt_that_arrived_is_waited_for_as_long_as_ever,
    ),
    "outcome: beside what was taken it is sent again": (
        (Value(f"{RECORDING}._waits", lambda *_: False),),
        partial(test_giving_back.test_a_resend_that_does_not_arrive_waits_for_what_was_taken_meanwhile, answer=RETRY),
    ),
    "outcome: beside what was taken its chain goes on": (
        (Value(f"{RECORDING}._waits", lambda *_: False),),
        partial(
            test_giving_back.test_a_resend_that_does_not_arrive_waits_for_what_was_taken_meanwhile, answer=PERMANENT
        ),
    ),
    "outcome: what is delivered is not waited for": (
        (Value(f"{RECORDING}._waits", lambda *_: False),),
        partial(
            test_giving_back.test_a_refusal_beside_a_delivered_message_waits_for_its_being_read, answer=PERMANENT
        ),
    ),
    "outcome: a late refusal settles nothing": (
        (Value(f"{RECORDING}._settles", lambda *_: False),),
        reported(test_receipts.test_a_late_refusal_takes_back_the_resend_that_waits, answer=PERMANENT),
    ),
    "cancel: what was sent counts as stopped": (
        (Swap("cancelling._RECORD", "WHERE d.status NOT IN ('sent', 'delivered', 'read')"),),
        test_missing_receipts.test_cancelling_what_waits_for_a_receipt_keeps_what_was_sent,
    ),
    "accept: work for every row": (
        (
            Value(
                "infra.postgres.accept.accepting.PLAIN",
                WORK_FOR_EVERY_ROW,
            ),
        ),
        test_accepting.test_the_same_rows_again_change_nothing,
    ),
}  # fmt: skip


@pytest.fixture
async def pool(module_database: str) -> AsyncIterator[asyncpg.Pool]:
    """One for each guard, and never closed in peace: a guard that fails leaves tasks behind, and whoever cancels them can
    cut asyncpg off between taking a connection back and having it, which then waits for its return for ever."""
    opened = await open_pool(module_database)
    await opened.execute(EMPTY)
    yield opened
    opened.terminate()


async def cut_off(pool: asyncpg.Pool, *, before: set[asyncio.Task[Any]]) -> None:
    """Ends what a guard has left behind: its connections first, so that nobody has anything to wait for. Over and over:
    whoever brings home what is in hand goes on after he was cancelled, and tries for a while against connections that are
    gone."""
    pool.terminate()
    until_s = time.monotonic() + CUT_OFF_WITHIN_S
    while left := asyncio.all_tasks() - before:
        assert time.monotonic() < until_s, f"these cannot be ended: {left}"
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CUT_OFF_EVERY_S)


@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_guard_fails_without_the_rule(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    mutations, guard = MUTATIONS[name]
    for mutation in mutations:
        mutation.apply(monkeypatch)
    before = asyncio.all_tasks()
    failure: BaseException | None = None
    try:
        await guard(engine)
    except (Exception, pytest.fail.Exception) as error:
        failure = error
    finally:
        await cut_off(engine.pool, before=before)
    assert failure is not None, "the rule was taken out and nothing failed"
    assert not isinstance(failure, asyncpg.SyntaxOrAccessError), failure


async def test_a_guard_that_fails_while_it_gives_back_a_connection_holds_nobody_up(pool: asyncpg.Pool) -> None:
    """Caught: Pool.close() waited two minutes for it, and the teardown of whatever test came last failed."""
    before = asyncio.all_tasks()
    connection = await pool.acquire()
    giving_back = asyncio.create_task(pool.release(connection))
    await asyncio.sleep(0)  # asyncpg's own task for it is there and has not taken its first step
    await cut_off(pool, before=before)
    assert giving_back.done()
    assert pool.get_size() == 0
