"""What a channel makes of a content, by what `domain.carrying` declares: what is left out, made, warned of, and how long.

Pure, and the same for every channel: there is no branch on a channel here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from html import escape
from typing import Any

from domain.carrying import (
    BYTES,
    CHARACTERS,
    EVERYWHERE_ALPHABETS,
    EVERYWHERE_LIMITS,
    PARTS,
    WORDS,
    Carried,
    Carrying,
    Limit,
)


class Remark(StrEnum):
    """What a preview may remark of a rendering on a channel."""

    NOT_CARRIED = "not_carried"
    """It is written and does not arrive: the channel has no such part, or does not know this field."""
    EMPTY = "empty"
    """Warning: nothing of it has a text that the channel could show."""
    REQUIRED = "required"
    """Warning: the provider refuses a message without it."""
    MISSING = "missing"
    """Warning: it is empty, and `detail` says what that is like."""
    TOO_LONG = "too_long"
    """Warning: `detail` names the limit and what happens to what is longer."""
    CHARACTERS = "characters"
    """Warning: it holds characters that do not arrive as they are."""
    NO_CHANNEL = "no_channel"
    """Warning: this version has no such channel; the block waits for it."""
    MADE = "made"
    """Note: the channel makes a text from the html."""
    LINK_ADDED = "link_added"
    """Note: the channel adds the url to this part, because it is not in there."""
    NO_LINK = "no_link"
    """Note: the url is not added to this part, because of its scheme."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a writer should know. `detail` is a sentence that holds nothing of what the content says."""

    pointer: str
    code: Remark
    detail: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A content on one channel."""

    not_carried: tuple[Finding, ...]
    """What is written and does not arrive."""
    warnings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    """What the channel does by itself."""
    sizes: Mapping[str, Mapping[str, int]]
    """Place ("" is the whole) -> unit -> count, of what is carried and not empty. Estimates: the protocol's own frame and
    encoding come on top."""


@dataclass(frozen=True, slots=True)
class _Arriving:
    """What is left of a content on its way through one channel."""

    parts: Mapping[str, str]
    own: Mapping[str, Any]

    def whole(self) -> str:
        """As one JSON object."""
        every = {at.rpartition("/")[2]: value for at, value in (*self.parts.items(), *self.own.items())}
        return json.dumps(every, ensure_ascii=False)

    def texts(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Texts at the places that a pattern names; "" is the whole."""
        if pattern == "":
            yield "", self.whole()
            return
        wanted = pattern.split("/")
        for at, text in (*self.parts.items(), *_flat(self.own)):
            there = at.split("/")
            if len(wanted) == len(there) and all(map(fnmatchcase, there, wanted)):
                yield at, text


def judged(content: Carried, carrying: Carrying, *, text_of: Callable[[str], str]) -> Judged:
    """What the channel would carry of this content, not cut yet. `text_of` makes a text from html, as adapters do."""
    written = _parts(content)
    own = {f"/extra/{_escaped(name)}": value for name, value in content.extra.items() if value not in (None, "", [], {})}
    known = {at: value for at, value in own.items() if _knows(carrying, at)}
    parts = {at: text for at, text in written.items() if at in carrying.carries}
    if made := carrying.text_from_html and "/text" not in written and "/html" in written:
        parts["/text"] = text_of(written["/html"])
    url = written.get("/url", "")
    arriving = _Arriving({at: text for at, text in parts.items() if text}, known)
    return Judged(
        not_carried=tuple(_left_behind(written, own, carrying=carrying)),
        warnings=tuple(_warnings(arriving, carrying)),
        notes=tuple(_notes(url, {**written, **parts}, carrying, made=made)),
        sizes=_sizes(arriving, carrying),
    )


def _parts(content: Carried) -> dict[str, str]:
    given = {"/title": content.title, "/text": content.text, "/html": content.html, "/url": content.url}
    return {at: text for at, text in given.items() if text}


def _knows(carrying: Carrying, at: str) -> bool:
    name = at.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    return any(fnmatchcase(name, pattern) for pattern in carrying.own)


def _left_behind(written: Mapping[str, str], own: Mapping[str, Any], *, carrying: Carrying) -> Iterator[Finding]:
    for at in written:
        if at not in carrying.carries and not (at == "/url" and carrying.linked):
            yield Finding(at, Remark.NOT_CARRIED, f"This channel has no {at[1:]}: it is left out.")
    for at in own:
        if not _knows(carrying, at):
            yield Finding(at, Remark.NOT_CARRIED, "This channel does not know this field: it is left out.")


def _warnings(arriving: _Arriving, carrying: Carrying) -> Iterator[Finding]:
    if not any(at in arriving.parts for at in WORDS) and not arriving.own:
        yield Finding("", Remark.EMPTY, "Nothing of it has a text that this channel could show.")
    for at in carrying.needs:
        if not any(text for _, text in arriving.texts(at)):
            yield Finding(at, Remark.REQUIRED, "The provider refuses a message without it.")
    for at, means in carrying.without.items():
        if at not in arriving.parts:
            yield Finding(at, Remark.MISSING, f"It is empty: {means}.")
    for limit in (*EVERYWHERE_LIMITS, *carrying.limits):
        yield from _beyond(limit, arriving)
    for alphabet in (*EVERYWHERE_ALPHABETS, *carrying.alphabets):
        for at, text in arriving.texts(alphabet.at):
            if alphabet.outside.search(text):
                yield Finding(
                    at, Remark.CHARACTERS, f"It holds characters that do not arrive as they are: {alphabet.means}."
                )


def _beyond(limit: Limit, arriving: _Arriving) -> Iterator[Finding]:
    for at, text in arriving.texts(limit.at):
        count = limit.unit.count(text)
        if count > limit.most:
            yield Finding(
                at, Remark.TOO_LONG, f"{count} {limit.unit.name}, where {limit.most} are the limit: {limit.means}."
            )


def _notes(url: str, parts: Mapping[str, str], carrying: Carrying, *, made: bool) -> Iterator[Finding]:
    if made:
        yield Finding("/text", Remark.MADE, "There is no text, so that it is made from the html.")
    for at, schemes in carrying.linked.items() if url else ():
        if at == "/html" and at not in parts:
            continue
        forms = (url, escape(url)) if at == "/html" else (url,)
        if schemes and not url.startswith(schemes):
            yield Finding(at, Remark.NO_LINK, f"The url is not added here: it does not begin with {' or '.join(schemes)}.")
        elif not any(form in parts.get(at, "") for form in forms):
            yield Finding(at, Remark.LINK_ADDED, "The url is added at the end, because it is not in there.")


def _sizes(arriving: _Arriving, carrying: Carrying) -> dict[str, dict[str, int]]:
    counted = [(at, unit) for at in ("", *PARTS) for unit in (CHARACTERS, BYTES)]
    sizes: dict[str, dict[str, int]] = {}
    for pattern, unit in (*counted, *((limit.at, limit.unit) for limit in carrying.limits)):
        for at, text in arriving.texts(pattern):
            sizes.setdefault(at, {})[unit.name] = unit.count(text)
    return sizes


def _flat(own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text below, with its place."""
    for at, value in own.items():
        if isinstance(value, str):
            yield at, value
        elif isinstance(value, Mapping):
            yield from _flat({f"{at}/{_escaped(name)}": child for name, child in value.items()})
        elif isinstance(value, list):
            yield from _flat({f"{at}/{place}": child for place, child in enumerate(value)})


def _escaped(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
