"""Users as the API takes and shows them (API contract: Shapes)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.schemas import Attributes, Body, Flag, Line, Locale, ObjectId, TimeZone
from domain.errors import FieldError, Invalid
from domain.identities import MOST_IDENTITIES, IdentityChannel, identity_problem
from infra.postgres.users.identities import NewIdentity, StoredIdentity
from infra.postgres.users.persons import Profile, StoredPerson

MOST_URL = 2048
IDENTITY_EXAMPLE: dict[str, Any] = {"channel": "email", "address": "fang@example.com", "verified": True, "primary": True}
EXAMPLE: dict[str, Any] = {
    "id": "u-1024",
    "name": "王芳",
    "locale": "zh-CN",
    "time_zone": "Asia/Shanghai",
    "attributes": {"city": "Suzhou", "vip": True},
    "identities": [IDENTITY_EXAMPLE, {"channel": "sms", "address": "+8613800000000"}],
}
_SHOWN_IDENTITY: dict[str, Any] = {
    **IDENTITY_EXAMPLE, "id": "01a20a32-744b-7020-809a-bb07e52cad04", "app": None, "created_at": "2026-12-01T01:00:00Z",
}  # fmt: skip
_TIMES = {"created_at": "2026-12-01T01:00:00Z", "updated_at": "2026-12-01T01:00:00Z"}
_SHOWN: dict[str, Any] = {**EXAMPLE, "identities": [_SHOWN_IDENTITY], "state": "active", **_TIMES}


class IdentityIn(Body):
    """An address of the user on a channel. `app` tells apart what a platform gives out per application (WeChat)."""

    model_config = ConfigDict(json_schema_extra={"examples": [IDENTITY_EXAMPLE]})

    channel: IdentityChannel
    address: str = Field(min_length=1, max_length=MOST_URL)
    app: Line | None = None
    verified: Flag = False
    primary: Flag = False

    def broken_rules(self, pointer: str) -> list[FieldError]:
        """The rule that needs two fields; pydantic would blame the whole object for it."""
        problem = identity_problem(self.channel, self.address)
        return [] if problem is None else [FieldError(f"{pointer}/address", "format", problem)]

    def new(self) -> NewIdentity:
        return NewIdentity(self.channel, self.address, self.app or "", self.verified, self.primary)


class UserIn(Body):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: ObjectId = Field(description="Your own id of this person.")
    name: Line | None = None
    locale: Locale | None = Field(default=None, description="BCP 47; the tenant's default where there is none.")
    time_zone: TimeZone | None = Field(default=None, description="IANA name.")
    attributes: Attributes = Field(default_factory=dict, description="Anything that rules and templates use.")
    identities: list[IdentityIn] = Field(default_factory=list, max_length=MOST_IDENTITIES)

    def check(self) -> None:
        """The rules that need more than one field. Raises Invalid."""
        errors: list[FieldError] = []
        seen: set[tuple[str, str, str]] = set()
        primary: set[str] = set()
        for index, identity in enumerate(self.identities):
            pointer = f"/identities/{index}"
            errors += identity.broken_rules(pointer)
            key = (identity.channel, identity.address, identity.app or "")
            if key in seen:
                errors.append(FieldError(pointer, "unique", "This identity is named twice."))
            if identity.primary and identity.channel in primary:
                errors.append(FieldError(f"{pointer}/primary", "unique", "One identity of a channel is primary."))
            seen.add(key)
            if identity.primary:
                primary.add(identity.channel)
        if errors:
            raise Invalid(errors)

    def profile(self) -> Profile:
        return Profile(self.id, self.name, self.locale or "", self.time_zone or "", self.attributes)


class UserChange(Body):
    """What is left out stays; null takes away. `attributes` are merged, and an attribute that is null is removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"locale": "en", "attributes": {"vip": None}}]})

    name: Line | None = None
    locale: Locale | None = None
    time_zone: TimeZone | None = None
    attributes: Attributes | None = None
    state: Literal["active", "deactivated"] | None = None

    def check(self) -> None:
        """Raises Invalid."""
        null = [name for name in ("attributes", "state") if name in self.model_fields_set and getattr(self, name) is None]
        if null:
            raise Invalid([FieldError(f"/{name}", "type", "It cannot be null; leave it out instead.") for name in null])

    def values(self) -> dict[str, Any]:
        """Columns to set."""
        given = self.model_dump(include={"name", "locale", "time_zone", "state"} & self.model_fields_set)
        return {name: "" if value is None and name != "name" else value for name, value in given.items()}


class IdentityChange(Body):
    """What is left out stays. Making one primary makes the others of its channel not."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"verified": True, "primary": True}]})

    verified: Flag | None = None
    primary: Flag | None = None


class Identity(BaseModel):
    """An address of a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN_IDENTITY]})

    id: UUID
    channel: str
    address: str
    app: str | None
    verified: bool
    primary: bool
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredIdentity) -> Identity:
        return cls(
            id=stored.id, channel=stored.channel, address=stored.address, app=stored.app or None,
            verified=stored.verified, primary=stored.primary, created_at=stored.created_at,
        )  # fmt: skip


class Identities(BaseModel):
    """All of one user; there are few enough for one page."""

    items: list[Identity]
    next_cursor: None = None


class User(BaseModel):
    """A user. `state`: active, deactivated; erased and merged ones remain as a trace."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str
    name: str | None
    locale: str | None
    time_zone: str | None
    attributes: dict[str, Any]
    state: str
    identities: list[Identity]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: StoredPerson) -> User:
        profile = stored.profile
        return cls(
            id=profile.id, name=profile.name, locale=profile.locale or None, time_zone=profile.time_zone or None,
            attributes=dict(profile.attributes), state=stored.state,
            identities=[Identity.of(one) for one in stored.identities], created_at=stored.created_at,
            updated_at=stored.updated_at,
        )  # fmt: skip


class Users(BaseModel):
    """By id. Follow `next_cursor` until it is null."""

    items: list[User]
    next_cursor: str | None
