"""What is collected can still be taken out, changed and erased, until its digest closes; a carrier hands on what it has."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.channels import Channel
from domain.lanes import Lane
from domain.results import ResultClass, SendResult
from infra.postgres.engine.claimed import Claim
from tests.digests.conftest import Office, publish
from tests.engine.support import LOST, OK
from tests.engine.test_never_left import broken, call_lost, give_back

RETRY = SendResult(ResultClass.RETRY, code="451")


async def _claimed(office: Office) -> tuple[UUID, Claim]:
    """The message of a digest is closed and in somebody's hands: its cohort and its claim."""
    await office.engine.make_due()
    cohort = await office.engine.grouped(Lane.MEDIUM)
    await office.engine.plan(cohort)
    [claim] = await office.engine.claim(cohort)
    return cohort.id, claim


async def test_a_cancelled_item_is_not_in_the_message(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2, 3)]
    answer = await office.call(ids[1], "cancel")
    assert (answer["result"], answer["status"]) == ("cancelled", "cancelled")
    assert await office.call(ids[1], "cancel") == answer
    await office.close()
    assert office.texts == ["2: 1 3"]
    assert await office.state(ids[1]) == ("cancelled", "cancelled_by_request")


async def test_a_cancelled_carrier_hands_on_what_it_has_collected(office: Office) -> None:
    """Otherwise one who withdraws the first comment would silence all others."""
    ids = [await office.posted(n) for n in (1, 2, 3)]
    due = (await office.engine.work(ids[0]))[0]["due_at"]
    assert (await office.call(ids[0], "cancel"))["result"] == "cancelled"
    assert [(await office.state(i))[0] for i in ids] == ["cancelled", "scheduled", "collected"]
    assert (await office.engine.work(ids[1]))[0]["due_at"] == due
    assert (await office.told(ids[2], "collected"))[-1] == {"digest": str(ids[1])}
    last = await office.posted(4)
    assert (await office.read(last))["collected_in"] == str(ids[1])
    await office.close()
    assert office.texts == ["3: 2 3 4"]


async def test_a_digest_of_which_nothing_is_left_is_gone(office: Office) -> None:
    only = await office.posted(1)
    await office.call(only, "cancel")
    assert await office.api.count("digest") == 0
    assert (await office.state(await office.posted(2)))[0] == "scheduled"


