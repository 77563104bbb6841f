"""Ways to take a rule out of the engine for the time of one test."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from tests.engine.support import Engine

ENGINE = "infra.postgres.engine"
RECORDING = "domain.recording"


@dataclass(frozen=True)
class Swap:
    """A piece of a statement, and what stands there without the rule."""

    target: str
    old: str
    new: str = ""

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, name = self.target.rpartition(".")
        statement = getattr(importlib.import_module(f"{ENGINE}.{module}"), name)
        assert self.old in statement
        monkeypatch.setattr(f"{ENGINE}.{self.target}", statement.replace(self.old, self.new))


@dataclass(frozen=True)
class Value:
    """A value, function or property, and another one without the rule."""

    target: str
    value: Any

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.target, self.value)


Test: TypeAlias = Callable[[Engine], Awaitable[None]]
Mutations: TypeAlias = dict[str, tuple[tuple[Swap | Value, ...], Test]]
"""Name of a rule -> what takes it out, and the test that must fail then."""
