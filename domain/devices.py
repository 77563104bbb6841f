"""Where a user can be pushed to, and what a registration must look like. Nothing pushes to them yet."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from enum import StrEnum
from urllib.parse import urlsplit

from domain.addresses import url_problem

MOST_DEVICES = 50
"""Registrations that one user may have."""
MOST_TOKEN = 4096

_APNS = re.compile(r"[0-9a-fA-F]{64,200}")
_TOKEN = re.compile(r"[\x21-\x7e]{8,4096}")
_KEY_BYTES = {"p256dh": 65, "auth": 16}
"""RFC 8291: an uncompressed point of P-256, and 16 octets."""


class DeviceKind(StrEnum):
    """What gave out the token: the push service through which the device is reached."""

    WEBPUSH = "webpush"
    """A browser's subscription (RFC 8030, 8291)."""
    IOS = "ios"
    """APNs."""
    ANDROID = "android"
    """FCM."""
    HARMONY = "harmony"
    HUAWEI = "huawei"
    XIAOMI = "xiaomi"
    OPPO = "oppo"
    VIVO = "vivo"


def token_problem(kind: DeviceKind, token: str) -> str | None:
    """What is wrong with a device token; None when nothing is. Not for web push."""
    if kind is DeviceKind.IOS:
        return None if _APNS.fullmatch(token) else "An APNs device token is 64 to 200 hexadecimal digits."
    return None if _TOKEN.fullmatch(token) else f"A device token has 8 to {MOST_TOKEN} printable characters and no space."


def endpoint_problem(endpoint: str) -> str | None:
    """What is wrong with a subscription's endpoint; None when nothing is. Whether it may be reached is not asked here."""
    problem = url_problem(endpoint)
    if problem is None and urlsplit(endpoint).scheme != "https":
        return "The endpoint of a web push subscription begins with https://."
    return problem


def key_problems(keys: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(name, what is wrong) for each of a subscription's two keys."""
    for name, size in _KEY_BYTES.items():
        raw = _decoded(keys[name])
        if raw is None or len(raw) != size:
            yield name, f"The key {name} is base64url of {size} bytes."
        elif name == "p256dh" and raw[0] != 4:
            yield name, "The key p256dh is an uncompressed point of P-256, which begins with 0x04."


def _decoded(text: str) -> bytes | None:
    """base64url with or without its padding, as browsers write it."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
