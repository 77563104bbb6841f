"""`POST /v1/notifications/retry`: a new try of what ended undelivered."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response, status
from pydantic import BaseModel, ConfigDict, Field

from api.accept.retries import Asked
from api.accept.rows import Sender
from api.container import Container, container_of
from api.idempotency import Creation, OnceRoute, checked, creating
from api.list_positions import position_of
from api.routes.notification_shapes import Priority
from api.schemas import Body, Flag, Moment
from api.security import Permission
from domain.channels import Channel
from domain.errors import FieldError, Invalid
from domain.lanes import Lane
from domain.partials import AS_A_RULE, Wanted
from domain.states import Reason, Status
from infra.postgres.lists.pages import Filters

router = APIRouter(prefix="/v1/notifications", tags=["notifications"], route_class=OnceRoute)

_FILTERS = ("status", "reason", "channel", "priority", "app", "user", "category", "template", "since", "until", "cursor")


_OF_CHANNELS = frozenset({"status", "channel"})
"""Filters that may stand beside an id, where they choose among its channels."""


class RetryRequest(Body):
    """One `id`, or all that ended as `status` and fit the other filters, which are those of the list. What was tried anew
    once is left out; its new try can be tried anew itself.

    With `partial` what arrived on one channel and failed on another (strategy `all`): `status`, `reason` and `channel` are
    those of a channel that failed, and only such channels are sent again, by the same notification. An `id` that is
    partial is taken so without saying it: what is `failed` or `expired` goes again, `unknown` only where `status` asks."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=False,
        json_schema_extra={
            "examples": [
                {"status": "failed", "channel": "email", "from": "2026-12-01T00:00:00+08:00", "dry_run": True},
                {"id": "01a20a32-744b-7020-809a-bb07e52cad04"},
                {"partial": True, "status": "failed", "channel": "email", "reason": "retries_exhausted", "dry_run": True},
                {"id": "01a20a32-744b-7020-809a-bb07e52cad05", "partial": True, "status": "unknown", "channel": "email"},
            ]
        },
    )

    id: UUID | None = None
    partial: Flag = Field(default=False, description="What arrived on one channel and failed on another.")
    status: Literal["failed", "expired", "suppressed", "unknown"] | None = Field(
        default=None,
        description="`unknown` may have arrived: trying it anew may show it twice. With `partial`, of the channel.",
    )
    reason: Reason | None = Field(default=None, description="With `partial`, of the channel.")
    channel: Channel | None = Field(default=None, description="With `partial`, the one that failed.")
    priority: Priority | None = None
    app: str | None = Field(default=None, max_length=255)
    user: str | None = Field(default=None, max_length=255)
    category: str | None = Field(default=None, max_length=128)
    template: str | None = Field(default=None, max_length=255)
    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = Field(default=None, alias="to")
    limit: int = Field(default=200, ge=1, le=1000, strict=True, description="So many in one call, newest first.")
    cursor: str | None = Field(default=None, max_length=64, description="The next_cursor of the call before.")
    dry_run: Flag = Field(default=False, description="Only say what would be done.")

    def check(self) -> None:
        """Raises Invalid."""
        among_channels = self.id is not None and self.partial
        if (self.id is None) == (self.status is None) and not among_channels:
            raise Invalid.field("/status", "exactly_one", "Give exactly one of: id, or status with other filters.")
        if self.partial and self.status == "suppressed":
            raise Invalid.field("/status", "not_allowed", "With partial it is failed, expired or unknown.")
        if self.id is not None:
            names = {"since": "from", "until": "to"}
            may = _OF_CHANNELS if among_channels else frozenset[str]()
            with_id = [names.get(name, name) for name in _FILTERS if name not in may and getattr(self, name) is not None]
            if with_id:
                message = "id stands alone: filters belong to status."
                raise Invalid([FieldError(f"/{name}", "with_status", message) for name in with_id])

    def asked(self) -> Asked:
        ended_so = frozenset({Status(self.status)}) if self.status else AS_A_RULE
        filters = Filters(
            lane=int(Lane.of(self.priority)) if self.priority else None,
            app=self.app,
            user=self.user,
            category=self.category,
            template=self.template,
            channel=self.channel,
            status=None if self.partial else self.status,
            reason=self.reason,
            since=self.since,
            until=self.until,
            not_resent=True,
            partial=True if self.partial else None,
            missed=ended_so if self.partial else None,
        )
        position = position_of(self.cursor, place="/cursor")
        return Asked(filters, self.limit, position, self.id, Wanted(ended_so, self.channel, self.reason))


