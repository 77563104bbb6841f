"""The request's schema, as msgspec decodes it. Nothing here touches a database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from domain import windows
from domain.addresses import MOST_EMAIL, NO_CONTROL
from domain.channels import Channel
from domain.digests import LEAST_WINDOW, MOST_WINDOW, First
from domain.otp import DEFAULT_LENGTH, LONGEST, SHORTEST
from domain.states import Strategy

MOST_LIFE = timedelta(days=90)
LEAST_FALLBACK_AFTER = timedelta(seconds=5)
"""A receipt needs a moment; what it takes to look is less than a second."""
_ONE_LINE = {"pattern": NO_CONTROL}
_NOT_YET: dict[str, Any] = {"not": {}}
"""Said in the schema of a field that is known and always refused, so that what the schema allows is accepted."""
_DURATION = (
    r"^\+?[Pp](?=[0-9Tt])(?!.*\.[0-9]+[A-Za-z].*[0-9])([0-9]+(\.[0-9]+)?[Dd])?"
    r"([Tt](?=[0-9])([0-9]+(\.[0-9]+)?[Hh])?([0-9]+(\.[0-9]+)?[Mm])?([0-9]+(\.[0-9]+)?[Ss])?)?$"
)
"""What msgspec reads as a duration and is not negative: days, hours, minutes, seconds, a fraction in the last only. JSON
Schema's format `duration` says something else: it has weeks, months and years, and no fractions."""

