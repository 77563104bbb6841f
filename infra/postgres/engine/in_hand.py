"""Claims that somebody holds, or held when he was lost: which they are, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

IN_HAND_OF = """
SELECT notification_id, n, attempt, account
FROM (SELECT notification_id, n, attempt, account, state FROM work WHERE cohort = $1 OFFSET 0) w WHERE state = 1 LIMIT $2"""

OVERDUE = """
SELECT notification_id, n, attempt, account FROM work
WHERE state = 1 AND unknown_at <= now() ORDER BY unknown_at LIMIT $1"""


@dataclass(frozen=True, slots=True)
class InHand:
    notification_id: UUID
    n: int
    attempt: int
    account: str
