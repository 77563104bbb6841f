"""What the engine's tests share: the repositories over one database, and short ways to a row in each state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from activities.cohorts.planning import Planner
from activities.handing_over.decisions import Decider
from channels.base import Content, Message
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.cohorts import CohortEpoch
from domain.ids import uuid7
from domain.lanes import Lane
from domain.preferences import Preferences
from domain.results import ResultClass, SendResult
from domain.windows import Window
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.row import Row
from infra.postgres.engine.admission import AdmissionRepository
from infra.postgres.engine.cancelling import CancelRepository
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.claims import ClaimRepository
from infra.postgres.engine.cohorts import CohortRepository, CohortRow
from infra.postgres.engine.outcomes import OutcomeRepository
from infra.postgres.engine.plans import PlanRepository
from infra.postgres.engine.receiving import ReceiptRepository
from infra.postgres.engine.step_outcome import StepOutcome
from infra.postgres.tenants.windows import encode_window
from infra.postgres.users.choices import encode_preferences

TENANT = "acme"
ADDRESSES = {Channel.EMAIL: "a@example.com", Channel.WEBHOOK: "https://hook.example.com/a"}
EVERYWHERE = (Channel.EMAIL, Channel.WEBHOOK, Channel.INAPP)
OK = SendResult(ResultClass.OK, provider_id="p-1")
RETRY = SendResult(ResultClass.RETRY, code="451")
PERMANENT = SendResult(ResultClass.PERMANENT, code="554")
RECIPIENT = SendResult(ResultClass.RECIPIENT, code="550")
LOST = SendResult(ResultClass.UNKNOWN, code="answer_lost")


class PlainContents:
    """Contents: the channel's name as text."""

    async def content(self, claim: Claim) -> Content:
        return Content(title="Title", text=str(claim.channel))


