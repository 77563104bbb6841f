"""What is written of one accepted notification."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from domain.lanes import Lane


class Row(NamedTuple):
    """The type `accept_row`, field by field (a test compares them). Its migration says what another field takes."""

    id: UUID
    tenant: str
    app: str
    lane: int
    category: str
    user_id: str | None
    to_channel: str | None
    to_address: str | None
    channels: str
    """Joined by commas."""
    strategy: str
    template: str | None
    template_version: int | None
    content: str | None
    """JSON, as the next three."""
    data: str | None
    metadata: str | None
    options: str | None
    send_at: datetime | None
    expires_in: timedelta
    expires_at: datetime | None


_LANES = tuple(Lane)


def lane_of(row: Row) -> Lane:
    return _LANES[row.lane]
