"""What can be wrong with a template."""

from __future__ import annotations

from collections.abc import Sequence

from domain.errors import FieldError, Invalid


class TemplateBroken(Invalid):
    """The template cannot be used as it is, or not with this data.

    Permanent: the same template and data fail again. Each error's pointer names the block
    (`/contents/zh-CN/email/html`) and its message the line; neither ever holds data.
    """

    code = "template_broken"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(errors)

    @classmethod
    def block(cls, pointer: str, code: str, message: str, *, line: int | None = None) -> TemplateBroken:
        return cls([FieldError(pointer, code, message if line is None else f"line {line}: {message}")])
