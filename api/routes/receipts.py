"""/v1/receipts: what providers report of the messages that they took."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api.body import MOST_BYTES, too_large
from api.container import Container, container_of
from channels.receipts import ReceiptRequest

router = APIRouter(tags=["receipts"])

_RECEIPT: dict[str, Any] = {
    "title": "WebhookReceipt",
    "description": "What became of a message, as a receiver of webhooks reports it.",
    "type": "object",
    "required": ["id", "status"],
    "additionalProperties": False,
    "properties": {
        "id": {
            "type": "string",
            "description": "The delivery id, as the call's `webhook-id` gave it; also of a call that was never answered.",
        },
        "status": {"type": "string", "enum": ["sent", "delivered", "read", "failed"]},
        "at": {"type": "string", "format": "date-time", "description": "When; left out: now."},
        "class": {
            "type": "string", "enum": ["RETRY", "RECIPIENT", "PERMANENT", "CONFIG"],
            "description": "Of `failed`: RECIPIENT, dead or opted out; PERMANENT, this content; RETRY, anything else.",
        },
        "code": {"type": "string", "pattern": "^[A-Za-z0-9._ -]{1,64}$", "description": "Of `failed`: your own code."},
    },
}  # fmt: skip
_EXAMPLE = {"id": "01a20a32-744b-7020-809a-bb07e52cad04-1", "status": "delivered", "at": "2026-12-01T09:00:03+08:00"}
_DOCUMENTED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "As the provider sends it; this is the body of provider `webhook`.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [_RECEIPT, {"type": "array", "items": _RECEIPT, "minItems": 1, "maxItems": 1000}]},
                "example": _EXAMPLE,
            }
        },
    },
    "responses": {
        "200": {
            "description": "All of it is stored, and has taken effect. The body is what the provider wants to hear.",
            "content": {"application/json": {"schema": {}, "example": {"taken": 1}}},
        }
    },
}


@router.post(
    "/v1/receipts/{provider}/{account}/{secret}",
    summary="Report what became of messages",
    response_class=Response,
    openapi_extra=_DOCUMENTED,
)
async def receive(
    provider: str, account: str, secret: str, request: Request, container: Annotated[Container, Depends(container_of)]
) -> Response:
    """For providers, not for callers: no API key, but the account's secret in the path and the provider's own signature
    where it has one. Repeating it, in any order, changes nothing. A message is known by the provider's id of it or by our
    own reference, so that a receipt corrects what is `unknown`, too; a chain goes on after a `failed`."""
    found = await container.receipts.find(provider, account, secret=secret)
    headers = {name.lower(): value for name, value in request.headers.items()}
    posted = ReceiptRequest(headers, await _body(request), dict(request.query_params))
    answer = await container.receipts.take(found, posted)
    return Response(answer.body, status_code=answer.status, media_type=answer.media_type)


async def _body(request: Request) -> bytes:
    """Raises TooLarge."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BYTES:
            raise too_large()
        chunks.append(chunk)
    return b"".join(chunks)
