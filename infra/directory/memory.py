"""In-memory twin of the directory, for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from domain.directory import PAGE, Group, Person, check_page_size
from domain.directory_filters import AllOf, Filter, PersonField, Values, matches
from domain.errors import NotFound, Unavailable

T = TypeVar("T")


class MemoryDirectory:
    """Holds what is put into it. `away`: every call raises Unavailable until it is set back."""

    def __init__(self) -> None:
        self.away = False
        self.open = 0
        """Readings that were begun and neither read to the end nor closed."""
        self._people: dict[str, Person] = {}
        self._groups: dict[str, tuple[Group, tuple[str, ...]]] = {}

    def put(self, person: Person) -> None:
        """Add, or replace the one with this id."""
        self._people[person.id] = person

    def put_group(self, group: Group, *, members: Iterable[str]) -> None:
        """`members`: dns of people and groups, there or not."""
        self._groups[group.id] = (group, tuple(members))

    def remove(self, id_: str) -> None:
        self._people.pop(id_, None)
        self._groups.pop(id_, None)

    async def check(self) -> None:
        self._check()

    async def people(
        self, where: Filter | None = None, *, changed_since: datetime | None = None, page_size: int = PAGE
    ) -> AsyncGenerator[Sequence[Person], None]:
        since = None if changed_since is None else changed_since.replace(microsecond=0)
        found = [
            person
            for person in self._people.values()
            if matches(AllOf(()) if where is None else where, values_of(person))
            and (since is None or (person.changed_at is not None and person.changed_at >= since))
        ]
        async for page in self._pages(found, page_size):
            yield page

    async def groups(self, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Group], None]:
        async for page in self._pages([group for group, _ in self._groups.values()], page_size):
            yield page

    async def members(self, group_id: str, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Person], None]:
        self._check()
        if group_id not in self._groups:
            raise NotFound("There is no such group in the directory.")
        async for page in self._pages(self._within(group_id), page_size):
            yield page

    async def person(self, person_id: str) -> Person | None:
        self._check()
        return self._people.get(person_id)

    def _within(self, group_id: str) -> list[Person]:
        people = {person.dn.casefold(): person for person in self._people.values()}
        groups = {group.dn.casefold(): dns for group, dns in self._groups.values()}
        waiting, seen = list(self._groups[group_id][1]), dict[str, None]()
        while waiting:
            dn = waiting.pop().casefold()
            if dn not in seen:
                seen[dn] = None
                waiting.extend(groups.get(dn, ()))
        return [people[dn] for dn in seen if dn in people]

    async def _pages(self, found: Sequence[T], page_size: int) -> AsyncGenerator[Sequence[T], None]:
        check_page_size(page_size)
        self.open += 1
        try:
            self._check()
            for start in range(0, len(found), page_size):
                yield found[start : start + page_size]
                self._check()
        finally:
            self.open -= 1

    def _check(self) -> None:
        if self.away:
            raise Unavailable("The directory is away.")


def values_of(person: Person) -> Values:
    """What a filter sees of a person."""
    single = {PersonField.LOGIN: person.login, PersonField.NAME: person.name, PersonField.DEPARTMENT: person.department}
    several = {PersonField.MAIL: person.mails, PersonField.PHONE: person.phones}
    return several | {field: (value,) for field, value in single.items() if value is not None}
