"""E-mail over SMTP: a `Message` becomes MIME, the server's reply becomes a `SendResult`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape

from channels.base import Capabilities, Content, Message, SmtpPort, TransportError
from channels.email.address import Unsendable, parse_sender, wire_address
from channels.email.classify import result_of
from channels.email.mime import Mail, build
from channels.failures import result_of_failure
from channels.plaintext import plain_text
from domain.channels import Channel
from domain.results import ResultClass, SendResult


def _now() -> datetime:
    return datetime.now(UTC)


class SmtpProvider:
    """One SMTP account.

    `sender` is "Name <address>" or "address", both From and envelope sender. The Message-ID is
    `{delivery_id}@{domain of the sender}` in every attempt; it is also the result's `provider_id`, by which bounces are
    matched. Not idempotent: a server delivers the same Message-ID twice.
    """

    def __init__(self, port: SmtpPort, *, sender: str, timeout_s: float = 30.0, now: Callable[[], datetime] = _now) -> None:
        self._port = port
        self._sender = parse_sender(sender)
        self._timeout_s = timeout_s
        self._now = now
        # one second above the port's own bound, which is exact
        self._capabilities = Capabilities(provider="smtp", channel=Channel.EMAIL, call_timeout_s=timeout_s + 1.0)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        return [await self._send(message) for message in batch]

    async def close(self) -> None:
        await self._port.close()  # a pool is one server and one login, so it belongs to the account

    async def _send(self, message: Message) -> SendResult:
        message_id = f"{message.delivery_id}@{self._sender.domain}"
        try:
            recipient = wire_address(message.address)
            mail = build(self._mail(message, recipient=recipient, message_id=message_id))
        except Unsendable as error:
            return SendResult(ResultClass.PERMANENT, code=error.code)
        try:
            reply = await self._port.submit(
                sender=self._sender.address,
                recipient=recipient,
                message=mail,
                timeout_s=self._timeout_s,
                within_s=(message.expires_at - self._now()).total_seconds(),
            )
        except TransportError as error:
            return result_of_failure(error, provider_id=message_id)
        return result_of(reply, provider_id=message_id)

    def _mail(self, message: Message, *, recipient: str, message_id: str) -> Mail:
        text, html = bodies(message.content)
        return Mail(
            sender=self._sender,
            recipient=recipient,
            subject=message.content.title,
            text=text,
            html=html,
            date=format_datetime(self._now()),
            expires=format_datetime(message.expires_at.astimezone(UTC)),
            message_id=message_id,
            delivery_id=message.delivery_id,
        )


def bodies(content: Content) -> tuple[str, str | None]:
    """Text and HTML as they are mailed: text derived from HTML where there is none, the link added to a part without it."""
    text, html, url = plain_text(content), content.html, content.url
    if not url:
        return text, html
    if url not in text:
        text = f"{text.rstrip()}\n\n{url}\n" if text.strip() else f"{url}\n"
    # only web links: an href of another scheme can run script in a careless mail reader
    if html is not None and url.startswith(("https://", "http://")):
        shown = escape(url)
        if shown not in html and url not in html:
            html = _appended(html, f'<p><a href="{shown}">{shown}</a></p>')
    return text, html


def _appended(html: str, fragment: str) -> str:
    end = html.lower().rfind("</body>")
    return html + fragment if end < 0 else html[:end] + fragment + html[end:]
