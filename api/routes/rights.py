"""What a person can ask for: /v1/users/{id}/erase and /export."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response, status

from api.container import Container, container_of
from api.routes.right_shapes import Erasure
from api.security import Permission, Principal, require

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

Eraser = Annotated[Principal, Depends(require(Permission.ERASE_USERS))]
Parts = Annotated[Container, Depends(container_of)]

_PROGRESS: dict[int | str, dict[str, Any]] = {
    200: {"model": Erasure, "description": "It is finished"},
    202: {"model": Erasure, "description": "It is under way"},
}


@router.post("/erase", summary="Erase a user", responses=_PROGRESS)
async def erase_user(user_id: str, who: Eraser, parts: Parts, response: Response) -> Erasure:
    """For good. At once nothing is sent to the user any more (422 `recipient_gone`), and profile, addresses and devices are
    gone. What had not gone out is cancelled, and content, data and addresses of all notifications and the inbox go, in
    the background where they are many, with a second look after a minute. Asking again changes nothing and says how far
    it is. Ids, states and timelines stay; so do objections, as digests."""
    erasure = await parts.erasing.erase(who.tenant, user_id, requested_by=who.key_id)
    if erasure.finished_at is None:
        response.status_code = status.HTTP_202_ACCEPTED
    return Erasure.of(user_id, erasure)
