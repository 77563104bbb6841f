"""The same id again: a new code by the next channel, the old one worth nothing, and bounds on how often."""

from __future__ import annotations

from datetime import timedelta

import pytest

from activities.accounts.account import Account
from activities.accounts.slots import Slots
from channels.memory import MemoryProvider
from domain.channels import Channel
from domain.otp import MOST_ATTEMPTS, MOST_SENDS, Limit
from domain.results import ResultClass, SendResult
from tests.api.conftest import at_once
from tests.otp.conftest import Otp, code_in, wrong
from tests.otp.test_make import USER, user


@pytest.fixture(autouse=True)
def unlimited(otp: Otp) -> None:
    otp.unlimited()


async def test_only_the_newest_code_fits(otp: Otp) -> None:
    otp_id, first = await otp.sent(length=10)
    again = await otp.resend(otp_id)
    assert again.status_code == 202, again.text
    assert again.json()["id"] == otp_id
    second = code_in(await otp.delivered(again.json()["notification_id"]))
    assert second != first
    assert await otp.verdict(otp_id, first) == "otp_wrong"
    assert await otp.verdict(otp_id, second) == "verified"


async def test_an_expired_code_is_sent_anew(otp: Otp) -> None:
    otp_id, _ = await otp.sent()
    await otp.api.pool.execute("UPDATE otp SET expires_at = now()")
    again = (await otp.resend(otp_id)).json()
    assert await otp.verdict(otp_id, code_in(await otp.delivered(again["notification_id"]))) == "verified"


async def test_before_its_time_it_is_not_sent_again(otp: Otp) -> None:
    otp.limit(cooldown=Limit(1, timedelta(seconds=60)))
    otp_id, code = await otp.sent()
    answer = await otp.resend(otp_id)
    assert (answer.status_code, answer.json()["code"]) == (429, "otp_too_soon")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert await otp.count("notification") == 1
    assert await otp.verdict(otp_id, code) == "verified"


async def test_it_goes_by_the_next_channel(otp: Otp) -> None:
    await user(otp)
    made = await otp.made(USER, channels=["email", "webhook"])
    assert (await otp.delivered(made["notification_id"])).channel == "email"
    second = (await otp.resend(made["id"])).json()
    assert (await otp.delivered(second["notification_id"])).channel == "webhook"
    third = (await otp.resend(made["id"])).json()
    message = await otp.delivered(third["notification_id"])
    assert message.channel == "email"
    assert await otp.verdict(made["id"], code_in(message)) == "verified"


async def test_a_failed_channel_falls_back_with_the_same_code(otp: Otp) -> None:
    await user(otp)
    otp.engine.providers[Channel.EMAIL].script(SendResult(ResultClass.PERMANENT, code="554"))
    made = await otp.made(USER, channels=["email", "webhook"])
    await otp.delivered(made["notification_id"])
    [by_mail] = otp.engine.providers[Channel.EMAIL].sent
    [by_hook] = otp.engine.providers[Channel.WEBHOOK].sent
    assert code_in(by_mail) == code_in(by_hook)
    assert await otp.verdict(made["id"], code_in(by_hook)) == "verified"


async def test_a_verified_code_stops_the_failover(otp: Otp) -> None:
    """Success-aware: a mail that waits for its retry, with a webhook behind it, and the code comes back by whatever way."""
    await user(otp)
    otp.engine.providers[Channel.EMAIL].script(SendResult(ResultClass.RETRY, code="451"))
    made = await otp.made(USER, channels=["email", "webhook"])
    code = code_in(await otp.delivered(made["notification_id"]))
    assert len(await otp.engine.work()) == 1
    assert await otp.verdict(made["id"], code) == "verified"
    assert await otp.engine.work() == []
    assert otp.engine.providers[Channel.WEBHOOK].sent == []
    state = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert (state["status"], state["final"]) == ("cancelled", True)


@pytest.mark.parametrize("verified", [False, True])
async def test_the_next_channel_follows_a_missing_receipt_unless_it_was_verified(otp: Otp, *, verified: bool) -> None:
    """Success-aware: what comes back as a code has arrived, whether anybody reports it or not."""
    await user(otp)
    mail = otp.engine.providers[Channel.EMAIL] = MemoryProvider(channel=Channel.EMAIL, receipts=True)
    hook = otp.engine.providers[Channel.WEBHOOK]
    otp.engine.accounts.replace([Account("mail", mail, Slots(1)), Account("hook", hook, Slots(1))])
    made = await otp.made(USER, channels=["email", "webhook"])
    code = code_in(await otp.delivered(made["notification_id"]))
    [waits] = await otp.engine.pool.fetch("SELECT due_at - now() AS left FROM work")
    assert timedelta(seconds=5) < waits["left"] <= timedelta(seconds=30)
    assert hook.sent == []
    if verified:
        assert await otp.verdict(made["id"], code) == "verified"
        assert await otp.engine.work() == []
        return
    await otp.engine.make_due()
    await otp.drive(made["notification_id"])
    assert [code_in(message) for message in hook.sent] == [code]
    assert await otp.verdict(made["id"], code) == "verified"


