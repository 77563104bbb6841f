"""What the API decides by its own clock: what is posted for later, and for how long it believes what it has read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from api.accept import recipients, routing, rules
from infra.clock import ManualClock
from infra.rendering import catalog
from tests.api.conftest import TENANT, Api, codes

pytestmark = pytest.mark.postgres

MAIL: dict[str, Any] = {"to": {"email": "a@b.example"}, "content": {"text": "x"}, "category": "any"}


async def post(api: Api, **changes: Any) -> set[tuple[str, str]]:
    """The broken rules; none when it was accepted."""
    answer = await api.post("/v1/notifications", {**MAIL, **changes})
    assert answer.status_code in {202, 422}, answer.text
    return set() if answer.status_code == 202 else set(codes(answer))


async def test_a_moment_lies_ahead_or_not_by_this_clock(timed_api: Api, clock: ManualClock) -> None:
    """To the microsecond, which no test by the machine's clock could see."""
    api, now, step = timed_api, clock.now(), timedelta(microseconds=1)
    assert await post(api, expires_at=(now + step).isoformat()) == set()
    assert await post(api, expires_at=now.isoformat()) == {("/expires_at", "range")}
    assert await post(api, send_at=(now + rules.MOST_AHEAD).isoformat()) == set()
    assert await post(api, send_at=(now + rules.MOST_AHEAD + step).isoformat()) == {("/send_at", "range")}
    clock.advance(step)
    assert await post(api, expires_at=(now + step).isoformat()) == {("/expires_at", "range")}
    assert await post(api, send_at=(now + rules.MOST_AHEAD + step).isoformat()) == set()


async def test_each_of_a_batch_is_judged_at_the_same_moment(timed_api: Api, clock: ManualClock) -> None:
    late = {**MAIL, "expires_at": clock.now().isoformat()}
    answer = await timed_api.post("/v1/notifications/batch", {"notifications": [MAIL, late, MAIL]})
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)


async def test_a_user_who_went_elsewhere_is_noticed_in_time(timed_api: Api, clock: ManualClock) -> None:
    api = timed_api
    assert (await api.post("/v1/users", {"id": "u-1"})).status_code == 201
    to = {"user": "u-1"}
    assert await post(api, to=to) == set()
    await api.pool.execute("DELETE FROM person WHERE tenant = $1", TENANT)  # as another process does
    assert await post(api, to=to) == set()
    clock.advance(timedelta(seconds=recipients.REMEMBER_S))
    answer = await api.post("/v1/notifications", {**MAIL, "to": to})
    assert answer.json()["code"] == "recipient_unknown"


async def test_what_is_remembered_lasts_moments_only() -> None:
    """What another process publishes, routes or revokes is the truth here soon."""
    assert max(catalog.FRESH_S, routing.FRESH_S, recipients.REMEMBER_S) <= 5.0
