"""The bodies of /v1/providers and /v1/provider-types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.provider_parts import InstallationAccount, ProviderParts
from api.routes.durations import span_between
from api.schemas import Body
from channels.account_settings import secret_names, settings_schema
from channels.provider_types import ProviderType
from domain.channels import Channel
from domain.health import Circuit
from domain.refusal import PROBLEM
from infra.postgres.tenants.account_health import SeenState
from infra.postgres.tenants.provider_accounts import Placing, StoredAccount

_SETTINGS: dict[str, Any] = {
    "host": "smtp.example.com", "port": 587, "security": "starttls", "username": "tongda",
    "sender": "Example <notify@example.com>",
}  # fmt: skip
_PLACING: dict[str, Any] = {"weight": 1, "rate_per_second": 50.0, "order": 0, "cost": 0.0}
NEW_EXAMPLE: dict[str, Any] = {
    "name": "relay-a", "provider": "smtp", "settings": {**_SETTINGS, "password": "correct horse"}, **_PLACING,
}  # fmt: skip
_CHANGE: dict[str, Any] = {"settings": {"password": "battery staple"}, "rate_per_second": 20, "order": 1}
_SHOWN: dict[str, Any] = {
    "id": "relay-a-7f3k9q2m", "name": "relay-a", "provider": "smtp", "channel": "email", "source": "tenant",
    "state": "active", "problem": None, "failure": None, "settings": {**_SETTINGS, "connections": 16},
    "secrets": ["password"], **_PLACING,
    "receipt_within": None, "paused_at": None, "created_at": "2026-12-01T01:00:00Z", "updated_at": "2026-12-01T01:00:00Z",
}  # fmt: skip
_WORKER: dict[str, Any] = {
    "process": "01a20a32-744b-7020-809a-bb07e52cad04", "name": "worker-1:4711", "seen_at": "2026-12-01T01:00:03Z",
    "current": True, "circuit": "closed", "retry_at": None, "slow_share": 0.0, "in_flight": 2, "slots": 16,
    "succeeded_at": "2026-12-01T01:00:02Z", "failed_at": None, "failure": None, "problem": None,
}  # fmt: skip
_HEALTH: dict[str, Any] = {
    "id": "relay-a-7f3k9q2m", "state": "active", "problem": None, "circuit": "closed", "rate_per_second": 50.0,
    "permits": {"left": 4.0, "at": "2026-12-01T01:00:02Z"}, "succeeded_at": "2026-12-01T01:00:02Z", "failed_at": None,
    "failure": None, "workers": [_WORKER],
}  # fmt: skip

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Yours to choose, unique among your own.")]
SettingsObject = Annotated[
    dict[str, Any],
    Field(max_length=64, description="As `GET /v1/provider-types` says for its provider; secrets are never shown."),
]
Weight = Annotated[
    int, Field(ge=0, le=1000, strict=True, description="Share among equals; 0: only when no other can take it.")
]
Rate = Annotated[
    float | None,
    Field(gt=0, le=1_000_000, allow_inf_nan=False, description="All workers together stay below it; null: no limit."),
]
Order = Annotated[
    int, Field(ge=0, le=1000, strict=True, description="The next order is used when nobody of those before can take it.")
]
Cost = Annotated[
    float, Field(ge=0, le=1_000_000, allow_inf_nan=False, description="Of one message; within an order the cheapest first.")
]
ReceiptWithin = Annotated[
    timedelta | None,
    span_between(timedelta(seconds=5), timedelta(days=3)),
    Field(description="Where no receipt says `delivered` within this time, another account is used; null: never."),
]


class NewProvider(Body):
    """A new account at a provider."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [NEW_EXAMPLE]})

    name: Name
    provider: str = Field(max_length=64, description="One of `GET /v1/provider-types` with `accounts`.")
    settings: SettingsObject = Field(default_factory=dict)
    weight: Weight = 1
    rate_per_second: Rate = None
    order: Order = 0
    cost: Cost = 0
    receipt_within: ReceiptWithin = None

    @property
    def placing(self) -> Placing:
        return Placing(self.order, self.cost, self.weight, self.rate_per_second, self.receipt_within)


