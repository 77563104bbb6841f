"""What only the LDAP adapter can get wrong: log-in, TLS, limits, a server that goes or says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.up.ports import Ports
from domain.directory import Directory
from domain.errors import Unavailable
from infra.directory.connection import Server, Times
from infra.directory.ldap import LdapDirectory
from infra.directory.mapping import ACTIVE_DIRECTORY, OPENLDAP
from infra.settings import Settings
from tests.channels.certificates import Certificate
from tests.directory import company
from tests.directory.reading import read
from tests.directory.slapd import BASE, BLIND, PASSWORD, READER, SHORT, Slapd, running

pytestmark = pytest.mark.directory


def directory(server: Server) -> Directory:
    return LdapDirectory(server, OPENLDAP)


async def refusal(server: Server) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await directory(server).check()
    assert PASSWORD not in str(caught.value)
    return caught.value


async def test_start_tls_and_tls_from_the_start(slapd: Slapd) -> None:
    await directory(slapd.server()).check()
    await directory(slapd.server(url=f"ldaps://localhost:{slapd.tls_port}")).check()


async def test_the_settings_reach_it(slapd: Slapd) -> None:
    settings = Settings(
        directory_url=f"ldap://localhost:{slapd.port}",
        directory_base_dn=BASE,
        directory_bind_dn=READER,
        directory_password=SecretStr(PASSWORD),
        directory_ca_file=slapd.certificate,
    )
    assert await LdapDirectory.of(settings).person(company.BOSS.id) is not None
    with pytest.raises(Unavailable, match="TONGDA_DIRECTORY_URL"):
        LdapDirectory.of(Settings())


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
async def test_a_certificate_of_nobody_known_is_refused(slapd: Slapd, scheme: str) -> None:
    """Before the password is said."""
    url = f"{scheme}://localhost:{slapd.port if scheme == 'ldap' else slapd.tls_port}"
    error = await refusal(slapd.server(url=url, ca_file=None))
    assert (error.code, "TONGDA_DIRECTORY_CA_FILE" in str(error)) == ("tls", True)


async def test_a_certificate_of_another_name_is_refused(slapd: Slapd) -> None:
    error = await refusal(slapd.server(url=f"ldap://127.0.0.1:{slapd.port}"))
    assert (error.code, "127.0.0.1" in str(error)) == ("tls", True)


async def test_a_missing_file_of_certificates_is_named(slapd: Slapd) -> None:
    error = await refusal(slapd.server(ca_file=Path("/nowhere/ca.pem")))
    assert "/nowhere/ca.pem: no such file" in str(error)


async def test_a_server_that_wants_tls_says_so(slapd: Slapd) -> None:
    error = await refusal(slapd.server(start_tls=False))
    assert (error.code, "TONGDA_DIRECTORY_START_TLS" in str(error)) == ("tls", True)


async def test_a_wrong_password_is_called_that(slapd: Slapd) -> None:
    assert (await refusal(slapd.server(password="wrong"))).code == "refused"
    assert (await refusal(slapd.server(user=f"cn=nobody,{BASE}"))).code == "refused"


@pytest.mark.parametrize("base", ["dc=nobody,dc=test", f"ou=nobody,{BASE}", "no dn", f"ou=elsewhere,{BASE}"])
async def test_a_base_that_is_not_there(slapd: Slapd, base: str) -> None:
    """Neither is it silently a directory without people."""
    assert (await refusal(slapd.server(base=base))).code == "base_missing"


async def test_a_limit_of_the_server_is_an_error_and_no_shorter_list(slapd: Slapd) -> None:
    """Otherwise a synchronisation takes those beyond it for people who have left."""
    with pytest.raises(Unavailable, match="size limit") as caught:
        await read(directory(slapd.server(user=SHORT)).people(page_size=30), page_size=30)
    assert caught.value.code == "size_limit"


async def test_entries_without_an_id_are_an_error(slapd: Slapd) -> None:
    """People whom nobody could recognise tomorrow."""
    with pytest.raises(Unavailable, match="entryUUID") as caught:
        await read(directory(slapd.server(user=BLIND)).people())
    assert caught.value.code == "id_missing"


async def test_nobody_there(server_ports: Ports) -> None:
    assert "cannot be reached" in str(
        await refusal(Server(f"ldap://127.0.0.1:{server_ports.any()}", BASE, start_tls=False))
    )


@asynccontextmanager
async def mute() -> AsyncIterator[int]:
    """Takes connections and says nothing; its port."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("way", ["starttls", "ldaps", "plain"])
async def test_a_server_that_says_nothing_is_not_waited_for_for_ever(way: str) -> None:
    async with mute() as port:
        url = f"{'ldaps' if way == 'ldaps' else 'ldap'}://127.0.0.1:{port}"
        server = Server(url, BASE, start_tls=way == "starttls", times=Times(0.1, 0.1, 0.1))
        assert "in time" in str(await refusal(server))


async def test_something_else_that_answers() -> None:
    """Not a traceback from the depths of a decoder."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        await refusal(Server(f"ldap://127.0.0.1:{port}", BASE, start_tls=False, times=Times(1, 1, 1)))


async def test_a_server_that_goes_away_in_the_middle(
    servers_folder: Path, server_ports: Ports, certificate: Certificate
) -> None:
    """What was read so far is not taken for all there is."""
    folder = servers_folder / "slapd-going"
    async with (
        running(folder, ports=server_ports, certificate=certificate, ldif=company.ldif(), nested=False) as going,
        aclosing(directory(going.server()).people(page_size=10)) as pages,
    ):
        assert len(await anext(pages)) == 10
        await going.child.stop()
        with pytest.raises(Unavailable):
            await anext(pages)


async def test_the_wrong_kind_finds_nobody_instead_of_somebody_else(slapd: Slapd) -> None:
    wrong = LdapDirectory(slapd.server(), ACTIVE_DIRECTORY)
    assert await read(wrong.people()) == []
    assert await wrong.person(company.BOSS.id) is None
