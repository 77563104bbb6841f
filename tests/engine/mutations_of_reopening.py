"""Rules of what arrived in part and is tried again, to be taken out one by one, each with its guard."""

from __future__ import annotations

from functools import partial

from domain.partials import Refusal
from domain.states import Status
from infra.postgres.lists import partials
from tests.engine import test_reopening as guards
from tests.engine.mutations import ENGINE, Mutations, Swap, Value
from tests.engine.support import OK


async def excuses_nothing(*_: object) -> None:
    """What was lost counts as before."""


PARTIALS = "infra.postgres.lists.partials"

OF_REOPENING: Mutations = {
    "reopen: two at once": ((Swap("locks._LOCK", " FOR UPDATE"),), guards.test_of_many_who_ask_at_once_one_does_it),
    "reopen: what arrived goes too": (
        (Value(f"{PARTIALS}.MISSED", frozenset(Status)), Value("domain.partials.Wanted.fits", lambda *_: True)),
        guards.test_what_failed_goes_again_and_makes_it_whole,
    ),
    "reopen: what may have arrived goes unasked": (
        (Value("domain.partials.Wanted.fits", lambda *_: True),),
        guards.test_what_may_have_arrived_goes_again_only_when_it_is_asked_for,
    ),
    "reopen: what may have arrived holds it back": (
        (Value(f"{ENGINE}.reopening.keep_lost", excuses_nothing),),
        guards.test_what_may_have_arrived_goes_again_only_when_it_is_asked_for,
    ),
    "reopen: the old failure is the new one's": (
        (Swap("reopening._UNSAID", "AND status = 'failed'", "AND false"),),
        guards.test_a_failure_that_was_reported_before_says_nothing_of_the_new_try,
    ),
    "reopen: its end stands in its record": (
        (Swap("reopening._RETRYING", "status = 'retrying', reason = NULL, "),),
        guards.test_what_failed_goes_again_and_makes_it_whole,
    ),
    "reopen: the numbers of claims begin anew": (
        (Swap("reopening._OPEN", "m.expires_at, x.attempt", "m.expires_at, 0"),),
        partial(guards.test_a_late_word_of_the_first_attempt, answer=OK),
    ),
    "reopen: in a life that is over": (
        (Swap("reopening._REOPEN", "greatest(m.expires_at, now() + x.life)", "m.expires_at"),),
        guards.test_what_has_expired_lives_anew,
    ),
    "reopen: what its digest holds has run out": (
        (Swap("reopening._REOPEN_CARRIED", "greatest(i.expires_at, c.expires_at)", "i.expires_at"),),
        guards.test_what_a_digest_carries_waits_with_it_and_is_whole_with_it,
    ),
    "reopen: what was wanted back": (
        (Value(f"{PARTIALS}._against", lambda row: Refusal.CANCELLED if row["cancelled"] else None),),
        guards.test_what_somebody_wanted_back_does_not_go_again,
    ),
    "reopen: of any tenant": (
        (Value(f"{PARTIALS}._FOUND", partials._FOUND.replace("AND tenant = $1", "AND $1::text IS NOT NULL")),),
        guards.test_another_tenants_is_not_touched,
    ),
}
