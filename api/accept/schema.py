"""The published JSON Schema of the bodies that msgspec decodes: from the same structs and the same rules that judge them.

What the schema allows is accepted, except for what JSON Schema cannot say, each time with the pointer of the field: how
an address or a web address is formed, moments seen from now, spans of nothing or too long, the size of `metadata`, language
tags, leap seconds and the year 0, a whole number written with a decimal point; and what only the database knows.
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
        _add(schemas.get(kind.__name__), _OWN_CHANNEL)
    batch = schemas.get(BatchRequest.__name__)
    if batch is not None:  # its items are decoded one by one
        batch["properties"]["notifications"]["items"] = {"$ref": REF.format(name=NotificationRequest.__name__)}
    for schema in schemas.values():
        if schema.get("required") == []:
            del schema["required"]
        _drop_format(schema)
    return schemas


def _own_channel(name: str, to: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """An address is reached on its own channel only."""
    recipient = {"required": ["to"], "properties": {"to": {"required": [name], "properties": to}}}
    return {"if": recipient, "then": {"properties": {"channels": {"items": {"const": channel.value}}}}}


_OWN_CHANNEL = [
    _own_channel("email", {}, Channel.EMAIL),
    *(_own_channel("channel", {"channel": {"const": c.value}}, c) for c in Channel),
]
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
