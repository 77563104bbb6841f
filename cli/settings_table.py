"""Writes docs/settings.md from the settings class: `python -m cli.settings_table`; `--check` only says if it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from infra.secret_files import is_secret
from infra.settings import Settings

FILE = Path(__file__).parents[1] / "docs" / "settings.md"
_HEAD = """# Settings

Generated from `infra/settings.py` by `python -m cli.settings_table`; a test holds the two together.

Every setting is an environment variable, read once when a process starts; an empty one counts as not set. A value that
cannot be used ends the process at once and says which and why, without showing it. Where a secret is marked *or file*,
`<NAME>_FILE` may name a file that holds it instead (a line break at its end does not count); giving both is an error.
`scripts/run` fills in what you leave out with what it starts itself.

| variable | kind | default | what it is |
| --- | --- | --- | --- |
"""
_BOUNDS = {"ge": "at least {}", "le": "at most {}", "pattern": "matches `{}`"}


def table() -> str:
    """The whole file."""
    return _HEAD + "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        cells = (f"`TONGDA_{name.upper()}`", _kind(field), _default(field), field.description or "")
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _kind(field: FieldInfo) -> str:
    found = [_type(field)]
    for constraint in field.metadata:
        found += [text.format(getattr(constraint, key)) for key, text in _BOUNDS.items() if hasattr(constraint, key)]
    return ", ".join(found)


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if is_secret(field):
        return "secret, *or file*"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(f"`{member.value}`" for member in annotation)
    if (get_origin(annotation) or annotation) is tuple:
        return "list, by commas"
    names = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}
    inner = [one for one in get_args(annotation) if one is not type(None)]
    return names.get(inner[0] if inner else annotation, "text")


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Enum):
        value = value.value
    return f"`{value}`" if value or value == 0 else "none"


def main() -> int:
    """Exit code: 0 written or current, 1 (`--check`) not current."""
    if "--check" in sys.argv[1:]:
        if FILE.read_text(encoding="utf-8") == table():
            return 0
        print("docs/settings.md is not current: run `python -m cli.settings_table`", file=sys.stderr)
        return 1
    FILE.write_text(table(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
