"""Addresses that are not written to: /v1/suppressions of the tenant, and those of one user under /v1/users/{id}."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor, malformed
from api.idempotency import Created, Creation, OnceRoute, creating
from api.routes.suppression_shapes import Suppression, SuppressionIn, SuppressionQuery, Suppressions
from api.routes.users import Manager, Reader
from api.security import Permission
from infra.postgres.users.suppressions import SuppressionRepository

users = APIRouter(prefix="/v1/users/{user_id}/suppressions", tags=["suppressions"], route_class=OnceRoute)
tenant = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=OnceRoute)

_MADE: dict[str, Any] = {
    "status_code": status.HTTP_201_CREATED,
    "response_model": Suppression,
    "responses": {200: {"model": Suppression, "description": "It was there, with the reason that it has"}},
}


def suppressions_of(container: Annotated[Container, Depends(container_of)]) -> SuppressionRepository:
    """On the primary: people look here right after they have changed it."""
    return SuppressionRepository(container.database.engine)


Repository = Annotated[SuppressionRepository, Depends(suppressions_of)]
Adding = Annotated[Creation, Depends(creating(Permission.MANAGE_USERS))]


@users.get("", summary="List what suppresses a user's addresses")
async def list_user_suppressions(user_id: str, who: Reader, repository: Repository) -> Suppressions:
    """Whoever suppressed them: this user, an operator, or a provider's answer. Those of addresses that the user no longer
    has are found at `/v1/suppressions`."""
    found = await repository.of_person(who.tenant, user_id)
    return Suppressions(items=[Suppression.of(one) for one in found], next_cursor=None)


@users.post("", summary="Suppress an address of a user", **_MADE)
async def suppress_for_user(user_id: str, body: SuppressionIn, adding: Adding, repository: Repository) -> Response:
    """From the next hand-over on nothing goes there, whoever it is meant for: an address is suppressed, not a person. One
    that is suppressed already keeps its reason."""
    body.check()

    async def unit(connection: AsyncConnection) -> Created:
        stored, new = await repository.add_for(
            connection,
            adding.principal.tenant,
            user_id,
            channel=body.channel,
            address=body.address,
            reason=body.reason,
        )
        return Created(Suppression.of(stored), existed=not new)

    return await adding.run(unit)


@users.delete("/{suppression_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Write to a user's address again")
async def lift_user_suppression(user_id: str, suppression_id: UUID, who: Manager, repository: Repository) -> None:
    """What was dropped meanwhile is not sent after all."""
    await repository.lift_of(who.tenant, user_id, suppression_id)


@tenant.get("", summary="List suppressed addresses, or look for one")
async def list_suppressions(
    who: Reader, repository: Repository, query: Annotated[SuppressionQuery, Query()]
) -> Suppressions:
    """`channel` with `address` tells why nobody at that address gets anything."""
    query.check()
    found = await repository.listed(
        who.tenant,
        before=_before(query.cursor),
        limit=query.limit + 1,
        channel=query.channel,
        address=query.address,
        reason=query.reason,
    )
    page = found[: query.limit]
    more = encode_cursor(str(page[-1].id)) if len(found) > query.limit else None
    return Suppressions(items=[Suppression.of(one) for one in page], next_cursor=more)


@tenant.post("", summary="Suppress an address", **_MADE)
async def suppress(body: SuppressionIn, adding: Adding, repository: Repository) -> Response:
    """Also one that no user has. One that is suppressed already keeps its reason."""
    body.check()

    async def unit(connection: AsyncConnection) -> Created:
        stored, new = await repository.add(
            connection, adding.principal.tenant, channel=body.channel, address=body.address, reason=body.reason
        )
        return Created(Suppression.of(stored), existed=not new)

    return await adding.run(unit)


@tenant.delete("/{suppression_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Write to an address again")
async def lift_suppression(suppression_id: UUID, who: Manager, repository: Repository) -> None:
    """What was dropped meanwhile is not sent after all."""
    await repository.lift(who.tenant, suppression_id)


def _before(cursor: str | None) -> UUID | None:
    key = decode_cursor(cursor)
    try:
        return None if key is None else UUID(key)
    except ValueError:
        raise malformed() from None
