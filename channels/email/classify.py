"""What an SMTP server's reply means: one table, first match wins (RFC 5321, RFC 3463, providers' facts 6a)."""

from __future__ import annotations

from dataclasses import dataclass

from channels.base import SmtpReply
from domain.results import Refuser, ResultClass, SendResult


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches if every given part does. `enhanced` is a whole code, or a prefix that ends in a dot."""

    meaning: ResultClass
    stages: frozenset[str] = frozenset()
    codes: frozenset[int] = frozenset()
    enhanced: tuple[str, ...] = ()
    refuser: Refuser | None = None

    def matches(self, reply: SmtpReply, enhanced: str) -> bool:
        return (
            (not self.stages or reply.stage in self.stages)
            and (not self.codes or reply.code in self.codes)
            and (not self.enhanced or any(_covers(e, enhanced) for e in self.enhanced))
        )


def _covers(pattern: str, enhanced: str) -> bool:
    return enhanced.startswith(pattern) if pattern.endswith(".") else enhanced == pattern


_CONNECTING = frozenset({"connect", "auth"})
_RECIPIENT_CODES = frozenset({550, 551, 553, 556})

PERMANENT_RULES: tuple[Rule, ...] = (
    # Before any message: a refusal of our host or our credentials says nothing of this recipient or this text
    Rule(ResultClass.CONFIG, stages=_CONNECTING),
    # 530 and 5.7.0 together mean "log in, or use TLS, first"; 5.7.8, 5.7.9, 5.7.11 name credentials and mechanisms
    Rule(ResultClass.CONFIG, codes=frozenset({530, 534, 535, 538})),
    Rule(ResultClass.CONFIG, enhanced=("5.7.8", "5.7.9", "5.7.11")),
    # The sender's address is bad: ours to mend, and a reason to suppress nobody
    Rule(ResultClass.CONFIG, enhanced=("5.1.7", "5.1.8")),
    Rule(ResultClass.PERMANENT, stages=frozenset({"mail"})),
    Rule(ResultClass.RECIPIENT, enhanced=("5.1.", "5.2.1")),
    # A full mailbox may empty: this message is lost, the address is not
    Rule(ResultClass.PERMANENT, enhanced=("5.2.2",), refuser=Refuser.MAILBOX_FULL),
    Rule(ResultClass.PERMANENT, enhanced=("5.",)),
    # No enhanced code: said at RCPT it is about the address, after DATA about the text
    Rule(ResultClass.RECIPIENT, stages=frozenset({"rcpt"}), codes=_RECIPIENT_CODES),
    Rule(ResultClass.PERMANENT),
)
"""Replies 5yz. 2yz after DATA is OK and 4yz is RETRY whatever follows, so they need no rows."""


def result_of(reply: SmtpReply, *, provider_id: str | None = None) -> SendResult:
    """The result of the server's last word. An enhanced code that contradicts the basic one is ignored (RFC 2034, 4)."""
    enhanced = reply.enhanced if reply.enhanced[:1] == str(reply.code)[:1] else ""
    code = f"{reply.code} {enhanced}".rstrip()
    if 200 <= reply.code < 300:
        return SendResult(ResultClass.OK, code=code, provider_id=provider_id)
    if 400 <= reply.code < 500:
        # 421 closes the connection whatever stage it comes at; other refusals at RCPT are about the mailbox (greylisting)
        return SendResult(ResultClass.RETRY, code=code, of_recipient=reply.stage == "rcpt" and reply.code != 421)
    rule = next(rule for rule in PERMANENT_RULES if rule.matches(reply, enhanced))
    return SendResult(rule.meaning, code=code, refuser=rule.refuser)
