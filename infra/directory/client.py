"""anyldap's client, with what 0.2.0 lacks. The only file that knows its private parts; the tests run on a real server and
fail when they change."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream
from anyldap import ldap
from anyldap.ldap.controls import RequestControl
from anyldap.ldap.ldapobject import SimpleLDAPObject
from anyldap.protocols import pureldap

from infra.directory.filters import Tree


class Client(SimpleLDAPObject):
    """One connection."""

    async def send_search(
        self, base: str, *, scope: int, where: Tree, attributes: Sequence[str], controls: Sequence[RequestControl] = ()
    ) -> int:
        """The number to ask the answer by, as `search_ext` does; that one takes filters as strings only."""
        request = pureldap.LDAPSearchRequest(
            baseObject=base,
            scope=scope,
            derefAliases=ldap.DEREF_NEVER,
            sizeLimit=0,
            timeLimit=0,
            typesOnly=0,
            filter=where,
            attributes=list(attributes),
        )
        return await self._start(request, controls, ldap.RES_SEARCH_RESULT, pureldap.LDAPSearchResultDone)

    async def _connect_stream(self) -> ByteStream:
        """Lets go of the connection when TLS cannot be had on it, which the library forgets for ldaps://."""
        tls, self._tls = self._tls, False
        try:
            stream = await super()._connect_stream()
        finally:
            self._tls = tls
        if not tls:
            return stream
        try:
            return await TLSStream.wrap(
                stream, server_side=False, hostname=self._host, ssl_context=self._ssl_context, standard_compatible=False
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
