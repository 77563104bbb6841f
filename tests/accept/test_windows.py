"""Windows at accept: the notification's own, its category's, its tenant's; pinned, and of the low lane alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.lanes import Lane
from infra.postgres.engine.cohorts import CohortRow
from tests.accept.conftest import Api, body
from tests.engine.support import Engine
from tests.receipts.conftest import eventually

EVENING = {"from": "19:00", "to": "08:00", "time_zone": "recipient"}
NOON = {"from": "12:00", "to": "13:00", "time_zone": "tenant"}
SHANGHAI = {"from": "20:00", "to": "22:00", "time_zone": "Asia/Shanghai"}
PATH = "/v1/notifications"


async def sent(api: Api, **changes: Any) -> dict[str, Any]:
    answer = await api.post(body(**{"priority": "low", **changes}))
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = (await api.http.get(answer.headers["location"])).json()
    return found


async def window_of(api: Api, **changes: Any) -> Any:
    return (await sent(api, **changes)).get("window")


async def setting(api: Api, **changes: Any) -> None:
    answer = await api.http.patch("/v1/tenant", json=changes)
    assert answer.status_code == 200, answer.text


async def category(api: Api, name: str, **fields: Any) -> None:
    answer = await api.post({"name": name, "channels": ["email"], **fields}, path="/v1/categories")
    assert answer.status_code == 201, answer.text


async def test_its_own_is_stored_and_shown(api: Api) -> None:
    assert await window_of(api) is None
    assert await window_of(api, window={"from": "19:00", "to": "08:00"}) == EVENING
    assert await window_of(api, window=SHANGHAI) == SHANGHAI


async def test_the_categorys_stands_before_the_tenants_and_its_own_before_both(api: Api) -> None:
    """Also where the notification names channels or an address, which take no route."""
    await setting(api, window=NOON)
    await category(api, "news", window=EVENING)
    await category(api, "orders")
    for to in ({"user": "u-1"}, {"email": "a@example.com"}):
        assert await window_of(api, to=to) == NOON
        assert await window_of(api, to=to, category="news") == EVENING
        assert await window_of(api, to=to, category="orders") == NOON
        assert await window_of(api, to=to, category="news", window=SHANGHAI) == SHANGHAI
    answer = await api.post(body(priority="low", category="news") | {"window": None})
    assert (await api.http.get(answer.headers["location"])).json().get("window") is None, "null is a choice of its own"
    for priority in ("medium", "high"):
        assert await window_of(api, priority=priority, category="news") is None


async def test_items_of_a_batch_have_one_too(api: Api) -> None:
    await category(api, "news", window=EVENING)
    items = [body(priority="low", category="news"), body(priority="medium", window=EVENING)]
    answer = (await api.post({"notifications": items}, path=f"{PATH}/batch")).json()
    one = answer["items"][0]["id"]
    assert (await api.http.get(f"{PATH}/{one}")).json()["window"] == EVENING
    assert answer["items"][1]["error"]["errors"][0]["pointer"] == "/window"


async def test_it_is_pinned_at_accept(api: Api) -> None:
    await category(api, "news", window=EVENING)
    one = (await sent(api, category="news"))["id"]
    changed = await api.http.patch("/v1/categories/news", json={"window": SHANGHAI})
    assert changed.json()["window"] == SHANGHAI
    assert await window_of(api, category="news") == SHANGHAI, "seen at once in the process that changed it"
    assert (await api.http.get(f"{PATH}/{one}")).json()["window"] == EVENING
    await api.http.patch("/v1/categories/news", json={"window": None})
    assert await window_of(api, category="news") is None


async def test_an_edit_of_the_lane_takes_it_away_and_brings_the_categorys(api: Api) -> None:
    await category(api, "news", window=EVENING)
    one = (await sent(api, category="news", window=SHANGHAI))["id"]

    async def edited(**changes: Any) -> Any:
        answer = await api.http.patch(f"{PATH}/{one}", json=changes)
        assert answer.status_code == 200, answer.text
        return (await api.http.get(f"{PATH}/{one}")).json().get("window")

    assert await edited(content={"text": "New"}) == SHANGHAI
    assert await edited(priority="medium") is None
    assert await edited(priority="low") == EVENING


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"priority": "medium", "window": EVENING}, "/window", "low_only"),
        ({"priority": None, "window": EVENING}, "/window", "low_only"),
        ({"window": {**EVENING, "to": "19:00"}}, "/window/to", "range"),
        ({"window": {**EVENING, "from": "24:00"}}, "/window/from", "type"),
        ({"window": {**EVENING, "from": "19:00\n"}}, "/window/from", "length"),
        ({"window": {**EVENING, "time_zone": "Asia/Atlantis"}}, "/window/time_zone", "format"),
        ({"window": {"from": "19:00"}}, "/window/to", "required"),
    ],
)
async def test_what_is_wrong_with_a_window_is_said(api: Api, changes: dict[str, Any], pointer: str, code: str) -> None:
    answer = await api.post(body(**{"priority": "low", **changes}))
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]
    assert await api.count() == 0


@pytest.mark.parametrize("path", ["/v1/tenant", "/v1/categories/news"])
@pytest.mark.parametrize(
    ("window", "pointer"),
    [
        ({**EVENING, "to": "19:00"}, "/window"),
        ({**EVENING, "from": "7pm"}, "/window/from"),
        ({**EVENING, "time_zone": "here"}, "/window/time_zone"),
        ({**EVENING, "days": []}, "/window/days"),
    ],
)
async def test_what_is_wrong_with_a_categorys_or_the_tenants_window_is_said(
    api: Api, path: str, window: dict[str, Any], pointer: str
) -> None:
    await category(api, "news")
    answer = await api.http.patch(path, json={"window": window})
    assert (answer.status_code, [e["pointer"] for e in answer.json()["errors"]]) == (422, [pointer])


async def test_the_tenants_settings(api: Api) -> None:
    """Each by itself; another tenant's stay as they are."""
    await api.pool.execute("UPDATE tenant SET time_zone = 'Europe/Berlin' WHERE id = 'other'")
    first = {"id": "acme", "name": "acme", "time_zone": "", "window": None}
    assert (await api.http.get("/v1/tenant")).json() == first
    await setting(api, time_zone="Asia/Shanghai")
    await setting(api, window=EVENING)
    assert (await api.http.get("/v1/tenant")).json() == {**first, "time_zone": "Asia/Shanghai", "window": EVENING}
    await setting(api, window=None)
    assert (await api.http.get("/v1/tenant")).json()["window"] is None
    assert (await api.http.patch("/v1/tenant", json={})).status_code == 422
    assert (await api.http.patch("/v1/tenant", json={"time_zone": "Mars"})).status_code == 422
    assert await api.pool.fetchval("SELECT time_zone FROM tenant WHERE id = 'other'") == "Europe/Berlin"


