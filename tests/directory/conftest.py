"""`place`: the directory under test with the company in it, each of the three in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cli.up.ports import Ports
from domain.directory import Directory, Person
from infra.directory.ldap import LdapDirectory
from infra.directory.mapping import OPENLDAP, Within
from tests.channels.certificates import Certificate, make
from tests.directory import company
from tests.directory.slapd import Slapd, running


@dataclass(frozen=True)
class Place:
    directory: Directory
    rename: Callable[[Person, str], Awaitable[Person]]
    """Gives the person another login and with it another dn; as it is then."""
    names_groups: bool
    """Whether entries name their groups."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make(tmp_path_factory.mktemp("directory-certificate"))


def _slapd(folder: Path, ports: Ports, certificate: Certificate, *, nested: bool) -> AbstractAsyncContextManager[Slapd]:
    return running(folder, ports=ports, certificate=certificate, ldif=company.ldif(), nested=nested)


@pytest.fixture(scope="session")
async def slapd(servers_folder: Path, server_ports: Ports, certificate: Certificate) -> AsyncIterator[Slapd]:
    """Without overlays: groups have to be walked."""
    async with _slapd(servers_folder / "slapd", server_ports, certificate, nested=False) as server:
        yield server


@pytest.fixture(scope="session")
async def nested_slapd(servers_folder: Path, server_ports: Ports, certificate: Certificate) -> AsyncIterator[Slapd]:
    """With one that finds everybody within a group, as Active Directory does."""
    async with _slapd(servers_folder / "slapd-nested", server_ports, certificate, nested=True) as server:
        yield server


@pytest.fixture
def memory_place() -> Place:
    twin = company.twin()

    async def rename(person: Person, login: str) -> Person:
        renamed = replace(person, login=login, dn=person.dn.replace(f"uid={person.login}", f"uid={login}"))
        twin.put(renamed)
        return renamed

    return Place(twin, rename, names_groups=True)


@pytest.fixture
def walked_place(slapd: Slapd) -> Place:
    return Place(LdapDirectory(slapd.server(), OPENLDAP), _renaming(slapd), names_groups=False)


@pytest.fixture
def nested_place(nested_slapd: Slapd) -> Place:
    mapping = replace(OPENLDAP, within=Within("memberOf"))
    return Place(LdapDirectory(nested_slapd.server(), mapping), _renaming(nested_slapd), names_groups=True)


def _renaming(slapd: Slapd) -> Callable[[Person, str], Awaitable[Person]]:
    async def rename(person: Person, login: str) -> Person:
        await slapd.rename(person.dn, f"uid={login}")
        return replace(person, login=login, dn=person.dn.replace(f"uid={person.login}", f"uid={login}"))

    return rename


@pytest.fixture(
    params=[
        "memory",
        pytest.param("walked", marks=pytest.mark.directory),
        pytest.param("nested", marks=pytest.mark.directory),
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def directory(place: Place) -> Directory:
    return place.directory
