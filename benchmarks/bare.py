"""`python -m benchmarks.bare PORT`: what accept is compared with, FastAPI and pydantic, one POST, no database.

The body is the service's own, validated by a pydantic model; the server's settings are those of `python -m api`.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from api.__main__ import BACKLOG, KEEP_ALIVE_S
from infra import garbage

PATH = "/v1/notifications"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class To(Body):
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    email: Annotated[str, Field(min_length=3, max_length=320)] | None = None
    channel: Literal["email", "webhook", "inapp"] | None = None
    address: Annotated[str, Field(min_length=1, max_length=2048)] | None = None


class Content(Body):
    title: Annotated[str, Field(max_length=998)] | None = None
    text: Annotated[str, Field(max_length=100_000)] | None = None
    html: Annotated[str, Field(max_length=500_000)] | None = None


class Notification(Body):
    to: To
    channels: list[str] | None = None
    template: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    content: Content | None = None
    data: dict[str, Any] | None = None
    priority: Literal["high", "medium", "low"] = "medium"
    send_at: datetime | None = None
    metadata: dict[str, Any] | None = None


app = FastAPI(docs_url=None, redoc_url=None)


@app.post(PATH, status_code=202)
async def accept(notification: Notification) -> dict[str, str]:
    return {"id": str(uuid4()), "status": "accepted", "lane": notification.priority}


async def serve(port: int) -> None:
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
    )
    garbage.set_for_serving()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
