"""Who may know whom (CONTRIBUTING.md, rule 1): workflows import the standard library, temporalio and domain only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {"domain": {"domain"}, "workflows": {"domain", "workflows", "temporalio"}}
FILES = [path for folder in ALLOWED for path in sorted((ROOT / folder).rglob("*.py"))]
NO_IO = {"asyncio", "socket", "subprocess", "urllib.request", "http", "logging", "random"}
"""Parts of the standard library that decisions have no business with."""


def imported(source: str) -> set[str]:
    """Every module that a file imports, wherever in it, relative ones too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_the_allowed_ones(path: Path) -> None:
    """Anything heavy in a workflow file costs 300 ms for each workflow in the sandbox, and I/O breaks replay."""
    allowed = ALLOWED[path.relative_to(ROOT).parts[0]]
    foreign = {name for name in imported(path.read_text()) if name.split(".")[0] not in allowed | sys.stdlib_module_names}
    assert foreign == set()


@pytest.mark.parametrize("path", [p for p in FILES if "domain" in p.parts], ids=lambda path: path.name)
def test_the_domain_does_no_io(path: Path) -> None:
    """It decides; what it needs to know it is given."""
    assert imported(path.read_text()) & NO_IO == set()


def test_the_reader_of_imports_sees_them_all() -> None:
    found = imported("import a.b, c\nfrom d import e\ndef f():\n    from .g import h\n    import i as j")
    assert found == {"a.b", "c", "d", ".g", "i"}
    assert len(FILES) > 10
