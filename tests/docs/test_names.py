"""What the pages name exists: settings, routes, problem codes, and names of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from api.app import create_app
from api.problem_types import PROBLEM_TYPES
from cli.tongda.app import build
from infra.settings import Settings
from tests.docs.markdown import ROOT, pages

HISTORY = ("CHANGELOG.md", "docs/decisions/", "docs/performance.md")
"""They also tell of what was, and of what there might have been."""
CODE = ("*.py", "*.sql", "*.yml", "*.yaml", "*.html", "*.js", "*.mako", "Dockerfile", ".env.example")
ROOMS = (
    "activities", "api", "benchmarks", "channels", "cli", "deploy", "domain", "infra", "sandbox", "scripts", "workers",
    "workflows",
)  # fmt: skip
OF_OTHERS = {"max_connections", "pg_replication_slots", "archive_command", "pg_wal", "sched_autogroup_enabled"}
"""Names of PostgreSQL's and of Linux."""
OF_THE_GUIDES_PAGE = {"TONGDA_API", "TONGDA_TOKEN"}
"""Its example in a browser has variables of these names."""


def present() -> list[Path]:
    """The pages that tell how things are now."""
    return [page for page in pages() if not str(page.relative_to(ROOT)).startswith(HISTORY)]


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code() -> str:
    files = [path for room in ROOMS for pattern in CODE for path in (ROOT / room).rglob(pattern)]
    files += [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.fixture(scope="module")
def said() -> str:
    return code()


@pytest.fixture(scope="module")
def shapes() -> list[list[str]]:
    """The paths in OpenAPI, taken apart, with `*` for a parameter."""
    paths = create_app(Settings()).fastapi.openapi()["paths"]
    return [re.sub(r"\{\w+\}", "*", path).split("/") for path in paths]


@pytest.mark.parametrize("page", present(), ids=names)
def test_settings_exist(page: Path, said: str) -> None:
    known = {f"TONGDA_{field.upper()}" for field in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known} | set(re.findall(r"TONGDA_[A-Z0-9_]+", said)) | OF_THE_GUIDES_PAGE
    sandbox = (ROOT / "sandbox/settings.py").read_text(encoding="utf-8")
    known |= {f"TONGDA_{name}" for name in re.findall(r'\b(?:text|port|path)\("(\w+)"', sandbox)}
    for name, star in re.findall(r"(TONGDA_[A-Z0-9_]+)(\*?)", page.read_text(encoding="utf-8")):
        assert any(other.startswith(name) for other in known) if star else name in known, name


@pytest.mark.parametrize("page", present(), ids=names)
def test_routes_exist(page: Path, shapes: list[list[str]]) -> None:
    text = page.read_text(encoding="utf-8")
    for named in re.findall(r"/v1/(?:[\w\-/$.]|\{[^}]*\})+", text):
        parts = re.sub(r"\{[^}]*\}|\$\w+", "*", named.rstrip("/.")).split("/")
        alike = [shape for shape in shapes if len(shape) == len(parts)]
        assert any(all(a == b or "*" in (a, b) for a, b in zip(shape, parts, strict=True)) for shape in alike), named


@pytest.mark.parametrize("page", present(), ids=names)
def test_problem_codes_exist(page: Path) -> None:
    """A code stands behind its status: 422 `recipient_gone`, or in an answer."""
    text = page.read_text(encoding="utf-8")
    for status, name in re.findall(r"\b([45]\d\d) `([a-z_]+)`", text):
        assert name in PROBLEM_TYPES, name
        assert PROBLEM_TYPES[name].status == int(status), name


@pytest.mark.parametrize("page", present(), ids=names)
def test_names_of_the_code_exist(page: Path, said: str) -> None:
    """Fields, reasons, codes, events, tables, metrics: what is in backquotes and has an underscore."""
    words = set(re.findall(r"\w+", said)) | OF_OTHERS
    named = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", page.read_text(encoding="utf-8")))
    assert {name for name in named if name not in words} == set()


def options(command: Any) -> set[str]:
    """All that a command and what is below it take."""
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    below = command.commands.values() if isinstance(command, TyperGroup) else ()
    return own.union(*(options(one) for one in below))


def test_commands_of_tongda_exist_and_are_explained() -> None:
    tongda = get_command(build())
    assert isinstance(tongda, TyperGroup)
    for page in present():
        for name, below in re.findall(r"scripts/tongda ([a-z-]+)(?: ([a-z-]+))?", page.read_text(encoding="utf-8")):
            assert name in tongda.commands, name
            command = tongda.commands[name]
            assert not isinstance(command, TyperGroup) or not below or below in command.commands, f"{name} {below}"
    explained = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)(.*)$", explained, re.MULTILINE)
    for name, command in tongda.commands.items():
        said = "\n".join(rest for one, rest in rows if one == name)
        assert said, name
        if isinstance(command, TyperGroup):
            assert {below for below in command.commands if not re.search(rf"\b{below}\b", said)} == set(), name
        assert set(re.findall(r"`(--[a-z-]+)", said)) <= options(command), name
