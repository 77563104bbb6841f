"""Webhooks by the Standard Webhooks specification: a signed POST to an address of the tenant's choice.

Body (JSON, UTF-8, no spaces):

    type        "notification"
    timestamp   when the notification was accepted, RFC 3339, UTC
    data
      notification_id, delivery_id    delivery_id is stable over attempts and equals the header webhook-id
      title, text, html, url          rendered for this recipient; html and url may be null
      extra                           object: the own fields of the template's webhook block
      test                            true for what `test-send` made: nobody has ordered, paid or lost anything
      category                        string, "" if none
      expires_at                      when it says nothing any more, RFC 3339, UTC
      data, metadata                  objects, as the sender of the notification gave them

Headers: webhook-id, webhook-timestamp (seconds, of this attempt), webhook-signature ("v1," and base64 of HMAC-SHA256 over
`id.timestamp.body`), TTL (seconds that are left of its life, as in RFC 8030; what passes it on later drops it then).
Receivers verify before they parse, refuse timestamps more than five minutes off, and drop an id they have seen; that is why
sending again after a lost answer is safe. Where an account has receipts on, webhook-reply-to is the address that takes them
(`channels/webhook/receipts.py`), and 2xx means that the receiver took it, not yet that it arrived.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from channels.account_settings import AccountSettings, Secret
from channels.base import Capabilities, HttpPort, HttpReply, Message, TransportError
from channels.failures import result_of_failure
from channels.plaintext import plain_text
from channels.provider_types import ProviderType, Wiring, given
from domain.channels import Channel
from domain.errors import FieldError
from domain.receipts import WINDOW
from domain.results import Refuser, ResultClass, SendResult

USER_AGENT = "Tongda-Webhooks/1"
TIMEOUT_S = 9.0
LONGEST_WAIT = timedelta(days=1)
"""A receiver may ask for a later attempt, not for one that never comes."""

MEANINGS: Mapping[int, ResultClass] = {
    401: ResultClass.RETRY,
    403: ResultClass.RETRY,
    408: ResultClass.RETRY,
    410: ResultClass.RECIPIENT,
    425: ResultClass.RETRY,
    429: ResultClass.RATE,
}
"""Statuses with a meaning of their own; otherwise 2xx is OK, 5xx RETRY, and the rest PERMANENT (redirects included).
401 and 403 are the receiver's own guard, which its owner can mend: they say nothing of an account of ours."""

CONTENT_REFUSED = frozenset({400, 409, 413, 415, 422})
"""Of the statuses that are PERMANENT, those about this message; the others, such as 404 and redirects, are about the
endpoint."""

_encoder = msgspec.json.Encoder(uuid_format="canonical")


