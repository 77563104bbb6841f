"""Which people of a directory are meant: a small language of its own, so that nobody writes LDAP's and values stay values.

    AllOf((Is(PersonField.DEPARTMENT, "Sales"), Not(StartsWith(PersonField.LOGIN, "test-"))))

An adapter translates it (`infra.directory.filters` to RFC 4515); `matches` says what it means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class PersonField(StrEnum):
    """What can be asked for. A directory may know a name or department by more spellings than the entry shows."""

    LOGIN = "login"
    NAME = "name"
    MAIL = "mail"
    PHONE = "phone"
    DEPARTMENT = "department"


@dataclass(frozen=True, slots=True)
class Is:
    """One of the field's values is this one: any case, runs of spaces as one. Phones: without spaces and hyphens."""

    field: PersonField
    value: str

    def __post_init__(self) -> None:
        _check(self.value)


@dataclass(frozen=True, slots=True)
class StartsWith:
    """One of the field's values begins with this."""

    field: PersonField
    value: str

    def __post_init__(self) -> None:
        _check(self.value)


@dataclass(frozen=True, slots=True)
class Has:
    """The field has a value."""

    field: PersonField


@dataclass(frozen=True, slots=True)
class Not:
    """Also for entries without the field."""

    inner: Filter


@dataclass(frozen=True, slots=True)
class AllOf:
    """Of none: everybody."""

    inner: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Of none: nobody."""

    inner: tuple[Filter, ...]


Filter = Is | StartsWith | Has | Not | AllOf | AnyOf
Values = Mapping[PersonField, Sequence[str]]


def matches(where: Filter, values: Values) -> bool:
    """What a directory finds by `where`."""
    match where:
        case Is(field, value):
            return any(_same(field, one) == _same(field, value) for one in values.get(field, ()))
        case StartsWith(field, value):
            return any(_same(field, one).startswith(_same(field, value)) for one in values.get(field, ()))
        case Has(field):
            return bool(values.get(field))
        case Not(inner):
            return not matches(inner, values)
        case AllOf(every):
            return all(matches(one, values) for one in every)
        case AnyOf(some):
            return any(matches(one, values) for one in some)


def _same(field: PersonField, value: str) -> str:
    """Equal for what directories compare as equal (caseIgnoreMatch, telephoneNumberMatch of RFC 4517)."""
    if field is PersonField.PHONE:
        return value.replace(" ", "").replace("-", "").casefold()
    return " ".join(value.split()).casefold()


def _check(value: str) -> None:
    if not value.strip():
        raise ValueError("a value to look for is not empty")
