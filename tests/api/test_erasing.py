"""A user is erased: everywhere, at last, whatever happens meanwhile, and nobody else."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from activities.erasing import Erasing
from infra.postgres.tables import PERSONAL
from infra.postgres.users import erasing
from infra.postgres.users.erasing import HOW, ErasureRepository
from tests.api.conftest import TENANT, Api, at_once, insert_notification, insert_step
from tests.api.delivering import deliver
from tests.api.erasing_support import MARK, OTHER, PATH, erased, fill, found, later


async def test_nothing_is_left_in_any_column_of_the_list(api: Api) -> None:
    """Catches: a new personal column that the erasure does not know. `fill` must learn it, and then the erasure."""
    await fill(api, "u-1", MARK)
    await fill(api, "u-2", OTHER)
    await api.post("/v1/notifications", {"to": {"email": f"{OTHER}@example.com"}, "content": {"text": OTHER}})
    before, others = await found(api, MARK), await found(api, OTHER)
    assert [place for place, rows in (before | others).items() if rows == 0] == []
    answer = await erased(api)
    assert await found(api, MARK) == dict.fromkeys(before, 0)
    assert await found(api, OTHER) == others
    assert (answer["progress"], answer["cancelled"], answer["in_flight"], answer["suppressions_kept"]) == (
        "under_way", 1, 0, 1,
    )  # fmt: skip
    assert answer["erased"] == {
        "identities": 2, "devices": 1, "preferences": 1, "suppressions": 2, "stored_answers": 4, "notifications": 2,
        "deliveries": 2, "inbox_items": 1,
    }  # fmt: skip


def test_every_table_of_the_list_is_erased_somehow() -> None:
    assert set(HOW) == set(PERSONAL)


async def test_the_id_remains_as_a_trace_and_can_do_nothing(api: Api) -> None:
    waits = await fill(api, "u-1", MARK)
    await erased(api)
    user = (await api.get("/v1/users/u-1")).json()
    assert [user[name] for name in ("state", "name", "locale", "attributes", "identities")] == [
        "erased",
        None,
        None,
        {},
        [],
    ]
    shown = (await api.get(f"/v1/notifications/{waits}")).json()
    assert (shown["status"], shown["reason"], shown["to"]) == ("cancelled", "cancelled_by_request", {"user": "u-1"})
    events = [event["type"] for event in (await api.get(f"/v1/notifications/{waits}/timeline")).json()["items"]]
    assert {"cancelled", "erased", "finished"} <= set(events)
    refused = [
        await api.post("/v1/notifications", {"to": {"user": "u-1"}, "content": {"text": "x"}}),
        await api.post(f"/v1/notifications/{waits}/resend"),
        await api.call("PATCH", "/v1/users/u-1", json={"name": "back"}),
        await api.post("/v1/users/u-1/identities", {"channel": "email", "address": "a@example.com"}),
        await api.post("/v1/users", {"id": "u-1"}),
        await api.get("/v1/users/u-1/inbox"),
    ]
    codes = [(answer.status_code, answer.json()["code"]) for answer in refused]
    assert codes == [
        (422, "recipient_gone"), (409, "content_erased"), (409, "conflict"), (409, "conflict"), (409, "user_exists"),
        (404, "not_found"),
    ]  # fmt: skip


async def test_asking_again_changes_nothing_and_tells_how_far_it_is(api: Api) -> None:
    await fill(api, "u-1", MARK)
    answers = await at_once(api.post(PATH) for _ in range(3))
    assert {answer.status_code for answer in answers} == {202}
    first = (await erased(api))["erased"]
    assert (first["notifications"], first["deliveries"], first["inbox_items"], first["identities"]) == (2, 2, 1, 2)
    await later(api)
    finished = await erased(api, status=200)
    assert (finished["progress"], finished["erased"]) == ("finished", first)
    assert await erased(api, status=200) == finished
    assert (await api.post("/v1/users/nobody/erase")).status_code == 404


async def test_many_notifications_go_in_steps_that_are_taken_up_after_a_crash(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that began it is gone after each step; another goes on where it was, and nothing is counted twice."""
    monkeypatch.setattr(erasing, "PAGE", 3)
    await api.post("/v1/users", {"id": "u-1"})
    said = json.dumps({"text": MARK})
    for _ in range(10):
        one = await insert_notification(api.pool, user_id="u-1", content=said, to_address=None, to_channel=None)
        await insert_step(api.pool, one)
    repository = ErasureRepository(api.container.database)
    await repository.begin(TENANT, "u-1", requested_by=None)
    left = []
    while await ErasureRepository(api.container.database).step(TENANT, "u-1"):
        left.append(await api.pool.fetchval("SELECT count(*) FROM notification WHERE content IS NOT NULL"))
    assert left[0] == 7
    assert left == sorted(left, reverse=True)
    assert (await found(api, MARK))["notification", "content"] == 0
    counts = (await repository.read(TENANT, "u-1")).counts
    assert (counts["notifications"], counts["cancelled"]) == (10, 10)
    assert await api.count("work") == 0


