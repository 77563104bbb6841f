"""What each channel can carry of a content: declared once, as data. `domain.judging` says what a channel makes of one.

A place in a content is a JSON pointer: `/title`, `/text`, `/html`, `/url`, and below `/extra` a channel's own fields. In a
declaration a step may be a pattern: `/extra/data/thing*`. A new channel is one more `Carrying` in `CARRYING`, a unit that
it counts in (parts of an SMS) one more `Unit`. tests/channels/test_carrying.py holds the declarations against the adapters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from domain.channels import Channel

PARTS = ("/title", "/text", "/html", "/url")
WORDS = ("/title", "/text", "/html")
"""What people read; a message with none of them shows nothing."""
TITLE_MOST = 1000
"""Characters. The rest of a title is cut off when a template is rendered, whatever the channel."""


class Carried(Protocol):
    """A rendered content, as far as it matters here."""

    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def html(self) -> str | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def extra(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Unit:
    """What a limit counts in. `name` stands in the API's `sizes`."""

    name: str
    count: Callable[[str], int]


CHARACTERS = Unit("characters", len)
BYTES = Unit("bytes", lambda text: len(text.encode("utf-8", "surrogatepass")))
"""Of UTF-8."""


class Beyond(StrEnum):
    """What happens to what is longer."""

    REFUSED = "refused"
    """The adapter or the provider refuses the message."""
    CUT = "cut"
    """The rest is not sent."""
    ADVISED = "advised"
    """It is sent as it is; some readers show less."""


@dataclass(frozen=True, slots=True)
class Limit:
    at: str
    """A place or a pattern of places; "" is everything that is carried, as one JSON object."""
    most: int
    unit: Unit
    beyond: Beyond
    means: str
    """What becomes of a longer one, as a sentence for whoever writes the template."""


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Characters that do not arrive as they are."""

    at: str
    outside: re.Pattern[str]
    means: str


@dataclass(frozen=True, slots=True)
class Carrying:
    """What one channel does with each part of a content."""

    carries: frozenset[str]
    """Those of `PARTS` that arrive."""
    own: tuple[str, ...] = ()
    """The channel's own fields (patterns of names below `/extra`) that it knows."""
    needs: tuple[str, ...] = ()
    """Places without which the provider refuses the message."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Place -> what it is like when it is empty, where a writer should know."""
    text_from_html: bool = True
    """A text that is empty is made from the html."""
    linked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Place -> schemes of a url that is added at its end where it is not in there already; () is any. Html is added
    to where there is some; a text is begun with it."""
    limits: tuple[Limit, ...] = ()
    alphabets: tuple[Alphabet, ...] = ()


EVERYWHERE_LIMITS = (Limit("/title", TITLE_MOST, CHARACTERS, Beyond.CUT, "the rest of a title is cut off"),)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
EVERYWHERE_ALPHABETS = tuple(Alphabet(at, _CONTROL, "control characters are not shown, or as boxes") for at in WORDS)

CARRYING: Mapping[Channel, Carrying] = {
    Channel.EMAIL: Carrying(
        carries=frozenset(PARTS),
        without={"/title": "a mail without a subject looks like spam to people and to filters"},
        linked={"/text": (), "/html": ("https://", "http://")},
        limits=(
            Limit("/title", 78, CHARACTERS, Beyond.ADVISED, "mail readers show only the beginning of a longer subject"),
            Limit("/html", 102 * 1024, BYTES, Beyond.ADVISED, "Gmail hides what comes after 102 KiB of HTML"),
        ),
    ),
    Channel.INAPP: Carrying(
        carries=frozenset({"/title", "/text", "/url"}),
        without={"/title": "an item without a title is hard to tell from others in a list"},
    ),
    Channel.WEBHOOK: Carrying(
        carries=frozenset(PARTS),
        own=("*",),
        limits=(
            Limit("", 20_000, BYTES, Beyond.ADVISED, "Standard Webhooks advises payloads below 20 kB"),
        ),
    ),
}  # fmt: skip
"""One for each channel. A field in the block of a channel that is not declared here is a field that it does not carry."""
