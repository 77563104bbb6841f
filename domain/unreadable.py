"""Rows that this version cannot read: how long they wait for one that can, and how they end if none comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from domain.retries import MOST_ATTEMPTS
from domain.states import Reason, Status

ASIDE_WAITS = tuple(timedelta(seconds=s) for s in (10, 60, 300, 900, 3600))
"""Time after time: a deploy, also a slow one."""


@dataclass(frozen=True, slots=True)
class Aside:
    """What becomes of such a row: it waits, or ends. Neither: it is left as it is."""

    wait: timedelta | None = None
    status: Status | None = None
    reason: Reason | None = None


def aside(*, faults: int, attempt: int, expired: bool, cancelled: bool, elsewhere: bool = False) -> Aside:
    """Others may be able to read it (`ASIDE_WAITS`), as long as somebody wants it, and it did not arrive `elsewhere` in its
    chain. Nothing of it was handed over."""
    if cancelled:
        return Aside(status=Status.CANCELLED, reason=Reason.CANCELLED_BY_REQUEST)
    if expired:
        return Aside(status=Status.EXPIRED, reason=Reason.EXPIRED_BEFORE_HAND_OVER)
    if elsewhere:
        return Aside(status=Status.SUPPRESSED, reason=Reason.ARRIVED_ELSEWHERE)
    if faults >= len(ASIDE_WAITS) or attempt >= MOST_ATTEMPTS:
        return Aside(status=Status.FAILED, reason=Reason.QUARANTINED)
    return Aside(wait=ASIDE_WAITS[faults])
