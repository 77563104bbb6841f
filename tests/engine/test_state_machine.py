"""The state machine of a notification, explored: whatever people, workers, providers and the clock do in whatever order.

Webhooks report what became of them. Rules on the real statements, run by hypothesis: the same histories in each run.
Deeper and at random: `TESTS_DEPTH=50 ./scripts/test tests/engine/test_state_machine.py --timeout 0`. `test_any_order.py`
does the same for one cohort in less time; here notifications are accepted, grouped, edited, hurried and recalled meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

import asyncpg
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from domain.retries import JITTER, WAITS
from domain.states import Status
from infra.postgres.engine.account_queue import bound_of
from tests.depth import deep
from tests.engine.conftest import EMPTY
from tests.engine.mutations import ENGINE, RECORDING, Swap, Value
from tests.engine.mutations_of_lost import nobody, nothing
from tests.engine.support import EVERYWHERE, LOST, OK, PERMANENT, RECIPIENT, RETRY, Engine, soon
from tests.engine.world import World

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]

RATE = SendResult(ResultClass.RATE, code="rate", retry_after=timedelta(minutes=3))
CONFIG = SendResult(ResultClass.CONFIG, code="credentials")
ANSWERS = st.sampled_from([OK, OK, OK, RETRY, RETRY, RATE, CONFIG, PERMANENT, RECIPIENT, LOST])
LANES = st.sampled_from(Lane)
LIVES = st.sampled_from([timedelta(minutes=1), timedelta(hours=9), timedelta(days=3)])
LATER = st.sampled_from([None, None, None, timedelta(minutes=2), timedelta(hours=5)])
JUMPS = st.sampled_from([timedelta(seconds=s) for s in (1, 3, 3, 12, 12, 12, 61, 600, 90_000)])
BOUNCES = st.sampled_from([timedelta(seconds=s) for s in (0, 0, 2, 90)])
STEPS_BACK = st.sampled_from([timedelta(minutes=10), timedelta(hours=1)])
PLACE = st.integers(0, 50)
LONGEST_CALL = timedelta(seconds=30)
LONGEST_FIRST_WAIT = (1 + JITTER) * max(waits[0] for waits in WAITS.values())
STEPS = 50
OPTIONS = st.fixed_dictionaries(
    {"on_unknown": st.sampled_from(["hold", "resend", "resend"])}, optional={"fallback_after": st.just("PT60S")}
)


@st.composite
def asked_for(draw: st.DrawFn, strategies: Sequence[str] = ("all", "fallback", "preferred")) -> dict[str, Any]:
    later = draw(LATER)
    return {
        "lane": draw(LANES),
        "user": "u-1",
        "channels": draw(st.permutations(EVERYWHERE))[: draw(st.integers(1, 3))],
        "strategy": draw(st.sampled_from(strategies)),
        "send_at": None if later is None else soon(later.total_seconds()),
        "expires_in": draw(LIVES),
        "options": json.dumps(draw(OPTIONS)),
    }


ASKED = asked_for()


def machine_of(
    engine: Engine, run: Run, *, asked_for: st.SearchStrategy[dict[str, Any]] = ASKED
) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        @initialize(
            last=st.sampled_from([OK, OK, RETRY, PERMANENT, LOST]), first=st.lists(asked_for, min_size=2, max_size=5)
        )
        def begin(self, last: SendResult, first: list[dict[str, Any]]) -> None:
            run(engine.pool.execute(EMPTY))
            self.last = last
            self.world = World(engine)
            for asked in first:
                run(self.world.accept(**asked))

        @rule(asked=asked_for)
        def accept(self, asked: dict[str, Any]) -> None:
            run(self.world.accept(**asked))

        @rule()
        def plan(self) -> None:
            """What is due is grouped and planned, as the activity begins."""
            run(self.world.plan())

        @rule()
        def drive(self) -> None:
            """What is due is planned and claimed, as the activity does."""
            run(self.world.drive())

        @rule()
        def wait(self) -> None:
            """Nothing is due for a while, and then something is."""
            run(self.world.wait())
            run(self.world.drive())

        @rule(place=PLACE, channel=st.sampled_from(EVERYWHERE), limit=st.integers(1, 3))
        def claim(self, place: int, channel: Channel, limit: int) -> None:
            """By whoever believes that a cohort is theirs."""
            self._something_in(self.world.cohorts)
            for cohort in chosen(self.world.cohorts, place):
                run(self.world.claim(cohort, channel, limit=limit))

        @rule(place=PLACE, channel=st.sampled_from(EVERYWHERE))
        def take_nothing(self, place: int, channel: Channel) -> None:
            """A channel's account is down, and whoever drives a cohort looks for what has waited for long enough."""
            self._something_in(self.world.cohorts)
            for cohort in chosen(self.world.cohorts, place):
                run(self.world.take_nothing(cohort, channel))

        @rule(places=st.lists(PLACE, min_size=1, max_size=3), result=ANSWERS)
        def answer(self, places: list[int], result: SendResult) -> None:
            self._something_in(self.world.in_hand)
            for place in places:
                for claim in chosen(self.world.in_hand, place):
                    run(self.world.answer(claim, result))

        @rule(result=ANSWERS)
        def answer_all(self, result: SendResult) -> None:
            """A provider's good or bad day."""
            self._something_in(self.world.in_hand)
            while self.world.in_hand:
                run(self.world.answer(self.world.in_hand[0], result))

        @rule(place=PLACE, wait=BOUNCES)
        def give_back(self, place: int, wait: timedelta) -> None:
            self._something_in(self.world.in_hand)
            for claim in chosen(self.world.in_hand, place):
                run(self.world.give_back(claim, wait))

        @rule(by=STEPS_BACK)
        def set_back(self, by: timedelta) -> None:
            """Somebody sets the database's clock, which was ahead."""
            run(self.world.set_back(by))

        @rule(place=PLACE)
        def repeat(self, place: int) -> None:
            """A flush whose COMMIT was lost."""
            for outcome in chosen(self.world.told, place):
                run(self.world.repeat(outcome))

        @rule(
            then=st.sampled_from(["", "told", "told and sent again", "told and sent again"]),
            place=PLACE,
            late=st.none() | ANSWERS,
        )
        def lose(self, then: str, place: int, late: SendResult | None) -> None:
            """Whoever has them is slow: their time passes, somebody sees it and says so, now or later; and an answer may
            come after all."""
            self._something_in(self.world.in_hand)
            slow = chosen(self.world.in_hand, place)
            run(self.world.jump(LONGEST_CALL))
            run(self.world.look())
            if then:
                run(self.world.call_lost(self.world.seen))
            if then == "told and sent again":
                run(self.world.jump(LONGEST_FIRST_WAIT))
                run(self.world.drive())
            if late is not None:
                for claim in slow:
                    run(self.world.answer(self.world.still(claim), late))

        @rule(place=PLACE)
        def call_lost(self, place: int) -> None:
            run(self.world.call_lost(chosen(self.world.seen, place)))

        @rule(
            place=PLACE,
            status=st.sampled_from([Status.SENT, Status.DELIVERED, Status.FAILED, Status.FAILED]),
            later=st.booleans(),
        )
        def report(self, place: int, status: Status, later: bool) -> None:  # noqa: FBT001 - by its name
            """What a provider says of a message, whatever we know of it; often after it took everything, which may be the
            end of the notification, or while another place of its chain is in hand."""
            self._something_in(self.world.given)
            if place % 3 == 1:
                run(self.world.overtake(gives_back=later))
                return
            while later and self.world.in_hand:
                run(self.world.answer(self.world.in_hand[0], OK))
            for claim in chosen(self.world.given, place):
                run(self.world.report(claim, status))

        @rule(span=JUMPS)
        def jump(self, span: timedelta) -> None:
            run(self.world.jump(span))

        @rule(place=PLACE, redrives=st.booleans())
        def leave(self, place: int, redrives: bool) -> None:  # noqa: FBT001 - hypothesis passes it by its name
            """A workflow ends or holds its cohort; or the sweep drives those whose lease has passed."""
            if redrives:
                run(self.world.redrive())
            else:
                for cohort in chosen(self.world.cohorts, place):
                    run(self.world.leave(cohort))

        @rule(
            place=PLACE,
            what=st.sampled_from(
                ["cancel", "recall", "expedite", "edit", "edit", "edit", "suppress", "forgive", "forgive"]
            ),
        )
        def interfere(self, place: int, what: str) -> None:
            """What people do meanwhile."""
            for one in chosen(self.world.ids, place):
                run(getattr(self.world, what)(one))

        def _something_in(self, found: list[Any]) -> None:
            """Where a rule needs a claim and there is none, what is due is claimed. That is no precondition: what the world
            holds depends on the moment and on ids that are made anew, and hypothesis wants the same choices in each run."""
            if not found:
                run(self.world.drive())

        @invariant()
        def holds(self) -> None:
            run(self.world.holds())

        def teardown(self) -> None:
            if hasattr(self, "world"):
                run(self.world.to_its_end(self.last))
                run(self.world.is_the_truth())

    return Machine


