"""Tokens that let a person's own browser or app read their inbox: signed, short-lived, naming tenant and user."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.clock import Clock
from domain.errors import Unauthenticated, Unavailable
from infra.clock import SYSTEM_CLOCK
from infra.secrets import derive

PREFIX = "tu_"
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class UserToken:
    """Whom a valid token names."""

    tenant: str
    user_id: str


class UserTokens:
    """Issues and reads tokens. Nothing is stored: a token is good until it expires."""

    def __init__(self, secret_key: str, *, others: Sequence[str] = (), clock: Clock = SYSTEM_CLOCK) -> None:
        """What was issued under one of `others` is read too. Without a `secret_key` nothing can be issued or read: what
        derives from "" is known to all."""
        self._clock = clock
        self._keys = [derive(key, "user-token") for key in (secret_key, *others)] if secret_key else []

    def issue(self, tenant: str, user_id: str, *, expires_at: datetime) -> str:
        """Raises Unavailable without a secret key."""
        claims = {"t": tenant, "u": user_id, "e": int(expires_at.timestamp())}
        payload = _encoded(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode())
        return f"{PREFIX}{payload}.{_encoded(self._macs(payload)[0])}"

    def read(self, token: str) -> UserToken:
        """Raises Unauthenticated for anything that was not issued here or has expired."""
        payload, _, mac = token.removeprefix(PREFIX).partition(".")
        if not token.startswith(PREFIX) or len(token) > _LONGEST or not mac.isascii():
            raise Unauthenticated("This is not a user token.")
        if not any(hmac.compare_digest(_encoded(right), mac) for right in self._macs(payload)):
            raise Unauthenticated("This is not a valid user token.")
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (ValueError, binascii.Error):
            raise Unauthenticated("This is not a valid user token.") from None
        if self._clock.now().timestamp() >= claims["e"]:
            raise Unauthenticated("This user token has expired.", code="token_expired")
        return UserToken(claims["t"], claims["u"])

    def _macs(self, payload: str) -> list[bytes]:
        """The first is the one of now."""
        if not self._keys:
            raise Unavailable("User tokens need TONGDA_SECRET_KEY to be set.")
        return [hmac.digest(key, payload.encode(), "sha256") for key in self._keys]


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
