"""What repeats is collected: one message from the list, every notification with an honest state and end."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from domain.channels import Channel
from domain.errors import Unavailable
from domain.results import ResultClass, SendResult
from infra.postgres.engine import expediting
from infra.postgres.engine.expediting import ExpediteRepository
from tests.digests.conftest import Office, publish
from tests.engine.gates import Gate, gated
from tests.engine.support import PERMANENT

AT_ONCE = {"key": "post-7", "window": "PT10M", "first": "at_once"}


async def test_what_is_collected_arrives_as_one_message(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2, 3)]
    assert [(await office.state(i))[0] for i in ids] == ["scheduled", "collected", "collected"]
    assert [(await office.read(i))["collected_in"] for i in ids] == [None, str(ids[0]), str(ids[0])]
    assert len(await office.engine.work()) == 1
    assert await office.listed(collected_in=str(ids[0])) == [ids[2], ids[1]]
    assert await office.listed(collected_in=str(ids[0]), q="none of them") == []
    await office.deliver()
    assert office.texts == []
    await office.close()
    assert office.texts == ["3: 1 2 3"]
    assert {await office.state(i) for i in ids} == {("sent", None)}
    assert await office.told(ids[1], "collected") == [{"digest": str(ids[0])}]
    assert [end["status"] for end in await office.told(ids[1], "finished")] == ["sent"]
    assert await office.told(ids[0], "digest_closed") == [{"items": 3}]


async def test_what_comes_after_the_close_opens_the_next(office: Office) -> None:
    await office.posted(1)
    await office.close()
    second = await office.posted(2)
    assert (await office.state(second))[0] == "scheduled"
    await office.close()
    assert office.texts == ["1: 1", "1: 2"]


async def test_the_first_at_once_and_its_repeats_collected(office: Office) -> None:
    ids = [await office.posted(n, digest=AT_ONCE) for n in (1, 2, 3)]
    await office.deliver()
    assert office.texts == ["1: 1"]
    assert [(await office.state(i))[0] for i in ids] == ["sent", "scheduled", "collected"]
    await office.close()
    assert office.texts == ["1: 1", "2: 2 3"]
    await office.posted(4, digest=AT_ONCE)
    await office.deliver()
    assert office.texts[2:] == ["1: 4"]


async def test_a_window_without_repeats_ends_in_silence(office: Office) -> None:
    await office.posted(1, digest=AT_ONCE)
    await office.close()
    await office.posted(2, digest=AT_ONCE)
    await office.deliver()
    assert office.texts == ["1: 1", "1: 2"]


async def test_the_window_after_a_first_at_once_outlives_a_cancelled_carrier(office: Office) -> None:
    """Within it nothing goes at once any more, whoever takes back what."""
    ids = [await office.posted(n, digest=AT_ONCE) for n in (1, 2)]
    await office.deliver()
    until = await office.pool.fetchval("SELECT until FROM digest")
    await office.call(ids[1], "cancel")
    last = [await office.posted(n, digest=AT_ONCE) for n in (3, 4)]
    assert await office.pool.fetchval("SELECT until FROM digest") == until
    await office.deliver()
    assert office.texts == ["1: 1"]
    assert [(await office.state(i))[0] for i in last] == ["scheduled", "collected"]
    await office.close()
    assert office.texts == ["1: 1", "2: 3 4"]


async def test_only_what_goes_the_same_way_is_collected_together(office: Office) -> None:
    await publish(office.api, "likes", "{{ count }} likes")
    await office.pool.execute("INSERT INTO person (tenant, id, state) VALUES ('acme', 'u-3', 'active')")
    await office.posted(1)
    others = [
        await office.posted(2, digest={"key": "post-8", "window": 600}), await office.posted(3, template="likes"),
        await office.posted(4, priority="low"), await office.posted(5, category="other"),
        await office.posted(6, channels=["email", "inapp"]), await office.posted(7, to={"user": "u-3"}),
    ]  # fmt: skip
    assert {(await office.state(i))[0] for i in others} == {"scheduled"}


async def test_a_new_version_of_the_template_opens_the_next(office: Office) -> None:
    """Data was checked against its own version; another could fail to render it, and take the whole list along."""
    await office.posted(1)
    await publish(office.api, "comments", "v2 {{ count }}", version=2)
    office.api.container.catalog.forget("acme", "comments")
    await office.posted(2)
    await office.close()
    assert sorted(office.texts) == ["1: 1", "v2 1"]


async def test_a_batch_collects_in_its_order(office: Office) -> None:
    items = [office.wish(1), office.wish(2, digest=None, dedupe={"window": 60}, data={"n": 2}), office.wish(3),
             office.wish(4, colour="red"), {"to": {"email": "a@example.com"}, "content": {"text": "plain"}}]  # fmt: skip
    await publish(office.api, "single", "{{ n }}")
    items[1]["template"] = "single"
    told = await office.batch(items, key="k")
    assert ["id" in item for item in told] == [True, True, True, False, True]
    assert await office.batch(items, key="k") == told
    await office.close()
    assert sorted(office.texts) == ["2", "2: 1 3", "plain"]


async def test_a_repeated_request_is_collected_once(office: Office) -> None:
    first = await office.posted(1, key="k")
    assert await office.posted(1, key="k") == first
    assert (await office.api.post(office.wish(2), key="k")).json()["code"] == "idempotency_conflict"
    await office.close()
    assert office.texts == ["1: 1"]


async def test_a_long_list_is_cut_and_counted(office: Office) -> None:
    await office.batch([office.wish(n) for n in range(150)])
    await office.close()
    [text] = office.texts
    assert text == "150: " + " ".join(map(str, range(100)))


async def test_all_end_as_their_carrier_ends(office: Office) -> None:
    """Also where it is corrected later: an answer that was lost, and then came."""
    ids = [await office.posted(n) for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    await office.close()
    assert {await office.state(i) for i in ids} == {("failed", "content_refused")}


async def test_a_retry_sends_the_same_list(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(SendResult(ResultClass.RETRY, code="451"))
    await office.close()
    late = await office.posted(3)
    await office.pool.execute("UPDATE work SET due_at = now() WHERE notification_id = $1", ids[0])
    await office.pool.execute("UPDATE work SET cohort = NULL; DELETE FROM cohort")
    await office.deliver()
    assert office.texts == ["2: 1 2", "2: 1 2"]
    assert (await office.state(late))[0] == "scheduled"


async def test_data_is_checked_for_each_and_the_list_itself_is_nobodys(office: Office) -> None:
    """`items` and `count` are used by every text; they come from the digest, and nobody has to post them."""
    await office.posted(1)
    wrong = await office.api.post(office.wish(2, data={"n": "two"}))
    assert [error["pointer"] for error in wrong.json()["errors"]] == ["/data/n"]
    plain = await office.api.post(office.wish(3, digest=None))
    assert {error["pointer"] for error in plain.json()["errors"]} == {"/data/count", "/data/items"}


async def test_lists_find_what_is_collected(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]

    async def listed(**query: str) -> list[str]:
        found = await office.api.http.get("/v1/notifications", params=query)
        return [item["id"] for item in found.json()["items"]]

    assert await listed(status="collected") == [str(ids[1])]
    assert sorted(await listed(final="false")) == sorted(map(str, ids))
    await office.close()
    assert await listed(status="collected") == await listed(final="false") == []


async def test_sent_again_it_goes_by_itself(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    await office.close()
    again = UUID((await office.call(ids[1], "resend"))["id"])
    await office.deliver()
    assert office.texts == ["2: 1 2", "1: 2"]
    assert (await office.state(again))[0] == "sent"


async def test_an_item_is_hurried_by_the_carrier_that_it_has_then(office: Office) -> None:
    """Its carrier is cancelled in the moment in which it is asked for: what is answered is what became of the item."""
    ids = [await office.posted(n) for n in (1, 2, 3)]
    gate = Gate("status = 'collected' AND NOT final", after=True)
    hurrying = asyncio.create_task(ExpediteRepository(gated(office.pool, gate)).expedite("acme", notification_id=ids[2]))
    await gate.reached.wait()
    await office.call(ids[0], "cancel")
    gate.open.set()
    assert (await hurrying).result == "expedited"
    await office.deliver()
    assert office.texts == ["2: 2 3"]


async def test_an_item_whose_digest_changes_hands_again_and_again_is_left_alone(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often that happens, an answer comes, and it says that nothing was done."""
    monkeypatch.setattr(expediting, "LOOKS", 3)
    *carriers, last = [await office.posted(n) for n in range(1, 6)]

    class HandedOn(Gate):
        async def stop(self) -> None:
            """At the first look of each try; the second one finds another carrier."""
            if len([statement for statement in self.seen if self.text in statement]) % 2:
                await office.call(carriers.pop(0), "cancel")

    gate = HandedOn("status = 'collected' AND NOT final", after=True)
    with pytest.raises(Unavailable, match="being changed"):
        await ExpediteRepository(gated(office.pool, gate)).expedite("acme", notification_id=last)
    assert len(carriers) == 1, "three looks"
    assert "expedited" not in await office.engine.events(carriers[0])
    assert (await office.call(last, "expedite"))["result"] == "expedited"
    await office.deliver()
    assert office.texts == ["2: 4 5"]


async def test_a_hurried_item_hurries_the_whole(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    assert (await office.call(ids[1], "expedite"))["result"] == "expedited"
    await office.deliver()
    assert office.texts == ["2: 1 2"]
