"""The shortest way of `POST /v1/notifications`: from uvicorn's parser to the commit writer, with no task in between.

uvicorn makes a scope, a task, an event and two messages for every request; without them a request costs the process a
third less (docs/performance.md). What is unusual in any way (chunked, compressed, large, pipelined, a key, user or template
that has to be asked for) goes the usual way, through the ASGI application; the rules are the same code.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.accept.asgi import ONE, AcceptRoutes, Answer
from api.body import is_json
from api.one_write import OneWriteProtocol

MOST_BYTES = 64 * 1024
"""Larger bodies take the usual way, where reading pauses and what is too large is drained."""
JSON = b"application/json"
_METHOD, _URL = b"POST", ONE.encode()
_UNUSUAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})


class _Nobody:
    """In the place of the event that an ASGI application would wait for."""

    def set(self) -> None: ...


_NOBODY = _Nobody()


class DirectRequest:
    """One request on the short way; to the protocol it is what uvicorn's cycle is."""

    message_event = _NOBODY

    def __init__(
        self, protocol: AcceptProtocol, *, authorization: bytes | None, key: bytes | None, keep_alive: bool
    ) -> None:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = keep_alive
        self.authorization = authorization
        self.key = key
        self._protocol = protocol

    def send(self, answer: Answer) -> None:
        """Write the whole answer and let the connection go on."""
        if self.disconnected or self.response_complete:
            return
        status, headers, body = answer
        parts = [STATUS_LINE[status]]
        for name, value in (*self._protocol.server_state.default_headers, *headers):
            if name == b"connection":
                self.keep_alive = False
            else:
                parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        self.response_complete = True
        self._protocol.transport.write(b"".join(parts))
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()


class AcceptProtocol(OneWriteProtocol):
    """uvicorn's protocol with the short way. `protocol_of` says whose."""

    routes: ClassVar[AcceptRoutes]

    def on_message_begin(self) -> None:
        """Without the scope, which only the usual way needs."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        direct = self._direct()
        if direct is None:
            self._begin_usual()
            super().on_headers_complete()
        else:
            self.cycle = cast("RequestResponseCycle", direct)  # it has what the protocol asks of a cycle

    def on_message_complete(self) -> None:
        request = cast("RequestResponseCycle | DirectRequest", self.cycle)
        if not isinstance(request, DirectRequest):
            super().on_message_complete()
            return
        request.more_body = False
        raw = bytes(request.body)
        if not self.routes.answer_at_once(raw, authorization=request.authorization, key=request.key, send=request.send):
            self._hand_on(raw)

    def _direct(self) -> DirectRequest | None:
        """None where anything about this request is unusual."""
        if self.url != _URL or self.parser.get_method() != _METHOD or self.parser.get_http_version() != "1.1":
            return None
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return None  # pipelined, or the client does not read its answers
        authorization = key = None
        length = media = b""
        for name, value in self.headers:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = value
            elif name == b"content-type":
                media = value
            elif name == b"idempotency-key":
                key = value
            elif name in _UNUSUAL:
                return None
        if not (length.isdigit() and len(length) < 6 and 0 < int(length) <= MOST_BYTES):
            return None
        if media != JSON and not is_json(media):
            return None
        return DirectRequest(self, authorization=authorization, key=key, keep_alive=self.parser.should_keep_alive())

    def _begin_usual(self) -> None:
        """What `on_message_begin` left out."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)

    def _hand_on(self, raw: bytes) -> None:
        """The request, whole, to the application: something has to be asked for first."""
        self.cycle = cast(RequestResponseCycle, None)
        self._begin_usual()
        super().on_headers_complete()
        super().on_body(raw)
        super().on_message_complete()


def protocol_of(routes: AcceptRoutes) -> type[asyncio.Protocol]:
    """For `uvicorn.Config(http=...)`."""
    return cast("type[asyncio.Protocol]", type("AcceptProtocol", (AcceptProtocol,), {"routes": routes}))
