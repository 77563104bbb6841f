"""deploy/Dockerfile, as far as it can be held without building it, and the first key, for real."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from deploy import first_key
from infra.postgres.tenants.keys import key_hash

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")


def _copied() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return {source for line in lines for source in line.split()}


def test_what_it_copies_exists_and_is_let_in() -> None:
    allowed = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in allowed
    assert _copied() == {line.removeprefix("!") for line in allowed if line.startswith("!")}
    assert all((ROOT / source).exists() for source in _copied())


def test_every_room_that_a_process_imports_is_in_it() -> None:
    """The processes import nothing of `cli`: the embedded servers stay outside."""
    rooms = {source for source in _copied() if "/" not in source}
    ours = rooms | {"cli", "tests", "benchmarks"}
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        imported = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(imported) & ours <= rooms, path


def test_it_installs_what_is_locked_and_does_not_run_as_root() -> None:
    assert "--require-hashes" in DOCKERFILE
    assert DOCKERFILE.count("\nFROM ") == 2
    last = DOCKERFILE.rindex("\nFROM ")
    assert re.search(r"^USER 10001:10001$", DOCKERFILE[last:], re.MULTILINE)
    assert "://" not in DOCKERFILE


@pytest.mark.postgres
async def test_the_first_key_is_printed_and_works(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    monkeypatch.setenv("TONGDA_DATABASE_URL", database)
    assert await asyncio.to_thread(first_key.main, ["acme"]) == 0
    key = capsys.readouterr().out.strip()
    connection = await asyncpg.connect(database)
    try:
        row = await connection.fetchrow("SELECT tenant, app, roles FROM api_key WHERE key_hash = $1", key_hash(key))
    finally:
        await connection.close()
    assert row is not None
    assert (row["tenant"], row["app"], row["roles"]) == ("acme", "main", ["owner"])
