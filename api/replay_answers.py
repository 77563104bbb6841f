"""What a creating route answers to a request whose Idempotency-Key was accepted before, for the OpenAPI document: one
description for all of them. `tests/routes/test_replays.py` holds real repetitions to it."""

from __future__ import annotations

from typing import Any

KEY = "Idempotency-Key"
KEY_TOLD = (
    "Any 1 to 255 printable characters. The same key and body again gives the first answer, with status 200 and "
    "`Idempotent-Replay: true`; the same key with another body gives 409. Kept 30 days."
)
PARAMETER: dict[str, Any] = {
    "name": KEY, "in": "header", "required": False,
    "schema": {"type": "string", "maxLength": 255}, "description": KEY_TOLD,
}  # fmt: skip
"""Of routes that FastAPI does not know; for the others it makes the same of `api.idempotency.IdempotencyKey`."""

LOCATED: dict[str, Any] = {
    "headers": {"Location": {"description": "Where it is found.", "required": True, "schema": {"type": "string"}}}
}
"""Of an answer that says where to find what was made."""
_REPLAYED: dict[str, Any] = {
    "description": "A request with this Idempotency-Key and body was accepted before: this is its answer, and nothing was "
    "done now.",
    "schema": {"type": "string", "const": "true"},
}
_TOLD = "The first answer to this Idempotency-Key"


def takes_key(operation: dict[str, Any]) -> bool:
    """True of a creating route."""
    return any(parameter["name"] == KEY for parameter in operation.get("parameters", ()))


def describe_replay(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add it to a creating route, from how its first answer is described: the same body and place, with status 200.

    Where the route answers 200 by itself too, both stand there. A first answer that can be given only once (a secret)
    shows in the last example of its schema what a repetition gets.
    """
    responses = operation["responses"]
    made = responses.get("201") or responses["202"]
    schema = made["content"]["application/json"]["schema"]
    own = responses.get("200")
    replay = {
        "description": _TOLD if own is None else f"{own['description']}. Or: {_TOLD}",
        "headers": {**made.get("headers", {}), "Idempotent-Replay": {**_REPLAYED, "required": own is None}},
        "content": {"application/json": {"schema": schema, "example": _examples(schema, schemas)[-1]}},
    }
    # First what the first request is answered, then what its repetition is.
    others = {status: answer for status, answer in responses.items() if status not in ("200", "default")}
    operation["responses"] = {**others, "200": replay, "default": responses["default"]}


def _examples(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    """Of the shape that it names, which must have some."""
    found: list[Any] = schemas[schema["$ref"].rpartition("/")[2]]["examples"]
    return found
