"""What is sent again, or tried again, is as it was posted: its life, its lane, its hours."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from domain.lanes import Lane
from tests.accept.conftest import Api
from tests.accept.test_changes import at, finish, made, moment, patch, read
from tests.accept.test_partial_retry import partial
from tests.accept.test_windows import EVENING

NEAR = timedelta(seconds=20)
"""Between what was asked for as a moment, and the moment at which it was accepted."""


async def again(api: Api, one: str, *, how: str) -> dict[str, Any]:
    await finish(api, one, "failed")
    if how == "resend":
        answer = await api.post(b"", path=f"/v1/notifications/{one}/resend")
    else:
        answer = await api.post({"id": one}, path="/v1/notifications/retry")
    assert answer.status_code == 202, answer.text
    return await read(api, answer.json()["id"] if how == "resend" else answer.json()["made"][0]["as"])


def life(shown: dict[str, Any]) -> timedelta:
    return moment(shown["expires_at"]) - moment(shown["send_at"] or shown["accepted_at"])


def is_about(found: timedelta, wanted: timedelta) -> bool:
    return abs(found - wanted) < NEAR


async def expedite(api: Api, one: str) -> None:
    assert (await api.post(b"", path=f"/v1/notifications/{one}/expedite")).json()["result"] == "expedited"


@pytest.mark.parametrize("how", ["resend", "retry"])
async def test_a_moment_was_a_life_too(api: Api, how: str) -> None:
    """Caught: bulk that was to live for ten minutes lived for three days when it was sent again."""
    one = await made(api, priority="low", expires_at=at(minutes=10))
    shown = await again(api, one, how=how)
    assert is_about(life(shown), timedelta(minutes=10))
    assert is_about(life(await again(api, shown["id"], how=how)), timedelta(minutes=10)), "and when it is sent once more"


async def test_a_moment_counts_from_when_it_was_to_be_sent(api: Api) -> None:
    one = await made(api, send_at=at(days=1), expires_at=at(days=1, hours=2))
    assert is_about(life(await again(api, one, how="resend")), timedelta(hours=2))


@pytest.mark.parametrize("how", ["resend", "retry"])
async def test_hurry_was_meant_for_the_old_one(api: Api, how: str) -> None:
    """Caught: sent again it was in the high lane, and lived for five minutes."""
    one = await made(api, priority="low", send_at=at(days=1), window=EVENING)
    await expedite(api, one)
    assert "given" not in await read(api, one)
    shown = await again(api, one, how=how)
    assert (shown["lane"], shown["window"], life(shown)) == ("low", EVENING, timedelta(hours=72))
    assert "given" not in shown
    edited = await made(api, priority="low", send_at=at(days=1), window=EVENING)
    await expedite(api, edited)
    await patch(api, edited, send_at=at(days=2), content={"title": "other", "text": "words"})
    shown = await again(api, edited, how=how)
    assert (shown["lane"], shown["window"]) == ("low", EVENING), "an edit of what it says leaves its hours"
    fixed = await made(api, send_at=at(days=1), expires_at=at(days=1, hours=3))
    await expedite(api, fixed)
    shown = await again(api, fixed, how=how)
    assert (shown["lane"], shown["on_unknown"]) == ("medium", "hold")
    assert is_about(life(shown), timedelta(hours=3))


async def test_twice_hurried_and_edited_meanwhile(api: Api) -> None:
    """What an edit says of lane and life is said for good."""
    one = await made(api, send_at=at(days=1), priority="low")
    await expedite(api, one)
    await patch(api, one, send_at=at(days=2))
    assert life(await read(api, one)) == timedelta(hours=72), "the life of its own lane moves along"
    await expedite(api, one)
    assert (await again(api, one, how="resend"))["lane"] == "low"
    two = await made(api, send_at=at(days=1), priority="low")
    await expedite(api, two)
    await patch(api, two, priority="high", expires_in="PT1H")
    shown = await again(api, two, how="resend")
    assert (shown["lane"], life(shown)) == ("high", timedelta(hours=1))


async def test_the_life_that_an_edit_gave(api: Api) -> None:
    one = await made(api, expires_in="PT5H")
    await patch(api, one, expires_at=at(minutes=30))
    assert is_about(life(await again(api, one, how="resend")), timedelta(minutes=30))
    two = await made(api, send_at=at(days=3))
    await api.pool.execute("UPDATE notification SET accepted_at = accepted_at - interval '1 hour' WHERE id = $1", two)
    await patch(api, two, send_at=None)
    assert life(await again(api, two, how="resend")) == timedelta(hours=24), "its lane's own, however late it was edited"
    three = await made(api, send_at=at(days=3))
    await api.pool.execute("UPDATE notification SET accepted_at = accepted_at - interval '1 hour' WHERE id = $1", three)
    for fields in ({"send_at": None}, {"send_at": at(days=4)}):
        await patch(api, three, **fields)
    assert life(await read(api, three)) == timedelta(hours=24), "and it goes on moving along"


async def test_of_a_digest(api: Api) -> None:
    """Its time was the window's end; what it was given to live was posted before."""
    await api.post(
        {"name": "t", "variables": {"type": "object", "properties": {"items": {}, "count": {}}},
         "contents": {"en": {"default": {"title": "T", "text": "{{ count }}"}}}, "example_data": {"items": [], "count": 1}},
        path="/v1/templates",
    )  # fmt: skip
    await api.post({}, path="/v1/templates/t/publish")
    item = {"to": {"user": "u-1"}, "content": None, "template": "t", "digest": {"key": "k", "window": "PT1H"}}
    assert is_about(
        life(await again(api, await made(api, **item, expires_at=at(hours=2)), how="resend")), timedelta(hours=2)
    )
    assert life(await again(api, await made(api, **item), how="resend")) == timedelta(hours=24)


async def test_what_arrived_in_part_comes_back_in_its_own_lane(api: Api) -> None:
    """Caught: bulk that had been hurried was tried again in the high lane, and lived for three days there."""
    one = await partial(api, priority="low", send_at=at(days=1))
    hurried = {"given": {"lane": "low", "life": "P3D"}}
    await api.pool.execute("UPDATE notification SET lane = 0, options = $2 WHERE id = $1", one, json.dumps(hurried))
    answer = await api.post({"id": one, "partial": True}, path="/v1/notifications/retry")
    assert answer.json()["retried"] == 1, answer.text
    assert (await read(api, one))["lane"] == "low"
    assert await api.pool.fetchval("SELECT lane FROM work WHERE notification_id = $1", one) == Lane.LOW


async def test_what_arrived_in_part_lives_as_long_again(api: Api) -> None:
    """However often, and when all of it is sent again afterwards."""
    one = await partial(api, priority="low", expires_at=at(minutes=10))
    await api.pool.execute("UPDATE notification SET accepted_at = accepted_at - interval '1 day', "
                           "expires_at = expires_at - interval '1 day' WHERE id = $1", one)  # fmt: skip
    answer = await api.post({"id": one, "partial": True}, path="/v1/notifications/retry")
    assert answer.json()["retried"] == 1, answer.text
    left = moment((await read(api, one))["expires_at"]) - moment(at())
    assert is_about(left, timedelta(minutes=10))
    assert is_about(life(await again(api, one, how="resend")), timedelta(minutes=10))
