"""The providers that exist: built in, and from installed packages through entry points "tongda.channels".

Nothing happens at import. A worker calls `factories()` once, then `build` for each account it has.

A package adds a provider with one function `(Wiring) -> Provider` and, in its pyproject.toml:

    [project.entry-points."tongda.channels"]
    acme-sms = "acme_tongda:build"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any, TypeVar

from channels.base import HttpPort, InboxPort, Provider, SmtpPort
from channels.email.smtp import SmtpProvider
from channels.inapp.inbox import InboxProvider
from channels.receipts import ReceiptReader, ReceiptWiring
from channels.webhook.receipts import WebhookReceipts
from channels.webhook.standard import WebhookProvider
from domain.receipts import WINDOW

GROUP = "tongda.channels"
RECEIPTS_GROUP = "tongda.receipts"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a provider may be made of. A port that this process does not have is None."""

    http: HttpPort | None = None
    smtp: SmtpPort | None = None
    inbox: InboxPort | None = None
    sender: str = ""
    """From of e-mail: "Name <address>"."""
    secret_for: Callable[[str], str] | None = None
    """Signing secret of a tenant's webhooks."""
    reply_to: str = ""
    """Where this account's provider posts its receipts; "": it is not asked for any."""
    receipt_window: timedelta = WINDOW
    """How long they may come."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The account's own settings, as its provider documents them."""


Factory = Callable[[Wiring], Provider]
ReaderFactory = Callable[[ReceiptWiring], ReceiptReader]


class UnknownProvider(LookupError):
    """No built-in provider and no installed package has this name."""


def factories() -> dict[str, Factory]:
    """Every provider by name. Raises ValueError if a package takes a name that is taken, and what its import raises."""
    found: dict[str, Factory] = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in found:
            # silently preferring either would send an account's messages where its operator did not mean
            raise ValueError(f"two providers are called {point.name!r}")
        found[point.name] = point.load()
    return found


def readers() -> dict[str, ReaderFactory]:
    """Every receipt reader by its provider's name; raises as `factories` does."""
    found: dict[str, ReaderFactory] = dict(READERS)
    for point in entry_points(group=RECEIPTS_GROUP):
        if point.name in found:
            raise ValueError(f"two receipt readers are for {point.name!r}")
        found[point.name] = point.load()
    return found


def build(name: str, wiring: Wiring, *, among: Mapping[str, Factory]) -> Provider:
    """One account's provider. Raises UnknownProvider, or ValueError if the wiring lacks what the provider needs."""
    try:
        factory = among[name]
    except KeyError:
        raise UnknownProvider(name) from None
    return factory(wiring)


def _smtp(wiring: Wiring) -> Provider:
    return SmtpProvider(_given(wiring.smtp, "an SMTP port"), sender=wiring.sender)


def _webhook(wiring: Wiring) -> Provider:
    return WebhookProvider(
        _given(wiring.http, "an HTTP port"),
        secret_for=_given(wiring.secret_for, "the signing secrets"),
        reply_to=wiring.reply_to,
        receipt_window=wiring.receipt_window,
    )


def _inapp(wiring: Wiring) -> Provider:
    return InboxProvider(_given(wiring.inbox, "an inbox port"))


def _given(value: _T | None, what: str) -> _T:
    if value is None:
        raise ValueError(f"this provider needs {what}")
    return value


READERS: Mapping[str, ReaderFactory] = {"webhook": WebhookReceipts}
"""By provider: who reads what it posts to `/v1/receipts`. Installed packages add theirs by entry points of
`RECEIPTS_GROUP`."""
BUILT_IN: Mapping[str, Factory] = {"smtp": _smtp, "webhook": _webhook, "inapp": _inapp}
