"""Our own record of a message that its provider will report on: which step and attempt a name belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from domain.ids import reference
from domain.receipts import KEPT_LONGER
from domain.results import ResultClass
from domain.states import Status
from infra.postgres.columns import columns
from infra.postgres.engine.locks import Connection
from infra.postgres.engine.step_outcome import StepOutcome

_LINK = """
INSERT INTO receipt_inbox AS i (account, provider_id, notification_id, n, attempt, status, delivered_at, until)
SELECT account, provider_id, id, n, attempt, status, CASE status WHEN 'delivered' THEN now() END, now() + window_
FROM unnest($1::text[], $2::text[], $3::uuid[], $4::smallint[], $5::smallint[], $6::text[], $7::interval[])
     o(account, provider_id, id, n, attempt, status, window_)
ORDER BY account, provider_id
ON CONFLICT (account, provider_id) DO UPDATE SET
    notification_id = EXCLUDED.notification_id, n = EXCLUDED.n, attempt = greatest(i.attempt, EXCLUDED.attempt),
    status = CASE WHEN i.status IS NULL OR (i.status = 'failed' AND i.told AND i.attempt BETWEEN 1 AND EXCLUDED.attempt - 1)
                       OR (i.status = 'sent' AND EXCLUDED.status = 'delivered')
                  THEN coalesce(EXCLUDED.status, i.status) ELSE i.status END,
    delivered_at = least(i.delivered_at, EXCLUDED.delivered_at), until = greatest(i.until, EXCLUDED.until)
WHERE i.notification_id IS NULL OR (i.notification_id = EXCLUDED.notification_id AND i.n = EXCLUDED.n)"""
"""What a later attempt under the same id has brought is not undone by the failure of an earlier one."""

_TAKEN = frozenset({ResultClass.OK, ResultClass.UNKNOWN})
"""What a receipt may come for."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A message that a provider who reports took, or may have taken."""

    account: str
    provider_id: str
    """The provider's id of it; where it gave none, our own reference."""
    notification_id: UUID
    n: int
    attempt: int
    status: Status | None
    """SENT, DELIVERED; None: the answer was lost."""
    window: timedelta


def handed(outcome: StepOutcome) -> Handed | None:
    """What is said of its message; None: there is none, or nobody reports on it."""
    claim, result, window = outcome.claim, outcome.result, outcome.window
    if result is None or window is None or result.result not in _TAKEN:
        return None
    taken = Status.DELIVERED if result.delivered else Status.SENT
    status = taken if result.result is ResultClass.OK else None
    name = result.provider_id or reference(*claim.step, attempt=claim.attempt)
    return Handed(claim.account, name, claim.notification_id, claim.n, claim.attempt, status, window)


async def link(connection: Connection, messages: Sequence[Handed]) -> None:
    """Our own record of these messages. The caller holds their notifications' locks."""
    one_each = {(h.account, h.provider_id): h for h in sorted(messages, key=lambda h: (h.attempt, h.status is not None))}
    rows = [
        (h.account, h.provider_id, h.notification_id, h.n, h.attempt, h.status, h.window + KEPT_LONGER)
        for h in one_each.values()
    ]
    if rows:
        await connection.execute(_LINK, *columns(rows))
