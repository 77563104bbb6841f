"""A request that would be refused now, and may have been accepted before: what its Idempotency-Key says.

Rules look at the clock, at users and at templates, which go on after a 202. Whoever did not get that 202 and repeats the
request must hear of it, and not of the rules, or would send it anew under another key. So a request with a key is refused
only after a look at the keys. Who is accepted pays nothing for it: there the COMMIT itself finds the key.

Refusals stand in a line for that look, in which turns go round the tenants (`api.line`): one that repeats what is refused
in a storm waits for itself. What this process is just committing is waited for in the line and before the turn, by all who
came meanwhile together; a look takes a millisecond, or waits for another process that is just taking the same key.

What still waits in another process and has not reached the database cannot be seen from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from api.accept.writer import judge
from api.line import Line
from domain.errors import Invalid, RecipientGone, RecipientUnknown, TongdaError, Unavailable
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.engine.locks import LOST_RACE
from infra.postgres.errors import AWAY
from infra.postgres.patience import STATEMENT_LIMIT_S

REFUSALS = (Invalid, RecipientUnknown, RecipientGone)
"""What the same bytes may be answered with later, though they were accepted. Not among them: that they are no JSON."""
MOST_AT_ONCE, OF_ONE_TENANT = 3, 2
"""Look-ups at a time in one process, however many are refused."""
MOST_WAITING = 1024
"""Half of it for one tenant alone. More are told to come again: nothing can be said of a key that nobody looked at."""


class KeptAnswers:
    """One a process. `settled` waits until what this process has taken before is committed, or given up."""

    def __init__(self, repository: AcceptRepository, *, settled: Callable[[], Awaitable[None]]) -> None:
        self._repository = repository
        self._settled = settled
        self._line = Line(at_once=MOST_AT_ONCE, most=MOST_WAITING, of_one=OF_ONE_TENANT)

    async def instead_of(self, refusal: Exception, key: Key) -> bytes:
        """The answer to the first request with this key, had that one this body. Raises `refusal` where none was accepted,
        Conflict (`idempotency_conflict`), Overloaded, and Unavailable where the database does not say: a refusal is final,
        and whoever gets one may send the same anew."""
        try:
            look = partial(self._repository.settled, key)
            found = await self._line.run(look, whose=key.tenant, within_s=STATEMENT_LIMIT_S, after=self._settled)
        except (*AWAY, *LOST_RACE) as error:
            message = "Whether this was accepted before cannot be told now; send it again with its Idempotency-Key."
            raise Unavailable(message) from error
        if found is None:
            raise refusal
        answer = judge(key, found)
        if isinstance(answer, TongdaError):
            raise answer from refusal
        return answer
