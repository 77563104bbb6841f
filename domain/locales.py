"""Locales (BCP 47): one spelling, and which of the available ones a person gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from enum import StrEnum

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


class LocaleReason(StrEnum):
    """What speaks for a locale."""

    EXACT = "exact"
    """The one that was wanted."""
    SHORTER = "shorter"
    """The wanted one without its last parts: `zh-Hant` for `zh-Hant-TW`."""
    SAME_LANGUAGE = "same_language"
    """A variant of the wanted language."""
    ENGLISH = "english"
    """Many can read it who have asked for something else."""
    TENANT_DEFAULT = "tenant_default"
    """For people without a locale, and the last resort for others."""
    DEFAULT_LANGUAGE = "default_language"
    """The language of the tenant's default."""
    ANY = "any"
    """Better than nothing."""


def candidates(
    locale: str, *, available: Collection[str], default: str = DEFAULT_LOCALE
) -> Iterator[tuple[str, LocaleReason]]:
    """Every locale that is looked at for `locale`, best first, each once with what speaks for it, there or not.

    Exact, then ever shorter (`zh-Hant-TW`, `zh-Hant`, `zh`), then any variant of the same language, then `en`, then the
    default, then the rest by name. Someone without a locale, or with one that cannot be read, gets the default's order.
    """
    wanted = canonical(locale)
    order = [
        *([] if wanted is None else _narrowing(wanted, first=LocaleReason.EXACT, then=LocaleReason.SHORTER)),
        *([] if wanted is None else _variants(wanted, available, why=LocaleReason.SAME_LANGUAGE)),
        *(_of_default(default, available) if wanted is None else []),
        ("en", LocaleReason.ENGLISH),
        (default, LocaleReason.TENANT_DEFAULT),
        *_variants(default, available, why=LocaleReason.DEFAULT_LANGUAGE),
        *((tag, LocaleReason.ANY) for tag in sorted(available)),
    ]
    seen: set[str] = set()
    for tag, why in order:
        if tag not in seen:
            seen.add(tag)
            yield tag, why


def fallback(locale: str, *, available: Collection[str], default: str = DEFAULT_LOCALE) -> Iterator[str]:
    """Those of `candidates` that are available; all of them in the end."""
    return (tag for tag, _ in candidates(locale, available=available, default=default) if tag in available)


def _of_default(default: str, available: Collection[str]) -> list[tuple[str, LocaleReason]]:
    return [
        *_narrowing(default, first=LocaleReason.TENANT_DEFAULT, then=LocaleReason.DEFAULT_LANGUAGE),
        *_variants(default, available, why=LocaleReason.DEFAULT_LANGUAGE),
    ]


def _narrowing(locale: str, *, first: LocaleReason, then: LocaleReason) -> Iterator[tuple[str, LocaleReason]]:
    parts = locale.split("-")
    for length in range(len(parts), 0, -1):
        yield "-".join(parts[:length]), first if length == len(parts) else then


def _variants(locale: str, available: Collection[str], *, why: LocaleReason) -> Iterator[tuple[str, LocaleReason]]:
    language = locale.split("-")[0]
    yield from ((tag, why) for tag in sorted(available) if tag.split("-")[0] == language)
