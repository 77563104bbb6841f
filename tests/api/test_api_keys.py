"""The life of an API key."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api import keyring
from api.keyring import KeyRing
from domain.errors import Unauthenticated, Unavailable
from infra.clock import ManualClock
from infra.postgres.tenants.api_keys import ApiKeyRepository, FoundKey
from tests.api.conftest import Api, codes

NEW: dict[str, Any] = {"name": "CRM", "app": "shop", "roles": ["sender"]}


async def works(api: Api, key: str) -> bool:
    status = (await api.get("/v1/users", key=key)).status_code
    assert status in {200, 401}
    return status == 200


async def test_a_key_is_shown_once_and_stored_as_a_hash(api: Api) -> None:
    made = await api.post("/v1/api-keys", NEW)
    key: str = made.json()["key"]
    assert (made.status_code, key[:3]) == (201, "tk_")
    assert await works(api, key)
    read = (await api.get(made.headers["location"])).json()
    assert read == {name: value for name, value in made.json().items() if name != "key"}
    assert read["hint"].endswith(key[-4:])
    assert read["created_by"] is not None
    row = await api.pool.fetchrow("SELECT * FROM api_key WHERE id = $1", made.json()["id"])
    assert row is not None
    assert row["key_hash"] == hashlib.sha256(key.encode()).digest()
    assert key not in str(dict(row))


async def test_a_repetition_does_not_store_or_show_the_key(api: Api) -> None:
    first = await api.post("/v1/api-keys", NEW, once="k")
    again = await api.post("/v1/api-keys", NEW, once="k")
    assert (again.status_code, again.json()) == (200, {**first.json(), "key": None})
    kept = await api.pool.fetchval("SELECT answer FROM idempotency")
    assert first.json()["key"].encode() not in kept


async def test_a_repetition_after_the_end_that_it_asks_for(timed_api: Api, clock: ManualClock) -> None:
    """It was made: what has passed since is no reason to say that it was not."""
    new = {**NEW, "expires_at": (clock.now() + timedelta(hours=1)).isoformat()}
    first = await timed_api.post("/v1/api-keys", new, once="k")
    clock.advance(timedelta(hours=2))
    again = await timed_api.post("/v1/api-keys", new, once="k")
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    late = await timed_api.post("/v1/api-keys", new, once="other")
    assert (late.status_code, codes(late)) == (422, [("/expires_at", "range")])


async def test_a_revoked_key_is_refused_at_once_here(api: Api) -> None:
    made = (await api.post("/v1/api-keys", NEW)).json()
    assert await works(api, made["key"])
    for _ in range(2):
        assert (await api.call("DELETE", f"/v1/api-keys/{made['id']}")).status_code == 204
    assert not await works(api, made["key"])
    assert (await api.get(f"/v1/api-keys/{made['id']}")).json()["state"] == "revoked"


async def test_a_revoked_key_is_refused_elsewhere_within_its_time(api: Api) -> None:
    clock = ManualClock()
    elsewhere = KeyRing(ApiKeyRepository(api.container.database), clock=clock)
    made = (await api.post("/v1/api-keys", NEW)).json()
    header = f"Bearer {made['key']}".encode()
    assert (await elsewhere.authenticate(header)).app == "shop"
    await api.call("DELETE", f"/v1/api-keys/{made['id']}")
    assert elsewhere.remembered(header) is not None
    clock.advance(timedelta(seconds=keyring.KNOWN_FOR_S))
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(header)


async def test_an_expired_key_is_refused_at_once(timed_api: Api, clock: ManualClock) -> None:
    """Also by a process that still remembers it: its time is over before that of the memory is."""
    api, ends = timed_api, clock.now() + timedelta(hours=1)
    made = (await api.post("/v1/api-keys", {**NEW, "expires_at": ends.isoformat()})).json()
    clock.set(ends - timedelta(microseconds=1))
    assert await works(api, made["key"])
    clock.set(ends)
    assert not await works(api, made["key"])
    assert (await api.get(f"/v1/api-keys/{made['id']}")).json()["state"] == "expired"


async def test_an_expired_key_is_over_for_the_database_too(api: Api) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = (await api.post("/v1/api-keys", {**NEW, "expires_at": ends})).json()
    await api.pool.execute("UPDATE api_key SET expires_at = clock_timestamp() WHERE id = $1", made["id"])
    assert not await works(api, made["key"])
    rotated = await api.post(f"/v1/api-keys/{made['id']}/rotate")
    assert (rotated.status_code, rotated.json()["code"]) == (409, "key_revoked")


async def test_rotation_replaces_a_key(api: Api) -> None:
    old = (await api.post("/v1/api-keys", NEW)).json()
    assert await works(api, old["key"])
    new = await api.post(f"/v1/api-keys/{old['id']}/rotate")
    assert new.status_code == 201
    assert {name: new.json()[name] for name in NEW} == NEW
    assert await works(api, new.json()["key"])
    assert not await works(api, old["key"])


async def test_rotation_can_leave_time_to_change_over(timed_api: Api, clock: ManualClock) -> None:
    api = timed_api
    old = (await api.post("/v1/api-keys", NEW)).json()
    new = (await api.post(f"/v1/api-keys/{old['id']}/rotate", {"overlap_seconds": 3600})).json()
    assert await works(api, old["key"])
    clock.set(clock.now() + timedelta(minutes=59))
    assert await works(api, old["key"])
    clock.set(clock.now() + timedelta(minutes=2))
    assert not await works(api, old["key"])
    assert await works(api, new["key"])


async def test_two_rotations_at_once_leave_one_heir(api: Api) -> None:
    old = (await api.post("/v1/api-keys", NEW)).json()
    answers = await asyncio.gather(*(api.post(f"/v1/api-keys/{old['id']}/rotate") for _ in range(4)))
    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409]


async def test_nobody_gets_or_takes_a_mightier_key(api: Api) -> None:
    owners = (await api.post("/v1/api-keys", {**NEW, "roles": ["owner"]})).json()["id"]
    for method, path, body in (
        ("POST", "/v1/api-keys", {**NEW, "roles": ["sender", "owner"]}),
        ("POST", f"/v1/api-keys/{owners}/rotate", {}),
        ("DELETE", f"/v1/api-keys/{owners}", None),
    ):
        answer = await api.call(method, path, key="administrator", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    granted = await api.post("/v1/api-keys", {**NEW, "roles": ["administrator", "sender"]}, key="administrator")
    assert granted.status_code == 201


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"app": "nowhere"}, ("/app", "unknown")),
        ({"roles": []}, ("/roles", "too_short")),
        ({"roles": ["king"]}, ("/roles/0", "not_allowed")),
        ({"roles": "sender"}, ("/roles", "type")),
        ({"expires_at": "2020-01-01T00:00:00Z"}, ("/expires_at", "range")),
        ({"expires_at": "2036-01-01T00:00:00"}, ("/expires_at", "format")),
        ({"expires_at": 1900000000}, ("/expires_at", "format")),
        ({"key": "tk_mine"}, ("/key", "unknown_field")),
        ({"name": ""}, ("/name", "too_short")),
    ],
)
async def test_bad_keys(shared_api: Api, change: dict[str, Any], error: tuple[str, str]) -> None:
    before = await shared_api.count("api_key")
    answer = await shared_api.post("/v1/api-keys", {**NEW, **change})
    assert (answer.status_code, codes(answer)) == (422, [error])
    assert await shared_api.count("api_key") == before


class Counting:
    """A repository that is slow, and counts."""

    def __init__(self, answer: FoundKey | Exception | None) -> None:
        self.answer = answer
        self.asked = 0

    async def find(self, _: bytes) -> FoundKey | None:
        self.asked += 1
        await asyncio.sleep(0.01)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def ring(repository: Counting, *, clock: ManualClock | None = None) -> KeyRing:
    return KeyRing(repository, clock=clock or ManualClock())  # type: ignore[arg-type]


async def test_a_crowd_with_a_wrong_key_asks_the_database_once(clock: ManualClock) -> None:
    repository = Counting(None)
    keys = ring(repository, clock=clock)
    for _ in range(3):
        results = await asyncio.gather(*(keys.authenticate(b"Bearer wrong") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, Unauthenticated) for result in results)
    assert repository.asked == 1
    clock.advance(timedelta(seconds=keyring.UNKNOWN_FOR_S))
    with pytest.raises(Unauthenticated):
        await keys.authenticate(b"Bearer wrong")
    assert repository.asked == 2


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "MOST_REMEMBERED", 5)
    repository = Counting(None)
    keys = ring(repository)
    await asyncio.gather(*(keys.authenticate(b"Bearer %d" % n) for n in range(20)), return_exceptions=True)
    assert len(keys._unknown) == 5


async def test_without_the_database_it_is_unavailable_and_not_remembered() -> None:
    repository = Counting(OSError("away"))
    keys = ring(repository)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await keys.authenticate(b"Bearer any")
    assert repository.asked == 2


async def test_a_caller_who_gives_up_does_not_stop_the_others() -> None:
    keys = ring(Counting(None))
    first = asyncio.create_task(keys.authenticate(b"Bearer any"))
    second = asyncio.create_task(keys.authenticate(b"Bearer any"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(Unauthenticated):
        await second
