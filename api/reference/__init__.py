"""The reference page at /docs: rendered from the OpenAPI document, without a script or anything from elsewhere."""

from api.reference.routes import router

__all__ = ["router"]
