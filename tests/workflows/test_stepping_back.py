"""Workers without the high lane let others have the cores first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.roles import Role

CHECKOUT = Path(__file__).resolve().parents[2]
AUTOGROUP = Path("/proc/self/autogroup")
_PROGRAM = """
import os, pathlib, sys
from workers.__main__ import step_back
from workers.roles import Role
step_back([Role(sys.argv[1])])
group = pathlib.Path("/proc/self/autogroup")
words = group.read_text().split() if group.exists() else []
print(os.nice(0), words[-1] if words else "none")
"""


def _nice_of(role: Role, *, own_session: bool) -> list[str]:
    """Of the process and of its session (none for one that is not weighed, as the one of PID 1), after it has begun."""
    said = subprocess.run(
        [sys.executable, "-c", _PROGRAM, role.value],
        cwd=CHECKOUT, start_new_session=own_session, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return said.stdout.split()


def test_a_worker_of_the_high_lane_does_not() -> None:
    nice, of_session = _nice_of(Role.HIGH, own_session=True)
    assert nice == str(_ours())
    assert of_session in {"0", "none"}


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not weigh sessions")
def test_a_session_that_is_all_its_own_steps_back() -> None:
    """Otherwise nice would change nothing: each process that the supervisor starts has a session of its own."""
    nice, of_session = _nice_of(Role.LOW, own_session=True)
    assert int(nice) == min(19, _ours() + 10)
    assert of_session == "10"


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not weigh sessions")
def test_somebody_elses_session_is_left_alone() -> None:
    before = AUTOGROUP.read_text()
    assert int(_nice_of(Role.LOW, own_session=False)[0]) == min(19, _ours() + 10)
    assert AUTOGROUP.read_text() == before


def _ours() -> int:
    return os.nice(0)
