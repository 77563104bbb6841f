"""The exact line between "nothing was taken" and "perhaps taken", through the whole dialogue."""

from __future__ import annotations

import pytest

from channels.base import AnswerLost, NotSent, SmtpReply, TransportError
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from tests.channels.http_calls import until
from tests.channels.lean_smtp import CLOSE, RESET, STALL, Lean, lean_smtp
from tests.channels.smtp_calls import TEXT, pool_for, submit


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


async def test_nothing_is_sent_for_a_refused_recipient_even_if_data_is_welcome() -> None:
    async with lean_smtp(pipelining=True) as lean:
        pool = pool_for(lean)
        lean.then("rcpt", "550 5.1.1 no")
        assert await submit(pool) == SmtpReply(550, "5.1.1", "rcpt")
        await until(lambda: lean.open == [])
        assert lean.taken == []
        await pool.close()


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
