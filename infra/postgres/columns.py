"""Many rows in one statement: one array a column, as `unnest` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """The columns of at least one row; of none there is none."""
    return [list(column) for column in zip(*rows, strict=True)]
