"""What the routes of provider accounts are made of: judging what is posted, sealing it, and the installation's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from activities.accounts.making import AccountMaker, Unusable, guarded_smtp, refused_target
from api.accept.decode import field_error
from api.provider_trials import Trials
from channels.account_settings import AccountSettings, decode_settings, divided, secret_names, settings_schema
from channels.provider_types import ProviderType, Wiring
from channels.registry import provider_types
from domain.errors import FieldError, Invalid, Unavailable
from domain.trials import Turns
from infra.credentials import CredentialBox
from infra.email_accounts import INAPP_DEFAULT, WEBHOOK_DEFAULT
from infra.http import HttpClient
from infra.postgres.database import Database
from infra.postgres.tenants.account_health import AccountHealthRepository
from infra.postgres.tenants.provider_accounts import Placing, ProviderAccountRepository, StoredAccount
from infra.secrets import receipt_url, webhook_secret
from infra.settings import Settings
from infra.ssrf import SsrfGuard

_REFUSED = {
    "target_port": "This port belongs to another kind of service and is not connected to.",
    "target_url": "This is not the name or address of a host.",
    "target_address": "The host lies in a network that is not connected to. The operator of the installation can allow it "
    "with TONGDA_WEBHOOK_ALLOW_NETWORKS.",
}


@dataclass(frozen=True, slots=True)
class InstallationAccount:
    """An account of the settings, as a tenant sees it: that it is there, and how it is used."""

    id: str
    kind: ProviderType
    placing: Placing


@dataclass(frozen=True, slots=True)
class Judged:
    """Settings that are right, as they are stored."""

    shown: Mapping[str, Any]
    sealed: bytes | None
    key_id: str | None

    @property
    def columns(self) -> dict[str, Any]:
        return {"settings": dict(self.shown), "sealed": self.sealed, "key_id": self.key_id}


@dataclass(frozen=True, slots=True)
class Reports:
    """Where an account's provider posts its receipts, and how long they may come."""

    url: str
    window: timedelta


