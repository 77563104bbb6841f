"""The state machine once more, beside somebody who tries again what arrived in part: whatever the order, what arrived is
not sent again, and each notification comes to its end and to the true one."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from domain.lanes import Lane
from domain.results import SendResult
from domain.states import Status
from tests.engine.mutations import Swap, Value
from tests.engine.support import EVERYWHERE, LOST, OK, PERMANENT, RECIPIENT, Engine
from tests.engine.test_state_machine import JITTERS, LANES, PLACE, Run, asked_for, chosen, explored, machine_of

REFUSALS = st.sampled_from([PERMANENT, PERMANENT, RECIPIENT, LOST])
ON_UNKNOWN = st.sampled_from(["hold", "resend"])


def retrying(engine: Engine, run: Run) -> type[RuleBasedStateMachine]:
    class Retrying(machine_of(engine, run, asked_for=asked_for(strategies=["all"]))):  # type: ignore[misc]  # a class of its own for each engine
        @rule(
            lane=LANES, on_unknown=ON_UNKNOWN, channels=st.permutations(EVERYWHERE), result=REFUSALS, retries=st.booleans()
        )
        def arrive_in_part(self, retries: bool, result: SendResult, **asked: Any) -> None:  # noqa: FBT001 - by its name
            """One channel has a good day and the others a bad one; often somebody sees it at once."""
            run(self.world.accept(**_over_all(**asked)))
            run(self.world.drive())
            while self.world.in_hand:
                claim = self.world.in_hand[0]
                run(self.world.answer(claim, OK if claim.n == 1 else result))
            if retries:
                self._retry(place=-1)

        @rule(place=PLACE)
        def retry(self, place: int) -> None:
            self._retry(place)

        def _retry(self, place: int) -> None:
            for one in chosen(run(self.world.partial_ones()), place):
                run(self.world.retry(one))

    return Retrying


def _over_all(*, lane: Lane, on_unknown: str, channels: list[Any]) -> dict[str, Any]:
    options = json.dumps({"on_unknown": on_unknown})
    return {"lane": lane, "user": "u-1", "channels": channels, "strategy": "all", "options": options}


@JITTERS
async def test_what_arrived_in_part_goes_on_to_the_truth(engine: Engine) -> None:
    await explored(engine, 25, machines=retrying)


MUTATIONS: dict[str, Swap | Value] = {
    "reopen: it stays at its end": Swap("reopening._REOPEN", "final = false", "final = true"),
    "reopen: what arrived too": Value("infra.postgres.lists.partials.MISSED", frozenset(Status)),
}
MOST = 100


@JITTERS
@pytest.mark.parametrize("name", MUTATIONS)
async def test_the_machine_finds_what_is_broken(name: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name].apply(monkeypatch)
    if "too" in name:
        monkeypatch.setattr("domain.partials.Wanted.fits", lambda *_: True)
    with pytest.raises((AssertionError, asyncpg.IntegrityConstraintViolationError)):
        await explored(engine, MOST, machines=retrying)
