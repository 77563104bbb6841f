"""Secrets that derive from TONGDA_SECRET_KEY, so that none of them has to be stored."""

from __future__ import annotations

import base64
import hmac
from functools import lru_cache
from urllib.parse import quote


def derive(secret_key: str, purpose: str) -> bytes:
    """32 bytes for one purpose ("webhook:acme", "user-token"); knowing one tells nothing of another."""
    return hmac.digest(secret_key.encode(), purpose.encode(), "sha256")


@lru_cache(maxsize=1024)  # asked for with every message
def webhook_secret(secret_key: str, tenant: str, *, others: tuple[str, ...] = ()) -> str:
    """The tenant's Standard Webhooks signing secret: "whsec_" and base64 of 32 bytes. Behind it, with blanks between, those
    that derive from `others`: what is signed is signed with each, and what any of them signed is taken."""
    keys = (secret_key, *(key for key in others if key != secret_key))
    return " ".join("whsec_" + base64.b64encode(derive(key, f"webhook:{tenant}")).decode() for key in keys)


def receipt_secret(secret_key: str, *, provider: str, account: str) -> str:
    """What an account's address for receipts ends with: nobody finds it by trying, and it opens no other account."""
    derived = derive(secret_key, f"receipts:{provider}:{account}")
    return base64.urlsafe_b64encode(derived).decode().rstrip("=")


def receipt_path(secret_key: str, *, provider: str, account: str) -> str:
    """Where this account's provider posts its receipts, below TONGDA_PUBLIC_URL."""
    secret = receipt_secret(secret_key, provider=provider, account=account)
    return f"/v1/receipts/{quote(provider, safe='')}/{quote(account, safe='')}/{secret}"


def receipt_url(secret_key: str, *, public_url: str, provider: str, account: str) -> str:
    """The whole address."""
    return public_url.rstrip("/") + receipt_path(secret_key, provider=provider, account=account)
