"""Rules of receipts and of chains that go on after their end, to be taken out one by one, each with its guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from domain.states import SUCCESS, Status
from tests.engine import test_arrived_elsewhere as arrived
from tests.engine import (
    test_missing_receipts,
    test_odd_rows,
    test_outcomes,
    test_receipt_ways,
    test_receipts,
    test_references,
    test_resuming,
)
from tests.engine.mutations import ENGINE, RECORDING, Mutations, Swap, Test, Value
from tests.engine.mutations_of_lost import nobody
from tests.engine.reported_ways import NOT_READ
from tests.engine.reporting import reporting
from tests.engine.support import RETRY, Engine


def reported(guard: Callable[..., Awaitable[None]], **arguments: Any) -> Test:
    """The guard over providers that report."""

    async def run(engine: Engine) -> None:
        await guard(reporting(engine.pool), **arguments)

    return run


class FallbackAlone:
    """A chain by preference is none."""

    ALL = "preferred"
    PREFERRED = "preferred"


OF_RECEIPTS: Mutations = {
    "receipt: what was sent has arrived": (
        (Value(f"{RECORDING}._arrived", lambda known, _: known.status in SUCCESS),),
        test_missing_receipts.test_a_chain_goes_on_when_no_receipt_comes_and_ends_where_it_is_not_needed,
    ),
    "receipt: nobody looks whether it came": (
        (Value(f"{RECORDING}._arrived", lambda *_: False),),
        partial(test_outcomes.test_nothing_follows_a_resend_once_the_first_is_known_to_have_arrived, second=RETRY),
    ),
    "receipt: early ones are not looked for": (
        (Swap("receipts._REPORTED", "(NOT told OR status <> 'sent')", "false"),),
        reported(test_receipts.test_a_receipt_that_is_early_waits_for_our_own_record),
    ),
    "receipt: the latest is true": (
        (Value(f"{ENGINE}.receiving.better", lambda _, news: news),),
        reported(test_receipts.test_the_order_does_not_matter, reports=test_receipts.REPORTS[:2]),
    ),
    "receipt: a repeated flush undoes it": (
        (Swap("receipts._REPORTED", "OR status <> 'sent'"),),
        reported(test_receipts.test_the_order_does_not_matter, reports=[test_receipts.REPORTS[3]]),
    ),
    "receipt: any failure is the step's": (
        (Value(f"{ENGINE}.step_reports.stands", lambda known: next((s for s in known if s == "failed"), "sent")),),
        partial(test_receipt_ways.test_a_step_has_failed_when_all_of_its_messages_have, order="ab"),
    ),
    "receipt: of any account": (
        (Swap("receiving._FIND", "AND detail ->> 'account' = $1 "),),
        reported(test_receipts.test_nobody_reports_on_another_accounts_messages),
    ),
    "receipt: of any attempt": (
        (Swap("receiving._FIND", "AND x.attempt IN (0, (detail ->> 'attempt')::smallint) "),),
        reported(test_references.test_a_reference_counts_only_for_the_account_that_was_given_it),
    ),
    "receipt: each name is a message": (
        (Value(f"{ENGINE}.step_reports.messages_of", lambda reports: list(range(len(reports)))),),
        reported(test_references.test_both_names_are_one_message, status=Status.FAILED),
    ),
    "receipt: told under each name": (
        (Value(f"{ENGINE}.step_reports.StepReports._told_by_another_name", lambda *_: False),),
        reported(test_references.test_both_names_are_one_message, status=Status.DELIVERED),
    ),
    "receipt: what nobody names is not linked": (
        (Value(f"{ENGINE}.linking.reference", lambda *_, attempt: f"nobody's {attempt}"),),
        reported(test_references.test_both_receipts_and_record_of_a_nameless_one, early=True),
    ),
    "receipt: a silent account took nothing": (
        (Value(f"{ENGINE}.step_reports.StepReports._silent", None),),
        test_references.test_what_an_account_that_reports_nothing_took_has_not_failed,
    ),
    "resume: what was cancelled": (
        (Swap("chains._RESUMABLE", "m.cancelled_at IS NULL AND"),), test_resuming.test_not_after_a_recall,
    ),
    "resume: what ended and was cancelled": (
        (Swap("chains._FORGET", "rest IS NOT NULL", "false"),),
        partial(test_resuming.test_not_after_a_cancellation, final=True),
    ),
    "resume: what ended and was recalled": (
        (Swap("chains._FORGET", "rest IS NOT NULL", "false"),), test_resuming.test_not_after_a_recall_of_what_had_ended,
    ),
    "resume: what has expired": (
        (Swap("chains._RESUMABLE", "m.expires_at > now()", "true"),), test_resuming.test_not_after_it_has_expired,
    ),
    "resume: what was made anew": (
        (Swap("chains._RESUMABLE", "type = 'resent'", "false"),),
        test_resuming.test_not_beside_a_new_one_that_was_made_from_it,
    ),
    "resume: what has arrived": (
        (Swap("chains._SATISFIED", "WHERE d.came", "WHERE false AND d.came"),),
        test_resuming.test_nothing_follows_what_arrived_over_another_channel,
    ),
    "resume: the notification stays at its end": (
        (Swap("chains._REOPEN", "final = false", "final = final"),),
        test_resuming.test_failures_reported_after_the_window_resume_a_chain_place_by_place,
    ),
    "receipt: the wait goes on": (
        (Swap("receipts._STOP", "AND state = 0", "AND false"),),
        test_receipt_ways.test_delivered_in_time_ends_the_wait_at_once,
    ),
    "receipt: what follows goes on": (
        (Swap("chains._STOP_OTHERS", "AND state = 0", "AND false"),),
        test_receipt_ways.test_a_late_receipt_takes_back_the_next_channel_and_says_so,
    ),
    "receipt: what is in flight goes on": (
        (Swap("chains._SATISFIED", "WHERE d.came", "WHERE false AND d.came"),),
        partial(test_receipt_ways.test_what_is_in_flight_when_it_arrives_is_the_last, answer=RETRY),
    ),
    "receipt: a look is not made again": (
        (Value(f"{RECORDING}._looks_again", lambda *_: False),),
        partial(
            test_receipt_ways.test_a_receipt_while_somebody_looks, status=Status.DELIVERED,
            options=NOT_READ, sent={"a": 1, "b": 0, "hook": 1},
        ),
    ),
    "elsewhere: only what was named later stops": (
        (Value(f"{ENGINE}.claimed.Strategy", FallbackAlone),),
        partial(arrived.test_neither_a_retry_nor_a_further_place_follows, strategy="preferred", answer=RETRY),
    ),
    "elsewhere: what goes back is sent all the same": (
        (Value(f"{ENGINE}.giving_back.stop_satisfied", nobody),),
        partial(arrived.test_what_cannot_be_rendered_now_is_not_sent_later, strategy="fallback"),
    ),
    "elsewhere: who gives it back knows of no chain": (
        (Value(f"{ENGINE}.claimed.Strategy", FallbackAlone),),
        partial(arrived.test_what_cannot_be_rendered_now_is_not_sent_later, strategy="preferred"),
    ),
    "elsewhere: another version sends it all the same": (
        (Value(f"{ENGINE}.setting_aside.satisfied", nobody),), arrived.test_what_another_version_would_have_sent,
    ),
    "elsewhere: the first answer is that of what was named first": (
        (Value(f"{ENGINE}.claimed._is_first", lambda row, **_: row["n"] == 1),),
        partial(arrived.test_the_first_answer_is_that_of_the_place_that_was_tried_first, strategy="preferred"),
    ),
    "aside: what arrived is sent again": (
        (Swap("setting_aside._ASIDE", "w.awaiting OR a.came IS NOT NULL", "w.awaiting"),),
        arrived.test_a_resend_that_cannot_be_read_is_not_sent_once_the_first_has_arrived,
    ),
    "aside: what was lost may be edited": (
        (Swap("setting_aside._RECORD", "$9::text[]", "array_fill(NULL::text, ARRAY[cardinality($9::text[])])"),),
        test_odd_rows.test_what_was_handed_over_and_lost_cannot_be_edited,
    ),
}  # fmt: skip
