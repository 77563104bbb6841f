"""API keys at rest: only a hash is kept, the key is shown once."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "tk_"


def new_key() -> str:
    """256 random bits behind a prefix that secret scanners can recognise."""
    return PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> bytes:
    """A plain SHA-256 is enough for a key of 256 random bits: there is nothing to guess."""
    return hashlib.sha256(key.encode()).digest()


def key_hint(key: str) -> str:
    """What lists show to tell keys apart."""
    return f"{PREFIX}…{key[-4:]}"
