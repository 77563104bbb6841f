"""A request that would be refused now, and may have been accepted before: what its Idempotency-Key says.

Rules look at the clock, at users and at templates, which go on after a 202. Whoever did not get that 202 and repeats the
request must hear of it, and not of the rules, or would send it anew under another key. So a request with a key is refused
only after a look at the keys. Who is accepted pays nothing for it: there the COMMIT itself finds the key.

What still waits in another process and has not reached the database cannot be seen from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from api.accept.writer import judge
from api.line import Line
from domain.errors import Invalid, RecipientGone, RecipientUnknown, Rejected, TongdaError, Unavailable
from infra.postgres.accept.accepting import AcceptRepository, Kept, Key
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.errors import AWAY
from infra.postgres.patience import STATEMENT_LIMIT_S

REFUSALS = (Invalid, RecipientUnknown, RecipientGone)
"""What the same bytes may be answered with later, though they were accepted. Not among them: that they are no JSON."""
MOST_AT_ONCE = 2
"""Look-ups at a time in one process, however many are refused."""
MOST_WAITING = 512
"""More are told to come again: no key of theirs was looked at, so nothing can be said of them."""


class KeptAnswers:
    """One a process. `settled` waits until what this process has taken before is committed, or given up."""

    def __init__(self, repository: AcceptRepository, *, settled: Callable[[], Awaitable[None]]) -> None:
        self._repository = repository
        self._settled = settled
        self._line = Line(at_once=MOST_AT_ONCE, most=MOST_WAITING)

    async def instead_of(self, refusal: Rejected, key: Key) -> bytes:
        """The answer to the first request with this key, had that one this body. Raises `refusal` where none was accepted,
        Conflict (`idempotency_conflict`), Overloaded, and Unavailable where the database does not say: a refusal is final,
        and whoever gets one may send the same anew."""
        try:
            found = await self._line.run(partial(self._look, key), within_s=STATEMENT_LIMIT_S)
        except (*AWAY, *LOST_RACE) as error:
            message = "Whether this was accepted before cannot be told now; send it again with its Idempotency-Key."
            raise Unavailable(message) from error
        if found is None:
            raise refusal
        answer = judge(key, found)
        if isinstance(answer, TongdaError):
            raise answer from refusal
        return answer

    async def _look(self, key: Key) -> Kept | None:
        await self._settled()
        return await self._repository.settled(key)
