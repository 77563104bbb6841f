"""Field types that several bodies share. JSON is taken as it is: no number for a text, no 1 for true."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic_core import PydanticCustomError

from domain.addresses import has_control
from domain.locales import canonical
from domain.zones import is_time_zone

MOST_ATTRIBUTES_BYTES = 16 * 1024
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)")
_ID = re.compile(r"[^\s/?#%\\]{1,128}")


class Body(BaseModel):
    """A request's body: fields that are not there are errors."""

    model_config = ConfigDict(extra="forbid")


def _line(value: str) -> str:
    if has_control(value):
        raise PydanticCustomError("control_character", "It holds no line breaks or other control characters.")
    return value


def _id(value: str) -> str:
    if not _ID.fullmatch(value) or has_control(value) or value in {".", ".."}:
        raise PydanticCustomError(
            "format", "An id has 1 to 128 characters, none of them a space, a control character or one of / ? # % \\."
        )
    return value


def _moment(value: Any) -> Any:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise PydanticCustomError("format", "A time is RFC 3339 with an offset, as in 2026-12-01T09:00:00+08:00.")
    return value


def _query_moment(value: Any) -> Any:
    """A `+` that was not written as %2B arrives as a space, where none can stand."""
    return _moment(re.sub(r" (\d\d:\d\d)$", r"+\1", value) if isinstance(value, str) else value)


def _locale(value: str) -> str:
    tag = canonical(value)
    if tag is None:
        raise PydanticCustomError("format", "A locale is a language tag (BCP 47), as in zh-CN or en.")
    return tag


def _time_zone(value: str) -> str:
    if not is_time_zone(value):
        raise PydanticCustomError("format", "A time zone is an IANA name, as in Asia/Shanghai.")
    return value


def _attributes(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value, ensure_ascii=False).encode()) > MOST_ATTRIBUTES_BYTES:
        raise PydanticCustomError("too_long", "Attributes have at most 16 KiB of JSON.")
    return value


Line = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_line)]
"""One line of text."""
ObjectId = Annotated[str, AfterValidator(_id)]
"""An id that the caller chooses and that stands in paths."""
Moment = Annotated[datetime, BeforeValidator(_moment)]
QueryMoment = Annotated[datetime, BeforeValidator(_query_moment)]
Locale = Annotated[str, AfterValidator(_locale)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Attributes = Annotated[dict[str, Any], AfterValidator(_attributes)]
Flag = StrictBool
