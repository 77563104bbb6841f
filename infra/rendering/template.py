"""A version of a template: checks data, and renders for a channel and locale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from channels.base import Content
from domain.carrying import TITLE_MOST
from domain.errors import FieldError
from domain.locales import LocaleReason, candidates
from infra.rendering.block import Block, one_line
from infra.rendering.environment import Scope
from infra.rendering.errors import TemplateBroken
from infra.rendering.limits import RENDER_CPU_S
from infra.rendering.shape import DEFAULT, TEXT_KEYS
from infra.rendering.variables import SchemaBroken, Variables, pointer

_ONE_LINE = frozenset({"title", "subject"})
_BAD_SCHEMES = ("javascript:", "data:", "vbscript:", "file:")
_ROUTES = 512
"""How many (channel, locale) pairs are remembered: locales come from profiles."""

Node: TypeAlias = Block | list[Any] | dict[str, Any] | int | float | bool | None
"""A compiled value of a block: strings are Blocks, lists and objects hold more nodes."""
Fields: TypeAlias = dict[str, Node]


class LocaleFound(StrEnum):
    """What a template has in a locale that is looked at."""

    ABSENT = "absent"
    """Nothing."""
    NO_CONTENT = "no_content"
    """Neither a block of the channel nor a default."""
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Step:
    """One locale on the way to the one that is taken."""

    locale: str
    why: LocaleReason
    found: LocaleFound


class PublishedTemplate:
    """One immutable version, compiled. Instances are shared by concurrent readers."""

    __slots__ = ("_certain", "_contents", "_own", "_routes", "category", "example_data", "name", "schema", "version")

    def __init__(
        self,
        name: str,
        *,
        version: int,
        category: str,
        variables: Mapping[str, Any],
        contents: Mapping[str, Mapping[str, Mapping[str, Any]]],
        example_data: Mapping[str, Any] | None = None,
    ) -> None:
        """Compiles everything: milliseconds of CPU. `contents` has passed `shape_errors`. Raises TemplateBroken, which
        names every block that does not compile.
        """
        self.name = name
        self.version = version
        self.category = category
        self.example_data = example_data or {}
        errors: list[FieldError] = []
        try:
            self.schema = Variables(variables)
        except SchemaBroken as broken:
            errors.append(FieldError(pointer("/variables", *broken.path), "schema", str(broken)))
        self._own = {(tag, key): frozenset(block) for tag, blocks in contents.items() for key, block in blocks.items()}
        self._contents = {
            locale: _merged(
                {channel: _compiled(block, here=pointer("/contents", locale, channel), errors=errors)
                 for channel, block in channels.items()}
            )
            for locale, channels in contents.items()
        }  # fmt: skip
        if errors:
            raise TemplateBroken(errors)
        self._certain = self._always_needed()
        self._routes: dict[tuple[str, str], tuple[str, Fields]] = {}

    def check(self, data: Mapping[str, Any], *, given: frozenset[str] = frozenset()) -> list[FieldError]:
        """What is wrong with this data; pointers begin with `/data`. `given` are variables that come from elsewhere.

        That is what the schema says, and each variable without which every rendering would fail.
        """
        errors = self.schema.check(data)
        if given and errors:
            elsewhere = {pointer("/data", name) for name in given}
            errors = [error for error in errors if error.pointer not in elsewhere]
        if not self._certain <= data.keys():
            named = {error.pointer for error in errors}
            for name in sorted(self._certain - data.keys() - given):
                if (here := pointer("/data", name)) not in named:
                    errors.append(FieldError(here, "required", "is required: every text of the template uses it"))
        return errors

    def render(
        self,
        channel: str,
        *,
        locale: str,
        data: Mapping[str, Any],
        user: Mapping[str, Any] | None = None,
        cpu_s: float = RENDER_CPU_S,
    ) -> Content:
        """The content for one person on one channel. Raises TemplateBroken.

        Templates see the data's top-level keys, and `user` (`name`, `locale`) unless the data has a `user` of its own. The
        channel's own fields stand before those of `default`, field by field; a locale that has neither is passed over.
        """
        content = self.whole(channel, locale=locale, data=data, user=user, cpu_s=cpu_s)
        return content if len(content.title) <= TITLE_MOST else replace(content, title=content.title[:TITLE_MOST])

    def whole(
        self,
        channel: str,
        *,
        locale: str,
        data: Mapping[str, Any],
        user: Mapping[str, Any] | None = None,
        cpu_s: float = RENDER_CPU_S,
    ) -> Content:
        """`render` before the title is cut, for those who want to know what is lost."""
        chosen, fields = self._route(channel, locale)
        values = data if "user" in data else {**data, "user": user or {"name": "", "locale": chosen}}
        scope = Scope(values)
        rendered = {key: _rendered(node, scope, key=key, cpu_s=cpu_s) for key, node in fields.items()}
        title, text, html, url = (rendered.pop(key, None) for key in TEXT_KEYS)
        return Content(title=title or "", text=text or "", html=html or None,
                       url=_safe_url(url, block=fields.get("url")), extra=rendered)  # fmt: skip

    def places(self) -> Iterator[tuple[str, str]]:
        """Every (locale, channel or `default`) that the contents name."""
        for locale, channels in self._contents.items():
            for channel in channels:
                yield locale, channel

    def blocks(self) -> Iterator[Block]:
        """Every compiled text, each once."""
        seen: set[str] = set()
        for channels in self._contents.values():
            for fields in channels.values():
                for block in _blocks(fields):
                    if block.pointer not in seen:
                        seen.add(block.pointer)
                        yield block

    def chosen_locale(self, channel: str, *, locale: str) -> str:
        """The locale that `render` takes. Raises TemplateBroken where the template has nothing for the channel."""
        return self._route(channel, locale)[0]

    def way(self, channel: str, *, locale: str) -> list[Step]:
        """The locales that `render` looks at, in order, up to the one that it takes; none is taken where it would raise."""
        steps: list[Step] = []
        for tag, why in candidates(locale, available=self._contents):
            found = self._found(channel, tag)
            steps.append(Step(tag, why, found))
            if found is LocaleFound.TAKEN:
                break
        return steps

    def sources(self, channel: str, *, locale: str) -> dict[str, str]:
        """Field -> the block that it comes from, the channel's own or `default`, in the locale that is taken."""
        chosen, fields = self._route(channel, locale)
        own = self._own.get((chosen, channel), frozenset())
        return {name: channel if name in own else DEFAULT for name in fields}

    def locales(self) -> list[str]:
        """By name."""
        return sorted(self._contents)

    def _found(self, channel: str, tag: str) -> LocaleFound:
        if tag not in self._contents:
            return LocaleFound.ABSENT
        return LocaleFound.TAKEN if self._fields(channel, tag) else LocaleFound.NO_CONTENT

    def _fields(self, channel: str, tag: str) -> Fields | None:
        channels = self._contents[tag]
        return channels.get(channel) or channels.get(DEFAULT)

    def _route(self, channel: str, locale: str) -> tuple[str, Fields]:
        route = self._routes.get((channel, locale))
        if route is None:
            route = self._find(channel, locale)
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            self._routes[channel, locale] = route
        return route

    def _find(self, channel: str, locale: str) -> tuple[str, Fields]:
        for tag, _ in candidates(locale, available=self._contents):
            if tag in self._contents and (fields := self._fields(channel, tag)):
                return tag, fields
        raise TemplateBroken.block("/contents", "no_content", f"no locale has a block for {channel} or a default")

    def _always_needed(self) -> frozenset[str]:
        needs = [
            frozenset[str]().union(*(block.certain for block in _blocks(fields)))
            for channels in self._contents.values()
            for fields in channels.values()
        ]
        return frozenset.intersection(*needs) - {"user"} if needs else frozenset()


