"""Behaviours over SMTP with a real client, sign-in, and what one connection sees."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import aiosmtplib
import pytest

import sandbox
from tests.channels.http_calls import until
from tests.sandbox.mails import RawClient, mail, new_delivery, transferred


async def sent(box: sandbox.Box, recipient: str, *, delivery: str | None = None, timeout_s: float = 5) -> tuple[int, str]:
    """The code and text that the client is left with; (-1, "") when there was no readable answer."""
    try:
        _, text = await aiosmtplib.send(
            mail(to=recipient, delivery=delivery),
            sender="no-reply@tongda.example",
            recipients=[recipient],
            hostname=box.host,
            port=box.smtp_port,
            timeout=timeout_s,
        )
    except aiosmtplib.SMTPRecipientsRefused as refused:
        first = refused.recipients[0]
        return first.code, first.message
    except aiosmtplib.SMTPResponseException as refused:
        return refused.code, refused.message
    except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
        return -1, ""
    return 250, text


def last(box: sandbox.Box) -> sandbox.Seen:
    return box.record.find()[0][0].seen


@pytest.mark.parametrize(
    ("word", "code", "enhanced"),
    [
        ("bounce", 550, "5.1.1"),
        ("full", 552, "5.2.2"),
        ("busy", 421, "4.3.2"),
        ("auth", 535, "5.7.8"),
        ("spam", 554, "5.7.1"),
        ("redirect", 551, "5.1.6"),
        ("http500", 451, "4.3.0"),
        ("http503", 451, "4.3.0"),
        ("http429", 451, "4.3.0"),
        ("http404", 554, "5.3.0"),
    ],
)
@pytest.mark.parametrize("form", ["{}@any.example", "{}+anything@any.example", "{}@ANY.example"])
async def test_refusing_words(word: str, code: int, enhanced: str, form: str, box: sandbox.Box) -> None:
    answer = await sent(box, form.format(word))
    assert (answer[0], answer[1].split()[0]) == (code, enhanced)
    assert (last(box).taken, last(box).behaviour) == (False, word)
    assert str(code) in (last(box).why or "")


@pytest.mark.parametrize(
    "recipient", ["fang@demo.example", "bouncer@demo.example", "http200@demo.example", "x+bounce@demo.example"]
)
async def test_any_other_name_is_taken(recipient: str, box: sandbox.Box) -> None:
    delivery = new_delivery()
    assert (await sent(box, recipient, delivery=delivery))[0] == 250
    assert (last(box).taken, last(box).verdict) == (True, sandbox.Verdict.ACCEPTED)
    assert (last(box).delivery, last(box).subject) == (delivery, "订单 A-77 已发货")


async def test_greylist_is_per_message_and_recipient(box: sandbox.Box) -> None:
    delivery = new_delivery()
    assert (await sent(box, "greylist@a.example", delivery=delivery))[0] == 450
    assert last(box).verdict is sandbox.Verdict.GREYLISTED
    assert (await sent(box, "greylist@b.example", delivery=delivery))[0] == 450
    assert (await sent(box, "greylist@a.example", delivery=delivery))[0] == 250
    assert (await sent(box, "greylist@a.example", delivery=new_delivery()))[0] == 450


async def test_flaky_fails_every_third_time(box: sandbox.Box) -> None:
    assert [(await sent(box, "flaky@a.example"))[0] for _ in range(6)] == [250, 250, 451, 250, 250, 451]


async def test_slow_answers_late(box: sandbox.Box) -> None:
    started = asyncio.get_running_loop().time()
    assert (await sent(box, "slow@a.example"))[0] == 250
    assert asyncio.get_running_loop().time() - started >= 0.3
    assert last(box).taken


async def test_slow_takes_nothing_from_a_client_that_left() -> None:
    async with sandbox.running(slow_s=60.0) as box:
        assert (await sent(box, "slow@a.example", timeout_s=1.0))[0] == -1
        await until(lambda: box.record.count == 1)
        assert (last(box).verdict, last(box).taken) == (sandbox.Verdict.ABANDONED, False)


async def test_hang_never_answers_nor_takes(box: sandbox.Box) -> None:
    assert (await sent(box, "hang@a.example"))[0] == -1
    assert (last(box).verdict, last(box).taken) == (sandbox.Verdict.HUNG, False)


async def test_drop_takes_without_an_answer(box: sandbox.Box) -> None:
    delivery = new_delivery()
    assert (await sent(box, "drop@a.example", delivery=delivery))[0] == -1
    assert (last(box).verdict, last(box).taken, last(box).answer) == (sandbox.Verdict.DROPPED, True, None)
    await sent(box, "drop@a.example", delivery=delivery)
    assert box.record.stats()["duplicates"] == [delivery]


async def test_drop_closes_after_the_final_dot(box: sandbox.Box) -> None:
    assert await transferred(box, mail(), to=b"drop@a.example") == ""
    assert last(box).taken


async def test_reset_is_a_tcp_reset_at_rcpt(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    await client.say(b"MAIL FROM:<a@tongda.example>")
    with pytest.raises(ConnectionResetError):
        await client.say(b"RCPT TO:<reset@a.example>")
    await client.close()
    assert (last(box).verdict, last(box).taken, last(box).raw) == (sandbox.Verdict.RESET, False, b"")


async def test_dropreset_is_a_tcp_reset_after_the_message(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    with pytest.raises(ConnectionResetError):
        await client.transfer(mail(), to=b"dropreset@a.example")
    await client.close()
    assert (last(box).verdict, last(box).taken, last(box).answer) == (sandbox.Verdict.DROPPED, True, None)


async def test_garbage_is_no_smtp_reply(box: sandbox.Box) -> None:
    assert (await transferred(box, mail(), to=b"garbage@a.example")).startswith("<html>")
    assert (last(box).verdict, last(box).taken) == (sandbox.Verdict.GARBLED, True)


async def test_busy_closes_the_connection(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    assert (await client.transfer(mail(), to=b"busy@a.example")).startswith("421 4.3.2")
    assert await client.reply() == ""
    await client.close()


async def test_delivery_header_wins_over_message_id(box: sandbox.Box) -> None:
    await transferred(box, b"X-Tongda-Delivery: abc-1\r\n" + mail())
    assert last(box).delivery == "abc-1"


async def test_one_item_for_each_recipient(box: sandbox.Box) -> None:
    async with aiosmtplib.SMTP(hostname=box.host, port=box.smtp_port) as client:
        await client.sendmail("a@tongda.example", ["x@a.example", "y@a.example"], mail())
    assert {item.seen.recipient for item in box.record.find()[0]} == {"x@a.example", "y@a.example"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


async def test_starttls_and_sign_in_are_required_with_a_user_name(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    async with sandbox.running(smtp_username="tongda", smtp_password="s3cret", tls_cert=cert, tls_key=key) as box:
        plain = await RawClient.greeted(box, hello=b"NOOP")
        offer = await plain.say(b"EHLO client.example")
        assert "STARTTLS" in offer
        assert "AUTH" not in offer
        assert (await plain.say(b"MAIL FROM:<a@tongda.example>")).startswith("530")
        await plain.close()
        trust = ssl.create_default_context(cafile=str(cert))
        client = aiosmtplib.SMTP(hostname=box.host, port=box.smtp_port, start_tls=True, tls_context=trust)
        async with client:
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
                await client.sendmail("a@tongda.example", ["x@a.example"], mail())
            assert refused.value.code == 530
            with pytest.raises(aiosmtplib.SMTPAuthenticationError) as wrong:
                await client.login("tongda", "wrong")
            assert wrong.value.code == 535
            await client.login("tongda", "s3cret")
            await client.sendmail("a@tongda.example", ["x@a.example"], mail())
        assert last(box).taken
        assert "s3cret" not in str([item.brief() for item in box.record.find()[0]])


async def test_sign_in_without_tls_where_there_is_no_certificate() -> None:
    async with sandbox.running(smtp_username="tongda", smtp_password="s3cret") as box:
        async with aiosmtplib.SMTP(hostname=box.host, port=box.smtp_port) as client:
            await client.login("tongda", "s3cret")
            await client.sendmail("a@tongda.example", ["x@a.example"], mail())
        assert last(box).taken


async def test_no_auth_offered_without_a_user_name(box: sandbox.Box) -> None:
    client = await RawClient.greeted(box)
    assert "AUTH" not in await client.say(b"EHLO client.example")
    assert (await client.say(b"AUTH PLAIN AGEAYg=="))[0] == "5"
    await client.close()
