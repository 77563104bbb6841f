"""A guess: counted under the row's lock, right once, and what is left of the message is stopped."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from activities.accounts.account import Account, Accounts
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from channels.receipts import Receipt
from domain.channels import Channel
from domain.health import IN_A_ROW
from domain.otp import MOST_ATTEMPTS, NEXT_CHANNEL_AFTER
from domain.results import ResultClass
from domain.states import Status
from tests.api.conftest import at_once
from tests.engine.support import Engine
from tests.otp.conftest import Otp, code_in, wrong


async def test_the_right_code_fits_once(otp: Otp) -> None:
    otp_id, code = await otp.sent()
    assert await otp.verdict(otp_id, code) == "verified"
    assert await otp.verdict(otp_id, code) == "otp_used"
    assert await otp.verdict(otp_id, wrong(code)) == "otp_used"


async def test_wrong_guesses_are_counted_and_lock(otp: Otp) -> None:
    otp_id, code = await otp.sent()
    for left in reversed(range(MOST_ATTEMPTS)):
        answer = await otp.verify(otp_id, wrong(code))
        assert (answer.status_code, answer.json()["code"], answer.json()["attempts_left"]) == (422, "otp_wrong", left)
    answer = await otp.verify(otp_id, code)
    assert answer.json()["code"] == "otp_locked"
    assert "attempts_left" not in answer.json()


async def test_guesses_at_once_never_pass_the_limit(otp: Otp) -> None:
    """Catches: counting without the row's lock. Each guess would read the same count, and all of them were tried."""
    otp_id, code = await otp.sent(length=4)
    guesses = [f"{number:04}" for number in range(40) if f"{number:04}" != code]
    answers = await at_once(otp.verify(otp_id, guess) for guess in guesses)
    said = Counter(answer.json()["code"] for answer in answers)
    assert said == {"otp_wrong": MOST_ATTEMPTS, "otp_locked": len(guesses) - MOST_ATTEMPTS}
    lefts = sorted(a.json()["attempts_left"] for a in answers if a.json()["code"] == "otp_wrong")
    assert lefts == list(range(MOST_ATTEMPTS))
    assert await otp.verdict(otp_id, code) == "otp_locked"


async def test_of_right_guesses_at_once_one_wins(otp: Otp) -> None:
    """Catches: single use without the row's lock."""
    otp_id, code = await otp.sent()
    answers = await at_once(otp.verify(otp_id, code) for _ in range(20))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 19
    assert {a.json()["code"] for a in answers if a.status_code == 422} == {"otp_used"}


async def test_an_expired_code_does_not_fit(otp: Otp) -> None:
    otp_id, code = await otp.sent()
    await otp.api.pool.execute("UPDATE otp SET expires_at = now()")
    assert await otp.verdict(otp_id, wrong(code)) == "otp_expired"
    assert await otp.verdict(otp_id, code) == "otp_expired"
    assert await otp.api.pool.fetchval("SELECT attempts FROM otp") == 0


async def test_a_code_made_under_another_key_has_expired(otp: Otp) -> None:
    """After TONGDA_SECRET_KEY was changed."""
    otp_id, code = await otp.sent()
    await otp.api.pool.execute("UPDATE otp SET key_id = 'other'")
    assert await otp.verdict(otp_id, code) == "otp_expired"
    assert await otp.api.pool.fetchval("SELECT attempts FROM otp") == 0


@pytest.mark.parametrize("guess", ["", "123", "12345678901", "12345a", "１２３４５６", "123456\n", " 123456"])
async def test_what_is_no_code_is_refused_and_not_counted(otp: Otp, guess: str) -> None:
    made = await otp.made()
    answer = await otp.verify(made["id"], guess)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["pointer"] == "/code"
    assert answer.json()["errors"][0]["detail"] == "A code has 4 to 10 digits."
    assert guess not in answer.text or guess == ""
    assert await otp.api.pool.fetchval("SELECT attempts FROM otp") == 0


async def test_another_tenants_id_is_not_there(otp: Otp) -> None:
    otp_id, code = await otp.sent()
    assert (await otp.verify(otp_id, code, key="other")).status_code == 404
    assert (await otp.resend(otp_id, key="other")).status_code == 404
    assert await otp.verdict(otp_id, code) == "verified"


async def test_a_verified_code_stops_what_is_left_of_its_message(otp: Otp) -> None:
    """Read on a page while the mail server greylists: the retry must not come."""
    made = await otp.made()
    notification = made["notification_id"]
    code = await _computed(otp, made["id"])
    assert await otp.verdict(made["id"], code) == "verified"
    state = (await otp.api.get(f"/v1/notifications/{notification}")).json()
    assert (state["status"], state["reason"], state["final"]) == ("cancelled", "cancelled_by_request", True)
    assert await otp.count("work") == 0
    events = (await otp.api.get(f"/v1/notifications/{notification}/timeline")).json()["items"]
    told = {event["type"]: event["detail"] for event in events}
    assert told["cancelled"]["because"] == "verified"
    assert told["verified"] == {"send": 1}


