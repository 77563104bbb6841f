"""From a stored provider account to one that can send: opened, judged, built. For workers, and for the API to try one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from activities.accounts.account import Account, Stop
from activities.accounts.permits import Leases, Permits
from activities.accounts.slots import Slots
from channels.account_settings import AccountSettings, decode_settings
from channels.base import Capabilities, Message, Provider, TargetRefused
from channels.email.smtp import SmtpSettings
from channels.provider_types import ProviderType, Wiring
from domain.errors import Unavailable
from domain.results import ResultClass, SendResult
from infra.credentials import CredentialBox, Unreadable
from infra.postgres.tenants.provider_accounts import StoredAccount
from infra.smtp import SmtpPool
from infra.ssrf import SsrfGuard

log = structlog.get_logger()


class Unusable(Exception):
    """The account cannot be made. `problem` is one of `PROBLEMS`."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


PROBLEMS: Mapping[str, str] = {
    "provider_unknown": "This version does not know its provider.",
    "credentials_unreadable": "Its credentials cannot be read: they were sealed under a key that is neither "
    "TONGDA_SECRET_KEY nor among TONGDA_OTHER_SECRET_KEYS. Name that key, or give them again with PATCH.",
    "settings_invalid": "Its settings do not fit this version's rules. Give them again with PATCH.",
    "not_buildable": "It cannot be built in this process: the log says why.",
}


@dataclass(frozen=True, slots=True)
class _Nothing:
    """The provider of an account that is stopped: only known, never called."""

    capabilities: Capabilities

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        return [SendResult(ResultClass.CONFIG, code="account_stopped")] * len(batch)

    async def close(self) -> None:
        """Nothing is open."""


class AccountMaker:
    """Makes accounts of stored rows. `wiring` has the ports of this process; what tenants point at is guarded."""

    def __init__(
        self,
        types: Mapping[str, ProviderType],
        wiring: Wiring,
        *,
        box: CredentialBox,
        leases: Leases | None,
    ) -> None:
        self.types = types
        self._wiring = wiring
        self._box = box
        self._leases = leases

    def settings(self, stored: StoredAccount) -> AccountSettings:
        """The stored settings, secrets opened, by this version's rules. Raises Unusable."""
        kind = self._type(stored)
        try:
            opened: dict[str, Any] = dict(stored.settings)
            if stored.sealed is not None:
                opened |= self._box.open(stored.sealed, key_id=stored.key_id, tenant=stored.tenant, account=stored.id)
            return decode_settings(kind.settings, opened)
        except (Unreadable, Unavailable):
            raise Unusable("credentials_unreadable") from None
        except msgspec.ValidationError:
            raise Unusable("settings_invalid") from None

    def provider(self, stored: StoredAccount) -> tuple[Provider, AccountSettings]:
        """Nothing is connected to yet; the caller closes it. Raises Unusable."""
        kind, settings = self._type(stored), self.settings(stored)
        try:
            wiring = self._wiring.reporting(settings, provider=stored.provider, account=stored.id)
            return kind.build(wiring, settings), settings
        except Exception as error:  # an adapter's own doing, and not only of ours: it must not take others along
            log.error("account.not_buildable", account=stored.id, provider=stored.provider, code=type(error).__name__)
            raise Unusable("not_buildable") from None

    def account(self, stored: StoredAccount) -> Account | None:
        """Ready to send, or stopped with its reason; None where not even its channel is known."""
        kind = self.types.get(stored.provider)
        if kind is None:
            log.error("account.broken", account=stored.id, problem="provider_unknown")
            return None
        try:
            provider, settings = self.provider(stored)
        except Unusable as error:
            log.error("account.broken", account=stored.id, problem=error.problem)
            nothing = _Nothing(kind.capabilities)
            return self.placed(Account(stored.id, nothing, Slots(1), problem=error.problem), stored)
        many = provider.capabilities.many_servers
        slots = Slots.for_many_servers(settings.connections) if many else Slots(settings.connections)
        return self.placed(Account(stored.id, provider, slots), stored)

    def placed(self, account: Account, stored: StoredAccount) -> Account:
        """The same with what the row says of its place, rate and pause: its connections, slots and health go on."""
        placing = stored.placing
        rate = placing.rate_per_second
        permits = None
        if rate is not None and self._leases is not None:
            permits = Permits(self._leases, account=stored.id, rate_per_second=rate)
        stopped = Stop.BROKEN if account.problem else Stop.PAUSED if stored.paused_at is not None else None
        return Account(
            stored.id,
            account.provider,
            account.slots,
            tenant=stored.tenant,
            order=placing.order,
            cost=placing.cost,
            weight=placing.weight,
            permits=permits,
            receipt_within=placing.receipt_within,
            stopped=stopped,
            problem=account.problem,
            health=account.health,
            shares=account.shares,
        )

    def _type(self, stored: StoredAccount) -> ProviderType:
        try:
            return self.types[stored.provider]
        except KeyError:
            raise Unusable("provider_unknown") from None


def guarded_smtp(guard: SsrfGuard) -> Callable[[AccountSettings], SmtpPool]:
    """`Wiring.smtp_for` of accounts whose server a tenant has chosen."""

    def opened(settings: AccountSettings) -> SmtpPool:
        assert isinstance(settings, SmtpSettings)
        return SmtpPool.of(settings, guard=guard)

    return opened


def refused_target(settings: AccountSettings, *, guard: SsrfGuard) -> tuple[str, str] | None:
    """(pointer, code) of the first host that may not be connected to, as far as it can be told without a look-up."""
    for target in settings.targets():
        try:
            guard.check_mail_host(target.host, port=target.port)
        except TargetRefused as error:
            of_port = error.code == "target_port" and hasattr(settings, "port")
            return f"{target.pointer.rpartition('/')[0]}/port" if of_port else target.pointer, error.code
    return None
