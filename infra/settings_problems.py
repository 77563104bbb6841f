"""What is wrong with settings, in one line that names the variables and never quotes a value."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from annotated_types import Ge, Le
from pydantic import ValidationError

from infra.settings import Settings

WHERE = "(docs/settings.md)"
_OUT_OF_RANGE = frozenset({"int_parsing", "int_from_float", "float_parsing", "greater_than_equal", "less_than_equal"})
_NUMBERS = {int: "a whole number", float: "a number"}


def problems_of(error: ValidationError) -> str:
    """Such as "TONGDA_SMTP_PORT: a whole number from 1 to 65535 (docs/settings.md)"."""
    told = "; ".join(_told(dict(one)) for one in error.errors(include_url=False, include_input=False))
    return f"{told} {WHERE}"


def _told(one: dict[str, Any]) -> str:
    name = str(one["loc"][0]) if one["loc"] else ""
    said = _range(name) if one["type"] in _OUT_OF_RANGE else _choice(name) if one["type"] == "enum" else ""
    if one["type"] == "string_pattern_mismatch" and name in Settings.model_fields:
        said = f"it does not look like one. {Settings.model_fields[name].description}".rstrip(".")
    said = said or str(one["msg"]).removeprefix("Value error, ")
    variable = f"TONGDA_{name.upper()}"
    return said if not name or variable in said else f"{variable}: {said}"


def _range(name: str) -> str:
    field = Settings.model_fields.get(name)
    if field is None or field.annotation not in _NUMBERS:
        return ""
    least = next((limit.ge for limit in field.metadata if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    what = _NUMBERS[field.annotation]
    if least is not None and most is not None:
        return f"{what} from {least} to {most}"
    return f"{what}, at least {least}" if least is not None else what


def _choice(name: str) -> str:
    field = Settings.model_fields.get(name)
    kind = field.annotation if field is not None else None
    return f"one of {', '.join(kind)}" if isinstance(kind, type) and issubclass(kind, StrEnum) else ""
