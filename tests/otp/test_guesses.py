"""Wrong guesses at all codes of a recipient: bounded exactly over every id; while none is left no guess is looked at."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import httpx
import pytest

from api.otp_parts import policy_of
from domain.otp import GUESSES, MOST_ATTEMPTS, Limit, Scope
from infra.otp_codes import OtpCodes
from infra.settings import Settings
from tests.api.conftest import at_once
from tests.otp.conftest import Otp, code_in, wrong
from tests.otp.test_make import USER, user

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BY_HOUR = "Too many wrong guesses at this recipient's codes within an hour."


def at_most(otp: Otp, most: int) -> None:
    """No other limit than this one: each id gives five guesses, and new ones are free."""
    otp.limit(**{**dict.fromkeys(Scope, None), Scope.GUESSES_HOUR: Limit(most, HOUR)})


async def guessed_wrong(otp: Otp, times: int) -> None:
    """So often, at as many ids as it takes; whatever happens, it was looked at."""
    while times:
        otp_id, code = await otp.sent()
        for _ in range(min(times, MOST_ATTEMPTS)):
            assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
            times -= 1


def assert_limited(answer: httpx.Response, *, detail: str = BY_HOUR) -> None:
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (429, "otp_limited", detail)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "attempts_left" not in answer.json()


async def counts(otp: Otp) -> list[int]:
    return [row["count"] for row in await otp.api.pool.fetch("SELECT count FROM otp_counter ORDER BY count")]


async def test_new_ids_buy_no_new_guesses(otp: Otp) -> None:
    """The settings' own limits, where sends have none: three ids, and the next is worth nothing."""
    otp.limit(**dict.fromkeys((scope for scope in Scope if scope not in GUESSES), None))
    otp_id, code = await otp.sent()
    await guessed_wrong(otp, 15)
    for guess in (wrong(code), code):
        answer = await otp.verify(otp_id, guess)
        assert_limited(answer)
        assert 3590 <= int(answer.headers["retry-after"]) <= 3600
    await otp.api.pool.execute("UPDATE otp_counter SET until = now() WHERE scope = 'guesses_hour'")
    await guessed_wrong(otp, 14)
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    answer = await otp.verify(otp_id, code)
    assert_limited(answer, detail="Too many wrong guesses at this recipient's codes within a day.")
    assert 86_000 <= int(answer.headers["retry-after"]) <= 86_400
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    assert await otp.verdict(otp_id, code) == "verified"


async def test_guesses_at_once_over_several_ids_never_pass_the_limit(otp: Otp) -> None:
    """Catches: looking first and counting then, or counting under the lock of the id alone."""
    at_most(otp, 7)
    codes = [await otp.sent() for _ in range(5)]
    answers = await at_once(otp.verify(otp_id, wrong(code)) for otp_id, code in codes * 4)
    said = Counter(answer.json()["code"] for answer in answers)
    assert said == {"otp_wrong": 7, "otp_limited": 13}
    assert await counts(otp) == [7]
    assert await otp.api.pool.fetchval("SELECT sum(attempts) FROM otp") == 7, "what is refused counts for its id neither"


