"""/v1/apps: the modules of the company that send; each API key belongs to one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response, status
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor
from api.idempotency import Created, Creation, OnceRoute, creating
from api.schemas import Body, Line, ObjectId
from api.security import Permission, Principal, require
from infra.postgres.tenants.apps import AppRepository, StoredApp

router = APIRouter(prefix="/v1/apps", tags=["administration"], route_class=OnceRoute)

Reader = Annotated[Principal, Depends(require(Permission.READ))]
_EXAMPLE: dict[str, Any] = {"id": "crm", "name": "Customer relations"}


def apps_of(container: Annotated[Container, Depends(container_of)]) -> AppRepository:
    return AppRepository(container.database.engine)


Apps = Annotated[AppRepository, Depends(apps_of)]


class AppIn(Body):
    """A new app."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: ObjectId
    name: Line


class App(BaseModel):
    """An app."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "created_at": "2026-12-01T01:00:00Z"}]})

    id: str
    name: str
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredApp) -> App:
        return cls(id=stored.id, name=stored.name, created_at=stored.created_at)


class AppPage(BaseModel):
    """By id. Follow `next_cursor` until it is null."""

    items: list[App]
    next_cursor: str | None


@router.post("", status_code=status.HTTP_201_CREATED, response_model=App, summary="Create an app")
async def create_app(
    body: AppIn, creation: Annotated[Creation, Depends(creating(Permission.MANAGE_KEYS))], apps: Apps
) -> Response:
    """409 `app_exists` if there is one."""

    async def unit(connection: AsyncConnection) -> Created:
        return Created(App.of(await apps.create(connection, creation.principal.tenant, app_id=body.id, name=body.name)))

    return await creation.run(unit)


@router.get("", summary="List apps")
async def list_apps(
    who: Reader,
    apps: Apps,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> AppPage:
    found = await apps.listed(who.tenant, after=decode_cursor(cursor) or "", limit=limit + 1)
    page = found[:limit]
    more = encode_cursor(page[-1].id) if len(found) > limit else None
    return AppPage(items=[App.of(stored) for stored in page], next_cursor=more)


@router.get("/{app_id}", summary="Read an app")
async def read_app(app_id: str, who: Reader, apps: Apps) -> App:
    return App.of(await apps.get(who.tenant, app_id))
