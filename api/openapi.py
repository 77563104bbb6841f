"""The OpenAPI document: what FastAPI knows of its routes, and what it cannot know: the raw accept routes, the problems,
and the roles that each route asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.accept.request import (
    BatchRequest,
    LetInRequest,
    NotificationPatch,
    NotificationRequest,
    OtpRequest,
    TestSendRequest,
)
from api.accept.schema import REF, body_schemas
from api.idempotency import located
from api.problem_types import PROBLEM_TYPES
from api.replay_answers import LOCATED, PARAMETER, describe_replay, takes_key
from api.roles import Permission, holders
from api.routes.notification_shapes import Accepted, BatchAccepted
from api.security import documented
from domain.edits import Fence

NOTIFICATION_EXAMPLE: dict[str, Any] = {
    "to": {"user": "u-1024"},
    "channels": ["inapp", "email"],
    "strategy": "fallback",
    "template": "order-shipped",
    "data": {"order": "A-77"},
    "priority": "high",
    "category": "orders",
    "expires_in": "PT2H",
    "metadata": {"trace": "abc"},
}
DIGEST_EXAMPLE: dict[str, Any] = {
    "to": {"user": "u-1024"},
    "template": "new-comments",
    "data": {"by": "Fang"},
    "digest": {"key": "post-7", "window": "PT10M", "first": "at_once"},
    "dedupe": {"window": "PT5M", "key": "comment-4711"},
}
INLINE_EXAMPLE: dict[str, Any] = {
    "to": {"email": "fang@example.com"},
    "content": {"title": "Your order has left", "text": "It arrives tomorrow.", "url": "https://shop.example.com/o/A-77"},
}
PATCH_EXAMPLES: list[dict[str, Any]] = [
    {"data": {"order": "A-78"}, "send_at": "2026-12-01T10:00:00+08:00", "priority": "high"},
    {"content": {"title": "Your order is late", "text": "It arrives on Friday."}, "send_at": None, "expires_in": "PT2H"},
]
TEST_SEND_EXAMPLES: list[dict[str, Any]] = [
    {"to": {"user": "u-1024"}, "channels": ["email"], "version": 3, "data": {"order": "A-77"}},
    {"to": {"email": "fang@example.com"}, "locale": "en"},
]
OTP_EXAMPLES: list[dict[str, Any]] = [
    {"to": {"email": "fang@example.com"}, "purpose": "login", "expires_in": "PT5M", "client_ip": "203.0.113.7"},
    {"to": {"user": "u-1024"}, "channels": ["email", "webhook"], "purpose": "payment", "template": "pay-code",
     "data": {"amount": "88.00"}},
]  # fmt: skip
LET_IN_EXAMPLES: list[dict[str, Any]] = [{"to": {"user": "u-1024"}}, {"to": {"email": "fang@example.com"}}]

_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "Every answer that is not a success (RFC 9457). `code` is stable; `GET /problems` lists them all.",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "description": "Where the code is explained."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(PROBLEM_TYPES)},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": REF.format(name="FieldProblem")}},
        "fence": {
            "type": "string", "enum": [*Fence], "description": "With `handed_off`: how far the notification is.",
        },
        "duplicate_of": {
            "type": "string", "format": "uuid", "description": "With `duplicate`: the notification that it would repeat.",
        },
        "attempts_left": {"type": "integer", "description": "With `otp_wrong`: guesses that are left."},
    },
    "examples": [
        {
            "type": "/problems/invalid", "title": "One or more fields break a rule", "status": 422, "code": "invalid",
            "detail": "/to/email: The part after @ must be a domain name.",
            "errors": [{"pointer": "/to/email", "code": "format", "detail": "The part after @ must be a domain name."}],
        }
    ],
}  # fmt: skip
_FIELD_PROBLEM: dict[str, Any] = {
    "title": "FieldProblem",
    "description": "One broken rule; exactly one of pointer, parameter and header says where.",
    "type": "object",
    "required": ["code", "detail"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901) into the body."},
        "parameter": {"type": "string", "description": "Query parameter."},
        "header": {"type": "string"},
        "code": {"type": "string", "description": "The rule: required, unknown_field, type, format, too_long, range, ..."},
        "detail": {"type": "string"},
    },
}


def install(app: FastAPI) -> None:
    """Make `app.openapi()`, and so /openapi.json, give this document; it is built once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas: dict[str, Any] = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _restore_examples(schemas)
    schemas |= {"Problem": _PROBLEM, "FieldProblem": _FIELD_PROBLEM, **_accept_schemas()}
    made["components"]["responses"] = {
        "Problem": {
            "description": "A problem; `code` says which.",
            "content": {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}}},
        }
    }
    permissions = dict(_permissions(app))
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _complete(operation, permission=permissions.get((method, path)))
    first = {path: {"post": _accept(path)} for path in ("/v1/notifications", "/v1/notifications/batch")}
    for path, operations in first.items():
        operations.update(made["paths"].pop(path, {}))
    made["paths"] = {**first, **made["paths"]}
    _describe_replays(made, located=_located(app))
    return made


