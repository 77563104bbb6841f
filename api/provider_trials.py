"""`POST /v1/providers/{id}/test`: connects and logs in as the workers do, or sends one marked message; says how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import structlog

from activities.accounts.making import PROBLEMS, AccountMaker, Unusable
from channels.base import CheckedProvider, Content, Message, Provider
from domain.channels import Channel
from domain.ids import uuid7
from domain.results import ResultClass, SendResult
from domain.trials import marked
from infra.postgres.tenants.provider_accounts import StoredAccount

log = structlog.get_logger()

MOST_S = 20.0
"""Below what callers and proxies wait for."""
AT_ONCE = 4
_LIFE = timedelta(minutes=5)
_TEXT = (
    "This message tests the provider account “{name}”. Nobody needs to do anything.\n"
    "这是对通道账号“{name}”的测试消息，无需处理。"
)

WORDS: Mapping[str, str] = {
    "smtp_connect_refused": "Nothing listens at its host and port, or a firewall refuses the connection.",
    "smtp_connect_failed": "Its host cannot be connected to.",
    "smtp_dns_failed": "The name of its host is not known.",
    "smtp_tls_failed": "No TLS: the certificate does not fit the host, is not trusted or expired, or there is none.",
    "smtp_timeout": "It did not answer in time: look at host, port and firewall, and at `security` (tls on 465, starttls "
    "on 587).",
    "smtp_session_failed": "The server broke off, or does not offer what the settings ask for (STARTTLS, AUTH).",
    "smtp_disconnected": "The server closed the connection.",
    "smtp_bad_reply": "What answers there does not speak SMTP.",
    "target_address": "The host leads into a network that is not connected to.",
    "target_port": "The port belongs to another kind of service and is not connected to.",
    "target_url": "The address is none that is connected to.",
    "timeout": "There was no answer in time.",
    "530": "The server asks for a log-in, or for TLS first.",
    "534": "The server wants another way to log in.",
    "535": "The server does not accept user name and password.",
    "538": "The server asks for TLS before it lets anybody log in.",
}
"""Code, or its first word -> what happened."""
_BY_CLASS: Mapping[ResultClass, str] = {
    ResultClass.CONFIG: "The provider refuses this account.",
    ResultClass.TOKEN: "The provider does not accept the credentials.",
    ResultClass.RETRY: "The provider cannot take it at the moment.",
    ResultClass.RATE: "The provider takes no more at the moment.",
    ResultClass.RECIPIENT: "The account works; the provider refuses this recipient.",
    ResultClass.PERMANENT: "The provider refuses the message.",
    ResultClass.UNKNOWN: "The message was handed over and the answer was lost: it may have arrived.",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    ok: bool
    result: ResultClass | None
    code: str
    message: str
    """In plain words; holds no address."""
    took_s: float
    provider_id: str | None = None


class Trials:
    """A few at a time in this process: others wait."""

    def __init__(self, maker: AccountMaker) -> None:
        self._maker = maker
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def check(self, stored: StoredAccount) -> Trial:
        """Connect and log in."""
        return await self._try(
            stored, lambda provider: cast(CheckedProvider, provider).check(), well="It connects and logs in."
        )

    async def send(self, stored: StoredAccount, *, to: str) -> Trial:
        """One message, marked as a test."""

        async def sent(provider: Provider) -> SendResult:
            results: Sequence[SendResult] = await provider.send(
                [_message(stored, channel=provider.capabilities.channel, to=to)]
            )
            return results[0]

        return await self._try(stored, sent, well="The provider took the message.")

    async def _try(self, stored: StoredAccount, call: Callable[[Provider], Awaitable[SendResult]], *, well: str) -> Trial:
        try:
            provider, _ = self._maker.provider(stored)
        except Unusable as error:
            return Trial(False, None, error.problem, PROBLEMS[error.problem], 0.0)
        async with self._slots:
            started_s = time.monotonic()
            try:
                async with asyncio.timeout(MOST_S):
                    result = await call(provider)
            except TimeoutError:
                result = SendResult(ResultClass.UNKNOWN, code="timeout")
            except Exception as error:
                log.error("provider.defect", provider=stored.provider, code=type(error).__name__)
                result = SendResult(ResultClass.UNKNOWN, code="adapter_error")
            finally:
                await provider.close()
        ok = result.result is ResultClass.OK
        told = well if ok else _words(result)
        return Trial(ok, result.result, result.code, told, time.monotonic() - started_s, result.provider_id)


def _words(result: SendResult) -> str:
    found = WORDS.get(result.code) or WORDS.get(result.code.partition(" ")[0])
    if found is not None:
        return found
    by_class = _BY_CLASS.get(result.result, "It did not work.")
    return f"{by_class} It says {result.code}." if result.code else by_class


def _message(stored: StoredAccount, *, channel: Channel, to: str) -> Message:
    now = datetime.now(UTC)
    extra: dict[str, Any] = {}
    return Message(
        notification_id=uuid7(),
        n=1,
        attempt=1,
        tenant=stored.tenant,
        channel=channel,
        address=to,
        content=Content(title=marked("Tongda", locale=""), text=_TEXT.format(name=stored.name), extra=extra),
        accepted_at=now,
        expires_at=now + _LIFE,
        test=True,
    )