async def _computed(otp: Otp, otp_id: str) -> str:
    """The code before anybody has sent it, as the worker computes it."""
    from infra.otp_codes import OtpCodes, Seed

    row = await otp.api.pool.fetchrow("SELECT * FROM otp WHERE id = $1::text::uuid", otp_id)
    assert row is not None
    codes = OtpCodes(otp.api.container.settings.secret_key.get_secret_value())
    return codes.code(Seed(row["id"], row["sends"], row["salt"], row["length"]))


async def test_a_message_that_is_claimed_when_its_code_was_used_is_not_sent(otp: Otp) -> None:
    """Between the claim and its rendering: nobody needs the code any more."""
    made = await otp.made()
    await otp.api.pool.execute("UPDATE otp SET verified_at = now()")
    await otp.drive(made["notification_id"])
    assert all(not provider.sent for provider in otp.engine.providers.values())
    state = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert (state["status"], state["reason"]) == ("cancelled", "cancelled_by_request")


async def test_a_message_whose_code_expired_on_its_way_has_expired(otp: Otp) -> None:
    """Between the claim and its rendering: nobody has cancelled anything."""
    made = await otp.made()
    await otp.api.pool.execute("UPDATE otp SET expires_at = now()")
    await otp.drive(made["notification_id"])
    assert all(not provider.sent for provider in otp.engine.providers.values())
    state = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert (state["status"], state["reason"]) == ("expired", "expired_before_hand_over")


@pytest.mark.parametrize("verified", [False, True])
async def test_a_failure_after_the_end_moves_on_unless_the_code_was_verified(otp: Otp, verified: bool) -> None:  # noqa: FBT001 - a table
    """The code lives too short for `fallback_after`, so that its message ended as sent; then its receipt says `failed`."""
    hook = MemoryProvider(channel=Channel.WEBHOOK)
    mail = MemoryProvider(channel=Channel.EMAIL, receipts=True)
    otp.engine.providers.update({Channel.EMAIL: mail, Channel.WEBHOOK: hook})
    accounts = [Account("memory-email", mail, Slots(4)), Account("memory-webhook", hook, Slots(4))]
    otp.engine = Engine(otp.engine.pool, otp.engine.providers, Accounts(accounts))
    identities = [
        {"channel": "email", "address": "u@example.com"}, {"channel": "webhook", "address": "https://hook.example.com/"},
    ]  # fmt: skip
    await otp.api.post("/v1/users", {"id": "u-otp", "identities": identities})
    otp_id, code = await otp.sent({"user": "u-otp"}, channels=["email", "webhook"], fallback_after="PT1H")
    if verified:
        assert await otp.verdict(otp_id, code) == "verified"
    [sent] = mail.sent
    await otp.engine.receipts.take("memory-email", [Receipt(None, Status.FAILED, reference=sent.reference)])
    if verified:
        assert await otp.count("work") == 0
        return
    await otp.drive(str(sent.notification_id))
    assert code_in(hook.sent[0]) == code


async def test_a_code_leaves_a_channel_whose_provider_is_down(otp: Otp) -> None:
    """Caught: with the mail account's circuit open a code waited for it until it expired, beside a webhook that worked."""
    hook, mail = MemoryProvider(channel=Channel.WEBHOOK), MemoryProvider(channel=Channel.EMAIL)
    otp.engine.providers.update({Channel.EMAIL: mail, Channel.WEBHOOK: hook})
    down = Account("memory-email", mail, Slots(4))
    accounts = Accounts([down, Account("memory-webhook", hook, Slots(4))], clock=lambda: 100.0)
    for _ in range(IN_A_ROW):
        down.health.note(ResultClass.RETRY, now_s=100.0, took_s=0.1)
    otp.engine = Engine(otp.engine.pool, otp.engine.providers, accounts)
    identities = [
        {"channel": "email", "address": "u@example.com"}, {"channel": "webhook", "address": "https://hook.example.com/"},
    ]  # fmt: skip
    await otp.api.post("/v1/users", {"id": "u-otp", "identities": identities})
    made = await otp.made({"user": "u-otp"}, channels=["email", "webhook"])
    await otp.drive(made["notification_id"])
    waits = await otp.api.pool.fetchval("SELECT falls_back_at - now() FROM work")
    assert NEXT_CHANNEL_AFTER - timedelta(seconds=5) < waits <= NEXT_CHANNEL_AFTER
    await otp.api.pool.execute("UPDATE work SET due_at = now(), falls_back_at = now()")
    await otp.drive(made["notification_id"])
    assert mail.sent == []
    assert await otp.verdict(made["id"], code_in(hook.sent[0])) == "verified"
