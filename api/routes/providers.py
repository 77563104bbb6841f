"""/v1/providers: accounts at providers, their secrets write-only; /v1/provider-types: what there can be accounts of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response, status
from sqlalchemy.ext.asyncio import AsyncConnection

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor
from api.idempotency import Created, Creation, OnceRoute, creating
from api.provider_parts import ProviderParts
from api.provider_trials import Trial
from api.routes.provider_shapes import (
    NewProvider,
    Permits,
    Provider,
    ProviderChange,
    ProviderHealth,
    ProviderPage,
    ProviderReceipts,
    ProviderTest,
    ProviderTested,
    ProviderTypes,
    ProviderTypeShown,
    WorkerHealth,
    as_seen,
)
from api.security import Permission, Principal, require
from domain.addresses import address_problem
from domain.channels import Channel
from domain.errors import Conflict, Invalid, TooManyRequests
from domain.health import Circuit
from domain.results import ResultClass
from infra.postgres.tenants.account_health import SeenState
from infra.postgres.tenants.provider_accounts import StoredAccount, new_id
from infra.postgres.users.suppressions import SuppressionRepository

router = APIRouter(prefix="/v1/providers", tags=["providers"], route_class=OnceRoute)
types = APIRouter(prefix="/v1/provider-types", tags=["providers"])

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Operator = Annotated[Principal, Depends(require(Permission.OPERATE))]
Parts = Annotated[Container, Depends(container_of)]
ProviderId = Annotated[str, Path(min_length=1)]
MOST_TRIES = 5
_WORST = (Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED)


def parts_of(container: Parts) -> ProviderParts:
    return container.providers


Providers = Annotated[ProviderParts, Depends(parts_of)]


@types.get("", summary="List provider types")
async def list_provider_types(_: Reader, providers: Providers) -> ProviderTypes:
    """Every adapter with what it can, and the JSON Schema of its accounts' settings: a form can be made from it."""
    return ProviderTypes(items=[ProviderTypeShown.of(kind) for kind in providers.types.values()])


@router.post("", status_code=status.HTTP_201_CREATED, response_model=Provider, summary="Create a provider account")
async def create_provider(
    body: NewProvider,
    creation: Annotated[Creation, Depends(creating(Permission.OPERATE, secret=True))],
    providers: Providers,
) -> Response:
    """Used by every worker within seconds. A channel that you have accounts of your own for is served by these alone; until
    then by the installation's."""
    tenant, account_id = creation.principal.tenant, new_id(body.name)
    judged = providers.judged(providers.kind(body.provider), body.settings, tenant=tenant, account=account_id)
    values = {"name": body.name, "provider": body.provider, **judged.columns}

    async def unit(connection: AsyncConnection) -> Created:
        stored = await providers.accounts.create(connection, tenant, account_id, values=values, placing=body.placing)
        return Created(Provider.of(stored, providers))

    return await creation.run(unit)