async def test_a_right_guess_behind_too_many_wrong_ones_does_not_count(otp: Otp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a right guess that reads the counter without its lock. A hundred guesses at once would then all be tried,
    and whichever is right gets through. What is looked at is counted here."""
    looked: list[bool] = []
    matches = OtpCodes.matches

    def seen(*args: object, **rest: object) -> bool:
        looked.append(matches(*args, **rest))  # type: ignore[arg-type]
        return looked[-1]

    monkeypatch.setattr(OtpCodes, "matches", seen)
    for _ in range(3):
        at_most(otp, 3)
        codes = [await otp.sent() for _ in range(4)]
        guesses = [(otp_id, wrong(code)) for otp_id, code in codes] * 4
        guesses[8:8] = codes[:1]
        answers = await at_once(otp.verify(otp_id, guess) for otp_id, guess in guesses)
        verified = sum(answer.status_code == 200 for answer in answers)
        assert looked.count(False) == 3, "wrong guesses"
        assert looked.count(True) == verified
        looked.clear()
        await otp.api.pool.execute("DELETE FROM otp_counter")


async def test_while_nothing_is_left_no_guess_is_looked_at(otp: Otp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the answer nor its time may tell the right code: it would be used when the span is over."""
    at_most(otp, 2)
    otp_id, code = await otp.sent()
    await guessed_wrong(otp, 2)

    def never(*_: object, **__: object) -> bool:
        raise AssertionError("looked at")

    monkeypatch.setattr(OtpCodes, "matches", never)
    right, other = await otp.verify(otp_id, code), await otp.verify(otp_id, wrong(code))
    assert_limited(right)
    assert right.json() == other.json()
    assert abs(int(right.headers["retry-after"]) - int(other.headers["retry-after"])) <= 1
    assert await otp.api.pool.fetchval("SELECT attempts FROM otp WHERE id = $1::text::uuid", otp_id) == 0


async def test_no_code_is_sent_that_could_not_be_verified(otp: Otp) -> None:
    """Neither a new one nor one again; under the same key it is sent when the span is over."""
    at_most(otp, 2)
    made = await otp.made()
    await guessed_wrong(otp, 2)
    before = await otp.count("notification")
    assert_limited(await otp.make(once="k"))
    assert_limited(await otp.resend(made["id"], once="r"))
    assert (await otp.count("notification"), await otp.count("idempotency")) == (before, 0)
    await otp.made({"email": "li@example.com"})
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    first = await otp.make(once="k")
    assert first.status_code == (await otp.resend(made["id"], once="r")).status_code == 202
    await guessed_wrong(otp, 2)
    again = await otp.make(once="k")
    assert (again.status_code, again.content) == (200, first.content), "what was accepted is never refused under its key"


async def test_a_right_guess_clears_nothing_and_counts_nothing(otp: Otp) -> None:
    """Whoever guesses beside the recipient's own log-ins gets no more by them."""
    at_most(otp, 3)
    await guessed_wrong(otp, 2)
    for _ in range(4):
        otp_id, code = await otp.sent()
        assert await otp.verdict(otp_id, code) == "verified"
    assert await counts(otp) == [2]
    await guessed_wrong(otp, 1)
    assert_limited(await otp.make())


async def test_a_span_begins_with_the_first_wrong_guess(otp: Otp) -> None:
    """Catches: one that begins with a right guess, and is over soon after the first wrong one."""
    at_most(otp, 1)
    otp_id, code = await otp.sent()
    assert await otp.verdict(otp_id, code) == "verified"
    await otp.api.pool.execute("UPDATE otp_counter SET until = now() + interval '1 second'")
    otp_id, code = await otp.sent()
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    assert 3590 <= int((await otp.verify(otp_id, code)).headers["retry-after"]) <= 3600


async def test_a_user_and_the_address_are_counted_both_and_for_every_purpose(otp: Otp) -> None:
    await user(otp)
    by_mail, by_hook = {"email": "Wang+x@Example.com"}, {"channel": "webhook", "address": "https://hook.example.com/wang"}
    at_most(otp, 2)
    otp_id, code = await otp.sent(USER, channels=["email", "webhook"], purpose="login")
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    other, code = await otp.sent(by_mail, purpose="payment")
    assert await otp.verdict(other, wrong(code)) == "otp_wrong"
    assert_limited(await otp.verify(otp_id, code))
    assert_limited(await otp.make(USER, channels=["email"], purpose="other"))
    hook, code = await otp.sent(by_hook)
    assert await otp.verdict(hook, code) == "verified", "a later address is nobody's: it was not counted"


async def test_a_resend_moves_the_count_to_the_address_that_it_goes_to(otp: Otp) -> None:
    await user(otp)
    by_hook = {"channel": "webhook", "address": "https://hook.example.com/wang"}
    at_most(otp, 1)
    made = await otp.made(USER, channels=["email", "webhook"])
    again = (await otp.resend(made["id"])).json()
    code = code_in(await otp.delivered(again["notification_id"]))
    assert await otp.verdict(made["id"], wrong(code)) == "otp_wrong"
    assert_limited(await otp.make(by_hook))
    await otp.made({"email": "wang@example.com"})


async def test_recipients_and_tenants_do_not_count_against_each_other(otp: Otp) -> None:
    at_most(otp, 1)
    mine, other = await otp.sent(), await otp.sent({"email": "li@example.com"})
    theirs = (await otp.make(key="other")).json()
    assert await otp.verdict(mine[0], wrong(mine[1])) == "otp_wrong"
    assert_limited(await otp.verify(*mine))
    assert await otp.verdict(*other) == "verified"
    code = code_in(await otp.delivered(theirs["notification_id"]))
    assert (await otp.verify(theirs["id"], code, key="other")).status_code == 200


async def test_only_who_has_an_id_of_the_recipients_can_use_up_the_guesses(otp: Otp) -> None:
    """Another tenant's key, an id that does not exist, a code that is no code, one that is over."""
    at_most(otp, 1)
    otp_id, code = await otp.sent()
    used, old = await otp.sent(), await otp.sent()
    assert await otp.verdict(*used) == "verified"
    await otp.api.pool.execute("UPDATE otp SET expires_at = now() WHERE id = $1::text::uuid", old[0])
    for _ in range(3):
        assert (await otp.verify(otp_id, wrong(code), key="other")).status_code == 404
        assert (await otp.verify("01a20a32-744b-7020-809a-bb07e52cad04", wrong(code))).status_code == 404
        assert (await otp.verify(otp_id, "12345x")).status_code == 422
        assert await otp.verdict(used[0], wrong(code)) == "otp_used"
        assert await otp.verdict(old[0], wrong(code)) == "otp_expired"
    assert await counts(otp) == [0]
    assert await otp.verdict(otp_id, code) == "verified"


async def test_an_end_is_told_also_while_nothing_is_left(otp: Otp) -> None:
    """It depends on no guess, and says more than to wait."""
    at_most(otp, MOST_ATTEMPTS)
    old, used = await otp.sent(), await otp.sent()
    await otp.api.pool.execute("UPDATE otp SET expires_at = now() WHERE id = $1::text::uuid", old[0])
    assert await otp.verdict(*used) == "verified"
    locked, code = await otp.sent()
    for _ in range(MOST_ATTEMPTS):
        assert await otp.verdict(locked, wrong(code)) == "otp_wrong"
    assert await otp.verdict(locked, code) == "otp_locked"
    assert await otp.verdict(*old) == "otp_expired"
    assert await otp.verdict(*used) == "otp_used"


async def test_a_code_of_the_version_before_counts_for_its_id_alone(otp: Otp) -> None:
    at_most(otp, 1)
    otp_id, code = await otp.sent()
    await otp.api.pool.execute("UPDATE otp SET recipients = NULL")
    for _ in range(MOST_ATTEMPTS - 1):
        assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    assert await otp.count("otp_counter") == 0
    assert await otp.verdict(otp_id, code) == "verified"


async def test_nothing_stored_leads_back_to_whose_guesses_they_are(otp: Otp) -> None:
    await user(otp)
    at_most(otp, 5)
    otp_id, code = await otp.sent(USER)
    assert await otp.verdict(otp_id, wrong(code)) == "otp_wrong"
    kept = await otp.api.pool.fetchval("SELECT recipients FROM otp")
    assert len(kept) == 2, "the user and the address"
    assert {row["subject"] for row in await otp.api.pool.fetch("SELECT subject FROM otp_counter")} == {*kept}
    assert all(len(subject) == 16 and b"wang" not in subject and b"u-1" not in subject for subject in kept)


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_guesses_over_several_ids(otp: Otp, seed: int) -> None:
    """Against a count that is kept here: one of two recipients, right or wrong, now and then a new id."""
    most, chosen = 6, random.Random(seed)
    at_most(otp, most)
    wrongs: Counter[str] = Counter()
    codes = {name: [await otp.sent({"email": f"{name}@example.com"}) for _ in range(4)] for name in ("a", "b")}
    state = {otp_id: "open" for ids in codes.values() for otp_id, _ in ids}
    tried: Counter[str] = Counter()
    for _ in range(60):
        name = chosen.choice("ab")
        otp_id, code = chosen.choice(codes[name])
        right = chosen.random() < 0.15
        answer = await otp.verify(otp_id, code if right else wrong(code))
        told = "verified" if answer.status_code == 200 else answer.json()["code"]
        if state[otp_id] != "open":
            assert told == state[otp_id]
        elif wrongs[name] == most:
            assert told == "otp_limited"
        elif right:
            assert told == "verified"
            state[otp_id] = "otp_used"
        else:
            assert told == "otp_wrong"
            wrongs[name] += 1
            tried[otp_id] += 1
            state[otp_id] = "otp_locked" if tried[otp_id] == MOST_ATTEMPTS else "open"
    assert max(wrongs.values()) == most


def test_the_settings_are_limits_and_0_is_none() -> None:
    policy = policy_of(Settings(otp_wrong_per_recipient_hour=0, otp_wrong_per_recipient_day=7))
    assert policy.guesses == {Scope.GUESSES_DAY: Limit(7, DAY)}