async def test_a_deleted_item_is_not_in_the_message(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    assert (await office.api.http.delete(f"/v1/notifications/{ids[1]}")).status_code == 200
    await office.close()
    assert office.texts == ["1: 1"]


@pytest.mark.parametrize("action", ["cancel", "recall"])
async def test_after_the_close_an_item_goes_with_its_digest(office: Office, action: str) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(RETRY)
    await office.close()
    answer = await office.call(ids[1], action)
    assert answer["result"] == {"cancel": "already_handed_off", "recall": "cannot_recall"}[action]
    assert (await office.state(ids[1]))[0] == "collected"
    edit = await office.api.http.patch(f"/v1/notifications/{ids[1]}", json={"data": {"n": 5}})
    assert (edit.json()["code"], edit.json()["fence"]) == ("handed_off", "planned")
    await office.pool.execute("UPDATE work SET due_at = now(), cohort = NULL; DELETE FROM cohort")
    await office.deliver()
    assert office.texts == ["2: 1 2", "2: 1 2"]
    assert (await office.call(ids[1], action))["result"] == answer["result"]
    assert await office.state(ids[1]) == ("sent", None)


async def test_a_carrier_cancelled_between_two_attempts_hands_on(office: Office) -> None:
    """Who withdraws the first comment silences no other, also while nobody has taken the message yet."""
    ids = [await office.posted(n) for n in (1, 2, 3)]
    office.engine.providers[Channel.EMAIL].script(RETRY)
    await office.close()
    assert (await office.call(ids[0], "cancel"))["result"] == "cancelled"
    await office.deliver()
    assert office.texts == ["3: 1 2 3", "2: 2 3"]
    assert [await office.state(i) for i in ids] == [("cancelled", "cancelled_by_request"), ("sent", None), ("sent", None)]


async def test_a_carrier_cancelled_while_it_is_handed_over_hands_on_when_that_has_failed(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    cohort, claim = await _claimed(office)
    assert (await office.call(ids[0], "cancel"))["in_flight"] == ["email"]
    assert (await office.state(ids[1]))[0] == "collected"
    await office.engine.answer([claim], RETRY)
    await office.pool.execute("DELETE FROM cohort WHERE id = $1", cohort)
    await office.deliver()
    assert [await office.state(i) for i in ids] == [("cancelled", "cancelled_by_request"), ("sent", None)]
    assert office.texts == ["1: 2"]


@pytest.mark.parametrize("answer", [OK, LOST])
async def test_a_carrier_whose_message_may_have_arrived_hands_nothing_on(office: Office, answer: SendResult) -> None:
    """The others are in it, and would come twice."""
    ids = [await office.posted(n, channels=["email", "inapp"], on_unknown="hold") for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(answer)
    office.engine.providers[Channel.INAPP].script(RETRY)
    await office.close()
    await office.call(ids[0], "cancel")
    await office.again()
    first, second = [await office.state(i) for i in ids]
    assert first == second == {OK: ("sent", None), LOST: ("unknown", "answer_lost")}[answer]
    assert office.texts == ["2: 1 2"]


async def test_a_carrier_of_which_an_earlier_attempt_may_have_arrived_hands_nothing_on(office: Office) -> None:
    """The last one was refused; the one before may have taken all along."""
    ids = [await office.posted(n, on_unknown="resend") for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(LOST, RETRY)
    await office.close()
    await office.again()
    assert len(office.texts) == 2
    await office.call(ids[0], "cancel")
    await office.again()
    assert {await office.state(i) for i in ids} == {("unknown", "answer_lost")}
    assert len(office.texts) == 2


@pytest.mark.parametrize("cancelled_first", [True, False])
@pytest.mark.parametrize("policy", ["hold", "resend"])
async def test_a_carrier_of_which_nothing_had_left_hands_on(office: Office, policy: str, *, cancelled_first: bool) -> None:
    """Caught: it was called lost, and given back late; its record said all the same that it might be there, and all that it
    carried ended cancelled with it."""
    ids = [await office.posted(n, on_unknown=policy) for n in (1, 2, 3)]
    _, claim = await _claimed(office)
    if cancelled_first:
        await office.call(ids[0], "cancel")
    await call_lost(office.engine, ids[0])
    await give_back(office.engine, claim)
    if not cancelled_first:
        assert (await office.call(ids[0], "cancel"))["result"] == "cancelled"
    await office.again()
    assert [await office.state(i) for i in ids] == [("cancelled", "cancelled_by_request"), ("sent", None), ("sent", None)]
    assert office.texts == ["2: 2 3"]


async def test_a_carrier_that_was_called_lost_and_is_broken_hands_on(office: Office) -> None:
    """Caught: the same where its holder found that it could not be sent."""
    ids = [await office.posted(n, on_unknown="resend") for n in (1, 2)]
    _, claim = await _claimed(office)
    await call_lost(office.engine, ids[0])
    await office.engine.flush(broken(office.engine, claim))
    await office.call(ids[0], "cancel")
    await office.again()
    assert [await office.state(i) for i in ids] == [("cancelled", "cancelled_by_request"), ("sent", None)]


async def test_an_edit_of_data_stays_in_the_digest(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2, 3)]
    for i, n in ((ids[0], 10), (ids[2], 30)):
        assert (await office.api.http.patch(f"/v1/notifications/{i}", json={"data": {"n": n}})).json()["result"] == "edited"
    assert [(await office.state(i))[0] for i in ids] == ["scheduled", "collected", "collected"]
    await office.close()
    assert office.texts == ["3: 10 2 30"]


async def test_an_edit_of_data_keeps_the_version(office: Office) -> None:
    """The others were checked against it: a new one might not render with their data."""
    ids = [await office.posted(n) for n in (1, 2)]
    await publish(office.api, "comments", "{{ new_in_version_2 }}", version=2)
    office.api.container.catalog.forget("acme", "comments")
    assert (await office.api.http.patch(f"/v1/notifications/{ids[0]}", json={"data": {"n": 10}})).status_code == 200
    await office.close()
    assert office.texts == ["2: 10 2"]


async def test_an_edit_of_anything_else_leaves_the_digest(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2, 3)]
    now = {"content": {"title": "Now", "text": "by itself"}, "send_at": None}
    for i in (ids[0], ids[2]):
        assert (await office.api.http.patch(f"/v1/notifications/{i}", json=now)).json()["result"] == "edited"
    await office.deliver()
    assert office.texts == ["by itself", "by itself"]
    await office.close()
    assert office.texts[2:] == ["1: 2"]
    assert (await office.read(ids[2]))["collected_in"] is None


@pytest.mark.parametrize("patch", [{"priority": "high"}, {"send_at": None}, {"expires_in": "PT5H"}])
@pytest.mark.parametrize("place", [0, 1])
async def test_what_goes_alone_after_an_edit_can_be_rendered(office: Office, place: int, patch: dict[str, Any]) -> None:
    """Its template wants `items` and `count`, which nobody can post."""
    ids = [await office.posted(n) for n in (1, 2)]
    for more in (patch, {"data": {"n": 7}}):
        edit = await office.api.http.patch(f"/v1/notifications/{ids[place]}", json=more)
        assert edit.json()["result"] == "edited"
    await office.close()
    assert sorted(office.texts) == sorted(["1: 7", f"1: {2 - place}"])
    assert {await office.state(i) for i in ids} == {("sent", None)}


async def test_an_edit_posts_no_list_of_its_own(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    await office.api.http.patch(f"/v1/notifications/{ids[1]}", json={"priority": "high"})
    for i in ids:
        edit = await office.api.http.patch(f"/v1/notifications/{i}", json={"data": {"n": 2, "items": [9], "count": 1}})
        assert {(e["pointer"], e["code"]) for e in edit.json()["errors"]} == {
            ("/data/items", "reserved"), ("/data/count", "reserved")
        }  # fmt: skip


async def test_a_bad_edit_changes_nothing(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    answer = await office.api.http.patch(f"/v1/notifications/{ids[1]}", json={"data": {"n": "two"}})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/data/n"]
    await office.close()
    assert office.texts == ["2: 1 2"]


async def test_an_erased_person_is_sent_nothing_that_was_collected(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2, 3)]
    answer = await office.api.http.post("/v1/users/u-1/erase")
    assert answer.status_code == 202, answer.text
    while await office.api.container.erasing.run_once():
        pass
    assert {await office.state(i) for i in ids} == {("cancelled", "cancelled_by_request")}
    held = await office.pool.fetchval("SELECT count(*) FROM notification WHERE data IS NOT NULL")
    assert (held, await office.api.count("work"), await office.api.count("digest")) == (0, 0, 0)
    await office.close()
    assert office.texts == []
