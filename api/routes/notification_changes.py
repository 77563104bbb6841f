"""Notifications changed after accept: edited, hurried, sent again, removed. Each route answers what really happened."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import BaseModel, ConfigDict

from api.accept.rows import Sender
from api.container import Container, container_of
from api.idempotency import IdempotencyKey, accepted, checked
from api.replay_answers import LOCATED
from api.routes.notification_shapes import Accepted, Priority
from api.security import Permission, Principal, require
from domain.cancelling import CancelResult
from domain.lanes import Lane
from domain.states import Status
from infra.postgres.engine.expediting import ExpediteResult

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])

Controller = Annotated[Principal, Depends(require(Permission.CONTROL))]
Sending = Annotated[Principal, Depends(require(Permission.SEND))]
Parts = Annotated[Container, Depends(container_of)]

_ID = "01a20a32-744b-7020-809a-bb07e52cad04"
_PATCH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NotificationPatch"}}},
    }
}


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [{"id": _ID, **fields}]})


class Edited(BaseModel):
    """It is planned anew with what was edited."""

    model_config = _example(result="edited", version=2, expires_at="2026-12-01T03:00:00+00:00")

    id: UUID
    result: str
    version: int
    expires_at: datetime


class Expedited(BaseModel):
    """What hurrying it really achieved."""

    model_config = _example(result="expedited", lane="high")

    id: UUID
    result: ExpediteResult
    lane: Priority


class Removed(BaseModel):
    """It is out of view; `result` is what its cancellation achieved."""

    model_config = _example(result="cancelled", status="cancelled", deleted=True)

    id: UUID
    result: CancelResult
    status: Status
    deleted: bool


@router.patch("/{notification_id}", summary="Edit a notification", openapi_extra=_PATCH_BODY)
async def edit_notification(notification_id: UUID, request: Request, principal: Controller, parts: Parts) -> Edited:
    """Edit what was not handed over yet, a plan that exists included. The rules are those of accept, over the whole as it
    would be. `data` and `template` pin the published version anew; a template brings its category along, unless one was
    named. A span of life that was posted, or the lane's own, moves along with `send_at`. 409 `handed_off` names the `fence`
    that was reached; 409 `duplicate`, with `duplicate_of`: edited, it would repeat another (`dedupe`), and is left as it
    was."""
    raw = await request.body()
    edited = await parts.changes.edits.edit(principal.tenant, notification_id=notification_id, raw=raw)
    return Edited(id=notification_id, result="edited", version=edited.version, expires_at=edited.expires_at)


@router.delete("/{notification_id}", summary="Remove a notification from view")
async def remove_notification(notification_id: UUID, principal: Controller, parts: Parts) -> Removed:
    """Cancel it first where it is pending, as `/cancel` does. The audit trail keeps it; nothing shows it any more."""
    answer = await parts.changes.removes.remove(principal.tenant, notification_id=notification_id)
    return Removed(id=notification_id, result=answer.result, status=answer.status, deleted=True)


@router.post("/{notification_id}/expedite", summary="Send a waiting notification at once")
async def expedite_notification(notification_id: UUID, principal: Controller, parts: Parts) -> Expedited:
    """What waits for its time, or in a slower lane, becomes due now in the high lane. Its expiry stays, and so does what a
    lost answer leads to. Waits that a provider asked for are kept. Sent again, it is in its own lane."""
    answer = await parts.changes.expedites.expedite(principal.tenant, notification_id=notification_id)
    if answer.result is ExpediteResult.EXPEDITED:
        parts.accept.due(Lane.HIGH)
    return Expedited(id=notification_id, result=answer.result, lane=answer.lane.label)  # type: ignore[arg-type]


@router.post(
    "/{notification_id}/resend",
    summary="Send it again",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Accepted,
    responses={202: LOCATED},
)
async def resend_notification(
    notification_id: UUID, request: Request, principal: Sending, parts: Parts, key: IdempotencyKey = None
) -> Response:
    """A new notification to the same recipient with the same content, template version, lane and life, which begins now: as
    long as the old one was given, in the lane that was posted, also where it was expedited. It names the old one as
    `resend_of`. 409 `still_open` while the old one has not ended; the recipient is checked again."""
    sender = Sender(principal.tenant, principal.app)
    raw = await request.body()
    return accepted(await parts.changes.resends.resend(notification_id, sender=sender, key=checked(key), raw=raw))
