"""Query parameters: an unknown one is an error, as an unknown field is; a mistyped filter would match everything."""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from domain.errors import FieldError, Invalid


async def refuse_unknown_parameters(request: Request) -> None:
    """Dependency of every route. Raises Invalid."""
    if not request.query_params:
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
