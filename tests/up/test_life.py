"""The life of a whole instance, started like a user: side by side, restarted, broken, and stopped at any moment."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.up.running import STOP_S, Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
MOMENTS = 20
HOMES = 4
"""The moments share so many homes, so that most starts find what an interrupted one left."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's plain user can pass through."""
    path = Path(tempfile.mkdtemp(prefix="tongda-life-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def is_locked(home: Path) -> bool:
    if not home.exists():
        return False
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def assert_nothing_left(instance: Instance) -> None:
    home = instance.home
    assert instance.left() == []
    assert not is_locked(home)
    left = [name for name in ("run.json", "supervisor.pid", "postgres/data/postmaster.pid") if (home / name).exists()]
    assert left == []


def test_two_at_once_deliver_side_by_side(folder: Path) -> None:
    both = [Instance(folder / name) for name in ("left", "right")]
    codes = [instance.wait() for instance in both]
    assert codes == [0, 0], "\n".join(instance.screen for instance in both)
    for instance in both:
        assert all(name in instance.screen for name in ("✓ e-mail", "✓ webhook", "✓ in-app"))
        assert_nothing_left(instance)


def test_a_second_start_keeps_key_and_data(folder: Path) -> None:
    home = folder / "left"  # a home that has run before
    key = (home / "api-key").read_text()
    instance = Instance(home)
    assert instance.wait() == 0, instance.screen
    assert (home / "api-key").read_text() == key


@pytest.mark.faults
def test_a_dead_child_is_named_and_everything_stops(folder: Path) -> None:
    instance = Instance(folder / "broken", arguments=())
    facts = instance.until_ready()
    assert set(facts["metrics_urls"]) == {"workers", "workers-high"}
    for url in facts["metrics_urls"].values():
        assert "tongda_" in httpx.get(url, trust_env=False).raise_for_status().text
    os.kill(facts["processes"]["workers-high"], signal.SIGKILL)
    assert instance.wait(STOP_S) == 1
    assert "workers-high was killed from outside (signal 9" in instance.screen
    assert_nothing_left(instance)


@pytest.mark.faults
def test_a_killed_supervisor_leaves_nothing_and_the_next_start_works(folder: Path) -> None:
    instance = Instance(folder / "killed", arguments=())
    os.kill(instance.until_ready()["processes"]["supervisor"], signal.SIGKILL)
    instance.wait()
    assert instance.left(within_s=30) == []
    again = Instance(folder / "killed")
    assert again.wait() == 0, again.screen
    assert_nothing_left(again)


@pytest.fixture(scope="module")
def whole_s(folder: Path) -> float:
    """How long one whole life takes here and now, so that the moments fall all over it."""
    began = time.monotonic()
    instance = Instance(folder / "measured")
    assert instance.wait() == 0, instance.screen
    return time.monotonic() - began


@pytest.mark.faults
@pytest.mark.parametrize("n", range(MOMENTS))
def test_a_signal_at_any_moment_leaves_no_process_and_no_lock(folder: Path, whole_s: float, n: int) -> None:
    chance = random.Random(n)
    number, moment = chance.choice([signal.SIGINT, signal.SIGTERM]), chance.uniform(0, whole_s)
    instance = Instance(folder / f"home-{n % HOMES}")
    time.sleep(moment)
    instance.signal(number)
    # -n: before Python had started; 0: it was just done.
    assert instance.wait(STOP_S) in (0, 128 + number, -number), instance.screen
    assert_nothing_left(instance)


@pytest.mark.faults
@pytest.mark.parametrize("n", range(HOMES))
def test_an_interrupted_home_starts_again(folder: Path, n: int) -> None:
    instance = Instance(folder / f"home-{n}")
    assert instance.wait() == 0, instance.screen
    assert_nothing_left(instance)