async def test_what_was_accepted_a_moment_after_is_erased_too(api: Api) -> None:
    """Catches: one pass only. An accept may have looked at the user just before, and commits when the pass is over."""
    await api.post("/v1/users", {"id": "u-1"})
    await erased(api)
    late = await insert_notification(api.pool, user_id="u-1", content=json.dumps({"text": MARK}))
    await insert_step(api.pool, late)
    assert (await erased(api))["progress"] == "under_way"
    await later(api)
    assert (await erased(api, status=200))["cancelled"] == 1
    assert await api.pool.fetchval("SELECT content FROM notification WHERE id = $1", late) is None
    assert await api.count("work") == 0


async def test_it_goes_on_by_itself(api: Api) -> None:
    await fill(api, "u-1", MARK)
    await erased(api)
    await later(api)
    runner = Erasing(ErasureRepository(api.container.database))
    while await api.pool.fetchval("SELECT finished_at IS NULL FROM erasure"):
        await runner.run_once()
    assert (await erased(api, status=200))["progress"] == "finished"
    assert await runner.run_once() is False


async def test_an_objection_outlives_its_owner_as_a_digest(api: Api) -> None:
    """The same person may come in again by the next import, and has said that nobody shall write."""
    await fill(api, "u-1", MARK)
    await erased(api)
    [kept] = (await api.get("/v1/suppressions", params={"channel": "wecom", "address": MARK})).json()["items"]
    assert (kept["address"], kept["reason"]) == (None, "complaint")
    email = {"channel": "email", "address": f"{MARK}@example.com"}
    await api.post("/v1/users", {"id": "u-9", "identities": [{"channel": "wecom", "address": MARK}, email]})
    assert [s["reason"] for s in (await api.get("/v1/users/u-9/suppressions")).json()["items"]] == ["complaint"]
    assert (await api.call("DELETE", f"/v1/users/u-9/suppressions/{kept['id']}")).status_code == 204


async def test_a_digest_still_stops_what_is_sent(api: Api) -> None:
    email = {"channel": "email", "address": f"{MARK}@example.com"}
    await api.post("/v1/users", {"id": "u-1", "identities": [email]})
    await api.post("/v1/users/u-1/suppressions", email)
    await erased(api)
    assert await deliver(api, to={"email": email["address"]}) == ("suppressed", "address_suppressed")
    assert await deliver(api, to={"email": "somebody@example.com"}) == ("sent", None)


async def test_an_address_that_somebody_else_has_too_stays_suppressed_for_them(api: Api) -> None:
    family = {"channel": "email", "address": "family@example.com"}
    for user in ("u-1", "u-2"):
        await api.post("/v1/users", {"id": user, "identities": [family]})
    await api.post("/v1/users/u-1/suppressions", {**family, "reason": "hard_bounce"})
    await erased(api)
    [left] = (await api.get("/v1/users/u-2/suppressions")).json()["items"]
    assert (left["address"], left["reason"]) == ("family@example.com", "hard_bounce")


@pytest.mark.parametrize("user", ["用户-1", "a+b@c", 'q"u', "ü&=;"])
async def test_stored_answers_are_found_whatever_the_id(api: Api, user: str) -> None:
    path = f"/v1/users/{quote(user, safe='')}"
    for number, target in enumerate(("/v1/users", f"{path}/identities")):
        body = {"channel": "wecom", "address": MARK} if number else {"id": user, "name": MARK}
        assert (await api.post(target, body, once=f"k-{number}")).status_code == 201
    assert (await api.post(f"{path}/erase")).status_code == 202
    assert await api.count("idempotency") == 0