@dataclass
class Engine:
    """The engine's parts, without Temporal."""

    pool: asyncpg.Pool
    providers: dict[Channel, MemoryProvider]
    accounts: Accounts

    @classmethod
    def over(
        cls,
        pool: asyncpg.Pool,
        *,
        slots: int = 8,
        max_batch: int = 1,
        idempotent: bool = False,
        answer: Callable[[Message], SendResult] | None = None,
    ) -> Engine:
        providers = {
            c: MemoryProvider(channel=c, max_batch=max_batch, idempotent=idempotent, answer=answer) for c in EVERYWHERE
        }
        accounts = Accounts(Account(f"memory-{c}", provider, Slots(slots)) for c, provider in providers.items())
        return cls(pool, providers, accounts)

    @property
    def accept(self) -> AcceptRepository:
        return AcceptRepository(self.pool)

    @property
    def cohorts(self) -> CohortRepository:
        return CohortRepository(self.pool)

    @property
    def plans(self) -> PlanRepository:
        return PlanRepository(self.pool)

    @property
    def admission(self) -> AdmissionRepository:
        return AdmissionRepository(self.pool)

    @property
    def claims(self) -> ClaimRepository:
        return ClaimRepository(self.pool)

    @property
    def outcomes(self) -> OutcomeRepository:
        return OutcomeRepository(self.pool)

    @property
    def receipts(self) -> ReceiptRepository:
        return ReceiptRepository(self.pool)

    @property
    def control(self) -> CancelRepository:
        return CancelRepository(self.pool)

    async def accepted(self, count: int = 1, **fields: Any) -> list[UUID]:
        """Notifications that were just accepted; `fields` as of `row`. A user who is named exists."""
        rows = [row(**fields) for _ in range(count)]
        user = fields.get("user")
        if user is not None:
            await self.person(user, tenant=fields.get("tenant", TENANT))
        await self.accept.store(rows)
        return [r[0] for r in rows]

    async def person(self, user: str, *, tenant: str = TENANT) -> None:
        """An active user with one address on each channel that needs one."""
        await self.pool.execute("INSERT INTO tenant (id, name) VALUES ($1, $1) ON CONFLICT DO NOTHING", tenant)
        made = await self.pool.fetchval(
            "INSERT INTO person (tenant, id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1", tenant, user
        )
        if made:
            await self.pool.executemany(
                "INSERT INTO identity (id, tenant, person_id, channel, address) VALUES ($1, $2, $3, $4, $5)",
                [(uuid7(), tenant, user, channel, address) for channel, address in ADDRESSES.items()],
            )

    async def prefers(self, user: str = "u-1", *, time_zone: str = "", **chosen: Any) -> None:
        """This user's preferences from now on; `chosen` as of `Preferences`."""
        await self.person(user)
        await self.pool.execute(
            "INSERT INTO preference (tenant, person_id, choices, app) VALUES ($1, $2, $3, 'shop') "
            "ON CONFLICT (tenant, person_id) DO UPDATE SET choices = EXCLUDED.choices",
            TENANT, user, msgspec.json.encode(encode_preferences(Preferences(**chosen))).decode(),
        )  # fmt: skip
        await self.pool.execute("UPDATE person SET time_zone = $3 WHERE tenant = $1 AND id = $2", TENANT, user, time_zone)

    async def make_mandatory(self, category: str = "orders") -> None:
        await self.pool.execute(
            "INSERT INTO category (tenant, name, channels, mandatory) VALUES ($1, $2, '{email}', true)", TENANT, category
        )

    async def grouped(self, lane: Lane = Lane.MEDIUM) -> CohortRow:
        cohort = await self.cohorts.group(lane)
        assert cohort is not None
        return cohort

    async def plan(self, cohort: CohortEpoch) -> int:
        """Load, decide, write, as the activity does; returns how many were planned."""
        entered = await self.admission.enter(cohort, limit=500)
        if entered is None:
            return 0
        planner = Planner(self.plans, self.accounts)
        written = await planner.plan(cohort, unplanned=entered.unplanned, now=entered.now)
        return written.count

    async def planned(self, count: int = 1, *, lane: Lane = Lane.MEDIUM, **fields: Any) -> tuple[CohortRow, list[UUID]]:
        """One cohort of `count` notifications whose steps wait for hand-over."""
        ids = await self.accepted(count, lane=lane, **fields)
        cohort = await self.grouped(lane)
        await self.plan(cohort)
        return cohort, ids

    async def claim(self, cohort: CohortRow, channel: Channel = Channel.EMAIL, *, limit: int = 100) -> list[Claim]:
        claimed = await self.claims.claim(
            cohort,
            account=f"memory-{channel}",
            limit=limit,
            call_timeout=timedelta(seconds=10),
        )
        return list(claimed.claims)

    async def claim_over(self, cohort: UUID, account: str) -> list[Claim]:
        """In its first epoch, what is due over an account of this name."""
        claimed = await self.claims.claim(
            CohortEpoch(cohort, 1), account=account, limit=9, call_timeout=timedelta(seconds=1)
        )
        return list(claimed.claims)

    async def lost(self, cohort: UUID | None, *, limit: int) -> list[Claim]:
        """What is overdue by the database's clock, as to somebody who has seen it for long enough."""
        return list((await self.claims.lost(await self.claims.in_hand(cohort, limit=limit))).claims)

    def decider(self, cohort: CohortRow | None = None) -> Decider:
        return Decider(self.accounts, cohort=cohort)

    def answered(self, claim: Claim, result: SendResult = OK) -> StepOutcome:
        return self.decider().answered(claim, result, started_s=time.monotonic())

    async def flush(self, *outcomes: StepOutcome) -> None:
        await self.outcomes.flush(outcomes, now_s=time.monotonic())

    async def answer(self, claims: Sequence[Claim], result: SendResult = OK) -> list[StepOutcome]:
        """Record the same answer for each of these."""
        outcomes = [self.answered(claim, result) for claim in claims]
        await self.flush(*outcomes)
        return outcomes

    async def redriven(self, cohort: CohortRow) -> CohortRow:
        """The same cohort in its next epoch, after its lease was made to lapse."""
        await self.lapse(cohort)
        again = await self.cohorts.next_epoch(cohort)
        assert again is not None
        return again

    async def lapse(self, cohort: CohortRow) -> None:
        await self.pool.execute("UPDATE cohort SET lease = now() - interval '1 second' WHERE id = $1", cohort.id)

    async def lose(self, notification_id: UUID, *, ago: timedelta = timedelta(seconds=1)) -> None:
        """The worker that holds this claim was killed a while ago."""
        await self.pool.execute(
            "UPDATE work SET unknown_at = now() - $2::interval WHERE notification_id = $1 AND state = 1",
            notification_id, ago,
        )  # fmt: skip

    async def make_due(self) -> None:
        """All that waits is due now."""
        await self.pool.execute("UPDATE work SET due_at = now() - interval '1 second' WHERE state = 0")

    async def end_of_windows(self) -> int:
        """No receipt can come any more, and the sweep says so."""
        await self.pool.execute("UPDATE delivery SET receipt_until = now() WHERE receipt_until IS NOT NULL")
        return await self.receipts.close(limit=100)

    async def notification(self, notification_id: UUID) -> asyncpg.Record:
        found: asyncpg.Record | None = await self.pool.fetchrow("SELECT * FROM notification WHERE id = $1", notification_id)
        assert found is not None
        return found

    async def end(self, notification_id: UUID) -> tuple[str, str | None, bool]:
        """Status, reason and whether it is final."""
        found = await self.notification(notification_id)
        return found["status"], found["reason"], found["final"]

    async def work(self, notification_id: UUID | None = None) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.pool.fetch(
            "SELECT * FROM work WHERE $1::uuid IS NULL OR notification_id = $1 ORDER BY notification_id, n", notification_id
        )
        return rows

    async def deliveries(self, notification_id: UUID) -> dict[str, tuple[str, str | None]]:
        """Channel -> (status, reason)."""
        rows = await self.pool.fetch(
            "SELECT channel, status, reason FROM delivery WHERE notification_id = $1 ORDER BY n", notification_id
        )
        return {row["channel"]: (row["status"], row["reason"]) for row in rows}

    async def detail(self, notification_id: UUID, kind: str) -> dict[str, Any]:
        """What the timeline's latest entry of this type says."""
        found = await self.pool.fetchval(
            "SELECT detail FROM event WHERE notification_id = $1 AND type = $2 ORDER BY id DESC LIMIT 1",
            notification_id,
            kind,
        )
        decoded: dict[str, Any] = msgspec.json.decode(found)
        return decoded

    async def events(self, notification_id: UUID) -> list[str]:
        rows = await self.pool.fetch("SELECT type FROM event WHERE notification_id = $1 ORDER BY id", notification_id)
        return [row["type"] for row in rows]


