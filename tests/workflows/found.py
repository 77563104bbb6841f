"""Every workflow of the service, found by itself, so that a new one cannot be forgotten by the tests that hold for all."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from temporalio import workflow

import workflows


def workflows_of(modules: Iterable[ModuleType]) -> dict[str, type]:
    """Name -> class, of those that are defined in these modules."""
    return {definition.name or cls.__name__: cls for cls, definition in _defined(modules)}


def _defined(modules: Iterable[ModuleType]) -> Iterator[tuple[type, workflow._Definition]]:
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                definition = workflow._Definition.from_class(value)
                if definition is not None:
                    yield value, definition


def recorded(paths: Iterable[Path]) -> Mapping[str, set[str]]:
    """Name of a workflow -> the files that hold a history of it."""
    found: dict[str, set[str]] = {}
    for path in paths:
        started = json.loads(path.read_text())["events"][0]["workflowExecutionStartedEventAttributes"]
        found.setdefault(started["workflowType"]["name"], set()).add(path.stem)
    return found


MODULES = [import_module(f"workflows.{module.name}") for module in pkgutil.iter_modules(workflows.__path__)]
WORKFLOWS = workflows_of(MODULES)
