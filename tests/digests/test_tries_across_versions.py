"""The migrations to what remembers all tries, and processes of the version before them that still run."""

from __future__ import annotations

import asyncio
from importlib import resources
from uuid import UUID

import pytest

from domain.channels import Channel
from infra.postgres.accept import slots
from infra.postgres.migrations import versions
from tests.digests.conftest import Office
from tests.digests.test_repeats import made_again, posted, state
from tests.digests.test_tries_of_repeats import tried
from tests.engine.gates import Gate, done_or_blocked, gated
from tests.engine.support import LOST, PERMANENT

TAKE_BEFORE = """
INSERT INTO dedupe AS d (slot, tenant, notification_id, until)
SELECT slot, $4, id, clock_timestamp() + life FROM unnest($1::bytea[], $2::uuid[], $3::interval[]) s(slot, id, life)
ORDER BY slot
ON CONFLICT (slot) DO UPDATE SET notification_id = EXCLUDED.notification_id, until = EXCLUDED.until
WHERE d.until <= clock_timestamp()
   OR EXISTS (SELECT FROM notification n WHERE n.id = d.notification_id AND n.final AND n.status <> ALL ($5::text[])
              AND NOT EXISTS (SELECT FROM notification o WHERE o.id = n.origin AND o.status = ANY ($5)))"""

GO_OVER_BEFORE = """
WITH held AS MATERIALIZED (
    SELECT slot, notification_id FROM dedupe WHERE slot = ANY (ARRAY(
        SELECT d.slot FROM unnest($1::uuid[]) o(origin)
        JOIN LATERAL (SELECT slot FROM dedupe WHERE notification_id = o.origin OFFSET 0) d ON true))
    ORDER BY slot FOR UPDATE
)
UPDATE dedupe d SET notification_id = o.id
FROM held h JOIN unnest($1::uuid[], $2::uuid[]) o(origin, id) ON o.origin = h.notification_id
WHERE d.slot = h.slot AND d.notification_id = h.notification_id"""

UNDO = """
DROP TRIGGER keep_earlier_tries ON dedupe; DROP FUNCTION keep_earlier_tries;
DROP INDEX dedupe_earlier; ALTER TABLE dedupe DROP COLUMN earlier"""


def script(name: str) -> str:
    return resources.files(versions).joinpath(name).read_text(encoding="utf-8")


async def remembered(office: Office) -> dict[UUID, list[UUID] | None]:
    rows = await office.pool.fetch("SELECT notification_id, earlier FROM dedupe")
    return {row["notification_id"]: row["earlier"] for row in rows}


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process of the version before writes the slots, until this is undone."""
    monkeypatch.setattr(slots, "_TAKE", TAKE_BEFORE)
    monkeypatch.setattr(slots, "_GO_OVER", GO_OVER_BEFORE)
    return monkeypatch


async def test_what_the_version_before_tries_anew_stays_an_original(office: Office, before: pytest.MonkeyPatch) -> None:
    """Caught: its new try failed, and what may have arrived was accepted and sent again."""
    tries = await tried(office, LOST, PERMANENT)
    before.undo()
    assert await remembered(office) == {tries[-1]: tries[:-1]}
    assert await state(office.api, await posted(office.api)) == ("suppressed", "duplicate", str(tries[-1]))


async def test_what_the_version_before_takes_over_has_no_earlier_tries(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caught: the lost one of a window that had ended counted for the next, of which nothing has arrived."""
    await tried(office, LOST, PERMANENT)
    await office.pool.execute("UPDATE dedupe SET until = now() - interval '1 second'")
    monkeypatch.setattr(slots, "_TAKE", TAKE_BEFORE)
    [failed] = await tried(office, PERMANENT)
    monkeypatch.undo()
    assert await remembered(office) == {failed: None}
    assert (await state(office.api, await posted(office.api)))[0] == "accepted"


async def test_tries_of_before_the_migrations_are_remembered(office: Office) -> None:
    """The first adds, under a lock that stops accepts, and the second fills, with locks of what it fills alone."""
    tries = await tried(office, LOST, PERMANENT, PERMANENT)
    other = await posted(office.api, content={"text": "other"})
    await office.pool.execute(UNDO)
    await office.pool.execute(script("0033_tries_of_originals.sql"))
    assert await remembered(office) == {tries[-1]: None, other: None}
    async with office.pool.acquire() as connection, connection.transaction():
        await connection.execute(script("0034_earlier_tries.sql"))
        modes = await connection.fetch(
            "SELECT mode FROM pg_locks WHERE relation = 'dedupe'::regclass AND pid = pg_backend_pid()"
        )
        assert {row["mode"] for row in modes} <= {"AccessShareLock", "RowExclusiveLock"}
        assert (await state(office.api, await posted(office.api, content={"text": "more"})))[0] == "accepted"
        assert (await state(office.api, await posted(office.api, content={"text": "other"})))[2] == str(other)
    found = await remembered(office)
    assert (found[tries[-1]], found[other]) == (tries[:-1], None)


async def test_what_is_written_before_it_is_filled_is_kept(office: Office) -> None:
    """A new try of an old one is in no chain of origins from the newest; and what has ended is left alone."""
    [first, again] = await tried(office, LOST, PERMANENT)
    resent = await made_again(office, first, how="resend")
    await office.deliver()
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    old = await posted(office.api, content={"text": "ended"})
    await office.deliver()
    ended = await made_again(office, old, how="retry")
    await office.pool.execute("UPDATE dedupe SET until = now(), earlier = NULL WHERE notification_id = $1", ended)
    await office.pool.execute(script("0034_earlier_tries.sql"))
    assert await remembered(office) == {resent: [first, again], ended: None}


async def test_a_try_made_by_the_version_before_while_it_is_filled_is_kept(
    office: Office, before: pytest.MonkeyPatch
) -> None:
    """The fill has read the slot before, and waits for it: it adds what it knows to what is there by then."""
    [first, second, third] = await tried(office, LOST, PERMANENT, PERMANENT)
    await office.pool.execute("UPDATE dedupe SET earlier = NULL")
    gate = Gate("UPDATE dedupe", after=True)
    office.api.container.changes.retries._retries._pool = gated(office.pool, gate)
    retrying = asyncio.create_task(made_again(office, third, how="retry"))
    await gate.reached.wait()
    filling = asyncio.create_task(office.pool.execute(script("0034_earlier_tries.sql")))
    await done_or_blocked(office.pool, filling)
    waits = not filling.done()
    gate.open.set()
    await filling
    assert await remembered(office) == {await retrying: [first, second, third]}
    assert waits
