"""The recheck at the moment of hand-over: what has changed since the plan."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What the recheck at the moment of hand-over says."""

    SEND = "send"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    GONE = "gone"
    SUPPRESSED = "suppressed"
    OPTED_OUT = "opted_out"
    NOT_NOW = "not_now"
    """The person's quiet hours hold, or the window in which it may be sent is closed."""
    STALE = "stale"


def verdict(
    *, cancelled: bool, stale: bool, gone: bool, expired: bool, suppressed: bool, permitted: bool, waits: bool
) -> Verdict:
    """Of several that hold the first of these counts: what a person has asked for comes before what time has brought.
    `stale`: it was edited; `gone`: its recipient; `waits`: its time of day has not come."""
    if cancelled:
        return Verdict.CANCELLED
    if stale:
        return Verdict.STALE
    if gone:
        return Verdict.GONE
    if expired:
        return Verdict.EXPIRED
    if suppressed:
        return Verdict.SUPPRESSED
    if not permitted:
        return Verdict.OPTED_OUT
    return Verdict.NOT_NOW if waits else Verdict.SEND
