"""A user with something in every personal column, and how far their erasure is."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from infra.postgres.tables import PERSONAL
from tests.api.conftest import TENANT, Api, insert_delivery, insert_notification, insert_step

MARK, OTHER = "k4n4ry", "0th3r"
PATH = "/v1/users/u-1/erase"


async def fill(api: Api, user: str, mark: str) -> UUID:
    """Something of this user in every personal column; returns a notification that waits for a retry."""
    address = f"{mark}@example.com"
    email = {"channel": "email", "address": address}
    profile = {"id": user, "name": mark, "locale": "zh-CN", "attributes": {"x": mark}, "identities": [email]}
    await api.post("/v1/users", profile, once=f"{mark}-1")
    await api.post(f"/v1/users/{user}/identities", {"channel": "wecom", "address": mark}, once=f"{mark}-2")
    await api.post(f"/v1/users/{user}/suppressions", email | {"reason": "hard_bounce"}, once=f"{mark}-3")
    await api.post("/v1/suppressions", {"channel": "wecom", "address": mark, "reason": "complaint"}, once=f"{mark}-4")
    point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
    keys = {"p256dh": point, "auth": "BTBZMqHH6r4Tts7J_aSIgg"}
    subscription = {"endpoint": f"https://push.example.com/{mark}", "keys": keys}
    await api.post(f"/v1/users/{user}/devices", {"kind": "webpush", "subscription": subscription})
    await api.pool.execute("UPDATE device SET keys = keys || $2 WHERE person_id = $1", user, json.dumps({"x": mark}))
    chosen = {"categories": {mark: {"enabled": True}}}
    await api.call("PUT", f"/v1/users/{user}/preferences", json=chosen)
    said = json.dumps({"text": mark})
    personal = {"content": said, "data": said, "metadata": said, "user_id": user, "to_address": address}
    done = await insert_notification(api.pool, **personal, status="sent", final=True)
    await insert_delivery(api.pool, done, address=address, rest=json.dumps({"chain": [[2, "webhook", mark]]}))
    waits = await insert_notification(api.pool, **personal)
    await insert_step(api.pool, waits, address=address, chain=json.dumps([[2, "webhook", mark]]))
    await api.pool.execute(
        "INSERT INTO inbox_item (id, tenant, user_id, notification_id, n, title, text, url, category, data, expires_at) "
        "VALUES (gen_random_uuid(), $1, $2, $3, 1, $4, $4, $4, 'c', $5, now() + interval '1 day')",
        TENANT, user, done, mark, said,
    )  # fmt: skip
    return waits


async def found(api: Api, mark: str) -> dict[tuple[str, str], int]:
    """(table, column) of the list -> rows that hold the mark."""
    counts: dict[tuple[str, str], int] = {}
    for table, columns in PERSONAL.items():
        for column in columns:
            shown = f"convert_from({column}, 'UTF8')" if (table, column) == ("idempotency", "answer") else f"{column}::text"
            query = f"SELECT count(*) FROM {table} WHERE {shown} LIKE '%' || $1 || '%'"
            counts[table, column] = await api.pool.fetchval(query, mark)
    return counts


async def later(api: Api) -> None:
    """A minute has passed."""
    await api.pool.execute("UPDATE erasure SET requested_at = requested_at - interval '2 minutes', due_at = now()")


async def erased(api: Api, *, status: int = 202) -> dict[str, Any]:
    answer = await api.post(PATH)
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    return body
