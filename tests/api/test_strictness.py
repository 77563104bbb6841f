"""What a route does not know is an error, also where it takes nothing at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api, codes, insert_notification

BODILESS = ("cancel", "expedite", "recall", "resend")


@pytest.mark.parametrize("what", BODILESS)
@pytest.mark.parametrize("body", [{"channels": ["email"]}, {"dry_run": True, "x": 1}, [], "now", 1, None])
async def test_a_route_without_fields_follows_none(shared_api: Api, what: str, body: Any) -> None:
    """Catches: a resend with `channels`, an expedite with a time, answered as if they had been followed."""
    content = '{"text": "Hello"}'
    one = await insert_notification(shared_api.pool, status="failed", final=True, content=content)
    before = await shared_api.count("notification")
    path = f"/v1/notifications/{one}/{what}"
    answer = await shared_api.call("POST", path, content=b"null", headers={"Content-Type": "application/json"})
    if body is not None:
        answer = await shared_api.post(path, body)
    assert answer.status_code == 422, answer.text
    fields = [(f"/{name}", "unknown_field") for name in body][:1] if isinstance(body, dict) else [("", "type")]
    assert codes(answer) == fields
    assert (await shared_api.post(path, body, key="viewer")).status_code == 403
    assert await shared_api.count("notification") == before
    empties: tuple[dict[str, Any] | None, ...] = (None, {})
    for empty in empties:
        assert (await shared_api.post(path, empty)).status_code in (200, 202)


async def test_a_code_that_is_asked_for_again_takes_no_fields(shared_api: Api) -> None:
    made = (await shared_api.post("/v1/otp", {"to": {"email": "fang@example.com"}})).json()
    answer = await shared_api.post(f"/v1/otp/{made['id']}/resend", {"channels": ["sms"]})
    assert (answer.status_code, codes(answer)) == (422, [("/channels", "unknown_field")])


@pytest.mark.parametrize("query", ["status=sent&status=failed", "limit=1&limit=1"])
async def test_a_parameter_is_given_once(shared_api: Api, query: str) -> None:
    """Catches: a list by two states that silently shows the last one alone."""
    answer = await shared_api.get(f"/v1/notifications?{query}")
    assert (answer.status_code, codes(answer)) == (422, [(query.partition("=")[0], "repeated")])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/notifications", "GET, POST"),
        ("/v1/notifications/01a20a32-744b-7020-809a-bb07e52cad04", "DELETE, GET, PATCH"),
        ("/v1/notifications/01a20a32-744b-7020-809a-bb07e52cad04/cancel", "POST"),
    ],
)
async def test_a_method_that_is_not_there_is_told_which_are(shared_api: Api, path: str, allowed: str) -> None:
    """Catches: an Allow that names the methods of the first route on this path alone."""
    answer = await shared_api.call("PUT", path, json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
