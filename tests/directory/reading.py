"""All pages of a directory, read to their end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from domain.directory import PAGE, Group, Person

T = TypeVar("T", Person, Group)


async def read(pages: AsyncGenerator[Sequence[T], None], *, page_size: int = PAGE) -> list[T]:
    """All of it; no page is empty or too long, and nothing comes twice."""
    found: list[T] = []
    async with aclosing(pages):
        async for page in pages:
            assert 0 < len(page) <= page_size
            found += page
    assert len({one.id for one in found}) == len(found)
    return found
