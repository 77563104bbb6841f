"""The strict SMTP server: aiosmtpd's protocol, with enhanced codes everywhere and every refusal on the record."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import socket
import ssl
import struct
import warnings
from typing import Any, NoReturn, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from sandbox.mailbox import Answer, Mailbox
from sandbox.record import Record, Seen, Verdict
from sandbox.settings import Settings

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
HOST_NAME = "sandbox.tongda.invalid"

_ENHANCED = {
    "421": "4.3.2", "450": "4.7.1", "451": "4.3.0", "452": "4.5.3", "454": "4.7.0", "500": "5.5.2", "501": "5.5.4",
    "502": "5.5.1", "503": "5.5.1", "504": "5.5.4", "530": "5.7.0", "535": "5.7.8", "538": "5.7.11", "550": "5.7.1",
    "552": "5.3.4", "553": "5.1.3", "554": "5.7.0", "555": "5.5.4", "250": "2.0.0", "221": "2.0.0",
}  # fmt: skip
"""For aiosmtpd's own replies, which mostly lack the code that ENHANCEDSTATUSCODES promises (RFC 3463 classes)."""

_HAS_ENHANCED = re.compile(r"[245]\d\d [245]\.\d+\.\d+ ")
_PATH = re.compile(r"<(?P<address>\"(?:[^\"\\]|\\.)*\"@[^<>\s]+|[^<>\s\"]*)>(?: +(?P<parameters>.*))?")
_ANGLED = re.compile(r"<([^<>]*)>")


class Connection(SMTP):
    """One client."""

    # Far above the 998 octets that are allowed, so that a message with long lines reaches our own check and is recorded
    # with its delivery id; aiosmtpd would discard it and only say 500.
    line_length_limit = 1024 * 1024

    def __init__(self, handler: Mailbox, *, record: Record, open_connections: set[Connection], **options: Any) -> None:
        with warnings.catch_warnings():
            # AUTH without TLS is what an operator asks for by setting a user name and no certificate.
            warnings.simplefilter("ignore", UserWarning)
            super().__init__(handler, **options)
        self._record = record
        self._open_connections = open_connections
        self._named = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._open_connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._open_connections.discard(self)
        super().connection_lost(error)

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd finds commands by this name
        self._named = arg or ""
        await super().smtp_RCPT(arg)
        self._named = ""

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Address and parameters of a MAIL or RCPT; (None, None) when malformed. aiosmtpd's own would mend `a b@c`."""
        path = _PATH.fullmatch(arg.strip())
        if path is None:
            return None, None
        return path["address"] or "<>", path["parameters"] or ""

    async def push(self, status: str | bytes) -> None:
        """Write one reply line; complete aiosmtpd's own, record its refusals, and close after a 421."""
        if isinstance(status, str) and not isinstance(status, Answer):
            status = self._completed(status)
            if status[0] in "45":
                self._record_refusal(status)
        await super().push(status if isinstance(status, bytes) else status.encode("ascii", "replace"))
        if status[:3] in ("421", b"421") and self.transport is not None:
            self.transport.close()

    def _completed(self, status: str) -> str:
        code, _, text = status.partition(" ")
        if status == "553 5.1.3 Error: malformed address":
            return "501 5.1.3 Malformed address"
        if _HAS_ENHANCED.match(status) or code not in _ENHANCED or (code[0] == "2" and text not in ("OK", "Bye")):
            return status
        return f"{code} {_ENHANCED[code]} {text}"

    def _record_refusal(self, status: str) -> None:
        named = _ANGLED.search(self._named)
        recipients = [named[1] if named else self._named] if self._named else self._recipients()
        for recipient in recipients or [""]:
            self._record.add(
                Seen(
                    channel="email",
                    recipient=recipient,
                    taken=False,
                    verdict=Verdict.REFUSED,
                    why=status,
                    answer=status,
                )
            )

    def _recipients(self) -> list[str]:
        return list(self.envelope.rcpt_tos) if self.envelope is not None else []

    # Methods, not properties: aiosmtpd evaluates every attribute while it is being constructed.
    def wire(self) -> asyncio.Transport | None:
        """The TCP transport, below TLS where there is TLS."""
        # A cast, because uvloop's transports are no subclass of asyncio's.
        return cast("asyncio.Transport | None", self._original_transport or self.transport)

    def conversation(self) -> asyncio.Task[None]:
        """The task that talks to the client."""
        assert self._handler_coroutine is not None
        return self._handler_coroutine

    async def reset_connection(self) -> NoReturn:
        """Send a TCP RST: what a crashed peer or a stateful firewall does. Ends the conversation."""
        wire = self.wire()
        if wire is not None:
            connection: socket.socket = wire.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.abort()
        await self._end()

    async def close_silently(self) -> NoReturn:
        """Close without a word. Ends the conversation."""
        if self.transport is not None:
            self.transport.close()
        await self._end()

    async def _end(self) -> NoReturn:
        """Wait for `connection_lost`, which cancels this very task. Raising here would let aiosmtpd close the transport
        first, and uvloop then says FIN instead of RST.
        """
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody resolves that future")


class SmtpServer:
    """Listens until closed."""

    def __init__(self, settings: Settings, *, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._mailbox = Mailbox(settings, record=record)
        self._connections: set[Connection] = set()
        self._tls = _tls_context(settings)
        self._server: asyncio.Server | None = None
        # aiosmtpd logs addresses and commands; they stay in the record.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)

    @property
    def listening(self) -> bool:
        return self._server is not None and self._server.is_serving()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self._settings.host, self._settings.smtp_port)

    async def close(self) -> None:
        """Stop at once: clients that are in the middle are cut off."""
        if self._server is None:
            return
        self._server.close()
        conversations = [connection.conversation() for connection in self._connections]
        for connection in list(self._connections):
            wire = connection.wire()
            if wire is not None:
                wire.abort()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await self._server.wait_closed()

    def _connection(self) -> Connection:
        wants_login = self._settings.smtp_username is not None
        return Connection(
            self._mailbox,
            record=self._record,
            open_connections=self._connections,
            loop=asyncio.get_running_loop(),
            hostname=HOST_NAME,
            ident="ESMTP Tongda sandbox",
            data_size_limit=MAX_MESSAGE_BYTES,
            tls_context=self._tls,
            require_starttls=wants_login and self._tls is not None,
            auth_required=wants_login,
            auth_require_tls=self._tls is not None or not wants_login,
            auth_exclude_mechanism=() if wants_login else ("LOGIN", "PLAIN"),
            authenticator=self._authenticate,
        )

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any
    ) -> AuthResult:
        wanted = f"{self._settings.smtp_username}\0{self._settings.smtp_password}".encode()
        return AuthResult(
            success=hmac.compare_digest(wanted, bytes(login.login) + b"\0" + bytes(login.password)), handled=False
        )


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
