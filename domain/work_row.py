"""An open step's row."""

from __future__ import annotations

from enum import IntEnum


class WorkState(IntEnum):
    """Whether somebody has an open step in hand."""

    OPEN = 0
    """It waits until it is due and claimed."""
    IN_HAND = 1
    """It is claimed, and its outcome is not recorded yet."""
