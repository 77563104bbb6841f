"""The TONGDA_* environment of the children: what the operator has set wins, the supervisor fills in the rest."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping

from pydantic import ValidationError

from cli.up.ports import Ports, is_free
from infra.secret_files import file_of, secret_variables
from infra.settings import Settings
from infra.settings_problems import problems_of

PREFIX = "TONGDA_"


class BadEnvironment(Exception):
    """A setting that cannot be used; the text names the variable."""


class Environment:
    """The operator's variables, and ours beside them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        # An empty variable counts as not set, as in most compose files and shells.
        self._values = {n: v for n, v in given.items() if v or not n.startswith(PREFIX)}
        self._given = {n for n in self._values if n.startswith(PREFIX)}
        self._values.setdefault(f"{PREFIX}INSTANCE", str(uuid.uuid4()))
        self._values["PYTHONUNBUFFERED"] = "1"  # a log's last lines are wanted when its process was killed

    def given(self, *names: str) -> bool:
        """True if the operator has set one of these (named without the prefix)."""
        return any(PREFIX + name in self._given for name in names)

    def __getitem__(self, name: str) -> str:
        return self._values[PREFIX + name]

    def get(self, name: str) -> str:
        """Empty if not set."""
        return self._values.get(PREFIX + name, "")

    def fill(self, **values: str | int) -> None:
        """Set what the operator has not."""
        for name, value in values.items():
            if not self.given(name):
                self._values[PREFIX + name] = str(value)

    def settle(self, **values: str | int) -> None:
        """Set what is not the operator's to say."""
        self._values.update({PREFIX + name: str(value) for name, value in values.items()})

    def child(self, **extra: str | int) -> dict[str, str]:
        """A child's whole environment; `extra` is its own and set in any case."""
        return {**self._values, **{PREFIX + name: str(value) for name, value in extra.items()}}

    def port(self, name: str, preferred: int, *, ports: Ports, attempt: int, host: str = "127.0.0.1") -> int:
        """The operator's port, or a free one near `preferred`. Raises BadEnvironment if the operator's is taken."""
        chosen = int(self.get(name) or 0) if self.given(name) else 0
        if chosen == 0:
            return ports.take(preferred, again=attempt > 0)
        if not is_free(chosen, host=host):
            raise BadEnvironment(f"{PREFIX}{name}={chosen}: that port is taken on {host}")
        return chosen

    def check(self) -> None:
        """Raises BadEnvironment if the service would refuse a setting: before anything is started."""
        try:
            Settings()
        except ValidationError as error:
            raise BadEnvironment(problems_of(error)) from None
        for name in ("SANDBOX_HTTP_PORT", "SANDBOX_SMTP_PORT", "API_PORT"):
            value = self.get(name)
            if value and not (value.isascii() and value.isdigit() and int(value) <= 65535):
                raise BadEnvironment(f"{PREFIX}{name} is not a port number")


def from_process() -> Environment:
    """The environment this process was given, without its empty TONGDA_* variables, secrets read from their files."""
    for name in [n for n, v in os.environ.items() if n.startswith(PREFIX) and not v]:
        del os.environ[name]
    for name in secret_variables(Settings):
        # The supervisor hands secrets on itself. A file that cannot be read stays named, for `check` to say why.
        secret = file_of(name, os.environ)
        with contextlib.suppress(ValueError):
            if secret is not None:
                os.environ[name] = secret.read()
                del os.environ[secret.variable]
    return Environment(os.environ)
