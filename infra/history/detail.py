"""An event's detail as text, the same in every store."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


def encode(detail: Mapping[str, object] | None) -> str | None:
    """JSON. Raises TypeError for what JSON cannot carry."""
    return None if detail is None else msgspec.json.encode(detail).decode()


def decode(text: str | None) -> dict[str, object] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, object])
