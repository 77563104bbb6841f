"""A place of a chain in somebody's hands when another one turns out to have arrived: nothing more of the chain is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from temporalio.testing import ActivityEnvironment

from activities.handing_over.decisions import Decider
from channels.base import Content, Message
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.ids import reference
from domain.results import ResultClass, SendResult
from domain.states import Status
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.giving_back import Returned
from infra.postgres.engine.setting_aside import Unreadable
from infra.telemetry.engine_metrics import first_answer_seconds
from tests.engine.driving import activities, drive
from tests.engine.fleet import AFTER, Fleet
from tests.engine.reported_ways import LONG_CHAIN, NOT_READ, mail_then_hook, regrouped, report
from tests.engine.support import PERMANENT, RETRY, TENANT, Engine

STOPPED = {"email": ("delivered", None), "webhook": ("suppressed", "arrived_elsewhere")}
ONCE = {"a": 1, "hook": 1, "inbox": 0}
STRATEGIES = pytest.mark.parametrize("strategy", ["fallback", "preferred"])


async def mail_was_sent(engine: Engine, *, strategy: str = "fallback", options: str = AFTER) -> tuple[Fleet, UUID, int]:
    """E-mail, then a webhook, then in-app; also where the webhook was named first. What the e-mail is there by number."""
    fleet, _ = mail_then_hook(engine)
    fields: dict[str, Any] = LONG_CHAIN | {"strategy": strategy, "options": options}
    n = 1
    if strategy == "preferred":
        await engine.prefers(preferred=("email", "webhook", "inapp"))
        fields["channels"], n = [Channel.WEBHOOK, Channel.EMAIL, Channel.INAPP], 2
    [one] = await fleet.send(**fields)
    await fleet.drive()
    assert fleet.sent() == {"a": 1, "hook": 0, "inbox": 0}
    return fleet, one, n


async def hook_in_hand(fleet: Fleet) -> Claim:
    """The e-mail's receipt is overdue."""
    engine, cohort = fleet.engine, fleet.cohort
    assert cohort is not None
    await engine.make_due()
    [look] = await engine.claim_over(cohort.id, "a")
    await engine.flush(Decider(fleet.accounts, cohort=cohort).overdue(look))
    [claim] = await engine.claim_over(cohort.id, "hook")
    assert claim.channel is Channel.WEBHOOK
    return claim


async def driven(fleet: Fleet) -> dict[str, int]:
    """Whatever is left comes due, again and again."""
    for _ in range(4):
        await fleet.drive_what_waits()
    return fleet.sent()


@STRATEGIES
@pytest.mark.parametrize("answer", [RETRY, PERMANENT])
async def test_neither_a_retry_nor_a_further_place_follows(engine: Engine, strategy: str, answer: SendResult) -> None:
    """Caught: by preference the webhook was named before the e-mail, and counted as the place before it. It was tried
    again, and in-app after it."""
    fleet, one, n = await mail_was_sent(engine, strategy=strategy)
    hook: MemoryProvider = fleet.accounts.get("hook").provider  # type: ignore[union-attr, assignment]

    async def arrives_meanwhile(batch: Sequence[Message]) -> Sequence[SendResult]:
        hook.sent.extend(batch)
        await report(engine, one, Status.DELIVERED, n=n)
        return [answer for _ in batch]

    hook.send = arrives_meanwhile  # type: ignore[method-assign]
    assert await driven(fleet) == ONCE
    refused = ("failed", "content_refused")
    assert await engine.deliveries(one) == STOPPED | ({"webhook": refused} if answer is PERMANENT else {})
    assert await engine.end(one) == ("delivered", None, True)


@STRATEGIES
async def test_what_cannot_be_rendered_now_is_not_sent_later(engine: Engine, strategy: str) -> None:
    """Caught: the database was away for a moment, the webhook went back, was claimed again and sent."""
    fleet, one, n = await mail_was_sent(engine, strategy=strategy)

    class Contents:
        async def content(self, claim: Claim) -> Content:
            if claim.channel is Channel.WEBHOOK:
                await report(engine, one, Status.DELIVERED, n=n)
                raise TimeoutError
            return Content(title="Title", text="Text")

    parts = activities(engine, accounts=fleet.accounts, contents=Contents())
    assert fleet.cohort is not None
    for _ in range(2):
        await engine.make_due()
        await ActivityEnvironment().run(parts.deliver, drive(fleet.cohort))
    assert await driven(fleet) == ONCE | {"hook": 0}
    assert await engine.deliveries(one) == STOPPED
    assert await engine.end(one) == ("delivered", None, True)
    detail = {"channel": "webhook", "reason": "arrived_elsewhere", "stage": "hand_over"}
    assert await engine.detail(one, "suppressed") == detail
    told = "SELECT attempts FROM delivery WHERE notification_id = $1 AND channel = 'webhook'"
    assert await engine.pool.fetchval(told, one) == 0


