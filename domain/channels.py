"""The channels. What an address looks like on each is in `domain/addresses.py`."""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """A way to a person. Values are the names in the API."""

    EMAIL = "email"
    INAPP = "inapp"
    WEBHOOK = "webhook"
