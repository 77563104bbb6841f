"""Is the process alive, can it do its work, and what does it count."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict

from api.container import Container, container_of
from infra.postgres.errors import why_not
from infra.postgres.patience import within
from infra.postgres.probe import commit_probe

log = structlog.get_logger()
router = APIRouter(tags=["operations"])

READY_WITHIN_S = 2.0


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Dependency(BaseModel):
    """One thing the API needs; PostgreSQL is ready when it takes a COMMIT."""

    ready: bool
    reason: str | None = None


class Readiness(BaseModel):
    """Accept depends on a COMMIT in PostgreSQL alone: Temporal away does not make this unready."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"ready": True, "dependencies": {"postgres": {"ready": True}}}]}
    )

    ready: bool
    dependencies: dict[str, Dependency]


@router.get("/healthz", summary="The process runs")
async def healthz() -> Health:
    return Health()


@router.get(
    "/readyz",
    summary="It can do its work",
    responses={503: {"model": Readiness, "description": "A dependency is away"}},
    response_model_exclude_none=True,
)
async def readyz(response: Response, container: Annotated[Container, Depends(container_of)]) -> Readiness:
    postgres = await _postgres(container)
    ready = postgres.ready and not container.stopping.is_set()
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, dependencies={"postgres": postgres})


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _postgres(container: Container) -> Dependency:
    try:
        await within(READY_WITHIN_S, commit_probe(container.database.pool, process=container.process))
    except TimeoutError:
        return Dependency(ready=False, reason=f"no answer within {READY_WITHIN_S:g} s")
    except Exception as error:
        log.warning("readyz.postgres", code=type(error).__name__)
        return Dependency(ready=False, reason=why_not(error))
    spent = container.accept.spent
    return Dependency(ready=True) if spent is None else Dependency(ready=False, reason=why_not(spent))