def _describe_replays(made: dict[str, Any], *, located: frozenset[str]) -> None:
    for path, operations in made["paths"].items():
        for operation in filter(takes_key, operations.values()):
            if path in located:
                operation["responses"]["201"].update(LOCATED)
            describe_replay(operation, made["components"]["schemas"])


def _restore_examples(schemas: dict[str, Any]) -> None:
    """FastAPI drops every null on its way, also out of examples, and sorts their keys."""
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        extra = model.model_config.get("json_schema_extra")
        if model.__module__.startswith("api.") and model.__name__ in schemas and isinstance(extra, dict):
            schemas[model.__name__].update(extra)


def _complete(operation: dict[str, Any], *, permission: Permission | None) -> None:
    """Problems in place of FastAPI's own 422, and the roles."""
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    if permission is not None:
        operation["x-roles"] = holders(permission)


def _permissions(app: FastAPI) -> Iterator[tuple[tuple[str, str], Permission]]:
    """(method, path) -> what it asks for."""
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute):
            for permission in _asked(route.dependant):
                yield from (((method.lower(), route.path_format or ""), permission) for method in route.methods or ())


def _asked(dependant: Dependant) -> Iterator[Permission]:
    for call in _calls(dependant):
        if call in documented:
            yield documented[call]


def _located(app: FastAPI) -> frozenset[str]:
    """The paths of creating routes that say where to find what they made."""
    return frozenset(
        route.path_format or ""
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute) and located.intersection(_calls(route.dependant))
    )


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)


def _accept_schemas() -> dict[str, Any]:
    """The request as msgspec decodes it and the rules judge it, the answers as they are documented."""
    requests = body_schemas(
        [NotificationRequest, BatchRequest, NotificationPatch, TestSendRequest, OtpRequest, LetInRequest]
    )
    requests["OtpRequest"]["examples"] = OTP_EXAMPLES
    requests["LetInRequest"]["examples"] = LET_IN_EXAMPLES
    requests["NotificationRequest"]["examples"] = [NOTIFICATION_EXAMPLE, INLINE_EXAMPLE, DIGEST_EXAMPLE]
    requests["DigestWish"]["examples"] = [DIGEST_EXAMPLE["digest"]]
    requests["DedupeWish"]["examples"] = [DIGEST_EXAMPLE["dedupe"]]
    requests["NotificationPatch"]["examples"] = PATCH_EXAMPLES
    requests["TestSendRequest"]["examples"] = TEST_SEND_EXAMPLES
    requests["BatchRequest"]["examples"] = [{"notifications": [NOTIFICATION_EXAMPLE, INLINE_EXAMPLE]}]
    _, answers = models_json_schema(
        [(Accepted, "serialization"), (BatchAccepted, "serialization")], ref_template="#/components/schemas/{model}"
    )
    defined: Mapping[str, Any] = answers["$defs"]
    return {**requests, **defined}


def _accept(path: str) -> dict[str, Any]:
    batch = path.endswith("/batch")
    body, answer = ("BatchRequest", "BatchAccepted") if batch else ("NotificationRequest", "Accepted")
    content = {"application/json": {"schema": {"$ref": REF.format(name=answer)}}}
    return {
        "tags": ["notifications"],
        "operationId": "send_batch" if batch else "send_notification",
        "summary": "Send up to 1,000 notifications" if batch else "Send a notification",
        "description": _BATCH if batch else _ONE,
        "security": [{"api_key": []}],
        "x-roles": holders(Permission.SEND),
        "parameters": [PARAMETER],
        "requestBody": {
            "required": True, "content": {"application/json": {"schema": {"$ref": REF.format(name=body)}}},
        },
        "responses": {
            "202": {"description": "Stored", "content": content, **({} if batch else LOCATED)},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }  # fmt: skip


_ONE = (
    "Answered after the commit: what got its 202 is sent, or ends in a state that names the reason. "
    "`to` is exactly one of `user`, `email`, or `channel` with `address`; either `template` or `content` says what. "
    "What the schema allows is accepted, but for what JSON Schema cannot say: addresses that are none, moments seen from "
    "now, spans of nothing or too long, windows of nothing or outside of the low lane, time zones, `metadata` over 4 KiB, "
    "and what only the database knows. "
    "Expiry counts from `send_at` where there is one, else from accept; without any, high expires after 5 minutes, "
    "medium after 24 hours, low after 72 hours. "
    "Of a name that an object holds twice the last counts here; elsewhere that is 400 `repeated_name`."
)
_BATCH = (
    "Each item may differ, and a bad one fails alone: its place in `items` holds the problem. One transaction for the rest."
    " Of a name that an object holds twice the last counts here."
)
