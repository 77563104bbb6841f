"""/v1/categories: what notifications are about, and the route of those that name no channels themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.accept.request import LEAST_FALLBACK_AFTER, MOST_LIFE
from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor
from api.idempotency import Created, Creation, OnceRoute, creating
from api.routes.durations import span_between
from api.schemas import Body, Flag, ObjectId
from api.security import Permission, Principal, require
from api.windows import EXAMPLE as WINDOW_EXAMPLE
from api.windows import WindowBody, WindowShown
from domain.channels import Channel
from domain.errors import Invalid
from domain.states import Strategy
from infra.postgres.tenants.categories import CategoryRepository, Route, StoredCategory

router = APIRouter(prefix="/v1/categories", tags=["categories"], route_class=OnceRoute)

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Operator = Annotated[Principal, Depends(require(Permission.OPERATE))]
Parts = Annotated[Container, Depends(container_of)]
CategoryName = Annotated[str, Path(min_length=1, max_length=128)]
_EXAMPLE: dict[str, Any] = {
    "name": "orders", "channels": ["inapp", "email"], "strategy": "fallback", "fallback_after": "PT30S", "mandatory": False,
    "window": WINDOW_EXAMPLE,
}  # fmt: skip
_CHANGE: dict[str, Any] = {"channels": ["email"], "strategy": "all"}
_TIMES = {"created_at": "2026-12-01T01:00:00Z", "updated_at": "2026-12-01T01:00:00Z"}


def _once_each(channels: list[Channel]) -> list[Channel]:
    if len(set(channels)) != len(channels):
        raise PydanticCustomError("unique", "Each channel is named once.")
    return channels


Channels = Annotated[list[Channel], Field(min_length=1, max_length=16), AfterValidator(_once_each)]
FallbackAfter = Annotated[
    timedelta | None,
    span_between(LEAST_FALLBACK_AFTER, MOST_LIFE),
    Field(
        description="With `fallback` and `preferred`: the next channel opens when nobody has taken the message for this "
        "long, or no receipt has come."
    ),
]
Mandatory = Annotated[
    Flag, Field(description="Preferences of the recipients neither stop nor cap it; quiet hours only delay it.")
]
Window = Annotated[
    WindowBody | None,
    Field(description="Of its notifications in the low lane that name none; null: the tenant's."),
]


class NewCategory(Body):
    """A new category. `channels` in the order in which they are tried with `fallback`, and with `preferred` where a user
    has chosen no other."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    name: ObjectId
    channels: Channels
    strategy: Strategy = Strategy.ALL
    fallback_after: FallbackAfter = None
    mandatory: Mandatory = False
    window: Window = None


class CategoryChange(Body):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_CHANGE]})

    channels: Channels = Field(default_factory=list)
    strategy: Strategy = Strategy.ALL
    fallback_after: FallbackAfter = None
    mandatory: Mandatory = False
    window: Window = None


class Category(BaseModel):
    """A category with its route."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, **_TIMES}]})

    name: str
    channels: list[Channel]
    strategy: Strategy
    fallback_after: timedelta | None
    mandatory: bool
    window: WindowShown | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: StoredCategory) -> Category:
        return cls(
            name=stored.name, channels=list(stored.route.channels), strategy=stored.route.strategy,
            fallback_after=stored.route.fallback_after, mandatory=stored.mandatory,
            window=WindowShown.of(stored.route.window), created_at=stored.created_at, updated_at=stored.updated_at,
        )  # fmt: skip


class CategoryPage(BaseModel):
    """By name. Follow `next_cursor` until it is null."""

    items: list[Category]
    next_cursor: str | None


def categories_of(container: Parts) -> CategoryRepository:
    return CategoryRepository(container.database.engine)


Categories = Annotated[CategoryRepository, Depends(categories_of)]


@router.post("", status_code=status.HTTP_201_CREATED, response_model=Category, summary="Create a category with its route")
async def create_category(
    body: NewCategory,
    creation: Annotated[Creation, Depends(creating(Permission.OPERATE, named="name"))],
    categories: Categories,
) -> Response:
    """409 `category_exists` if there is one. Templates and notifications may name categories that have no route."""
    tenant = creation.principal.tenant

    async def unit(connection: AsyncConnection) -> Created:
        window = None if body.window is None else body.window.made()
        route = Route(tuple(body.channels), body.strategy, body.fallback_after, window)
        return Created(
            Category.of(await categories.create(connection, tenant, body.name, route=route, mandatory=body.mandatory))
        )

    answer = await creation.run(unit)
    creation.container.accept.routes.forget(tenant)
    return answer


@router.get("", summary="List categories")
async def list_categories(
    who: Reader,
    categories: Categories,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> CategoryPage:
    found = await categories.listed(who.tenant, after=decode_cursor(cursor) or "", limit=limit + 1)
    page = found[:limit]
    more = encode_cursor(page[-1].name) if len(found) > limit else None
    return CategoryPage(items=[Category.of(stored) for stored in page], next_cursor=more)


@router.get("/{name}", summary="Read a category")
async def read_category(name: CategoryName, who: Reader, categories: Categories) -> Category:
    return Category.of(await categories.get(who.tenant, name))


@router.patch("/{name}", summary="Change a category's route")
async def change_category(
    name: CategoryName, body: CategoryChange, who: Operator, categories: Categories, parts: Parts
) -> Category:
    """For what is accepted from now on; what was accepted keeps the route that it was given."""
    changes = body.model_dump(exclude_unset=True, exclude={"window"})
    if "window" in body.model_fields_set:
        changes["send_window"] = None if body.window is None else body.window.stored()
    if not changes:
        raise Invalid.field("", "required", "Give at least one of: channels, strategy, fallback_after, mandatory, window.")
    stored = await categories.change(who.tenant, name, changes=changes)
    parts.accept.routes.forget(who.tenant)
    return Category.of(stored)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a category")
async def delete_category(name: CategoryName, who: Operator, categories: Categories, parts: Parts) -> None:
    """Notifications may go on naming it; those without channels then go the default way (in-app, then e-mail)."""
    await categories.remove(who.tenant, name)
    parts.accept.routes.forget(who.tenant)
