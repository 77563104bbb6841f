"""What every directory does: in memory, on OpenLDAP whose groups are walked, on one that knows who is within a group."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from domain.directory import MAX_PAGE, PAGE, Directory, Group, Person
from domain.directory_filters import AllOf, AnyOf, Filter, Has, Is, Not, PersonField, StartsWith, matches
from domain.errors import NotFound
from infra.directory.memory import values_of
from tests.directory.company import (
    BARE,
    BOSS,
    EMPTYISH,
    FULL,
    LOCKED,
    MASS,
    MEMBERS,
    PEOPLE,
    SOLO,
    START,
    STRANGE,
    WITHIN,
)  # fmt: skip
from tests.directory.conftest import Place
from tests.directory.reading import read

NOBODY = "00000000-0000-7000-8000-000000000000"
LOGIN, NAME, MAIL, PHONE, DEPARTMENT = PersonField


def bare(person: Person) -> Person:
    """Without what may differ: mails and phones in any order, groups or none."""
    mails, phones = tuple(sorted(person.mails)), tuple(sorted(person.phones))
    return replace(person, mails=mails, phones=phones, groups=())


async def test_it_can_be_checked(directory: Directory) -> None:
    await directory.check()


@pytest.mark.parametrize("page_size", [37, 100, PAGE, MAX_PAGE])
async def test_everybody_is_read_page_by_page(directory: Directory, page_size: int) -> None:
    """Also beyond what the server gives at once."""
    found = await read(directory.people(page_size=page_size), page_size=page_size)
    assert {person.id for person in found} == {person.id for person in PEOPLE}


@pytest.mark.parametrize("person", [BOSS, FULL, BARE, LOCKED, *STRANGE], ids=lambda person: person.id[-4:])
async def test_an_entry_is_read_as_it_was_written(directory: Directory, person: Person) -> None:
    found = await directory.person(person.id)
    assert found is not None
    assert bare(found) == bare(person)


async def test_an_entry_may_name_its_groups(place: Place) -> None:
    found = await place.directory.person(FULL.id)
    assert found is not None
    direct = {group.dn for group, members in MEMBERS.items() if FULL.dn in members}
    assert direct <= set(found.groups) if place.names_groups else found.groups == ()


@pytest.mark.parametrize("strange", ["", "*", "nobody", f"{BOSS.id}*", f"{{{BOSS.id}}}", f"{BOSS.id})(uid=*", NOBODY, "王"])
async def test_an_id_that_nobody_has(directory: Directory, strange: str) -> None:
    assert await directory.person(strange) is None
    with pytest.raises(NotFound):
        await read(directory.members(strange))


FILTERS: list[Filter] = [
    Is(LOGIN, "wei"),
    Is(LOGIN, "WEI"),
    Is(NAME, "王 伟"),
    Is(NAME, "王   伟"),
    Is(MAIL, "wang.wei@LAB.test"),
    Is(PHONE, "+86 138 0000 0001"),
    Is(PHONE, "+8613800000001"),
    Is(DEPARTMENT, FULL.department or ""),
    Is(LOGIN, "nobody"),
    StartsWith(LOGIN, "m00"),
    StartsWith(LOGIN, "M00"),
    StartsWith(DEPARTMENT, "Sales, N"),
    Has(MAIL),
    Has(DEPARTMENT),
    Not(Has(LOGIN)),
    Not(Is(DEPARTMENT, "d1")),
    AllOf((StartsWith(LOGIN, "m"), Not(Is(DEPARTMENT, "d1")), Has(MAIL))),
    AnyOf((Is(LOGIN, "boss"), Is(DEPARTMENT, "d3"), AllOf((Is(LOGIN, "gone"), Not(Has(MAIL)))))),
    AllOf(()),
    AnyOf(()),
    Not(AnyOf(())),
    *(Is(DEPARTMENT, person.department or "") for person in STRANGE),
    *(StartsWith(DEPARTMENT, person.department or "") for person in STRANGE),
    Is(LOGIN, "*"),
    StartsWith(LOGIN, "*"),
    Is(LOGIN, "boss)(objectClass=*"),
    Is(LOGIN, "boss\\2a"),
    Is(LOGIN, "bo\x00ss"),
]


@pytest.mark.parametrize("where", FILTERS, ids=repr)
async def test_a_filter_finds_what_it_means(directory: Directory, where: Filter) -> None:
    """Whatever is in its values: none of it becomes a part of the question."""
    found = await read(directory.people(where))
    assert {p.id for p in found} == {p.id for p in PEOPLE if matches(where, values_of(p))}


def test_the_filters_above_tell_people_apart() -> None:
    """Otherwise a directory that ignores them would pass."""
    sizes = {sum(matches(where, values_of(p)) for p in PEOPLE) for where in FILTERS}
    assert {0, 1, len(PEOPLE)} < sizes
    assert sum(matches(Is(DEPARTMENT, "*"), values_of(p)) for p in PEOPLE) == 1


@pytest.mark.parametrize("value", ["", "  "])
def test_nothing_is_no_value(value: str) -> None:
    for kind in (Is, StartsWith):
        with pytest.raises(ValueError, match="empty"):
            kind(LOGIN, value)


@pytest.mark.parametrize("page_size", [7, PAGE])
async def test_groups_are_read_page_by_page(directory: Directory, page_size: int) -> None:
    found = await read(directory.groups(page_size=page_size), page_size=page_size)
    assert set(found) == set(MEMBERS)


@pytest.mark.parametrize("group", WITHIN, ids=lambda group: group.name)
@pytest.mark.parametrize("page_size", [11, PAGE])
async def test_members_come_from_nested_groups_too(directory: Directory, group: Group, page_size: int) -> None:
    """Through a circle, past members that are gone or no people, and once however many ways lead there."""
    found = await read(directory.members(group.id, page_size=page_size), page_size=page_size)
    assert {bare(person) for person in found} == {bare(person) for person in WITHIN[group]}


async def test_a_person_is_no_group_and_a_group_no_person(directory: Directory) -> None:
    assert await directory.person(SOLO.id) is None
    with pytest.raises(NotFound):
        await read(directory.members(BOSS.id))


async def test_what_has_changed_since(directory: Directory) -> None:
    """From the very second on, in any zone, together with a filter."""
    since = START + timedelta(days=1, seconds=100)
    late = {person.id for person in MASS[100:]}
    for moment in (since, since + timedelta(milliseconds=900), since.astimezone(timezone(timedelta(hours=8)))):
        # Others may have been renamed by now: they have changed as well.
        found = {person.id for person in await read(directory.people(changed_since=moment))}
        assert late <= found
        assert found.isdisjoint(person.id for person in MASS[1:100])
    found = {p.id for p in await read(directory.people(Is(DEPARTMENT, "d1"), changed_since=since))}
    assert found == {person.id for person in MASS[100:] if person.department == "d1"}
    assert await read(directory.people(Is(DEPARTMENT, "d1"), changed_since=START + timedelta(days=90_000))) == []


async def test_a_renamed_person_keeps_the_id(place: Place) -> None:
    """People marry and move; an id that went with their name would make them somebody else."""
    before = MASS[0]
    renamed = await place.rename(before, "renamed")
    try:
        found = await place.directory.person(before.id)
        assert found is not None
        assert (found.id, found.dn, found.login) == (before.id, renamed.dn, "renamed")
        assert await read(place.directory.people(Is(LOGIN, before.login or ""))) == []
    finally:
        await place.rename(renamed, before.login or "")


async def test_readings_at_once_do_not_mix(directory: Directory) -> None:
    """Each has a place of its own in its pages."""
    everybody, d1, groups, members = await asyncio.gather(
        read(directory.people(page_size=20), page_size=20),
        read(directory.people(Is(DEPARTMENT, "d1"), page_size=3), page_size=3),
        read(directory.groups(page_size=2), page_size=2),
        read(directory.members(SOLO.id)),
    )
    assert (len(everybody), len(groups), [p.id for p in members]) == (len(PEOPLE), len(MEMBERS), [MASS[200].id])
    assert {p.id for p in d1} == {p.id for p in PEOPLE if p.department == "d1"}


async def test_a_reading_may_be_left_early(directory: Directory) -> None:
    async with aclosing(directory.people(page_size=5)) as pages:
        async for page in pages:
            assert len(page) == 5
            break
    await directory.check()


@pytest.mark.parametrize("page_size", [0, -1, MAX_PAGE + 1])
async def test_a_page_of_impossible_size_is_refused(directory: Directory, page_size: int) -> None:
    for pages in (directory.people(page_size=page_size), directory.members(SOLO.id, page_size=page_size)):
        with pytest.raises(ValueError, match="1 to"):
            await read(pages)


async def test_what_is_shown_of_a_person_is_the_id(directory: Directory) -> None:
    """A log line or a failed assertion elsewhere tells nobody's name."""
    assert EMPTYISH.dn not in repr(EMPTYISH)
    shown = repr(await directory.person(FULL.id))
    assert FULL.id in shown
    for value in (FULL.dn, "wei", "王", FULL.mails[0], FULL.phones[0], "Sales"):
        assert value not in shown
