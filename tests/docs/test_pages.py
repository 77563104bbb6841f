"""What the pages promise: links resolve, commands exist, and what is listed is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from cli.up.temporal import DYNAMIC_CONFIG
from infra.postgres.tables import metadata
from infra.telemetry import engine_metrics, metrics
from tests.docs.markdown import ROOT, blocks, links, pages

OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MOST_LINES = 400


def _anchors(page: Path) -> set[str]:
    """GitHub's names of headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or found.suffix != ".md" or anchor in _anchors(found), target


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_what_exists(page: Path) -> None:
    said = "\n".join([*blocks(page, "sh"), *blocks(page, "")])
    for script in re.findall(r"(?:^|\s)(?:\./)?((?:scripts|deploy)/[\w./-]+)", said):
        assert (ROOT / script).exists() or script == "deploy/.env", script
    for module in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    """In the prose a file stands in backquotes: with its folder, as `.../x.py` beside the one before, or a test alone."""
    folder = Path()
    for name in re.findall(r"`([\w./-]+\.py)`", page.read_text(encoding="utf-8")):
        path = ROOT / name
        if name.startswith(".../"):
            path = folder / name.removeprefix(".../")
        elif "/" not in name:
            assert next((ROOT / "tests").rglob(name), None) or (folder / name).exists(), name
            continue
        assert path.exists(), name
        folder = path.parent


def test_the_two_readmes_are_in_step() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
    assert "README.zh-CN.md" in links(english)
    assert "README.md" in links(chinese)
    for mark in (r"^#+ ", r"^- ", r"^\| "):
        counts = [len(re.findall(mark, page.read_text(encoding="utf-8"), re.MULTILINE)) for page in (english, chinese)]
        assert counts[0] == counts[1], mark
    here = {*links(english), "README.md"} - {"README.zh-CN.md"}
    there = {*links(chinese)} - {"README.md"} | {"README.md"}
    assert {t for t in here if not t.startswith("#")} == {t for t in there if not t.startswith("#")}


def test_every_metric_is_explained() -> None:
    ours = [
        value
        for module in (metrics, engine_metrics)
        for value in vars(module).values()
        if isinstance(value, MetricWrapperBase)
    ]
    names = {sample.name for metric in ours for sample in metric.describe()}
    assert names
    assert {name for name in names if name not in OPERATIONS} == set()


def test_every_temporal_setting_is_explained() -> None:
    assert {name for name in DYNAMIC_CONFIG if name not in OPERATIONS} == set()


def test_log_events_are_explained_and_exist() -> None:
    """Of the product: all that is a warning or worse, and of the rest what the table names."""
    rooms = ("api", "workers", "activities", "infra")
    said = "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in (ROOT / room).rglob("*.py"))
    table = OPERATIONS.split("## Logs")[1].split("## Metrics")[0]
    events = {name for row in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)}
    serious = set(re.findall(r'log(?:\.(?:warning|error|exception|critical)|ged)\(\s*"([^"]+)"', said))
    assert {"cohort.start_failed", "request.failed"} <= serious
    assert serious - events == set()
    assert {event for event in events if f'"{event}"' not in said} == set()


def test_every_table_stands_in_architecture() -> None:
    named = set(re.findall(r"`(\w+)`", ARCHITECTURE.split("## Tables")[1].split("## Rules")[0]))
    assert {table for table in metadata.tables if table not in named} == set()


def test_no_file_of_python_is_longer_than_contributing_says() -> None:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert files
    assert [str(path) for path in files if path.read_text(encoding="utf-8").count("\n") > MOST_LINES] == []
