"""What lists are asked for: filters that many notifications fit, and such that few or none do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

WEEK_AGO = datetime.now(UTC) - timedelta(days=7)
COMMON: dict[str, dict[str, Any]] = {
    "nothing": {}, "status": {"status": "delivered"}, "priority": {"lane": 1}, "channel": {"channel": "email"},
    "app": {"app": "app-1"}, "user": {"user": "u-7838"}, "category": {"category": "c-3"}, "template": {"template": "t-3"},
    "from": {"since": WEEK_AGO}, "to": {"until": WEEK_AGO}, "suppressed": {"status": "suppressed"},
    "reason": {"reason": "no_address"}, "ended": {"final": True}, "text": {"q": "Order 5"},
    "several": {"app": "app-1", "status": "delivered", "channel": "email", "since": WEEK_AGO},
}  # fmt: skip
RARE: dict[str, tuple[dict[str, Any], str, int]] = {
    "one failed in 20,000": ({"status": "failed"}, "notification_reason", 3),
    "its reason": ({"reason": "content_refused"}, "notification_reason", 3),
    "a reason that never was": ({"reason": "quarantined"}, "notification_reason", 0),
    "what arrived in part": ({"partial": True}, "notification_partial", 3),
    "what arrived in part, but for no such reason": (
        {"partial": True, "channel": "email", "reason": "quarantined"},
        "notification_partial",
        0,
    ),
    "nothing open": ({"status": "processing"}, "work_pkey", 0),
    "nothing unfinished": ({"final": False}, "work_pkey", 0),
    "a template never used": ({"template": "never"}, "notification_blocks", 0),
    "a template of three": ({"template": "rare-template"}, "notification_blocks", 3),
    "an app of three": ({"app": "rare-app"}, "notification_blocks", 3),
    "an app of three, a template never used": ({"app": "rare-app", "template": "never"}, "notification_blocks", 0),
    "a category never used": ({"category": "never"}, "notification_blocks", 0),
    "a user who got nothing": ({"user": "nobody"}, "notification_user", 0),
    "an address by itself": ({"q": "once@example.com"}, "notification_blocks", 1),
    "an address that nobody has": ({"q": "nobody@example.com"}, "notification_blocks", 0),
}
"""Name -> filters, the index they go by, and how many acme has."""
