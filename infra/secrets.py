"""Secrets that derive from TONGDA_SECRET_KEY, so that none of them has to be stored."""

from __future__ import annotations

import base64
import hmac
from functools import lru_cache


def derive(secret_key: str, purpose: str) -> bytes:
    """32 bytes for one purpose ("webhook:acme", "user-token"); knowing one tells nothing of another."""
    return hmac.digest(secret_key.encode(), purpose.encode(), "sha256")


@lru_cache(maxsize=1024)  # asked for with every message
def webhook_secret(secret_key: str, tenant: str) -> str:
    """The tenant's Standard Webhooks signing secret: "whsec_" and base64 of 32 bytes."""
    return "whsec_" + base64.b64encode(derive(secret_key, f"webhook:{tenant}")).decode()
