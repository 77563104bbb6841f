"""`scripts/cassandra` as a user types it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

import pytest

from cli.cassandra import jars
from infra.settings import Settings

SCRIPT = Path(__file__).parents[2] / "scripts" / "cassandra"


async def script(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, [str(SCRIPT), *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.cassandra
@pytest.mark.timeout(600)
async def test_it_starts_once_and_stops(cassandra: Settings, tmp_path: Path) -> None:
    """`cassandra` says whether one can run here at all, and is a second one beside it."""
    assert (await script("status", "node", folder=tmp_path)).returncode == 3
    try:
        started = await script("start", "node", folder=tmp_path)
        assert started.returncode == 0, started.stderr
        again = await script("start", "node", folder=tmp_path)
        assert (again.returncode, again.stdout) == (0, started.stdout)
        said = dict(line.split("=", 1) for line in started.stdout.splitlines())
        ((host, port),) = Settings(cassandra_hosts=(said["TONGDA_CASSANDRA_HOSTS"],)).cassandra_endpoints
        assert cassandra.cassandra_endpoints != [(host, port)]
    finally:
        stopped = await script("stop", "node", folder=tmp_path)
    assert stopped.returncode == 0
    assert (await script("status", "node", folder=tmp_path)).returncode == 3
    with pytest.raises(OSError), socket.create_connection((host, port), 1):
        pass


def test_without_java_or_maven_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(jars, "java", lambda: "java")
    with pytest.raises(jars.Missing, match="package maven"):
        jars.jars_blocking()
    monkeypatch.undo()
    monkeypatch.setattr(jars, "_version_blocking", lambda _: 21)
    jars.java.cache_clear()
    with pytest.raises(jars.Missing, match="openjdk-17"):
        jars.java()
    jars.java.cache_clear()


def test_the_download_list_names_the_version_that_the_cache_does() -> None:
    assert f"<version>{jars.VERSION}</version>" in (jars.SERVER / "pom.xml").read_text(encoding="utf-8")
