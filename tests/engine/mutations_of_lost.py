"""Rules of attempts that may have arrived, to be taken out one by one, each with its guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from domain.lost import Lost, LostAttempt
from domain.recording import AttemptOutcome, KnownStep
from domain.results import ResultClass
from domain.states import SUCCESS, Reason, Status
from tests.engine import test_giving_back as giving_back
from tests.engine import test_may_have_arrived as guards
from tests.engine import test_never_left as never_left
from tests.engine import test_staying as staying
from tests.engine.mutations import ENGINE, RECORDING, Mutations, Swap, Test, Value
from tests.engine.support import PERMANENT, RETRY, Engine
from tests.engine.test_held_locks import WAYS

KEPT = ("d.lost IS NULL", "true")


def knowing(guard: Callable[..., Awaitable[None]], **arguments: Any) -> Test:
    """The guard over providers that recognise a repeated delivery id."""

    async def run(engine: Engine) -> None:
        await guard(Engine.over(engine.pool, idempotent=True), **arguments)

    return run


def the_chain_goes_on(known: KnownStep, outcome: AttemptOutcome) -> AttemptOutcome:
    decision = outcome.decision
    if not known.lost or decision.due_at is not None or decision.status in SUCCESS:
        return outcome
    return replace(outcome, decision=replace(decision, status=Status.UNKNOWN, reason=Reason.ANSWER_LOST))


async def nothing(*_: Any) -> None:
    return


async def nobody(*_: Any) -> set[Any]:
    return set()


def the_last_alone(_: Lost, attempt: LostAttempt, result: ResultClass | None) -> Lost:
    return (attempt,) if result is ResultClass.UNKNOWN else ()


OF_LOST: Mutations = {
    "lost: a cancellation forgets it": (
        (Swap("cancelling._RECORD", *KEPT),), guards.test_cancelling_what_waits_for_its_resend,
    ),
    "lost: the last failure is the end": (
        (Value(f"{RECORDING}._as_known", lambda _, outcome: outcome),),
        partial(guards.test_later_failures_say_nothing_of_the_lost_one, answer=RETRY, because="retries_exhausted"),
    ),
    "lost: what stops the resend is the end": (
        (Value(f"{RECORDING}._as_known", lambda _, outcome: outcome),),
        partial(
            guards.test_what_stops_its_resend_is_told_and_is_not_its_end,
            change=guards.EXPIRE, event="expired", reason="expired_before_hand_over",
        ),
    ),
    "lost: its chain goes on all the same": (
        (Value(f"{RECORDING}._as_known", the_chain_goes_on),),
        knowing(guards.test_its_chain_goes_on_only_where_it_may_come_twice, options=guards.HOLD),
    ),
    "lost: only the last counts": (
        (Value(f"{ENGINE}.step_outcome.after_answer", the_last_alone),),
        partial(guards.test_of_two_that_were_lost_both_must_have_failed, together=False, turned=True),
    ),
    "lost: any answer of who recognises it settles it": (
        (Value("domain.lost._OF_THE_MESSAGE", frozenset(ResultClass)),),
        knowing(guards.test_of_a_message_that_was_not_looked_at_nothing_is_known),
    ),
    "lost: no answer of who recognises it settles it": (
        (Value("domain.lost._OF_THE_MESSAGE", frozenset()),),
        knowing(guards.test_who_recognises_it_and_refuses_it_never_took_it, answer=PERMANENT),
    ),
    "lost: arrived elsewhere, so not here": (
        (Swap("chains._RECORD_STOPPED", *KEPT),),
        guards.test_what_arrived_over_another_channel_does_not_say_that_it_did_not_over_this,
    ),
    "lost: put aside, and forgotten": (
        (Swap("setting_aside._RECORD", *KEPT),),
        partial(guards.test_what_no_version_can_read_any_more, change=guards.EXPIRE, told="expired_before_hand_over"),
    ),
    "lost: a receipt settles all": (
        (Value(f"{ENGINE}.step_reports.after_reports", lambda *_: ()),),
        partial(guards.test_by_its_receipts_it_has_failed_when_all_that_may_have_arrived_did, turned=False),
    ),
    "lost: a receipt settles nothing": (
        (Value(f"{ENGINE}.step_reports.after_reports", lambda lost, _: lost),),
        partial(guards.test_by_its_receipts_it_has_failed_when_all_that_may_have_arrived_did, turned=False),
    ),
    "lost: a receipt has its chain go on all the same": (
        (Value(f"{ENGINE}.step_reports.StepReports.may_resume", property(lambda s: s.evidence is Status.FAILED)),),
        partial(guards.test_a_receipt_has_its_chain_go_on_only_where_it_may_come_twice, options=guards.HOLD),
    ),
    "never left: it is unknown all the same": (
        (Value(f"{ENGINE}.giving_back.take_back_loss", nothing),),
        partial(never_left.test_what_was_locked_while_it_was_to_go_back_is_sent, by=WAYS[0]),
    ),
    "never left: it leaves nothing behind": (
        (Value(f"{ENGINE}.outcomes._Match._may_not_have_begun", False),),
        never_left.test_a_hand_over_that_was_held_up_brings_it_back,
    ),
    "never left: after a cancellation": (
        (Value(f"{ENGINE}.cancelling.forget_rest", nothing),),
        partial(never_left.test_it_does_not_go_on_after_that, change=never_left.cancel),
    ),
    "never left: beside what was sent anew": (
        (Swap("never_left._OPEN_AGAIN", "NOT EXISTS", "true OR NOT EXISTS"),),
        partial(never_left.test_it_does_not_go_on_after_that, change=never_left.send_anew),
    ),
    "never left: whatever has arrived": (
        (Value(f"{ENGINE}.never_left.satisfied", nobody),),
        never_left.test_it_does_not_go_on_where_its_chain_has_arrived,
    ),
    "never left: it was a try": (
        (Swap("never_left._NO_TRY", "w.failures - 1", "w.failures"),),
        never_left.test_its_resend_is_due_and_nothing_is_remembered,
    ),
    "never left: it is forgotten with what was lost beside it": (
        (Value(f"{ENGINE}.never_left.without", lambda *_: ()),), never_left.test_what_was_really_lost_beside_it_stays,
    ),
    "never left: it waits for the calls beside it": (
        (Value("activities.handing_over.holding.Holding.return_meanwhile", nothing),),
        never_left.test_what_goes_back_does_not_wait_for_the_calls_beside_it,
    ),
    "never left: only what is given back": (
        (Value(f"{ENGINE}.outcomes._Match.never_left", False),),
        partial(
            never_left.test_whatever_else_it_came_to_without_a_call, end=never_left.broken, options=never_left.HOLD
        ),
    ),
    "never left: its record says that it was made": (
        (Value(f"{ENGINE}.never_left.not_made", nothing),),
        partial(never_left.test_its_record_says_that_no_attempt_was_made, back=True, options=never_left.HOLD),
    ),
    "never left: its record says that it was made, where it ended": (
        (Value(f"{ENGINE}.outcomes.not_made", nothing),),
        partial(never_left.test_its_record_says_that_no_attempt_was_made, back=False, options=never_left.HOLD),
    ),
    "never left: it waits no longer than its chain beside a real loss": (
        (Swap("never_left._NO_TRY", "attempt > 0", "false"),),
        partial(
            never_left.test_beside_a_real_loss_its_chain_goes_on_only_where_it_may_come_twice, options=never_left.HOLD
        ),
    ),
    "never left: its own end counts": (
        (Value("domain.lost.without", lambda lost, _: lost),),
        partial(
            never_left.test_whatever_else_it_came_to_without_a_call, end=never_left.moved, options=never_left.RESEND
        ),
    ),
    "never left: a place of a chain": (
        (Swap("receipts._STEPS", "json_array_length(d.rest -> 'chain') > 0", "d.rest IS NOT NULL"),),
        never_left.test_a_receipt_ends_it_as_ever,
    ),
    "lost: a failure of the resend moves it": (
        (Value(f"{ENGINE}.claimed.Claim.stays", property(lambda _: False)),),
        partial(staying.test_a_failure_of_its_resend_does_not_move_it, answer=RETRY, policy=staying.HOLD),
    ),
    "lost: an open circuit moves it": (
        (Swap("account_queue._TENANTS", "attempt > 0", "false"), Swap("account_queue._MOVE", "attempt > 0", "false")),
        partial(staying.test_an_account_that_takes_nothing_is_waited_for, hinder=staying.trip, policy=staying.HOLD),
    ),
    "lost: an open circuit moves it, as its lane does": (
        (Swap("account_queue._TENANTS", "IS DISTINCT FROM", "="), Swap("account_queue._MOVE", "IS DISTINCT FROM", "=")),
        partial(staying.test_an_account_that_takes_nothing_is_waited_for, hinder=staying.trip, policy=None),
    ),
    "lost: a resend that ends unsent waits for nothing": (
        (Value("activities.handing_over.decisions.Decider._awaits_earlier", lambda *_: None),),
        partial(
            giving_back.test_a_resend_that_ends_without_a_call_waits_for_what_was_taken_meanwhile, end=giving_back.broken
        ),
    ),
    "lost: put aside, and its chain goes on": (
        (Swap("setting_aside._ASIDE", "THEN a.receipt_by", "THEN now()"),),
        giving_back.test_what_nobody_can_read_waits_for_what_was_taken_meanwhile,
    ),
    "lost: sent over whatever account it stands": (
        (Value("activities.handing_over.decisions.recognised_over", lambda *_: True),),
        staying.test_what_a_version_before_had_moved_is_not_sent,
    ),
}  # fmt: skip
"""Name of a rule -> what takes it out, and the test that must fail then."""