Text = Annotated[str, Meta(max_length=100_000)]
Line = Annotated[str, Meta(min_length=1, max_length=255)]
Key = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema=_ONE_LINE)]
Aware = Annotated[datetime, Meta(tz=True)]
_Iso = Annotated[
    timedelta, Meta(description="ISO 8601, without years, months and weeks.", extra_json_schema={"pattern": _DURATION})
]
_MOST_SECONDS = int(MOST_LIFE.total_seconds())
Span = _Iso | Annotated[int, Meta(ge=1, le=_MOST_SECONDS, description="Seconds.")]
Window = (
    _Iso
    | Annotated[
        int, Meta(ge=LEAST_WINDOW.seconds, le=int(MOST_WINDOW.total_seconds()), description="Seconds, at most 7 days.")
    ]
)
Wait = _Iso | Annotated[int, Meta(ge=LEAST_FALLBACK_AFTER.seconds, le=_MOST_SECONDS, description="Seconds.")]
Clock = Annotated[str, Meta(min_length=5, max_length=5, pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", description="HH:MM.")]
Channels = Annotated[list[Channel], Meta(min_length=1, max_length=16, extra_json_schema={"uniqueItems": True})]


class To(Struct, forbid_unknown_fields=True):
    """Exactly one of user, email, phone, or channel with address."""

    user: Line | UnsetType = UNSET
    email: Annotated[str, Meta(min_length=3, max_length=MOST_EMAIL)] | UnsetType = UNSET
    phone: (
        Annotated[
            str,
            Meta(
                min_length=3,
                max_length=32,
                description="Not available yet: no channel reaches a phone number.",
                extra_json_schema=_NOT_YET,
            ),
        ]
        | UnsetType
    ) = UNSET
    channel: Channel | UnsetType = UNSET
    address: Annotated[str, Meta(min_length=1, max_length=2048)] | UnsetType = UNSET
    app: Line | UnsetType = UNSET


class InlineContent(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Text as it is; never a template."""

    title: Annotated[str, Meta(max_length=998, extra_json_schema=_ONE_LINE)] | UnsetType = UNSET
    text: Text | UnsetType = UNSET
    html: Annotated[str, Meta(max_length=500_000)] | UnsetType = UNSET
    url: Annotated[str, Meta(max_length=2048)] | UnsetType = UNSET


class DigestWish(Struct, forbid_unknown_fields=True):
    """Collect it with others of the same key, user, template and way. The first opens a window; what comes until its end
    is one message, made by the template from `items` and `count`. `first`: it waits too, or it is sent at once."""

    key: Key
    window: Window
    first: First = First.COLLECT


class DedupeWish(Struct, forbid_unknown_fields=True):
    """Do not send it where the same went to the same recipient within the window before it. The same is the same `key`, or
    without one the same content."""

    window: Window
    key: Key | UnsetType = UNSET


class SendWindow(Struct, forbid_unknown_fields=True):
    """The hours in which it may be sent; past midnight where `to` is the earlier one. `time_zone`: `recipient` (the user's,
    else the tenant's), `tenant`, or an IANA name."""

    from_: Clock = msgspec.field(name="from")
    to: Clock
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] = windows.RECIPIENT

    @classmethod
    def of(cls, window: windows.Window) -> SendWindow:
        return cls(f"{window.start:%H:%M}", f"{window.end:%H:%M}", window.zone)


class NotificationRequest(Struct, forbid_unknown_fields=True):
    """Body of `POST /v1/notifications`, and one item of a batch. Without `channels` the category's route decides, and
    `strategy` is then the route's too; elsewhere it is `all`."""

    to: To
    channels: Channels | UnsetType = UNSET
    strategy: Strategy | UnsetType = UNSET
    template: Line | UnsetType = UNSET
    content: InlineContent | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    priority: Literal["high", "medium", "low"] = "medium"
    category: Annotated[str, Meta(max_length=128, extra_json_schema=_ONE_LINE)] = ""
    send_at: Aware | UnsetType = UNSET
    expires_in: Span | UnsetType = UNSET
    expires_at: Aware | UnsetType = UNSET
    on_unknown: Literal["hold", "resend"] | UnsetType = UNSET
    fallback_on: Literal["not_delivered", "not_read"] | UnsetType = UNSET
    fallback_after: Wait | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    digest: DigestWish | UnsetType = UNSET
    dedupe: DedupeWish | UnsetType = UNSET
    window: (
        Annotated[
            SendWindow | None,
            Meta(description="Of the low lane only. Left out: the category's, else the tenant's; null: at any hour."),
        ]
        | UnsetType
    ) = UNSET


class NotificationPatch(Struct, forbid_unknown_fields=True):
    """Body of `PATCH /v1/notifications/{id}`. What is left out stays as it is; `content` takes the place of a template
    and its data, `template` that of content; `send_at` null means now, `window` null at any hour."""

    content: InlineContent | UnsetType = UNSET
    template: Line | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    send_at: Aware | UnsetType | None = UNSET
    priority: Literal["high", "medium", "low"] | UnsetType = UNSET
    expires_in: Span | UnsetType = UNSET
    expires_at: Aware | UnsetType = UNSET
    window: (
        Annotated[
            SendWindow | None,
            Meta(description="Of the low lane only. Left out: as it is; in the low lane by this edit, the category's."),
        ]
        | UnsetType
    ) = UNSET


class TestSendRequest(Struct, forbid_unknown_fields=True):
    """Body of `POST /v1/templates/{name}/test-send`. Left out: the latest version, published or not; its example data; the
    recipient's locale; the channels that a notification of the template's category would take."""

    to: To
    channels: Channels | UnsetType = UNSET
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET
    locale: Annotated[str, Meta(max_length=35)] | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET


class OtpRequest(Struct, forbid_unknown_fields=True):
    """Body of `POST /v1/otp`. Without `channels` the category's route decides, else e-mail; `strategy` is `fallback` unless
    given or routed, and then the next channel follows `fallback_after` (30 seconds) without a taker or a receipt, unless
    the code was verified. `template` is one of yours that shows the variable `code`; `data` fills its others. `client_ip`
    is the address of the client that asked you: it is counted by its network and not kept."""

    to: To
    channels: Channels | UnsetType = UNSET
    strategy: Strategy | UnsetType = UNSET
    purpose: Annotated[str, Meta(max_length=64, pattern="^[A-Za-z0-9_.-]*$")] = ""
    length: Annotated[int, Meta(ge=SHORTEST, le=LONGEST)] = DEFAULT_LENGTH
    expires_in: Span | UnsetType = UNSET
    fallback_after: Wait | UnsetType = UNSET
    template: Line | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    category: Annotated[str, Meta(max_length=128, extra_json_schema=_ONE_LINE)] = ""
    locale: Annotated[str, Meta(max_length=35)] = ""
    client_ip: Annotated[str, Meta(min_length=2, max_length=45)] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class LetInRequest(Struct, forbid_unknown_fields=True):
    """Body of `POST /v1/otp/let-in`: the recipient, as `POST /v1/otp` names him."""

    to: To


class BatchRequest(Struct, forbid_unknown_fields=True):
    """Body of `POST /v1/notifications/batch`; items are decoded one by one, so that a bad one fails alone."""

    notifications: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=1000)]
