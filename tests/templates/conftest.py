"""A short way to a template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.rendering import PublishedTemplate


def template(
    contents: Mapping[str, Any], *, variables: Mapping[str, Any] | None = None, example: Mapping[str, Any] | None = None
) -> PublishedTemplate:
    return PublishedTemplate(
        "t", version=1, category="orders", variables=variables or {}, contents=contents, example_data=example
    )


def one(text: str, *, key: str = "text", variables: Mapping[str, Any] | None = None) -> PublishedTemplate:
    """A template of one text."""
    return template({"zh-CN": {"default": {key: text}}}, variables=variables)


def rendered(text: str, *, key: str = "text", **data: Any) -> str:
    content = one(text, key=key).render("email", locale="zh-CN", data=data)
    value: str = getattr(content, key)
    return value
