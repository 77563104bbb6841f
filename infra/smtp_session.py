"""One SMTP connection after its greeting, EHLO, TLS and AUTH: submits one message after another.

aiosmtplib opens the connection (`infra.smtp`); from then on this protocol takes its place on the transport, for two
reasons found in aiosmtplib's source (5.1.3, protocol.py):

- `execute_data_command` writes DATA, waits for 354, writes the message and waits again, in one call: from outside, a
  time-out before 354 (nothing taken) cannot be told from one after the final dot (perhaps taken);
- `data_received` keeps one reply and drops what comes beside it, so commands cannot be pipelined (RFC 2920).

The exact line between the two: `Envelope.written` turns true in the same step that hands the body to the transport.
Before it no server can have the message: NotSent. After it any end without a reply is AnswerLost, also when the
connection broke halfway through the body, because how much the kernel sent cannot be known.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass

from channels.base import AnswerLost, NotSent, SmtpReply

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_MAX_REPLY_BYTES = 32 * 1024
_MOST_BY_S = 999_999_999
"""Nine digits (RFC 2852, 4)."""


@dataclass(slots=True)
class Envelope:
    """One message on its way. `body` is dot-stuffed and ends with the final dot."""

    mail: bytes
    rcpt: bytes
    body: bytes
    size: int
    by_s: float | None = None
    """time.monotonic() at which its time has run out."""
    written: bool = False
    """The body was handed to the transport: from here on silence is not "not sent"."""


def envelope(*, sender: str, recipient: str, message: bytes) -> Envelope:
    """Raises ValueError for addresses that are not plain ASCII paths: adapters must have refused them."""
    for address in (sender, recipient):
        if not address.isascii() or any(c <= " " or c in "<>\x7f" for c in address):
            raise ValueError("not an address that can be written into a command")
    size = len(message)
    if b"\n." in message or message.startswith(b"."):
        message = (b"\r\n" + message).replace(b"\n.", b"\n..")[2:]
    end = b".\r\n" if message.endswith(b"\r\n") else b"\r\n.\r\n"
    return Envelope(
        mail=b"MAIL FROM:<%s>" % sender.encode(),
        rcpt=b"RCPT TO:<%s>\r\n" % recipient.encode(),
        body=message + end,
        size=size,
    )


def parse_enhanced(text: bytes) -> str:
    """The RFC 3463 code at the start of a reply's text, "" if there is none."""
    found = _ENHANCED.match(text)
    return found[1].decode() if found else ""


class Disconnected(Exception):
    """The connection ended before the body was written."""


