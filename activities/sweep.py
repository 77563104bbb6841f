"""The sweep: whatever was lost on the way is found in PostgreSQL and driven again.

A lost start, a terminated workflow and a deleted Temporal database are the same case: a cohort whose lease has passed and
whose workflow does not run. It runs as a Temporal Schedule and, so that it needs no Temporal, in each API process.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import structlog
from temporalio import activity

from activities.accounts.account import Accounts
from activities.clock_watch import ClockWatch
from activities.grouping import Driver
from activities.handing_over.decisions import Decider
from activities.handing_over.losses import Losses, record_lost
from activities.recording.patience import Outages
from domain.clock import Clock
from domain.lanes import Lane
from infra.clock import SYSTEM_CLOCK
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.engine.caps import CapRepository
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.clock_steps import ClockRepository
from infra.postgres.engine.cohorts import CohortRepository, CohortRow
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.receiving import ReceiptRepository
from infra.postgres.errors import AWAY, is_away
from infra.postgres.partitions import PartitionRepository
from infra.telemetry.engine_metrics import IN_COHORTS, LATER, OLDEST_SECONDS, REDRIVEN, WAITING
from workflows.housekeeping import SWEEP, Swept

log = structlog.get_logger()

PAGE = 200
TIDY_EVERY_S = 600.0
SUMMARISE_EVERY_S = 60.0
"""As often as autovacuum would (`autovacuum_naptime`)."""
ROWS_A_TURN = 5000
WINDOWS_A_TURN = 2000
BACKGROUND_EVERY_S = 1.0
MEASURE_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class SweepRepositories:
    cohorts: CohortRepository
    claims: ClaimRepository
    outcomes: OutcomeRepository
    partitions: PartitionRepository
    accepting: AcceptRepository
    caps: CapRepository
    otp: OtpRepository
    clock: ClockRepository
    receipts: ReceiptRepository

    @classmethod
    def over(cls, pool: asyncpg.Pool, *, partitions: PartitionRepository | None = None) -> SweepRepositories:
        """All over one pool. `partitions`: a repository that also drops old weeks; without it new ones are only made."""
        return cls(
            cohorts=CohortRepository(pool),
            claims=ClaimRepository(pool),
            outcomes=OutcomeRepository(pool),
            partitions=partitions or PartitionRepository(pool),
            accepting=AcceptRepository(pool),
            caps=CapRepository(pool),
            otp=OtpRepository(pool),
            clock=ClockRepository(pool),
            receipts=ReceiptRepository(pool),
        )


class Sweep:
    """One round of looking for what was left behind. Safe to run in several processes at once."""

    def __init__(
        self,
        repositories: SweepRepositories,
        *,
        driver: Driver,
        accounts: Accounts | None,
        poke: Callable[[Lane], None],
        clock: Clock = SYSTEM_CLOCK,
        losses: Losses | None = None,
    ) -> None:
        """`losses`: those of the process, where it has some."""
        self._monotonic_s = clock.monotonic_s
        self._watch = ClockWatch(repositories.clock, clock=clock)
        self._repositories = repositories
        self._driver = driver
        self._accounts = accounts
        if losses is None and accounts is not None:
            losses = Losses(repositories.claims, accounts, clock=clock)
        self._losses = losses
        self._outages = Outages() if losses is None else losses.outages
        self._poke = poke
        self._tidied_at_s = self._summarised_at_s = float("-inf")

    async def run_once(self) -> Swept:
        """Look at the clock, poke lanes with due work, drive lapsed cohorts again, adopt orphans, call lost hand-overs
        unknown, say that no receipt comes any more, summarise blocks, tidy up."""
        with self._outages.noticed():
            await self._watch.look()
            for lane in await self._repositories.cohorts.due_lanes():
                self._poke(lane)
            redriven = await self._redrive_lapsed()
            orphans = await self._repositories.cohorts.adopt_orphans()
            unknown = await _each(self._recover_lost, self._close_windows, self._summarise, self._tidy)
            return Swept(redriven=redriven, orphans=orphans, unknown=unknown)

    async def _redrive_lapsed(self) -> int:
        """Running: extend the lease. Unreachable: leave this one and all others alone. Otherwise the next epoch."""
        redriven = 0
        for cohort in await self._repositories.cohorts.lapsed(limit=PAGE):
            running = await self._driver.is_running(cohort)
            if running is None:
                break
            if running:
                await self._repositories.cohorts.renew(cohort)
            elif await self._redrive(cohort):
                redriven += 1
        return redriven

    async def _redrive(self, cohort: CohortRow) -> bool:
        again = await self._repositories.cohorts.next_epoch(cohort)
        if again is None:
            return False
        REDRIVEN.labels(again.lane.label).inc()
        log.info("cohort.redriven", cohort=str(again.id), epoch=again.epoch, lane=again.lane.label)
        return await self._driver.start(again)

    async def _recover_lost(self) -> int:
        """Needs the accounts (may this provider be asked twice?), so only workers do it. A cohort finds its own first: it
        looks before they are overdue."""
        if self._accounts is None or self._losses is None:
            return 0
        claims = await self._losses.of(None, limit=PAGE)
        lost = list(Decider(self._accounts, cohort=None).all_lost(claims))
        return await record_lost(self._repositories.outcomes, lost, losses=self._losses)

    async def _close_windows(self) -> None:
        """Close receipt windows that have ended: a page at a time, locked together; what is left in the next turn."""
        for _ in range(WINDOWS_A_TURN // PAGE):
            if await self._repositories.receipts.close(limit=PAGE) < PAGE:
                break

    async def _summarise(self) -> None:
        """Full blocks of notifications, for lists of what is rare. Workers do it, and one at a time."""
        if self._accounts is None or self._monotonic_s() - self._summarised_at_s < SUMMARISE_EVERY_S:
            return
        self._summarised_at_s = self._monotonic_s()
        await self._repositories.partitions.blocks.summarise()

    async def _tidy(self) -> None:
        """Now and then: make partitions ahead and drop old ones; forget old keys, places under frequency caps, codes,
        counters and messages that receipts may come for, a bounded number at a time. While the database's clock and ours
        are a day apart, nothing counts as old."""
        if self._monotonic_s() - self._tidied_at_s < TIDY_EVERY_S:
            return
        await self._repositories.partitions.ensure()
        if not self._watch.credible:
            return
        dropped = await self._repositories.partitions.drop_old()
        if dropped:
            log.info("partitions.dropped", count=dropped)
        forgotten = [
            await self._repositories.accepting.forget_keys(limit=ROWS_A_TURN),
            await self._repositories.accepting.forget_slots(limit=ROWS_A_TURN),
            await self._repositories.caps.forget(limit=ROWS_A_TURN),
            await self._repositories.otp.forget(limit=ROWS_A_TURN),
            await self._repositories.receipts.forget(limit=ROWS_A_TURN),
        ]
        if max(forgotten) < ROWS_A_TURN:
            self._tidied_at_s = self._monotonic_s()

    async def measure(self) -> None:
        """Put the backlog into the gauges."""
        for backlog in await self._repositories.cohorts.backlog():
            lane = backlog.lane.label
            WAITING.labels(lane).set(backlog.waiting)
            LATER.labels(lane).set(backlog.later)
            IN_COHORTS.labels(lane).set(backlog.in_cohorts)
            OLDEST_SECONDS.labels(lane).set(backlog.oldest_s)

    async def run_forever(self) -> None:
        """The background form, in each API process: about once a second, out of step with the others."""
        measure_at_s = float("-inf")
        while True:
            try:
                await self.run_once()
                if self._monotonic_s() >= measure_at_s:
                    await self.measure()
                    measure_at_s = self._monotonic_s() + MEASURE_EVERY_S
            except AWAY as error:
                log.warning("sweep.away", code=type(error).__name__)
            except Exception:
                log.exception("sweep.failed")  # whatever it was, the next turn must come
            await asyncio.sleep(BACKGROUND_EVERY_S * random.uniform(0.5, 1.5))


async def _each(first: Callable[[], Awaitable[int]], *others: Callable[[], Awaitable[None]]) -> int:
    """Every duty, whatever fails in one before it, and then raise what failed first; nothing more while the database is
    away. Returns what the first has found."""
    found, failures = 0, list[Exception]()
    try:
        found = await first()
    except Exception as error:
        failures.append(error)
    for duty in others:
        if failures and is_away(failures[-1]):
            break
        try:
            await duty()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return found


class SweepActivities:
    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    @activity.defn(name=SWEEP)
    async def sweep(self) -> Swept:
        """Safe to repeat: epochs change by compare-and-set, lost rows by their attempt."""
        return await self._sweep.run_once()
