"""The rules for a one-time code that is asked for: those of a notification, and its own."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET

from api.accept.request import InlineContent, NotificationRequest, OtpRequest
from api.accept.rules import broken_rules, duration
from domain.errors import FieldError
from domain.locales import canonical
from domain.otp import DEFAULT_LIFE, LONGEST_LIFE, SHORTEST_LIFE, STORED_CHANNELS, client_network
from domain.states import Strategy


def notification_of(request: OtpRequest) -> NotificationRequest:
    """The notification that carries it. Its content is there for the rules alone: the text is made by the worker."""
    return NotificationRequest(
        to=request.to,
        channels=request.channels,
        strategy=request.strategy,
        template=request.template,
        content=InlineContent(text="-") if request.template is UNSET else UNSET,
        data=request.data,
        priority="high",
        category=request.category,
        expires_in=DEFAULT_LIFE if request.expires_in is UNSET else request.expires_in,
        fallback_after=request.fallback_after,
        metadata=request.metadata,
    )


def broken_otp_rules(request: OtpRequest, *, now: datetime) -> list[FieldError]:
    """All rules that the request breaks, as far as can be told without a database."""
    notification = notification_of(request)
    if notification.strategy is UNSET:
        notification.strategy = Strategy.FALLBACK  # what follows from it is asked for by leaving it out
    errors = broken_rules(notification, now=now)
    if request.expires_in is not UNSET and not SHORTEST_LIFE <= duration(request.expires_in) <= LONGEST_LIFE:
        errors = [error for error in errors if error.pointer != "/expires_in"]
        errors.append(FieldError("/expires_in", "range", "A code lives at least a minute and at most an hour."))
    if request.channels is not UNSET and STORED_CHANNELS & set(request.channels):
        message = "An in-app message is stored as it reads, and a code is never stored: use another channel."
        errors.append(FieldError("/channels", "not_available", message))
    if request.strategy is Strategy.PREFERRED:
        message = "A code goes by the channels in their order, and a resend one further: use fallback or all."
        errors.append(FieldError("/strategy", "not_available", message))
    if request.data is not UNSET and "code" in request.data:
        errors.append(FieldError("/data/code", "reserved", "The code is made here and put in when the message is sent."))
    if request.locale and canonical(request.locale) is None:
        errors.append(FieldError("/locale", "format", "A locale is a language tag (BCP 47), as in zh-CN or en."))
    if request.client_ip is not UNSET:
        try:
            client_network(request.client_ip)
        except ValueError:
            errors.append(FieldError("/client_ip", "format", "An IPv4 or IPv6 address."))
    return errors
