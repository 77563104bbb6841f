"""The published lists (states, reasons, event types, answers' classes), with what stands below each value's definition."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import dataclass
from enum import StrEnum

from domain.judging import Remark
from domain.locales import LocaleReason
from domain.results import ResultClass
from domain.states import Reason, Status
from domain.suppressions import SuppressionReason
from domain.timeline import EventType


@dataclass(frozen=True, slots=True)
class PublishedList:
    name: str
    anchor: str
    text: str
    values: tuple[tuple[str, str], ...]
    """(value, meaning)."""


def published_lists() -> list[PublishedList]:
    return [
        _published("States", "states", Status),
        _published("Reasons", "reasons", Reason),
        _published("Reasons of suppressions", "suppression-reasons", SuppressionReason),
        _published("Timeline events", "timeline-events", EventType),
        _published("Remarks of previews", "remarks", Remark),
        _published("Reasons for a locale", "locale-reasons", LocaleReason),
        _published("Classes of providers' answers", "classes", ResultClass),
    ]


def _published(name: str, anchor: str, kind: type[StrEnum]) -> PublishedList:
    meanings = member_docs(kind)
    values = tuple((member.value, meanings.get(member.name, "")) for member in kind)
    return PublishedList(name, anchor, inspect.getdoc(kind) or "", values)


def member_docs(kind: type[StrEnum]) -> dict[str, str]:
    """The string below each member, which Python itself forgets; empty where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs: dict[str, str] = {}
    for statement, following in itertools.pairwise(body):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if not isinstance(target, ast.Name) or not isinstance(following, ast.Expr):
            continue
        if isinstance(following.value, ast.Constant) and isinstance(following.value.value, str):
            docs[target.id] = " ".join(following.value.value.split())
    return docs
