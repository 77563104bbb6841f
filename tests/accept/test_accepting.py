"""What is accepted is stored whole, once, and only then answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from api.accept import writer
from domain.lanes import Lane
from tests.accept.conftest import Api, body


async def row_of(api: Api, answer: Any) -> asyncpg.Record:
    row = await api.pool.fetchrow("SELECT * FROM notification WHERE id = $1", UUID(answer.json()["id"]))
    assert row is not None
    return row


async def test_the_answer_names_id_lane_and_place(api: Api) -> None:
    answer = await api.post(body(priority="high"))
    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    assert answer.json()["lane"] == "high"
    assert answer.headers["location"] == f"/v1/notifications/{answer.json()['id']}"
    got = await api.http.get(answer.headers["location"])
    assert got.json()["to"] == {"email": "fang@example.com"}
    assert got.json()["content"] == {"title": "你好", "text": "hello"}
    assert got.json()["status"] == "accepted"


async def test_lane_life_and_work_follow_from_the_request(api: Api) -> None:
    for priority, life in (("high", "PT5M"), ("medium", "P1D"), ("low", "P3D")):
        row = await row_of(api, await api.post(body(priority=priority)))
        assert row["lane"] == Lane.of(priority)
        assert row["expires_at"] - row["accepted_at"] == msgspec.convert(life, timedelta)
        work = await api.pool.fetchrow("SELECT * FROM work WHERE notification_id = $1", row["id"])
        assert work is not None
        assert (work["n"], work["lane"], work["due_at"]) == (0, row["lane"], row["accepted_at"])


async def test_life_counts_from_send_at(api: Api) -> None:
    later = datetime.now(UTC) + timedelta(hours=3)
    row = await row_of(api, await api.post(body(send_at=later.isoformat(), expires_in=60)))
    assert row["status"] == "scheduled"
    assert row["expires_at"] == later + timedelta(seconds=60)
    assert await api.pool.fetchval("SELECT due_at FROM work WHERE notification_id = $1", row["id"]) == later


async def test_a_template_is_pinned_and_its_variables_are_checked(api: Api) -> None:
    await api.pool.execute("INSERT INTO template (tenant, name, category, latest_version, published_version) "
                           "VALUES ('acme', 'shipped', 'orders', 2, 2)")  # fmt: skip
    schema = {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}}
    contents = {"en": {"default": {"title": "Order {{ order }}", "text": "shipped"}}}
    await api.pool.execute(
        "INSERT INTO template_version (tenant, name, version, variables, contents) VALUES ('acme', 'shipped', 2, $1, $2)",
        msgspec.json.encode(schema).decode(), msgspec.json.encode(contents).decode(),
    )  # fmt: skip
    asked = {"content": None, "template": "shipped"}
    missing = await api.post(body(**asked))
    assert missing.status_code == 422
    assert missing.json()["errors"][0] | {"detail": ""} == {"pointer": "/data/order", "code": "required", "detail": ""}
    wrong = await api.post(body(**asked, data={"order": 5}))
    assert wrong.json()["errors"][0]["pointer"] == "/data/order"
    row = await row_of(api, await api.post(body(**asked, data={"order": "A-77"})))
    assert (row["template"], row["template_version"], row["category"]) == ("shipped", 2, "orders")


async def test_many_at_once_are_all_stored(api: Api) -> None:
    """Group commit: what arrives while a COMMIT is in flight shares the next one, and each gets its own answer."""
    answers = await asyncio.gather(*(api.post(body(metadata={"n": n})) for n in range(300)))
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 300
    assert await api.count() == await api.count("work") == 300


async def test_a_batch_answers_in_order_and_a_bad_item_fails_alone(api: Api) -> None:
    items = [body(), body(to={"user": "u-404"}), 5, body(to={"user": "u-1"}), body(colour="red")]
    answer = await api.post({"notifications": items}, path="/v1/notifications/batch")
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["rejected"]) == (2, 3)
    assert ["id" in item for item in told["items"]] == [True, False, False, True, False]
    assert told["items"][1]["error"]["code"] == "recipient_unknown"
    assert told["items"][4]["error"]["errors"][0]["pointer"] == "/colour"
    assert await api.count() == 2


async def test_a_batch_has_at_most_a_thousand_items(api: Api) -> None:
    full = await api.post({"notifications": [body()] * 1000}, path="/v1/notifications/batch")
    assert full.json()["accepted"] == 1000
    over = await api.post({"notifications": [body()] * 1001}, path="/v1/notifications/batch")
    assert over.status_code == 422
    assert over.json()["errors"][0]["pointer"] == "/notifications"
    assert await api.count() == 1000


async def test_a_full_queue_refuses_at_once(api: Api, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "MOST_WAITING", 0)
    answer = await api.post(body())
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert await api.count() == 0


async def test_a_database_that_stands_still_is_told_and_what_waited_is_not_stored_later(api: Api, monkeypatch: Any) -> None:
    """Catches: requests that wait as long as the database does. Callers time out, come again, and everybody's requests
    are still in the queue when it goes on."""
    await api.post(body())  # key and statements are known
    monkeypatch.setattr(writer, "COMMIT_LIMIT_S", 1.0)
    monkeypatch.setattr(writer, "LOOK_EVERY_S", 0.05)
    async with api.pool.acquire() as other:
        standstill = other.transaction()
        await standstill.start()
        await other.execute("LOCK TABLE notification IN SHARE MODE")
        left = []
        for _ in range(2):  # one for each of the lane's writers
            left.append(asyncio.create_task(api.post(body())))
            await asyncio.sleep(0.2)
        answers = await asyncio.gather(*left, *(api.post(body()) for _ in range(8)))
        assert {(a.status_code, a.json()["code"]) for a in answers} == {(503, "unavailable")}
        assert all(a.headers["retry-after"] for a in answers)
        await standstill.rollback()
    assert (await api.post(body())).status_code == 202
    # The first request and the last one, and maybe those that had left for the database.
    assert 2 <= await api.count() <= 2 + len(left)


async def test_a_database_without_room_is_told_to_callers_and_to_whoever_asks_if_we_are_ready(api: Api) -> None:
    """Catches: a readiness that asks only whether the small row of its own finds room. It does, long after a notification
    finds none, and the balancer goes on sending."""
    await api.pool.execute("""
        CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER no_room BEFORE INSERT ON notification FOR EACH ROW EXECUTE FUNCTION no_room()""")
    answer = await api.post(body())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
    ready = await api.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["postgres"] == {"ready": False, "reason": "its disk is full"}
    await api.pool.execute("DROP TRIGGER no_room ON notification")
    assert (await api.post(body())).status_code == 202
    assert (await api.http.get("/readyz")).status_code == 200


async def test_a_row_that_cannot_be_stored_fails_alone(api: Api) -> None:
    """Halving finds the poison; the requests that shared its statement are stored."""
    await api.pool.execute("ALTER TABLE notification ADD CONSTRAINT no_poison CHECK (category <> 'poison')")
    answers = await asyncio.gather(*(api.post(body(category="poison" if n == 20 else "")) for n in range(40)))
    assert [a.status_code for a in answers].count(202) == 39
    assert answers[20].status_code >= 422
    assert await api.count() == 39


async def test_temporal_away_does_not_matter_to_accept(api: Api) -> None:
    """Grouping makes a cohort and cannot start it; the sweep will. The request knows nothing of it."""
    answer = await api.post(body(priority="high"))
    assert answer.status_code == 202
    ready = await api.http.get("/readyz")
    assert ready.status_code == 200
