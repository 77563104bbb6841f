"""The directory over LDAP: OpenLDAP, Active Directory, eDirectory (docs/decisions/0016-directory.md).

Each reading has a connection of its own: readings are rare and long, a connection that idles between them is dropped by
some firewall, and the place in a paged search belongs to its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime

from domain.directory import PAGE, Group, Person, check_page_size
from domain.directory_filters import Filter
from domain.errors import NotFound
from infra.directory import entries, filters
from infra.directory.connection import Connection, Server, connected
from infra.directory.entries import Entry
from infra.directory.filters import Tree
from infra.directory.mapping import MAPPINGS, Mapping
from infra.settings import Settings

READ_AT_ONCE = 50
"""Entries asked for by DN at once where a group is walked. Measured with slapd: 50 in 22 ms, one by one 1-3 ms each."""


class LdapDirectory:
    """`domain.directory.Directory`."""

    def __init__(self, server: Server, mapping: Mapping) -> None:
        self._server = server
        self._mapping = mapping

    @classmethod
    def of(cls, settings: Settings) -> LdapDirectory:
        """Connects to nothing yet. Raises Unavailable (`not_set_up`)."""
        return cls(Server.of(settings), MAPPINGS[settings.directory_kind])

    async def check(self) -> None:
        async with connected(self._server) as connection:
            await connection.see_base()

    async def people(
        self, where: Filter | None = None, *, changed_since: datetime | None = None, page_size: int = PAGE
    ) -> AsyncGenerator[Sequence[Person], None]:
        check_page_size(page_size)
        wanted = filters.people(self._mapping, where=where, changed_since=changed_since)
        async with connected(self._server) as connection, aclosing(self._people(connection, wanted, page_size)) as pages:
            async for page in pages:
                yield page

    async def groups(self, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Group], None]:
        check_page_size(page_size)
        attributes = entries.wanted_of_groups(self._mapping)
        async with connected(self._server) as connection:
            async for page in connection.pages(filters.groups(self._mapping), attributes=attributes, page_size=page_size):
                yield [entries.group(self._mapping, entry) for entry in page]

    async def members(self, group_id: str, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Person], None]:
        check_page_size(page_size)
        async with connected(self._server) as connection:
            group = await self._group(connection, group_id)
            pages = (
                self._people(connection, filters.within(self._mapping, group.dn), page_size)
                if self._mapping.within
                else self._walk(connection, group, page_size)
            )
            async with aclosing(pages):
                async for page in pages:
                    yield page

    async def person(self, person_id: str) -> Person | None:
        wanted = filters.by_id(self._mapping, person_id)
        if wanted is None:
            return None
        wanted = filters.both(filters.people(self._mapping), wanted)
        async with connected(self._server) as connection:
            entry = await connection.first(wanted, attributes=entries.wanted(self._mapping))
        return None if entry is None else entries.person(self._mapping, entry)

    async def _people(self, connection: Connection, wanted: Tree, page_size: int) -> AsyncGenerator[Sequence[Person], None]:
        async for page in connection.pages(wanted, attributes=entries.wanted(self._mapping), page_size=page_size):
            yield [entries.person(self._mapping, entry) for entry in page]

    async def _group(self, connection: Connection, group_id: str) -> Entry:
        """With its members. Raises NotFound."""
        wanted = filters.by_id(self._mapping, group_id)
        found = None
        if wanted is not None:
            wanted = filters.both(filters.groups(self._mapping), wanted)
            found = await connection.first(wanted, attributes=self._mapping.members)
        if found is None:
            raise NotFound("There is no such group in the directory.")
        return found

    async def _walk(self, connection: Connection, group: Entry, page_size: int) -> AsyncGenerator[Sequence[Person], None]:
        """Each member's entry is read once; groups among them are opened in turn, so that circles end."""
        mapping = self._mapping
        either = filters.either(filters.people(mapping), filters.groups(mapping))
        attributes = [*entries.wanted(mapping), *mapping.members, "objectClass"]
        waiting, seen = deque(entries.members(mapping, group)), {_plain(group.dn)}
        found, known = list[Person](), set[str]()
        while waiting:
            for entry in await connection.read(_fresh(waiting, seen), either, attributes=attributes):
                if entries.is_group(mapping, entry):
                    waiting.extend(entries.members(mapping, entry))
                    continue
                person = entries.person(mapping, entry)
                if person.id not in known:
                    known.add(person.id)
                    found.append(person)
            while len(found) >= page_size:
                yield found[:page_size]
                del found[:page_size]
        if found:
            yield found


def _plain(dn: str) -> str:
    """One spelling for what differs in case and in spaces around the parts."""
    return ",".join("=".join(half.strip() for half in part.split("=", 1)) for part in dn.casefold().split(","))


def _fresh(waiting: deque[str], seen: set[str]) -> list[str]:
    """The next DNs that were not read yet."""
    batch: list[str] = []
    while waiting and len(batch) < READ_AT_ONCE:
        dn = waiting.popleft()
        if _plain(dn) not in seen:
            seen.add(_plain(dn))
            batch.append(dn)
    return batch
