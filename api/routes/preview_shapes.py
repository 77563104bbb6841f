"""Previews as the API takes and shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.routes.template_shapes import VersionNumber
from api.schemas import Locale, ObjectId
from domain.errors import FieldError
from domain.judging import Finding, Remark
from domain.locales import LocaleReason
from infra.rendering.previews import Shown
from infra.rendering.template import LocaleFound

_EXAMPLE: dict[str, Any] = {
    "asked_locale": "en-GB", "locale": "en", "channel": "inapp", "title": "Order A-77 shipped",
    "text": "Your order A-77 is on its way.", "html": "<p>Your order <b>A-77</b> is on its way.</p>", "url": None,
    "extra": {},
    "sources": {"title": "default", "text": "made", "html": "default"},
    "fallback": [{"locale": "en-GB", "why": "exact", "found": "absent"},
                 {"locale": "en", "why": "shorter", "found": "taken"}],
    "not_carried": [{"pointer": "/html", "code": "not_carried", "detail": "This channel has no html: it is left out."}],
    "warnings": [],
    "notes": [{"pointer": "/text", "code": "made", "detail": "There is no text, so that it is made from the html."}],
    "sizes": {"": {"characters": 77, "bytes": 77}, "/title": {"characters": 18, "bytes": 18},
              "/text": {"characters": 30, "bytes": 30}},
    "errors": [],
}  # fmt: skip


class PreviewRequest(BaseModel):
    """Left out: the latest version, its example data, every locale, every channel."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"recipient": "u-1024", "data": {"order": "A-77"}}, {"locale": "en"}]},
    )

    version: VersionNumber | None = None
    data: dict[str, Any] | None = None
    locale: Locale | None = None
    channel: str | None = Field(default=None, max_length=32)
    recipient: ObjectId | None = Field(
        default=None, description="The id of a user: shown with their name, and in their locale unless `locale` is given."
    )
    user: dict[str, Any] | None = Field(
        default=None, description="Instead of a recipient, what `user` is in the template: `name`, `locale`."
    )


class PreviewError(BaseModel):
    """LocaleReason it cannot be rendered. `pointer` leads into the template."""

    pointer: str
    code: str
    detail: str

    @classmethod
    def of(cls, error: FieldError) -> PreviewError:
        return cls(pointer=error.pointer, code=error.code, detail=error.message)


class PreviewFinding(BaseModel):
    """What a channel does with it. `pointer` leads into this rendering; "" is the whole."""

    pointer: str
    code: Remark
    detail: str

    @classmethod
    def all_of(cls, findings: Iterable[Finding]) -> list[PreviewFinding]:
        return [cls(pointer=found.pointer, code=found.code, detail=found.detail) for found in findings]


class LocaleStep(BaseModel):
    """One locale that was looked at: what speaks for it, and what the template has there for the channel."""

    locale: str
    why: LocaleReason
    found: LocaleFound


class Preview(BaseModel):
    """One rendering, or why there is none (`errors`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    asked_locale: str
    locale: str = Field(description="The one that is taken.")
    channel: str = Field(description="`default` is what channels without a block of their own inherit.")
    title: str | None = None
    text: str | None = None
    html: str | None = None
    url: str | None = None
    extra: dict[str, Any] = {}
    sources: dict[str, str] = Field(
        default={},
        description="Field -> the block that it comes from: the channel's own, `default`, or `made` by the channel.",
    )
    fallback: list[LocaleStep] = Field(default=[], description="The locales that were looked at, up to the one taken.")
    not_carried: list[PreviewFinding] = Field(default=[], description="What is written and does not arrive.")
    warnings: list[PreviewFinding] = Field(default=[], description="What is to be minded.")
    notes: list[PreviewFinding] = Field(default=[], description="What the channel does by itself.")
    sizes: dict[str, dict[str, int]] = Field(
        default={},
        description='Place ("" is the whole) -> unit -> count. The frame of the protocol comes on top.',
    )
    errors: list[PreviewError] = []

    @classmethod
    def of(cls, shown: Shown) -> Preview:
        content, judged = shown.content, shown.judged
        rendered: dict[str, Any] = {}
        if content is not None:
            rendered = {name: getattr(content, name) for name in ("title", "text", "html", "url")}
            rendered["extra"] = dict(content.extra)
        return cls(
            asked_locale=shown.asked_locale,
            locale=shown.locale,
            channel=shown.channel,
            **rendered,
            sources=dict(shown.sources or {}),
            fallback=[LocaleStep(locale=step.locale, why=step.why, found=step.found) for step in shown.way],
            not_carried=PreviewFinding.all_of(judged.not_carried),
            warnings=PreviewFinding.all_of(judged.warnings),
            notes=PreviewFinding.all_of(judged.notes),
            sizes={at: dict(counts) for at, counts in judged.sizes.items()},
            errors=[PreviewError.of(error) for error in shown.errors],
        )


class PreviewRecipient(BaseModel):
    """Who it is shown for."""

    user: str
    locale: str | None = Field(description="Theirs; null where they have none, which takes the tenant's default.")


class Previews(BaseModel):
    version: int
    recipient: PreviewRecipient | None = None
    items: list[Preview]