class SmtpSession(asyncio.Protocol):
    """Not for concurrent use. After any exception from `submit` the connection is gone and must not be used again."""

    def __init__(
        self, transport: asyncio.Transport, *, pipelining: bool, size: bool, deliver_by_s: int | None = None
    ) -> None:
        self._transport = transport
        self._pipelining = pipelining
        self._size = size
        self._deliver_by_s = deliver_by_s
        """The least that the server takes; None: it cannot."""
        self._buffer = bytearray()
        self._replies: deque[tuple[int, str]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._busy = False
        self._dirty = False
        """A refused transaction is open on the server: RSET goes before the next MAIL."""
        self._lost = False
        self.messages = 0
        """Submitted so far."""
        self.idle_since = 0.0
        """Loop time of the last return to the pool."""

    @property
    def usable(self) -> bool:
        return not self._lost and not self._transport.is_closing()

    async def submit(self, message: Envelope) -> SmtpReply:
        """The server's last word. Raises Disconnected, NotSent (its words make no sense) or AnswerLost."""
        self._busy = True
        clean = False
        try:
            reply = await self._transaction(message)
            clean = True
        finally:
            self._busy = False
            if not clean:  # an unknown point of the dialogue, cancellation included: nothing may follow on this connection
                self.abort()
        self.messages += 1
        if reply.code == 421 or self._replies or self._buffer:
            self.abort()
        return reply

    def _by(self, message: Envelope) -> bytes:
        """RFC 2852: return it if it is not delivered in so many seconds."""
        if self._deliver_by_s is None or message.by_s is None:
            return b""
        left_s = int(message.by_s - time.monotonic())
        return b" BY=%d;R" % left_s if self._deliver_by_s <= left_s <= _MOST_BY_S else b""

    async def _transaction(self, message: Envelope) -> SmtpReply:
        mail = message.mail + (b" SIZE=%d" % message.size if self._size else b"") + self._by(message) + b"\r\n"
        if self._dirty:
            mail = b"RSET\r\n" + mail
        self._write(mail + message.rcpt + b"DATA\r\n" if self._pipelining else mail)
        if self._dirty and (await self._reply("rset")).code // 100 != 2:
            raise Disconnected  # a server that refuses RSET is leaving
        self._dirty = True
        refused = _unless_ok(await self._reply("mail"))
        if refused is not None and (refused.code == 421 or not self._pipelining):
            return refused
        if not self._pipelining:
            self._write(message.rcpt)
        refused = refused or _unless_ok(await self._reply("rcpt"))
        if refused is not None and (refused.code == 421 or not self._pipelining):
            return refused
        if not self._pipelining:
            self._write(b"DATA\r\n")
        answer = await self._reply("data")
        if refused is not None:
            if answer.code == 354:  # RFC 2920 3.1: it waits for a text for nobody; leaving is simpler than sending one
                self.abort()
            return refused
        if answer.code // 100 in (4, 5):
            return answer
        if answer.code != 354:
            raise NotSent("smtp_bad_reply")
        return await self._body(message)

    async def _body(self, message: Envelope) -> SmtpReply:
        self._check_turn()
        message.written = True
        self._transport.write(message.body)
        try:
            answer = await self._reply("data")
        except Disconnected:
            raise AnswerLost("smtp_lost") from None
        except NotSent as error:
            raise AnswerLost(error.code) from None
        if answer.code // 100 == 3:
            raise AnswerLost("smtp_bad_reply")
        self._dirty = False
        return answer

    def _write(self, commands: bytes) -> None:
        self._check_turn()
        self._transport.write(commands)

    def _check_turn(self) -> None:
        """It is ours to speak. A reply that nobody asked for would be taken for the answer to what is written next."""
        if not self.usable:
            raise Disconnected
        if self._replies or self._buffer:
            raise NotSent("smtp_bad_reply")

    async def _reply(self, stage: str) -> SmtpReply:
        """The server's next reply. Raises Disconnected, or NotSent for what is no SMTP reply."""
        while not self._replies:
            if self._lost:
                raise Disconnected
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        code, enhanced = self._replies.popleft()
        if code == 0:
            raise NotSent("smtp_bad_reply")
        return SmtpReply(code, enhanced, stage=stage)

    def quit(self) -> None:
        """Say good-bye without waiting for the answer."""
        if self.usable and not self._busy:
            self._transport.write(b"QUIT\r\n")
            self._transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        self._lost = True
        self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # between messages a server only speaks to say that it is leaving (421)
            self.abort()
            return
        self._buffer += data
        while (end := _reply_end(self._buffer)) > 0:
            self._replies.append(_parse(bytes(self._buffer[:end])))
            del self._buffer[:end]
        if len(self._buffer) > _MAX_REPLY_BYTES:
            self._buffer.clear()
            self._replies.append((0, ""))
        if self._replies:
            self._wake()

    def eof_received(self) -> None:
        self._lost = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _unless_ok(reply: SmtpReply) -> SmtpReply | None:
    """The reply if it refuses. Raises NotSent if it makes no sense here."""
    if reply.code // 100 == 3:
        raise NotSent("smtp_bad_reply")
    return None if reply.code // 100 == 2 else reply


def _reply_end(buffer: bytearray) -> int:
    """Where the first whole reply ends, 0 if more must come. Only "250-" says that another line follows."""
    start = 0
    while (newline := buffer.find(b"\n", start)) >= 0:
        if buffer[start + 3 : start + 4] != b"-" or not buffer[start : start + 3].isdigit():
            return newline + 1
        start = newline + 1
    return 0


def _parse(reply: bytes) -> tuple[int, str]:
    """(code, enhanced) of one whole reply, code 0 if it is none: a strange line, or lines that disagree."""
    code, enhanced = 0, ""
    for line in reply.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or (code and int(found[1]) != code):
            return 0, ""
        code = int(found[1])
        enhanced = enhanced or parse_enhanced(found[3] or b"")
    return code, enhanced
