"""A readable text of a content that has only HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from channels.base import Content

_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figure", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "tbody", "tfoot", "thead", "tr", "ul",
})  # fmt: skip
_SILENT = frozenset({"head", "script", "style", "template", "title"})
_SPACES = re.compile(r"[ \t\r\n\f]+")
_PADDING = re.compile(r" *\n *")
_GAPS = re.compile(r"\n{3,}")


class _Text(HTMLParser):
    """Collects text: blocks become lines, list items get a dash, a link is followed by its address, an image is its alt."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0
        self._links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _BLOCKS:
            self.parts.append("\n- " if tag == "li" else "\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")
        elif tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self.parts)))
        elif tag == "img" and not self._silent:
            self.parts.append(dict(attrs).get("alt") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "a" and self._links:
            href, start = self._links.pop()
            shown = "".join(self.parts[start:]).strip()
            if href.startswith(("http://", "https://", "mailto:")) and href.removeprefix("mailto:") != shown:
                self.parts.append(f" ({href})" if shown else href)
        elif tag in _BLOCKS and tag != "br":
            self.parts.append("\n\n" if tag in ("p", "table", "ul", "ol") else "\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(_SPACES.sub(" ", data))


def plain_text(content: Content) -> str:
    """The text, or what the HTML says where there is none: no channel shows a message as empty that has words."""
    return content.text or (text_of(content.html) if content.html else "")


def text_of(html: str) -> str:
    """The words of `html` in reading order, without markup; "" if it holds none."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    return _GAPS.sub("\n\n", _PADDING.sub("\n", "".join(parser.parts))).strip()
