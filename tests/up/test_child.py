"""Children: ended with their whole group, and never outliving the one who started them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.up.child import Child, ChildFailed, Command, run_step
from cli.up.service import CHECKOUT

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def command(tmp_path: Path, *arguments: str, stop_s: float = 3.0) -> Command:
    return Command(
        name="child", arguments=arguments, log=tmp_path / "child.log", environment=dict(os.environ), stop_s=stop_s
    )


def alive(pid: int) -> bool:
    """True if it runs; a dead child that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


async def until_said(child: Child, what: str) -> None:
    for _ in range(3000):
        if any(what in line for line in child.tail()):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{what!r} was not said")


async def test_a_child_that_does_not_listen_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = await Child.start(command(tmp_path, sys.executable, "-c", STUBBORN, stop_s=0.3))
    await until_said(child, "up")
    await child.stop()
    assert child.ending() == "was killed by SIGKILL"


async def test_of_a_child_that_was_killed_the_log_is_not_blamed(tmp_path: Path) -> None:
    """Caught: lines that were minutes old stood there like the cause."""
    child = await Child.start(command(tmp_path, sys.executable, "-c", STUBBORN))
    await until_said(child, "up")
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    said = str(child.failure())
    assert "killed from outside (signal 9" in said
    assert "its log says nothing about it" in said
    assert "\n  | up" not in said


async def test_hurry_ends_the_grace(tmp_path: Path) -> None:
    child = await Child.start(command(tmp_path, sys.executable, "-c", STUBBORN, stop_s=60.0))
    await until_said(child, "up")
    hurry = asyncio.Event()
    hurry.set()
    began = time.monotonic()
    await child.stop(hurry=hurry)
    assert time.monotonic() - began < 30


async def test_the_group_goes_with_its_leader(tmp_path: Path) -> None:
    child = await Child.start(command(tmp_path, "sh", "-c", "sleep 60 & echo grandchild $!; wait"))
    await until_said(child, "grandchild")
    grandchild = int(child.tail()[-1].split()[1])
    assert alive(grandchild)
    await child.stop()
    for _ in range(1500):
        if not alive(grandchild):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the grandchild lives")


async def test_a_failed_step_says_how_it_ended_and_its_last_words(tmp_path: Path) -> None:
    step = command(tmp_path, "sh", "-c", "echo no such table; exit 7")
    with pytest.raises(ChildFailed, match="exit code 7") as failed:
        await run_step(step, within_s=60)
    assert "no such table" in str(failed.value)


async def test_a_cancelled_step_leaves_nothing(tmp_path: Path) -> None:
    step = command(tmp_path, "sh", "-c", "echo $$; exec sleep 60")
    running = asyncio.create_task(run_step(step, within_s=60))
    for _ in range(3000):
        if step.log.exists() and step.log.read_text().strip():
            break
        await asyncio.sleep(0.02)
    pid = int(step.log.read_text())
    running.cancel()
    await asyncio.wait({running})
    assert not alive(pid)


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    program = f"""
import asyncio, os, pathlib
from cli.up.child import Child, Command
async def main():
    log = pathlib.Path({str(tmp_path)!r}) / "log"
    child = await Child.start(Command("c", ["sleep", "60"], log, dict(os.environ)))
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
