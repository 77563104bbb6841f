"""Slots: calls in flight towards one account, shared by the cohorts of a process."""

from __future__ import annotations

import asyncio
import time
from unittest import mock

from activities.accounts.slots import Slots
from domain.shares import LEAST_WAIT_S


async def test_no_more_than_the_capacity_is_taken() -> None:
    """An account's connections are few; whoever asks gets what is free."""
    slots = Slots(5)
    assert [await slots.take(3), await slots.take(3)] == [3, 2]
    assert slots.free == 0


async def test_takers_wait_and_are_served_in_turn() -> None:
    """Catches: whoever wakes first wins. One cohort of five hundred would keep every other from the account."""
    slots, order = Slots(1), list[str]()
    await slots.take(1)

    async def taker(name: str) -> None:
        await slots.take(64)
        order.append(name)

    tasks = [asyncio.create_task(taker(name)) for name in "abc"]
    for _ in tasks:
        await asyncio.sleep(0)
        slots.give()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks = [t for t in tasks if not t.done()]
    assert order == ["a", "b", "c"]


async def test_whoever_finds_none_waits_briefly_where_others_are_served() -> None:
    """Caught: one that had found none an hour ago, and since then all had waited for moments and been served, was put off
    for twenty seconds."""
    slots, now_s = Slots(1), time.monotonic()
    await slots.take(1)
    assert await slots.take(1, within_s=0.0) == 0
    with mock.patch.object(time, "monotonic", return_value=now_s + 60):
        assert slots.put_off_s() > LEAST_WAIT_S, "the longer there has been none"
        served = asyncio.create_task(slots.take(1, within_s=5.0))
        await asyncio.sleep(0)
        slots.give()
        assert await served == 1
        assert slots.put_off_s() == LEAST_WAIT_S


async def test_a_taker_that_goes_away_leaves_its_turn_and_no_slot() -> None:
    """An activity that is cancelled while it waits must not take a slot with it."""
    slots = Slots(2)
    await slots.take(2)
    first, second = asyncio.create_task(slots.take(1)), asyncio.create_task(slots.take(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    slots.give(2)
    assert await second == 2
    slots.give(2)
    assert slots.free == 2


async def test_whoever_goes_first_has_a_lone_slot_in_moments() -> None:
    """Where few are free, so many are gathered that a claim is worth its while; but nobody who goes first waits longer
    than a call takes anyway."""
    slots = Slots(64)
    await slots.take(64)
    slots.give(3)
    gathering = asyncio.create_task(slots.take(64, first=True))
    await asyncio.sleep(0)
    slots.give(10)
    await asyncio.sleep(0)
    assert not gathering.done(), "thirteen are free"
    slots.give(3)
    assert await gathering == 16
    slots.give(1)
    assert await slots.take(64, first=True) == 1, "no more than that comes"
    slots.give(2)
    with mock.patch.object(time, "monotonic", return_value=time.monotonic() + 1):
        taking = asyncio.ensure_future(slots.take(64, first=True))
        await asyncio.sleep(0)
        assert taking.result() == 2, "all calls hang: none will come soon"
    slots.give(20)
    assert await slots.take(64, first=True) == 20, "there are enough at once"
