"""Templates: Jinja2 in a sandbox, per channel and locale, versioned."""

from infra.rendering.catalog import TemplateCatalog
from infra.rendering.errors import TemplateBroken
from infra.rendering.publishing import publish_errors_blocking
from infra.rendering.shape import shape_errors
from infra.rendering.template import PublishedTemplate

__all__ = ["PublishedTemplate", "TemplateBroken", "TemplateCatalog", "publish_errors_blocking", "shape_errors"]
