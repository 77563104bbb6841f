"""Commits that do not wait for the disk.

For steps that a crash of PostgreSQL may undo: whoever finds one undone does it again, and nobody was promised anything. A
later commit that does wait makes all before it durable, because they share one log in one order. Whatever a caller was
promised, whatever lets a message out of the house and whatever came of it waits (accept, claim, outcomes).
"""

from __future__ import annotations

ASYNC_COMMIT = "set_config('synchronous_commit', 'off', true)"
"""Evaluated anywhere in a transaction, it makes the commit one of these, and no later one. It costs a microsecond, so it
stands where one row is returned."""
SYNC_COMMIT = "SET LOCAL synchronous_commit TO DEFAULT"
"""Takes it back, for what turned out to be told."""
