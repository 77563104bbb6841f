"""A claim: one row in somebody's hands, with what was looked at again in that moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from domain.attempts import Awaited
from domain.channels import Channel
from domain.lanes import CLAIM_WINDOW, Lane
from domain.lost import NOTHING_LOST, Lost
from domain.planning import DEFAULT_CHANNELS, PlannedStep
from domain.preferences import NO_PREFERENCES, Wishes
from domain.rechecks import Verdict, verdict
from domain.results import ResultClass
from domain.states import Status, Strategy
from domain.trials import LOCALE, TEST
from domain.windows import Hours, PutOff, Zones
from domain.work_row import TAKEN_BY_NOBODY
from infra.postgres.engine.lost_attempts import lost_of
from infra.postgres.engine.options import awaited_by, options_of, resends_unknown
from infra.postgres.engine.plans import chain_steps
from infra.postgres.tenants.windows import decode_window
from infra.postgres.users.choices import decode_preferences


@dataclass(frozen=True, slots=True)
class Claim:
    """One row in our hands, with all that rendering and sending need."""

    notification_id: UUID
    n: int
    attempt: int
    tenant: str
    lane: Lane
    channel: Channel
    account: str
    address: str
    locale: str
    chain: tuple[PlannedStep, ...]
    tried: tuple[str, ...]
    """Accounts that failed since the last wait."""
    awaiting: bool
    """It was handed over, and its receipt is overdue."""
    receipt: str | None
    """What is known instead, or what it has said (`domain.work_row`)."""
    awaits: Awaited | None
    """The receipt by which the chain goes on if it does not come."""
    failures: int
    faults: int
    expires_at: datetime
    accepted_at: datetime
    category: str
    person_name: str | None
    template: str | None
    template_version: int | None
    content: str | None
    """As stored, JSON; `data` and `metadata` too. Decoded one by one when rendered, so that a bad one fails alone."""
    data: str | None
    metadata: str | None
    resend_unknown: bool
    verdict: Verdict
    due_since: datetime
    """When it was first due: accepted, or the time it was sent for."""
    claimed_at: datetime
    """By the database's clock, which computes all due times."""
    test: bool
    """A test-send made it: its title says so."""
    permitted: frozenset[Channel]
    """Channels of the chain that the person's preferences permit at this moment."""
    put_off: PutOff | None
    """Until when it has to wait at this moment, and why; None: it may go."""
    digest: bool
    """It asked for a digest: its template gets the items."""
    claimed_s: float
    """time.monotonic() of about the same moment, and not later: a wait that a provider stated is never cut short."""
    throttled: timedelta | None = None
    """The claim before this one was answered with a throttle; so long after that it was due again."""
    falls_back_at: datetime | None = None
    """When its chain goes on, if nobody has taken it by then."""
    held_since: datetime | None = None
    """When it was claimed: before `claimed_at`, where that is the moment at which it was seen to be lost."""
    otp_id: UUID | None = None
    """The one-time code that the message carries; it is put in when the message is rendered."""
    lost: Lost = NOTHING_LOST
    """Earlier attempts of it that may have arrived."""
    chained: bool = False
    """It is a place of a chain: another one may come before or after it."""
    first: bool = False
    """Nothing was handed over before it, as far as it was planned: of all channels at once the one that was named first, of
    a chain the place that is tried first. Not of a chain by preference of which a place was dropped: nobody can say."""

    @property
    def step(self) -> tuple[UUID, int]:
        return self.notification_id, self.n

    @property
    def has_waited(self) -> bool:
        """For long enough: it waits no longer for an account that takes nothing."""
        return bool(self.chain) and self.falls_back_at is not None and self.falls_back_at <= self.claimed_at

    @property
    def stays(self) -> bool:
        """It may have arrived and must not come twice: it leaves for no other account, who would not recognise it."""
        return not self.resend_unknown and not all(one.excused for one in self.lost)

    @property
    def ends_unsent(self) -> bool:
        """Whoever has it in hand calls nobody for it."""
        return self.awaiting or self.verdict is not Verdict.SEND

    def database_time(self, at_s: float) -> datetime:
        """What the database's clock says at time.monotonic() = `at_s`, whatever this machine's own clock says."""
        return self.claimed_at + timedelta(seconds=at_s - self.claimed_s)


def _wishes(row: asyncpg.Record) -> Wishes:
    """What the person wants by now."""
    preferences = NO_PREFERENCES if row["choices"] is None else decode_preferences(row["choices"])
    return Wishes(preferences, row["category"], row["mandatory"])


def _known(receipt: str | None) -> str | None:
    if receipt is None or receipt == Status.DELIVERED:
        return receipt
    return ResultClass(receipt)


def claim_of(row: asyncpg.Record, *, now_s: float) -> Claim:
    """Raises whatever it meets where this version cannot read the row."""
    lane, channel, options = Lane(row["lane"]), Channel(row["channel"]), options_of(row["options"])
    wishes, chain = _wishes(row), chain_steps(row["chain"])
    put_off = _put_off(row, wishes, lane=lane, options=options)
    otp_id = options.get("otp")
    return Claim(
        notification_id=row["notification_id"], n=row["n"], attempt=row["attempt"], tenant=row["tenant"], lane=lane,
        channel=channel, account=row["account"], address=row["address"],
        locale=options.get(LOCALE) or row["locale"] or "",
        chain=chain, tried=tuple(name for name in row["tried"] or () if name != TAKEN_BY_NOBODY),
        awaiting=row["awaiting"], receipt=_known(row["receipt"]),
        awaits=awaited_by(options), failures=row["failures"], faults=row["faults"], expires_at=row["expires_at"],
        accepted_at=row["accepted_at"], category=row["category"], person_name=row["person_name"],
        template=row["template"], template_version=row["template_version"], content=row["content"], data=row["data"],
        metadata=row["metadata"],
        resend_unknown=resends_unknown(options, lane=lane),
        verdict=verdict(
            cancelled=row["cancelled"], stale=row["stale"], gone=row["gone"], expired=row["expired"],
            suppressed=row["suppressed"], permitted=wishes.permit(channel), waits=put_off is not None,
        ),
        due_since=row["due_since"], claimed_at=row["claimed_at"], test=options.get(TEST) is True,
        permitted=frozenset(step.channel for step in chain if wishes.permit(step.channel)), put_off=put_off,
        digest="digest" in options, claimed_s=now_s, throttled=row["throttled"],
        falls_back_at=row["falls_back_at"], held_since=row["start_by"] - CLAIM_WINDOW if row["start_by"] else None,
        otp_id=UUID(otp_id) if otp_id else None, lost=lost_of(row["lost"]),
        chained=row["strategy"] != Strategy.ALL, first=_is_first(row, following=len(chain)),
    )  # fmt: skip


def _is_first(row: asyncpg.Record, *, following: int) -> bool:
    """`n` is the place among the channels that were named, and a chain by preference has another order."""
    if row["strategy"] != Strategy.PREFERRED:
        return bool(row["n"] == 1)
    return bool(following + 1 == (row["places"] or len(DEFAULT_CHANNELS)))


def _put_off(row: asyncpg.Record, wishes: Wishes, *, lane: Lane, options: Mapping[str, Any]) -> PutOff | None:
    """Until when quiet hours or a window hold it back at this moment."""
    zones = Zones(row["time_zone"] or "", row["tenant_zone"] or "")
    hours = Hours(lane, row["expires_at"], wishes, zones, decode_window(options.get("window")))
    return hours.put_off(row["claimed_at"])
