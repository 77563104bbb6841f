"""The published JSON Schema of the bodies that msgspec decodes: from the same structs and the same rules that judge them.

What the schema allows is accepted, except for what JSON Schema cannot say, each time with the pointer of the field: how
an address or a web address is formed, moments seen from now, spans and windows of nothing, spans too long, the size of
`metadata`, language tags, time zones, leap seconds and the year 0, a whole number written with a decimal point; and what
only the database knows, such as the lane of what an edit gives a window.
`tests/accept/test_schema.py` holds schema and decoder to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from api.accept.request import BatchRequest, NotificationRequest, OtpRequest, TestSendRequest
from api.accept.rules import TOGETHER
from domain.channels import Channel

REF = "#/components/schemas/{name}"


def body_schemas(bodies: Sequence[type[Struct]]) -> dict[str, Any]:
    """These bodies and all that they refer to, by name, as components of OpenAPI 3.1."""
    _, schemas = msgspec.json.schema_components(bodies, ref_template=REF)
    for kind, rules in TOGETHER.items():
        _add(schemas.get(kind.__name__), [rule.schema() for rule in rules])
    _add(schemas.get("To"), [_IN_APP_HAS_NO_ADDRESS])
    for kind in (NotificationRequest, TestSendRequest, OtpRequest):
        _add(schemas.get(kind.__name__), [{"$ref": REF.format(name="OwnChannel")}])
    schemas["OwnChannel"] = _OWN_CHANNEL
    batch = schemas.get(BatchRequest.__name__)
    if batch is not None:  # its items are decoded one by one
        batch["properties"]["notifications"]["items"] = {"$ref": REF.format(name=NotificationRequest.__name__)}
    for schema in schemas.values():
        if schema.get("required") == []:
            del schema["required"]
        _drop_format(schema)
    return schemas


def _reached_by(channel: Channel, to: dict[str, Any]) -> dict[str, Any]:
    """Such a recipient, and its own channel."""
    return {"properties": {"to": to, "channels": {"items": {"const": channel.value}}}}


_OWN_CHANNEL = {
    "description": "An address is reached on its own channel only.",
    "anyOf": [
        {"properties": {"to": {"required": ["user"]}}},
        _reached_by(Channel.EMAIL, {"required": ["email"]}),
        *(
            _reached_by(channel, {"required": ["channel"], "properties": {"channel": {"const": channel.value}}})
            for channel in Channel
            if channel is not Channel.INAPP
        ),
    ],
}
"""One choice and not a condition for each channel, and by a name of its own: tools that make documents multiply all choices
of an object with each other, and give up at some sixty."""
_IN_APP_HAS_NO_ADDRESS = {"properties": {"channel": {"not": {"const": Channel.INAPP.value}}}}


def _add(schema: dict[str, Any] | None, parts: Sequence[dict[str, Any]]) -> None:
    if schema is not None:
        schema.setdefault("allOf", []).extend(parts)


def _drop_format(schema: Any) -> None:
    """Msgspec names the format `duration`, which is not what it reads: the pattern beside it is."""
    if isinstance(schema, dict):
        if schema.get("format") == "duration":
            del schema["format"]
        for part in schema.values():
            _drop_format(part)
    elif isinstance(schema, list):
        for part in schema:
            _drop_format(part)
