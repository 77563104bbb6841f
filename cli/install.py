"""Makes `.venv` in the checkout, installs the locked dependencies, then becomes Python there. Standard library only.

    python -I cli/install.py runtime|dev|tools [ARGUMENT ...]

`runtime` and `dev` install that lock file; `tools` only makes the environment and uv. The arguments are given to the
environment's Python, or for `tools` to uv. Installs only when the lock file changed; several at once are safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "tongda-installed.json"
UV = VENV / "tools" / "bin" / "uv"
LOCKS = CHECKOUT / "requirements"
LEASH = CHECKOUT / "cli" / "up" / "leash.py"

GROUPS = ("runtime", "dev")
"""Each holds all of the one before it."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_S = 5.0
BLINK_S = 0.2
LOG_LINES = 15


class Failed(Exception):
    """The environment could not be made; the text says why and what to do."""


class Interrupted(BaseException):
    """One of ENDING came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str]) -> int:
    group, *rest = arguments
    for number in ENDING:
        signal.signal(number, _interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the script held them back while Python started
        with _alone():
            prepare(group)
        # Held back until the program has its own handlers, so that no signal falls in between.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    except Interrupted as interrupted:
        return 128 + interrupted.number
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    program = UV if group == "tools" else PYTHON
    if rest[:2] != ["-m", "cli.up"]:  # only the supervisor expects blocked signals
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    return os.execv(program, [str(program), *rest])  # noqa: S606 - becoming that program is what this is for


def prepare(group: str) -> None:
    """Bring the environment to the lock of `group`, or of a larger group that is installed already."""
    if not _works():
        _make_venv()
    if not UV.exists() or _stamp().get("tools") != _digest("bootstrap"):
        _install_uv()
    if group == "tools":
        return
    installed = str(_stamp().get("group") or _found())
    if installed in GROUPS and GROUPS.index(installed) > GROUPS.index(group):
        group = installed  # tests would lose their tools
    if _stamp().get("group") != group or _stamp().get("lock") != _digest(group):
        _sync(group)


def _found() -> str:
    """What an environment without our stamp seems to hold: one that was made by hand, or is half made."""
    return "dev" if any(VENV.glob("lib/python*/site-packages/pytest")) else ""


def _works() -> bool:
    if not PYTHON.exists():
        return False
    check = [str(PYTHON), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return _ask(check) is not None


def _make_venv() -> None:
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Failed(
            f"Python {version} ({sys.executable}) has no venv with pip. Install the package python3-venv "
            f"(or python{version}-venv; on Debian and Ubuntu: apt-get install python3-venv) and start again."
        )
    _run("Making the Python environment in .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])


def _install_uv() -> None:
    pip = next((p for p in (str(PYTHON), sys.executable) if _has_pip(p)), None)
    if pip is None:
        raise Failed("pip is missing: install the package python3-pip (or remove .venv) and start again.")
    shutil.rmtree(VENV / "tools", ignore_errors=True)
    _run("Installing uv", [
        pip, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-input", "--disable-pip-version-check",
        "--target", str(VENV / "tools"), "--requirement", str(LOCKS / "bootstrap.lock"),
    ])  # fmt: skip
    _write_stamp({**_stamp(), "tools": _digest("bootstrap")})


def _sync(group: str) -> None:
    tools = _stamp().get("tools")
    _write_stamp({"tools": tools})  # an interrupted sync is done again
    # Bytecode now, in 4 s: where Python does not keep it, every process would otherwise start 2 s later (measured).
    options = ["--require-hashes", "--compile-bytecode", "--python", str(PYTHON)]
    _run(f"Installing dependencies ({group})", [str(UV), "pip", "sync", *options, str(LOCKS / f"{group}.lock")])
    _write_stamp({"tools": tools, "group": group, "lock": _digest(group)})


def _has_pip(python: str) -> bool:
    return _ask([python, "-m", "pip", "--version"]) is not None


def _digest(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.lock").read_bytes()).hexdigest()


def _stamp() -> dict[str, object]:
    try:
        content = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_stamp(content: dict[str, object]) -> None:
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(STAMP)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Only one of us at a time works on the environment. The lock goes with the process, whatever its end."""
    folder = os.open(LOCKS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another script that sets up .venv ...", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _run(title: str, command: Sequence[str]) -> None:
    """Run it in a session of its own, so that we end it, not the terminal; show that it goes on. Raises Failed."""
    started, live = time.monotonic(), sys.stdout.isatty()
    print(f"{title} ...", end="" if live else "\n", flush=True)
    leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(signal.SIGKILL)), "-1", "-1"]
    with tempfile.TemporaryFile() as said:
        # Held back until we know the process; the leash lets its own signals through again.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        process = subprocess.Popen(  # noqa: S603 - our own commands
            [*leash, *command], cwd=CHECKOUT, env=_environment(), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            while process.poll() is None:
                if live:
                    print(f"\r{title} ... {time.monotonic() - started:.0f} s", end="", flush=True)
                time.sleep(BLINK_S)
        finally:
            _end(process)
            if live:
                print(flush=True)
        if process.returncode != 0:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
            raise Failed(
                "\n".join([f"{title} failed (exit code {process.returncode}):", *(f"  | {line}" for line in last)])
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it is left when this returns."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """Ours, with what the operator has told pip (a mirror, a certificate) told to uv too."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    told = {"UV_DEFAULT_INDEX": _pip_setting("index-url"), "SSL_CERT_FILE": _pip_setting("cert")}
    known = "UV_DEFAULT_INDEX" in environment or "UV_INDEX_URL" in environment
    for name, value in told.items():
        if value and name not in environment and not (name == "UV_DEFAULT_INDEX" and known):
            environment[name] = value
    return environment


def _pip_setting(name: str) -> str:
    """What pip would use: its environment variable, else its configuration files; empty if neither."""
    from_environment = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_environment or not PYTHON.exists():
        return from_environment or ""
    return _ask([str(PYTHON), "-m", "pip", "config", "get", f"global.{name}"]) or ""


def _ask(command: Sequence[str]) -> str | None:
    """What a short command says; None if it fails."""
    answer = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own commands
    return answer.stdout.strip() if answer.returncode == 0 else None


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
