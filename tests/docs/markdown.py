"""Reading the project's own Markdown: fenced blocks and links."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Everything that a reader of the checkout is sent to."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return [body for named, body in _FENCE.findall(page.read_text(encoding="utf-8")) if named == language]


def links(page: Path) -> list[str]:
    """Targets of inline links, those in fenced blocks left out."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
