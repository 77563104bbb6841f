"""TONGDA_HOME and the ports: one supervisor each, secrets for us only, nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from cli.up.environment import BadEnvironment, Environment
from cli.up.home import Home, HomeHeld
from cli.up.ports import Ports, is_free, listens


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_supervisor_is_told_who_holds_the_home(tmp_path: Path) -> None:
    with Home(tmp_path / "home"), pytest.raises(HomeHeld, match=f"process {os.getpid()}"), Home(tmp_path / "home"):
        pass
    with Home(tmp_path / "home"):
        pass


def test_what_a_killed_supervisor_left_is_cleared(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "run.json").write_text("{}")
    (home / "supervisor.pid").write_text("1\n")
    with Home(home):
        assert not (home / "run.json").exists()
    assert not (home / "supervisor.pid").exists()


def test_secrets_are_ours_only_and_stay(tmp_path: Path) -> None:
    with Home(tmp_path / "home") as home:
        secret = home.secret_key()
        home.keep_api_key("tk_1")
        home.publish({"database_url": "x"})
        assert json.loads(home.run_file.read_text()) == {"database_url": "x"}
        assert [mode(p) for p in (home.key_file, home.run_file, home.path / "secret-key")] == [0o600] * 3
    with Home(tmp_path / "home") as home:
        assert (home.secret_key(), home.api_key()) == (secret, "tk_1")
        assert not home.run_file.exists()
    assert len(secret) >= 32


def test_an_existing_home_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "home"
    path.mkdir(mode=0o750)
    with Home(path):
        assert mode(path) == 0o750


def test_a_taken_port_is_replaced_and_none_is_given_twice() -> None:
    ports = Ports()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        assert listens(os.getpgid(0), taken)
        first, second = ports.take(taken), ports.take(taken)
        assert len({taken, first, second}) == 3
        assert not listens(os.getpgid(0), first)


def test_what_the_operator_has_set_wins() -> None:
    environment = Environment({"TONGDA_SMTP_HOST": "mail.example.com", "TONGDA_SMTP_PORT": "", "PATH": "/bin"})
    environment.fill(SMTP_HOST="127.0.0.1", SMTP_PORT=1025)
    child = environment.child(METRICS_PORT=9464)
    assert child["TONGDA_SMTP_HOST"] == "mail.example.com"
    assert child["TONGDA_SMTP_PORT"] == "1025"  # empty counts as not set
    assert (child["TONGDA_METRICS_PORT"], child["PATH"]) == ("9464", "/bin")


def test_a_taken_port_of_the_operator_is_an_error_that_names_it() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        environment = Environment({"TONGDA_API_PORT": str(port)})
        with pytest.raises(BadEnvironment, match=f"TONGDA_API_PORT={port}"):
            environment.port("API_PORT", 8080, ports=Ports(), attempt=0)


def test_a_bad_setting_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGDA_SMTP_PORT", "mail")
    with pytest.raises(BadEnvironment, match="TONGDA_SMTP_PORT"):
        Environment(os.environ).check()
