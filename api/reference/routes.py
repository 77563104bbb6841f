"""GET /docs, and GET / that leads there. The page is rendered once; it has no script and loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.container import Container, container_of
from api.problem_types import PROBLEM_TYPES
from api.reference.lists import published_lists
from api.reference.prose import prose
from api.reference.view import Json, View

router = APIRouter(include_in_schema=False)

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-cache",
}


@router.get("/")
async def root() -> RedirectResponse:
    """Whoever opens the API in a browser finds what it is."""
    return RedirectResponse("/docs")


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request, container: Annotated[Container, Depends(container_of)]) -> HTMLResponse:
    state = request.app.state
    if not hasattr(state, "reference_page"):
        state.reference_page = rendered(request.app.openapi(), base_url=container.settings.public_url.rstrip("/"))
    return HTMLResponse(state.reference_page, headers=_HEADERS)


def rendered(document: Json, *, base_url: str) -> str:
    """The page for this OpenAPI document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["prose"] = prose
    template = environment.get_template("page.html")
    return template.render(
        view=View(document, base_url=base_url), lists=published_lists(), problems=PROBLEM_TYPES, base_url=base_url
    )
