"""Entries of Active Directory and eDirectory as they come over the wire, and what they are asked for. Their servers do not
run here: the values are those of their documentation."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.directory_filters import Is, PersonField, StartsWith
from domain.errors import Unavailable
from infra.directory import entries, filters
from infra.directory.entries import Entry
from infra.directory.mapping import ACTIVE_DIRECTORY, EDIRECTORY, MAPPINGS, OPENLDAP, Mapping
from infra.settings import DirectoryKind

CONTROLS = {b"512": True, b"514": False, b"66050": False, b"66048": True}
"""userAccountControl, and whether the account is enabled."""
GUID = UUID("8d7f2c1a-0b3e-4c55-9a77-0102030405ff")


def ad(**changes: list[bytes]) -> Entry:
    return Entry(
        "CN=Wang Wei,OU=Sales,DC=corp,DC=example",
        {
            "objectGUID": [GUID.bytes_le],
            "sAMAccountName": [b"wwei"],
            "displayName": ["王伟".encode()],
            "cn": [b"Wang Wei"],
            "mail": [b"wwei@corp.example"],
            "mobile": [b"+86 138"],
            "telephoneNumber": [b"+86 10"],
            "department": [b"Sales"],
            "manager": [b"CN=Boss,DC=corp,DC=example"],
            "memberOf": [b"CN=All,DC=corp,DC=example"],
            "userAccountControl": [b"512"],
            "whenChanged": [b"20260301083000.0Z"],
            **changes,
        },
    )


def test_a_person_of_active_directory() -> None:
    person = entries.person(ACTIVE_DIRECTORY, ad())
    assert (person.id, person.login, person.name, person.department) == (str(GUID), "wwei", "王伟", "Sales")
    assert (person.mails, person.phones) == (("wwei@corp.example",), ("+86 138", "+86 10"))
    assert (person.manager, person.groups) == ("CN=Boss,DC=corp,DC=example", ("CN=All,DC=corp,DC=example",))
    assert (person.enabled, person.changed_at) == (True, datetime(2026, 3, 1, 8, 30, tzinfo=UTC))


def test_a_disabled_account_of_active_directory() -> None:
    said = {control: entries.person(ACTIVE_DIRECTORY, ad(userAccountControl=[control])) for control in CONTROLS}
    assert {control: person.enabled for control, person in said.items()} == CONTROLS


def test_a_person_of_edirectory() -> None:
    """Attribute names come in any case."""
    found = {"guid": [GUID.bytes], "UID": [b"wwei"], "fullname": ["王伟".encode()]}
    person = entries.person(EDIRECTORY, Entry("cn=wwei,o=corp", found))
    assert (person.id, person.login, person.name, person.enabled) == (str(GUID), "wwei", "王伟", True)
    assert entries.person(EDIRECTORY, Entry("cn=wwei,o=corp", {**found, "loginDisabled": [b"FALSE"]})).enabled
    assert not entries.person(EDIRECTORY, Entry("cn=wwei,o=corp", {**found, "loginDisabled": [b"TRUE"]})).enabled


@pytest.mark.parametrize("raw", [[], [b""], [b"short"]])
@pytest.mark.parametrize("mapping", MAPPINGS.values())
def test_no_usable_id_is_an_error(mapping: Mapping, raw: list[bytes]) -> None:
    with pytest.raises(Unavailable, match=mapping.id):
        entries.person(mapping, Entry("cn=x", {mapping.id: raw}))


def test_what_is_no_text_and_no_time_is_no_reason_to_stop() -> None:
    person = entries.person(ACTIVE_DIRECTORY, ad(displayName=[b"\xff\xfe"], whenChanged=[b"yesterday"], mail=[b" "]))
    assert (person.name, person.changed_at, person.mails) == ("��", None, ())


def test_a_unique_member_may_carry_a_uid() -> None:
    entry = Entry("cn=g", {"uniqueMember": [b"uid=a,dc=x#'0101'B", b"uid=b#c,dc=x"], "member": [b"uid=d,dc=x"]})
    assert list(entries.members(OPENLDAP, entry)) == ["uid=d,dc=x", "uid=a,dc=x", "uid=b#c,dc=x"]


def test_every_kind_can_be_asked_for_everything() -> None:
    assert set(MAPPINGS) == set(DirectoryKind)
    for mapping in MAPPINGS.values():
        assert set(mapping.fields) == set(PersonField)


def test_an_id_is_looked_for_byte_by_byte() -> None:
    """Caught: a filter string with `\\x8d`, of which the client's parser made two bytes; nobody was ever found."""
    for mapping, raw in ((ACTIVE_DIRECTORY, GUID.bytes_le), (EDIRECTORY, GUID.bytes), (OPENLDAP, str(GUID).encode())):
        tree = filters.by_id(mapping, str(GUID))
        assert tree is not None
        assert bytes((4, len(raw))) + raw in tree.toWire()


def test_active_directory_follows_groups_itself() -> None:
    wire = filters.within(ACTIVE_DIRECTORY, "CN=All,DC=corp").toWire()
    assert b"1.2.840.113556.1.4.1941" in wire
    assert b"\x83\x0eCN=All,DC=corp" in wire


def test_a_time_is_asked_for_in_each_ones_spelling() -> None:
    since = datetime(2026, 3, 1, 8, 30, 0, 999_999, tzinfo=UTC)
    assert b"20260301083000.0Z" in filters.people(ACTIVE_DIRECTORY, changed_since=since).toWire()
    assert b"20260301083000Z" in filters.people(OPENLDAP, changed_since=since).toWire()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_whatever_is_looked_for_stays_a_value(value: str) -> None:
    """It lies in the request as bytes with their length in front."""
    raw = value.encode()
    for where in (Is(PersonField.MAIL, value), StartsWith(PersonField.MAIL, value)):
        wire = filters.people(OPENLDAP, where=where).toWire()
        assert raw in wire
        assert len(wire) - len(raw) < 80
