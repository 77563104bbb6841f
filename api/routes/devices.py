"""/v1/users/{id}/devices: browsers and apps that the user can be pushed to."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response, status
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.idempotency import Created, Creation, OnceRoute, creating
from api.routes.device_shapes import Device, DeviceIn, Devices
from api.routes.users import Reader
from api.security import Permission, Principal, require
from infra.postgres.users.devices import DeviceRepository

router = APIRouter(prefix="/v1/users/{user_id}/devices", tags=["users"], route_class=OnceRoute)

Registrar = Annotated[Principal, Depends(require(Permission.REGISTER_DEVICES))]


def devices_of(container: Annotated[Container, Depends(container_of)]) -> DeviceRepository:
    return DeviceRepository(container.database.engine)


Repository = Annotated[DeviceRepository, Depends(devices_of)]


@router.get("", summary="List a user's devices")
async def list_devices(user_id: str, who: Reader, repository: Repository) -> Devices:
    """The last seen first."""
    return Devices(items=[Device.of(one) for one in await repository.listed(who.tenant, user_id)])


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=Device,
    responses={200: {"model": Device, "description": "The user had it; it is seen now, with what was given"}},
    summary="Register a device",
)
async def register_device(
    user_id: str,
    body: DeviceIn,
    creation: Annotated[Creation, Depends(creating(Permission.REGISTER_DEVICES))],
    repository: Repository,
) -> Response:
    """Do it at every start of the app: a token that is there already is seen again, and one that another user had moves to
    this one. **Nothing is pushed to devices yet**; they are kept for web push and mobile push to come."""
    body.check()

    async def unit(connection: AsyncConnection) -> Created:
        stored, new = await repository.register(connection, creation.principal.tenant, user_id, new=body.new())
        return Created(Device.of(stored), existed=not new)

    return await creation.run(unit)


@router.delete("/{device_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Remove a device")
async def remove_device(user_id: str, device_id: UUID, who: Registrar, repository: Repository) -> None:
    """When its user signs out there."""
    await repository.remove(who.tenant, user_id, device_id)
