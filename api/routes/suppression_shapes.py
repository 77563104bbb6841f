"""Suppressions as the API takes and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.problems import parameter_error
from api.schemas import Body
from domain.errors import Invalid
from domain.identities import IdentityChannel, identity_problem
from domain.suppressions import SuppressionReason
from infra.postgres.users.suppressions import Suppression as Stored

MOST_URL = 2048
_IN: dict[str, Any] = {"channel": "email", "address": "fang@example.com", "reason": "requested"}
_SHOWN: dict[str, Any] = {
    "id": "01a20a32-744b-7020-809a-bb07e52cad04", **_IN, "created_at": "2026-12-01T01:00:00Z",
}  # fmt: skip


class SuppressionIn(Body):
    """An address that is not to be written to."""

    model_config = ConfigDict(json_schema_extra={"examples": [_IN]})

    channel: IdentityChannel
    address: str = Field(min_length=1, max_length=MOST_URL)
    reason: SuppressionReason = SuppressionReason.REQUESTED

    def check(self) -> None:
        """The rule that needs two fields. Raises Invalid."""
        problem = identity_problem(self.channel, self.address)
        if problem is not None:
            raise Invalid.field("/address", "format", problem)


class SuppressionQuery(BaseModel):
    """Filters of the list. `address` is looked for on the `channel` that stands beside it."""

    model_config = ConfigDict(extra="forbid")

    channel: IdentityChannel | None = None
    address: str | None = Field(default=None, min_length=1, max_length=MOST_URL)
    reason: SuppressionReason | None = None
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=100)

    def check(self) -> None:
        """Raises Invalid."""
        if self.address is not None and self.channel is None:
            raise parameter_error("channel", "required", "Say on which channel to look for this address.")


class Suppression(BaseModel):
    """An address that is not written to: what would go there ends with the reason `address_suppressed`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: UUID
    channel: str
    address: str | None = Field(description="null: it belonged to somebody who was erased; it still counts.")
    reason: str = Field(description="`requested`, `complaint`, `hard_bounce` or `recipient_refused`.")
    created_at: datetime

    @classmethod
    def of(cls, stored: Stored) -> Suppression:
        return cls(
            id=stored.id, channel=stored.channel, address=stored.address, reason=stored.reason,
            created_at=stored.created_at,
        )  # fmt: skip


class Suppressions(BaseModel):
    """Newest first. Follow `next_cursor` until it is null."""

    items: list[Suppression]
    next_cursor: str | None