def _merged(channels: dict[str, Fields]) -> dict[str, Fields]:
    default = channels.get(DEFAULT, {})
    return {channel: {**default, **fields} for channel, fields in channels.items()}


def _compiled(block: Mapping[str, Any], *, here: str, errors: list[FieldError]) -> Fields:
    return {key: _node(value, here=pointer(here, key), html=key == "html", errors=errors) for key, value in block.items()}


def _node(value: Any, *, here: str, html: bool, errors: list[FieldError]) -> Node:
    if isinstance(value, str):
        try:
            return Block(value, pointer=here, html=html)
        except TemplateBroken as broken:
            errors.extend(broken.errors)
            return None
    if isinstance(value, Mapping):
        return {key: _node(child, here=pointer(here, key), html=False, errors=errors) for key, child in value.items()}
    if isinstance(value, list):
        return [_node(child, here=pointer(here, i), html=False, errors=errors) for i, child in enumerate(value)]
    return value  # type: ignore[no-any-return]  # JSON: a number, true, false or null


def _rendered(node: Node, scope: Scope, *, key: str, cpu_s: float) -> Any:
    if isinstance(node, Block):
        text = node.render(scope, cpu_s=cpu_s)
        return one_line(text) if key in _ONE_LINE else text
    if isinstance(node, dict):
        return {name: _rendered(child, scope, key=name, cpu_s=cpu_s) for name, child in node.items()}
    if isinstance(node, list):
        return [_rendered(child, scope, key="", cpu_s=cpu_s) for child in node]
    return node


def _blocks(node: Node) -> Iterator[Block]:
    if isinstance(node, Block):
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _blocks(child)


def _safe_url(url: str | None, *, block: Node) -> str | None:
    """Without blanks and control characters, which browsers skip when they read the scheme; never one that runs code."""
    if not url:
        return None
    kept = "".join(char for char in url if char > " " and char.isprintable())
    if kept.lower().startswith(_BAD_SCHEMES):
        assert isinstance(block, Block)
        raise TemplateBroken.block(block.pointer, "not_allowed", "a link cannot begin with a scheme that runs code")
    return kept or None
