"""Connections to a mail server are shared, and none is used again in an unknown state."""

from __future__ import annotations

import asyncio

import pytest

from channels.base import AnswerLost, NotSent, SmtpReply
from infra.smtp import SmtpPool
from tests.channels.http_calls import until
from tests.channels.lean_smtp import CLOSE, RESET, STALL, Lean
from tests.channels.smtp_calls import TEXT, pool_for, submit


async def test_messages_share_a_connection_and_arrive_as_they_are(lean: Lean, pool: SmtpPool) -> None:
    replies = [await submit(pool) for _ in range(3)]
    assert replies == [SmtpReply(250, "2.0.0", "data")] * 3
    assert lean.connections == 1
    assert [c.split()[0] for c in lean.commands] == ["EHLO"] + ["MAIL", "RCPT", "DATA"] * 3
    assert lean.commands[1:3] == [f"MAIL FROM:<a@example.com> SIZE={len(TEXT)}", "RCPT TO:<b@example.com>"]
    assert lean.taken == [b"Subject: x\r\n\r\nHello\r\n..dot\r\n...two\r\n"] * 3  # stuffed, as it is on the wire


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("answer", [RESET, CLOSE])
async def test_a_stale_connection_is_replaced_once_and_unnoticed(
    lean: Lean, pool: SmtpPool, stage: str, answer: str
) -> None:
    await submit(pool)
    lean.then(stage, answer)
    assert (await submit(pool)).code == 250
    assert (lean.connections, len(lean.taken)) == (2, 2)


async def test_a_stale_connection_is_replaced_only_once(lean: Lean, pool: SmtpPool) -> None:
    await submit(pool)
    lean.then("mail", CLOSE, CLOSE)
    with pytest.raises(NotSent, match="smtp_disconnected"):
        await submit(pool)
    assert lean.connections == 2


async def test_a_lost_answer_is_never_replayed(lean: Lean, pool: SmtpPool) -> None:
    await submit(pool)
    lean.then("body", CLOSE)
    with pytest.raises(AnswerLost, match="smtp_lost"):
        await submit(pool)
    assert (lean.connections, len(lean.taken)) == (1, 2)


async def test_a_server_that_counts_messages_is_met_again(lean: Lean, pool: SmtpPool) -> None:
    await submit(pool)
    lean.then("mail", "421 4.7.0 enough on this connection!close")
    assert (await submit(pool)).code == 250
    assert lean.connections == 2


async def test_a_connection_closed_while_idle_is_not_taken(lean: Lean, pool: SmtpPool) -> None:
    await submit(pool)
    lean.open[0].transport.write(b"421 4.4.2 idle\r\n")
    lean.open[0].transport.close()
    await asyncio.sleep(0.05)
    assert (await submit(pool)).code == 250
    assert lean.connections == 2


async def test_a_connection_whose_server_spoke_unasked_is_not_taken(lean: Lean, pool: SmtpPool) -> None:
    await submit(pool)
    lean.open[0].transport.write(b"421 4.4.2 idle, but the connection stays open\r\n")
    await asyncio.sleep(0.05)
    assert (await submit(pool)).code == 250
    assert lean.connections == 2


async def test_a_refused_recipient_leaves_the_connection_usable(lean: Lean, pool: SmtpPool) -> None:
    # a server that answers DATA with 554 when nobody was accepted, as Postfix does
    lean.then("rcpt", "550 5.1.1 no")
    if lean.pipelining:
        lean.then("data", "554 5.5.1 no valid recipients")
    assert (await submit(pool)).stage == "rcpt"
    assert (await submit(pool)).code == 250
    assert lean.connections == 1
    assert lean.commands.count("RSET") == 1


@pytest.mark.parametrize("stage", ["greeting", "mail", "data", "body"])
async def test_cancelling_gives_the_slot_back_and_the_connection_up(lean: Lean, pool: SmtpPool, stage: str) -> None:
    lean.then(stage, STALL)
    task = asyncio.create_task(submit(pool))
    await until(lambda: any(one.silent for one in lean.open))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: lean.open == [])
    assert (await submit(pool)).code == 250


async def test_a_waiter_that_gives_up_is_not_sent_and_takes_no_slot(lean: Lean, pool: SmtpPool) -> None:
    lean.then("body", STALL)
    first = asyncio.create_task(submit(pool, timeout_s=2.0))
    await until(lambda: any(one.silent for one in lean.open))
    with pytest.raises(NotSent, match="smtp_timeout"):
        await submit(pool, timeout_s=0.1)
    with pytest.raises(AnswerLost, match="smtp_timeout"):
        await first
    assert (await submit(pool)).code == 250


async def test_waiters_are_served_in_order(lean: Lean) -> None:
    pool = pool_for(lean, connections=2)
    served: list[int] = []

    async def one(n: int) -> None:
        await submit(pool, recipient=f"p{n}@example.com")
        served.append(n)

    await asyncio.gather(*(one(n) for n in range(40)))
    reached = [int(c.split("p")[1].split("@")[0]) for c in lean.commands if c.startswith("RCPT")]
    assert lean.connections == 2
    assert all(abs(place - n) <= 1 for place, n in enumerate(reached))
    assert sorted(served) == list(range(40))
    await pool.close()


async def test_a_connection_ends_after_its_share_of_messages(lean: Lean) -> None:
    pool = pool_for(lean, messages=2)
    for _ in range(5):
        await submit(pool)
    await until(lambda: lean.commands.count("QUIT") >= 2)
    assert lean.connections == 3
    assert lean.commands.count("QUIT") == 2
    await pool.close()


async def test_idle_connections_are_closed(lean: Lean) -> None:
    pool = pool_for(lean, connections=3, idle_s=0.1)
    await asyncio.gather(*(submit(pool) for _ in range(3)))
    await until(lambda: lean.open == [])
    assert lean.commands.count("QUIT") == 3
    assert (await submit(pool)).code == 250
    await pool.close()


async def test_a_closed_pool_says_good_bye_and_takes_nothing(lean: Lean) -> None:
    pool = pool_for(lean)
    await submit(pool)
    await pool.close()
    await until(lambda: lean.open == [])
    with pytest.raises(NotSent, match="smtp_closed"):
        await submit(pool)