class ProviderParts:
    """One a process."""

    def __init__(self, settings: Settings, *, database: Database, http: HttpClient) -> None:
        self._secret_key = secret_key = settings.secret_key.get_secret_value()
        self._public_url = settings.public_url
        self._guard = SsrfGuard(allow_networks=settings.webhook_allow_networks)
        others = settings.other_keys
        self._box = CredentialBox(secret_key, others=others)
        wiring = Wiring(
            http=http,
            secret_for=lambda tenant: webhook_secret(secret_key, tenant, others=others),
            smtp_for=guarded_smtp(self._guard),
        )
        self.types = provider_types()
        self.maker = AccountMaker(self.types, wiring, box=self._box, leases=None)
        self.accounts = ProviderAccountRepository(database.engine)
        self.health = AccountHealthRepository(database.pool)
        self.installation = {one.id: one for one in _installation(settings, self.types)}
        self.trials = Trials(self.maker)
        self.turns = Turns()

    def kind(self, provider: str) -> ProviderType:
        """Raises Invalid for what no tenant can have an account of."""
        kind = self.types.get(provider)
        if kind is None or not kind.accounts:
            names = ", ".join(name for name, one in self.types.items() if one.accounts)
            raise Invalid.field("/provider", "not_allowed", f"One of: {names}.")
        return kind

    def judged(self, kind: ProviderType, given: Mapping[str, Any], *, tenant: str, account: str) -> Judged:
        """Raises Invalid with pointers below /settings, Unavailable without a secret key."""
        settings = self._decoded(kind, given)
        shown, secrets = divided(settings)
        if not secrets:
            return Judged(shown, None, None)
        return Judged(shown, self._box.seal(secrets, tenant=tenant, account=account), self._box.key_id)

    def changed(self, stored: StoredAccount, given: Mapping[str, Any]) -> Judged:
        """What is given replaces what was there; null puts it back to its default. Secrets that are not given stay, but go
        to no other host than the one that they were given for. Raises Invalid, Unavailable."""
        kind = self.kind(stored.provider)
        before = self._before(stored)
        kept = {name: value for name, value in before.items() if name not in given}
        merged = {**kept, **{name: value for name, value in given.items() if value is not None}}
        settings = self._decoded(kind, merged)
        self._refuse_moved_secrets(kind, kept=kept, before=before, settings=settings)
        return self.judged(kind, merged, tenant=stored.tenant, account=stored.id)

    def reports(self, stored: StoredAccount) -> Reports | None:
        """None: its provider does not report, or it cannot be used. Raises Unavailable without a secret key."""
        try:
            window = self.maker.settings(stored).receipt_window()
        except Unusable:
            return None
        if window is None:
            return None
        if not self._secret_key:
            raise Unavailable("Addresses for receipts need TONGDA_SECRET_KEY.")
        url = receipt_url(self._secret_key, public_url=self._public_url, provider=stored.provider, account=stored.id)
        return Reports(url, window)

    def problem(self, stored: StoredAccount) -> str | None:
        """Why it cannot be used, as a code; None when it can."""
        try:
            self.maker.settings(stored)
        except Unusable as error:
            return error.problem
        return None

    def _decoded(self, kind: ProviderType, given: Mapping[str, Any]) -> AccountSettings:
        try:
            settings = decode_settings(kind.settings, given)
        except msgspec.ValidationError as error:
            raise Invalid([_told(kind, str(error))]) from None
        problems = [FieldError(f"/settings{p.pointer}", p.code, p.message) for p in settings.problems()]
        if problems:
            raise Invalid(problems)
        refused = refused_target(settings, guard=self._guard)
        if refused is not None:
            pointer, code = refused
            raise Invalid.field(f"/settings{pointer}", "not_allowed", _REFUSED[code])
        return settings

    def _before(self, stored: StoredAccount) -> dict[str, Any]:
        """As far as it can be read."""
        try:
            builtins: dict[str, Any] = msgspec.to_builtins(self.maker.settings(stored))
        except Unusable:
            return dict(stored.settings)
        return builtins

    def _refuse_moved_secrets(
        self, kind: ProviderType, *, kept: Mapping[str, Any], before: Mapping[str, Any], settings: AccountSettings
    ) -> None:
        """Otherwise whoever may change an account could have its password sent to a server of their own."""
        secret = [name for name in secret_names(kind.settings) if kept.get(name)]
        if secret and decode_settings(kind.settings, before).targets() != settings.targets():
            told = "Another server needs it given again: a credential goes to no other host than the one it was given for."
            raise Invalid([FieldError(f"/settings/{name}", "required", told) for name in secret])


def _told(kind: ProviderType, message: str) -> FieldError:
    """Without the value that was given."""
    error = field_error(message)
    name = error.pointer.removeprefix("/")
    schema = settings_schema(kind.settings)["properties"].get(name, {})
    code, told = error.code, error.message
    if code == "not_allowed" and "enum" in schema:
        told = f"One of: {', '.join(map(str, schema['enum']))}."
    elif "matching regex" in told:
        code, told = "format", f"It does not look like a {name}."
    return FieldError(f"/settings{error.pointer}", code, told)


def _installation(settings: Settings, types: Mapping[str, ProviderType]) -> Iterator[InstallationAccount]:
    for one in settings.mail_servers:
        placing = Placing(one.order, one.cost, one.weight, one.rate_per_second)
        yield InstallationAccount(one.name, types["smtp"], placing)
    yield InstallationAccount(WEBHOOK_DEFAULT, types["webhook"], Placing())
    yield InstallationAccount(INAPP_DEFAULT, types["inapp"], Placing())


@contextlib.asynccontextmanager
async def open_providers(settings: Settings, *, database: Database) -> AsyncIterator[ProviderParts]:
    """Nothing is connected to before an account is tried."""
    http = HttpClient.from_settings(settings)
    try:
        yield ProviderParts(settings, database=database, http=http)
    finally:
        await http.close()
