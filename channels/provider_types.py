"""What a provider is made of, and what is known of it before an account exists. Each adapter's file ends with its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from channels.account_settings import AccountSettings
from channels.base import Capabilities, HttpPort, InboxPort, Provider, SmtpPort
from domain.receipts import WINDOW

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a provider may be made of. A port that this process does not have is None."""

    http: HttpPort | None = None
    smtp: SmtpPort | None = None
    inbox: InboxPort | None = None
    secret_for: Callable[[str], str] | None = None
    """Signing secret of a tenant's webhooks; while it is being replaced several, with blanks between."""
    smtp_for: Callable[[AccountSettings], SmtpPort] | None = None
    """Opens the port to the server that an account's settings name, where `smtp` is not given."""
    reply_to: str = ""
    """Where this account's provider posts its receipts; "": it is not asked for any."""
    receipt_window: timedelta = WINDOW
    """How long they may come."""
    receipt_url: Callable[[str, str], str] | None = None
    """(provider, account) -> where that account's receipts go; None: accounts of this process ask for none."""

    def reporting(self, settings: AccountSettings, *, provider: str, account: str) -> Wiring:
        """For this account, which may ask for receipts."""
        window = settings.receipt_window()
        if window is None or self.receipt_url is None:
            return self
        return replace(self, reply_to=self.receipt_url(provider, account), receipt_window=window)


@dataclass(frozen=True, slots=True)
class ProviderType:
    """One kind of provider account: the one definition behind validation, `GET /v1/provider-types` and the workers."""

    summary: str
    """One sentence for people."""
    capabilities: Capabilities
    settings: type[AccountSettings]
    build: Callable[[Wiring, AccountSettings], Provider]
    """Raises ValueError where the wiring lacks what it needs. Nothing is connected to yet."""
    checks: bool = False
    """It is a `CheckedProvider`: an account can be tried without sending anything."""
    accounts: bool = True
    """Tenants may have accounts of it. False: the installation has the only one."""

    @property
    def name(self) -> str:
        return self.capabilities.provider


def given(value: _T | None, what: str) -> _T:
    """Raises ValueError."""
    if value is None:
        raise ValueError(f"this provider needs {what}")
    return value
