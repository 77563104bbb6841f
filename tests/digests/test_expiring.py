"""Each of a digest has its own time: what has expired is in no message, and takes nothing else along."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.channels import Channel
from domain.results import SendResult
from domain.states import Status
from infra.postgres.engine.digests import DigestRepository
from tests.digests.conftest import Office
from tests.engine.support import LOST, OK, PERMANENT, RETRY, soon

EXPIRED = ("expired", "expired_before_plan")


async def test_an_item_that_has_expired_is_not_in_the_message(office: Office) -> None:
    """It joined a digest whose window ends after its own time."""
    ids = [
        await office.posted(1),
        await office.posted(2, digest={"key": "post-7", "window": 1}, expires_at=soon(60).isoformat()),
    ]
    ids.append(await office.posted(3))
    await office.expire(ids[1])
    await office.close()
    assert office.texts == ["2: 1 3"]
    assert [await office.state(i) for i in ids] == [("sent", None), EXPIRED, ("sent", None)]
    assert await office.told(ids[1], "expired") == [{"stage": "queued", "reason": "expired_before_plan"}]
    assert (await office.read(ids[1]))["collected_in"] is None


async def test_a_carrier_that_has_expired_hands_on(office: Office) -> None:
    """The workers were late; the others have hours left."""
    ids = [await office.posted(n) for n in (1, 2, 3, 4)]
    await office.expire(ids[0], ids[1])
    await office.close()
    assert office.texts == ["2: 3 4"]
    assert [await office.state(i) for i in ids] == [EXPIRED, EXPIRED, ("sent", None), ("sent", None)]
    assert await office.api.count("digest") == 0


async def test_a_digest_of_which_all_have_expired_is_not_sent(office: Office) -> None:
    ids = [await office.posted(n) for n in (1, 2)]
    await office.expire(*ids)
    await office.close()
    assert office.texts == []
    assert [await office.state(i) for i in ids] == [EXPIRED, EXPIRED]
    assert (await office.api.count("digest"), await office.api.count("work")) == (0, 0)


async def test_what_expires_between_two_attempts(office: Office) -> None:
    """First an item, then the carrier."""
    ids = [await office.posted(n) for n in (1, 2, 3)]
    office.engine.providers[Channel.EMAIL].script(RETRY, RETRY, OK)
    await office.close()
    await office.expire(ids[1])
    await office.again()
    await office.expire(ids[0])
    await office.again()
    assert office.texts == ["3: 1 2 3", "2: 1 3", "1: 3"]
    assert [(await office.state(i))[0] for i in ids] == ["expired", "expired", "sent"]


async def test_what_expires_after_one_of_two_channels_has_failed(office: Office) -> None:
    """The others still have the second one, though what is told of the carrier is the failure."""
    ids = [await office.posted(n, channels=["email", "inapp"]) for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(PERMANENT)
    office.engine.providers[Channel.INAPP].script(RETRY)
    await office.close()
    await office.expire(ids[0])
    await office.again()
    assert [(await office.state(i))[0] for i in ids] == ["failed", "sent"]
    assert office.engine.providers[Channel.INAPP].sent[-1].content.text == "1: 2"


@pytest.mark.parametrize("answer", [OK, LOST])
async def test_what_may_have_arrived_does_not_expire(office: Office, answer: SendResult) -> None:
    """It was in the mail; the in-app message of the same digest comes after its time, and has it no more."""
    ids = [await office.posted(n, channels=["email", "inapp"], on_unknown="hold") for n in (1, 2)]
    office.engine.providers[Channel.EMAIL].script(answer)
    office.engine.providers[Channel.INAPP].script(RETRY)
    await office.close()
    await office.expire(ids[1])
    await office.again()
    assert [m.content.text for m in office.engine.providers[Channel.INAPP].sent] == ["2: 1 2", "1: 1"]
    assert [(await office.state(i))[0] for i in ids] == [Status.SENT, Status.SENT]


async def test_an_item_that_is_being_handed_over_does_not_expire(office: Office) -> None:
    """The mail was claimed while its time ran: what is claimed later waits for what becomes of it."""
    ids = [await office.posted(n, channels=["email", "inapp"]) for n in (1, 2)]
    await office.engine.make_due()
    cohort = await office.engine.grouped()
    await office.engine.plan(cohort)
    [mail] = await office.engine.claim(cohort, Channel.EMAIL)
    await office.expire(ids[1])
    [inapp] = await office.engine.claim(cohort, Channel.INAPP)
    digests = DigestRepository(office.pool)
    assert (await digests.items(ids[0], n=mail.n, claimed_at=mail.claimed_at)).count == 2
    assert (await digests.items(ids[0], n=inapp.n, claimed_at=inapp.claimed_at)).count == 1
    assert (await office.state(ids[1]))[0] == "collected"
    later = inapp.claimed_at + timedelta(hours=1)
    await office.engine.answer([mail], PERMANENT)
    assert (await digests.items(ids[0], n=inapp.n, claimed_at=later)).count == 1
    assert await office.state(ids[1]) == EXPIRED