async def test_what_is_left_of_the_old_message_is_stopped(otp: Otp) -> None:
    """Its code no longer fits: it must not arrive behind the new one."""
    made = await otp.made()
    again = (await otp.resend(made["id"])).json()
    old = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert (old["status"], old["final"]) == ("cancelled", True)
    told = (await otp.api.get(f"/v1/notifications/{made['notification_id']}/timeline")).json()["items"]
    details = {event["type"]: event["detail"] for event in told}
    assert details["cancelled"]["because"] == "resent"
    assert details["resent"] == {"as": again["notification_id"]}
    new = (await otp.api.get(f"/v1/notifications/{again['notification_id']}")).json()
    assert (new["resend_of"], new["otp"]) == (made["notification_id"], made["id"])


async def test_a_claimed_message_whose_code_was_replaced_is_not_sent(otp: Otp) -> None:
    made = await otp.made()
    await otp.api.pool.execute("UPDATE otp SET notification_id = gen_random_uuid()")
    await otp.drive(made["notification_id"])
    assert otp.engine.providers[Channel.EMAIL].sent == []


async def test_guesses_count_over_all_codes_of_an_id(otp: Otp) -> None:
    """Otherwise each resend would buy five more."""
    otp_id, code = await otp.sent()
    for _ in range(MOST_ATTEMPTS - 1):
        assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    again = (await otp.resend(otp_id)).json()
    code = code_in(await otp.delivered(again["notification_id"]))
    answer = await otp.verify(otp_id, wrong(code))
    assert answer.json()["attempts_left"] == 0
    assert await otp.verdict(otp_id, code) == "otp_locked"
    locked = await otp.resend(otp_id)
    assert (locked.status_code, locked.json()["code"]) == (422, "otp_locked")


async def test_an_id_is_sent_five_times_at_most(otp: Otp) -> None:
    made = await otp.made()
    for _ in range(MOST_SENDS - 1):
        assert (await otp.resend(made["id"])).status_code == 202
    answer = await otp.resend(made["id"])
    assert (answer.status_code, answer.json()["code"]) == (409, "otp_exhausted")
    assert await otp.count("notification") == MOST_SENDS


async def test_a_used_code_is_not_sent_again(otp: Otp) -> None:
    otp_id, code = await otp.sent()
    await otp.verify(otp_id, code)
    answer = await otp.resend(otp_id)
    assert (answer.status_code, answer.json()["code"]) == (422, "otp_used")


async def test_resends_at_once_send_one(otp: Otp) -> None:
    otp.limit(cooldown=Limit(1, timedelta(seconds=60)))
    made = await otp.made()
    await otp.api.pool.execute("UPDATE otp SET resend_at = now()")
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    answers = await at_once(otp.resend(made["id"]) for _ in range(8))
    assert sorted(answer.status_code for answer in answers) == [202] + [429] * 7
    assert await otp.count("notification") == 2


async def test_the_same_resend_again_gets_the_first_answer(otp: Otp) -> None:
    otp.limit(cooldown=Limit(1, timedelta(seconds=60)))
    made = await otp.made()
    early = await otp.resend(made["id"], once="k")
    assert early.status_code == 429
    await otp.api.pool.execute("UPDATE otp SET resend_at = now()")
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    first = await otp.resend(made["id"], once="k")
    again = await otp.resend(made["id"], once="k")
    assert (first.status_code, again.status_code) == (202, 200), again.text
    assert again.content == first.content
    assert await otp.count("notification") == 2


async def test_a_user_without_any_address_left_is_told(otp: Otp) -> None:
    await user(otp)
    made = await otp.made(USER)
    await otp.api.pool.execute("DELETE FROM identity")
    answer = await otp.resend(made["id"])
    assert (answer.status_code, answer.json()["code"]) == (422, "recipient_gone")
    assert await otp.count("notification") == 1


async def test_the_same_resend_again_after_its_code_is_kept_no_more(otp: Otp) -> None:
    """Keys are kept longer than codes."""
    otp_id, _ = await otp.sent()
    first = await otp.resend(otp_id, once="k")
    await otp.api.pool.execute("DELETE FROM otp")
    again = await otp.resend(otp_id, once="k")
    assert (first.status_code, again.status_code, again.content) == (202, 200, first.content)
    assert (await otp.resend(otp_id, once="new")).status_code == 404
    assert (await otp.resend(otp_id, once="k", key="other")).status_code == 404
