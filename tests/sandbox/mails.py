"""Mails for the tests: a proper one, and a way to send bytes exactly as they are."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from uuid import uuid4

import sandbox


def new_delivery() -> str:
    return f"{uuid4()}-1"


def mail(
    *, to: str = "fang@demo.example", delivery: str | None = None, subject: str = "订单 A-77 已发货", html: bool = True
) -> bytes:
    """What the service's own adapter makes, more or less."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "通达 <no-reply@tongda.example>"
    message["To"] = to
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = f"<{delivery or new_delivery()}@tongda.example>"
    message["Subject"] = subject
    message.set_content("您的订单 A-77 已发货。\n", cte="base64")
    if html:
        message.add_alternative("<h1>您的订单 <b>A-77</b> 已发货</h1>", subtype="html", cte="quoted-printable")
    return message.as_bytes()


class RawClient:
    """Speaks SMTP byte by byte: what a library would mend or refuse to send goes out as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def greeted(cls, box: sandbox.Box, *, hello: bytes = b"EHLO client.example") -> RawClient:
        client = cls(*await asyncio.open_connection(box.host, box.smtp_port))
        await client.reply()
        await client.say(hello)
        return client

    async def reply(self) -> str:
        """A whole reply, lines joined; "" when the server has closed."""
        lines = []
        while True:
            line = (await self._reader.readline()).decode()
            lines.append(line)
            if line[3:4] != "-":
                return "".join(lines)

    async def say(self, line: bytes) -> str:
        self._writer.write(line + b"\r\n")
        await self._writer.drain()
        return await self.reply()

    async def transfer(
        self, content: bytes, *, to: bytes = b"fang@demo.example", options: bytes = b"", sender: bytes = b"a@tongda.example"
    ) -> str:
        """The server's last word on content, whose dots are stuffed here."""
        for line in (b"MAIL FROM:<" + sender + b">" + options, b"RCPT TO:<" + to + b">", b"DATA"):
            reply = await self.say(line)
            if reply[0] not in "23":
                return reply
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        return await self.say(stuffed.removesuffix(b"\r\n") + b"\r\n.")

    async def close(self) -> None:
        self._writer.close()


async def transferred(box: sandbox.Box, content: bytes, *, options: bytes = b"", to: bytes = b"fang@demo.example") -> str:
    """One message over a connection of its own; the last reply."""
    client = await RawClient.greeted(box)
    try:
        return await client.transfer(content, options=options, to=to)
    finally:
        await client.close()