async def test_what_is_given_back_twice_ends_once(engine: Engine) -> None:
    fleet, one, _ = await mail_was_sent(engine)
    claim = await hook_in_hand(fleet)
    await report(engine, one, Status.DELIVERED)
    for _ in range(2):
        await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    assert await engine.end(one) == ("delivered", None, True)
    assert (await engine.events(one)).count("suppressed") == 1


async def test_a_retry_that_goes_back_ends_as_arrived_elsewhere(engine: Engine) -> None:
    """It was tried before, and failed."""
    fleet, one, _ = await mail_was_sent(engine)
    claim = await hook_in_hand(fleet)
    assert fleet.cohort is not None
    decider = Decider(fleet.accounts, cohort=fleet.cohort)
    await engine.flush(decider.answered(claim, RETRY, started_s=0))
    await engine.make_due()
    [again] = await engine.claim_over(fleet.cohort.id, "hook")
    await report(engine, one, Status.DELIVERED)
    await engine.claims.give_back([decider.returned(again)])
    assert await engine.deliveries(one) == STOPPED


async def test_a_cancellation_comes_first(engine: Engine) -> None:
    fleet, one, _ = await mail_was_sent(engine)
    claim = await hook_in_hand(fleet)
    await engine.control.cancel(TENANT, notification_id=one)
    await report(engine, one, Status.DELIVERED)
    await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    assert await driven(fleet) == ONCE | {"hook": 0}
    assert (await engine.deliveries(one))["webhook"] == ("cancelled", "cancelled_by_request")


async def test_a_chain_that_waits_for_its_being_read_goes_on_though_it_was_delivered(engine: Engine) -> None:
    fleet, one, _ = await mail_was_sent(engine, options=NOT_READ)
    claim = await hook_in_hand(fleet)
    await report(engine, one, Status.DELIVERED)
    await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    await fleet.drive_what_waits()
    assert fleet.sent() == ONCE


async def test_of_all_channels_each_is_sent(engine: Engine) -> None:
    cohort, [one] = await engine.planned(**LONG_CHAIN | {"strategy": "all"})
    [claim] = await engine.claim(cohort, Channel.WEBHOOK)
    await engine.answer(await engine.claim(cohort))
    await engine.pool.execute("UPDATE delivery SET status = 'delivered'")
    await engine.claims.give_back([Returned(one, claim.n, claim.attempt)])
    assert [claim.n for claim in await engine.claim(cohort, Channel.WEBHOOK)] == [2]


async def unreadable(engine: Engine, claim: Claim) -> None:
    """This version cannot read it; the next one could."""
    await engine.claims.set_aside([Unreadable(claim.notification_id, claim.n, claim.attempt, claim.faults, "ValueError")])


async def test_what_another_version_would_have_sent(engine: Engine) -> None:
    fleet, one, _ = await mail_was_sent(engine)
    claim = await hook_in_hand(fleet)
    await report(engine, one, Status.DELIVERED)
    await unreadable(engine, claim)
    assert await engine.work(one) == []
    assert await engine.deliveries(one) == STOPPED
    assert await engine.end(one) == ("delivered", None, True)


async def test_a_resend_that_cannot_be_read_is_not_sent_once_the_first_has_arrived(engine: Engine) -> None:
    """Caught: the next version sent it once more."""
    fleet, _ = mail_then_hook(engine)
    fleet.accounts.get("a").provider.script(SendResult(ResultClass.UNKNOWN))  # type: ignore[union-attr]
    [one] = await fleet.send(user="u-1", options='{"on_unknown": "resend"}')
    await fleet.drive()
    await engine.make_due()
    assert fleet.cohort is not None
    [claim] = await engine.claim_over(fleet.cohort.id, "a")
    await engine.receipts.take("a", [Receipt(None, Status.DELIVERED, reference=reference(one, 1, attempt=1))])
    await unreadable(engine, claim)
    await engine.make_due()
    await regrouped(fleet)
    assert await driven(fleet) == {"a": 1, "hook": 0, "inbox": 0}
    assert await engine.end(one) == ("delivered", None, True)


@STRATEGIES
async def test_the_first_answer_is_that_of_the_place_that_was_tried_first(engine: Engine, strategy: str) -> None:
    """Caught: of a chain by preference it was the answer of what had been named first, after what was tried before it."""

    def counted() -> float:
        samples = [s for metric in first_answer_seconds("medium").collect() for s in metric.samples]
        return next(s.value for s in samples if s.name.endswith("_count"))

    before = counted()
    fleet, _, _ = await mail_was_sent(engine, strategy=strategy)
    assert counted() == before + 1
    await driven(fleet)
    assert fleet.sent()["hook"] == 1
    assert counted() == before + 1
