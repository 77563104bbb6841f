"""Replies of real servers, and what each means for the address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import SmtpReply
from channels.email.classify import result_of
from domain.results import Refuser, ResultClass


@pytest.mark.parametrize(
    ("reply", "meaning", "code"),
    [
        (SmtpReply(250, "2.0.0"), ResultClass.OK, "250 2.0.0"),
        (SmtpReply(250), ResultClass.OK, "250"),
        (SmtpReply(421, "4.3.2", "mail"), ResultClass.RETRY, "421 4.3.2"),
        (SmtpReply(450, "4.7.1", "rcpt"), ResultClass.RETRY, "450 4.7.1"),
        (SmtpReply(452, "4.2.2", "rcpt"), ResultClass.RETRY, "452 4.2.2"),
        (SmtpReply(454, "4.7.0", "auth"), ResultClass.RETRY, "454 4.7.0"),
        (SmtpReply(550, "5.1.1", "rcpt"), ResultClass.RECIPIENT, "550 5.1.1"),
        (SmtpReply(550, "5.1.10", "rcpt"), ResultClass.RECIPIENT, "550 5.1.10"),
        (SmtpReply(550, "5.2.1", "rcpt"), ResultClass.RECIPIENT, "550 5.2.1"),
        (SmtpReply(551, "5.1.6", "rcpt"), ResultClass.RECIPIENT, "551 5.1.6"),
        (SmtpReply(553, "5.1.3", "rcpt"), ResultClass.RECIPIENT, "553 5.1.3"),
        (SmtpReply(550, "", "rcpt"), ResultClass.RECIPIENT, "550"),
        (SmtpReply(556, "", "rcpt"), ResultClass.RECIPIENT, "556"),
        # the same words after the text are about the text; at MAIL about us
        (SmtpReply(550, "", "data"), ResultClass.PERMANENT, "550"),
        (SmtpReply(550, "5.1.1", "mail"), ResultClass.PERMANENT, "550 5.1.1"),
        (SmtpReply(552, "5.2.2", "rcpt"), ResultClass.PERMANENT, "552 5.2.2"),
        (SmtpReply(552, "5.3.4", "mail"), ResultClass.PERMANENT, "552 5.3.4"),
        (SmtpReply(554, "5.7.1", "data"), ResultClass.PERMANENT, "554 5.7.1"),
        (SmtpReply(550, "5.7.1", "rcpt"), ResultClass.PERMANENT, "550 5.7.1"),
        (SmtpReply(554, "", "data"), ResultClass.PERMANENT, "554"),
        (SmtpReply(530, "5.7.0", "mail"), ResultClass.CONFIG, "530 5.7.0"),
        (SmtpReply(535, "5.7.8", "auth"), ResultClass.CONFIG, "535 5.7.8"),
        (SmtpReply(550, "5.7.8", "rcpt"), ResultClass.CONFIG, "550 5.7.8"),
        (SmtpReply(554, "5.7.1", "connect"), ResultClass.CONFIG, "554 5.7.1"),
        (SmtpReply(553, "5.1.8", "rcpt"), ResultClass.CONFIG, "553 5.1.8"),
        # contradictions: the basic code decides, and above all nobody is suppressed
        (SmtpReply(450, "5.1.1", "rcpt"), ResultClass.RETRY, "450"),
        (SmtpReply(550, "4.2.1", "data"), ResultClass.PERMANENT, "550"),
    ],
)
def test_what_a_reply_means(reply: SmtpReply, meaning: ResultClass, code: str) -> None:
    result = result_of(reply, provider_id="x")
    assert (result.result, result.code) == (meaning, code)
    assert not result.delivered
    assert (result.refuser is Refuser.MAILBOX_FULL) == (code == "552 5.2.2")


@given(
    st.integers(200, 599).filter(lambda code: code // 100 != 3),
    st.just("") | st.from_regex(r"[245]\.[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True),
    st.sampled_from(["connect", "auth", "mail", "rcpt", "data"]),
)
def test_every_reply_has_a_meaning_and_only_5yz_ends_it(code: int, enhanced: str, stage: str) -> None:
    result = result_of(SmtpReply(code, enhanced, stage))
    by_digit = {2: {ResultClass.OK}, 4: {ResultClass.RETRY}}
    final = {ResultClass.RECIPIENT, ResultClass.PERMANENT, ResultClass.CONFIG}
    assert result.result in by_digit.get(code // 100, final)
    if stage in ("connect", "auth", "mail"):
        assert result.result is not ResultClass.RECIPIENT


@pytest.mark.parametrize(
    ("reply", "alone"),
    [
        (SmtpReply(450, "4.7.1", "rcpt"), True),
        (SmtpReply(452, "4.2.2", "rcpt"), True),
        (SmtpReply(421, "4.7.0", "rcpt"), False),
        (SmtpReply(451, "4.3.0", "data"), False),
        (SmtpReply(421, "", "connect"), False),
    ],
)
def test_a_refusal_of_one_mailbox_is_told_from_one_of_the_server(reply: SmtpReply, alone: bool) -> None:  # noqa: FBT001
    """Catches: a few greylisted recipients that open the circuit of the account for all."""
    assert result_of(reply).of_recipient is alone
