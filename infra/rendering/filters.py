"""The filters that templates may use. Each takes and gives bounded amounts, so that no chain of them explodes.

Filters that make text give plain `str`, never `Markup`: in an HTML block whatever they give is escaped. The two that give
`Markup`, `escape` and `nl2br`, escape first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import filters as builtin
from jinja2.runtime import Undefined
from markupsafe import Markup, escape

from infra.rendering.limits import Budget, LimitPassed, short_enough

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def text(value: Any) -> str:
    """A value as people see it: null as nothing, true and false in lower case, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        return _json(value)
    if isinstance(value, int | float | Undefined):
        return str(value)  # an undefined one raises
    raise TypeError("this is not a value that can be shown")


def _json(value: Any) -> str:
    """Piece by piece: a list may hold the same long text many times."""
    pieces: list[str] = []
    length = 0
    for piece in _encoder.iterencode(value):
        length += len(piece)
        short_enough(length)
        pieces.append(piece)
    return "".join(pieces)


def _of_text(method: Callable[[str], str]) -> Callable[[Any], str]:
    return lambda value: method(str(text(value)))


def _join(value: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    length = 0
    for item in value:
        part = text(item[attribute] if attribute is not None else item)
        length += len(part) + len(separator)
        short_enough(length)
        parts.append(str(part))
    return str(separator).join(parts)


def _replace(value: Any, old: str, new: str) -> str:
    source = str(text(value))
    short_enough(len(source) + source.count(old) * len(new))
    return source.replace(old, str(new))


def _truncate(value: Any, length: int = 255, end: str = "…") -> str:
    source = str(text(value))
    return source if len(source) <= length else source[: max(0, length - len(end))] + str(end)


def _round(value: float, precision: int = 0) -> float | int:
    if not -15 <= precision <= 15:
        raise LimitPassed("round takes a precision from -15 to 15")
    return round(value, precision) if precision else round(value)


def _sum(value: Iterable[Any], attribute: str | None = None) -> float:
    items = [item if attribute is None else item[attribute] for item in value]
    return math.fsum(items) if any(isinstance(item, float) for item in items) else sum(items)


def _escape(value: Any) -> Markup:
    source = text(value)
    short_enough(len(source) * 2)
    return escape(source)


def _nl2br(value: Any) -> Markup:
    source = text(value)
    short_enough(len(source) * 2)
    return Markup("<br>\n").join(escape(line) for line in source.splitlines())


def concat(values: Iterable[Any]) -> str:
    """The `~` operator."""
    return _join(values)


def metered(values: Iterable[Any], budget: Budget) -> Iterable[Any]:
    """What every loop of a template really runs over."""
    for value in values:
        budget.spend()
        yield value


def _urlencode(value: Any) -> str:
    if not isinstance(value, Mapping):
        value = text(value)
    encoded = builtin.do_urlencode(value)
    short_enough(len(encoded))
    return encoded


FILTERS: dict[str, Callable[..., Any]] = {
    **{name: builtin.FILTERS[name] for name in (
        "abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length", "list", "map",
        "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique",
    )},
    "capitalize": _of_text(str.capitalize),
    "e": _escape,
    "escape": _escape,
    "join": _join,
    "lower": _of_text(str.lower),
    "nl2br": _nl2br,
    "replace": _replace,
    "round": _round,
    "string": _of_text(str),
    "sum": _sum,
    "title": _of_text(str.title),
    "tojson": _json,
    "trim": _of_text(str.strip),
    "truncate": _truncate,
    "upper": _of_text(str.upper),
    "urlencode": _urlencode,
    "_concat": concat,
    "_metered": metered,
}  # fmt: skip
"""Names with an underscore are ours: a template cannot name them."""
