"""One call of a provider, and what it tells of the account: its circuit, its throttle, and whose calls are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from activities.accounts.account import Account
from channels.base import Message
from domain.health import FAILURES
from domain.results import ResultClass, SendResult
from domain.shares import Target, endpoint_of
from infra.postgres.engine.claimed import Claim
from infra.telemetry.engine_metrics import CIRCUITS_OPENED

log = structlog.get_logger()


def target_of(claim: Claim) -> Target:
    """Tenant and endpoint of a claim, where messages go to servers of their recipients."""
    return claim.tenant, endpoint_of(claim.address)


class ProviderCall:
    """One call, from the moment its slot was taken; `end` it once, made or not. `era`: as `Health.begin` gave it."""

    def __init__(self, account: Account, batch: Sequence[Claim], *, era: int, clock: Callable[[], float]) -> None:
        self._account = account
        self._era = era
        self._clock = clock
        self._many = account.provider.capabilities.many_servers
        self._open = {(c.step, c.attempt): target_of(c) for c in batch} if self._many else {}
        self._noted = False
        for call, target in self._open.items():
            account.shares.begin(call, target, now_s=clock())

    async def make(self, claims: Sequence[Claim], messages: Sequence[Message]) -> Sequence[SendResult]:
        """One answer for each message. An adapter that raises, answers too late, too little or nonsense leaves it open."""
        started_s = self._clock()
        results = await _sent(self._account, messages)
        self._note(claims, results, now_s=self._clock(), started_s=started_s)
        self._noted = True
        return results

    def end(self) -> None:
        """Its slot is free."""
        if not self._noted:
            self._account.health.give_back(era=self._era)
        for call, target in self._open.items():
            self._account.shares.end(call, target, now_s=self._clock(), answered=False)
        self._open.clear()
        self._account.slots.give()

    def _note(self, claims: Sequence[Claim], results: Sequence[SendResult], *, now_s: float, started_s: float) -> None:
        """One note a call: failed if all of it did. Where each message goes to its recipient's server, one a target."""
        health, took_s = self._account.health, now_s - started_s
        for result in results:
            if not result.of_recipient:
                health.remember(result.result, result.code, now_s=now_s)
        if self._many:
            health.give_back(era=self._era)
            for claim, result in zip(claims, results, strict=True):
                self._note_target(claim, result, now_s=now_s)
            return
        kinds = {ResultClass.RECIPIENT if result.of_recipient else result.result for result in results}
        throttled = [_stated_s(result) for result in results if _is_throttle(result)]
        if throttled:
            health.throttle.hold(max(throttled), now_s=now_s, took_s=took_s)
        elif ResultClass.OK in kinds:
            health.throttle.ease(now_s=now_s, took_s=took_s)
        worked, before = kinds - FAILURES, health.tripped
        health.note(next(iter(worked or kinds)), now_s=now_s, took_s=took_s, era=self._era)
        if health.tripped != before:
            _tell_circuit(self._account)

    def _note_target(self, claim: Claim, result: SendResult, *, now_s: float) -> None:
        call = (claim.step, claim.attempt)
        target, shares = self._open.pop(call), self._account.shares
        took_s = shares.end(call, target, now_s=now_s, answered=True)
        if _is_throttle(result):
            shares.throttled(target, _stated_s(result), now_s=now_s, took_s=took_s)
        elif result.result is ResultClass.OK:
            shares.eased(target, now_s=now_s, took_s=took_s)


def _tell_circuit(account: Account) -> None:
    """It has opened, with what the provider said last, or it has closed."""
    if not account.health.tripped:
        log.warning("account.circuit_closed", account=account.name)
        return
    CIRCUITS_OPENED.labels(account.channel, account.name).inc()
    meaning, _, code = account.health.failure.partition(" ")
    log.warning("account.circuit_opened", account=account.name, code=code, **{"class": meaning})


def _is_throttle(result: SendResult) -> bool:
    return result.result is ResultClass.RATE and not result.of_recipient


def _stated_s(result: SendResult) -> float:
    return 0.0 if result.retry_after is None else max(0.0, result.retry_after.total_seconds())


async def _sent(account: Account, messages: Sequence[Message]) -> Sequence[SendResult]:
    limit_s = account.provider.capabilities.call_timeout_s
    try:
        async with asyncio.timeout(limit_s):
            results = await account.provider.send(messages)
        if len(results) == len(messages):
            return [r if isinstance(r, SendResult) else SendResult(ResultClass.UNKNOWN, "wrong_type") for r in results]
        code = "wrong_count"
    except TimeoutError:
        code = "call_timeout"
    except (Exception, asyncio.CancelledError) as error:  # nobody cancels a call of ours: the adapter cancelled itself
        log.error("provider.defect", provider=account.provider.capabilities.provider, code=type(error).__name__)
        code = "adapter_error"
    return [SendResult(ResultClass.UNKNOWN, code=code)] * len(messages)
