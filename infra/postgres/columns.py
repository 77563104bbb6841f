"""Many rows in one statement: one array a column, as `unnest` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[tuple[Any, ...]], *, of: int = 0) -> list[list[Any]]:
    """The columns of these rows. Of no row there are `of` empty ones."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(of)]
