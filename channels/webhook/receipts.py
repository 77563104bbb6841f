"""Receipts of webhooks: a receiver says later what became of a message, signed as Standard Webhooks asks.

Where an account has receipts on, each call carries the header webhook-reply-to, the address to post them to. Body (JSON):

    id       the delivery id, as webhook-id and `data.delivery_id` said it; also of a call that could not be answered
    status   "sent", "delivered", "read" or "failed"
    at       when, RFC 3339 with offset; left out: now
    class    of "failed": "RETRY" (default), "RECIPIENT" (dead or opted out), "PERMANENT" (this content) or "CONFIG"
    code     of "failed": the receiver's own code, 64 of A-Z a-z 0-9 . _ - and space; never an address

or an array of these, all of one tenant. Headers: webhook-id (any name of this call), webhook-timestamp (seconds, within
five minutes of now), webhook-signature ("v1," and base64 of HMAC-SHA256 over `id.timestamp.body`, several with spaces
between), with the signing secret of the account or else of the tenant, the one that signs what the receiver gets. Whoever
posts the same again changes nothing, so that a replay within the five minutes is as harmless.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from channels.receipts import MOST_RECEIPTS, Receipt, ReceiptAnswer, ReceiptReader, ReceiptRequest, ReceiptWiring
from channels.receipts import refused_signature as refused
from channels.webhook.standard import WebhookSettings, signing_keys
from domain.errors import FieldError, Invalid, Malformed
from domain.ids import delivery_of
from domain.receipts import REPORTED
from domain.results import ResultClass
from domain.states import Status

TOLERANCE_S = 300
"""Standard Webhooks' replay window, to both sides."""
CLASSES = frozenset({ResultClass.RETRY, ResultClass.RECIPIENT, ResultClass.PERMANENT, ResultClass.CONFIG})
_FIELDS = frozenset({"id", "status", "at", "class", "code"})
MOST_ERRORS = 50
_CODE = re.compile(r"[A-Za-z0-9._ -]{1,64}", re.ASCII)
_NOBODY = bytes(32)
"""Stands in for a tenant that does not exist, so that a refusal takes as long."""


class WebhookReceipts(ReceiptReader):
    """The keys of all tenants: the delivery tells whose key has to fit."""

    def __init__(self, wiring: ReceiptWiring) -> None:
        self._wiring = wiring
        settings = wiring.settings
        self._own_secret = settings.signing_secret if isinstance(settings, WebhookSettings) else ""

    async def read(self, request: ReceiptRequest) -> Sequence[Receipt]:
        items, single = _items(request.body)
        ids = [_id(item, pointer=_pointer(place, single=single)) for place, item in enumerate(items)]
        tenant = await self._wiring.tenant_of(ids[0][1])
        self._verify(request, tenant)
        return [
            _receipt(item, one, tenant=tenant, pointer=_pointer(place, single=single))
            for place, (item, (one, _)) in enumerate(zip(items, ids, strict=True))
        ]

    def answer(self, taken: int) -> ReceiptAnswer:
        return ReceiptAnswer(msgspec.json.encode({"taken": taken}))

    def _verify(self, request: ReceiptRequest, tenant: str | None) -> None:
        name, stamp, signatures = (request.headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
        for part, value in (("id", name), ("timestamp", stamp), ("signature", signatures)):
            if not value:
                raise refused(f"The header webhook-{part} is missing.")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 15):
            raise refused("webhook-timestamp is the time in whole seconds since 1970.")
        if abs(self._wiring.now() - int(stamp)) > TOLERANCE_S:
            raise refused("webhook-timestamp is more than five minutes away from now: sign each attempt anew.")
        keys = (_NOBODY,) if tenant is None else signing_keys(self._own_secret or self._wiring.secret_for(tenant))
        signed = b".".join((name.encode("latin-1", "replace"), stamp.encode(), request.body))
        expected = [hmac.digest(key, signed, "sha256") for key in keys]
        if not any(_fits(one, right) for one in signatures.split(" ") for right in expected) or tenant is None:
            raise refused("No signature in webhook-signature fits: sign `id.timestamp.body` with your signing secret.")


def _fits(signature: str, expected: bytes) -> bool:
    version, _, coded = signature.partition(",")
    try:
        return version == "v1" and hmac.compare_digest(b64decode(coded, validate=True), expected)
    except ValueError:
        return False


def _items(body: bytes) -> tuple[Sequence[Any], bool]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is a receipt, or an array of them, in JSON.") from None
    if not isinstance(found, list):
        return [found], True
    if not 0 < len(found) <= MOST_RECEIPTS:
        raise Invalid.field("", "range", f"An array holds 1 to {MOST_RECEIPTS} receipts.")
    return found, False


def _pointer(place: int, *, single: bool) -> str:
    return "" if single else f"/{place}"


def _id(item: Any, *, pointer: str) -> tuple[str, Any]:
    if not isinstance(item, Mapping):
        raise Invalid.field(pointer, "type", "A receipt is an object with id and status.")
    name = item.get("id")
    known = delivery_of(name) if isinstance(name, str) else None
    if known is None:
        raise Invalid.field(f"{pointer}/id", "format", "It is the delivery id, as webhook-id gave it.")
    return str(name), known[0]


def _receipt(item: Mapping[str, Any], name: str, *, tenant: str | None, pointer: str) -> Receipt:
    errors: list[FieldError] = []

    def wrong(field: str, code: str, message: str) -> None:
        errors.append(FieldError(f"{pointer}/{field}", code, message))

    for field in item.keys() - _FIELDS:
        wrong(_escaped(field), "unknown_field", "There is no such field.")
    status, kind, code = str(item.get("status")), item.get("class", ResultClass.RETRY), item.get("code", "")
    failed = status == Status.FAILED
    if status not in REPORTED:
        wrong("status", "not_allowed", "It is sent, delivered, read or failed.")
    at = _time(item.get("at"))
    if at is None and item.get("at") is not None:
        wrong("at", "format", "A time of this century with an offset, as in 2026-12-01T09:00:00+08:00.")
    if str(kind) not in CLASSES or (not failed and "class" in item):
        wrong("class", "not_allowed", f"With failed: one of {', '.join(sorted(CLASSES))}.")
    if not isinstance(code, str) or (code and not _CODE.fullmatch(code)) or (not failed and code):
        wrong("code", "format", "With failed: 1 to 64 of A-Z a-z 0-9 . _ - and space.")
    if errors:
        raise Invalid(sorted(errors, key=lambda e: e.pointer)[:MOST_ERRORS])
    result = ResultClass(str(kind)) if failed else None
    return Receipt(name, Status(status), at=at, result=result, code=code, reference=name, tenant=tenant)


def _time(value: Any) -> datetime | None:
    try:
        at = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return None
    return at if at.tzinfo is not None and 2000 <= at.year <= 2100 else None


def _escaped(name: str) -> str:
    return name[:64].encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")
