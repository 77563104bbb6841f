"""The same key and body give the same answer, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.row import Row
from tests.accept.conftest import Api, body


async def test_the_same_request_again_gets_the_first_answer(api: Api) -> None:
    first = await api.post(body(), key="k")
    again = await api.post(body(), key="k")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert await api.count() == 1


async def test_another_body_under_the_same_key_is_a_conflict(api: Api) -> None:
    await api.post(body(), key="k")
    other = await api.post(body(priority="high"), key="k")
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_conflict"
    assert await api.count() == 1


async def test_two_with_one_key_in_one_commit(api: Api) -> None:
    """Both arrive while a commit is in flight: one statement must not take the second for the first, nor store it."""
    answers = await asyncio.gather(*(api.post(body(), key="same") for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [202]
    assert len({a.json()["id"] for a in answers}) == 1
    assert await api.count() == 1


async def test_two_bodies_with_one_key_in_one_commit(api: Api) -> None:
    answers = await asyncio.gather(api.post(body(), key="same"), api.post(body(priority="low"), key="same"))
    assert sorted(a.status_code for a in answers) == [202, 409]
    assert await api.count() == 1


async def test_a_key_belongs_to_its_route_and_app(api: Api, database: str) -> None:
    from infra.postgres.bootstrap import bootstrap

    await api.post(body(), key="k")
    batch = await api.post({"notifications": [body()]}, path="/v1/notifications/batch", key="k")
    assert batch.status_code == 202
    other = await bootstrap(database, tenant="acme", app="crm", name="crm", roles=["sender"])
    answer = await api.http.post(
        "/v1/notifications", json=body(), headers={"Idempotency-Key": "k", "Authorization": f"Bearer {other}"}
    )
    assert answer.status_code == 202
    assert await api.count() == 3


async def test_a_batch_is_replayed_whole(api: Api) -> None:
    posted = {"notifications": [body(), body(colour="red"), body(priority="high")]}
    first = await api.post(posted, path="/v1/notifications/batch", key="b")
    again = await api.post(posted, path="/v1/notifications/batch", key="b")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.content == first.content
    assert await api.count() == 2
    other = await api.post({"notifications": [body()]}, path="/v1/notifications/batch", key="b")
    assert other.status_code == 409


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_commit_whose_answer_is_lost_is_found_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """The connection breaks after COMMIT: the group is written again, which changes nothing, and is answered as new."""
    store, calls = AcceptRepository.store, 0

    async def lossy(self: AcceptRepository, rows: Sequence[Row], **how: Any) -> set[UUID]:
        nonlocal calls
        calls += 1
        found = await store(self, rows, **how)
        if calls == 1:
            raise ConnectionResetError
        return found

    monkeypatch.setattr(AcceptRepository, "store", lossy)
    answer: Any = await api.post(body(), key=key)
    assert answer.status_code == 202, answer.text
    assert calls == 2
    assert await api.count() == await api.count("work") == 1
    assert await api.pool.fetchval("SELECT id FROM notification") == UUID(answer.json()["id"])


async def test_a_group_that_is_halved_after_a_lost_commit_is_found_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The COMMIT's answer is lost, and the repetition is refused as if a row were to blame. The halves have been sent
    before: a row that is there already is no row that cannot be stored."""
    store, losses = AcceptRepository.store, [ConnectionResetError(), ValueError()]

    async def lossy(self: AcceptRepository, rows: Sequence[Row], **how: Any) -> set[UUID]:
        found = await store(self, rows, **how)
        if losses and len(rows) > 1:
            raise losses.pop(0)
        return found

    await api.post(body(priority="low"))  # so that nothing has to be asked for and the others are one group
    monkeypatch.setattr(AcceptRepository, "store", lossy)
    answers = await asyncio.gather(*(api.post(body()) for _ in range(8)))
    assert not losses
    assert [answer.status_code for answer in answers] == [202] * 8
    assert await api.count() == await api.count("work") == 9


async def test_the_database_away_is_told_and_stores_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> set[UUID]:
        raise ConnectionRefusedError

    monkeypatch.setattr(AcceptRepository, "store", away)
    monkeypatch.setattr("api.accept.writer.AGAIN_FOR_S", 0.2)
    answer = await api.post(body(), key="k")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    monkeypatch.undo()
    assert (await api.post(body(), key="k")).status_code == 202
    assert await api.count() == 1
