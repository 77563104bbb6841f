"""The little markup that descriptions use: paragraphs and `code`."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]+)`")


def prose(text: str, *, block: bool = True) -> Markup:
    """HTML of a description; everything in it is escaped."""
    paragraphs = [Markup(_CODE.sub(r"<code>\1</code>", str(escape(part)))) for part in re.split(r"\n\s*\n", text.strip())]  # noqa: S704 - escaped just before
    if not block:
        return Markup(" ").join(paragraphs)
    return Markup("").join(Markup("<p>{}</p>").format(part) for part in paragraphs if part)
