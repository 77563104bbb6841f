"""A recipient whom too many wrong guesses keep out is let in again: exactly this one, by who may, and with a trace."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from domain.otp import Limit, Scope
from infra.otp_codes import OtpCodes
from infra.telemetry.metrics import OTP
from tests.api.conftest import at_once, codes
from tests.otp.conftest import TO, Otp, wrong
from tests.otp.test_guesses import assert_limited, at_most, counts, guessed_wrong
from tests.otp.test_make import USER, user

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOTHING = {"result": "nothing_counted", "wrong_guesses": {"hour": 0, "day": 0}}


async def asked(otp: Otp, to: dict[str, str], **rest: Any) -> httpx.Response:
    return await otp.api.post("/v1/otp/let-in", {"to": to}, **{"key": "administrator", **rest})


async def let_in(otp: Otp, to: dict[str, str]) -> dict[str, Any]:
    answer = await asked(otp, to)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_who_is_let_in_has_all_guesses_again_and_nobody_else_has_more(otp: Otp) -> None:
    at_most(otp, 2)
    mine, other = await otp.sent(), await otp.sent({"email": "li@example.com"})
    for otp_id, code in (mine, other):
        for _ in range(2):
            assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
        assert_limited(await otp.verify(otp_id, code))
    assert await let_in(otp, dict(TO)) == {"result": "let_in", "wrong_guesses": {"hour": 2, "day": 0}}
    assert await otp.verdict(*mine) == "verified"
    await guessed_wrong(otp, 2)
    assert_limited(await otp.make())
    assert_limited(await otp.verify(*other))


async def test_by_the_settings_limits_of_an_hour_and_of_a_day(otp: Otp) -> None:
    otp.limit(**{s: None for s in Scope if s not in (Scope.GUESSES_HOUR, Scope.GUESSES_DAY)})
    await guessed_wrong(otp, 15)
    await otp.api.pool.execute("UPDATE otp_counter SET until = now() WHERE scope = 'guesses_hour'")
    await guessed_wrong(otp, 15)
    assert_limited(await otp.make(), detail="Too many wrong guesses at this recipient's codes within a day.")
    assert await let_in(otp, dict(TO)) == {"result": "let_in", "wrong_guesses": {"hour": 15, "day": 30}}
    await guessed_wrong(otp, 15)


async def test_asked_again_it_does_nothing_more_and_says_what_it_did(otp: Otp) -> None:
    otp.limit(**{**dict.fromkeys(Scope, None), Scope.GUESSES_HOUR: Limit(3, HOUR), Scope.GUESSES_DAY: Limit(4, DAY)})
    assert await let_in(otp, dict(TO)) == NOTHING
    await guessed_wrong(otp, 2)
    assert await let_in(otp, dict(TO)) == {"result": "cleared", "wrong_guesses": {"hour": 2, "day": 2}}
    await guessed_wrong(otp, 3)
    assert await let_in(otp, dict(TO)) == {"result": "let_in", "wrong_guesses": {"hour": 3, "day": 3}}
    assert await let_in(otp, dict(TO)) == NOTHING
    otp_id, code = await otp.sent()
    assert await otp.verdict(otp_id, code) == "verified"
    assert await let_in(otp, dict(TO)) == NOTHING, "a right guess has left a counter of nothing"
    await guessed_wrong(otp, 3)
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    assert await let_in(otp, dict(TO)) == NOTHING, "what is over keeps nobody out"


async def test_a_user_is_let_in_with_all_addresses_however_they_are_spelt(otp: Otp) -> None:
    """By the user alone he would stay out: the address counts too, also in codes that name it by itself."""
    await user(otp)
    at_most(otp, 2)
    otp_id, code = await otp.sent(USER, channels=["email", "webhook"])
    hook, its = await otp.sent({"channel": "webhook", "address": "https://hook.example.com/wang"})
    for found, right in ((otp_id, code), (otp_id, code), (hook, its), (hook, its)):
        assert await otp.verdict(found, wrong(right)) == "otp_wrong"
    assert_limited(await otp.make({"email": "Wang+x@Example.com"}))
    assert (await let_in(otp, USER))["result"] == "let_in"
    assert await counts(otp) == []
    assert await otp.verdict(otp_id, code) == "verified"
    assert await otp.verdict(hook, its) == "verified"


async def test_an_address_is_let_in_by_itself(otp: Otp) -> None:
    await user(otp)
    at_most(otp, 1)
    otp_id, code = await otp.sent(USER, channels=["email"])
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    assert (await let_in(otp, {"email": "Wang+x@Example.com"}))["result"] == "let_in"
    await otp.made({"email": "wang@example.com"})
    assert_limited(await otp.verify(otp_id, code))
    assert await let_in(otp, USER) == {"result": "let_in", "wrong_guesses": {"hour": 1, "day": 0}}
    assert await otp.verdict(otp_id, code) == "verified"


async def test_what_was_counted_under_the_key_of_before_is_forgotten_too(otp: Otp) -> None:
    at_most(otp, 1)
    otp_id, code = await otp.sent()
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    key = otp.api.container.settings.secret_key.get_secret_value()
    otp.api.container.otp._codes = OtpCodes("another key, of more than 32 characters", others=[key])
    assert_limited(await otp.verify(otp_id, code))
    assert (await let_in(otp, dict(TO)))["result"] == "let_in"
    assert await otp.verdict(otp_id, code) == "verified"


async def test_no_other_limit_is_touched_and_no_locked_id_opened(otp: Otp) -> None:
    otp.limit(**{**dict.fromkeys(Scope, None), Scope.GUESSES_HOUR: Limit(5, HOUR), Scope.RECIPIENT_HOUR: Limit(2, HOUR)})
    locked, code = await otp.sent()
    for _ in range(5):
        assert await otp.verdict(locked, wrong(code)) == "otp_wrong"
    assert (await let_in(otp, dict(TO)))["result"] == "let_in"
    assert await otp.verdict(locked, code) == "otp_locked"
    await otp.made()
    assert_limited(await otp.make(), detail="Too many codes for this recipient within an hour.")


async def test_guesses_at_once_with_it_never_pass_the_limit_twice(otp: Otp) -> None:
    """A guess is before it or after it, and what is before is forgotten with the others. Nobody waits for ever."""
    await user(otp)
    at_most(otp, 4)
    sent = [await otp.sent(USER, channels=["email"]) for _ in range(4)]

    async def letting_in() -> httpx.Response:
        await asyncio.sleep(0.02)
        return await asked(otp, USER)

    answers = await at_once([*(otp.verify(otp_id, wrong(code)) for otp_id, code in sent * 5), letting_in()])
    said = Counter(answer.json()["code"] for answer in answers[:-1])
    assert set(said) <= {"otp_wrong", "otp_limited"}
    assert answers[-1].status_code == 200
    before = answers[-1].json()["wrong_guesses"]["hour"]
    after = max(await counts(otp), default=0)
    assert before <= 4
    assert after <= 4
    assert said["otp_wrong"] == before + after, "each is counted on one side"


async def test_it_is_the_tenants_own_and_tells_nothing_of_another(otp: Otp) -> None:
    """Users and addresses of the same name; and a user that only another tenant has is one that nobody has."""
    await user(otp)
    at_most(otp, 1)
    mine, by_mail = await otp.sent(USER, channels=["email"]), await otp.sent()
    for otp_id, code in (mine, by_mail):
        assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    theirs = await asked(otp, USER, key="other")
    nobody = await asked(otp, {"user": "u-nobody"}, key="other")
    assert (theirs.status_code, theirs.json()) == (422, nobody.json())
    assert codes(theirs) == [("/to/user", "recipient_unknown")]
    assert (await asked(otp, dict(TO), key="other")).json() == NOTHING
    for otp_id, code in (mine, by_mail):
        assert_limited(await otp.verify(otp_id, code))


@pytest.mark.parametrize("role", ["sender", "operator", "viewer"])
async def test_who_sends_codes_gives_no_guesses(otp: Otp, role: str) -> None:
    """A form in which somebody guesses has a sender's key."""
    at_most(otp, 1)
    await guessed_wrong(otp, 1)
    assert (await asked(otp, dict(TO), key=role)).status_code == 403
    assert_limited(await otp.make())


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("/to", "required")]),
        ({"to": {}}, [("/to", "exactly_one")]),
        ({"to": {"user": "u-1", "email": "a@example.com"}}, [("/to", "exactly_one")]),
        ({"to": {"email": "nobody"}}, [("/to/email", "format")]),
        ({"to": {"phone": "+8613800000000"}}, [("/to/phone", "not_available")]),
        ({"to": {"channel": "webhook"}}, [("/to/address", "with_channel")]),
        ({"to": dict(TO), "purpose": "login"}, [("/purpose", "unknown_field")]),
        ([], [("", "type")]),
    ],
)
async def test_a_recipient_that_cannot_be_one_is_refused(otp: Otp, body: Any, errors: list[tuple[str, str]]) -> None:
    answer = await otp.api.post("/v1/otp/let-in", body, key="administrator")
    assert (answer.status_code, codes(answer)) == (422, errors), answer.text


async def test_a_user_who_is_gone_is_told_so(otp: Otp) -> None:
    await user(otp)
    await otp.api.pool.execute("UPDATE person SET state = 'deactivated' WHERE id = 'u-1'")
    assert (await asked(otp, USER)).json()["code"] == "recipient_gone"


async def test_it_leaves_a_trace_of_who_did_it_and_none_of_whom_it_was_for(otp: Otp) -> None:
    at_most(otp, 1)
    await guessed_wrong(otp, 1)
    before = OTP.labels("let_in")._value.get()
    with capture_logs() as logs:
        for _ in range(2):
            await let_in(otp, dict(TO))
    key = await otp.api.pool.fetchval("SELECT id FROM api_key WHERE tenant = 'acme' AND roles = '{administrator}'")
    said = [{name: line[name] for name in ("tenant", "key_id", "result", "hour", "day")} for line in logs]
    assert said == [
        {"tenant": "acme", "key_id": str(key), "result": "let_in", "hour": 1, "day": 0},
        {"tenant": "acme", "key_id": str(key), "result": "nothing_counted", "hour": 0, "day": 0},
    ]
    assert "fang" not in repr(logs)
    assert OTP.labels("let_in")._value.get() == before + 1
