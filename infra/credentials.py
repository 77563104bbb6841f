"""Credentials of provider accounts at rest: sealed with a key that is not in the database.

    sealed   nonce (12 random bytes), then AES-256-GCM of the secrets as JSON
    key      HMAC-SHA256(TONGDA_SECRET_KEY, "provider-credentials"), 32 bytes
    bound to the account's id and tenant: sealed bytes that are copied to another row open nothing

Random nonces of 96 bits are safe for 2^32 sealings under one key (NIST SP 800-38D, 8.3); an account is sealed when it is
changed. `key_id` is stored beside it and tells which TONGDA_SECRET_KEY was in force; what was sealed under one of
TONGDA_OTHER_SECRET_KEYS is opened too, and `infra.resealing` seals it anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import Unavailable
from infra.secrets import derive

NONCE_BYTES = 12


class Unreadable(Exception):
    """Sealed under a key that is not among ours, for another account, or damaged."""


class CredentialBox:
    """Seals with the key of now; opens with the key that something was sealed under, as long as it is among `others`.
    Without a `secret_key` it does neither: what derives from "" is known to all."""

    def __init__(self, secret_key: str, *, others: Sequence[str] = ()) -> None:
        self._secret_key = secret_key
        self._others = {_id(key): key for key in others}

    @property
    def key_id(self) -> str:
        """Names the key of now, and tells nothing of it. Raises Unavailable."""
        return _id(self._current())

    @property
    def other_ids(self) -> frozenset[str]:
        """The names of the other keys."""
        return frozenset(self._others) - {_id(self._secret_key)}

    def seal(self, values: Mapping[str, str], *, tenant: str, account: str) -> bytes:
        """Raises Unavailable."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        plain = msgspec.json.encode(values)
        return nonce + _cipher(self._current()).encrypt(nonce, plain, _bound_to(tenant, account))

    def open(self, sealed: bytes, *, tenant: str, account: str, key_id: str | None = None) -> dict[str, str]:
        """`key_id`: as it was when this was sealed; None: the one of now. Raises Unreadable, Unavailable."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            plain = _cipher(self._key(key_id)).decrypt(nonce, rest, _bound_to(tenant, account))
            return msgspec.json.decode(plain, type=dict[str, str])
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def _key(self, key_id: str | None) -> str:
        current = self._current()
        if key_id is None or key_id == _id(current):
            return current
        try:
            return self._others[key_id]
        except KeyError:
            raise Unreadable from None

    def _current(self) -> str:
        if not self._secret_key:
            raise Unavailable("Provider accounts need TONGDA_SECRET_KEY to be set.")
        return self._secret_key


def _id(secret_key: str) -> str:
    return derive(secret_key, "provider-credentials-id").hex()[:16]


def _cipher(secret_key: str) -> AESGCM:
    return AESGCM(derive(secret_key, "provider-credentials"))


def _bound_to(tenant: str, account: str) -> bytes:
    return f"{tenant}\0{account}".encode()  # no NUL gets past the API