class WebhookSettings(AccountSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a tenant's webhooks are called. Where to, each notification says itself."""

    timeout_seconds: Annotated[float, Meta(ge=1, le=30, description="For one call.")] = TIMEOUT_S
    signing_secret: Annotated[
        Secret, Meta(description='"whsec_" and base64 of 16 bytes or more; empty: the one that the installation gives you.')
    ] = ""
    receipts: Annotated[
        bool, Meta(description="Receivers report later what became of a message: a 2xx is then `sent` alone.")
    ] = False
    receipt_window_seconds: Annotated[int, Meta(ge=60, le=604_800, description="With `receipts`: how long.")] = 86_400

    def problems(self) -> Sequence[FieldError]:
        try:
            if self.signing_secret:
                signing_key(self.signing_secret)
        except ValueError:
            return [FieldError("/signing_secret", "format", 'It is "whsec_" and base64 of at least 16 bytes.')]
        return ()

    def receipt_window(self) -> timedelta | None:
        return timedelta(seconds=self.receipt_window_seconds) if self.receipts else None


class WebhookProvider:
    """`secret_for(tenant)` gives the tenant's signing secret, "whsec_" and base64; several with blanks between while it is
    being replaced. `now` is Unix time in seconds. With `reply_to`, an address, receivers report later what became of a
    message."""

    def __init__(
        self,
        port: HttpPort,
        *,
        secret_for: Callable[[str], str],
        timeout_s: float = TIMEOUT_S,
        reply_to: str = "",
        receipt_window: timedelta = WINDOW,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._port = port
        self._secret_for = secret_for
        self._timeout_s = timeout_s
        self._reply_to = {"webhook-reply-to": reply_to} if reply_to else {}
        self._now = now
        self._capabilities = replace(_capabilities(timeout_s), receipts=bool(reply_to), receipt_window=receipt_window)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        return [await self._send(message) for message in batch]

    async def close(self) -> None:
        """Nothing to close: the port is closed where it was made."""

    async def _send(self, message: Message) -> SendResult:
        now, delivery_id = self._now(), message.delivery_id
        try:
            body = _body(message, delivery_id=delivery_id)
        except (UnicodeEncodeError, TypeError, OverflowError):
            # lone surrogates, or values that JSON does not have
            return SendResult(ResultClass.PERMANENT, code="not_json")
        try:
            keys = signing_keys(self._secret_for(message.tenant))
        except (LookupError, ValueError):
            return SendResult(ResultClass.CONFIG, code="webhook_secret")
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": USER_AGENT,
            "webhook-id": delivery_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(
                sign(key, delivery_id=delivery_id, timestamp=int(now), body=body) for key in keys
            ),
            **self._reply_to,
            "TTL": str(max(0, int(message.expires_at.timestamp() - now))),
        }
        try:
            reply = await self._port.request("POST", message.address, headers=headers, body=body, timeout_s=self._timeout_s)
        except TransportError as error:
            return result_of_failure(error, provider_id=delivery_id)
        result = result_of(reply, delivery_id=delivery_id, now=now)
        return replace(result, delivered=False) if self._reply_to else result


def _body(message: Message, *, delivery_id: str) -> bytes:
    return _encoder.encode({
        "type": "notification",
        "timestamp": message.accepted_at.astimezone(UTC),
        "data": {
            "notification_id": message.notification_id,
            "delivery_id": delivery_id,
            "title": message.content.title,
            "text": plain_text(message.content),
            "html": message.content.html,
            "url": message.content.url,
            "extra": dict(message.content.extra),
            "test": message.test,
            "category": message.category,
            "expires_at": message.expires_at.astimezone(UTC),
            "data": dict(message.data),
            "metadata": dict(message.metadata),
        },
    })  # fmt: skip


@lru_cache(maxsize=1024)
def signing_key(secret: str) -> bytes:
    """The key in "whsec_<base64>". Raises ValueError if it is not of that form or is shorter than 16 bytes."""
    prefix, _, encoded = secret.partition("_")
    key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    if prefix != "whsec" or len(key) < 16:
        raise ValueError("not a signing secret")
    return key


@lru_cache(maxsize=1024)
def signing_keys(secrets: str) -> tuple[bytes, ...]:
    """The keys of one or more secrets. Raises ValueError."""
    return tuple(signing_key(secret) for secret in secrets.split(" "))


def sign(key: bytes, *, delivery_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature: "v1," and base64 of HMAC-SHA256 over `delivery_id.timestamp.body`."""
    digest = hmac.digest(key, b"%s.%d.%s" % (delivery_id.encode(), timestamp, body), "sha256")
    return f"v1,{b64encode(digest).decode('ascii')}"


def result_of(reply: HttpReply, *, delivery_id: str, now: float) -> SendResult:
    """The meaning of a receiver's answer. Only the status counts: a webhook's body is nobody's protocol."""
    code = f"http_{reply.status}"
    if 200 <= reply.status < 300:
        return SendResult(ResultClass.OK, code=code, provider_id=delivery_id, delivered=True)
    meaning = MEANINGS.get(reply.status, ResultClass.RETRY if reply.status >= 500 else ResultClass.PERMANENT)
    wait = None
    if reply.status in (429, 503):
        wait = retry_after(reply.headers.get("retry-after", ""), now=now)
        if wait is not None:
            meaning = ResultClass.RATE
    elsewhere = meaning is ResultClass.PERMANENT and reply.status not in CONTENT_REFUSED
    return SendResult(meaning, code=code, retry_after=wait, refuser=Refuser.ENDPOINT if elsewhere else None)


def retry_after(value: str, *, now: float) -> timedelta | None:
    """Retry-After as seconds or as an HTTP date, between zero and a day; None if it is neither, or no date of any year
    that there is."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # longer than a day in any case, and int() of a huge text is slow
        return LONGEST_WAIT if len(value) > 6 else min(timedelta(seconds=int(value)), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(date - datetime.fromtimestamp(now, UTC), timedelta(0)), LONGEST_WAIT)


def _capabilities(timeout_s: float) -> Capabilities:
    return Capabilities(
        provider="webhook",
        channel=Channel.WEBHOOK,
        idempotent=True,
        many_servers=True,
        call_timeout_s=timeout_s + 1.0,
    )


def _build(wiring: Wiring, settings: AccountSettings) -> WebhookProvider:
    assert isinstance(settings, WebhookSettings)
    own = settings.signing_secret
    secret_for = (lambda _: own) if own else given(wiring.secret_for, "the signing secrets")
    return WebhookProvider(
        given(wiring.http, "an HTTP port"),
        secret_for=secret_for,
        timeout_s=settings.timeout_seconds,
        reply_to=wiring.reply_to,
        receipt_window=wiring.receipt_window,
    )


WEBHOOK = ProviderType(
    "Signed calls to addresses that each notification names.", _capabilities(TIMEOUT_S), WebhookSettings, _build
)