def row(
    *,
    lane: Lane = Lane.MEDIUM,
    tenant: str = TENANT,
    category: str = "orders",
    user: str | None = None,
    channels: Sequence[Channel] = (),
    strategy: str = "all",
    to: tuple[Channel, str] | None = None,
    send_at: datetime | None = None,
    expires_in: timedelta = timedelta(hours=1),
    expires_at: datetime | None = None,
    options: str | None = None,
    notification_id: UUID | None = None,
) -> Row:
    """A row as the accept path makes it; an e-mail to `a@example.com` unless said otherwise."""
    direct = to or (None if user is not None else (Channel.EMAIL, ADDRESSES[Channel.EMAIL]))
    return Row(
        id=notification_id or uuid7(), tenant=tenant, app="shop", lane=int(lane), category=category, user_id=user,
        to_channel=direct[0] if direct else None, to_address=direct[1] if direct else None,
        channels=",".join(channels or ([direct[0]] if direct else [Channel.EMAIL])), strategy=strategy, template=None,
        template_version=None, content='{"title": "Hello", "text": "Text"}', data=None, metadata=None, options=options,
        send_at=send_at, expires_in=expires_in, expires_at=expires_at,
    )  # fmt: skip


def key(name: str, *, body: bytes = b"body", tenant: str = TENANT) -> Key:
    return Key(tenant, "shop", "POST /v1/notifications", name, body, b"answer " + name.encode())


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def window(*, opens_in: float, zone: str = "UTC", clock: str = "UTC", lasts: float = 3) -> tuple[str, time_of_day]:
    """Options with a window by `zone`, which reads as `clock`, that opens in so many hours; and its beginning."""
    start = datetime.now(ZoneInfo(clock)).replace(second=0, microsecond=0) + timedelta(hours=opens_in)
    end = start + timedelta(hours=lasts)
    stored = encode_window(Window(start.time(), end.time(), zone))
    return msgspec.json.encode({"window": stored}).decode(), start.time()
