"""The door of FastAPI's routes: who asks, and whether the key's roles suffice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from api.container import Container, container_of
from api.keyring import KeyRing, Principal
from api.query import refuse_unknown_body
from api.roles import PERMISSIONS, Permission, Role, allows, holders, may_grant
from domain.errors import Forbidden

__all__ = [
    "PERMISSIONS",
    "KeyRing",
    "Permission",
    "Principal",
    "Role",
    "authenticate",
    "check",
    "documented",
    "may_grant",
    "require",
]

_bearer = HTTPBearer(
    scheme_name="api_key", description="An API key of your tenant and app: `Bearer tk_...`.", auto_error=False
)
Documented = Annotated[object, Security(_bearer)]
"""Only for the OpenAPI document; the key ring reads the header's bytes itself."""


documented: dict[Callable[..., object], Permission] = {}
"""What each dependency made here asks for; the reference page says it at each route."""


def check(principal: Principal, permission: Permission) -> None:
    """Raises Forbidden. For raw ASGI routes; FastAPI's use `require`."""
    if not allows(principal.roles, permission):
        raise Forbidden(f"This needs a key with one of these roles: {', '.join(holders(permission))}.")


def require(permission: Permission) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the principal of a key that has `permission`. Raises Unauthenticated (401), Forbidden (403)."""

    async def principal(
        request: Request,
        container: Annotated[Container, Depends(container_of)],
        _: Documented = None,
    ) -> Principal:
        return await authenticate(request, container, permission)

    documented[principal] = permission
    return principal


async def authenticate(request: Request, container: Container, permission: Permission) -> Principal:
    """Raises Unauthenticated, Forbidden; then Invalid for a body where there is none."""
    header = request.headers.get("authorization")
    principal = await container.keys.authenticate(None if header is None else header.encode("latin-1"))
    check(principal, permission)
    await refuse_unknown_body(request)
    return principal
