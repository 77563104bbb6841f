"""What a route does not know is an error, wherever it stands: a mistyped filter would match everything, and a field for a
route that takes none would seem to be followed. A parameter is given once, and none holds a NUL, which no text in the
database can."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.accept import decode
from domain.errors import FieldError, Invalid, NotFound

RECEIPTS = "/v1/receipts/"
"""Providers append what they sign with; each adapter looks for its own."""


async def refuse_unknown_parameters(request: Request) -> None:
    """Dependency of every route. Raises Invalid, NotFound (a path that no object can have)."""
    if any("\x00" in value for value in request.path_params.values() if isinstance(value, str)):
        raise NotFound
    if not request.query_params or request.url.path.startswith(RECEIPTS):
        return
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = _parameters(route)
    unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in known]
    if unknown:
        raise Invalid(
            [FieldError(f"?{name[:64]}", "unknown_parameter", "There is no such query parameter.") for name in unknown]
        )
    repeated = [
        name for name, times in Counter(name for name, _ in request.query_params.multi_items()).items() if times > 1
    ]
    if repeated:
        raise Invalid([FieldError(f"?{name}", "repeated", "Give it once.") for name in repeated])
    nul = [name for name, value in request.query_params.multi_items() if "\x00" in value]
    if nul:
        raise Invalid([FieldError(f"?{name}", "nul_character", "It holds no NUL character.") for name in nul])


async def refuse_unknown_body(request: Request) -> None:
    """Where a POST declares no body, and does not read it itself either, there is none, or `{}`. Raises Invalid."""
    route = request.scope.get("route")
    if request.method != "POST" or not isinstance(route, APIRoute) or route.body_field is not None:
        return
    if route.dependant.request_param_name is None:
        decode.nothing(await request.body())


_known: dict[int, frozenset[str]] = {}
"""By the route's identity: routes live as long as the process, and cannot be hashed."""


def _parameters(route: APIRoute) -> frozenset[str]:
    names = _known.get(id(route))
    if names is None:
        names = _known[id(route)] = frozenset(_of(route.dependant))
    return names


def _of(dependant: Dependant) -> set[str]:
    names: set[str] = set()
    for parameter in dependant.query_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names.update(field.alias or name for name, field in kind.model_fields.items())
        else:
            names.add(parameter.alias)
    for inner in dependant.dependencies:
        names |= _of(inner)
    return names