class Skipped(BaseModel):
    """One that is not tried anew: `still_open`, `arrived`, `cancelled`, `already_retried`, `otp_message`, `is_a_test`,
    `duplicate`, `content_erased`, `recipient_gone`, `recipient_unknown` or `address_suppressed` (each address
    that it could go to). Of what is partial also `recalled`, `collected` (another one's message carries it), `no_address`,
    `may_have_arrived` (what failed is `unknown`, which was not asked for), `other_channel` (what failed is not what was
    asked for) and `not_partial` (it arrived on no channel)."""

    id: UUID
    code: str


class Again(BaseModel):
    """One that is tried anew."""

    id: UUID
    as_: UUID = Field(alias="as", description="The new notification.")


class Reopened(BaseModel):
    """One that had arrived in part, and goes on."""

    id: UUID
    channels: list[str] = Field(description="Those that are sent again; what arrived is not.")


class Retried(BaseModel):
    """`matched` were found, and each was `retried` or `skipped`; in a dry run, `retriable` ones would be `retried`. With
    `next_cursor` there may be more: call again with it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dry_run": False,
                    "matched": 2,
                    "retried": 1,
                    "retriable": 1,
                    "made": [{"id": "01a20a32-744b-7020-809a-bb07e52cad05", "as": "01a20a39-1c2e-7d11-9a44-0f6c2b7e8d90"}],
                    "reopened": [],
                    "channels": {},
                    "skipped": [{"id": "01a20a32-744b-7020-809a-bb07e52cad04", "code": "recipient_gone"}],
                    "skipped_by_code": {"recipient_gone": 1},
                    "next_cursor": None,
                },
                {
                    "dry_run": False,
                    "matched": 2,
                    "retried": 1,
                    "retriable": 1,
                    "made": [],
                    "reopened": [{"id": "01a20a32-744b-7020-809a-bb07e52cad05", "channels": ["email"]}],
                    "channels": {"email": 1},
                    "skipped": [{"id": "01a20a32-744b-7020-809a-bb07e52cad04", "code": "address_suppressed"}],
                    "skipped_by_code": {"address_suppressed": 1},
                    "next_cursor": None,
                },
            ]
        }
    )

    dry_run: bool
    matched: int
    retried: int
    retriable: int = Field(
        description="Of those that matched, what can be tried anew; in a real run the same as `retried`."
    )
    made: list[Again] = Field(description="What was tried anew, and as what.")
    reopened: list[Reopened] = Field(description="What had arrived in part, and goes on; the first thousand.")
    channels: dict[str, int] = Field(
        description="Of what had arrived in part: over which channel how many go again; in a dry run, would."
    )
    skipped: list[Skipped] = Field(description="The first thousand.")
    skipped_by_code: dict[str, int] = Field(description="How many are skipped for which reason.")
    next_cursor: str | None


@router.post(
    "/retry",
    summary="Try again what ended undelivered",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Retried,
    responses={200: {"model": Retried, "description": "A dry run"}},
)
async def retry_notifications(
    body: RetryRequest,
    creation: Annotated[Creation, Depends(creating(Permission.CONTROL, named=None))],
    parts: Annotated[Container, Depends(container_of)],
) -> Response:
    """A new notification for each, as `/resend` makes it: same recipient, content, template version, posted lane and life,
    which begins now. The old one keeps its end and names the new one in its timeline. At most `limit` a call; follow
    `next_cursor`. `dry_run` judges up to 10,000 as a call without it would, and does nothing.

    What arrived in part is no new notification: its channels that failed are open again, with a life that begins now, and
    the others are left alone. It is `processing` until their end, and no longer `partial` once they have arrived."""
    body.check()
    who, key = creation.principal, checked(creation.key)
    asked = body.asked()
    retries = parts.changes.retries
    if body.dry_run:
        counted = await retries.count(who.tenant, asked=asked)
        return Response(counted, media_type="application/json")
    sender = Sender(who.tenant, who.app)
    answer = await retries.retry(asked, sender=sender, key=key, raw=await creation.request.body())
    headers = {"Idempotent-Replay": "true"} if answer.replay else {}
    code = status.HTTP_200_OK if answer.replay else status.HTTP_202_ACCEPTED
    return Response(answer.body, status_code=code, headers=headers, media_type="application/json")
