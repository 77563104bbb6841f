"""One connection to an LDAP server: secured, logged in, every wait bounded. Referrals are never followed: they would carry
the log-in, or ask without it, to servers that nobody configured."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyldap import ldap
from anyldap.ldap.controls import SimplePagedResultsControl

from domain.errors import Unavailable
from infra.directory.client import Client
from infra.directory.entries import Entry
from infra.directory.errors import told
from infra.directory.filters import Tree, everything
from infra.settings import Settings

NO_ATTRIBUTES = "1.1"
"""RFC 4511, 4.5.1.8."""


@dataclass(frozen=True, slots=True)
class Times:
    connect_s: float = 10.0
    """Connection, TLS and log-in together."""
    answer_s: float = 30.0
    """Each page, or as many entries as are asked for at once."""
    close_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach it, from the settings."""

    url: str
    base: str
    user: str = field(default="", repr=False)
    """Empty: anonymous."""
    password: str = field(default="", repr=False)
    start_tls: bool = True
    ca_file: Path | None = None
    times: Times = field(default_factory=Times)

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """Raises Unavailable where none is set."""
        if not settings.directory_url:
            raise Unavailable("There is no directory: TONGDA_DIRECTORY_URL is empty.", code="not_set_up")
        return cls(
            url=settings.directory_url,
            base=settings.directory_base_dn,
            user=settings.directory_bind_dn,
            password=settings.directory_password.get_secret_value(),
            start_tls=settings.directory_start_tls,
            ca_file=settings.directory_ca_file,
        )


class Connection:
    """Searches under the base. Every method raises Unavailable."""

    def __init__(self, client: Client, server: Server) -> None:
        self._client = client
        self._server = server

    async def pages(self, where: Tree, *, attributes: Sequence[str], page_size: int) -> AsyncIterator[list[Entry]]:
        """Everything that matches (RFC 2696), page by page; never an empty one."""
        cookie = b""
        while True:
            control = SimplePagedResultsControl(True, size=page_size, cookie=cookie)
            entries, cookie = await self._page(where, attributes, control)
            if entries:
                yield entries
            if not cookie:
                return

    async def _page(
        self, where: Tree, attributes: Sequence[str], control: SimplePagedResultsControl
    ) -> tuple[list[Entry], bytes]:
        with told():
            async with asyncio.timeout(self._server.times.answer_s):
                sent = await self._client.send_search(
                    self._server.base, scope=ldap.SCOPE_SUBTREE, where=where, attributes=attributes, controls=[control]
                )
                _, found, _, controls = await self._client.result3(sent)
        cookies = (bytes(c.cookie or b"") for c in controls if isinstance(c, SimplePagedResultsControl))
        return _entries(found), next(cookies, b"")

    async def first(self, where: Tree, *, attributes: Sequence[str]) -> Entry | None:
        """One entry that matches."""
        entries, _ = await self._page(where, attributes, SimplePagedResultsControl(True, size=2, cookie=b""))
        return entries[0] if entries else None

    async def read(self, dns: Sequence[str], where: Tree, *, attributes: Sequence[str]) -> list[Entry]:
        """The entries with these DNs as far as they are there and match, asked for all at once."""
        found: list[Entry] = []
        with told():
            async with asyncio.timeout(self._server.times.answer_s):
                sent = [
                    await self._client.send_search(dn, scope=ldap.SCOPE_BASE, where=where, attributes=attributes)
                    for dn in dns
                ]
                for number in sent:
                    with contextlib.suppress(ldap.NO_SUCH_OBJECT, ldap.INVALID_DN_SYNTAX, ldap.REFERRAL):
                        found += _entries((await self._client.result3(number))[1])
        return found

    async def see_base(self) -> None:
        """Raises Unavailable (`base_missing`)."""
        with told():
            async with asyncio.timeout(self._server.times.answer_s):
                sent = await self._client.send_search(
                    self._server.base, scope=ldap.SCOPE_BASE, where=everything(), attributes=[NO_ATTRIBUTES]
                )
                _, found, _, _ = await self._client.result3(sent)
            if not _entries(found):
                raise ldap.NO_SUCH_OBJECT


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncGenerator[Connection, None]:
    """Raises Unavailable."""
    context = await asyncio.to_thread(_trust_blocking, server) if server.start_tls or _is_tls(server) else None
    client = Client(server.url, ssl_context=context)
    client.referrals = 0
    try:
        with told():
            async with asyncio.timeout(server.times.connect_s):
                await _log_in(client, server)
        yield Connection(client, server)
    finally:
        # Whatever happened to it, it is no use any more: how its end goes is nobody's concern.
        with contextlib.suppress(ldap.LDAPError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with asyncio.timeout(server.times.close_s):
                await client.unbind_s()


async def _log_in(client: Client, server: Server) -> None:
    if server.start_tls and not _is_tls(server):
        await client.start_tls_s()
    if server.user:
        await client.simple_bind_s(server.user, server.password)


def _is_tls(server: Server) -> bool:
    return server.url.startswith("ldaps://")


def _trust_blocking(server: Server) -> ssl.SSLContext:
    """Reads certificates. Raises Unavailable."""
    try:
        return ssl.create_default_context(cafile=None if server.ca_file is None else str(server.ca_file))
    except OSError as error:
        why = (error.strerror or "cannot be read").lower()
        raise Unavailable(f"TONGDA_DIRECTORY_CA_FILE names {server.ca_file}: {why}.", code="tls") from error


def _entries(found: object) -> list[Entry]:
    """Without the references to other servers, which have no DN."""
    assert isinstance(found, list)
    return [Entry(dn, attributes) for dn, attributes in found if dn is not None]
