"""Standard Webhooks (symmetric, v1): is this request what the holder of the secret signed. Pure."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
from base64 import b64decode
from collections.abc import Mapping

TOLERANCE_S = 300.0
"""The specification's replay window; the reference libraries use five minutes to both sides."""


class BadSignature(Exception):
    """Not what the secret's holder signed; the text says which rule fails."""


def secret_bytes(secret: str) -> bytes:
    """The key behind `whsec_<base64>`, padding optional. Raises ValueError."""
    coded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = b64decode(coded + "=" * (-len(coded) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("the webhook secret is not base64 behind whsec_") from error
    if not key:
        raise ValueError("the webhook secret is empty")
    return key


def verify(headers: Mapping[str, str], body: bytes, *, key: bytes, now: float) -> None:
    """Check `webhook-id`, `webhook-timestamp`, `webhook-signature` (names looked up in lower case). Raises BadSignature."""
    message_id, stamp, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    for name, value in (("id", message_id), ("timestamp", stamp), ("signature", signatures)):
        if not value:
            raise BadSignature(f"header webhook-{name} is missing")
    if not (stamp.isascii() and stamp.isdigit()):
        raise BadSignature("webhook-timestamp is not whole seconds since 1970")
    age = now - int(stamp) if len(stamp) < 15 else math.inf
    if abs(age) > TOLERANCE_S:
        raise BadSignature(f"webhook-timestamp is more than {TOLERANCE_S:.0f} s away from now")
    signed = b".".join((message_id.encode(errors="surrogateescape"), stamp.encode(), body))
    expected = hmac.new(key, signed, hashlib.sha256).digest()
    if not any(_matches(one, expected) for one in signatures.split(" ")):
        raise BadSignature("no signature in webhook-signature matches")


def _matches(signature: str, expected: bytes) -> bool:
    version, _, coded = signature.partition(",")
    if version != "v1":
        return False  # other versions may stand beside it (v1a); they are not ours to judge
    try:
        return hmac.compare_digest(b64decode(coded, validate=True), expected)
    except (binascii.Error, ValueError):
        return False
