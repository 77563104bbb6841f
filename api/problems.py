"""The one place where errors become HTTP: RFC 9457 `application/problem+json`, for raw ASGI and for FastAPI alike.

    {"type": "/problems/invalid", "title": ..., "status": 422, "code": "invalid", "detail": ...,
     "errors": [{"pointer": "/to/email", "code": "format", "detail": ...},
                {"parameter": "limit", "code": "range", "detail": ...}, {"header": "Idempotency-Key", ...}]}

`type` is relative to the API's address and served there. Nothing of a trace or of a value is ever in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from api.body import escaped
from api.problem_types import PROBLEM_TYPES, ProblemType
from domain.errors import (
    CodeRefused,
    Conflict,
    Failed,
    FieldError,
    Forbidden,
    HandedOff,
    Invalid,
    Malformed,
    NotFound,
    Overloaded,
    RecipientGone,
    RecipientUnknown,
    Rejected,
    Repeats,
    TongdaError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from infra.postgres.errors import is_away, is_held

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
MOST_ERRORS = 50
"""Field errors that one answer names."""

RawHeaders = list[tuple[bytes, bytes]]

_INTERNAL = "Something went wrong inside this service; nothing is known to be wrong with the request."

_STATUS: tuple[tuple[type[TongdaError], HTTPStatus], ...] = (
    (Malformed, HTTPStatus.BAD_REQUEST),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedMedia, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (Invalid, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RecipientUnknown, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RecipientGone, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (CodeRefused, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (Rejected, HTTPStatus.BAD_REQUEST),
    (Overloaded, HTTPStatus.SERVICE_UNAVAILABLE),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (Failed, HTTPStatus.INTERNAL_SERVER_ERROR),
)

_RULES = {
    "extra_forbidden": ("unknown_field", "There is no such field."),
    "missing": ("required", "This field is required."),
    "string_too_long": ("too_long", None),
    "string_too_short": ("too_short", None),
    "too_long": ("too_long", None),
    "too_short": ("too_short", None),
    "string_pattern_mismatch": ("format", None),
    "enum": ("not_allowed", None),
    "literal_error": ("not_allowed", None),
    "timezone_aware": ("format", "A time carries an offset, as in 2026-12-01T09:00:00+08:00."),
}
"""pydantic's error type -> our stable code, and a sentence where pydantic's own is not good enough."""


def problem_fields(error: Exception) -> dict[str, Any]:
    """The problem as a JSON object; for an item of a batch too."""
    code, status, detail = _facts(error)
    kind = PROBLEM_TYPES.get(code)
    fields: dict[str, Any] = {
        "type": f"/problems/{quote(code)}",
        "title": kind.title if kind else status.phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
    }
    if isinstance(error, HandedOff):
        fields["fence"] = error.fence
    if isinstance(error, Repeats):
        fields["duplicate_of"] = str(error.of)
    if isinstance(error, CodeRefused) and error.attempts_left is not None:
        fields["attempts_left"] = error.attempts_left
    errors = _field_errors(error)
    if errors:
        fields["errors"] = errors
    return fields


def problem(error: Exception) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of the answer to `error`, whatever it is; unknown kinds are 500 `internal`."""
    fields = problem_fields(error)
    body = msgspec.json.encode(fields)
    headers: RawHeaders = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if fields["status"] == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="tongda"'))
    if fields["status"] in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        wait_s = error.retry_after_s if isinstance(error, Overloaded | TooManyRequests) else RETRY_AFTER_S
        headers.append((b"retry-after", str(wait_s).encode()))
    if isinstance(error, TooLarge):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if isinstance(error, HTTPException) and error.headers:
        headers.extend((name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items())
    return fields["status"], headers, body


def parameter_error(name: str, code: str, message: str) -> Invalid:
    """A broken rule of one query parameter."""
    return Invalid.field(f"?{name}", code, message)


def install(app: FastAPI) -> None:
    """Make FastAPI answer with problems. Whatever else is raised is logged and answered by `api.edge`."""

    async def answer(request: Request, error: Exception) -> Response:
        made = response(error)
        if made.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            _allow(made, request)
        return made

    for kind in (TongdaError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def _allow(answer: Response, request: Request) -> None:
    """The path's methods as the document has them: the router knows those of one route, and none of the raw ones."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    methods = {
        m.upper() for path, ways in paths.items() if compile_path(path)[0].match(request.scope["path"]) for m in ways
    }
    if methods:
        answer.headers["Allow"] = ", ".join(sorted(methods))


def response(error: Exception) -> Response:
    status, headers, body = problem(error)
    answer = Response(body, status_code=status)
    answer.raw_headers = list(headers)
    return answer


def _facts(error: Exception) -> tuple[str, HTTPStatus, str]:
    """Code, status and sentence."""
    if isinstance(error, RequestValidationError):
        if _no_such_path(error):
            return "not_found", HTTPStatus.NOT_FOUND, "There is no such object."
        return "invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "One or more fields break a rule; see errors."
    if isinstance(error, HTTPException):
        return _http_facts(error)
    if is_away(error):
        return "unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "The database did not answer in time; try again."
    if is_held(error):
        return "unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "Somebody else is changing this at the moment; try again."
    if not isinstance(error, TongdaError):
        return "internal", HTTPStatus.INTERNAL_SERVER_ERROR, _INTERNAL
    code = error.code
    if isinstance(error, Failed) and code not in PROBLEM_TYPES:
        # a finer code for operators and logs: callers get the class's, and of a defect nothing but that it is one
        code = type(error).code if type(error).code in PROBLEM_TYPES else "internal"
    kind: ProblemType | None = PROBLEM_TYPES.get(code)
    status = kind.status if kind else next(status for type_, status in _STATUS if isinstance(error, type_))
    return code, status, _INTERNAL if code == "internal" else str(error)


def _http_facts(error: HTTPException) -> tuple[str, HTTPStatus, str]:
    """Starlette's own: no such path, no such method, and whatever a library raises."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return "not_found", status, "There is no such path."
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return "method_not_allowed", status, "This path does not have this method."
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return "too_large", status, "The body is too large."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "internal", HTTPStatus.INTERNAL_SERVER_ERROR, _INTERNAL
    return "malformed", status, "The request cannot be read."


def _field_errors(error: Exception) -> list[dict[str, str]]:
    if isinstance(error, Invalid):
        return [_shown(field) for field in error.errors[:MOST_ERRORS]]
    if isinstance(error, RecipientUnknown | RecipientGone):
        return [_shown(FieldError("/to/user", error.code, str(error)))]
    if isinstance(error, Malformed) and error.pointer:
        return [_shown(FieldError(error.pointer, error.code, str(error)))]
    if isinstance(error, RequestValidationError) and not _no_such_path(error):
        return [_shown(_field_error(found)) for found in error.errors()[:MOST_ERRORS]]
    return []


def _no_such_path(error: RequestValidationError) -> bool:
    """An id in the path that cannot be one of ours: then there is no such object, whatever else is wrong."""
    return any(found["loc"][0] == "path" for found in error.errors())


def _shown(field: FieldError) -> dict[str, str]:
    place = {"pointer": field.pointer}
    if field.pointer.startswith("?"):
        place = {"parameter": field.pointer[1:]}
    elif field.pointer.startswith("/headers/"):
        place = {"header": field.pointer.removeprefix("/headers/")}
    return {**place, "code": field.code, "detail": field.message}


def _field_error(found: dict[str, Any]) -> FieldError:
    """One of pydantic's complaints. Its text quotes rules, never the input."""
    where, *path = found["loc"]
    kind: str = found["type"]
    code, sentence = _RULES.get(kind, (_general(kind), None))
    if kind == "extra_forbidden" and where == "query":
        code, sentence = "unknown_parameter", "There is no such query parameter."
    return FieldError(_place(where, path), code, sentence or f"{found['msg']}.".replace("..", "."))


def _place(where: str, path: Sequence[str | int]) -> str:
    if where == "query":
        return f"?{escaped(str(path[0]))}" if path else "?"
    if where == "header":
        return "/headers/" + "-".join(part.capitalize() for part in escaped(str(path[0])).split("-"))
    if len(path) > 1 and path[-1] == "[key]":  # pydantic's word for the name of a member, not its value
        path = path[:-1]
    return "".join(f"/{escaped(str(part))}" for part in path)


def _general(kind: str) -> str:
    """The family that one of pydantic's many types belongs to; a validator of ours names its code itself."""
    if kind.endswith("_type") or kind == "json_invalid":
        return "type"
    if kind.startswith(("greater_than", "less_than", "multiple_of", "finite_number")):
        return "range"
    if kind.endswith("_parsing") or "_from_" in kind or kind == "value_error":
        return "format"
    return kind
