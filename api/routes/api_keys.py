"""/v1/api-keys: who may use this API, and for what. A key is shown once, in the answer that makes it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor
from api.idempotency import Created, Creation, OnceRoute, creating
from api.schemas import Body, Line, Moment, ObjectId
from api.security import Permission, Principal, Role, may_grant, require
from domain.errors import FieldError, Forbidden, Invalid
from infra.postgres.tenants.api_keys import ApiKeyRepository, NewKey, StoredKey

router = APIRouter(prefix="/v1/api-keys", tags=["administration"], route_class=OnceRoute)

Reader = Annotated[Principal, Depends(require(Permission.READ_KEYS))]
Manager = Annotated[Principal, Depends(require(Permission.MANAGE_KEYS))]
MOST_OVERLAP_S = 7 * 24 * 3600
_FIRST = UUID(int=0)
_EXAMPLE: dict[str, Any] = {"name": "CRM, production", "app": "crm", "roles": ["sender"]}
_SHOWN: dict[str, Any] = {
    "id": "01a20a32-744b-7020-809a-bb07e52cad04", **_EXAMPLE, "hint": "tk_…h9Qx", "state": "active", "created_by": None,
    "created_at": "2026-12-01T01:00:00Z", "expires_at": None, "revoked_at": None,
}  # fmt: skip


def keys_of(container: Annotated[Container, Depends(container_of)]) -> ApiKeyRepository:
    return ApiKeyRepository(container.database)


def listed_of(container: Annotated[Container, Depends(container_of)]) -> ApiKeyRepository:
    return ApiKeyRepository(container.database.lists)


Keys = Annotated[ApiKeyRepository, Depends(keys_of)]
Listed = Annotated[ApiKeyRepository, Depends(listed_of)]


class ApiKeyIn(Body):
    """A new key. It can have the roles that yours has; an administrator's grants all but owner."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Line
    app: ObjectId = Field(description="The app that the key belongs to.")
    roles: list[Role] = Field(min_length=1, max_length=len(Role))
    expires_at: Moment | None = None

    def check(self, *, now: datetime) -> None:
        """Raises Invalid."""
        if self.expires_at is not None and self.expires_at <= now:
            raise Invalid.field("/expires_at", "range", "expires_at lies after now.")