def chosen(found: list[T], place: int) -> list[T]:
    """One of them, or none where there are none."""
    return [found[place % len(found)]] if found else []


Machines: TypeAlias = Callable[[Engine, Run], type[RuleBasedStateMachine]]


async def explored(engine: Engine, examples: int, *, machines: Machines = machine_of) -> None:
    """Raises what the first history shows that breaks a rule, as it is: to shorten it costs minutes of statements."""
    loop = asyncio.get_running_loop()

    def run(step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(60)

    hook = MemoryProvider(channel=Channel.WEBHOOK, receipts=True)
    others = [account for account in engine.accounts if account.channel is not Channel.WEBHOOK]
    engine = replace(engine, accounts=Accounts([*others, Account("memory-webhook", hook, Slots(8))]))
    how = settings(deep(examples), stateful_step_count=STEPS, phases=[Phase.generate])
    await asyncio.to_thread(run_state_machine_as_test, machines(engine, run), settings=how)


# The engine's own jitter, on the event loop, is taken for the strategies'.
JITTERS = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@JITTERS
async def test_every_notification_ends_once_and_in_the_truth(engine: Engine) -> None:
    await explored(engine, 50)


MUTATIONS: dict[str, Swap | Value] = {
    "claim: after its time": Swap("claims._CLAIM", "u.expires_at <= now() AS expired", "false AS expired"),
    "claim: to a suppressed address": Swap(
        "claims._CLAIM", "x.suppressed IS NOT NULL AS suppressed", "false AS suppressed"
    ),
    "outcome: every answer is the latest": Value(f"{RECORDING}._in_hand", lambda *_: True),
    "end: an open step does not matter": Swap(
        "ends._CLOSED", "NOT EXISTS (SELECT FROM work w WHERE w.notification_id = x.id OFFSET 0)", "true"
    ),
    "leave: ends whatever is left": Swap("cohorts._END", " AND NOT EXISTS (SELECT FROM work w WHERE w.cohort = c.id)"),
    "clock: a chain's time is as it was": Swap(
        "clock_steps._BEGUN_AHEAD", "w.falls_back_at - $2::interval, now() + s.after", "w.falls_back_at, w.falls_back_at"
    ),
    "receipts: a failure after the end is the end": Swap("chains._RESUMABLE", "m.expires_at > now()", "false"),
    "outcome: what may have arrived was not taken": Value(f"{RECORDING}._as_known", lambda _, outcome: outcome),
    "give back: what arrived elsewhere is sent": Value(f"{ENGINE}.giving_back.stop_satisfied", nobody),
    "outcome: what arrived elsewhere is followed": Value(f"{ENGINE}.outcomes.satisfied", nobody),
    "sweep: the lost are forgotten": Swap("claims._LOST", "state = 1 AND unknown_at", "state = 1 AND false AND unknown_at"),
}
"""Found within some tens of histories; `MOST` is far more than that."""
RARER: dict[str, Swap | Value] = {
    "outcome: a resend is not taken back": Value(f"{RECORDING}._outruns_its_resend", lambda *_: False),
    "outcome: what arrived is sent again": Value(f"{RECORDING}._arrived", lambda *_: False),
    "edit: what was handed over does not matter": Swap("edits._HANDED_OVER", "class IS NOT NULL", "false"),
    "cancel: what may have arrived was not taken": Swap("cancelling._RECORD", "d.lost IS NULL", "true"),
    "receipts: what may have arrived was not taken": Value(f"{ENGINE}.step_reports.after_reports", lambda *_: ()),
    "give back: beyond the chain's time": Swap("giving_back._GIVE_BACK", f"{bound_of('w')} > now()", "false"),
    "give back: what was called lost stays lost": Value(f"{ENGINE}.giving_back.take_back_loss", nothing),
    "expedite: nobody drives it": Swap("expediting._MOVE", "cohort = NULL", "cohort = gen_random_uuid()"),
}
"""Found within some hundred; each has a test of its own as well, which fails without it."""
MOST = 400
MOST_RARER = 3000


@JITTERS
@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_machine_finds_what_is_broken(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that it looks where rules matter; the first history that shows it is enough, to us or to the database."""
    MUTATIONS[name].apply(monkeypatch)
    with pytest.raises((AssertionError, asyncpg.IntegrityConstraintViolationError)):
        await explored(engine, MOST)


@JITTERS
@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", RARER)
async def test_the_machine_finds_what_is_rarer(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    RARER[name].apply(monkeypatch)
    with pytest.raises(AssertionError):
        await explored(engine, MOST_RARER)
