"""The code is in the message and nowhere else: every column of the database is searched, and the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from tests.otp.conftest import Otp, code_in, wrong

log = structlog.get_logger()

COLUMNS = """
SELECT c.relname AS table, a.attname AS column, a.atttypid::regtype::text AS type FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace"""


async def places(pool: asyncpg.Pool, text: str) -> AsyncIterator[str]:
    """Each column of each table that holds `text`, whatever its type; bytes are read as text and as hexadecimal."""
    for row in await pool.fetch(COLUMNS):
        shown = f'"{row["column"]}"::text'
        if row["type"] == "bytea":
            shown = f"encode(\"{row['column']}\", 'escape') || encode(\"{row['column']}\", 'hex')"
        query = f'SELECT EXISTS (SELECT FROM "{row["table"]}" WHERE position($1 IN {shown}) > 0)'
        if await pool.fetchval(query, text):
            yield f"{row['table']}.{row['column']}"


async def test_the_code_is_in_no_column_and_no_log(otp: Otp, caplog: pytest.LogCaptureFixture) -> None:
    """Ten digits, so that nothing else is the same by accident. Sent, guessed at, sent again, used; what is refused too."""
    caplog.set_level("DEBUG")
    otp.unlimited()
    with capture_logs() as logged:
        codes, answers = await whole_life(otp)
        log.info("canary")
    assert [answer.status_code for answer in answers] == [422, 422, 200, 422, 422, 422, 200, 200, 200, 200]
    assert "canary" in str(logged)
    assert [place async for place in places(otp.api.pool, "canary-77")] != [], "the search finds nothing where it should"
    for code in codes:
        assert [place async for place in places(otp.api.pool, code)] == []
        assert code not in str(logged) + caplog.text
        assert all(code not in answer.text for answer in answers)


async def whole_life(otp: Otp) -> tuple[list[str], list[httpx.Response]]:
    """Both codes of one id, and every answer."""
    wanted: dict[str, Any] = {"length": 10, "purpose": "login", "metadata": {"order": "canary-77"}, "once": "k"}
    made = await otp.made(**wanted)
    first = code_in(await otp.delivered(made["notification_id"]))
    again = (await otp.resend(made["id"], once="r")).json()
    second = code_in(await otp.delivered(again["notification_id"]))
    return [first, second], [
        await otp.verify(made["id"], wrong(second), once="v"),
        await otp.verify(made["id"], first),
        await otp.verify(made["id"], second, once="v"),
        await otp.verify(made["id"], second),
        await otp.api.post(f"/v1/otp/{made['id']}/verify", {"code": f"{second}x"}),
        await otp.api.post(f"/v1/otp/{made['id']}/verify", {"code": second, "x": second}),
        await otp.api.get(f"/v1/notifications/{again['notification_id']}"),
        await otp.api.get(f"/v1/notifications/{again['notification_id']}/timeline"),
        await otp.make(**wanted),
        await otp.api.get("/metrics", key=None),
    ]


async def test_guesses_leave_no_hash_of_their_body(otp: Otp) -> None:
    """SHA-256 of `{"code":"123456"}` under an Idempotency-Key is as good as the code: a million tries find it."""
    otp_id, code = await otp.sent()
    await otp.verify(otp_id, wrong(code), once="v")
    await otp.verify(otp_id, code, once="v")
    assert await otp.count("idempotency") == 0
