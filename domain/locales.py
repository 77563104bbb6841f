"""Locales (BCP 47): one spelling, and which of the available ones a person gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

DEFAULT_LOCALE = "zh-CN"
"""The tenant's default: for people without a locale, and the last resort for others."""

_SHAPE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-[A-Za-z0-9]{5,8})*")


def canonical(locale: str) -> str | None:
    """`zh_cn` as `zh-CN`, `ZH-hant-tw` as `zh-Hant-TW`; None where it is no language tag."""
    tag = locale.replace("_", "-")
    if len(tag) > 35 or not _SHAPE.fullmatch(tag):
        return None
    language, *rest = tag.split("-")
    return "-".join([language.lower(), *map(_subtag, rest)])


def _subtag(part: str) -> str:
    if len(part) == 4:
        return part.title()
    return part.upper() if len(part) <= 3 else part.lower()


def fallback(locale: str, *, available: Collection[str], default: str = DEFAULT_LOCALE) -> Iterator[str]:
    """The available locales that suit `locale`, best first, each once; all of them in the end.

    Exact, then ever shorter (`zh-Hant-TW`, `zh-Hant`, `zh`), then any variant of the same language, then `en`, then the
    default, then the rest by name. Someone without a locale, or with one that cannot be read, gets the default's order.
    """
    wanted = canonical(locale) or default
    seen: set[str] = set()
    for candidate in (*_narrowing(wanted), *_variants(wanted, available), "en", default, *_variants(default, available),
                      *sorted(available)):  # fmt: skip
        if candidate in available and candidate not in seen:
            seen.add(candidate)
            yield candidate


def _narrowing(locale: str) -> Iterator[str]:
    parts = locale.split("-")
    for length in range(len(parts), 0, -1):
        yield "-".join(parts[:length])


def _variants(locale: str, available: Collection[str]) -> Iterator[str]:
    language = locale.split("-")[0]
    yield from sorted(tag for tag in available if tag.split("-")[0] == language)