class ProviderChange(Body):
    """What is left out stays as it is, in `settings` too, the secrets included; a setting that is null goes back to its
    default. Secrets are given again when the server changes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_CHANGE]})

    name: Name = ""
    settings: SettingsObject = Field(default_factory=dict)
    weight: Weight = 1
    rate_per_second: Rate = None
    order: Order = 0
    cost: Cost = 0
    receipt_within: ReceiptWithin = None

    def placed(self, before: Placing) -> Placing:
        given = self.model_dump(exclude_unset=True, exclude={"name", "settings"})
        return Placing(**{name: given.get(name, getattr(before, name)) for name in Placing.__slots__})


class ProviderTest(Body):
    """Without `to`, or without a body, it connects and logs in, and sends nothing."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"to": "fang@example.com"}]})

    to: str | None = Field(default=None, max_length=2048, description="Address on the account's channel.")


class Provider(BaseModel):
    """A provider account. Of the installation's own (`source`) settings are not shown, and nothing can be changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str = Field(description="As `account` in deliveries and timelines.")
    name: str
    provider: str
    channel: Channel | None = Field(description="null: this version does not know its provider.")
    source: Literal["tenant", "installation"]
    state: Literal["active", "paused", "broken", "refused"] = Field(
        description="`refused`: its provider turns the account itself away, call after call, so it is left alone but for a "
        "message now and then; what is due goes over another account or waits. It ends with the first message that is "
        "taken, or when the account is changed. As the workers see it, some seconds old."
    )
    problem: str | None = Field(
        description="With `broken`: why it cannot be used, until it is changed. With `refused`: `refused_by_provider`."
    )
    failure: str | None = Field(default=None, description="With `refused`: the class and code of what the provider says.")
    settings: dict[str, Any]
    secrets: list[str] = Field(description="The write-only settings that are set.")
    weight: int
    rate_per_second: float | None
    order: int
    cost: float
    receipt_within: timedelta | None
    paused_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None

    @classmethod
    def of(cls, stored: StoredAccount, parts: ProviderParts) -> Provider:
        kind, problem = parts.types.get(stored.provider), parts.problem(stored)
        sealed = sorted(secret_names(kind.settings)) if kind and stored.sealed else []
        secrets = sealed if problem else [name for name in sealed if getattr(parts.maker.settings(stored), name)]
        return cls(
            id=stored.id, name=stored.name, provider=stored.provider,
            channel=kind.capabilities.channel if kind else None, source="tenant",
            state="broken" if problem else "paused" if stored.paused_at else "active", problem=problem,
            settings=dict(stored.settings), secrets=secrets, paused_at=stored.paused_at, created_at=stored.created_at,
            updated_at=stored.updated_at, **_placed(stored.placing),
        )  # fmt: skip

    @classmethod
    def of_installation(cls, one: InstallationAccount) -> Provider:
        return cls(
            id=one.id, name=one.id, provider=one.kind.name, channel=one.kind.capabilities.channel, source="installation",
            state="active", problem=None, settings={}, secrets=[], paused_at=None, created_at=None, updated_at=None,
            **_placed(one.placing),
        )  # fmt: skip


def as_seen(one: Provider, refused: Mapping[str, str]) -> Provider:
    """With what the workers know of it: `refused` accounts, with their last failure."""
    if one.state != "active" or one.id not in refused:
        return one
    return one.model_copy(update={"state": "refused", "problem": PROBLEM, "failure": refused[one.id] or None})


class ProviderPage(BaseModel):
    """By id, the installation's among them. Follow `next_cursor` until it is null."""

    items: list[Provider]
    next_cursor: str | None


