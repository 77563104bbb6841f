"""Health, readiness and figures."""

from __future__ import annotations

import re

from domain.ids import uuid7
from tests.api.conftest import Api, Way, insert_notification, make_keys, running


async def test_alive_and_ready_without_temporal(shared_api: Api) -> None:
    assert (await shared_api.get("/healthz", key=None)).json() == {"status": "ok"}
    ready = await shared_api.get("/readyz", key=None)
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "dependencies": {"postgres": {"ready": True}}})


async def test_without_the_database_it_is_alive_and_not_ready(database: str) -> None:
    """The way to the database is cut, and mended again."""
    way = Way(database)
    await way.open()
    try:
        async with running(way.url) as api:
            api.keys = await make_keys(database)
            assert (await api.get("/v1/users")).status_code == 200
            await way.cut()
            ready = await api.get("/readyz", key=None)
            assert (ready.status_code, ready.json()["ready"]) == (503, False)
            assert ready.json()["dependencies"]["postgres"]["reason"]
            assert (await api.get("/healthz", key=None)).status_code == 200
            for path in ("/v1/users", f"/v1/notifications/{uuid7()}"):
                answer = await api.get(path)
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert answer.headers["retry-after"] == "1"
            unknown = await api.get("/v1/users", key="tk_never_seen")
            assert unknown.status_code == 503
            await way.open()
            assert (await api.get("/readyz", key=None)).status_code == 200
            assert (await api.get("/v1/users")).status_code == 200
    finally:
        await way.cut()


async def test_a_database_that_only_reads_is_not_ready(database: str) -> None:
    """Catches: a probe that selects. A standby, or one whose disk is full, answers that, and takes no notification."""
    async with running(f"{database}?default_transaction_read_only=on") as api:
        ready = await api.get("/readyz", key=None)
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert ready.json()["dependencies"]["postgres"]["reason"] == "takes no COMMIT"


async def test_not_ready_while_stopping(api: Api) -> None:
    api.container.stopping.set()
    assert (await api.get("/readyz", key=None)).status_code == 503


async def test_figures_hold_no_ids(api: Api) -> None:
    notification = await insert_notification(api.pool)
    await api.get(f"/v1/notifications/{notification}")
    await api.get("/v1/users/somebody@example.com")
    await api.get("/nope/somebody@example.com")
    await api.call("BREW", "/v1/users")
    text = (await api.get("/metrics", key=None)).text
    assert 'tongda_http_requests_total{method="GET",route="/v1/notifications/{notification_id}",status="200"}' in text
    assert 'route="/v1/users/{user_id}",status="404"' in text
    assert re.search(r'method="GET",route="none",status="404"', text)
    assert str(notification) not in text
    assert "example.com" not in text
    assert "BREW" not in text


async def test_accepts_are_counted_by_lane_and_refusals_by_code(api: Api) -> None:
    def figures(text: str) -> dict[str, float]:
        found = re.findall(r'^(tongda_(?:accepted|rejected)_total\{\w+="\w+"\}) (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    before = figures((await api.get("/metrics", key=None)).text)
    good = {"to": {"email": "a@example.com"}, "content": {"title": "x"}, "priority": "high"}
    await api.post("/v1/notifications", good)
    await api.post("/v1/notifications", {})
    after = figures((await api.get("/metrics", key=None)).text)
    for name in ('tongda_accepted_total{lane="high"}', 'tongda_rejected_total{code="invalid"}'):
        assert after[name] - before.get(name, 0.0) == 1
