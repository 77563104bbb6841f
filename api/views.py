"""Notifications as the API shows them (API contract: Shapes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from domain.cohorts import CohortEpoch
from domain.edits import GIVEN
from domain.lanes import Lane
from domain.states import Status
from domain.timeline import EventType, Told, first_end, first_lane
from infra.postgres.lists.reading import Details

WorkflowUrl = Callable[[CohortEpoch], str]
"""A link into the Temporal Web UI."""


def masked(address: str | None, *, channel: str) -> str | None:
    """Enough to recognise an address that one knows, too little to use it."""
    if address is None:
        return None
    if channel == "email":
        local, _, domain = address.rpartition("@")
        return f"{local[:1]}***@{domain}"
    if channel == "webhook":
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}/***"
    return address if channel == "inapp" else f"{address[:3]}***"


def summary(row: asyncpg.Record) -> dict[str, Any]:
    """A notification in a list."""
    return {
        "id": str(row["id"]),
        "status": row["shown"],
        "final": row["final"],
        "reason": row["reason"],
        "partial": row["partial"],
        "failed_channels": msgspec.json.decode(row["failed_channels"]) if row["failed_channels"] else [],
        "priority": Lane(row["lane"]).label,
        "lane": Lane(row["lane"]).label,
        "app": row["app"],
        "to": _to(row),
        "channels": row["channels"] or None,
        "strategy": row["strategy"],
        "template": row["template"],
        "template_version": row["template_version"],
        "category": row["category"],
        "accepted_at": _time(row["accepted_at"]),
        "send_at": _time(row["send_at"]),
        "expires_at": _time(row["expires_at"]),
        "finished_at": _time(row["finished_at"]),
        "resend_of": str(row["origin"]) if row["origin"] else None,
        "test": row["test"],
    }


def details(found: Details, *, url: WorkflowUrl) -> dict[str, Any]:
    """A notification by itself: what was posted, its deliveries, and every workflow that drove it."""
    row = found.row
    shown = summary(row)
    for name in ("content", "data", "metadata"):
        if row[name] is not None:
            shown[name] = msgspec.json.decode(row[name])
    options = msgspec.json.decode(row["options"]) if row["options"] else {}
    shown.update({name: value for name, value in options.items() if name != GIVEN})
    shown["collected_in"] = str(row["digest"]) if row["digest"] not in (None, row["id"]) else None
    shown["cancelled_at"] = _time(row["cancelled_at"])
    shown["workflows"] = [workflow(CohortEpoch(w["cohort"], w["epoch"]), url=url) for w in found.workflows]
    shown["deliveries"] = [_delivery(d) for d in found.deliveries]
    return shown


def workflow(cohort: CohortEpoch, *, url: WorkflowUrl) -> dict[str, str]:
    return {"id": cohort.workflow_id, "url": url(cohort)}


def timeline(row: asyncpg.Record, events: list[Any], *, url: WorkflowUrl) -> list[dict[str, Any]]:
    """Every event in order; the first and the last come from the notification itself."""
    told = [Told(event["at"], event["type"], event["n"], _detail(event)) for event in events]
    lane = first_lane(Lane(row["lane"]).label, told)
    accepted = {"lane": lane, "app": row["app"], **({"test": True} if row["test"] else {})}
    items = [_event(row["accepted_at"], EventType.ACCEPTED, 0, accepted)]
    for event, entry in zip(events, told, strict=True):
        detail = dict(entry.detail)
        if event["cohort"] is not None and event["epoch"] is not None:
            detail["workflow"] = workflow(CohortEpoch(event["cohort"], event["epoch"]), url=url)
        items.append(_event(event["at"], event["type"], event["n"], detail))
    if row["finished_at"] is not None:
        status, reason = first_end((Status(row["status"]), row["reason"]), told, finished_at=row["finished_at"])
        end = {"status": status, "reason": reason}
        items.append(_event(row["finished_at"], EventType.FINISHED, 0, end))
    items.sort(key=lambda item: item["at"])  # stable: events of one moment keep their order
    return [{**item, "at": _time(item["at"])} for item in items]


def _detail(event: Any) -> dict[str, Any]:
    detail: dict[str, Any] = msgspec.json.decode(event["detail"]) if event["detail"] else {}
    if event["type"] == EventType.EXPEDITED and "lane" in detail:  # as earlier versions wrote it
        return {"from": detail["lane"], "to": Lane.HIGH.label}
    return detail


def _event(at: datetime, kind: str, n: int, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {"at": at, "type": str(kind), "n": n, "detail": dict(detail)}


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    open_step = row["step_state"] is not None
    if not open_step:
        status = row["status"]
    elif row["step_state"] == 1:
        status = Status.PROCESSING
    else:
        status = row["status"] or Status.ACCEPTED
    return {
        "n": row["n"],
        "channel": row["channel"],
        "provider": row["provider"],
        "account": row["account"],
        "address": masked(row["address"], channel=row["channel"]),
        "status": status,
        "reason": row["reason"],
        "class": row["class"],
        "code": row["code"],
        "attempts": row["attempts"],
        "provider_id": row["provider_id"],
        "due_at": _time(row["due_at"]),
        "held_up_by": row["held_up_by"],
        "sent_at": _time(row["sent_at"]),
        "delivered_at": _time(row["delivered_at"]),
        "read_at": _time(row["read_at"]),
    }


def _to(row: asyncpg.Record) -> dict[str, Any]:
    if row["user_id"] is not None:
        return {"user": row["user_id"]}
    if row["to_channel"] == "email":
        return {"email": row["to_address"]}
    return {"channel": row["to_channel"], "address": row["to_address"]}


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
