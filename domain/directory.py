"""The enterprise directory: who works here, in which groups. A port; `infra` implements it.

`infra.directory.ldap` (OpenLDAP, Active Directory, eDirectory) and `infra.directory.memory` (twin for tests) pass one
contract file, tests/directory/test_contract.py.

A directory is read, never written, and not asked while notifications are accepted or delivered: it is slow and may be away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from domain.directory_filters import Filter

PAGE = 500
"""Entries of one page unless said otherwise: what servers allow by themselves (OpenLDAP 500, Active Directory 1,000)."""
MAX_PAGE = 1_000
CHANGES_OVERLAP = timedelta(minutes=5)
"""A caller who asks for changes asks from the latest `changed_at` that it has seen, less this. An entry's time is taken
when its change begins and seen when it ends, and the servers of one directory have clocks of their own."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the directory. `repr` shows the id alone: the rest is personal data and has no place in a log."""

    id: str
    """Stable: stays through renames and moves, and is never used again (entryUUID, objectGUID, GUID)."""
    dn: str = field(repr=False)
    """Where the entry is now; changes with names and departments."""
    login: str | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    mails: tuple[str, ...] = field(default=(), repr=False)
    """In the directory's order, which says nothing; so are the phones, in the directory's spelling."""
    phones: tuple[str, ...] = field(default=(), repr=False)
    department: str | None = field(default=None, repr=False)
    manager: str | None = field(default=None, repr=False)
    """The manager's dn."""
    enabled: bool = True
    """False where the directory says that the account is disabled or locked for good."""
    groups: tuple[str, ...] = field(default=(), repr=False)
    """dns of groups that the directory itself names on the entry. Whether nested ones are among them, or any at all, is the
    directory's choice: `members` is what to rely on."""
    changed_at: datetime | None = field(default=None, repr=False)
    """By the directory's clock. Another's change to a group does not count as one of its members."""


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    """Stable, as a person's."""
    dn: str = field(repr=False)
    name: str | None = field(default=None, repr=False)
    changed_at: datetime | None = field(default=None, repr=False)


class Directory(Protocol):
    """Errors of every call: `Unavailable` when the directory cannot be reached, does not answer in time, refuses the log-in
    (`refused`) or TLS (`tls`), has no such base (`base_missing`), or gives fewer entries than there are (`size_limit`):
    what is returned is never cut short in silence. Asking again is safe.

    Pages come as the directory gives them, in no order, each entry once; what changes meanwhile may be in them or not. They
    hold a connection until they are read to the end or closed: `async with aclosing(directory.people()) as pages`.
    """

    async def check(self) -> None:
        """Connect, secure the connection, log in, and find the base."""
        ...

    def people(
        self, where: Filter | None = None, *, changed_since: datetime | None = None, page_size: int = PAGE
    ) -> AsyncGenerator[Sequence[Person], None]:
        """Everybody, or those whom `where` describes, in pages of at most `page_size` (1 to MAX_PAGE).

        `changed_since` (see CHANGES_OVERLAP): only entries changed in that second or later. Those that are gone are not
        told of; only reading everybody shows that.
        """
        ...

    def groups(self, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Group], None]:
        """Every group, in pages."""
        ...

    def members(self, group_id: str, *, page_size: int = PAGE) -> AsyncGenerator[Sequence[Person], None]:
        """Everybody in the group and in the groups within it, each once, however often and through whatever circles.
        Members that are no longer there or are no people are left out. Raises NotFound."""
        ...

    async def person(self, person_id: str) -> Person | None:
        """By the stable id; None where nobody has it, or it is none."""
        ...


def check_page_size(page_size: int) -> int:
    """The size itself. Raises ValueError outside 1 to MAX_PAGE."""
    if not 1 <= page_size <= MAX_PAGE:
        raise ValueError(f"a page holds 1 to {MAX_PAGE} entries")
    return page_size
