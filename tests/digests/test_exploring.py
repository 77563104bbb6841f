"""Digests and repeats, explored: whatever people, workers, providers and the clock do in whatever order, each is in one
message or in none, and is told so.

Rules on the real API and statements, run by hypothesis: the same histories in each run. Deeper and at random:
`TESTS_DEPTH=50 ./scripts/test tests/digests/test_exploring.py --timeout 0`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from activities.handing_over.codes import CodeMessages
from activities.handing_over.contents import TemplateContents
from domain.results import SendResult
from infra.otp_codes import OtpCodes
from infra.postgres.accept import slots
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.engine.digests import DigestRepository
from tests.depth import deep
from tests.digests.conftest import Office
from tests.digests.street import EMPTY, Street
from tests.engine.mutations import Swap, Value
from tests.engine.support import LOST, OK, PERMANENT, RETRY

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ANSWERS = st.sampled_from([OK, OK, RETRY, RETRY, PERMANENT, LOST, LOST])
JUMPS = st.sampled_from([timedelta(seconds=s) for s in (20, 45, 70, 70, 320, 700, 40_000)])
PEOPLE = st.sampled_from(["cancel", "cancel", "cancel", "expedite", "rewrite", "urge", "prolong", "retry", "repeat"])
WISHES = st.fixed_dictionaries(
    {
        "key": st.integers(0, 7),
        "window": st.sampled_from([60, 600]),
        "spare": st.sampled_from([None, 30, 30, 300]),
        "on_unknown": st.sampled_from(["hold", "resend", "resend"]),
    }
)
KEYS = st.sampled_from(["a", "a", "c", "c", "ab", "ac", "bc"])
"""Of one history: few, so that much is collected."""
REACTIONS = st.sampled_from([(), (), ("cancel",), ("cancel",), ("retry",), ("repeat",), ("expedite",)])
PLACE = st.integers(0, 30)
SLOTS = "infra.postgres.accept.slots"
STEPS = 20


def machine_of(office: Office, run: Run) -> type[RuleBasedStateMachine]:
    codes = CodeMessages(OtpRepository(office.pool), OtpCodes("0123456789abcdef" * 2))
    contents = TemplateContents(office.api.container.catalog, codes=codes, digests=DigestRepository(office.pool))

    class Machine(RuleBasedStateMachine):
        sound = False

        @initialize(
            last=st.sampled_from([OK, OK, RETRY, PERMANENT, LOST, LOST]),
            keys=KEYS,
            first=st.lists(WISHES, min_size=3, max_size=5),
        )
        def begin(self, last: SendResult, keys: str, first: list[dict[str, Any]]) -> None:
            run(office.pool.execute(EMPTY))
            self.last, self.keys = last, keys
            self.street = Street(office, contents, [self._on_its_way(wish) for wish in first])
            for wish in first:
                self.accept(wish)

        @rule(wish=WISHES)
        def accept(self, wish: dict[str, Any]) -> None:
            self._do(self.street.accept(**self._on_its_way(wish)))

        @rule(place=PLACE, what=PEOPLE)
        def interfere(self, place: int, what: str) -> None:
            self._do(getattr(self.street, what)(self.street.ids[place % len(self.street.ids)]))

        @rule(span=JUMPS, meanwhile=ANSWERS)
        def jump(self, span: timedelta, meanwhile: SendResult) -> None:
            self._do(self.street.jump(span, meanwhile=meanwhile))

        @rule(meanwhile=ANSWERS)
        def wait(self, meanwhile: SendResult) -> None:
            self._do(self.street.wait(meanwhile=meanwhile))

        @rule(meanwhile=st.sampled_from([RETRY, LOST, LOST]))
        def lapse(self, meanwhile: SendResult) -> None:
            self._do(self.street.lapse(meanwhile=meanwhile))

        @rule()
        def plan(self) -> None:
            self._do(self.street.plan())

        @rule()
        def drive(self) -> None:
            self._do(self.street.drive())

        @rule(place=PLACE, result=ANSWERS, then=REACTIONS)
        def answer(self, place: int, result: SendResult, then: tuple[str, ...]) -> None:
            self._do(self.street.answer_and(place, result, then=then))

        @rule(place=PLACE)
        def withdraw(self, place: int) -> None:
            """What is being handed over at this moment."""
            self._do(self.street.withdraw(place))

        @rule(place=PLACE, repeats=st.booleans())
        def fail(self, place: int, repeats: bool) -> None:  # noqa: FBT001 - hypothesis passes it by its name
            """A message is refused, an operator has it tried anew, and whoever posted it may post it again as well."""
            self._do(self.street.refuse(place, then=["retry", "repeat"] if repeats else ["retry"]))

        @rule(what=st.sampled_from(["quiet", "loud"]))
        def hours(self, what: str) -> None:
            self._do(getattr(self.street, what)())

        @invariant()
        def holds(self) -> None:
            self._do(self.street.holds())

        def teardown(self) -> None:
            if self.sound:
                self._do(self.street.to_its_end(self.last))
                self._do(self.street.is_the_truth())

        def _on_its_way(self, wish: dict[str, Any]) -> dict[str, Any]:
            return {**wish, "key": self.keys[wish["key"] % len(self.keys)]}

        def _do(self, step: Coroutine[Any, Any, Any]) -> None:
            """What breaks a rule is told as it is, and not hidden by how it goes on from there."""
            self.sound = False
            run(step)
            self.sound = True

    return Machine


async def explored(office: Office, examples: int) -> None:
    """Raises what the first history shows that breaks a rule, as it is: to shorten it costs minutes of statements."""
    loop = asyncio.get_running_loop()

    def run(step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result(60)

    how = settings(deep(examples), stateful_step_count=STEPS, phases=[Phase.generate])
    await asyncio.to_thread(run_state_machine_as_test, machine_of(office, run), settings=how)


# The engine's own jitter, on the event loop, is taken for the strategies'.
JITTERS = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


@JITTERS
async def test_each_is_in_one_message_or_in_none_and_is_told_so(office: Office) -> None:
    await explored(office, 30)


MUTATIONS: dict[str, Swap | Value] = {
    "message: what has expired ends with it": Swap(
        "digests._END_LATE", "expires_at <= $2", "expires_at <= $2::timestamptz - interval '1 year'"
    ),
    "close: the next ones are collected too": Swap("digests._CLOSE", "WHERE carrier", "WHERE false AND carrier"),
    "hand on: whoever has it in hand": Swap("digests._IN_HAND", "state = 1", "false"),
    "hand on: the others stay": Swap("digests._MOVE", "WHERE digest", "WHERE false AND digest"),
    "message: has what has expired": Swap("digests._ITEMS", "expires_at > $4", "$4::timestamptz IS NOT NULL"),
    "hand on: what may have arrived": Swap(
        "digests._MAY_HAVE_ARRIVED", "notification_id = $1", "notification_id = $1 AND false"
    ),
    "repeats: a new try is nobody's original": Value(
        f"{SLOTS}._GO_OVER", slots._GO_OVER.replace("d.slot = m.slot", "false")
    ),
}
"""Found within some tens of histories; `MOST` is far more than that."""
MOST = 200


@JITTERS
@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_exploration_finds_what_is_broken(name: str, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof that it looks where rules matter."""
    MUTATIONS[name].apply(monkeypatch)
    with pytest.raises(AssertionError):
        await explored(office, MOST)
