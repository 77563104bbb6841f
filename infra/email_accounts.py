"""Several SMTP servers for e-mail, as `TONGDA_EMAIL_ACCOUNTS` lists them: JSON, because a list has no place in a variable.

[{"name": "relay-a", "host": "smtp-a.example.com", "username": "tongda", "password": "...", "rate_per_second": 50},
{"name": "relay-b", "host": "smtp-b.example.com", "order": 1}]
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from channels.email.smtp import SmtpSettings

MOST = 100
DEFAULT_NAME = "smtp-default"
"""The account that the TONGDA_SMTP_* settings describe."""
WEBHOOK_DEFAULT = "webhook-default"
INAPP_DEFAULT = "inapp-default"
"""The installation's own of the other channels."""


class EmailAccount(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server with its place among the others (`domain.routing`: order, then cost, then weight)."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,62}$")]
    """Shown in deliveries and timelines; steps under way know their account by it."""
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str = ""
    password: str = ""
    sender: Annotated[str, Meta(max_length=320)] = ""
    """From header and envelope sender; "" = TONGDA_SMTP_FROM."""
    connections: Annotated[int, Meta(ge=1, le=500)] = 16
    """From each worker process."""
    order: Annotated[int, Meta(ge=0, le=1000)] = 0
    cost: Annotated[float, Meta(ge=0)] = 0.0
    weight: Annotated[int, Meta(ge=0, le=1000)] = 1
    rate_per_second: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    """All workers together stay below it."""

    def settings(self, *, sender: str) -> SmtpSettings:
        """As the provider takes them; `sender` is used where this account names none."""
        return SmtpSettings(
            host=self.host,
            port=self.port,
            security=self.security,
            username=self.username,
            password=self.password,
            sender=self.sender or sender,
            connections=self.connections,
        )

    def __repr__(self) -> str:
        return f"EmailAccount({self.name!r}, {self.host!r}, {self.port})"  # without the password


_decoder = msgspec.json.Decoder(list[EmailAccount])


def parsed(text: str) -> tuple[EmailAccount, ...]:
    """Raises ValueError, which names the entry and the field and holds no value."""
    try:
        accounts = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise ValueError(f"TONGDA_EMAIL_ACCOUNTS: {_without_values(str(error))}") from None
    except msgspec.DecodeError:
        raise ValueError("TONGDA_EMAIL_ACCOUNTS is not a JSON list") from None
    names = [account.name for account in accounts]
    if not 0 < len(accounts) <= MOST:
        raise ValueError(f"TONGDA_EMAIL_ACCOUNTS lists 1 to {MOST} accounts")
    if len(set(names)) != len(names) or DEFAULT_NAME in names:
        raise ValueError(f"TONGDA_EMAIL_ACCOUNTS: each name is given once, and none is {DEFAULT_NAME}")
    return tuple(accounts)


def _without_values(message: str) -> str:
    """What msgspec says, which quotes what it got for enums only."""
    if "Invalid enum" not in message:
        return message
    return "a value is not one of those allowed" + message[message.rfind(" - at") :]
