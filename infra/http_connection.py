"""One HTTP/1.1 connection: a request is written, and llhttp (httptools) reads what comes back, one exchange at a time.

The line between "not sent" and "perhaps taken" is the call of `send`: it hands the whole request to the transport in one
step. Before it nothing of the request can have left. After it every end without the head of an answer is AnswerLost, a
reset on the first byte included: how much the kernel sent cannot be known from here.

Once the head is here it is an answer. A body that breaks off, stalls, makes no sense or passes 64 KiB is returned as far
as it came, and the connection is closed.

A connection is used again only if nothing about it is in doubt: the answer ended where its framing says, the server did not
ask to close, our request was written to its end, and not one byte came that nobody had asked for.
"""

from __future__ import annotations

import asyncio
import select
from typing import NamedTuple, Protocol, cast

from httptools import HttpParserError, HttpResponseParser
from httptools.parser.errors import HttpParserUpgrade

from channels.base import AnswerLost, HttpReply

MAX_HEAD_BYTES = 64 * 1024
"""Interim answers (1xx) included."""
MAX_BODY_BYTES = 64 * 1024
MAX_REST_BYTES = 8 * MAX_BODY_BYTES
"""What may come after the head: chunk sizes, extensions and trailers cost more bytes than the body that they carry."""
SWITCHING_PROTOCOLS = 101


class Origin(NamedTuple):
    """What connections are pooled by."""

    tls: bool
    host: str
    port: int


class Owner(Protocol):
    """Told when a transport is there and when it is gone: once each, or neither if it never came to that."""

    def made(self, connection: HttpConnection) -> None: ...

    def lost(self, connection: HttpConnection) -> None: ...


class HttpConnection(asyncio.Protocol):
    """Not for concurrent use."""

    __slots__ = (
        "_answer", "_body", "_body_room", "_deadline", "_ended", "_gone", "_has_head", "_head_only", "_headers", "_keep",
        "_loop", "_owner", "_parser", "_poll", "_room", "_status", "_timer", "_transport", "_unasked", "idle_since",
        "origin",
    )  # fmt: skip

    def __init__(self, origin: Origin, *, owner: Owner) -> None:
        self.origin = origin
        self.idle_since = 0.0
        """Loop time of the last return to the pool."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        # What many servers get away with, and what moves no message's end: bare LF, blanks after a chunk's size, and
        # odd or folded header values. aiohttp's client reads answers by the same three.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._answer: asyncio.Future[HttpReply] | None = None
        self._gone = False
        self._begin(head_only=False)

    def _begin(self, *, head_only: bool) -> None:
        self._head_only = head_only
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._room = MAX_HEAD_BYTES
        self._body_room = MAX_BODY_BYTES
        self._status = 0
        self._has_head = self._ended = self._keep = self._unasked = False

    # For the pool and the client.

    def spent(self, *, fresh: bool = False) -> bool:
        """True if it must not be written to: closed, or something waits to be read that nobody asked for, be it the
        server's close. A fresh TLS connection is not looked into: session tickets wait there."""
        return self._gone or (not (fresh and self.origin.tls) and bool(self._poll.poll(0)))

    def send(self, request: bytes, *, deadline: float, head_only: bool = False) -> asyncio.Future[HttpReply]:
        """Write the request. The future brings the answer, or AnswerLost at `deadline` (loop time) or earlier.

        `head_only`: the answer has no body whatever its head says (HEAD)."""
        self._begin(head_only=head_only)
        self._deadline = deadline
        # The timer of an earlier exchange mostly rings first and is then set anew: no timer for each request.
        if self._timer is None or self._timer.when() > deadline:
            self._set_timer()
        self._answer = answer = self._loop.create_future()
        cast(asyncio.Transport, self._transport).write(request)
        return answer

    @property
    def reusable(self) -> bool:
        """After an exchange."""
        return self._keep and not self._gone

    def abort(self) -> None:
        """Close now, whatever is under way. What was waiting gets AnswerLost, or the answer as far as it came."""
        self._gone = True
        if self._transport is not None:
            self._transport.abort()

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():  # nobody asked
            self.abort()
            return
        rest = b""
        if len(data) > self._room:
            data, rest = data[: self._room], data[self._room :]
        self._room -= len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):  # the latter: 101, an answer, but what follows it is not HTTP
            if not self._ended:
                self._end("http_bad_reply")
                return
            self._unasked = True
        if self._ended:
            self._unasked |= bool(rest)
            self._end("")
        elif not self._room or self._body_room < 0:
            self._end("http_bad_reply")
        elif rest:
            self.data_received(rest)

    def eof_received(self) -> None:
        self._end("http_disconnected")
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._gone = True
        self._end("http_disconnected")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._owner.lost(self)

    # For the parser. What they raise ends the exchange as a bad answer.

    def on_message_begin(self) -> None:
        if self._ended:
            self._unasked = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if b"\0" in value:
            raise ValueError
        if not self._has_head:  # after it: a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        self._status = status = self._parser.get_status_code()
        if status < 100:
            raise ValueError
        if status >= 200 or status == SWITCHING_PROTOCOLS:
            self._has_head = True
            self._room = MAX_REST_BYTES
            self._ended = self._head_only

    def on_body(self, body: bytes) -> None:
        if self._ended:
            self._unasked = True
        elif self._body_room >= 0:
            self._body.append(body[: self._body_room])
            self._body_room -= len(body)

    def on_message_complete(self) -> None:
        if self._ended:
            return
        if not self._has_head:  # an interim answer: the real one follows
            self._headers.clear()
            return
        self._ended = True
        self._keep = self._body_room >= 0 and self._parser.should_keep_alive()

    # The end of an exchange.

    def _end(self, failure: str) -> None:
        """The answer as far as it came, or AnswerLost with `failure` where there is no head. Closes unless all is well."""
        answer = self._answer
        if answer is None or answer.done():
            return
        if failure or self._unasked or self._written_in_part():
            self._keep = False
        if not self._keep:
            self.abort()
        if self._has_head:
            answer.set_result(self._reply())
        else:
            answer.set_exception(AnswerLost(failure))

    def _written_in_part(self) -> bool:
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _reply(self) -> HttpReply:
        headers = {
            name.decode("latin-1").lower(): value.strip(b" \t").decode("utf-8", "replace") for name, value in self._headers
        }
        return HttpReply(self._status, headers, self._body[0] if len(self._body) == 1 else b"".join(self._body))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._end("http_timeout")
