"""The failure vocabulary: what every answer of a provider becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class ResultClass(StrEnum):
    """What an answer means for the next step. Results are per recipient, never per call."""

    OK = "OK"
    """The provider took it."""
    RETRY = "RETRY"
    """Transient; nothing was taken. Send the same again later."""
    RATE = "RATE"
    """Throttled; nothing was taken. Honour the stated wait. Costs no attempt."""
    TOKEN = "TOKEN"  # noqa: S105 - a class of answers, not a secret
    """Our credential has expired: fetch a new one, try once more."""
    RECIPIENT = "RECIPIENT"
    """This address is dead or has opted out."""
    PERMANENT = "PERMANENT"
    """The payload or its template is refused; sending it again cannot help."""
    CONFIG = "CONFIG"
    """Our credentials, quota contract or allow-list: the account must be mended by an operator."""
    UNKNOWN = "UNKNOWN"
    """It was sent and the answer was lost: it may or may not have been taken."""


class Refuser(StrEnum):
    """With PERMANENT: what refuses, where it is not the content."""

    ENDPOINT = "endpoint"
    """The address that is called takes none of it: it is not there, moved, or may not be called."""
    MAILBOX_FULL = "mailbox_full"


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one recipient's message in one attempt."""

    result: ResultClass
    code: str = ""
    """The provider's own code, short and stable ("550 5.1.1", "http_503"): never text that may hold an address."""
    provider_id: str | None = None
    """The provider's id of the message, for receipts and queries."""
    delivered: bool = False
    """With OK: the answer itself proves delivery (webhook 2xx, stored in the inbox)."""
    retry_after: timedelta | None = None
    """The wait that the provider asked for."""
    of_recipient: bool = False
    """With RETRY: it concerns this recipient alone (greylisting, a full mailbox), and says nothing of the account."""
    refuser: Refuser | None = None
    """With PERMANENT; None: the content is refused."""
