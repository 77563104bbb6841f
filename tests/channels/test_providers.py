"""The contract of the provider port, for every adapter and for the in-memory twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import pytest

from channels.base import (
    AnswerLost,
    HttpReply,
    Message,
    NotSent,
    Provider,
    Recall,
    RecallAnswer,
    RecallingProvider,
    SmtpReply,
    TargetRefused,
    TransportError,
)
from channels.email.smtp import SmtpProvider
from channels.inapp.inbox import InboxProvider
from channels.memory import MemoryHttp, MemoryInbox, MemoryProvider, MemorySmtp
from channels.webhook.standard import WebhookProvider
from domain.channels import Channel
from domain.results import ResultClass, SendResult
from tests.channels.samples import PERSON, SECRET, WORDS, message


@dataclass
class Case:
    provider: Provider
    fail: Callable[[TransportError], None]
    """The next call of the port fails like this."""
    taken: Callable[[], int]
    """Messages that reached the port."""
    sample: Message
    reject: Callable[[], object] = lambda: None
    read: Callable[[Message], object] = lambda message: None
    """This message was opened by its reader, where that can be."""
    """The next message is refused for good."""


def _smtp() -> Case:
    port = MemorySmtp()
    return Case(
        SmtpProvider(port, sender="Tongda <notify@tongda.example>"),
        fail=port.script,
        taken=lambda: len(port.letters),
        sample=message(),
        reject=lambda: port.script(SmtpReply(554, "5.7.1")),
    )


def _webhook() -> Case:
    port = MemoryHttp()
    return Case(
        WebhookProvider(port, secret_for=lambda tenant: SECRET),
        fail=port.script,
        taken=lambda: len(port.calls),
        sample=message(Channel.WEBHOOK, "https://hooks.example/zhang.wei"),
        reject=lambda: port.script(HttpReply(400, {}, b"")),
    )


def _inapp() -> Case:
    port = MemoryInbox()
    return Case(
        InboxProvider(port),
        fail=port.script,
        taken=lambda: len(port.items),
        sample=message(Channel.INAPP, "zhang.wei"),
        read=lambda m: port.read.add((m.notification_id, m.n)),
    )


def _memory() -> Case:
    provider = MemoryProvider(max_batch=10, recall=True)
    return Case(
        provider,
        fail=provider.script,
        taken=lambda: len(provider.sent),
        sample=message(),
        reject=lambda: provider.script(SendResult(ResultClass.PERMANENT, code="refused")),
        read=lambda m: provider.read.add((m.notification_id, m.n)),
    )


@pytest.fixture(params=[_smtp, _webhook, _inapp, _memory], ids=["smtp", "webhook", "inapp", "memory"])
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


def _batch(case: Case, count: int) -> list[Message]:
    return [replace(case.sample, n=n) for n in range(1, count + 1)]


async def test_one_result_for_each_message(case: Case) -> None:
    results = await case.provider.send(_batch(case, 3))
    assert [r.result for r in results] == [ResultClass.OK] * 3
    assert case.taken() == 3
    assert len({r.provider_id for r in results}) == 3


async def test_no_message_is_no_call(case: Case) -> None:
    assert list(await case.provider.send([])) == []
    assert case.taken() == 0


@pytest.mark.parametrize("make", [_smtp, _webhook, _memory])  # the inbox stores all or nothing
async def test_one_bad_answer_stays_with_its_message(make: Callable[[], Case]) -> None:
    case = make()
    case.reject()
    results = await case.provider.send(_batch(case, 3))
    assert [r.result for r in results] == [ResultClass.PERMANENT, ResultClass.OK, ResultClass.OK]


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (NotSent("x_refused"), ResultClass.RETRY),
        (AnswerLost("x_lost"), ResultClass.UNKNOWN),
        (TargetRefused("x_target"), ResultClass.PERMANENT),
    ],
)
async def test_what_a_failed_port_means(case: Case, failure: TransportError, meaning: ResultClass) -> None:
    case.fail(failure)
    (result,) = await case.provider.send([case.sample])
    assert (result.result, result.code, result.delivered) == (meaning, failure.code, False)


async def test_a_failed_message_can_be_sent_again(case: Case) -> None:
    case.fail(NotSent("x_refused"))
    await case.provider.send([case.sample])
    (result,) = await case.provider.send([replace(case.sample, attempt=2)])
    assert result.result is ResultClass.OK


@pytest.mark.parametrize("failure", [None, NotSent("x"), AnswerLost("x"), TargetRefused("x")])
async def test_codes_hold_nothing_of_the_person(case: Case, failure: TransportError | None) -> None:
    if failure is not None:
        case.fail(failure)
    (result,) = await case.provider.send([case.sample])
    for secret in (PERSON, "zhang.wei", WORDS, "hooks.example", SECRET):
        assert secret not in result.code
    assert len(result.code) <= 40


async def test_delivered_is_said_only_where_the_answer_proves_it(case: Case) -> None:
    (result,) = await case.provider.send([case.sample])
    assert result.delivered == (case.provider.capabilities.provider in ("webhook", "inapp"))


async def test_what_the_engine_may_repeat() -> None:
    assert {
        c.provider.capabilities.provider: c.provider.capabilities.idempotent for c in (_smtp(), _webhook(), _inapp())
    } == {
        "smtp": False,
        "webhook": True,
        "inapp": True,
    }


def recalls(case: Case) -> RecallingProvider:
    """The provider, which must be able to."""
    assert hasattr(case.provider, "recall")
    return cast("RecallingProvider", case.provider)


def of(some: Message) -> Recall:
    return Recall(some.notification_id, some.n, some.tenant, some.channel, some.address)


async def test_who_says_that_it_recalls_can(case: Case) -> None:
    assert case.provider.capabilities.recall == hasattr(case.provider, "recall")


@pytest.mark.parametrize("make", [_inapp, _memory])
async def test_what_was_sent_is_recalled_and_what_was_read_stays(make: Callable[[], Case]) -> None:
    case = make()
    batch = _batch(case, 3)
    await case.provider.send(batch)
    case.read(batch[1])
    answers = [RecallAnswer.RECALLED, RecallAnswer.ALREADY_READ, RecallAnswer.RECALLED]
    for _ in range(2):  # asking again changes nothing
        assert list(await recalls(case).recall([of(m) for m in batch])) == answers
    assert list(await recalls(case).recall([])) == []


@pytest.mark.parametrize("make", [_inapp, _memory])
@pytest.mark.parametrize("failure", [NotSent("x_refused"), AnswerLost("x_lost")])
async def test_a_recall_that_could_not_be_asked_for_says_so(make: Callable[[], Case], failure: TransportError) -> None:
    case = make()
    await case.provider.send([case.sample])
    case.fail(failure)
    assert list(await recalls(case).recall([of(case.sample)])) == [RecallAnswer.UNAVAILABLE]
    assert list(await recalls(case).recall([of(case.sample)])) == [RecallAnswer.RECALLED]


async def test_what_was_recalled_on_its_way_is_not_stored_any_more() -> None:
    case = _inapp()
    await recalls(case).recall([of(case.sample)])
    (result,) = await case.provider.send([case.sample])
    assert (result.result, case.taken()) == (ResultClass.OK, 0)


async def test_the_inbox_is_stored_in_one_call_and_each_item_once() -> None:
    inbox = MemoryInbox()
    provider = InboxProvider(inbox)
    batch = [message(Channel.INAPP, "zhang.wei", n=n) for n in (1, 2, 2)]
    assert [r.result for r in await provider.send(batch)] == [ResultClass.OK] * 3
    assert (inbox.calls, len(inbox.items)) == ([3], 2)
    item = inbox.items[batch[0].notification_id, 1]
    assert (item.user_id, item.tenant, item.title, item.data) == ("zhang.wei", "acme", "Your code", {"code": "123456"})


async def test_a_defect_in_a_provider_is_not_hidden_by_the_twin() -> None:
    provider = MemoryProvider()
    provider.script(RuntimeError("defect"))
    with pytest.raises(RuntimeError):
        await provider.send([message()])
