"""The providers that exist: built in, and from installed packages through entry points "tongda.channels".

Nothing happens at import. A process calls `provider_types()` once, then `build` for each account it has.

A package adds a provider with one `ProviderType` and, in its pyproject.toml:

    [project.entry-points."tongda.channels"]
    acme-sms = "acme_tongda:ACME"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from channels.account_settings import AccountSettings
from channels.base import Provider
from channels.email.smtp import SMTP
from channels.inapp.inbox import INAPP
from channels.provider_types import ProviderType, Wiring
from channels.receipts import ReceiptReader, ReceiptWiring
from channels.webhook.receipts import WebhookReceipts
from channels.webhook.standard import WEBHOOK

__all__ = ["BUILT_IN", "GROUP", "ProviderType", "UnknownProvider", "Wiring", "build", "provider_types", "readers"]

GROUP = "tongda.channels"
RECEIPTS_GROUP = "tongda.receipts"
BUILT_IN: Mapping[str, ProviderType] = {kind.name: kind for kind in (SMTP, WEBHOOK, INAPP)}
ReaderFactory = Callable[[ReceiptWiring], ReceiptReader]
READERS: Mapping[str, ReaderFactory] = {"webhook": WebhookReceipts}
"""By provider: who reads what it posts to `/v1/receipts`. Installed packages add theirs by entry points of
`RECEIPTS_GROUP`."""


class UnknownProvider(LookupError):
    """No built-in provider and no installed package has this name."""


def provider_types() -> dict[str, ProviderType]:
    """Every provider by name. Raises ValueError if a package takes a name that is taken, or offers what is no provider,
    and what its import raises."""
    found = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if point.name in found:
            # silently preferring either would send an account's messages where its operator did not mean
            raise ValueError(f"two providers are called {point.name!r}")
        kind = point.load()
        if not isinstance(kind, ProviderType) or kind.name != point.name:
            raise ValueError(f"the entry point {point.name!r} is not a provider type of this name")
        found[point.name] = kind
    return found


def readers() -> dict[str, ReaderFactory]:
    """Every receipt reader by its provider's name; raises as `provider_types` does."""
    found: dict[str, ReaderFactory] = dict(READERS)
    for point in entry_points(group=RECEIPTS_GROUP):
        if point.name in found:
            raise ValueError(f"two receipt readers are for {point.name!r}")
        found[point.name] = point.load()
    return found


def build(name: str, wiring: Wiring, settings: AccountSettings, *, among: Mapping[str, ProviderType]) -> Provider:
    """One account's provider. Raises UnknownProvider, or ValueError if the wiring lacks what the provider needs."""
    try:
        kind = among[name]
    except KeyError:
        raise UnknownProvider(name) from None
    return kind.build(wiring, settings)
