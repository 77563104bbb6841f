"""What a worker process serves: one task queue a lane, and housekeeping."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domain.lanes import Lane


class Role(StrEnum):
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    HOUSEKEEPING = "housekeeping"

    @property
    def lane(self) -> Lane | None:
        return None if self is Role.HOUSEKEEPING else Lane.of(self.value)


@dataclass(frozen=True, slots=True)
class Width:
    """How much of a role one process does at a time. The workflow task of a delivery lasts as long as its local activity,
    so of the two the smaller one counts."""

    workflow_tasks: int
    activities: int


WIDTHS: dict[Role, Width] = {
    Role.HIGH: Width(workflow_tasks=256, activities=256),
    Role.MEDIUM: Width(workflow_tasks=128, activities=128),
    Role.LOW: Width(workflow_tasks=64, activities=64),
    Role.HOUSEKEEPING: Width(workflow_tasks=4, activities=4),
}
"""Far above the cohorts that a lane has at work (`LanePolicy.cohorts_open`), which is what bounds the load: the rest is for
those that only wait for slow receivers, up to their calls' time-outs. `TONGDA_DATABASE_POOL` bounds what is asked of the
database at a time."""


def parse(text: str) -> tuple[Role, ...]:
    """Roles from "high" or "medium,low,housekeeping"; raises ValueError with the list of roles."""
    try:
        roles = tuple(dict.fromkeys(Role(part.strip()) for part in text.split(",") if part.strip()))
    except ValueError as error:
        raise ValueError(f"--lanes takes a comma-separated list of: {', '.join(Role)}") from error
    if not roles:
        raise ValueError(f"--lanes needs at least one of: {', '.join(Role)}")
    return roles
