"""All that is held about a person, and figures about it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.postgres.lists import user_stats
from infra.postgres.tables import PERSONAL
from infra.postgres.users import exporting
from infra.postgres.users.exporting import SECTIONS, ExportRepository
from tests.api.conftest import TENANT, Api, codes, insert_delivery, insert_notification, insert_step
from tests.api.erasing_support import MARK, OTHER, fill


def items(document: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """What stands at `a/b`: b of every a."""
    found: list[Any] = [document]
    for name in section.split("/"):
        found = [one for part in found for one in (part[name] if isinstance(part[name], list) else [part[name]])]
    return found


async def test_every_column_of_the_list_is_in_the_document(api: Api) -> None:
    """Catches: a new column with personal data that the export does not know."""
    await fill(api, "u-1", MARK)
    await fill(api, "u-2", OTHER)
    answer = await api.get("/v1/users/u-1/export", key="auditor")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert set(SECTIONS) == set(PERSONAL)
    for table, columns in PERSONAL.items():
        rows = items(document, SECTIONS[table])
        for column in columns:
            assert any(MARK in json.dumps(row[column]) for row in rows), f"{table}.{column}"
    assert OTHER not in answer.text
    assert (document["format"], document["user"]["id"]) == ("tongda.user/1", "u-1")
    assert document["notifications"][0]["content"] == {"text": MARK}


async def test_of_one_who_has_nothing_and_of_one_who_is_not_there(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    document = (await api.get("/v1/users/u-1/export")).json()
    lists = ("identities", "devices", "preferences", "suppressions", "stored_answers", "notifications", "inbox")
    assert [document[name] for name in lists] == [[]] * 7
    assert (await api.get("/v1/users/nobody/export")).status_code == 404
    assert (await api.get("/v1/users/u-1/export", key="operator")).status_code == 403


async def test_after_the_erasure_only_the_trace_is_left(api: Api) -> None:
    await fill(api, "u-1", MARK)
    await api.post("/v1/users/u-1/erase")
    answer = await api.get("/v1/users/u-1/export")
    assert MARK not in answer.text
    assert len(answer.json()["notifications"]) == 2


async def test_many_come_in_pages_and_no_piece_holds_them_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a document that is built before it is sent. What comes in while it is read is seen by its later pages."""
    monkeypatch.setattr(exporting, "PAGE", 10)
    await api.post("/v1/users", {"id": "u-1"})
    content = json.dumps({"text": "x" * 1000})
    made = [await insert_notification(api.pool, user_id="u-1", content=content) for _ in range(95)]
    pieces: list[bytes] = []
    async for piece in await ExportRepository(api.container.database).open(TENANT, "u-1"):
        pieces.append(piece)
        if len(piece) > 10_000 and len(made) == 95:
            made.append(await insert_notification(api.pool, user_id="u-1", content=content))
    assert [row["id"] for row in json.loads(b"".join(pieces))["notifications"]] == [str(i) for i in made]
    assert max(map(len, pieces)) < 10 * 2000


async def test_figures_by_status_category_and_channel(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    empty = (await api.get("/v1/users/u-1/stats", key="viewer")).json()
    assert (empty["total"], empty["by_status"], empty["first_at"], empty["complete"]) == (0, {}, None, True)
    old = datetime.now(UTC) - timedelta(days=3)
    for status, category, at in (("sent", "orders", old), ("failed", "orders", None), ("sent", "news", None)):
        times = {} if at is None else {"accepted_at": at}
        done = await insert_notification(
            api.pool, user_id="u-1", status=status, final=True, category=category, **times
        )  # fmt: skip
        await insert_delivery(api.pool, done, status=status)
    waits = await insert_notification(api.pool, user_id="u-1")
    await insert_step(api.pool, waits)
    await insert_notification(api.pool, user_id="u-1", deleted_at=datetime.now(UTC))
    await insert_notification(api.pool, user_id="u-2")
    found = (await api.get("/v1/users/u-1/stats")).json()
    assert (found["total"], found["complete"], found["inbox_unread"]) == (4, True, 0)
    assert found["by_status"] == {"failed": 1, "processing": 1, "sent": 2}
    assert found["by_category"] == {"news": 1, "orders": 3}
    assert found["by_channel"] == {"email": {"failed": 1, "sent": 2}}
    assert datetime.fromisoformat(found["first_at"]) == old
    since = {"from": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    assert (await api.get("/v1/users/u-1/stats", params=since)).json()["total"] == 3
    assert (await api.get("/v1/users/nobody/stats")).status_code == 404


async def test_a_span_that_holds_nothing_is_refused(api: Api) -> None:
    await api.post("/v1/users", {"id": "u-1"})
    span = {"from": "2026-12-01T09:00:00Z", "to": "2026-12-01T08:00:00Z"}
    answer = await api.get("/v1/users/u-1/stats", params=span)
    assert (answer.status_code, codes(answer)) == (422, [("to", "range")])


async def test_only_a_bounded_number_is_counted_and_that_is_said(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stats, "MOST_COUNTED", 3)
    await api.post("/v1/users", {"id": "u-1"})
    for _ in range(5):
        await insert_notification(api.pool, user_id="u-1")
    found = (await api.get("/v1/users/u-1/stats")).json()
    assert (found["total"], found["complete"]) == (3, False)
