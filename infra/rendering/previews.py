"""A version as people would see it: rendered for each locale and channel, with what the channel makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from channels.base import Content
from channels.plaintext import plain_text, text_of
from domain.carrying import CARRYING, TITLE_MOST
from domain.channels import Channel
from domain.errors import FieldError, Invalid
from domain.judging import Finding, Judged, Remark, judged
from infra.postgres.tenants.templates import TemplateRepository
from infra.rendering.catalog import TemplateCatalog
from infra.rendering.errors import TemplateBroken
from infra.rendering.limits import PUBLISH_CPU_S
from infra.rendering.shape import CHANNEL_KEYS, DEFAULT
from infra.rendering.template import LocaleFound, PublishedTemplate, Step

MADE = "made"
"""Source of a field that no block has: the channel makes it."""
_NOTHING = Judged((), (), (), {})


@dataclass(frozen=True, slots=True)
class Reader:
    """Who would read it."""

    user: Mapping[str, Any] | None = None
    """What `user` is in the template."""
    locale: str | None = None
    """Theirs; None shows every locale."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to show. None: the example data, every channel."""

    data: Mapping[str, Any] | None = None
    channel: str | None = None
    reader: Reader = Reader()


@dataclass(frozen=True, slots=True)
class Shown:
    """One rendering, or why there is none."""

    asked_locale: str
    locale: str
    """The one that is taken; the one that was asked for where none is."""
    channel: str
    content: Content | None
    errors: tuple[FieldError, ...] = ()
    way: Sequence[Step] = ()
    sources: Mapping[str, str] | None = None
    judged: Judged = _NOTHING


class TemplatePreviews:
    """Rendering happens in a thread."""

    def __init__(self, repository: TemplateRepository, *, catalog: TemplateCatalog) -> None:
        self._repository = repository
        self._catalog = catalog

    async def template(self, tenant: str, name: str, *, version: int | None) -> PublishedTemplate:
        """A version of a template that is in use, published or not; the latest without a number. Raises NotFound."""
        stored = await self._repository.get(tenant, name)
        return await self._catalog.version(tenant, name, version or stored.latest_version)

    async def shown(self, template: PublishedTemplate, *, wish: Wish) -> list[Shown]:
        """Each rendering, or what is wrong with it. Raises Invalid (data, channel)."""
        if wish.channel is not None and wish.channel not in CHANNEL_KEYS:
            raise Invalid.field("/channel", "not_allowed", f"is one of {', '.join(sorted(CHANNEL_KEYS))}")
        if wish.data is not None and (errors := template.check(wish.data)):
            raise Invalid(errors)
        places = list(_places(template, locale=wish.reader.locale, channel=wish.channel))
        return await asyncio.to_thread(_all_blocking, template, places, wish)


def _places(template: PublishedTemplate, *, locale: str | None, channel: str | None) -> Iterator[tuple[str, str]]:
    """(locale, channel) pairs: of what is not asked for all there are, the channels without a block of their own too."""
    blocks = list(template.places())
    for tag in template.locales() if locale is None else [locale]:
        if channel is not None:
            yield tag, channel
            continue
        own = {key for there, key in blocks if locale is not None or there == tag}
        yield from (
            (tag, key) for key in (DEFAULT, *Channel, *sorted(own - {DEFAULT, *Channel})) if key in own | {*Channel}
        )


def _all_blocking(template: PublishedTemplate, places: Sequence[tuple[str, str]], wish: Wish) -> list[Shown]:
    data = template.example_data if wish.data is None else wish.data
    return [_one_blocking(template, place, data, wish.reader.user) for place in places]


def _one_blocking(
    template: PublishedTemplate, place: tuple[str, str], data: Mapping[str, Any], user: Mapping[str, Any] | None
) -> Shown:
    locale, channel = place
    way = template.way(channel, locale=locale)
    chosen = way[-1].locale if way[-1].found is LocaleFound.TAKEN else locale
    try:
        whole = template.whole(channel, locale=locale, data=data, user=user, cpu_s=PUBLISH_CPU_S)
    except TemplateBroken as broken:
        return Shown(locale, chosen, channel, None, broken.errors, way)
    sources = template.sources(channel, locale=locale)
    if plain_text(whole) != whole.text and channel in CARRYING:
        sources["text"] = MADE
    content = replace(whole, title=whole.title[:TITLE_MOST], text=plain_text(whole) if channel in CARRYING else whole.text)
    return Shown(locale, chosen, channel, content, (), way, sources, _judged(channel, whole))


def _judged(channel: str, content: Content) -> Judged:
    if channel == DEFAULT:
        return _NOTHING
    if channel not in CARRYING:
        finding = Finding("", Remark.NO_CHANNEL, "This version of Tongda has no such channel: the block waits for it.")
        return replace(_NOTHING, warnings=(finding,))
    return judged(content, CARRYING[Channel(channel)], text_of=text_of)
