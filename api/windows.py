"""Sending windows as categories and the tenant have them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.routes.preference_bodies import Clock
from domain.windows import RECIPIENT, TENANT, Window
from domain.zones import is_time_zone
from infra.postgres.tenants.windows import encode_window

EXAMPLE: dict[str, Any] = {"from": "19:00", "to": "08:00", "time_zone": RECIPIENT}


def _place(value: str) -> str:
    if value not in (RECIPIENT, TENANT) and not is_time_zone(value):
        raise PydanticCustomError("format", "Give recipient, tenant, or an IANA time zone, as in Asia/Shanghai.")
    return value


class WindowBody(BaseModel):
    """The hours in which the low lane sends; past midnight where `to` is the earlier one. `time_zone`: `recipient` (the
    user's, else the tenant's), `tenant`, or an IANA name."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    start: Clock = Field(alias="from")
    end: Clock = Field(alias="to")
    time_zone: Annotated[str, AfterValidator(_place)] = RECIPIENT

    @model_validator(mode="after")
    def _some(self) -> WindowBody:
        if self.start == self.end:
            raise PydanticCustomError("range", "A window closes at another time than it opens.")
        return self

    def made(self) -> Window:
        return Window(self.start, self.end, self.time_zone)

    def stored(self) -> dict[str, Any]:
        """As `category` and `tenant` keep it."""
        return encode_window(self.made())


class WindowShown(BaseModel):
    """The hours in which the low lane sends."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    start: str = Field(alias="from")
    end: str = Field(alias="to")
    time_zone: str

    @classmethod
    def of(cls, window: Window | None) -> WindowShown | None:
        return None if window is None else cls.model_validate(encode_window(window))
