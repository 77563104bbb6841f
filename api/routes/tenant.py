"""/v1/tenant: what holds for all of the tenant that the key belongs to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from api.container import Container, container_of
from api.schemas import Body, TimeZone
from api.security import Permission, Principal, require
from api.windows import EXAMPLE, WindowBody, WindowShown
from domain.errors import Invalid
from infra.postgres.tenants.tenants import StoredTenant, TenantRepository

router = APIRouter(prefix="/v1/tenant", tags=["administration"])

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Operator = Annotated[Principal, Depends(require(Permission.OPERATE))]
Parts = Annotated[Container, Depends(container_of)]
_CHANGE: dict[str, Any] = {"time_zone": "Asia/Shanghai", "window": EXAMPLE}


class TenantChange(Body):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_CHANGE]})

    time_zone: TimeZone | Literal[""] = Field(
        default="", description="Of windows by `tenant`, and of recipients without one of their own; empty: UTC."
    )
    window: WindowBody | None = Field(
        default=None,
        description="Of what goes through the low lane and names no `window`, nor its category; null: at any hour.",
    )


class Tenant(BaseModel):
    """The tenant of this key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "acme", "name": "Acme", **_CHANGE}]})

    id: str
    name: str
    time_zone: str
    window: WindowShown | None

    @classmethod
    def of(cls, stored: StoredTenant) -> Tenant:
        return cls(
            id=stored.id, name=stored.name, time_zone=stored.time_zone, window=WindowShown.of(stored.window)
        )  # fmt: skip


def tenants_of(container: Parts) -> TenantRepository:
    return TenantRepository(container.database.engine)


Tenants = Annotated[TenantRepository, Depends(tenants_of)]


@router.get("", summary="Read the tenant's settings")
async def read_tenant(who: Reader, tenants: Tenants) -> Tenant:
    return Tenant.of(await tenants.get(who.tenant))


@router.patch("", summary="Change the tenant's settings")
async def change_tenant(body: TenantChange, who: Operator, tenants: Tenants, parts: Parts) -> Tenant:
    """A new window holds for what is accepted from now on, a new time zone for what waits too."""
    given = body.model_fields_set
    if not given:
        raise Invalid.field("", "required", "Give at least one of: time_zone, window.")
    changes: dict[str, Any] = {"time_zone": body.time_zone} if "time_zone" in given else {}
    if "window" in given:
        changes["send_window"] = None if body.window is None else body.window.stored()
    stored = await tenants.change(who.tenant, changes=changes)
    parts.accept.routes.forget(who.tenant)
    return Tenant.of(stored)