class Rotation(Body):
    """How long the old key stays valid beside the new one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: int = Field(default=0, ge=0, le=MOST_OVERLAP_S, strict=True)


class ApiKey(BaseModel):
    """A key, without the key itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: UUID
    name: str
    app: str
    roles: list[str]
    hint: str = Field(description="Its last characters, to tell keys apart.")
    state: Literal["active", "expired", "revoked"]
    created_by: UUID | None = Field(description="The key that made it.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, stored: StoredKey, *, now: datetime) -> ApiKey:
        return cls(
            id=stored.id, name=stored.name, app=stored.app, roles=list(stored.roles), hint=stored.hint,
            state=_state(stored, now=now), created_by=stored.created_by, created_at=stored.created_at,
            expires_at=stored.expires_at, revoked_at=stored.revoked_at,
        )  # fmt: skip


class NewApiKey(ApiKey):
    """The only answer that holds the key; a repetition by Idempotency-Key holds null instead, as keys are not stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_SHOWN, "key": "tk_..."}, {**_SHOWN, "key": None}]})

    key: str | None

    @classmethod
    def made(cls, stored: StoredKey, key: str | None, *, now: datetime) -> NewApiKey:
        return cls(**ApiKey.of(stored, now=now).model_dump(), key=key)


class ApiKeyPage(BaseModel):
    """Oldest first, revoked and expired ones too. Follow `next_cursor` until it is null."""

    items: list[ApiKey]
    next_cursor: str | None


@router.post("", status_code=status.HTTP_201_CREATED, response_model=NewApiKey, summary="Create an API key")
async def create_key(
    body: ApiKeyIn, creation: Annotated[Creation, Depends(creating(Permission.MANAGE_KEYS))], keys: Keys
) -> Response:
    """The key is in this answer and nowhere else: it is stored as a hash."""
    now = creation.container.clock.now()
    who = creation.principal
    roles = list(dict.fromkeys(body.roles))
    if not may_grant(who.roles, roles):
        raise Forbidden("Your key may not grant one of these roles.")

    async def unit(connection: AsyncConnection) -> Created:
        body.check(now=now)  # here, after its key: a repetition may come when the end it asked for is past
        new = NewKey(body.app, body.name, roles, body.expires_at)
        stored, key = await keys.create(connection, who.tenant, new, by=who.key_id)
        return Created(NewApiKey.made(stored, key, now=now), again=NewApiKey.made(stored, None, now=now))

    return await creation.run(unit)


@router.get("", summary="List API keys")
async def list_keys(
    who: Reader,
    keys: Listed,
    container: Annotated[Container, Depends(container_of)],
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    app: Annotated[str | None, Query(max_length=128)] = None,
) -> ApiKeyPage:
    found = await keys.listed(who.tenant, after=_position(cursor), limit=limit + 1, app_id=app)
    page = found[:limit]
    more = encode_cursor(str(page[-1].id)) if len(found) > limit else None
    now = container.clock.now()
    return ApiKeyPage(items=[ApiKey.of(stored, now=now) for stored in page], next_cursor=more)


@router.get("/{key_id}", summary="Read an API key")
async def read_key(key_id: UUID, who: Reader, keys: Keys, container: Annotated[Container, Depends(container_of)]) -> ApiKey:
    return ApiKey.of(await keys.get(who.tenant, key_id), now=container.clock.now())


@router.delete("/{key_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Revoke an API key")
async def revoke_key(
    key_id: UUID, who: Manager, keys: Keys, container: Annotated[Container, Depends(container_of)]
) -> None:
    """Noticed by every process within 5 seconds. Asking again changes nothing."""
    stored = await _manageable(keys, who, key_id)
    await keys.revoke(who.tenant, stored.id)
    container.keys.forget(stored.id)


@router.post(
    "/{key_id}/rotate", status_code=status.HTTP_201_CREATED, response_model=NewApiKey, summary="Replace an API key"
)
async def rotate_key(
    key_id: UUID,
    creation: Annotated[Creation, Depends(creating(Permission.MANAGE_KEYS, under="/v1/api-keys"))],
    keys: Keys,
    body: Rotation | None = None,
) -> Response:
    """A new key with the same app, name, roles and end; the old one ends now, or after the overlap."""
    who = creation.principal
    old = await _manageable(keys, who, key_id)
    overlap = timedelta(seconds=(body or Rotation()).overlap_seconds)

    async def unit(connection: AsyncConnection) -> Created:
        stored, key = await keys.rotate(connection, who.tenant, old.id, by=who.key_id, overlap=overlap)
        now = creation.container.clock.now()
        return Created(NewApiKey.made(stored, key, now=now), again=NewApiKey.made(stored, None, now=now))

    answer = await creation.run(unit)
    creation.container.keys.forget(old.id)
    return answer


async def _manageable(keys: ApiKeyRepository, who: Principal, key_id: UUID) -> StoredKey:
    """Who may not make such a key may not replace or revoke it either. Raises NotFound, Forbidden."""
    stored = await keys.get(who.tenant, key_id)
    known = [Role(role) for role in stored.roles if role in list(Role)]
    if not may_grant(who.roles, known):
        raise Forbidden("This key has roles that yours may not grant.")
    return stored


def _state(stored: StoredKey, *, now: datetime) -> Literal["active", "expired", "revoked"]:
    if stored.revoked_at is not None:
        return "revoked"
    return "expired" if stored.expires_at is not None and stored.expires_at <= now else "active"


def _position(cursor: str | None) -> UUID:
    text = decode_cursor(cursor)
    if text is None:
        return _FIRST
    try:
        return UUID(text)
    except ValueError:
        raise Invalid([FieldError("?cursor", "format", "Take the cursor from next_cursor of the page before.")]) from None
