"""A person as a whole: /v1/users/{id}/erase, /export and /stats."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response, status
from fastapi.responses import StreamingResponse

from api.container import Container, container_of
from api.routes.right_shapes import Erasure, Stats, StatsQuery, UserExport
from api.routes.users import Reader
from api.security import Permission, Principal, require
from infra.postgres.lists.user_stats import UserStatsReader
from infra.postgres.users.exporting import ExportRepository

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

Eraser = Annotated[Principal, Depends(require(Permission.ERASE_USERS))]
Exporter = Annotated[Principal, Depends(require(Permission.EXPORT_USERS))]
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


@router.get(
    "/export",
    summary="Export all that is held about a user",
    response_model=None,
    responses={200: {"model": UserExport, "description": "The document, written while it is read"}},
)
async def export_user(user_id: str, who: Exporter, parts: Parts) -> Response:
    """Addresses, tokens and contents in full. An answer that breaks off is no JSON: ask again."""
    pieces = await ExportRepository(parts.database).open(who.tenant, user_id)
    headers = {"Content-Disposition": 'attachment; filename="user.json"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.get("/stats", summary="Figures about a user's notifications")
async def user_stats(user_id: str, who: Reader, parts: Parts, query: Annotated[StatsQuery, Query()]) -> Stats:
    """By status, category and channel, with the first and the last, and what is unread in the inbox."""
    query.check()
    stats = await UserStatsReader(parts.database.pool).read(who.tenant, user_id, since=query.since, until=query.until)
    return Stats.of(stats, inbox_unread=await parts.inbox.store.unread(who.tenant, user_id))
