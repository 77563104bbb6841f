"""/v1/users/{id}/identities: the addresses of one user."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response, status
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.idempotency import Created, Creation, OnceRoute, creating
from api.routes.user_shapes import Identities, Identity, IdentityChange, IdentityIn
from api.routes.users import Manager, Reader
from api.security import Permission
from domain.errors import Invalid
from infra.postgres.users.identities import IdentityRepository

router = APIRouter(prefix="/v1/users/{user_id}/identities", tags=["users"], route_class=OnceRoute)


def identities_of(container: Annotated[Container, Depends(container_of)]) -> IdentityRepository:
    return IdentityRepository(container.database.engine)


Repository = Annotated[IdentityRepository, Depends(identities_of)]


@router.get("", summary="List a user's identities")
async def list_identities(user_id: str, who: Reader, repository: Repository) -> Identities:
    """Each channel's primary one first."""
    return Identities(items=[Identity.of(one) for one in await repository.listed(who.tenant, user_id)])


@router.post("", status_code=status.HTTP_201_CREATED, response_model=Identity, summary="Add an identity")
async def add_identity(
    user_id: str,
    body: IdentityIn,
    creation: Annotated[Creation, Depends(creating(Permission.MANAGE_USERS))],
    repository: Repository,
) -> Response:
    """409 `identity_exists` if the user has it."""
    errors = body.broken_rules("")
    if errors:
        raise Invalid(errors)

    async def unit(connection: AsyncConnection) -> Created:
        return Created(Identity.of(await repository.add(connection, creation.principal.tenant, user_id, new=body.new())))

    return await creation.run(unit)


@router.patch("/{identity_id}", summary="Mark an identity as verified or primary")
async def change_identity(
    user_id: str, identity_id: UUID, body: IdentityChange, who: Manager, repository: Repository
) -> Identity:
    stored = await repository.change(who.tenant, user_id, identity_id, verified=body.verified, primary=body.primary)
    return Identity.of(stored)


@router.delete("/{identity_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Remove an identity")
async def remove_identity(user_id: str, identity_id: UUID, who: Manager, repository: Repository) -> None:
    """What was planned before keeps the address it was planned with."""
    await repository.remove(who.tenant, user_id, identity_id)
