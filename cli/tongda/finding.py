"""What `doctor` has found out about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and will not for ever or not for everything."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Could not be looked at; `says` tells why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Neither text holds a secret."""

    check: str
    state: State
    says: str
    do: str = ""
    """What to do about it."""


def ok(check: str, says: str) -> Finding:
    return Finding(check, State.OK, says)


def warning(check: str, says: str, *, do: str) -> Finding:
    return Finding(check, State.WARNING, says, do)


def failed(check: str, says: str, *, do: str) -> Finding:
    return Finding(check, State.FAILED, says, do)


def skipped(check: str, says: str) -> Finding:
    return Finding(check, State.SKIPPED, says)
