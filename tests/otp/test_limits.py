"""How many codes go to whom: counted exactly while many ask at once, by names that do not lead back, and swept."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from domain.otp import GUESSES, Limit, Scope
from infra.postgres.accept.otp import OtpRepository
from tests.api.conftest import at_once
from tests.otp.conftest import Otp
from tests.otp.test_make import USER, user

HOUR = timedelta(hours=1)
SENDS = [scope for scope in Scope if scope not in GUESSES]


def only(otp: Otp, scope: Scope, limit: Limit) -> None:
    otp.limit(**{**dict.fromkeys(Scope, None), scope: limit})


def addresses(count: int, *, domain: str = "example.com") -> list[dict[str, str]]:
    return [{"email": f"n{number}@{domain}"} for number in range(count)]


def hooks(count: int, *, host: str = "hook.example.com") -> list[dict[str, str]]:
    """Addresses that have a range."""
    return [{"channel": "webhook", "address": f"https://{host}/{number}"} for number in range(count)]


async def test_one_after_another_waits_for_the_cool_down(otp: Otp) -> None:
    """The settings' own: 60 seconds for a recipient and purpose."""
    await otp.made(purpose="login")
    answer = await otp.make({"email": "Fang+2@EXAMPLE.com"}, purpose="login")
    assert (answer.status_code, answer.json()["code"]) == (429, "otp_too_soon")
    assert re.search(r"a moment ago; again in [0-9]+ s\.$", answer.json()["detail"])
    assert 55 <= int(answer.headers["retry-after"]) <= 60
    await otp.made(purpose="payment")
    await otp.made({"email": "li@example.com"}, purpose="login")
    assert (await otp.make(purpose="login", key="other")).status_code == 202


async def test_five_an_hour_to_a_recipient(otp: Otp) -> None:
    otp.limit(cooldown=None)
    for _ in range(5):
        await otp.made()
    answer = await otp.make()
    assert (answer.status_code, answer.json()["code"]) == (429, "otp_limited")
    assert 3590 <= int(answer.headers["retry-after"]) <= 3600
    assert answer.json()["detail"] == "Too many codes for this recipient within an hour."
    assert await otp.count("notification") == 5


async def test_a_user_and_the_address_are_counted_both(otp: Otp) -> None:
    """Otherwise a user could be asked for by id and by address in turn."""
    await user(otp)
    only(otp, Scope.RECIPIENT_HOUR, Limit(1, HOUR))
    await otp.made(USER)
    assert (await otp.make({"email": "wang@example.com"})).status_code == 429
    assert (await otp.make(USER)).status_code == 429


@pytest.mark.parametrize("scope", SENDS)
async def test_however_many_ask_at_once_no_limit_is_passed(otp: Otp, scope: Scope) -> None:
    """Catches: counting first and writing then. All would see the same count."""
    only(otp, scope, Limit(3, HOUR))
    targets = [{"email": "a@example.com"}] * 12 if "recipient" in scope or scope is Scope.COOLDOWN else hooks(12)
    answers = await at_once(otp.make(to, client_ip=f"203.0.113.{n}") for n, to in enumerate(targets))
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 9
    assert await otp.count("otp") == await otp.count("notification") == await otp.count("work") == 3
    assert await otp.api.pool.fetchval("SELECT max(count) FROM otp_counter") == 3


async def test_crossing_subjects_do_not_block_each_other(otp: Otp) -> None:
    """Two users at two addresses, asked for in all ways at once: every request is answered."""
    otp.limit(cooldown=None, recipient_hour=Limit(1000, HOUR), recipient_day=None)
    targets = [*addresses(4), *addresses(4, domain="example.org")] * 4
    answers = await at_once(otp.make(to) for to in targets)
    assert {answer.status_code for answer in answers} == {202}


async def test_a_range_of_addresses(otp: Otp) -> None:
    """Pumping: one code each to ever new addresses of one range."""
    only(otp, Scope.RANGE, Limit(2, HOUR))
    one, two, three = hooks(3)
    await otp.made(one)
    await otp.made(two)
    assert (await otp.make(three)).json()["detail"] == "Too many codes for this range of addresses within an hour."
    await otp.made(*hooks(1, host="hook.example.org"))


HOOK = {"channel": "webhook", "address": "https://hook.example.com/wang"}


@pytest.mark.parametrize(
    ("strategy", "scopes"),
    [("all", (Scope.RANGE, Scope.RECIPIENT_HOUR, Scope.COOLDOWN)), ("fallback", (Scope.RANGE,))],
)
async def test_every_address_that_a_code_goes_to_counts_and_every_range_that_it_may_come_to(
    otp: Otp, strategy: str, scopes: tuple[Scope, ...]
) -> None:
    """Catches: pumping behind a first channel that costs nothing. Only that one's address was counted."""
    await user(otp)
    for scope in scopes:
        only(otp, scope, Limit(1, HOUR))
        await otp.made(USER, channels=["email", "webhook"], strategy=strategy)
        assert (await otp.make(HOOK)).status_code == 429, scope
        await otp.api.pool.execute("DELETE FROM otp_counter")


