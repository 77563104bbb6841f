"""Messages for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from channels.base import Content, Message
from domain.channels import Channel

NOTIFICATION = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ACCEPTED = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PERSON = "zhang.wei@example.com"
WORDS = "account 6222 0200"
"""Part of every sample's text: it must turn up in no code and no exception."""


def message(channel: Channel = Channel.EMAIL, address: str = PERSON, **changes: Any) -> Message:
    content = Content(title="Your code", text=f"Your code is 123456, {WORDS}.", html=f"<p>Your code, {WORDS}</p>")
    sample = Message(
        notification_id=NOTIFICATION,
        n=1,
        attempt=1,
        tenant="acme",
        channel=channel,
        address=address,
        content=content,
        accepted_at=ACCEPTED,
        expires_at=ACCEPTED + timedelta(hours=1),
        category="security",
        metadata={"order": "A-1"},
        data={"code": "123456"},
    )
    return replace(sample, **changes)


def content(**changes: Any) -> Content:
    return replace(Content(title="Hello", text="Hello"), **changes)
