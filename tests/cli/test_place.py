"""Where the command line finds the API and the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.tongda.place import NoPlace, find_place
from tests.cli.conftest import Cli, tongda

AWAY = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "api-key").write_text("tk_running\n")
    (tmp_path / "run.json").write_text(json.dumps({"api_url": AWAY, "key_file": str(tmp_path / "api-key")}))
    return tmp_path


def test_a_service_on_this_machine(home: Path) -> None:
    place = find_place({"TONGDA_HOME": str(home)})
    assert (place.url, place.key) == (AWAY, "tk_running")
    assert "tk_running" not in repr(place)


def test_the_environment_comes_first(home: Path) -> None:
    place = find_place({"TONGDA_HOME": str(home), "TONGDA_API_URL": "http://far/", "TONGDA_API_KEY": "tk_given"})
    assert (place.url, place.key) == ("http://far", "tk_given")


def test_a_key_from_a_file(home: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tk_file\n")
    assert find_place({"TONGDA_HOME": str(home), "TONGDA_API_KEY_FILE": str(tmp_path / "key")}).key == "tk_file"
    with pytest.raises(NoPlace, match="TONGDA_API_KEY_FILE names"):
        find_place({"TONGDA_HOME": str(home), "TONGDA_API_KEY_FILE": "/nonexistent"})


def test_the_key_of_this_machine_is_not_given_to_another_service(home: Path) -> None:
    with pytest.raises(NoPlace, match="set TONGDA_API_KEY"):
        find_place({"TONGDA_HOME": str(home), "TONGDA_API_URL": "http://far"})


def test_neither_says_what_to_do(tmp_path: Path) -> None:
    said = tongda("list", environment={"TONGDA_HOME": str(tmp_path)})
    assert said.code == 3
    assert "scripts/tongda up" in said.err
    assert "TONGDA_API_URL" in said.err


def test_nothing_there_is_3_and_says_what_to_start(home: Path) -> None:
    said = tongda("list", environment={"TONGDA_HOME": str(home)})
    assert said.code == 3
    assert f"Nothing answers at {AWAY}" in said.err
    assert "tk_running" not in said.err


def test_a_wrong_key_is_1_and_not_shown(cli: Cli) -> None:
    said = tongda("list", environment={"TONGDA_API_URL": cli.url, "TONGDA_API_KEY": "tk_wrong"})
    assert said.code == 1
    assert "401" in said.err
    assert "doctor" in said.err
    assert "tk_wrong" not in said.err
