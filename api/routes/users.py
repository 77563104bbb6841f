"""/v1/users: people as the applications know them, with their addresses on the channels."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor
from api.idempotency import Created, Creation, OnceRoute, creating
from api.routes.user_shapes import User, UserChange, UserIn, Users
from api.security import Permission, Principal, require
from domain.identities import IdentityChannel
from infra.postgres.users.persons import PersonFilters, PersonRepository

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=OnceRoute)

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Manager = Annotated[Principal, Depends(require(Permission.MANAGE_USERS))]


def persons_of(container: Annotated[Container, Depends(container_of)]) -> PersonRepository:
    return PersonRepository(container.database.engine)


def listed_of(container: Annotated[Container, Depends(container_of)]) -> PersonRepository:
    return PersonRepository(container.database.lists.engine)


Persons = Annotated[PersonRepository, Depends(persons_of)]
Listed = Annotated[PersonRepository, Depends(listed_of)]


class ListQuery(BaseModel):
    """Filters of a list. `address`, with or without `channel`, finds users by an address of theirs."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["active", "deactivated", "erased", "merged"] | None = None
    channel: IdentityChannel | None = None
    address: str | None = Field(default=None, max_length=2048)
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=500)


@router.post("", status_code=status.HTTP_201_CREATED, response_model=User, summary="Create a user")
async def create_user(
    body: UserIn, creation: Annotated[Creation, Depends(creating(Permission.MANAGE_USERS))], persons: Persons
) -> Response:
    """The id is yours. 409 `user_exists` if there is one."""
    body.check()

    async def unit(connection: AsyncConnection) -> Created:
        stored = await persons.create(
            connection,
            creation.principal.tenant,
            profile=body.profile(),
            identities=[identity.new() for identity in body.identities],
        )
        return Created(User.of(stored))

    return await creation.run(unit)


@router.get("", summary="List users, or find them by an address")
async def list_users(who: Reader, persons: Listed, query: Annotated[ListQuery, Query()]) -> Users:
    filters = PersonFilters(state=query.state, channel=query.channel, address=query.address)
    found = await persons.listed(
        who.tenant, after=decode_cursor(query.cursor) or "", limit=query.limit + 1, filters=filters
    )
    page = found[: query.limit]
    more = encode_cursor(page[-1].profile.id) if len(found) > query.limit else None
    return Users(items=[User.of(stored) for stored in page], next_cursor=more)


@router.get("/{user_id}", summary="Read a user")
async def read_user(user_id: str, who: Reader, persons: Persons) -> User:
    return User.of(await persons.get(who.tenant, user_id))


@router.patch("/{user_id}", summary="Change a user")
async def change_user(user_id: str, body: UserChange, who: Manager, persons: Persons) -> User:
    """What is left out stays. `state` deactivates and activates again."""
    body.check()
    return User.of(await persons.change(who.tenant, user_id, values=body.values(), attributes=body.attributes))


@router.delete("/{user_id}", summary="Deactivate a user")
async def deactivate_user(user_id: str, who: Manager, persons: Persons) -> User:
    """Nothing is sent to a deactivated user: 422 `recipient_gone`. Asking again changes nothing."""
    return User.of(await persons.change(who.tenant, user_id, values={"state": "deactivated"}, attributes=None))
