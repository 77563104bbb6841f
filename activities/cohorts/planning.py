"""The plan step of a cohort: load, decide (`domain.planning`), write. One bad row fails alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from activities.accounts.account import Accounts
from activities.pace import UNPACED, Pacing
from domain.caps import Capped
from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.lanes import MOST_INTERNAL_FAILURES
from domain.planning import Drop, Person, Plan, Request, plan, wishes_of
from domain.preferences import NO_PREFERENCES, Wishes
from domain.states import Reason, Status
from infra.postgres.engine.admission import Unplanned
from infra.postgres.engine.caps import PersonKey
from infra.postgres.engine.plans import Planned, PlanRepository
from infra.postgres.errors import POISON

log = structlog.get_logger()


MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Written:
    """What a plan step has come to."""

    count: int = 0
    """Notifications that were still ours to plan."""
    accounts: frozenset[str] = frozenset()
    """Over these it may have left something due, over no other."""


class Planner:
    def __init__(self, repository: PlanRepository, accounts: Accounts) -> None:
        self._repository = repository
        self._accounts = accounts

    async def plan(
        self, cohort: CohortEpoch, *, unplanned: Sequence[Unplanned], now: datetime, pacing: Pacing = UNPACED
    ) -> Written:
        """Plan these notifications, a step's worth at a time. Digests among them close before that, unless they are put
        off."""
        done, count, accounts = 0, 0, set[str]()
        while done < len(unplanned):
            some = unplanned[done : done + pacing.batch_limit(MOST_AT_ONCE)]
            done += len(some)
            async with pacing.exclusive():
                written = await self._plan_some(cohort, unplanned=some, now=now)
            count += written.count
            accounts |= written.accounts
        return Written(count, frozenset(accounts))

    async def _plan_some(self, cohort: CohortEpoch, *, unplanned: Sequence[Unplanned], now: datetime) -> Written:
        wanted = {(u.tenant, u.request.user_id) for u in unplanned if u.request and u.request.user_id is not None}
        persons = await self._repository.persons(sorted((t, i) for t, i in wanted if i is not None))
        mandatory = await self._mandatory(unplanned, persons=persons)
        plans: list[Planned] = []
        for item in unplanned:
            try:
                plans.append(self._plan_one(item, persons=persons, mandatory=mandatory, now=now))
            except Exception:
                await self._quarantine(cohort, item=item)
        carriers = {item.notification_id for item in unplanned if item.carries}
        if carriers:
            plans = await self._closed(cohort, plans=plans, carriers=carriers)
        count = await self._write(cohort, plans=plans)
        return Written(count, frozenset(p.accounts[step.channel] for p in plans for step in p.plan.open))

    async def _closed(self, cohort: CohortEpoch, *, plans: Sequence[Planned], carriers: Collection[UUID]) -> list[Planned]:
        """Without those that are put off, and go on collecting; the others' digests are closed. A carrier whose own time
        has run out closes nothing: it hands on what it has."""
        mine = {p.notification_id: p.plan for p in plans if p.notification_id in carriers}
        waits = {i: one.put_off for i, one in mine.items() if one.put_off is not None}
        put_off = await self._repository.put_off_digests(cohort, waits=waits) if waits else set[UUID]()
        closing = [i for i, one in mine.items() if i not in put_off and not one.expires]
        if closing:
            put_off |= await self._repository.close_digests(cohort.id, closing)
        return [p for p in plans if p.notification_id not in put_off]

    async def _mandatory(
        self, unplanned: Sequence[Unplanned], *, persons: Mapping[PersonKey, Person]
    ) -> Collection[tuple[str, str]]:
        """Mandatory categories, as (tenant, category). Asked for only where somebody has preferences."""
        choosy = {key for key, person in persons.items() if person.preferences is not NO_PREFERENCES}
        wanted = {
            (u.tenant, u.request.category)
            for u in unplanned
            if u.request and u.request.category and (u.tenant, u.request.user_id) in choosy
        }
        return await self._repository.mandatory(sorted(wanted))

    def _plan_one(
        self,
        item: Unplanned,
        *,
        persons: Mapping[PersonKey, Person],
        mandatory: Collection[tuple[str, str]],
        now: datetime,
    ) -> Planned:
        request = item.request
        if request is None:
            raise ValueError("the stored request cannot be read")
        key = None if request.user_id is None else (item.tenant, request.user_id)
        person = None if key is None else persons.get(key)
        must = (item.tenant, request.category) in mandatory
        served = self._accounts.served(item.tenant)
        decided = plan(request, person=person, now=now, served=served, mandatory=must)
        capped = None
        if key is not None and person is not None and person.preferences is not NO_PREFERENCES:
            wishes = wishes_of(request, person=person, mandatory=must)
            capped = _capped(item.notification_id, request, key=key, wishes=wishes, decided=decided, now=now)
        opened = decided.open if capped is None else (*decided.open, *decided.chain)
        names = {step.channel: self._account(item.tenant, step.channel) for step in opened}
        return Planned(item.notification_id, decided, names, capped, item.fallback_after)

    def _account(self, tenant: str, channel: Channel) -> str:
        first = self._accounts.first(tenant, channel)
        if first is None:
            raise LookupError("an account went away while this was planned")
        return first.name

    async def _write(self, cohort: CohortEpoch, *, plans: Sequence[Planned]) -> int:
        """Write all; where a row poisons the statement, halve until it stands alone and give that one up."""
        if not plans:
            return 0
        try:
            return await self._repository.write(cohort, plans=plans)
        except POISON:
            if len(plans) > 1:
                middle = len(plans) // 2
                first = await self._write(cohort, plans=plans[:middle])
                return first + await self._write(cohort, plans=plans[middle:])
            log.exception("plan.poison", notification_id=str(plans[0].notification_id))
            return await self._fault(cohort, notification_id=plans[0].notification_id)

    async def _quarantine(self, cohort: CohortEpoch, *, item: Unplanned) -> None:
        log.exception("plan.failed", notification_id=str(item.notification_id))
        await self._fault(cohort, notification_id=item.notification_id)

    async def _fault(self, cohort: CohortEpoch, *, notification_id: UUID) -> int:
        """Count it; the third time the notification ends as quarantined, which needs no plan of its own."""
        if await self._repository.faults(notification_id, cohort=cohort.id) + 1 < MOST_INTERNAL_FAILURES:
            await self._repository.fault(notification_id, cohort=cohort.id)
            return 0
        drop = Drop(1, next(iter(self._accounts.channels)), Status.FAILED, Reason.QUARANTINED)
        given_up = Planned(notification_id, Plan((), (), (drop,)), {})
        await self._repository.close_digests(cohort.id, [notification_id])
        return await self._repository.write(cohort, plans=[given_up])


def _capped(
    notification_id: UUID, request: Request, *, key: PersonKey, wishes: Wishes, decided: Plan, now: datetime
) -> tuple[PersonKey, Capped] | None:
    """The frequency caps that this plan is under; None where there are none."""
    channels = [step.channel for step in (*decided.open, *decided.chain)]
    limits = wishes.limits(channels)
    if not channels or not limits:
        return None
    at = now if decided.put_off is None else decided.put_off.until
    return key, Capped(notification_id, limits, request.category, request.strategy, at)