async def test_whose_address_others_name_second_gets_his_code(otp: Otp) -> None:
    """Catches: a family that shares a phone as its second channel, where each log-in by e-mail locks out the others; and
    whoever names a stranger's address second in an account of his own."""
    await user(otp)
    otp.limit(recipient_hour=Limit(1, HOUR))
    await otp.made(USER, channels=["email", "webhook"], purpose="login")
    await otp.made(HOOK, purpose="login")
    assert (await otp.make(HOOK, purpose="login")).json()["code"] in {"otp_too_soon", "otp_limited"}


async def test_a_resend_counts_its_new_first_address_as_the_recipient(otp: Otp) -> None:
    """It goes there, though it was second at first."""
    await user(otp)
    only(otp, Scope.RECIPIENT_HOUR, Limit(2, HOUR))
    made = await otp.made(USER, channels=["email", "webhook"])
    for _ in range(2):
        await otp.made(HOOK)
    assert (await otp.resend(made["id"])).json()["code"] == "otp_limited"


async def test_a_resend_counts_every_address_too(otp: Otp) -> None:
    await user(otp)
    only(otp, Scope.RANGE, Limit(1, HOUR))
    made = await otp.made(USER, channels=["webhook", "email"])
    assert (await otp.resend(made["id"])).json()["code"] == "otp_limited", "it begins with e-mail, and may go on"


async def test_nobody_keeps_others_at_a_mail_provider_from_their_codes(otp: Otp) -> None:
    """Catches: a limit for a mail domain, which anybody can use up with made-up addresses."""
    only(otp, Scope.RANGE, Limit(1, HOUR))
    for to in addresses(5, domain="gmail.com"):
        await otp.made(to)


async def test_a_clients_network(otp: Otp) -> None:
    only(otp, Scope.CLIENT, Limit(1, HOUR))
    one, two, three, four = addresses(4)
    await otp.made(one, client_ip="203.0.113.1")
    assert (await otp.make(two, client_ip="::ffff:203.0.113.200")).status_code == 429
    await otp.made(two, client_ip="203.0.114.1")
    await otp.made(three, client_ip="2001:db8:1::1")
    assert (await otp.make(four, client_ip="2001:db8:1:ffff::9")).status_code == 429
    await otp.made(four)


async def test_a_resend_counts_as_a_send(otp: Otp) -> None:
    """By recipient and by the client that asked first."""
    for scope in (Scope.RECIPIENT_HOUR, Scope.CLIENT, Scope.RANGE, Scope.TENANT):
        only(otp, scope, Limit(2, HOUR))
        [to] = hooks(1)
        made = await otp.made(to, client_ip="203.0.113.1")
        assert (await otp.resend(made["id"])).status_code == 202
        answer = await otp.resend(made["id"])
        assert (answer.status_code, answer.json()["code"]) == (429, "otp_limited"), scope
        await otp.api.pool.execute("DELETE FROM otp_counter")


async def test_a_span_begins_anew_when_it_is_over(otp: Otp) -> None:
    only(otp, Scope.TENANT, Limit(1, HOUR))
    await otp.made()
    assert (await otp.make()).status_code == 429
    await otp.api.pool.execute("UPDATE otp_counter SET until = now()")
    await otp.made()
    assert (await otp.make()).status_code == 429


async def test_what_is_refused_counts_nowhere(otp: Otp) -> None:
    """Catches: counters that are kept though the request was refused. Who asks too often would lock out the whole range."""
    otp.limit(cooldown=None, recipient_hour=Limit(1, HOUR))
    [to] = hooks(1)
    await otp.made(to)
    for _ in range(3):
        assert (await otp.make(to, once="k")).status_code == 429
    assert await otp.api.pool.fetchval("SELECT count FROM otp_counter WHERE scope = 'range'") == 1
    assert await otp.count("idempotency") == 0


async def test_tenants_do_not_count_against_each_other(otp: Otp) -> None:
    only(otp, Scope.RANGE, Limit(1, HOUR))
    [to] = hooks(1)
    await otp.made(to)
    assert (await otp.make(to, key="other")).status_code == 202
    assert (await otp.make(to)).status_code == 429


async def test_counters_hold_no_address(otp: Otp) -> None:
    [to] = hooks(1)
    await otp.made(to, client_ip="203.0.113.1")
    rows = await otp.api.pool.fetch("SELECT scope, encode(subject, 'escape') AS subject, length(subject) FROM otp_counter")
    assert {row["scope"] for row in rows} == {*SENDS}
    for row in rows:
        assert row["length"] == 16
        assert "example" not in row["subject"]
        assert "203.0" not in row["subject"]


async def test_old_counters_and_codes_are_swept(otp: Otp) -> None:
    otp.limit(cooldown=None)
    made = [await otp.made(to) for to in addresses(5)]
    repository = OtpRepository(otp.api.pool)
    assert await repository.forget(limit=100) == 0
    before = await otp.count("otp_counter")
    await otp.api.pool.execute("UPDATE otp_counter SET until = now() - interval '1 second' WHERE scope = 'tenant'")
    old: Any = [row["id"] for row in made[:4]]
    await otp.api.pool.execute(
        "UPDATE otp SET expires_at = now() - interval '8 days' WHERE id = ANY ($1::text[]::uuid[])", old
    )
    assert await repository.forget(limit=3) == 3
    assert await otp.count("otp") == 2
    assert await repository.forget(limit=3) == 1
    assert (await otp.count("otp"), await otp.count("otp_counter")) == (1, before - 1)
    assert (await otp.verify(made[4]["id"], "000000")).json()["code"] == "otp_wrong"
