"""What is posted: the same bytes to both sides of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.instance import Instance

TITLE = "Your order has been shipped"
TEXT = "Hello, your order 20261123-0042 has left our warehouse and will arrive within two working days. " * 2
FAR = timedelta(days=200)
"""So that nothing of it is due while it is measured."""
USER, TEMPLATE = "u-bench", "bench-shipped"
BATCH = 1000


def encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _far() -> str:
    return (datetime.now(UTC) + FAR).isoformat(timespec="seconds")


def scheduled_mail() -> dict[str, Any]:
    """Inline content to an e-mail address, due long after the benchmark."""
    return {
        "to": {"email": "bench@example.com"},
        "channels": ["email"],
        "content": {"title": TITLE, "text": TEXT},
        "priority": "medium",
        "send_at": _far(),
        "metadata": {"order": "20261123-0042"},
    }


def templated() -> dict[str, Any]:
    """Template and user: both are looked up, the template's variables are checked."""
    return {
        "to": {"user": USER},
        "channels": ["email"],
        "template": TEMPLATE,
        "data": {"name": "Fang", "order": "20261123-0042"},
        "priority": "medium",
        "send_at": _far(),
        "metadata": {"order": "20261123-0042"},
    }


def webhook(address: str, *, priority: str) -> dict[str, Any]:
    """Inline content to a webhook, due now."""
    return {
        "to": {"channel": "webhook", "address": address},
        "content": {"title": TITLE, "text": TEXT},
        "priority": priority,
        "metadata": {"order": "20261123-0042"},
    }


def mail(place: int) -> dict[str, Any]:
    """Inline content to an e-mail address of its own, due now."""
    return {
        "to": {"email": f"bench-{place}@example.com"},
        "content": {"title": TITLE, "text": TEXT},
        "priority": "low",
    }


def batch(items: list[dict[str, Any]]) -> bytes:
    return encoded({"notifications": items})


async def seed_user_and_template(instance: Instance) -> str:
    """Make USER and TEMPLATE by the API; empty, or why that was not possible."""
    headers = {"Authorization": f"Bearer {instance.key}"}
    user = {"id": USER, "name": "Fang", "identities": [{"channel": "email", "address": "bench@example.com"}]}
    template = {
        "name": TEMPLATE,
        "variables": {
            "type": "object",
            "required": ["name", "order"],
            "properties": {"name": {"type": "string"}, "order": {"type": "string"}},
        },
        "contents": {"en": {"default": {"title": "Order {{ order }}", "text": "Hello {{ name }}, it is on its way."}}},
        "example_data": {"name": "Fang", "order": "20261123-0042"},
    }
    calls: tuple[tuple[str, dict[str, Any] | None], ...] = (
        ("/v1/users", user),
        ("/v1/templates", template),
        (f"/v1/templates/{TEMPLATE}/publish", None),
    )
    async with httpx.AsyncClient(base_url=instance.api_url, headers=headers, trust_env=False, timeout=10) as api:
        for path, body in calls:
            answer = await api.post(path, json=body)
            if answer.is_error:
                return f"POST {path} answers {answer.status_code}"
    return ""
