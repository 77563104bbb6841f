"""Devices as the API takes and shows them. A token is what pushing needs: it is taken and never shown whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Body, Line, Locale
from domain.devices import MOST_TOKEN, DeviceKind, endpoint_problem, key_problems, token_problem
from domain.errors import FieldError, Invalid
from infra.postgres.users.devices import NewDevice, StoredDevice

_SHOWN_OF_TOKEN = 6
_SUBSCRIPTION: dict[str, Any] = {
    "endpoint": "https://updates.push.services.mozilla.com/wpush/v2/gAAAAABn",
    "expirationTime": None,
    "keys": {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    },
}
"""Keys of RFC 8291, appendix A."""
_BROWSER: dict[str, Any] = {"kind": "webpush", "subscription": _SUBSCRIPTION, "app": "shop.example", "locale": "zh-CN"}
_PHONE: dict[str, Any] = {"kind": "ios", "token": "0f" * 32, "app": "com.example.shop"}
_SHOWN: dict[str, Any] = {
    "id": "01a20a32-744b-7020-809a-bb07e52cad04", "kind": "webpush",
    "token_hint": "https://updates.push.services.mozilla.com/***", "app": "shop.example", "locale": "zh-CN",
    "state": "active", "created_at": "2026-12-01T01:00:00Z", "last_seen_at": "2026-12-01T01:00:00Z",
}  # fmt: skip


class SubscriptionKeys(Body):
    """What a message to the browser is encrypted with."""

    p256dh: str = Field(max_length=200)
    auth: str = Field(max_length=100)


class Subscription(Body):
    """What `JSON.stringify(await registration.pushManager.subscribe(...))` gives."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SUBSCRIPTION]})

    endpoint: str = Field(min_length=1, max_length=2048)
    expiration_time: float | None = Field(default=None, alias="expirationTime", description="Taken and not used.")
    keys: SubscriptionKeys


class DeviceIn(Body):
    """A browser or an app on which the user can be reached."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BROWSER, _PHONE]})

    kind: DeviceKind = Field(description="The push service that gave out the token.")
    token: str | None = Field(default=None, max_length=MOST_TOKEN, description="For all but webpush.")
    subscription: Subscription | None = Field(default=None, description="For webpush.")
    app: Line | None = Field(default=None, description="Bundle id, package name or site.")
    locale: Locale | None = None

    def check(self) -> None:
        """The rules that need more than one field. Raises Invalid."""
        browser = self.kind is DeviceKind.WEBPUSH
        wanted, other = ("subscription", "token") if browser else ("token", "subscription")
        errors: list[FieldError] = []
        if getattr(self, wanted) is None:
            errors.append(FieldError(f"/{wanted}", "required", f"A device of this kind has a {wanted}."))
        if getattr(self, other) is not None:
            errors.append(FieldError(f"/{other}", "not_allowed", f"A device of this kind has no {other}."))
        errors = errors or list(self._broken_rules())
        if errors:
            raise Invalid(errors)

    def _broken_rules(self) -> list[FieldError]:
        if self.subscription is None:
            problem = token_problem(self.kind, self.token or "")
            return [] if problem is None else [FieldError("/token", "format", problem)]
        problem = endpoint_problem(self.subscription.endpoint)
        errors = [] if problem is None else [FieldError("/subscription/endpoint", "format", problem)]
        keys = self.subscription.keys.model_dump()
        return errors + [FieldError(f"/subscription/keys/{name}", "format", why) for name, why in key_problems(keys)]

    def new(self) -> NewDevice:
        if self.subscription is not None:
            token, keys = self.subscription.endpoint, self.subscription.keys.model_dump()
        else:
            token, keys = self.token or "", {}
        return NewDevice(self.kind, token, keys, self.app or "", self.locale or "")


class Device(BaseModel):
    """A registered device."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: UUID
    kind: DeviceKind
    token_hint: str = Field(description="Enough to recognise it, too little to push to it.")
    app: str | None
    locale: str | None
    state: Literal["active"]
    created_at: datetime
    last_seen_at: datetime = Field(description="When it was registered last.")

    @classmethod
    def of(cls, stored: StoredDevice) -> Device:
        return cls(
            id=stored.id, kind=DeviceKind(stored.kind), token_hint=_hint(stored), app=stored.app or None,
            locale=stored.locale or None, state="active", created_at=stored.created_at, last_seen_at=stored.last_seen_at,
        )  # fmt: skip


class Devices(BaseModel):
    """All of one user; there are few enough for one page."""

    items: list[Device]
    next_cursor: None = None


def _hint(stored: StoredDevice) -> str:
    if stored.kind == DeviceKind.WEBPUSH:
        parts = urlsplit(stored.token)
        return f"{parts.scheme}://{parts.netloc}/***"
    return f"{stored.token[:_SHOWN_OF_TOKEN]}***"
