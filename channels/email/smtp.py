"""E-mail over SMTP: a `Message` becomes MIME, the server's reply becomes a `SendResult`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from html import escape
from typing import Annotated, Literal

from msgspec import Meta

from channels.account_settings import AccountSettings, Secret, Target
from channels.base import Capabilities, Content, Message, SmtpPort, TransportError
from channels.email.address import Unsendable, parse_sender, wire_address
from channels.email.classify import result_of
from channels.email.mime import Mail, build
from channels.failures import result_of_failure
from channels.plaintext import plain_text
from channels.provider_types import ProviderType, Wiring, given
from domain.channels import Channel
from domain.errors import FieldError
from domain.results import ResultClass, SendResult

TIMEOUT_S = 30.0


class SmtpSettings(AccountSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One server and one login."""

    host: Annotated[str, Meta(max_length=255, pattern=r"^[A-Za-z0-9.:_-]+$", description="Its name or address.")]
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    security: Annotated[
        Literal["none", "starttls", "tls"], Meta(description="`none` only within a network that you trust.")
    ] = "starttls"
    username: Annotated[str, Meta(max_length=320, description="Empty: no AUTH.")] = ""
    password: Secret = ""
    sender: Annotated[
        str, Meta(min_length=3, max_length=320, description='From and envelope sender: "Name <address>" or "address".')
    ]

    def problems(self) -> Sequence[FieldError]:
        found = []
        try:
            parse_sender(self.sender)
        except ValueError:
            found.append(FieldError("/sender", "format", 'The sender is an e-mail address, or "Name <address>".'))
        if self.username and not self.password:
            found.append(FieldError("/password", "required", "A user name goes with a password."))
        if self.password and not self.username:
            found.append(FieldError("/username", "required", "A password goes with a user name."))
        if self.password and self.security == "none" and not _is_loopback(self.host):
            told = "A password is not sent without TLS: use starttls or tls."
            found.append(FieldError("/security", "not_allowed", told))
        return found

    def targets(self) -> Sequence[Target]:
        return (Target("/host", self.host, self.port),)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _now() -> datetime:
    return datetime.now(UTC)


class SmtpProvider:
    """One SMTP account.

    `sender` is "Name <address>" or "address", both From and envelope sender. The Message-ID is
    `{delivery_id}@{domain of the sender}` in every attempt; it is also the result's `provider_id`, by which bounces are
    matched. Not idempotent: a server delivers the same Message-ID twice.
    """

    def __init__(
        self, port: SmtpPort, *, sender: str, timeout_s: float = TIMEOUT_S, now: Callable[[], datetime] = _now
    ) -> None:
        self._port = port
        self._sender = parse_sender(sender)
        self._timeout_s = timeout_s
        self._now = now
        self._capabilities = _capabilities(timeout_s)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        return [await self._send(message) for message in batch]

    async def check(self) -> SendResult:
        """See CheckedProvider: greeting, TLS and AUTH on a new connection."""
        try:
            return result_of(await self._port.check(timeout_s=self._timeout_s))
        except TransportError as error:
            return result_of_failure(error)

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


def _capabilities(timeout_s: float) -> Capabilities:
    # one second above the port's own bound, which is exact
    return Capabilities(provider="smtp", channel=Channel.EMAIL, call_timeout_s=timeout_s + 1.0)


def _build(wiring: Wiring, settings: AccountSettings) -> SmtpProvider:
    assert isinstance(settings, SmtpSettings)
    port = wiring.smtp if wiring.smtp_for is None else wiring.smtp_for(settings)
    return SmtpProvider(given(port, "an SMTP port"), sender=settings.sender)


SMTP = ProviderType("E-mail over a mail server.", _capabilities(TIMEOUT_S), SmtpSettings, _build, checks=True)
