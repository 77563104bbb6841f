"""Secrets that derive from TONGDA_SECRET_KEY, so that none of them has to be stored."""

from __future__ import annotations

import base64
import hashlib
import hmac


def derive(secret_key: str, purpose: str) -> bytes:
    """32 bytes for one purpose ("webhook:acme", "user-token"); knowing one tells nothing of another."""
    return hmac.new(secret_key.encode(), purpose.encode(), hashlib.sha256).digest()


def webhook_secret(secret_key: str, tenant: str) -> str:
    """The tenant's Standard Webhooks signing secret: "whsec_" and base64 of 32 bytes."""
    return "whsec_" + base64.b64encode(derive(secret_key, f"webhook:{tenant}")).decode()
