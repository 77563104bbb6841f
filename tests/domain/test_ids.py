"""Ids: their order is their time."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ids
from domain.ids import delivery_of, reference, referred, uuid7, uuid7_floor, uuid7_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.timedeltas(timedelta(days=1), timedelta(days=1_000_000)).map(lambda age: EPOCH + age)
MILLISECOND = timedelta(milliseconds=1)


def test_ids_of_a_process_only_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the clock stands still or steps back: cursors and the order of a timeline hang on it."""
    clock = iter([10**18, 10**18, 10**18 - 5 * 10**9, 10**18 + 1, 10**18])
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    made = [uuid7() for _ in range(5)]
    assert made == sorted(made)
    assert len(set(made)) == 5


def test_an_id_is_a_uuid_of_version_seven() -> None:
    """RFC 9562: version and variant, so that other tools read it too."""
    for _ in range(100):
        made = uuid7()
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"
    assert abs(uuid7_time(uuid7()) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_process_that_forked_has_random_numbers_of_its_own() -> None:
    """Catches: numbers fetched ahead and used by parent and child alike: two notifications with one id."""
    script = (
        "import os; from domain.ids import uuid7; uuid7(); read, write = os.pipe()\n"
        "if os.fork() == 0: os.write(write, str(uuid7()).encode()); os._exit(0)\n"
        "print(str(uuid7()), os.read(read, 36).decode())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    ours, childs = (UUID(word).int & ((1 << 62) - 1) for word in said)
    assert ours != childs


@given(moments)
def test_the_floor_is_its_millisecond(at: datetime) -> None:
    """Caught: through a float the floor came out one millisecond too low for one time in some hundreds; what a `from`
    filter or a partition's bound is made of must be exact."""
    floor = uuid7_floor(at)
    assert uuid7_time(floor) == at - timedelta(microseconds=at.microsecond % 1000)


@given(moments, st.integers(0, (1 << 74) - 1))
def test_every_id_of_a_millisecond_lies_between_two_floors(at: datetime, tail: int) -> None:
    """A range of time is a range of ids."""
    low = uuid7_floor(at)
    value = UUID(int=low.int | 7 << 76 | 2 << 62 | (tail & ((1 << 62) - 1)) | (tail >> 62) << 64)
    assert low < value < uuid7_floor(at + MILLISECOND)
    assert uuid7_time(value) == uuid7_time(low)


@given(moments, moments)
def test_floors_are_in_the_order_of_time(a: datetime, b: datetime) -> None:
    """Otherwise partitions would overlap."""
    if a <= b:
        assert uuid7_floor(a) <= uuid7_floor(b)


def test_a_reference_names_one_attempt() -> None:
    one = uuid7()
    assert referred(reference(one, 2, attempt=7)) == (one, 2, 7)
    assert referred(f"{one}-2") == (one, 2, 0), "a delivery id"
    assert delivery_of(f"{one}-2") == (one, 2)
    assert delivery_of(reference(one, 2, attempt=7)) is None
    assert len(reference(one, 9999, attempt=32_767)) <= 48
    for wrong in ("", "4711", f"{one}", f"{one}-0", f"{one}-2-0", f"{one}-2-32768", f"{one}-2-1-1", f"{one}-2-1\n"):
        assert referred(wrong) is None, wrong