@router.get("", summary="List provider accounts")
async def list_providers(
    who: Reader,
    providers: Providers,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> ProviderPage:
    """Yours, and the installation's, which serve the channels that you have none of your own for."""
    own = [Provider.of(stored, providers) for stored in await providers.accounts.listed(who.tenant)]
    shared = [Provider.of_installation(one) for one in providers.installation.values()]
    after = decode_cursor(cursor) or ""
    found = sorted((one for one in (*own, *shared) if one.id > after), key=lambda one: one.id)
    more = encode_cursor(found[limit - 1].id) if len(found) > limit else None
    refused = await providers.health.refused([one.id for one in found[:limit]])
    return ProviderPage(items=[as_seen(one, refused) for one in found[:limit]], next_cursor=more)


@router.get("/{provider_id}", summary="Read a provider account")
async def read_provider(provider_id: ProviderId, who: Reader, providers: Providers) -> Provider:
    shared = providers.installation.get(provider_id)
    if shared is not None:
        found = Provider.of_installation(shared)
    else:
        found = Provider.of(await providers.accounts.get(who.tenant, provider_id), providers)
    return as_seen(found, await providers.health.refused([provider_id]))


@router.patch("/{provider_id}", summary="Change a provider account")
async def change_provider(provider_id: ProviderId, body: ProviderChange, who: Operator, providers: Providers) -> Provider:
    """Used by every worker within seconds: a changed rate or order at once, changed settings by new connections, while what
    is in flight over the old ones ends as it would."""
    given = body.model_fields_set
    if not given:
        raise Invalid.field("", "required", "Give at least one field to change.")
    for _ in range(MOST_TRIES):
        before = await _own(providers, who, provider_id)
        values = providers.changed(before, body.settings).columns if "settings" in given else {}
        values |= {"name": body.name} if "name" in given else {}
        changed = await providers.accounts.change(
            who.tenant, provider_id, seen=before.version, values=values, placing=body.placed(before.placing)
        )
        if changed is not None:
            return Provider.of(changed, providers)
    raise Conflict("Others change this account at the same moment: read it and decide again.")


@router.delete("/{provider_id}", status_code=status.HTTP_204_NO_CONTENT, summary="Delete a provider account")
async def delete_provider(provider_id: ProviderId, who: Operator, providers: Providers) -> None:
    """Its credentials are gone at once. What waits over it goes over another account, or, where there is none, ends as
    `no_account`; what is in flight ends as it would."""
    await _own(providers, who, provider_id)
    await providers.accounts.remove(who.tenant, provider_id)


@router.post("/{provider_id}/pause", summary="Pause a provider account")
async def pause_provider(provider_id: ProviderId, who: Operator, providers: Providers) -> Provider:
    """It is not chosen any more, within seconds. What waits over it goes over another account of yours, or stays until it
    is resumed or expires; the timeline says so. Asking again changes nothing."""
    await _own(providers, who, provider_id)
    return Provider.of(await providers.accounts.pause(who.tenant, provider_id, paused=True), providers)


@router.post("/{provider_id}/resume", summary="Resume a provider account")
async def resume_provider(provider_id: ProviderId, who: Operator, providers: Providers) -> Provider:
    """What was put off for it is due within seconds. Asking again changes nothing."""
    await _own(providers, who, provider_id)
    return Provider.of(await providers.accounts.pause(who.tenant, provider_id, paused=False), providers)


@router.post("/{provider_id}/test", summary="Try a provider account")
async def try_provider(
    provider_id: ProviderId, who: Operator, providers: Providers, container: Parts, body: ProviderTest | None = None
) -> ProviderTested:
    """Connects and logs in from the API's process, or sends one message that is marked as a test to `to`, paused or not.
    The answer is 200 whether it works or not: `ok` and `message` say what happened."""
    stored = await _own(providers, who, provider_id)
    to = body.to if body is not None else None
    kind = providers.types.get(stored.provider)
    if to is None and kind is not None and not kind.checks:
        raise Invalid.field("/to", "required", "This provider can only be tried by sending: give an address.")
    if to is not None and kind is not None:
        await _check_address(container, who.tenant, kind.capabilities.channel, to)
    wait_s = providers.turns.take(who.tenant, now_s=container.clock.monotonic_s())
    if wait_s > 0:
        raise TooManyRequests("So many tests at once are not made.", retry_after_s=max(1, round(wait_s)))
    trial = await (providers.trials.check(stored) if to is None else providers.trials.send(stored, to=to))
    return _told(trial, sent=to is not None)


@router.get("/{provider_id}/health", summary="How a provider account does")
async def read_health(provider_id: ProviderId, who: Reader, providers: Providers) -> ProviderHealth:
    """As the worker processes that run see it, at most some seconds old."""
    shown = await read_provider(provider_id, who, providers)
    version = await providers.accounts.version()
    seen = await providers.health.of(provider_id)
    permits = await providers.health.permits(provider_id) if shown.rate_per_second is not None else None
    circuits = {one.circuit for one in seen if one.circuit}
    failed = max((one for one in seen if one.failed_at), key=_failed_at, default=None)
    return ProviderHealth(
        id=shown.id,
        state=shown.state,
        problem=shown.problem,
        circuit=next((circuit for circuit in _WORST if circuit in circuits), None),
        rate_per_second=shown.rate_per_second,
        permits=None if permits is None else Permits(left=permits[0], at=permits[1]),
        succeeded_at=max((one.succeeded_at for one in seen if one.succeeded_at), default=None),
        failed_at=failed.failed_at if failed else None,
        failure=failed.failure if failed else None,
        workers=[WorkerHealth.of(one, version=version) for one in seen],
    )


@router.get("/{provider_id}/receipts", summary="Where a provider account's receipts go")
async def read_receipts(provider_id: ProviderId, who: Operator, providers: Providers) -> ProviderReceipts:
    """The address to give to the provider, or to the receivers of webhooks, who get it with each call as well."""
    reports = providers.reports(await _own(providers, who, provider_id))
    return ProviderReceipts(url=reports.url, window=reports.window) if reports else ProviderReceipts(url=None, window=None)


async def _own(providers: ProviderParts, who: Principal, provider_id: str) -> StoredAccount:
    """Raises NotFound, Conflict for an account of the installation."""
    if provider_id in providers.installation:
        raise Conflict("It belongs to the installation: its settings are TONGDA_* variables.", code="provider_read_only")
    return await providers.accounts.get(who.tenant, provider_id)


async def _check_address(container: Container, tenant: str, channel: Channel, to: str) -> None:
    """Raises Invalid: for what is no address, and for one that wants nothing from here, tests included."""
    problem = address_problem(channel, to)
    if problem is not None:
        raise Invalid.field("/to", "format", problem)
    suppressions = SuppressionRepository(container.database.engine)
    if await suppressions.listed(tenant, before=None, limit=1, channel=channel, address=to, reason=None):
        raise Invalid.field("/to", "suppressed", "This address is suppressed: nothing is sent to it.")


def _told(trial: Trial, *, sent: bool) -> ProviderTested:
    return ProviderTested(
        ok=trial.ok,
        sent=sent and trial.result in (ResultClass.OK, ResultClass.UNKNOWN),
        class_=trial.result,
        code=trial.code,
        message=trial.message,
        took_ms=round(trial.took_s * 1000, 1),
        provider_id=trial.provider_id,
    )


def _failed_at(seen: SeenState) -> datetime:
    assert seen.failed_at is not None
    return seen.failed_at
