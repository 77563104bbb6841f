"""The environment: installed again only when a lock file changed, never made smaller, interrupted without a trace."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from cli import install
from tests.up.processes import gone


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An environment that works, without anything installed; gives the titles of what is run."""
    (tmp_path / ".venv" / "tools" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin").mkdir()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "requirements").mkdir()
    for name in ("bootstrap", "runtime", "dev"):
        (tmp_path / "requirements" / f"{name}.lock").write_text(f"{name} 1")
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(install, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(install, "STAMP", tmp_path / ".venv" / "stamp.json")
    monkeypatch.setattr(install, "UV", tmp_path / ".venv" / "tools" / "bin" / "uv")
    monkeypatch.setattr(install, "LOCKS", tmp_path / "requirements")
    run: list[str] = []

    def note(title: str, _command: object) -> None:
        run.append(title)
        install.UV.parent.mkdir(parents=True, exist_ok=True)
        install.UV.touch()

    monkeypatch.setattr(install, "_run", note)
    monkeypatch.setattr(install, "_has_pip", lambda _python: True)
    return run


def test_installs_once_and_again_when_the_lock_changed(commands: list[str]) -> None:
    install.prepare("runtime")
    assert commands == ["Installing uv", "Installing dependencies (runtime)"]
    install.prepare("runtime")
    assert len(commands) == 2
    (install.LOCKS / "runtime.lock").write_text("runtime 2")
    install.prepare("runtime")
    assert commands[2:] == ["Installing dependencies (runtime)"]


def test_a_dev_environment_is_never_made_smaller(commands: list[str]) -> None:
    install.prepare("dev")
    install.prepare("runtime")
    assert commands == ["Installing uv", "Installing dependencies (dev)"]
    (install.LOCKS / "dev.lock").write_text("dev 2")
    install.prepare("runtime")
    assert commands[2:] == ["Installing dependencies (dev)"]


def test_a_dev_environment_made_by_hand_is_kept(commands: list[str]) -> None:
    (install.VENV / "lib" / "python3.11" / "site-packages" / "pytest").mkdir(parents=True)
    install.prepare("runtime")
    assert commands == ["Installing uv", "Installing dependencies (dev)"]


def test_an_interrupted_installation_is_done_again(commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    install.prepare("runtime")

    def interrupted(_title: str, _command: object) -> None:
        raise install.Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(install, "_run", interrupted)
        with pytest.raises(install.Interrupted):
            install.prepare("dev")
    assert "group" not in json.loads(install.STAMP.read_text())
    install.prepare("runtime")
    assert commands[2:] == ["Installing dependencies (runtime)"]


def test_a_python_without_ensurepip_gets_the_package_named(commands: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ensurepip" else object())
    install.PYTHON.unlink()
    with pytest.raises(install.Failed, match="python3-venv"):
        install.prepare("runtime")
    assert commands == []


def test_the_dev_lock_holds_all_of_the_runtime_lock() -> None:
    def pins(name: str) -> set[str]:
        lines = (install.CHECKOUT / "requirements" / f"{name}.lock").read_text().splitlines()
        return {line.rstrip(" \\") for line in lines if line[:1].isalnum()}

    assert pins("runtime") <= pins("dev")


def test_lock_files_name_no_address() -> None:
    for lock in (install.CHECKOUT / "requirements").glob("*.lock"):
        assert "://" not in lock.read_text()
        assert "--hash=sha256:" in lock.read_text()


@pytest.mark.faults
@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_installs_leaves_no_process_and_no_lock(tmp_path: Path, number: signal.Signals) -> None:
    for part in ("cli", "scripts", "requirements"):
        shutil.copytree(install.CHECKOUT / part, tmp_path / part)
    moments, mark = random.Random(int(number)), str(uuid.uuid4())
    for _ in range(3):
        script = subprocess.Popen(
            [tmp_path / "scripts" / "run", "--once"],
            env={**os.environ, "TONGDA_INSTANCE": mark},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(0.3, 12))
        script.send_signal(number)
        # 1: so late that it was installed, and the copy has nothing to start.
        assert script.wait(20) in (1, 128 + number, -number)
        assert gone(mark, home=tmp_path / ".tongda", within_s=3) == []
