"""Notifications after accept: read, listed, followed, cancelled. (`POST /v1/notifications` stands in `api.accept`.)"""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api import views
from api.container import Container, container_of
from api.list_positions import cursor_of, position_of
from api.routes.notification_shapes import Notification, NotificationPage, NotificationStatus, Priority, Timeline
from api.schemas import QueryMoment
from api.security import Permission, Principal, require
from domain.cancelling import CancelResult
from domain.channels import Channel
from domain.cohorts import workflow_url
from domain.errors import NotFound
from domain.lanes import Lane
from domain.recall import ChannelRecall, RecallResult
from domain.states import Reason, Status
from infra.postgres.lists.pages import Filters, NotificationLists
from infra.postgres.lists.reading import NotificationReader

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Controller = Annotated[Principal, Depends(require(Permission.CONTROL))]
Parts = Annotated[Container, Depends(container_of)]


_Q = (
    "Search. A notification's id, a user's id or an address (a user's, or one that was sent to) finds what belongs to it. "
    "Anything else, and anything in quotation marks, is looked for as part of the template's name, of the title of inline "
    "content, and of the values in `data` and `metadata`."
)


class ListQuery(BaseModel):
    """Filters of a list; `from` is inclusive, `to` is not."""

    model_config = ConfigDict(extra="forbid")

    status: NotificationStatus | None = None
    priority: Priority | None = None
    channel: Channel | None = Field(default=None, description="One of its channels; with `partial=true`, one that failed.")
    app: str | None = Field(default=None, max_length=255)
    user: str | None = Field(default=None, max_length=255)
    category: str | None = Field(default=None, max_length=128)
    template: str | None = Field(default=None, max_length=255)
    reason: Reason | None = Field(
        default=None, description="Why it ended undelivered; with `partial=true`, why that channel did."
    )
    partial: bool | None = Field(
        default=None, description="true: what arrived on one channel and failed on another (strategy `all`)."
    )
    collected_in: UUID | None = Field(default=None, description="What the message of this one carries (`digest`).")
    final: bool | None = Field(default=None, description="false: what is still open; true: what has ended.")
    q: str | None = Field(default=None, min_length=1, max_length=512, description=_Q)
    since: QueryMoment | None = Field(default=None, alias="from")
    until: QueryMoment | None = Field(default=None, alias="to")
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=64)


class Cancelled(BaseModel):
    """What the cancellation really achieved."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01a20a32-744b-7020-809a-bb07e52cad04",
                    "result": "cancelled",
                    "status": "cancelled",
                    "cancelled": ["email"],
                    "in_flight": [],
                    "may_have_arrived": [],
                }
            ]
        }
    )

    id: UUID
    result: CancelResult
    status: Status
    cancelled: list[str] = Field(description="Channels that were stopped.")
    in_flight: list[str] = Field(description="Channels being handed over at this moment; no retry or fallback follows.")
    may_have_arrived: list[str] = Field(
        description="Channels that are not tried any more, and over which it may have arrived: an answer was lost."
    )


class RecalledChannel(BaseModel):
    n: int
    channel: str
    result: ChannelRecall


class Recalled(BaseModel):
    """What the recall really achieved."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01a20a32-744b-7020-809a-bb07e52cad04",
                    "result": "partly_recalled",
                    "status": "sent",
                    "channels": [
                        {"n": 1, "channel": "inapp", "result": "recalled"},
                        {"n": 2, "channel": "email", "result": "cannot_recall"},
                    ],
                }
            ]
        }
    )

    id: UUID
    result: RecallResult
    status: Status
    channels: list[RecalledChannel]


@router.get("", summary="List notifications", responses={200: {"model": NotificationPage}})
async def list_notifications(principal: Reader, parts: Parts, query: Annotated[ListQuery, Query()]) -> JSONResponse:
    """List notifications, newest first. A request examines a bounded number of them: where few fit the filters, a page has
    fewer items than `limit`, or none, and `next_cursor` goes on from there; only a page without it is the last."""
    filters = Filters(
        lane=int(Lane.of(query.priority)) if query.priority else None,
        app=query.app,
        user=query.user,
        category=query.category,
        template=query.template,
        channel=query.channel,
        status=query.status,
        reason=query.reason,
        partial=query.partial,
        collected_in=query.collected_in,
        final=query.final,
        since=query.since,
        until=query.until,
    )
    page = await NotificationLists(parts.database.lists.pool).page(
        principal.tenant, filters=filters, limit=query.limit, position=position_of(query.cursor), q=query.q
    )
    return JSONResponse({"items": [views.summary(row) for row in page.rows], "next_cursor": cursor_of(page.position)})


@router.get("/{notification_id}", summary="Read a notification", responses={200: {"model": Notification}})
async def get_notification(notification_id: UUID, principal: Reader, parts: Parts) -> JSONResponse:
    """State, deliveries, reasons, and the workflows that drove it."""
    found = await _reader(parts).one(principal.tenant, notification_id=notification_id)
    if found is None:
        raise NotFound("There is no notification with this id.")
    return JSONResponse(views.details(found, url=_workflow_url(parts)))


@router.get("/{notification_id}/timeline", summary="Follow a notification", responses={200: {"model": Timeline}})
async def get_timeline(notification_id: UUID, principal: Reader, parts: Parts) -> JSONResponse:
    """Every event and decision in order."""
    found = await _reader(parts).events(principal.tenant, notification_id=notification_id)
    if found is None:
        raise NotFound("There is no notification with this id.")
    row, events = found
    return JSONResponse({"items": views.timeline(row, events, url=_workflow_url(parts))})


@router.post("/{notification_id}/cancel", summary="Cancel a notification")
async def cancel_notification(notification_id: UUID, principal: Controller, parts: Parts) -> Cancelled:
    """Stop what has not been handed over, and say what really happened. Asking again gives the same answer."""
    answer = await parts.cancels.cancel(principal.tenant, notification_id=notification_id)
    return Cancelled(
        id=notification_id,
        result=answer.result,
        status=answer.status,
        cancelled=list(answer.cancelled),
        in_flight=list(answer.in_flight),
        may_have_arrived=list(answer.may_have_arrived),
    )


@router.post("/{notification_id}/recall", summary="Take a notification back")
async def recall_notification(notification_id: UUID, principal: Controller, parts: Parts) -> Recalled:
    """Stop what has not been handed over, as `/cancel` does, and take back what was, where its channel can: an in-app
    message that was not read vanishes from the inbox and from live streams. E-mail and webhooks take nothing back. Asking
    again gives the same answer."""
    done = await parts.recalls.recall(principal.tenant, notification_id=notification_id)
    channels = [RecalledChannel(n=step.n, channel=step.channel, result=result) for step, result in done.channels]
    return Recalled(id=notification_id, result=done.result, status=done.status, channels=channels)


def _reader(parts: Container) -> NotificationReader:
    return NotificationReader(parts.database.pool)


def _workflow_url(parts: Container) -> views.WorkflowUrl:
    settings = parts.settings
    return partial(workflow_url, settings.temporal_ui_url, settings.temporal_namespace)
