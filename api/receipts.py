"""Receipts of providers: which account they are for, whether they may be believed, and what they lead to."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from activities.accounts.making import Unusable
from api.provider_parts import ProviderParts
from channels.receipts import MOST_ID, MOST_RECEIPTS, Receipt, ReceiptAnswer, ReceiptReader, ReceiptRequest, ReceiptWiring
from channels.registry import ReaderFactory, readers
from domain.errors import FieldError, Invalid, NotFound, Rejected, Unavailable
from domain.lanes import Lane
from infra.email_accounts import WEBHOOK_DEFAULT
from infra.postgres.engine.receiving import Effect, ReceiptRepository
from infra.secrets import receipt_secret, webhook_secret
from infra.settings import Settings
from infra.telemetry.metrics import RECEIPTS, RECEIPTS_REFUSED


@dataclass(frozen=True, slots=True)
class ReceiptAccount:
    """An account whose provider reports."""

    name: str
    """Its key, as in `work.account`."""
    provider: str
    tenant: str | None
    """None: of the installation, for all tenants."""
    reader: ReceiptReader


class ReceiptAccounts(Protocol):
    """The accounts that take receipts."""

    async def find(self, provider: str, account: str) -> ReceiptAccount | None:
        """None: there is no such account of this provider, or it takes none."""
        ...


class KnownReceiptAccounts(ReceiptAccounts):
    """The installation's, which the settings describe, and those of tenants, as they are at the moment."""

    def __init__(
        self, settings: Settings, wiring: ReceiptWiring, *, among: Mapping[str, ReaderFactory], providers: ProviderParts
    ) -> None:
        self._wiring = wiring
        self._among = among
        self._providers = providers
        self._installation: dict[tuple[str, str], ReceiptAccount] = {}
        if settings.webhook_receipts:
            reader = among["webhook"](wiring)
            self._installation["webhook", WEBHOOK_DEFAULT] = ReceiptAccount(WEBHOOK_DEFAULT, "webhook", None, reader)

    async def find(self, provider: str, account: str) -> ReceiptAccount | None:
        own = self._installation.get((provider, account))
        if own is not None or provider not in self._among:
            return own
        stored = await self._providers.accounts.whosesoever(account)
        if stored is None or stored.provider != provider:
            return None
        try:
            settings = self._providers.maker.settings(stored)
        except Unusable:
            raise Unavailable(f"The account {account} cannot be used: GET /v1/providers/{account} says why.") from None
        if settings.receipt_window() is None:
            return None
        reader = self._among[provider](replace(self._wiring, settings=settings))
        return ReceiptAccount(account, provider, stored.tenant, reader)


class ReceiptService:
    """`due` is told of lanes in which something is due now."""

    def __init__(
        self,
        repository: ReceiptRepository,
        accounts: ReceiptAccounts,
        *,
        secret_key: str,
        others: tuple[str, ...] = (),
        due: Callable[[Lane], None],
    ) -> None:
        self._repository = repository
        self._accounts = accounts
        self._secret_key = secret_key
        self._others = others
        self._due = due

    async def find(self, provider: str, account: str, *, secret: str) -> ReceiptAccount:
        """Raises NotFound, and before it tells which accounts exist the secret has to be right."""
        given, keys = secret.encode(errors="replace"), (self._secret_key, *self._others)
        expected = [receipt_secret(key, provider=provider, account=account).encode() for key in keys]
        right = any(hmac.compare_digest(one, given) for one in expected)
        if not right or not self._secret_key:  # what derives from "" is known to all
            raise NotFound
        found = await self._accounts.find(provider, account)
        if found is None:
            raise NotFound
        return found

    async def take(self, account: ReceiptAccount, request: ReceiptRequest) -> ReceiptAnswer:
        """All of the request's receipts are stored, and have taken effect, when this returns. Raises Rejected."""
        try:
            receipts = [_of(account, one) for one in await account.reader.read(request)]
            _check(receipts)
        except Rejected as error:
            RECEIPTS_REFUSED.labels(account.provider, error.code).inc()
            raise
        taken = await self._repository.take(account.name, receipts)
        for receipt, effect in zip(receipts, taken.effects, strict=True):
            RECEIPTS.labels(account.provider, account.name, receipt.status, effect).inc()
        for lane in sorted(taken.lanes):
            self._due(lane)
        return account.reader.answer(sum(effect is not Effect.FOREIGN for effect in taken.effects))


def _of(account: ReceiptAccount, receipt: Receipt) -> Receipt:
    """A tenant's own account speaks for that tenant."""
    if account.tenant is None or receipt.tenant == account.tenant:
        return receipt
    return replace(receipt, tenant=account.tenant)


def _check(receipts: Sequence[Receipt]) -> None:
    """What no adapter may let through, because the database would refuse all of it. Raises Invalid."""
    wrong = [
        FieldError(f"/{place}", "format", f"A message's id has 1 to {MOST_ID} characters, none of them NUL.")
        for place, one in enumerate(receipts)
        if not 0 < len(one.name) <= MOST_ID or "\x00" in one.name + one.code or not one.name.isprintable()
    ]
    if len(receipts) > MOST_RECEIPTS:
        wrong = [FieldError("", "range", f"At most {MOST_RECEIPTS} receipts in one request.")]
    if wrong:
        raise Invalid(wrong[:50])


def receipt_service(
    settings: Settings,
    repository: ReceiptRepository,
    *,
    providers: ProviderParts,
    now: Callable[[], float],
    due: Callable[[Lane], None],
) -> ReceiptService:
    secret_key, others = settings.secret_key.get_secret_value(), settings.other_keys
    wiring = ReceiptWiring(
        secret_for=lambda tenant: webhook_secret(secret_key, tenant, others=others),
        tenant_of=repository.tenant_of,
        now=now,
    )
    accounts = KnownReceiptAccounts(settings, wiring, among=readers(), providers=providers)
    return ReceiptService(repository, accounts, secret_key=secret_key, others=others, due=due)
