"""Credentials of provider accounts at rest: sealed with a key that is not in the database.

    sealed   nonce (12 random bytes), then AES-256-GCM of the secrets as JSON
    key      HMAC-SHA256(TONGDA_SECRET_KEY, "provider-credentials"), 32 bytes
    bound to the account's id and tenant: sealed bytes that are copied to another row open nothing

Random nonces of 96 bits are safe for 2^32 sealings under one key (NIST SP 800-38D, 8.3); an account is sealed when it is
changed. `key_id` is stored beside it and tells which TONGDA_SECRET_KEY was in force.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import Unavailable
from infra.secrets import derive

NONCE_BYTES = 12


class Unreadable(Exception):
    """Sealed under another TONGDA_SECRET_KEY, for another account, or damaged."""


class CredentialBox:
    """Seals and opens. Without a `secret_key` it does neither: what derives from "" is known to all."""

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key

    @property
    def key_id(self) -> str:
        """Names the key of now. Raises Unavailable."""
        return self._key("provider-credentials-id").hex()[:16]

    def seal(self, values: Mapping[str, str], *, tenant: str, account: str) -> bytes:
        """Raises Unavailable."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        plain = msgspec.json.encode(values)
        return nonce + self._cipher().encrypt(nonce, plain, _bound_to(tenant, account))

    def open(self, sealed: bytes, *, tenant: str, account: str) -> dict[str, str]:
        """Raises Unreadable, Unavailable."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            plain = self._cipher().decrypt(nonce, rest, _bound_to(tenant, account))
            return msgspec.json.decode(plain, type=dict[str, str])
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def _cipher(self) -> AESGCM:
        return AESGCM(self._key("provider-credentials"))

    def _key(self, purpose: str) -> bytes:
        if not self._secret_key:
            raise Unavailable("Provider accounts need TONGDA_SECRET_KEY to be set.")
        return derive(self._secret_key, purpose)


def _bound_to(tenant: str, account: str) -> bytes:
    return f"{tenant}\0{account}".encode()  # no NUL gets past the API
