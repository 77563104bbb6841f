"""The line in front of what few may do at a time: bounded, and fair among the tenants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from api.line import Line
from domain.errors import Overloaded

LONG_S = 20.0


class Desk:
    """Does a line's work: says whose turn began, and goes on when it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.going = asyncio.Event()

    def work(self, name: str) -> Callable[[], Coroutine[Any, Any, str]]:
        async def work() -> str:
            self.begun.append(name)
            await self.going.wait()
            return name

        return work


async def test_a_line_behind_a_line_has_what_is_left_of_its_time() -> None:
    """Catches: a batch against repeats, told 503 after its time, whose second line began to count anew."""
    outer, inner, held, desk = Line(at_once=2, most=4), Line(at_once=1, most=4), Desk(), Desk()
    desk.going.set()
    first = asyncio.create_task(inner.run(held.work("held"), whose="a", within_s=LONG_S))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await outer.run(lambda: inner.run(desk.work("late"), whose="a", within_s=LONG_S), whose="a", within_s=0.01)
    await asyncio.sleep(0.05)
    held.going.set()
    await first
    await asyncio.sleep(0.05)
    assert desk.begun == []
    await outer.run(lambda: inner.run(desk.work("on time"), whose="a", within_s=LONG_S), whose="a", within_s=LONG_S)


async def test_a_line_is_bounded_and_drops_what_did_not_begin() -> None:
    line, desk = Line(at_once=1, most=4), Desk()
    first = asyncio.create_task(line.run(desk.work("first"), whose="a", within_s=LONG_S))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await line.run(desk.work("second"), whose="a", within_s=0.01)
    third = asyncio.create_task(line.run(desk.work("third"), whose="a", within_s=LONG_S))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await line.run(desk.work("fourth"), whose="a", within_s=LONG_S)
    desk.going.set()
    assert [await first, await third] == ["first", "third"] == desk.begun


async def test_what_is_given_up_at_work_keeps_its_place() -> None:
    line, desk = Line(at_once=1, most=2), Desk()
    with pytest.raises(TimeoutError):
        await line.run(desk.work("given up"), whose="a", within_s=0.01)
    with pytest.raises(Overloaded):
        await line.run(desk.work("more"), whose="a", within_s=0.01)
    desk.going.set()
    await asyncio.sleep(0.01)
    assert await line.run(desk.work("next"), whose="a", within_s=LONG_S) == "next"


async def test_turns_go_round_the_tenants() -> None:
    line, desk = Line(at_once=1, most=100), Desk()
    names = ["a", "a", "a", "a", "b", "b", "c"]
    tasks = [asyncio.create_task(line.run(desk.work(name), whose=name, within_s=LONG_S)) for name in names]
    await asyncio.sleep(0)
    desk.going.set()
    await asyncio.gather(*tasks)
    assert desk.begun == ["a", "a", "b", "c", "a", "b", "a"], "the first at once, then in turn"


async def test_who_floods_the_line_leaves_room_and_places() -> None:
    line, desk = Line(at_once=3, most=16, of_one=2), Desk()
    flood: list[asyncio.Task[str]] = []
    for name in ("a", "b"):
        flood += [asyncio.create_task(line.run(desk.work(name), whose=name, within_s=LONG_S)) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert Counter(desk.begun) == {"a": 2, "b": 1}
    others = [asyncio.create_task(line.run(desk.work(n), whose=n, within_s=LONG_S)) for n in ("c", "d")]
    await asyncio.sleep(0)
    desk.going.set()
    assert await asyncio.gather(*others) == ["c", "d"]
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert Counter(map(str, ended)) == {"a": 8, "b": 4, str(Overloaded()): 88}


async def test_what_is_waited_for_before_the_turn_is_in_nobodys_way() -> None:
    line, desk, settled = Line(at_once=1, most=8), Desk(), asyncio.Event()
    desk.going.set()

    async def after() -> None:
        await settled.wait()

    waiting = [asyncio.create_task(line.run(desk.work("a"), whose="a", within_s=LONG_S, after=after)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await line.run(desk.work("a"), whose="a", within_s=LONG_S)
    assert await line.run(desk.work("b"), whose="b", within_s=LONG_S) == "b"
    with pytest.raises(TimeoutError):
        await line.run(desk.work("c"), whose="c", within_s=0.01, after=after)
    settled.set()
    assert await asyncio.gather(*waiting) == ["a"] * 4
    assert desk.begun == ["b", *"aaaa"]


@pytest.mark.parametrize("turns", range(4))
async def test_who_leaves_takes_nothing_along(turns: int) -> None:
    """Callers leave before their turn, in the moment of it, or at work: no place is lost, and nobody is remembered."""
    line, desk = Line(at_once=2, most=1000), Desk()
    tasks = [asyncio.create_task(line.run(desk.work("x"), whose=f"tenant-{n % 100}", within_s=LONG_S)) for n in range(300)]
    await asyncio.sleep(0)
    for task in tasks[50:]:
        task.cancel()
    for task in tasks[:50:2]:
        task.cancel()
    desk.going.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    for task in tasks[1:50:4]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert [await line.run(desk.work("y"), whose=str(n), within_s=LONG_S) for n in range(3)] == ["y"] * 3
    assert (line._free, line._room) == (2, 1000)
    assert [*line._inside, *line._at_work, *line._waiting] == []
