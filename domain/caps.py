"""Frequency caps: which steps of a plan there is still room for, given what was planned before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.channels import Channel
from domain.planning import Drop, Plan, PlannedStep, arranged
from domain.preferences import Cap, Limits
from domain.states import Reason, Status, Strategy


@dataclass(frozen=True, slots=True)
class Use:
    """A step that has, or may still take, its place under a person's caps."""

    notification_id: UUID
    n: int
    channel: str
    category: str
    at: datetime
    """When it was, or will be, due by its plan."""


@dataclass(frozen=True, slots=True)
class Capped:
    """What is needed to judge a plan by its caps."""

    notification_id: UUID
    limits: Limits
    category: str
    strategy: Strategy
    at: datetime
    """When its steps are due."""

    def room(self, plan: Plan, *, uses: Sequence[Use]) -> Plan:
        """`plan` without the steps for which there is no room beside `uses`.

        Both sides of `at` count, because a step that quiet hours put off may be due before or after: so no window holds
        more than the cap, whatever the order in which plans are made. Steps of a chain count as if they were sent,
        until it is known that they will not be.
        """
        uses = [use for use in uses if use.notification_id != self.notification_id]
        cap = self.limits.category
        if cap is not None:
            others = {u.notification_id for u in uses if u.category == self.category and self._near(u, cap)}
            if len(others) >= cap.most:
                return _without(plan, (*plan.open, *plan.chain), strategy=self.strategy)
        full = [step for step in (*plan.open, *plan.chain) if self._is_full(step.channel, uses)]
        return _without(plan, full, strategy=self.strategy) if full else plan

    def uses(self, plan: Plan) -> list[Use]:
        """The places under caps that `plan` takes."""
        steps = (*plan.open, *plan.chain)
        return [Use(self.notification_id, step.n, step.channel, self.category, self.at) for step in steps]

    def _is_full(self, channel: Channel, uses: Iterable[Use]) -> bool:
        cap = self.limits.channels.get(channel)
        if cap is None:
            return False
        return sum(use.channel == channel and self._near(use, cap) for use in uses) >= cap.most

    def _near(self, use: Use, cap: Cap) -> bool:
        return abs(use.at - self.at) < cap.window


def _without(plan: Plan, full: Sequence[PlannedStep], *, strategy: Strategy) -> Plan:
    drops = [*plan.drops, *(Drop(s.n, s.channel, Status.SUPPRESSED, Reason.FREQUENCY_CAP) for s in full)]
    left = [step for step in (*plan.open, *plan.chain) if step not in full]
    put_off = plan.put_off if left else None
    return arranged(left, drops, strategy=strategy, locale=plan.locale, put_off=put_off)
