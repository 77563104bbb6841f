"""Calls of the SMTP pool, for tests."""

from __future__ import annotations

from channels.base import SmtpReply
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.lean_smtp import Lean

TEXT = b"Subject: x\r\n\r\nHello\r\n.dot\r\n..two\r\n"


def pool_for(lean: Lean, *, connections: int = 1, messages: int = 100, idle_s: float = 30.0) -> SmtpPool:
    return SmtpPool(
        SmtpServer(
            host="127.0.0.1",
            port=lean.port,
            security=SmtpSecurity.NONE,
            connections=connections,
            messages_per_connection=messages,
            idle_s=idle_s,
        )
    )


async def submit(pool: SmtpPool, *, recipient: str = "b@example.com", timeout_s: float = 5.0) -> SmtpReply:
    return await pool.submit(sender="a@example.com", recipient=recipient, message=TEXT, timeout_s=timeout_s)
