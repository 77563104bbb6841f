"""A template's `variables`: a JSON Schema of its data, compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from domain.errors import FieldError

_MASK = "the value"
_CODES = {
    "additionalProperties": "unknown_field", "unevaluatedProperties": "unknown_field", "required": "required",
    "type": "type", "format": "format", "pattern": "format", "maxLength": "too_long", "maxItems": "too_long",
    "maxProperties": "too_long", "minLength": "too_short", "minItems": "too_short", "minProperties": "too_short",
    "minimum": "out_of_range", "maximum": "out_of_range", "exclusiveMinimum": "out_of_range",
    "exclusiveMaximum": "out_of_range", "multipleOf": "out_of_range",
}  # fmt: skip
"""Keyword of JSON Schema -> code of the API; what is not listed is `not_allowed`."""


class SchemaBroken(Exception):
    """The schema itself is not a JSON Schema; `path` leads to the place within it."""

    def __init__(self, message: str, *, path: list[str | int]) -> None:
        super().__init__(message)
        self.path = path


def pointer(prefix: str, *path: str | int) -> str:
    """A JSON pointer (RFC 6901) below `prefix`."""
    return prefix + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class Variables:
    """Checks data. Messages name fields and rules, never values."""

    __slots__ = ("_validator", "schema")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """An empty schema allows everything. Raises SchemaBroken."""
        self.schema = schema
        self._validator: jsonschema_rs.Validator | None = None
        if not schema:
            return
        try:
            self._validator = jsonschema_rs.validator_for(
                dict(schema),
                mask=_MASK,
                validate_formats=True,
                offline=True,  # a $ref must not make this process fetch anything
                pattern_options=jsonschema_rs.RegexOptions(),  # linear time: no pattern can burn CPU
            )
        except ValueError as error:
            path = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else []
            message = error.message if isinstance(error, jsonschema_rs.ValidationError) else "not a JSON Schema"
            raise SchemaBroken(message, path=path) from None

    def check(self, data: Mapping[str, Any], *, prefix: str = "/data") -> list[FieldError]:
        """Every broken rule; pointers begin with `prefix`."""
        validator = self._validator
        if validator is None or validator.is_valid(data):
            return []
        return [error for found in validator.iter_errors(data) for error in _errors(found, prefix=prefix)]

    @property
    def declared(self) -> frozenset[str] | None:
        """The variables that the schema names; None where it does not say (empty, or names by pattern or reference)."""
        if not self.schema:
            return None
        return _declared(self.schema)


def _declared(schema: Mapping[str, Any]) -> frozenset[str] | None:
    if {"$ref", "$dynamicRef", "patternProperties"} & schema.keys():
        return None
    names = {*schema.get("properties", {}), *schema.get("required", [])}
    parts = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, [])]
    parts += [schema[key] for key in ("if", "then", "else") if key in schema]
    for part in parts:
        inner = _declared(part) if isinstance(part, Mapping) else frozenset()
        if inner is None:
            return None
        names |= inner
    return frozenset(names)


def _errors(found: jsonschema_rs.ValidationError, *, prefix: str) -> Iterator[FieldError]:
    kind = found.kind
    code = _CODES.get(kind.name, "not_allowed")
    match kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            yield FieldError(pointer(prefix, *found.instance_path, str(name).strip('"')), code, "This field is required.")
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
            for name in names:
                yield FieldError(pointer(prefix, *found.instance_path, name), code, "is not a variable of this template")
        case jsonschema_rs.ValidationErrorKind.UnevaluatedProperties():
            yield FieldError(
                pointer(prefix, *found.instance_path), code, "holds a field that the template does not declare"
            )
        case jsonschema_rs.ValidationErrorKind.Type(types=types):
            yield FieldError(pointer(prefix, *found.instance_path), code, f"must be of type {' or '.join(types)}")
        case _:
            yield FieldError(pointer(prefix, *found.instance_path), code, found.message)
