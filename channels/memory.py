"""In-memory twins of a provider and of the ports: they record what they are given and answer as scripted.

A script is a queue; each call takes one entry, and the default follows when it is empty. An entry that is an exception is
raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from channels.base import (
    Capabilities,
    HttpReply,
    InboxItem,
    Message,
    Recall,
    RecallAnswer,
    SmtpReply,
    TransportError,
)
from channels.failures import result_of_failure
from domain.channels import Channel
from domain.results import ResultClass, SendResult


class MemoryProvider:
    """A provider that remembers.

    `answer` decides each message's result where the script is empty; without it everything is OK. A scripted
    TransportError becomes the result that a real adapter makes of it.
    """

    def __init__(
        self,
        *,
        channel: Channel = Channel.EMAIL,
        max_batch: int = 1,
        idempotent: bool = False,
        recall: bool = False,
        receipts: bool = False,
        answer: Callable[[Message], SendResult] | None = None,
    ) -> None:
        self.sent: list[Message] = []
        """Every message handed over, in order, whatever was answered."""
        self.calls: list[int] = []
        """Size of each batch."""
        self.recalled: dict[tuple[UUID, int], Recall] = {}
        """What was taken back."""
        self.read: set[tuple[UUID, int]] = set()
        """What a test says was read: it is not taken back."""
        self.closed = False
        self._script: deque[SendResult | Exception] = deque()
        self._answer = answer or (lambda message: SendResult(ResultClass.OK, provider_id=message.delivery_id))
        self._capabilities = Capabilities(
            provider="memory",
            channel=channel,
            max_batch=max_batch,
            idempotent=idempotent,
            recall=recall,
            receipts=receipts,
            call_timeout_s=1.0,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def script(self, *results: SendResult | Exception) -> None:
        """Results of the next messages, one each. An exception that is no TransportError is a defect and is raised."""
        self._script.extend(results)

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        self.calls.append(len(batch))
        return [self._result(message) for message in batch]

    def _result(self, message: Message) -> SendResult:
        self.sent.append(message)
        scripted = self._script.popleft() if self._script else self._answer(message)
        if isinstance(scripted, TransportError):
            return result_of_failure(scripted)
        if isinstance(scripted, Exception):
            raise scripted
        return scripted

    async def recall(self, batch: Sequence[Recall]) -> Sequence[RecallAnswer]:
        """Takes an entry of the script only if it is a TransportError: then the provider cannot be asked."""
        if self._script and isinstance(self._script[0], TransportError):
            self._script.popleft()
            return [RecallAnswer.UNAVAILABLE] * len(batch)
        gone = [one for one in batch if (one.notification_id, one.n) not in self.read]
        self.recalled.update(((one.notification_id, one.n), one) for one in gone)
        return [RecallAnswer.RECALLED if one in gone else RecallAnswer.ALREADY_READ for one in batch]

    async def close(self) -> None:
        self.closed = True


@dataclass(frozen=True, slots=True)
class HttpCall:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class MemoryHttp:
    """HttpPort: 200 with an empty body unless scripted."""

    def __init__(self) -> None:
        self.calls: list[HttpCall] = []
        self.closed = False
        self._script: deque[HttpReply | TransportError] = deque()

    def script(self, *replies: HttpReply | TransportError) -> None:
        self._script.extend(replies)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        del timeout_s
        self.calls.append(HttpCall(method, url, dict(headers), body))
        reply = self._script.popleft() if self._script else HttpReply(200, {}, b"")
        if isinstance(reply, TransportError):
            raise reply
        return reply

    async def close(self) -> None:
        self.closed = True


@dataclass(frozen=True, slots=True)
class Letter:
    sender: str
    recipient: str
    message: bytes
    within_s: float | None = None


class MemorySmtp:
    """SmtpPort: 250 2.0.0 unless scripted."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.closed = False
        self._script: deque[SmtpReply | TransportError] = deque()

    def script(self, *replies: SmtpReply | TransportError) -> None:
        self._script.extend(replies)

    async def submit(
        self, *, sender: str, recipient: str, message: bytes, timeout_s: float, within_s: float | None = None
    ) -> SmtpReply:
        del timeout_s
        self.letters.append(Letter(sender, recipient, message, within_s))
        reply = self._script.popleft() if self._script else SmtpReply(250, "2.0.0")
        if isinstance(reply, TransportError):
            raise reply
        return reply

    async def check(self, *, timeout_s: float) -> SmtpReply:
        del timeout_s
        reply = self._script.popleft() if self._script else SmtpReply(250, "2.0.0")
        if isinstance(reply, TransportError):
            raise reply
        return reply

    async def close(self) -> None:
        self.closed = True


class MemoryInbox:
    """InboxPort: keeps each (notification, n) once. A scripted exception stores, or takes back, nothing of its call."""

    def __init__(self) -> None:
        self.items: dict[tuple[UUID, int], InboxItem] = {}
        self.calls: list[int] = []
        self.recalled: set[tuple[UUID, int]] = set()
        self.read: set[tuple[UUID, int]] = set()
        """What a test says was read."""
        self._script: deque[TransportError] = deque()

    def script(self, *failures: TransportError) -> None:
        self._script.extend(failures)

    async def store(self, items: Sequence[InboxItem]) -> None:
        self.calls.append(len(items))
        if self._script:
            raise self._script.popleft()
        for item in items:
            if (item.notification_id, item.n) not in self.recalled:
                self.items.setdefault((item.notification_id, item.n), item)

    async def recall(self, items: Sequence[Recall]) -> Sequence[bool]:
        if self._script:
            raise self._script.popleft()
        gone = [(one.notification_id, one.n) for one in items if (one.notification_id, one.n) not in self.read]
        self.recalled.update(gone)
        for place in gone:
            self.items.pop(place, None)
        return [(one.notification_id, one.n) in self.recalled for one in items]
