"""What a version has to pass before it is published: it is rendered with its example data, everywhere, once."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import FieldError
from infra.rendering.errors import TemplateBroken
from infra.rendering.limits import PUBLISH_CPU_S
from infra.rendering.template import PublishedTemplate
from infra.rendering.variables import pointer


def publish_errors_blocking(template: PublishedTemplate) -> list[FieldError]:
    """Why this version cannot be published; empty when it can. CPU-heavy: the examples are rendered.

    A variable that a text uses has to be declared where there is a schema; the example data has to satisfy the schema; and
    every block has to render with it within `PUBLISH_CPU_S`.
    """
    errors = [*_undeclared(template), *template.schema.check(template.example_data, prefix="/example_data")]
    if errors:
        return errors
    for locale, channel in template.places():
        try:
            template.render(channel, locale=locale, data=template.example_data, cpu_s=PUBLISH_CPU_S)
        except TemplateBroken as broken:
            errors.extend(error for error in broken.errors if error not in errors)
    return errors


def _undeclared(template: PublishedTemplate) -> Iterator[FieldError]:
    declared = template.schema.declared
    if declared is None:
        return
    for block in template.blocks():
        for name in sorted(block.variables - declared - {"user"}):
            yield FieldError(
                block.pointer,
                "undeclared",
                f"uses {name!r}, which {pointer('/variables/properties', name)} does not declare",
            )
