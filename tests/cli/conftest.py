"""The command line against a real API process over a real database."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.tongda.app import build
from tests.api.conftest import make_keys
from tests.api.test_process import serving


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


def tongda(*arguments: str, environment: dict[str, str], given: str | None = None) -> Said:
    """One command with exactly these TONGDA_* variables."""
    none: dict[str, Any] = {name: None for name in os.environ if name.startswith("TONGDA_")}
    done = CliRunner().invoke(build(), list(arguments), env={**none, **environment}, input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


@dataclass(frozen=True)
class Cli:
    """The command line with the address of a running API; a role of tenant acme says with which key."""

    url: str
    keys: dict[str, str]
    database: str

    def __call__(self, *arguments: str, role: str = "owner", given: str | None = None) -> Said:
        return tongda(*arguments, environment=self.environment(role), given=given)

    def environment(self, role: str = "owner") -> dict[str, str]:
        return {"TONGDA_API_URL": self.url, "TONGDA_API_KEY": self.keys[role], "TONGDA_HOME": "/nonexistent"}


@pytest.fixture(scope="package")
async def cli(postgres_url: str, _template: str) -> AsyncIterator[Cli]:
    from tests.conftest import _clone

    async with _clone(postgres_url, _template) as database:
        keys = await make_keys(database)
        async with serving(database) as (_, url):
            yield Cli(url, keys, database)
