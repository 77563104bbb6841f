"""PostgreSQL's disk is full under load: callers are told so, nothing accepted is lost, and with room again all goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from tests.e2e.checker import check
from tests.e2e.disks import Disk, small_disk
from tests.e2e.parts import APIS, WORKERS, Parts, new_parts, until
from tests.e2e.test_outages import GROWTH_BYTES, load, resident_bytes, under_load

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(400)]
NOTICED_WITHIN_S = 60.0
FULL_S = 10.0
"""How long it stays full once that was noticed: longer than a hand-over's outcome is tried to be recorded."""
PER_SECOND = 15.0
DAY_S = 86_400
"""What is high would otherwise expire after five minutes, and a busy machine takes its time."""
Cramped = tuple[Parts, Disk, Disk]


@pytest.fixture(scope="module")
async def cramped() -> AsyncIterator[Cramped]:
    """Everything is up; tables, and the write-ahead log, each on a disk that can be filled."""
    async with new_parts() as made:
        with small_disk(made, "base") as tables, small_disk(made, "pg_wal") as wal:
            try:
                await made.start("postgres", "temporal")
                await made.migrate()
                await made.serve()
                yield made, tables, wal
            finally:
                await made.close()


async def until_unready(parts: Parts, *reasons: str) -> None:
    """Both API processes say that they can take nothing, and why."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(NOTICED_WITHIN_S):
        for url in parts.urls:
            while True:
                answer = await http.get(f"{url}/readyz")
                said = answer.json()["dependencies"]["postgres"].get("reason")
                if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and said in reasons:
                    break
                await asyncio.sleep(0.2)


async def test_a_full_disk_is_told_to_callers_and_loses_nothing(cramped: Cramped) -> None:
    parts, tables, _ = cramped
    async with load(parts, "tables") as sender:
        async with under_load(sender, parts, per_second=PER_SECOND, expires_in=DAY_S):
            before = {name: resident_bytes(parts, name) for name in APIS}
            await asyncio.to_thread(tables.fill)
            try:
                await until_unready(parts, "its disk is full")
                await every_answer_is_plain(parts)
                await asyncio.sleep(FULL_S)
                gained = {name: resident_bytes(parts, name) - before[name] for name in APIS}
            finally:
                tables.clear()
        assert sender.refused > 0
        assert all(gain < GROWTH_BYTES for gain in gained.values()), gained
        await asyncio.gather(*(parts.until_ready(name) for name in (*APIS, *WORKERS)))
        await check(sender, parts=parts)


async def every_answer_is_plain(parts: Parts) -> None:
    """Other routes find room for a while and then none: 503 and when to come again, never an error of ours."""
    headers, found = {"Authorization": f"Bearer {parts.key}"}, set()
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as http:
        for place in range(40):
            answer = await http.post(f"{parts.urls[0]}/v1/users", json={"id": f"u{place}", "name": "n" * 200})
            found.add(answer.status_code)
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                assert answer.json()["code"] == "unavailable"
                assert int(answer.headers["retry-after"]) > 0
    assert found <= {httpx.codes.CREATED, httpx.codes.SERVICE_UNAVAILABLE}


async def test_a_full_disk_of_the_log_ends_postgresql_and_loses_nothing(cramped: Cramped) -> None:
    """PostgreSQL ends itself, because it must not go on without its log; with room again it is started as it was."""
    parts, _, wal = cramped
    async with load(parts, "wal") as sender:
        async with under_load(sender, parts, per_second=PER_SECOND, expires_in=DAY_S):
            await asyncio.to_thread(wal.fill)
            try:
                await end_the_log(parts)
                assert any("No space left on device" in line for line in parts.children["postgres"].tail(500))
                await until_unready(parts, "cannot be reached")
                await until(lambda: sender.refused > 0, within_s=NOTICED_WITHIN_S)
            finally:
                wal.clear()
            await parts.start("postgres")
        await asyncio.gather(*(parts.until_ready(name) for name in (*APIS, *WORKERS)))
        await check(sender, parts=parts)


async def end_the_log(parts: Parts) -> None:
    """Use up the log's files that were there before the disk was full, 16 MB each, until PostgreSQL gives up for good."""
    async with asyncio.timeout(NOTICED_WITHIN_S):
        while parts.children["postgres"].running:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await parts.connect()
                while True:
                    await connection.execute("SELECT pg_switch_wal()")
            await asyncio.sleep(0.2)
