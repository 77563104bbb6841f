"""Answers on a terminal: tables and fields for people, or exactly what the API said."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import httpx
import typer

MOST_WIDE: Final = 60
"""Columns that a cell of a table may take; the rest is cut off with an ellipsis. The last column is not cut."""


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json as the API answered.")]


def answer(got: httpx.Response, *, output: Output, table: Callable[[Any], str]) -> None:
    """Print the API's answer: its own bytes, or what `table` makes of it."""
    if output is Output.JSON:
        if got.text:
            typer.echo(got.text)
        return
    typer.echo(table(got.json()) if got.content else "done")


def page(columns: Mapping[str, str]) -> Callable[[Any], str]:
    """Shows a list's answer: `columns` is heading -> field. Says how to go on when there is more."""

    def show(body: Any) -> str:
        shown = grid(columns, body["items"]) if body["items"] else "(none)"
        more = body.get("next_cursor")
        return f"{shown}\nmore: --cursor {clean(more)}" if more else shown

    return show


def grid(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under their headings, aligned; wide characters count twice."""
    last = len(columns) - 1
    cells = [list(columns)] + [
        [cell(row.get(name), most=None if i == last else MOST_WIDE) for i, name in enumerate(columns.values())]
        for row in rows
    ]
    widths = [max(_width(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(_padded(text, widths[i]) for i, text in enumerate(line)).rstrip() for line in cells)


def fields(body: Mapping[str, Any]) -> str:
    """One `name  value` a line; what is null or empty is left out."""
    there = {name: value for name, value in body.items() if value not in (None, [], {}, "")}
    width = max((len(name) for name in there), default=0)
    return "\n".join(f"{name:{width}}  {cell(value, most=None)}" for name, value in there.items())


def cell(value: object, *, most: int | None = MOST_WIDE) -> str:
    """A value in one line: times in this machine's zone, lists with commas, objects as `name=value`."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        text = " ".join(f"{name}={_inner(part)}" for name, part in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(_inner(part) for part in value)
    else:
        text = _moment(str(value))
    text = clean(text)
    return text if most is None or len(text) <= most else text[: most - 1] + "…"


def clean(text: object) -> str:
    """Without what could steer a terminal."""
    return "".join(c if c.isprintable() or c == " " else "·" for c in str(text))


def _inner(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool | None) else str(value)


def _moment(text: str) -> str:
    if len(text) < 20 or text[10:11] != "T":
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo is None else moment.astimezone().isoformat(sep=" ", timespec="milliseconds")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
