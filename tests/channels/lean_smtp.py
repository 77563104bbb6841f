"""A small SMTP server whose every answer can be scripted: for the exact line between "not sent" and "answer lost"."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

RESET = "!reset"
"""RST instead of an answer."""
CLOSE = "!close"
"""FIN instead of an answer."""
STALL = "!stall"
"""No answer, ever."""

_DEFAULTS = {
    "greeting": "220 lean ESMTP",
    "ehlo": "250-lean",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 go",
    "body": "250 2.0.0 queued",
    "rset": "250 2.0.0 Ok",
    "quit": "221 bye",
}


@dataclass
class Lean:
    """Scripts and records. `script["rcpt"]` holds answers used up in order before the default; so do the other stages."""

    port: int = 0
    pipelining: bool = False
    deliver_by: str | None = None
    """What DELIVERBY says; None: not offered."""
    script: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    taken: list[bytes] = field(default_factory=list)
    """Bodies that the server has read to the final dot, whatever it answered."""
    commands: list[str] = field(default_factory=list)
    open: list[Conversation] = field(default_factory=list)
    connections: int = 0

    def then(self, stage: str, *answers: str) -> None:
        self.script[stage].extend(answers)

    def answer(self, stage: str) -> str:
        waiting = self.script[stage]
        return waiting.popleft() if waiting else _DEFAULTS[stage]


class Conversation(asyncio.Protocol):
    def __init__(self, lean: Lean) -> None:
        self.lean = lean
        self.buffer = b""
        self.in_body = False
        self.silent = False
        self.out = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self.lean.connections += 1
        self.lean.open.append(self)
        self.say("greeting")
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        with suppress(ValueError):
            self.lean.open.remove(self)

    def say(self, stage: str) -> None:
        answer = self.lean.answer(stage)
        if answer == STALL:
            self.silent = True
        elif answer == RESET:
            self.transport.abort()
        elif answer == CLOSE:
            self.flush()
            self.transport.close()
        else:
            text, _, then = answer.partition("!")
            if stage == "ehlo":
                text += "\r\n250-SIZE 1000000\r\n" + ("250-PIPELINING\r\n" if self.lean.pipelining else "")
                text += "" if self.lean.deliver_by is None else f"250-DELIVERBY{self.lean.deliver_by}\r\n"
                text += "250 HELP"
            self.out += text.encode() + b"\r\n"
            self.in_body = stage == "data" and text.startswith("354")
            if then:
                self.flush()
                self.transport.close()

    def flush(self) -> None:
        """Answers to what came in one segment go out in one, as RFC 2920 asks of servers."""
        if self.out and not self.transport.is_closing():
            self.transport.write(self.out)
        self.out = b""

    def data_received(self, data: bytes) -> None:
        self.read(data)
        self.flush()

    def read(self, data: bytes) -> None:
        self.buffer += data
        while not self.silent and not self.transport.is_closing():
            if self.in_body:
                end = self.buffer.find(b"\r\n.\r\n")
                if end < 0:
                    return
                self.lean.taken.append(self.buffer[: end + 2])
                self.buffer = self.buffer[end + 5 :]
                self.in_body = False
                self.say("body")
                continue
            line, newline, rest = self.buffer.partition(b"\r\n")
            if not newline:
                return
            self.buffer = rest
            verb = line[:4].lower().decode()
            self.lean.commands.append(line.decode())
            self.say(verb)


@asynccontextmanager
async def lean_smtp(*, pipelining: bool = False) -> AsyncIterator[Lean]:
    lean = Lean(pipelining=pipelining)
    server = await asyncio.get_running_loop().create_server(lambda: Conversation(lean), "127.0.0.1", 0)
    lean.port = server.sockets[0].getsockname()[1]
    try:
        yield lean
    finally:
        server.close()
        for conversation in list(lean.open):
            conversation.transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0)
