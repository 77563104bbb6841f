"""The exact line between "nothing was taken" and "perhaps taken"; no connection is used again in an unknown state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from channels.base import AnswerLost, NotSent, SmtpReply, TransportError
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.http_calls import until
from tests.channels.lean_smtp import CLOSE, RESET, STALL, Lean, lean_smtp

TEXT = b"Subject: x\r\n\r\nHello\r\n.dot\r\n..two\r\n"


@pytest.fixture(params=[False, True], ids=["plain", "pipelining"])
async def lean(request: pytest.FixtureRequest) -> AsyncIterator[Lean]:
    async with lean_smtp(pipelining=request.param) as server:
        yield server


def pool_for(lean: Lean, *, connections: int = 1, messages: int = 100, idle_s: float = 30.0) -> SmtpPool:
    return SmtpPool(
        SmtpServer(
            host="127.0.0.1",
            port=lean.port,
            security=SmtpSecurity.NONE,
            connections=connections,
            messages_per_connection=messages,
            idle_s=idle_s,
        )
    )


@pytest.fixture
async def pool(lean: Lean) -> AsyncIterator[SmtpPool]:
    made = pool_for(lean)
    yield made
    await made.close()


async def submit(pool: SmtpPool, *, recipient: str = "b@example.com", timeout_s: float = 5.0) -> SmtpReply:
    return await pool.submit(sender="a@example.com", recipient=recipient, message=TEXT, timeout_s=timeout_s)


async def test_messages_share_a_connection_and_arrive_as_they_are(lean: Lean, pool: SmtpPool) -> None:
    replies = [await submit(pool) for _ in range(3)]
    assert replies == [SmtpReply(250, "2.0.0", "data")] * 3
    assert lean.connections == 1
    assert [c.split()[0] for c in lean.commands] == ["EHLO"] + ["MAIL", "RCPT", "DATA"] * 3
    assert lean.commands[1:3] == [f"MAIL FROM:<a@example.com> SIZE={len(TEXT)}", "RCPT TO:<b@example.com>"]
    assert lean.taken == [b"Subject: x\r\n\r\nHello\r\n..dot\r\n...two\r\n"] * 3  # stuffed, as it is on the wire


@pytest.mark.parametrize(
    ("offered", "within_s", "expected"),
    [
        (None, 300.9, None),
        ("", 300.9, range(299, 301)),
        (" 240", 300.9, range(299, 301)),
        (" 600", 300.9, None),  # less than the server takes: it would refuse the mail
        ("", 0.5, None),
        ("", None, None),
        ("", 1e12, None),
        (" soon", 300.9, range(299, 301)),
    ],
)
async def test_the_time_that_is_left_goes_to_a_server_that_can_keep_to_it(
    lean: Lean, pool: SmtpPool, offered: str | None, within_s: float | None, expected: range | None
) -> None:
    """RFC 2852: it returns what it has not delivered by then."""
    lean.deliver_by = offered
    await pool.submit(sender="a@b.example", recipient="c@d.example", message=TEXT, timeout_s=5, within_s=within_s)
    mail = lean.commands[1].removeprefix(f"MAIL FROM:<a@b.example> SIZE={len(TEXT)}")
    if expected is None:
        assert mail == ""
    else:
        assert mail.startswith(" BY=")
        assert mail.endswith(";R")
        assert int(mail[4:-2]) in expected


@pytest.mark.parametrize(
    ("stage", "answer", "expected"),
    [
        ("greeting", "554 5.7.1 go away", SmtpReply(554, "5.7.1", "connect")),
        ("greeting", "421 4.3.2 busy", SmtpReply(421, "4.3.2", "connect")),
        ("mail", "451 4.3.0 later", SmtpReply(451, "4.3.0", "mail")),
        ("mail", "421 4.7.0 bye!close", SmtpReply(421, "4.7.0", "mail")),
        ("rcpt", "550 5.1.1 <b@example.com> unknown", SmtpReply(550, "5.1.1", "rcpt")),
        ("rcpt", "550-first\r\n550 second", SmtpReply(550, "", "rcpt")),
        ("rcpt", "450-4.7.1 first\r\n450 4.7.1 second", SmtpReply(450, "4.7.1", "rcpt")),
        ("data", "554 5.5.1 no", SmtpReply(554, "5.5.1", "data")),
        ("body", "552 5.2.2 full", SmtpReply(552, "5.2.2", "data")),
        ("body", "451 4.3.0 later", SmtpReply(451, "4.3.0", "data")),
        ("body", "250", SmtpReply(250, "", "data")),
        ("body", "250 2.0.0 ok!close", SmtpReply(250, "2.0.0", "data")),
    ],
)
async def test_a_refusal_is_an_answer(lean: Lean, pool: SmtpPool, stage: str, answer: str, expected: SmtpReply) -> None:
    lean.then(stage, answer)
    assert await submit(pool) == expected
    taken = len(lean.taken)
    assert await submit(pool) == SmtpReply(250, "2.0.0", "data")  # the next message finds a clean connection
    assert len(lean.taken) == taken + 1


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "mail", "rcpt", "data", "body"])
@pytest.mark.parametrize("answer", [RESET, CLOSE, STALL, "what?", "abc-def", "355 strange", "25"])
async def test_without_an_answer_only_the_body_makes_it_unknown(
    lean: Lean, pool: SmtpPool, stage: str, answer: str
) -> None:
    lean.then(stage, answer)
    with pytest.raises(TransportError) as raised:
        await submit(pool, timeout_s=0.3)
    assert type(raised.value) is (AnswerLost if stage == "body" else NotSent), raised.value
    assert len(lean.taken) == (1 if stage == "body" else 0)
    assert "@" not in raised.value.code
    assert await submit(pool) == SmtpReply(250, "2.0.0", "data")
    assert lean.connections == 2  # the first was not used again


async def test_an_answer_to_nothing_is_not_taken_for_the_answer_to_the_message(lean: Lean, pool: SmtpPool) -> None:
    lean.then("data", "354 go\r\n250 2.0.0 queued before it was sent")
    with pytest.raises(NotSent, match="smtp_bad_reply"):
        await submit(pool)
    assert lean.taken == []


async def test_a_break_in_the_middle_of_a_large_body_is_unknown(lean: Lean, pool: SmtpPool) -> None:
    lean.then("data", "354 go!close")
    with pytest.raises(TransportError) as raised:
        await pool.submit(sender="a@b.example", recipient="c@d.example", message=b"x" * 20_000_000, timeout_s=5)
    # the close may be seen before the first byte of the body is handed over; then it is certain that nothing was
    assert raised.value.code in ("smtp_lost", "smtp_disconnected")
    assert type(raised.value) is (AnswerLost if raised.value.code == "smtp_lost" else NotSent)
    assert lean.taken == []


async def test_a_port_where_nobody_listens() -> None:
    pool = SmtpPool(SmtpServer(host="127.0.0.1", port=1, security=SmtpSecurity.NONE))
    with pytest.raises(NotSent, match="smtp_connect_refused"):
        await submit(pool)
    pool = SmtpPool(SmtpServer(host="no-such-host.invalid", security=SmtpSecurity.NONE))
    with pytest.raises(NotSent, match=r"smtp_dns_failed|smtp_connect_failed|smtp_timeout"):
        await submit(pool)


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


async def test_nothing_is_sent_for_a_refused_recipient_even_if_data_is_welcome() -> None:
    async with lean_smtp(pipelining=True) as lean:
        pool = pool_for(lean)
        lean.then("rcpt", "550 5.1.1 no")
        assert await submit(pool) == SmtpReply(550, "5.1.1", "rcpt")
        await until(lambda: lean.open == [])
        assert lean.taken == []
        await pool.close()


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


@pytest.mark.parametrize("address", ["a@b\r\nRCPT TO:<c@d>", "a b@c", "a>@b", "ä@b", "a@b\0"])
async def test_no_address_can_become_a_command(lean: Lean, pool: SmtpPool, address: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        await submit(pool, recipient=address)
    assert lean.commands == []


@pytest.mark.parametrize("text", [b"", b".", b".\r\n", b"a\r\n.\r\nb", b"a", b"a\r\n.", b"..\r\n..\r\n"])
async def test_no_text_can_end_the_message(lean: Lean, pool: SmtpPool, text: bytes) -> None:
    await pool.submit(sender="a@b.example", recipient="c@d.example", message=text, timeout_s=2)
    (taken,) = lean.taken
    unstuffed = (b"\r\n" + taken).replace(b"\r\n.", b"\r\n")[2:]
    assert unstuffed == (text if text.endswith(b"\r\n") else text + b"\r\n")
    assert not [c for c in lean.commands if c.split()[0] not in ("EHLO", "MAIL", "RCPT", "DATA")]