class ProviderTested(BaseModel):
    """What happened, in plain words too."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ok": False, "sent": False, "class": "CONFIG", "code": "535 5.7.8", "took_ms": 41.2,
                          "message": "The server does not accept user name and password.", "provider_id": None}]
        }
    )  # fmt: skip

    ok: bool
    sent: bool = Field(description="A message was handed over, or may have been.")
    class_: str | None = Field(serialization_alias="class", description="As in a delivery.")
    code: str = Field(description="The provider's own, or the connection's.")
    message: str
    took_ms: float
    provider_id: str | None


class WorkerHealth(BaseModel):
    """The account as one worker process sees it. Without `circuit` it has not used the account yet."""

    process: UUID
    name: str = Field(description="Host and process.")
    seen_at: datetime = Field(description="Its last sign, at most some seconds old.")
    current: bool = Field(description="It has taken over the last change of accounts.")
    circuit: Circuit | None
    retry_at: datetime | None = Field(description="With an open circuit: when it is tried again.")
    slow_share: float | None = Field(description="Of the last minute's calls, in 0 to 1: it takes weight away.")
    in_flight: int | None
    slots: int | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    failure: str | None = Field(description="Class and code of the last failure.")
    problem: str | None

    @classmethod
    def of(cls, seen: SeenState, *, version: int) -> WorkerHealth:
        return cls(
            process=seen.process, name=seen.name, seen_at=seen.seen_at, current=seen.accounts_version >= version,
            circuit=Circuit(seen.circuit) if seen.circuit else None, retry_at=seen.retry_at, slow_share=seen.slow_share,
            in_flight=seen.in_flight, slots=seen.slots, succeeded_at=seen.succeeded_at, failed_at=seen.failed_at,
            failure=seen.failure, problem=seen.problem,
        )  # fmt: skip


class Permits(BaseModel):
    """What was left over at the last lease, of an account with a rate."""

    left: float
    at: datetime


class ProviderHealth(BaseModel):
    """How it does: the worst circuit of all workers, the last success and failure anywhere, and each worker for itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HEALTH]})

    id: str
    state: Literal["active", "paused", "broken", "refused"]
    problem: str | None
    circuit: Circuit | None = Field(description="null: no worker that runs has used it yet.")
    rate_per_second: float | None
    permits: Permits | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    failure: str | None
    workers: list[WorkerHealth]


class ProviderReceipts(BaseModel):
    """Where the provider posts what became of messages."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"url": "https://n.example.com/v1/receipts/webhook/crm-k3v9x2ap/Hn2...", "window": "P1D"}]
        }
    )

    url: str | None = Field(description="It holds a secret: whoever has it may post there. null: there are no receipts.")
    window: timedelta | None = Field(description="How long they may come.")


class ProviderTypeShown(BaseModel):
    """A provider that accounts can be of."""

    name: str
    channel: Channel
    summary: str
    accounts: bool = Field(description="Tenants may have accounts of it; false: there is the installation's own only.")
    capabilities: dict[str, bool] = Field(description="idempotent, receipts, recall, check.")
    limits: dict[str, float] = Field(description="messages_per_call, call_timeout_seconds.")
    settings: dict[str, Any] = Field(description="JSON Schema (2020-12) of an account's settings; `writeOnly`: secret.")
    secrets: list[str]

    @classmethod
    def of(cls, kind: ProviderType) -> ProviderTypeShown:
        can = kind.capabilities
        return cls(
            name=kind.name, channel=can.channel, summary=kind.summary, accounts=kind.accounts,
            capabilities={
                "idempotent": can.idempotent, "receipts": can.receipts, "recall": can.recall, "check": kind.checks,
            },
            limits={"messages_per_call": can.max_batch, "call_timeout_seconds": can.call_timeout_s},
            settings=settings_schema(kind.settings), secrets=sorted(secret_names(kind.settings)),
        )  # fmt: skip


class ProviderTypes(BaseModel):
    items: list[ProviderTypeShown]


def _placed(placing: Placing) -> dict[str, Any]:
    return {name: getattr(placing, name) for name in Placing.__slots__}
