"""Addresses that are not to be written to, and why."""

from __future__ import annotations

from enum import StrEnum


class SuppressionReason(StrEnum):
    """Why an address is not to be written to; the published list."""

    REQUESTED = "requested"
    """Its owner asked for it. It outlives the erasure of its owner, as a digest of the address."""
    COMPLAINT = "complaint"
    """Its owner has reported a message as unwanted. It outlives the erasure of its owner, as a digest of the address."""
    HARD_BOUNCE = "hard_bounce"
    """Mail to it came back: it does not exist (any more)."""
    RECIPIENT_REFUSED = "recipient_refused"
    """A provider has answered that this address is dead or has opted out; written by the service itself."""


OBJECTIONS = (SuppressionReason.REQUESTED, SuppressionReason.COMPLAINT)
"""What a person has said, and what therefore stays when that person is erased. The others are only found out again."""
