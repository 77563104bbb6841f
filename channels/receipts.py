"""The receipt port: what a provider posts to us later about messages that it took.

An adapter gets the raw request, because signatures are over raw bytes, and gives the receipts in it. It says what it
knows and no more: which of them are new, late or early is found out behind it.

- `provider_id` is the id under which the provider took the message (`SendResult.provider_id`). `reference` is ours
  (`Message.reference`), where the vendor has a field for it and gives it back: with it a message is known whose id never
  reached us, because the answer was lost or the vendor gives none. A receipt has one of them, or both.
- What the adapter cannot read it refuses with `domain.errors.Invalid` (naming the field), what is not signed as it must be
  with `refused_signature()`; a request of several receipts is taken whole or not at all.
- Where a vendor does not sign, the secret in the path is what keeps others out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from channels.account_settings import AccountSettings
from domain.errors import Unauthenticated
from domain.results import ResultClass
from domain.states import Status

MOST_RECEIPTS = 1000
"""In one request; vendors send at most some hundred."""
MOST_ID = 255


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """One call of a provider, as it came."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one message."""

    provider_id: str | None
    """None: the receipt names our reference alone."""
    status: Status
    """SENT, DELIVERED, READ or FAILED."""
    at: datetime | None = None
    """By the provider's clock."""
    result: ResultClass | None = None
    """With FAILED: what it means for the next step, as of an answer (RECIPIENT: dead or opted out)."""
    code: str = ""
    """The provider's own code, short and stable, never text that may hold an address."""
    reference: str | None = None
    """`Message.reference`, or `Message.delivery_id` from a provider that knows the message by it; what else stands in the
    vendor's field is nobody's."""
    tenant: str | None = None
    """Whom the signature speaks for; None: the account as a whole."""

    @property
    def name(self) -> str:
        """What the message is known by: the provider's id, or else our reference. "": neither was given."""
        return self.provider_id or self.reference or ""


@dataclass(frozen=True, slots=True)
class ReceiptAnswer:
    """What the provider wants to hear when all were stored."""

    body: bytes = b""
    media_type: str = "application/json"
    status: int = 200


@dataclass(frozen=True, slots=True)
class ReceiptWiring:
    """What a reader may need."""

    secret_for: Callable[[str], str]
    """Signing secret of a tenant's webhooks; while it is being replaced several, with blanks between."""
    tenant_of: Callable[[UUID], Awaitable[str | None]]
    """Whose a notification is."""
    now: Callable[[], float]
    """Unix time in seconds."""
    settings: AccountSettings | None = None
    """The account's own; None: it is one of the installation's."""


class ReceiptReader(Protocol):
    """One account's receipts."""

    async def read(self, request: ReceiptRequest) -> Sequence[Receipt]:
        """At most `MOST_RECEIPTS`, verified. Raises what the module's text says."""
        ...

    def answer(self, taken: int) -> ReceiptAnswer: ...


def refused_signature(message: str) -> Unauthenticated:
    return Unauthenticated(message, code="receipt_signature")
