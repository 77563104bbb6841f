"""What the SMTP server answers: addresses checked, behaviours played, messages judged and put on the record."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import TYPE_CHECKING

from sandbox import mail_rules
from sandbox.behaviours import Behaviour, How, Memory, Stage, of_mailbox
from sandbox.record import Record, Seen, Verdict
from sandbox.settings import Settings

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

    from sandbox.smtp import Connection

MAX_RECIPIENTS = 100
"""RFC 5321 4.5.3.1.8: a server takes at least 100."""

_DELIVERY = re.compile(r"<([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}-[0-9]+)[.@]")

log = logging.getLogger("sandbox.smtp")


class Answer(str):
    """A reply line that is already on the record."""

    __slots__ = ()


class Mailbox:
    """The handler of all connections (aiosmtpd calls `handle_<COMMAND>`)."""

    def __init__(self, settings: Settings, *, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._memory = Memory()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd finds hooks by this name
        self, _server: Connection, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """The offer: SIZE, 8BITMIME, STARTTLS and AUTH where set up, ENHANCEDSTATUSCODES; never SMTPUTF8."""
        session.host_name = hostname
        offered = [line for line in responses if not line.startswith(("250-AUTH", "250 HELP"))]
        if self._settings.smtp_username is not None:
            offered += [line for line in responses if line.startswith("250-AUTH")]
        return [*offered, "250 ENHANCEDSTATUSCODES"]

    async def handle_MAIL(  # noqa: N802
        self, _server: Connection, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address != "<>" and not mail_rules.is_address(address):
            return "501 5.1.7 Malformed sender address"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender ok"

    async def handle_RCPT(  # noqa: N802
        self, server: Connection, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if not mail_rules.is_address(address):
            return "501 5.1.3 Malformed recipient address"
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        behaviour = of_mailbox(address)
        if behaviour is not None and behaviour.stage is Stage.RCPT:
            self._note(_asked(behaviour, Seen(channel="email", recipient=address, taken=False, verdict=Verdict.REFUSED)))
            if behaviour.how is How.RESET:
                await server.reset_connection()
            return Answer(behaviour.smtp)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient ok"

    async def handle_DATA(self, server: Connection, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        raw = envelope.original_content or b""
        seen = [
            Seen(channel="email", recipient=recipient, taken=True, verdict=Verdict.ACCEPTED, raw=raw)
            for recipient in envelope.rcpt_tos
        ]
        try:
            message = mail_rules.check(raw, eight_bit="BODY=8BITMIME" in envelope.mail_options)
        except mail_rules.Refused as refused:
            head = mail_rules.parsed_head(raw)
            return self._answer(
                [
                    replace(
                        _identified(one, head),
                        taken=False,
                        verdict=Verdict.REFUSED,
                        why=str(refused),
                        answer=str(refused),
                    )
                    for one in seen
                ],
                str(refused),
            )
        seen = [_identified(one, message) for one in seen]
        message_id = (seen[0].delivery if seen else None) or str(message["message-id"])
        behaviour = self._behaviour(envelope.rcpt_tos, message_id=message_id)
        if behaviour is None:
            reply = "250 2.0.0 Ok: taken"
            return self._answer([replace(one, answer=reply) for one in seen], reply)
        return await self._play(behaviour, seen=seen, server=server)

    def _behaviour(self, recipients: list[str], *, message_id: str) -> Behaviour | None:
        """What happens to this message. SMTP has one answer for all recipients: the first that asks decides."""
        for recipient in recipients:
            asked = of_mailbox(recipient)
            if asked is not None and self._memory.applies(asked, message_id=message_id, recipient=recipient):
                return asked
        return None

    async def _play(self, behaviour: Behaviour, *, seen: list[Seen], server: Connection) -> str:
        played = [_asked(behaviour, one) for one in seen]
        if behaviour.how is How.SLOW:
            try:
                await asyncio.sleep(self._settings.slow_s)
            except asyncio.CancelledError:
                self._answer([replace(one, taken=False, verdict=Verdict.ABANDONED, answer=None) for one in played], "")
                raise
        answer = self._answer(played, behaviour.smtp)
        if behaviour.how is How.HANG:
            await asyncio.sleep(self._settings.hang_s)
        if behaviour.how is How.DROP_RESET:
            await server.reset_connection()
        if behaviour.how in (How.HANG, How.DROP):
            await server.close_silently()
        return answer

    def _answer(self, seen: list[Seen], reply: str) -> Answer:
        for one in seen:
            self._note(one)
        return Answer(reply)

    def _note(self, seen: Seen) -> None:
        self._record.add(seen)

    async def handle_exception(self, error: Exception) -> str:
        """A defect of the sandbox itself: said so, without the text, which may hold an address."""
        log.error("the SMTP stand-in failed: %s", type(error).__name__)
        return "451 4.3.0 The sandbox itself failed"


def _asked(behaviour: Behaviour, seen: Seen) -> Seen:
    """The attempt as the behaviour makes it end."""
    silent = behaviour.how in (How.HANG, How.DROP, How.RESET, How.DROP_RESET)
    return replace(
        seen,
        taken=behaviour.taken,
        verdict=behaviour.verdict,
        behaviour=behaviour.word,
        answer=None if silent else behaviour.smtp,
        why=None if behaviour.verdict is Verdict.ACCEPTED else behaviour.en if silent else behaviour.smtp,
    )


def _identified(seen: Seen, message: Message) -> Seen:
    """With delivery id and subject, as far as the headers tell."""
    delivery = str(message["x-tongda-delivery"] or "").strip()[:200]
    if not delivery:
        match = _DELIVERY.search(str(message["message-id"] or ""))
        delivery = match[1].lower() if match else ""
    return replace(seen, delivery=delivery or None, subject=readable(str(message["subject"] or "")))


def readable(header: str) -> str:
    """A header's text with its encoded words decoded; as it stands where they do not decode."""
    try:
        return str(make_header(decode_header(header.replace("\r\n", ""))))
    except (HeaderParseError, LookupError, ValueError):
        return header
