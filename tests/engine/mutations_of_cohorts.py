"""Rules of cohorts, to be taken out one by one, each with the test that guards it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from activities.handing_over.account_loop import SLOT_AT_ONCE, AccountLoop
from infra.postgres.engine.account_queue import OVER, bound_of
from tests.engine import test_accounts_free_again as free_again
from tests.engine import (
    test_channels_down,
    test_channels_that_come_back,
    test_epochs,
    test_failover,
    test_grouping,
    test_leaving_accounts,
    test_looks,
    test_permits,
    test_put_off,
    test_sharing_permits,
    test_starter,
    test_taking_on,
    test_throttles,
    test_time_of_places,
)
from tests.engine import test_clock_steps_of_chains as of_chains
from tests.engine.mutations import Mutations, Swap, Value

EXPIRES = test_put_off.test_what_expires_while_its_account_takes_nothing_ends

BOUND = bound_of("w")
LOOP = "activities.handing_over.account_loop.AccountLoop"
_CALL = AccountLoop._call
AHEAD = "clock_steps._BEGUN_AHEAD"


async def once(loop: AccountLoop, *, slot_within: timedelta) -> None:
    """An account that was found to take nothing is not looked at again."""
    if slot_within != SLOT_AT_ONCE:
        await _CALL(loop, slot_within=slot_within)


OF_CLOCKS: Mutations = {
    "clock: what was due keeps its time": (
        (Swap(AHEAD, "w.falls_back_at - $2::interval, now() + s.after", "w.falls_back_at, w.falls_back_at"),),
        of_chains.test_what_was_due_has_what_was_left_to_it,
    ),
    "clock: a retry keeps its time": (
        (Swap(AHEAD, "THEN w.due_at - $2::interval", "THEN w.due_at"),),
        of_chains.test_a_retry_that_lay_ahead_of_that_clock_too_is_made_in_its_time,
    ),
    "clock: a retry stays in its cohort": (
        (Swap(AHEAD, "THEN NULL ELSE w.cohort", "THEN w.cohort ELSE w.cohort"),),
        of_chains.test_a_retry_that_lay_ahead_of_that_clock_too_is_made_in_its_time,
    ),
    "clock: nobody has it in hand": (
        (Swap(AHEAD, "(w.due_at <= $1 OR", "(w.state = 0 AND w.due_at <= $1 OR"),),
        of_chains.test_what_was_in_hand_has_what_was_left_to_it,
    ),
    "clock: what is in hand leaves its cohort": (
        (Swap(AHEAD, "AND w.state = 0 THEN NULL", "THEN NULL"),),
        of_chains.test_what_was_in_hand_has_what_was_left_to_it,
    ),
    "clock: also what began since then": (
        (Swap(AHEAD, "w.falls_back_at - x.after > now() + $3", "w.falls_back_at - x.after > now() - 99 * $3"),),
        of_chains.test_what_began_since_then_keeps_its_time,
    ),
    "clock: also what waits for its window": (
        (Swap(AHEAD, "w.due_at > w.falls_back_at - x.after", "true"),),
        of_chains.test_what_began_since_then_keeps_its_time,
    ),
    "clock: again and again": (
        (
            Swap(AHEAD, "least(w.falls_back_at - $2::interval, now() + s.after)", "w.falls_back_at - $2::interval"),
            Swap(AHEAD, "w.falls_back_at > now() AND w.falls_back_at - x.after > now() + $3::interval",
                 "$3::interval IS NOT NULL"),
        ),
        of_chains.test_looked_for_again_and_again_it_is_moved_once,
    ),
    "clock: whatever is stored is a time": (
        (Swap(AHEAD, "~ '^P", "~ '|^P"),),
        partial(of_chains.test_a_time_that_cannot_be_read_spoils_no_other, odd='{"fallback_after": "soon"}'),
    ),
    "clock: what goes back is due when it was": (
        (Swap("giving_back._GIVE_BACK", "least(greatest(", "least(greatest(w.due_at, "),),
        of_chains.test_what_comes_back_unsent_is_due_at_once,
    ),
}  # fmt: skip

OF_COHORTS: Mutations = {
    "fallback: put off beyond its time": (
        (Swap("account_queue._PARK", f"w.expires_at, {bound_of('w')}, now()", "w.expires_at, now()"),),
        partial(test_channels_down.test_the_next_channel_gets_it_within_the_time, why="throttled"),
    ),
    "fallback: goes back beyond its time": (
        (Swap("giving_back._GIVE_BACK", f"{BOUND} > now()", "false"),),
        test_time_of_places.test_a_claim_that_goes_back_does_not_wait_beyond_it,
    ),
    "fallback: goes back with a time that passed in our outage": (
        (Swap("giving_back._GIVE_BACK", f"falls_back_at = {BOUND},"),),
        test_channels_that_come_back.test_what_a_busy_receiver_bounces_after_an_outage_of_ours_keeps_what_was_left_to_it,
    ),
    "fallback: is put off beyond what was left to it": (
        (Swap("giving_back._GIVE_BACK", f"{BOUND} > now()", "w.falls_back_at > now()"),),
        test_channels_that_come_back.test_what_is_bounced_for_longer_leaves_when_its_time_is_over,
    ),
    "fallback: waits for another version at its own cost": (
        (Swap("setting_aside._ASIDE", f"{BOUND} + a.wait", BOUND),),
        test_channels_that_come_back.test_what_waited_for_another_version_of_ours_has_what_was_left_to_it,
    ),
    "fallback: is hurried with a time that passed in our outage": (
        (Swap("expediting._MOVE", bound_of("work"), "falls_back_at"),),
        test_channels_that_come_back.test_what_is_hurried_after_an_outage_of_ours_has_what_was_left_to_it,
    ),
    "fallback: all leave what took nothing once": (
        (Value(f"{LOOP}._call", once),),
        partial(free_again.test_the_rest_stays_with_an_account_that_takes_something_again, why="slot"),
    ),
    "permits: owed to what leaves": (
        (Swap("permits._LEASE", "least($4::int - granted, $7::int)", "$4::int - granted + 0 * $7::int"),),
        free_again.test_what_leaves_is_owed_no_permit,
    ),
    **OF_CLOCKS,
    "fallback: what is hurried waits as long": (
        (Swap("expediting._MOVE", f"least({bound_of('work')}, now()", f"greatest({bound_of('work')}, now()"),),
        test_time_of_places.test_what_is_hurried_has_its_time_from_now,
    ),
    "fallback: what may be there": (
        (Value("activities.handing_over.decisions._may_be_there", lambda *_: False),),
        partial(test_channels_that_come_back.test_what_may_be_there_already_goes_nowhere_else, why="paused"),
    ),
    "epoch: without the lease": (
        (Swap("cohorts._NEXT_EPOCH", " AND lease < now()"),), test_epochs.test_a_new_epoch_needs_a_lapsed_lease,
    ),
    "epoch: without the old one": (
        (Swap("cohorts._NEXT_EPOCH", "epoch = $2 AND lease < now()", "epoch >= $2"),),
        test_epochs.test_of_two_who_redrive_one_wins,
    ),
    "leave: any epoch": (
        (Swap("cohorts._LOCK", "epoch = $2", "epoch <> $2 + 9"),), test_epochs.test_an_old_epoch_leaves_nothing_behind,
    ),
    "leave: ends whatever is left": (
        (Swap("cohorts._END", " AND NOT EXISTS (SELECT FROM work w WHERE w.cohort = c.id)"),),
        test_epochs.test_a_cohort_ends_only_when_nothing_is_left,
    ),
    "leave: holds everything": (
        (Swap("cohorts._RELEASE", "now() + $2", "now() + $2 + interval '9 days'"),),
        test_epochs.test_what_is_due_beyond_the_horizon_is_released,
    ),
    "leave: a lease as usual": (
        (Swap("cohorts._HOLD", "lease = now() + $4", "lease = now() + least($4, interval '1 minute')"),),
        test_epochs.test_holding_is_told_with_a_lease_that_lasts,
    ),
    "group: no lock": (
        (Swap("cohorts._GROUP_ALL", " FOR UPDATE SKIP LOCKED"),),
        test_grouping.test_a_grouper_passes_by_what_another_is_just_taking,
    ),
    "group: waits": (
        (Swap("cohorts._GROUP_ALL", " SKIP LOCKED"),),
        test_grouping.test_a_grouper_passes_by_what_another_is_just_taking,
    ),
    "group: shares over all who have work": (
        (Swap("cohorts._GROUP_ALL", "FROM firsts WHERE first_due <= now()", "FROM firsts"),),
        test_grouping.test_what_other_tenants_send_later_shrinks_no_cohort,
    ),
    "group: holding cohorts count": (
        (Swap("cohorts._GROUP_ONE", "WHERE lane = $1 AND NOT holding", "WHERE lane = $1"),),
        test_grouping.test_a_lane_has_a_bound_of_cohorts_and_holding_ones_do_not_count,
    ),
    "group: starting ones do not matter": (
        (Swap("cohorts._GROUP_ALL", "AND NOT begun AND", "AND false AND"),),
        test_grouping.test_what_comes_while_cohorts_start_forms_a_larger_one,
    ),
    "group: all open ones count as starting": (
        (Swap("cohorts._GROUP_ALL", "AND NOT begun AND", "AND"),),
        test_grouping.test_what_comes_while_cohorts_start_forms_a_larger_one,
    ),
    "group: starting for ever": (
        (Swap("cohorts._GROUP_ALL", "created_at > now() - $7::interval", "created_at > now() - 9 * $7::interval"),),
        test_grouping.test_a_cohort_that_never_begins_holds_up_nobody_for_long,
    ),
    "group: what somebody takes on": (
        (Swap("cohorts._GROUP_ALL", "takes_until > now() AND", "false AND"),),
        test_taking_on.test_nobody_groups_what_a_cohort_takes_on,
    ),
    "group: taken on for ever": (
        (Swap("cohorts._GROUP_ALL", "takes_until <= now() + $8::interval", "$8::interval IS NOT NULL"),),
        test_taking_on.test_a_killed_worker_holds_up_its_lane_for_moments_only,
    ),
    "take on: no fence": (
        (Swap("admission._ADMIT_ALL", "AND epoch = $5", "AND $5 > 0"),),
        test_taking_on.test_an_epoch_that_was_replaced_takes_nothing,
    ),
    "take on: whoever finds nothing is believed to have gone": (
        (Swap("admission._ADMIT_ALL", " OR takes_until < now() + $6::interval / 2"),),
        test_taking_on.test_whoever_finds_nothing_says_again_that_it_takes_on,
    ),
    "take on: each of two": (
        (Swap("admission._ADMIT_ALL", "o.id < $2", "false"),),
        test_taking_on.test_of_two_that_take_on_the_older_goes_on,
    ),
    "take on: neither of two": (
        (Swap("admission._ADMIT_ALL", "o.id < $2", "o.id <> $2"),),
        test_taking_on.test_of_two_that_take_on_the_older_goes_on,
    ),
    "take on: nothing else is looked at": (
        (Value("activities.cohorts.drive.LOOK_ALL_EVERY_S", float("inf")),),
        test_looks.test_what_others_made_due_in_a_cohort_is_handed_over_with_what_it_takes_on,
    ),
    "left to takers: by any clock": (
        (Swap("cohorts._TAKEN_ON_FOR", "takes_until <= now() + $2::interval", "$2::interval IS NOT NULL"),),
        test_starter.test_no_time_of_another_clock_is_trusted,
    ),
    "take on: bulk too": (
        (Swap("admission._ADMIT_FEW", "<= $7", "> -$7"),),
        test_taking_on.test_one_with_many_is_grouped_while_a_cohort_takes_on_the_few,
    ),
    "enter: a tenant's own takes on": (
        (Swap("admission._ENTER", "AND tenant IS NULL", ""),),
        test_taking_on.test_a_tenants_own_cohort_takes_on_nothing,
    ),
    "group: first come first served": (
        (Swap("cohorts._GROUP_ONE", "WHERE c.lane = $1 AND c.tenant", "WHERE false AND c.lane = $1 AND c.tenant"),),
        test_grouping.test_the_tenant_with_the_fewest_cohorts_under_way_is_next,
    ),
    "group: a tenant may have every place": (
        (Swap("cohorts._GROUP_ONE", "WHERE o.open < $8", "WHERE o.open < $8 + 9"),),
        test_grouping.test_a_tenant_leaves_room_for_those_who_come_later,
    ),
    "park: any epoch": (
        (Swap("account_queue._PARK", "c.epoch = $2", "c.epoch <> $2 + 9"),),
        test_failover.test_an_old_epoch_neither_parks_nor_moves,
    ),
    "move: any epoch": (
        (Swap("account_queue._MOVE", "c.epoch = $2", "c.epoch <> $2 + 9"),),
        test_failover.test_an_old_epoch_neither_parks_nor_moves,
    ),
    "park: all at one moment": (
        (Swap("account_queue._PARK", "* (row_number() OVER (ORDER BY notification_id) - 1)", "* 0"),),
        test_failover.test_permits_park_what_is_over_the_rate_each_to_its_turn,
    ),
    "group: a tenant that is behind gets ever more": (
        (Swap("cohorts._GROUP_ONE", "AND o.behind < $10", "AND $10 > 0"),),
        test_put_off.test_a_tenant_that_waits_for_its_accounts_gets_only_so_many_more_cohorts,
    ),
    "leave: what is tried again counts as behind": (
        (Swap("cohorts._LEFT", "state = 0 AND attempt = 0", "state = 0"),),
        test_put_off.test_what_is_tried_again_in_a_while_holds_up_no_bulk,
    ),
    "park: a shared cohort keeps it": (
        (Swap("account_queue._PARK", "THEN NULL ELSE w.cohort END", "THEN w.cohort ELSE w.cohort END"),),
        test_put_off.test_what_is_put_off_for_long_leaves_a_shared_cohort_and_stays_in_a_tenants_own,
    ),
    "park: a tenant's own loses it": (
        (Swap("account_queue._PARK", "now() + $7::interval)", "now() + $7::interval * 99)"),),
        test_put_off.test_what_is_put_off_for_long_leaves_a_shared_cohort_and_stays_in_a_tenants_own,
    ),
    "park: what has expired": (
        (Swap("account_queue._PARK", "SELECT EXISTS (", "SELECT 0 > 0 OR NOT EXISTS ("),),
        partial(EXPIRES, why="no slot", count=1),
    ),
    "park: what has expired, for a target": (
        (
            Swap("account_queue._PARK_BLOCKED", f"AND NOT (awaiting OR {OVER})", "AND true"),
            Swap("account_queue._PARK_BLOCKED", "SELECT EXISTS (", "SELECT 0 > 0 OR NOT EXISTS ("),
            Swap("claims._CLAIM_OTHERS", "(awaiting OR expires_at <= now()) OR", "false OR"),
        ),
        partial(EXPIRES, why="throttled target", count=1),
    ),
    "park: what waits for no call": (
        (
            Swap("account_queue._TENANTS", f"NOT (awaiting OR {OVER})", "true"),
            Swap("account_queue._PARK", f"AND NOT (awaiting OR {OVER})", f"AND NOT ({OVER})"),
        ),
        test_leaving_accounts.test_a_chain_goes_on_though_the_account_it_leaves_takes_nothing,
    ),
    "move: what waits for no call": (
        (
            Swap("account_queue._TENANTS", f"NOT (awaiting OR {OVER})", "true"),
            Swap("account_queue._MOVE", f"AND NOT (awaiting OR {OVER})", "AND true"),
        ),
        test_leaving_accounts.test_a_missing_receipt_speaks_against_the_account_that_sent,
    ),
    "permits: nothing is owed to the high lane": (
        (Swap("permits._LEASE", "ELSE h.high_first + CASE", "ELSE h.high_first * 0 + CASE"),),
        partial(test_permits.test_the_high_lane_gets_the_next_permit, rate_per_second=2),
    ),
    "permits: owed for ever": (
        (Swap("permits._LEASE", "CASE WHEN owed_until > at AND", "CASE WHEN true OR"),),
        test_permits.test_a_permit_that_nobody_comes_for_is_not_kept_for_ever,
    ),
    "permits: nothing is owed to those that have few": (
        (Swap("permits._LEASE", "< 1 THEN few_owed ELSE 0 END END", "< 1 THEN few_owed * 0 ELSE 0 END END"),),
        test_permits.test_whoever_has_few_gets_the_next_permit_before_bulk,
    ),
    "permits: few may have all": (
        (Swap("permits._LEASE", "least(s.bulk_due + s.granted, $8::float8)", "least(s.bulk_due, $8::float8)"),),
        partial(test_sharing_permits.test_bulk_has_half_beside_endless_few, rate=10, count=3),
    ),
    "permits: nobody has one before it is there": (
        (Value("domain.permits.AHEAD_S", 0.0), Value("infra.postgres.engine.permits.AHEAD_S", 0.0)),
        partial(
            test_sharing_permits.test_whoever_is_alone_loses_nothing, rate=15, askers=[test_sharing_permits.ENDLESS_FEW]
        ),
    ),
    "permits: bulk does not stay": (
        (Swap("permits._LEASE", "AND next_s <= $10::float8", "AND next_s <= 0 * $10::float8"),),
        partial(test_sharing_permits.test_bulk_has_half_beside_endless_few, rate=8, count=1),
    ),
    "permits: all of bulk stays": (
        (Swap("permits._LEASE", "OR NOT bulk_next OR $12::bool", "OR true OR NOT bulk_next OR $12::bool"),),
        test_sharing_permits.test_one_cohort_stays_for_the_next_permit,
    ),
    "permits: few leave none to bulk that stays": (
        (Swap("permits._LEASE", "WHEN bulk_next AND bulk_due >= 1 THEN 1", "WHEN bulk_next AND bulk_due >= 1 THEN 0"),),
        partial(test_sharing_permits.test_bulk_that_is_late_for_the_next_permit_has_half, rate=10),
    ),
    "permits: what was granted ahead is owed at any rate": (
        (Swap("permits._LEASE", "greatest(left_over, -$2::float8)", "least(left_over, $2::float8)"),),
        test_permits.test_what_was_granted_ahead_is_owed_at_the_rate_of_now,
    ),
    "permits: the high lane may have all": (
        (Swap("permits._LEASE", "WHEN others_due < 1 THEN owed", "WHEN true OR others_due < 1 THEN owed"),),
        partial(
            test_sharing_permits.test_an_endless_high_lane_leaves_one_in_twenty,
            rate=10, others=[test_sharing_permits.ENDLESS_FEW],
        ),
    ),
    "permits: the others have more than is due to them": (
        (Swap("permits._LEASE", "CASE WHEN $5::smallint > 0 AND owed > high_first THEN others_due END,"),),
        partial(
            test_sharing_permits.test_an_endless_high_lane_leaves_one_in_twenty,
            rate=200, others=test_sharing_permits.cohorts(1),
        ),
    ),
    "permits: few before the high lane": (
        (Swap("permits._LEASE", "WHEN 1 THEN h.high_first +", "WHEN 1 THEN h.high_first * 0 +"),),
        test_permits.test_the_high_lane_goes_before_those_that_have_few,
    ),
    "permits: few ask as bulk": (
        (Swap("admission._ENTER", "tenant IS NULL AS shared", "false AS shared"),),
        test_permits.test_a_flood_over_a_slow_account_holds_up_no_other_tenant,
    ),
    "permits: everybody's turns begin now": (
        (Swap("permits._BOOK", "THEN booked_until END", "THEN NULL::timestamptz END"),),
        test_permits.test_cohorts_beside_each_other_are_given_turns_one_after_the_other,
    ),
    "claim: what is blocked too": (
        (
            Swap("claims._CLAIM_OTHERS", " IS NULL)\n    LIMIT", " IS NULL IS NOT NULL)\n    LIMIT"),
            Value("domain.shares.Shares.blocked", lambda *_, **__: []),
            Value("domain.shares.Shares.wait_s", lambda *_, **__: 0.0),
        ),
        test_throttles.test_an_endpoint_that_throttles_is_held_back_alone,
    ),
    "a throttle holds back nobody": (
        (Value("domain.throttle.Throttle.hold", lambda *_, **__: None),),
        test_throttles.test_an_account_that_throttles_is_not_called_for_each_message,
    ),
}  # fmt: skip
