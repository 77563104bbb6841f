"""What every event store does: in memory, on PostgreSQL, on Cassandra."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from domain.history import MAX_PAGE, Event, EventStore, Place
from domain.ids import uuid7
from tests.history.events import START, event


async def test_what_is_appended_is_read_as_it_was(store: EventStore) -> None:
    full = event(uuid7(), n=3, cohort=uuid7(), detail={"attempt": 2, "class": "RETRY", "nested": {"list": [1, None, True]}})
    bare = event(full.notification_id, at=START + timedelta(microseconds=1))
    await store.append([bare, full])
    assert list(await store.timeline(full.notification_id)) == [full, bare]


async def test_appended_twice_is_there_once(store: EventStore) -> None:
    """A stream delivers again after a crash; a timeline that tells a send twice would be a lie."""
    notification = uuid7()
    events = [event(notification, detail={"i": i}) for i in range(3)]
    await store.append([*events, events[0]])
    await store.append(events)
    assert list(await store.timeline(notification)) == events


async def test_the_order_is_by_time_and_then_by_id(store: EventStore) -> None:
    """To the microsecond: Cassandra's own timestamps would stop at the millisecond."""
    notification = uuid7()
    ids = [uuid7() for _ in range(4)]
    late_but_first = event(notification, at=START, event_id=ids[3])
    same = [event(notification, at=START + timedelta(microseconds=1), event_id=i) for i in (ids[0], ids[2])]
    last = event(notification, at=START + timedelta(microseconds=2), event_id=ids[1])
    await store.append([last, same[1], late_but_first, same[0]])
    assert list(await store.timeline(notification)) == [late_but_first, *same, last]


async def test_a_time_of_another_zone_is_the_same_moment(store: EventStore) -> None:
    shanghai = event(uuid7(), at=START.astimezone(timezone(timedelta(hours=8))))
    await store.append([shanghai])
    (read,) = await store.timeline(shanghai.notification_id)
    assert read.at == START
    assert read.at.tzinfo is not None


async def test_many_notifications_in_one_append(store: EventStore) -> None:
    notifications = [uuid7() for _ in range(120)]
    events = [event(one, at=START + timedelta(seconds=s)) for s in (1, 0) for one in notifications]
    await store.append(events)
    for i, one in enumerate(notifications):
        assert list(await store.timeline(one)) == [events[120 + i], events[i]]


async def test_nothing_appended_and_nothing_found(store: EventStore) -> None:
    await store.append([])
    assert list(await store.timeline(uuid7())) == []


@pytest.mark.parametrize("code", ["余额不足", 'it\'s "quoted" \\ %s ? $1', "emoji 🧨", "a\nb\tc", "", "x" * 20_000])
async def test_any_text_is_a_code(store: EventStore, code: str) -> None:
    one = event(uuid7(), kind=code, detail={"code": code, code: "key"})
    await store.append([one])
    assert list(await store.timeline(one.notification_id)) == [one]


async def test_concurrent_appends_lose_nothing(store: EventStore) -> None:
    """Several streams and a redelivery at once, over the same notifications, in different orders."""
    notifications = [uuid7() for _ in range(10)]
    parts = [[event(one, at=START + timedelta(seconds=s)) for one in notifications] for s in range(20)]
    await asyncio.gather(*(store.append(part) for part in parts), *(store.append(part[::-1]) for part in parts))
    for i, one in enumerate(notifications):
        assert list(await store.timeline(one)) == [part[i] for part in parts]


async def test_a_long_timeline_is_read_in_pages(store: EventStore) -> None:
    """Each event on one page, whatever the page's size, also where many share one moment."""
    notification = uuid7()
    events = [event(notification, at=START + timedelta(milliseconds=i // 40)) for i in range(1_000)]
    await store.append(events[::-1])
    assert list(await store.timeline(notification, limit=MAX_PAGE)) == events
    for size in (7, 250, 999):
        pages: list[Event] = []
        after: Place | None = None
        while page := await store.timeline(notification, after=after, limit=size):
            assert len(page) == min(size, 1_000 - len(pages))
            pages += page
            after = page[-1].place
        assert pages == events


async def test_a_place_beyond_the_end_has_nothing_after_it(store: EventStore) -> None:
    one = event(uuid7())
    await store.append([one])
    assert list(await store.timeline(one.notification_id, after=one.place)) == []
    before = Place(START - timedelta(days=1), uuid7())
    assert list(await store.timeline(one.notification_id, after=before)) == [one]


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
async def test_a_page_of_impossible_size_is_refused(store: EventStore, limit: int) -> None:
    with pytest.raises(ValueError, match="1 to"):
        await store.timeline(uuid7(), limit=limit)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        event(uuid7(), at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
