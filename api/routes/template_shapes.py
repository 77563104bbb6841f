"""Templates as the API takes and shows them (API contract: Shapes)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from infra.postgres.tenants.templates import StoredTemplate, StoredVersion, VersionContent
from infra.rendering.shape import DEFAULT, TEXT_KEYS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _named(value: str) -> str:
    if not _NAME.fullmatch(value):
        message = "A name has 1 to 128 letters, digits, dots, hyphens and underscores, and begins with a letter or digit."
        raise PydanticCustomError("format", message)
    return value


Name = Annotated[str, AfterValidator(_named), Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
VersionNumber = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]

EXAMPLE: dict[str, Any] = {
    "name": "order-shipped",
    "category": "orders",
    "variables": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}},
    "contents": {
        "zh-CN": {
            "default": {"title": "订单 {{ order }} 已发货", "text": "{{ user.name }}，您的订单 {{ order }} 已发货。"},
            "email": {"html": "<p>您的订单 <b>{{ order }}</b> 已发货。</p>"},
        },
        "en": {"default": {"title": "Order {{ order }} shipped", "text": "Your order {{ order }} is on its way."}},
    },
    "example_data": {"order": "A-77"},
}
_VERSION_EXAMPLE = {key: EXAMPLE[key] for key in ("variables", "contents", "example_data")}
_AT = "2026-12-01T01:00:00Z"
_TEMPLATE_EXAMPLE: dict[str, Any] = {
    "name": "order-shipped", "category": "orders", "latest_version": 1, "published_version": None, "created_at": _AT,
    "updated_at": _AT, "version": 1, **_VERSION_EXAMPLE,
}  # fmt: skip
_DRAFT_EXAMPLE: dict[str, Any] = {"version": 2, "status": "draft", "created_at": _AT, **_VERSION_EXAMPLE}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewVersion(_Strict):
    """A draft. What is left out of `variables` and `example_data` is taken over from the latest version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_VERSION_EXAMPLE]})

    variables: dict[str, Any] | None = Field(default=None, description="JSON Schema of `data`; empty allows everything.")
    contents: dict[str, Any] = Field(
        description="Locale -> `default` or channel -> `title`, `text`, `html`, `url` (Jinja2), and the channel's own "
        "fields. A channel's fields stand before those of `default`, field by field; values are escaped in `html`."
    )
    example_data: dict[str, Any] | None = Field(default=None, description="Data that every block renders with at publish.")


class NewTemplate(NewVersion):
    """A template with its first draft."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: Name
    category: str = Field(default="", max_length=128)


class WhichVersion(_Strict):
    """Names a version; without it, `publish` takes the latest, `rollback` the next older one that can be published."""

    version: VersionNumber | None = None


class TemplateSummary(BaseModel):
    """A template in a list."""

    name: str
    category: str
    latest_version: int
    published_version: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: StoredTemplate) -> TemplateSummary:
        return cls(**{name: getattr(stored, name) for name in cls.model_fields})


class TemplateDetail(TemplateSummary):
    """A template with the version in force, or its latest draft where none is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEMPLATE_EXAMPLE]})

    version: int
    variables: dict[str, Any]
    contents: dict[str, Any]
    example_data: dict[str, Any]

    @classmethod
    def joined(cls, stored: StoredTemplate, version: StoredVersion) -> TemplateDetail:
        return cls(**TemplateSummary.of(stored).model_dump(), version=version.version, **content_fields(version.content))


class VersionDetail(BaseModel):
    """One version. `status`: the one in force is `published`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DRAFT_EXAMPLE]})

    version: int
    status: Literal["published", "draft"]
    created_at: datetime
    variables: dict[str, Any]
    contents: dict[str, Any]
    example_data: dict[str, Any]

    @classmethod
    def of(cls, stored: StoredVersion, *, published: int | None) -> VersionDetail:
        status: Literal["published", "draft"] = "published" if stored.version == published else "draft"
        return cls(version=stored.version, status=status, created_at=stored.created_at, **content_fields(stored.content))


class TemplatePage(BaseModel):
    items: list[TemplateSummary]
    next_cursor: str | None


class VersionPage(BaseModel):
    items: list[VersionDetail]
    next_cursor: str | None


def content_fields(content: VersionContent) -> dict[str, Any]:
    fields: dict[str, Mapping[str, Any]] = {
        "variables": content.variables,
        "contents": {locale: _in_order(blocks) for locale, blocks in content.contents.items()},
        "example_data": content.example_data,
    }
    return {name: dict(value) for name, value in fields.items()}


def _in_order(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """As people write it: `default` first, in each block the texts first. (jsonb keeps keys by their length.)"""
    channels = sorted(blocks, key=lambda key: (key != DEFAULT, key))
    return {key: {name: blocks[key][name] for name in sorted(blocks[key], key=_place)} for key in channels}


def _place(name: str) -> tuple[int, str]:
    return (TEXT_KEYS.index(name) if name in TEXT_KEYS else len(TEXT_KEYS), name)