async def test_an_edit_gives_it_another_or_none(api: Api) -> None:
    """The category's does not come back where it was taken away, and other edits leave it as it is."""
    await category(api, "news", window=EVENING)
    one = (await sent(api, category="news"))["id"]

    async def edited(**changes: Any) -> Any:
        answer = await api.http.patch(f"{PATH}/{one}", json=changes)
        assert answer.status_code == 200, answer.text
        return (await api.http.get(f"{PATH}/{one}")).json().get("window")

    assert await edited(window=SHANGHAI) == SHANGHAI
    assert await edited(content={"text": "New"}) == SHANGHAI
    assert await edited(window={"from": "19:00", "to": "08:00"}) == EVENING
    assert await edited(window=None) is None
    assert await edited(content={"text": "Newer"}) is None
    assert await edited(priority="medium", window=None) is None
    assert await edited(priority="low", window=NOON) == NOON, "and not the category's"
    assert await edited(priority="medium") is None
    assert await edited(priority="low", window=None) is None
    timeline = (await api.http.get(f"{PATH}/{one}/timeline")).json()["items"]
    edits = [item["detail"] for item in timeline if item["type"] == "edited"]
    assert edits[0] == {"fields": ["window"], "version": 2}
    assert edits[-1] == {"fields": ["priority", "window"], "version": 10, "from": "medium", "to": "low"}


@pytest.mark.parametrize(
    ("lane", "changes", "pointer", "code"),
    [
        ("medium", {"window": EVENING}, "/window", "low_only"),
        ("high", {"window": EVENING}, "/window", "low_only"),
        ("low", {"window": EVENING, "priority": "medium"}, "/window", "low_only"),
        ("low", {"window": {**EVENING, "to": "19:00"}}, "/window/to", "range"),
        ("low", {"window": {**EVENING, "time_zone": "Asia/Atlantis"}}, "/window/time_zone", "format"),
        ("low", {"window": {"from": "19:00"}}, "/window/to", "required"),
        ("low", {"window": "evening"}, "/window", "type"),
        ("low", {"window": {**EVENING, "days": []}}, "/window/days", "unknown_field"),
    ],
)
async def test_an_edit_keeps_to_the_same_rules(
    api: Api, lane: str, changes: dict[str, Any], pointer: str, code: str
) -> None:
    own = {"window": SHANGHAI} if lane == "low" else {}
    one = (await sent(api, priority=lane, **own))["id"]
    before = await api.pool.fetchrow("SELECT * FROM notification")
    answer = await api.http.patch(f"{PATH}/{one}", json=changes)
    assert answer.status_code == 422
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]
    assert await api.pool.fetchrow("SELECT * FROM notification") == before


async def test_what_waits_for_its_window_is_planned_anew(api: Api) -> None:
    """As a worker does it: it waits, goes at once when the window is taken away, and waits for another. The claim that was
    under way meanwhile finds its row gone; what was handed over is not edited any more."""
    engine = Engine.over(api.pool)
    clock = datetime.now(UTC)
    soon, later, last = (f"{clock + timedelta(hours=hours):%H:%M}" for hours in (2, 3, 4))
    one = (await sent(api, window={"from": soon, "to": later, "time_zone": "UTC"}))["id"]

    async def planned() -> tuple[CohortRow, timedelta]:
        await engine.cohorts.group(Lane.LOW)  # unless the API has
        driven = "SELECT c.* FROM cohort c JOIN work w ON w.cohort = c.id"
        row = await eventually(lambda: api.pool.fetchrow(driven), lambda found: found is not None)
        cohort = CohortRow(row["id"], row["epoch"], Lane(row["lane"]), row["tenant"])
        assert await engine.plan(cohort) == 1
        [row] = await engine.work(UUID(one))
        return cohort, row["due_at"] - clock

    async def edited(**changes: Any) -> int:
        return (await api.http.patch(f"{PATH}/{one}", json=changes)).status_code

    assert timedelta(minutes=118) < (await planned())[1] < timedelta(minutes=121)
    assert await edited(window={"from": later, "to": last, "time_zone": "UTC"}) == 200
    assert timedelta(minutes=178) < (await planned())[1] < timedelta(minutes=181)
    assert await edited(window=None) == 200
    cohort, due = await planned()
    assert due < timedelta(minutes=1)
    [claim] = await engine.claim(cohort)
    assert await edited(window=EVENING) == 409, "it is being handed over"
    await engine.answer([claim])
    answer = await api.http.patch(f"{PATH}/{one}", json={"window": EVENING})
    assert (answer.status_code, answer.json()["code"]) == (409, "handed_off")
