"""Notifications as the API shows them: the document's side of `api.views`, which builds the answers; a test compares."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.results import ResultClass
from domain.states import Reason, Status
from domain.timeline import EventType

_ID = "01a20a32-744b-7020-809a-bb07e52cad04"
_WORKFLOW = {
    "id": "delivery-01a20a32-7450-7020-809a-bb07e52cad04-1",
    "url": "http://127.0.0.1:8233/namespaces/default/workflows/delivery-01a20a32-7450-7020-809a-bb07e52cad04-1",
}
_SUMMARY: dict[str, Any] = {
    "id": _ID, "status": "delivered", "final": True, "reason": None, "partial": False, "failed_channels": [],
    "priority": "high", "lane": "high",
    "app": "crm", "to": {"user": "u-1024"}, "channels": ["inapp"], "strategy": "all", "template": "order-shipped",
    "template_version": 3, "category": "orders", "accepted_at": "2026-12-01T01:00:00+00:00", "send_at": None,
    "expires_at": "2026-12-01T01:05:00+00:00", "finished_at": "2026-12-01T01:00:00.018000+00:00", "resend_of": None,
    "test": False,
}  # fmt: skip
_PARTIAL: dict[str, Any] = {
    **_SUMMARY, "id": "01a20a32-744b-7020-809a-bb07e52cad05", "partial": True, "channels": ["inapp", "email"],
    "failed_channels": [
        {"n": 2, "channel": "email", "status": "failed", "reason": "retries_exhausted", "class": "RETRY", "code": "451"}
    ],
}  # fmt: skip
_DELIVERY: dict[str, Any] = {
    "n": 1, "channel": "inapp", "provider": "inapp", "account": "inapp-default", "address": "u-1024",
    "status": "delivered", "reason": None, "class": "OK", "code": "stored", "attempts": 1, "due_at": None,
    "held_up_by": None, "provider_id": "01a20a32-744b-7020-809a-bb07e52cad04-1",
    "sent_at": "2026-12-01T01:00:00.018000+00:00", "delivered_at": "2026-12-01T01:00:00.018000+00:00", "read_at": None,
}  # fmt: skip
_DETAILS: dict[str, Any] = {
    **_SUMMARY, "data": {"order": "A-77"}, "collected_in": None, "cancelled_at": None, "workflows": [_WORKFLOW],
    "deliveries": [_DELIVERY],
}  # fmt: skip
_EVENT: dict[str, Any] = {
    "at": "2026-12-01T01:00:00.006000+00:00", "type": "planned", "n": 0,
    "detail": {"channels": ["inapp"], "workflow": _WORKFLOW},
}  # fmt: skip

NotificationStatus = Literal[
    "accepted", "scheduled", "collected", "processing", "sent", "delivered", "read", "failed", "expired", "cancelled",
    "suppressed", "unknown",
]  # fmt: skip
Priority = Literal["high", "medium", "low"]


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkflowLink(_Shown):
    """A workflow that drove the notification, and where the Temporal Web UI shows it."""

    id: str
    url: str


class Delivery(_Shown):
    """One channel's step. `n` is its place among the channels; a step that is open has `due_at`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_DELIVERY]})

    n: int
    channel: str
    provider: str | None
    account: str | None
    address: str | None = Field(description="Masked.")
    status: Status
    reason: Reason | None
    class_: ResultClass | None = Field(alias="class", description="What the provider's last answer means.")
    code: str | None = Field(description="The provider's own code.")
    attempts: int = Field(description="Hand-overs that were answered, or whose answer was lost.")
    provider_id: str | None
    due_at: datetime | None = Field(description="When the next attempt is due, while the step is open.")
    held_up_by: Literal["circuit_open", "account_paused", "account_broken"] | None = Field(
        description="What keeps the account of an open step from taking it now, as workers wrote some seconds ago."
    )
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None


class FailedChannel(_Shown):
    """A channel that failed beside one that arrived."""

    n: int = Field(description="Its place among the channels.")
    channel: str
    status: Literal["failed", "expired", "unknown"]
    reason: Reason | None
    class_: ResultClass | None = Field(alias="class", description="What the provider's last answer means.")
    code: str | None = Field(description="The provider's own code.")


class NotificationSummary(_Shown):
    """A notification in a list."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_SUMMARY]})

    id: UUID
    status: NotificationStatus
    final: bool = Field(description="Nothing more will be tried. `read` may follow; `unknown` may be corrected.")
    reason: Reason | None
    partial: bool = Field(description="Strategy all: it arrived on one channel and failed on another.")
    failed_channels: list[FailedChannel] = Field(
        description="Where it is `partial`: what failed. Empty where another notification carries it (`collected_in`)."
    )
    priority: Priority
    lane: Priority
    app: str
    to: dict[str, Any]
    channels: list[str] | None
    strategy: str
    template: str | None
    template_version: int | None = Field(description="Pinned at accept.")
    category: str
    accepted_at: datetime
    send_at: datetime | None
    expires_at: datetime
    finished_at: datetime | None
    resend_of: UUID | None
    test: bool = Field(description="Made by POST /v1/templates/{name}/test-send.")


class Notification(NotificationSummary):
    """What was posted, what became of it, and every workflow that drove it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_DETAILS]})

    content: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    on_unknown: Literal["hold", "resend"] | None = None
    expires_in: str | None = None
    locale: str | None = Field(default=None, description="Of a test: the one asked for, instead of the recipient's.")
    otp: UUID | None = Field(default=None, description="The one-time code that it carries, by its id.")
    digest: dict[str, Any] | None = Field(default=None, description="As it was posted; `dedupe` too.")
    dedupe: dict[str, Any] | None = None
    window: dict[str, str] | None = Field(
        default=None,
        description="When it may be sent: as posted, or its category's or its tenant's at accept.",
    )
    duplicate_of: UUID | None = Field(default=None, description="The original, where this one repeats it and was not sent.")
    collected_in: UUID | None = Field(description="The notification whose message carries this one (`digest`).")
    cancelled_at: datetime | None
    workflows: list[WorkflowLink]
    deliveries: list[Delivery]


class NotificationPage(_Shown):
    """Newest first. Follow `next_cursor` until it is null; what comes in meanwhile is on an earlier page."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"items": [_PARTIAL, _SUMMARY], "next_cursor": None}]}
    )

    items: list[NotificationSummary]
    next_cursor: str | None


class TimelineEvent(_Shown):
    """`n` is the step it belongs to, 0 the notification itself. `detail` holds what the type says, never an address."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EVENT]})

    at: datetime
    type: EventType
    n: int
    detail: dict[str, Any]


class Timeline(_Shown):
    """Every event and decision, in order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"items": [_EVENT]}]})

    items: list[TimelineEvent]


class Accepted(_Shown):
    """It is stored: whatever happens now, it is sent or its end is known."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"id": _ID, "status": "accepted", "lane": "high"}]}
    )

    id: UUID
    status: Literal["accepted"]
    lane: Priority


class BatchItem(_Shown):
    """The item's id, or the problem that kept it out."""

    id: UUID | None = None
    status: Literal["accepted"] | None = None
    error: dict[str, Any] | None = None


class BatchAccepted(_Shown):
    """In the order of the request."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"items": [{"id": _ID, "status": "accepted"}], "accepted": 1, "rejected": 0}]},
    )

    items: list[BatchItem]
    accepted: int
    rejected: int
