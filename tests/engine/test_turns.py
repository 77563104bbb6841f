"""Of a cohort's groups one at a time claims over an account, for all of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from activities.cohorts.turns import STILL_S, Serve, Turns

ACCOUNT = "webhook"
SERVED, STOPPED, FAILED = "served", "stopped", "failed"


class Rounds:
    """A hand-over's claims, each ended by the test."""

    def __init__(self) -> None:
        self.begun = 0
        self._ends: asyncio.Queue[str] = asyncio.Queue()

    async def serve(self) -> bool:
        self.begun += 1
        how = await self._ends.get()
        if how == FAILED:
            raise RuntimeError("a defect")
        return how == SERVED

    async def end(self, how: str = SERVED) -> None:
        self._ends.put_nowait(how)
        await _settled()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _begun(turns: Turns, serve: Serve) -> asyncio.Task[None]:
    task = asyncio.create_task(turns.take(ACCOUNT, serve))
    await _settled()
    return task


async def test_whoever_has_the_turn_claims_for_those_who_come() -> None:
    """Caught: under load ten groups shared the free slots and claimed a row or two each. Those who came while a claim was
    under way wait for the next one: that one may have seen nothing of theirs."""
    turns, mine, other = Turns(), Rounds(), Rounds()
    first = await _begun(turns, mine.serve)
    others = [await _begun(turns, other.serve) for _ in range(3)]
    await mine.end()
    assert mine.begun == 2, "one more round for all of them"
    assert not any(task.done() for task in [first, *others])
    await mine.end()
    assert all(task.done() for task in [first, *others])
    assert (mine.begun, other.begun) == (2, 0)


async def test_nobody_waits_for_the_turn_of_another_account() -> None:
    """Catches: an account without slots that holds up all others of a cohort."""
    turns, mine, other = Turns(), Rounds(), Rounds()
    await _begun(turns, mine.serve)
    task = asyncio.create_task(turns.take("mail", other.serve))
    await _settled()
    await other.end()
    assert task.done()


@pytest.mark.parametrize("how", [STOPPED, FAILED])
@pytest.mark.parametrize("round_", [1, 2])
async def test_where_a_turn_is_cut_short_the_next_one_has_it(how: str, round_: int) -> None:
    """Catches: a group that is told that its rows were claimed by one that was stopped, or that failed."""
    turns, mine, other, third = Turns(), Rounds(), Rounds(), Rounds()
    first = await _begun(turns, mine.serve)
    second = await _begun(turns, other.serve)
    for _ in range(round_ - 1):
        await mine.end()
    last = await _begun(turns, third.serve)
    await mine.end(how)
    assert first.done()
    assert (other.begun, third.begun) == (1, 0), "one of them has the turn, and serves the other"
    await other.end()
    await other.end()
    assert second.done()
    assert last.done()
    assert isinstance(first.exception(), RuntimeError) == (how == FAILED)
    assert second.exception() is None


async def test_nobody_waits_for_a_turn_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: one group that waits for somebody's lock, and with it all that its cohort takes on meanwhile. A turn in
    which claims are made does not hang, however long it is."""
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    turns, mine, other, third = Turns(), Rounds(), Rounds(), Rounds()
    await _begun(turns, mine.serve)
    for _ in range(5):
        now_s[0] += STILL_S - 0.1
        turns.moved(ACCOUNT)
        waiting = await _begun(turns, other.serve)
        assert other.begun == 0
        waiting.cancel()
    now_s[0] += STILL_S
    beside = await _begun(turns, third.serve)
    assert third.begun == 1
    await third.end()
    assert beside.done()
    assert mine.begun == 1


async def test_whoever_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    turns, mine, other = Turns(), Rounds(), Rounds()
    first = await _begun(turns, mine.serve)
    gone = await _begun(turns, other.serve)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await mine.end()
    await mine.end()
    assert first.done()
    last = await _begun(turns, other.serve)
    await other.end()
    assert last.done()
