"""The API: raw accept routes in front, FastAPI for everything else.

request -> Front -> AcceptRoutes (POST /v1/notifications, .../batch)
                 -> InboxCors -> Edge (request id, figures, problems) -> BodyGuard -> Gate (bounds) -> FastAPI
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, FastAPI
from starlette.types import Receive, Scope, Send

from api import openapi, problems, reference
from api.accept.asgi import AcceptParts, AcceptRoutes
from api.body_guard import BodyGuard
from api.container import Container, open_container
from api.edge import Edge
from api.gate import Gate
from api.inbox_cors import InboxCors
from api.query import refuse_unknown_parameters
from api.routes import (
    api_keys,
    apps,
    categories,
    devices,
    health,
    identities,
    inbox,
    inbox_stream,
    notification_changes,
    notification_retries,
    notifications,
    otp,
    preferences,
    providers,
    receipts,
    rights,
    suppressions,
    templates,
    tenant,
    users,
)
from api.routes import problems as problem_routes
from infra.settings import Settings

VERSION = "0.1.0"

ROUTERS: tuple[APIRouter, ...] = (
    notifications.router,
    notification_changes.router,
    notification_retries.router,
    otp.router,
    categories.router,
    templates.router,
    users.router,
    identities.router,
    devices.router,
    rights.router,
    suppressions.users,
    suppressions.tenant,
    preferences.router,
    providers.types,
    providers.router,
    apps.router,
    tenant.router,
    api_keys.router,
    inbox.users,
    inbox.own,
    inbox_stream.router,
    receipts.router,
    health.router,
    problem_routes.router,
    reference.router,
)


class Front:
    """The ASGI app that the server runs. Which app is behind it is set once the container is open."""

    def __init__(self, fastapi: FastAPI) -> None:
        self.fastapi = fastapi
        self.accept: AcceptRoutes | None = None
        """Requests go there first; it passes on what is not its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.accept or self.fastapi)(scope, receive, send)


def create_app(settings: Settings, *, container: Container | None = None) -> Front:
    """The app. Its lifespan opens a container of its own, unless one that is open is given; then none needs to run."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if container is not None:
            yield
            return
        async with open_container(settings) as own:
            _attach(front, own)
            yield

    app = FastAPI(
        title="Tongda",
        version=VERSION,
        summary="Enterprise notifications: one API for every channel, every send run by Temporal.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_parameters)],
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.add_middleware(Gate)
    app.add_middleware(BodyGuard)
    app.add_middleware(Edge)
    app.add_middleware(InboxCors)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app)
    front = Front(app)
    if container is not None:
        _attach(front, container)
    return front


def _attach(front: Front, container: Container) -> None:
    front.fastapi.state.container = container
    parts = AcceptParts(container.keys, container.accept, container.batches)
    front.accept = AcceptRoutes(front.fastapi, parts=parts)
