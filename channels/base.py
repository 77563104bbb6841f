"""The provider port, and the ports to the outside that adapters use.

An adapter turns a `Message` into one provider's protocol and the answer into a `SendResult` for each recipient. It knows
no database, no workflow and no library of the transport: those stand behind `HttpPort`, `SmtpPort` and `InboxPort`,
which `infra` implements and the workers wire.

How an adapter tells what happened:

- it returns one `SendResult` for each message, in the same order;
- a port that raises `NotSent` means: no byte of the message left, so RETRY is safe;
- a port that raises `AnswerLost` means: the message may have been taken, so the result is UNKNOWN;
- anything else that an adapter raises is a defect and is recorded as UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from domain.channels import Channel
from domain.ids import reference
from domain.receipts import WINDOW
from domain.results import SendResult


@dataclass(frozen=True, slots=True)
class Content:
    """What is shown to one person on one channel, rendered: plain text in, no template syntax left."""

    title: str = ""
    text: str = ""
    html: str | None = None
    url: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the template's channel block holds (a vendor's template id, an icon)."""


@dataclass(frozen=True, slots=True)
class Message:
    """One step of one notification, ready to be handed over."""

    notification_id: UUID
    n: int
    """The step's number within its notification; (notification_id, n) names the delivery."""
    attempt: int
    """1 for the first hand-over."""
    tenant: str
    channel: Channel
    address: str
    """The channel's own address: an e-mail address, a URL, a user id for in-app."""
    content: Content
    accepted_at: datetime
    expires_at: datetime
    """After this it must not be shown; an adapter passes the remaining time on where the provider takes one."""
    high: bool = False
    """High lane: the provider's own high priority, where it has one."""
    category: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    test: bool = False
    """Made by a test-send. People see it by the title; a channel for machines says it in a field."""

    @property
    def delivery_id(self) -> str:
        """Stable over attempts: the idempotency key towards the provider."""
        return f"{self.notification_id}-{self.n}"

    @property
    def reference(self) -> str:
        """Our name of this attempt alone: for the field that a provider gives back in its receipts (out id, session
        context, custom arguments). At most 48 characters of 0-9 a-f and hyphen."""
        return reference(self.notification_id, self.n, attempt=self.attempt)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the engine has to know of a provider to drive it."""

    provider: str
    """The adapter's name, as in the registry and in a delivery's `provider`."""
    channel: Channel
    max_batch: int = 1
    """Messages that one call can carry."""
    idempotent: bool = False
    """The provider recognises `delivery_id`: after an unknown outcome sending again cannot show twice."""
    receipts: bool = False
    """The provider reports delivery later (see `channels.receipts`)."""
    receipt_window: timedelta = WINDOW
    """With `receipts`: how long after it was taken a report may come. Until then `sent` is not final."""
    recall: bool = False
    """It is a `RecallingProvider`: what it took can be taken back, unread."""
    many_servers: bool = False
    """Each message goes to a server of its recipient's own (a webhook): one that is down says nothing of the account, and
    must not open its circuit for everybody else's. One that is slow, or throttles, is held back alone (`domain.shares`)."""
    call_timeout_s: float = 10.0
    """The longest that one `send` takes; the port's time-outs add up to less."""


class Provider(Protocol):
    """One provider account, ready to send. Instances are shared by concurrent calls."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        """Hand over at most `max_batch` messages; one result for each, in order."""
        ...

    async def close(self) -> None:
        """Give connections back; nothing is in flight any more."""
        ...


class CheckedProvider(Provider, Protocol):
    """A provider that can be tried without sending anything."""

    async def check(self) -> SendResult:
        """Connect and log in, as the next message would on a new connection. OK, or what a message would have met."""
        ...


@dataclass(frozen=True, slots=True)
class Recall:
    """One message that shall be taken back. It may never have arrived, or be on its way in this moment."""

    notification_id: UUID
    n: int
    tenant: str
    channel: Channel
    address: str
    provider_id: str | None = None
    """The provider's id of it, where one is known."""


class RecallAnswer(StrEnum):
    RECALLED = "recalled"
    """It is gone unread; if it was still on its way, it does not turn up any more."""
    ALREADY_READ = "already_read"
    REFUSED = "refused"
    """The provider takes it back no more (too late, for instance)."""
    UNAVAILABLE = "unavailable"
    """The provider could not be asked; asking again is harmless."""


class RecallingProvider(Provider, Protocol):
    """A provider with the capability `recall`."""

    async def recall(self, batch: Sequence[Recall]) -> Sequence[RecallAnswer]:
        """Take these back; one answer for each, in order. Safe to repeat: what is gone is `RECALLED`."""
        ...


class TransportError(Exception):
    """A port could not get an answer. `code` is short, stable and holds no address ("connect_refused", "tls_failed")."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NotSent(TransportError):
    """Nothing of the message left this machine: safe to send again."""


class AnswerLost(TransportError):
    """The message, or its decisive last part, was written and no answer came: it may have been taken."""


class TargetRefused(TransportError):
    """The target is not allowed (private address, bad scheme): never sent, and never will be."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """At most the first 64 KiB."""


class HttpPort(Protocol):
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        """One request, redirects not followed. Raises NotSent, AnswerLost or TargetRefused."""
        ...


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """The server's last word on one recipient (RFC 5321 code; RFC 3463 enhanced code where given)."""

    code: int
    enhanced: str = ""
    stage: str = "data"
    """Where it was said: connect, auth, mail, rcpt, data."""


class SmtpPort(Protocol):
    async def submit(
        self, *, sender: str, recipient: str, message: bytes, timeout_s: float, within_s: float | None = None
    ) -> SmtpReply:
        """One message to one recipient over a pooled connection. `within_s`: the server is asked to bounce what it has not
        delivered by then, if it can (RFC 2852). Raises NotSent, AnswerLost or TargetRefused."""
        ...

    async def check(self, *, timeout_s: float) -> SmtpReply:
        """Connect and log in. The server's refusal, or 250. Raises NotSent or TargetRefused."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class InboxItem:
    notification_id: UUID
    n: int
    tenant: str
    user_id: str
    title: str
    text: str
    url: str | None
    category: str
    data: Mapping[str, Any]
    expires_at: datetime


class InboxPort(Protocol):
    async def store(self, items: Sequence[InboxItem]) -> None:
        """Store all, each once: the same (notification, n) again changes nothing. Raises NotSent if none was stored."""
        ...

    async def recall(self, items: Sequence[Recall]) -> Sequence[bool]:
        """Take them out of their inboxes, those too that are stored later; False for what was read. Raises NotSent."""
        ...
