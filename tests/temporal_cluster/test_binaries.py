"""Building without Go, with an old one, and with one that fails; a stand-in for Go, since a real build takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.temporal_cluster import binaries
from cli.temporal_cluster.binaries import GoMissing, NotBuilt

NEW_ENOUGH = ".".join(map(str, binaries.GO_VERSION))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, and no Go in the usual place."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(binaries, "_USUAL_PLACE", str(tmp_path / "nowhere"))
    return tmp_path / "cache" / "tongda"


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, version: str, install: str) -> None:
    """The only `go` on the PATH: says `version`, and for `install` does what the shell is told."""
    path = folder / "go"
    path.write_text(f'#!/bin/sh\nif [ "$1" = env ]; then echo go{version}; exit 0; fi\n{install}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_go_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(GoMissing, match=f"install Go {NEW_ENOUGH} or newer"):
        binaries.build_blocking()


@pytest.mark.parametrize("version", ["1.26.7", "1.9.2", "1.25"])
def test_an_old_go_is_named_with_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    stand_in(tmp_path, monkeypatch, version=version, install="exit 9")
    with pytest.raises(GoMissing, match=f"is Go {version}.* needs {NEW_ENOUGH} or newer"):
        binaries.build_blocking()


def test_a_newer_go_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, version="1.27rc1", install="exit 9")
    assert binaries.find_go_blocking() == str(tmp_path / "go")


def test_a_build_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = 'echo "go: downloading a v1" >&2; echo "no space left on device" >&2; exit 1'
    stand_in(tmp_path, monkeypatch, version=NEW_ENOUGH, install=fails)
    with pytest.raises(NotBuilt, match="could not build temporal-server") as failed:
        binaries.build_blocking(say=lambda _: None)
    assert "no space left on device" in str(failed.value)
    assert "downloading" not in str(failed.value)
    assert list(cache.iterdir()) == []
    assert binaries.built() is None


def test_what_is_built_is_kept_and_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned versions, this toolchain only; two programs that Go calls `server` do not overwrite each other."""
    makes = 'for last; do :; done; p=${last%@*}; echo "$GOTOOLCHAIN $last" > "$GOBIN/${p##*/}"'
    stand_in(tmp_path, monkeypatch, version=NEW_ENOUGH, install=makes)
    said: list[str] = []
    programs = binaries.build_blocking(say=said.append)
    assert programs.server.read_text() == f"local go.temporal.io/server/cmd/server@v{binaries.TEMPORAL_VERSION}\n"
    assert programs.sql_tool.read_text() == f"local go.temporal.io/server/cmd/tools/sql@v{binaries.TEMPORAL_VERSION}\n"
    assert programs.web_ui.read_text().endswith(f"@v{binaries.UI_VERSION}\n")
    assert len(said) == 3
    (tmp_path / "go").unlink()
    assert binaries.build_blocking(say=said.append) == programs
    assert len(said) == 3
