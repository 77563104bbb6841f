"""`scripts/temporal-cluster` where nothing has to be built: what it refuses, and what it says of nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from cli.temporal_cluster import __main__ as script
from cli.temporal_cluster import binaries, place
from cli.temporal_cluster.binaries import Programs
from cli.temporal_cluster.cluster import Cluster, PortTaken, Wanted
from cli.up.ports import LOOPBACK


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(place.SETTING, str(tmp_path / "home"))
    return tmp_path / "home"


def test_of_nothing_it_says_that_it_does_not_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["status"]) == 3
    assert "does not run" in capsys.readouterr().out
    assert script.main(["stop"]) == 0
    assert not home.exists()


def test_a_file_of_an_earlier_life_is_not_taken_for_a_running_cluster(home: Path) -> None:
    """The number may be another process by now, such as this one: nobody kills that."""
    home.mkdir()
    (home / "supervisor.pid").write_text(f"{os.getpid()}\n")
    (home / "run.json").write_text(json.dumps({"address": "127.0.0.1:7233", "ui_url": "", "processes": {}}))
    assert script.main(["status"]) == 3
    assert script.main(["stop"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["start", "--servers", "3"], "--servers"), (["start", "--port", "70000"], "--port"), (["run"], "invalid choice")],
)
def test_wrong_arguments(home: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


async def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        port = other.getsockname()[1]
        cluster = Cluster(tmp_path, programs=Programs(tmp_path), say=lambda _: None)
        with pytest.raises(PortTaken, match=f"port {port} is taken"):
            await cluster.start(Wanted(port=port))


def test_without_go_nothing_is_started(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(binaries, "_USUAL_PLACE", str(tmp_path / "nowhere"))
    assert script.main(["start"]) == 1
    assert "Go is missing" in capsys.readouterr().err
    assert not home.exists()


def test_what_is_shown_can_be_copied_as_settings() -> None:
    found = place.Known("127.0.0.1:7233", "http://127.0.0.1:8233", {"temporal-1": os.getpid(), "temporal-2": 2**22 + 1})
    shown = place.lines(found, home=Path("/x"))
    assert shown[-2:] == ["TONGDA_TEMPORAL_ADDRESS=127.0.0.1:7233", "TONGDA_TEMPORAL_UI_URL=http://127.0.0.1:8233"]
    assert [line for line in shown if "does not run any more" in line] == [next(s for s in shown if "temporal-2" in s)]
