"""An edit into another template has that one's category, and all that goes by it."""

from __future__ import annotations

from typing import Any

from domain.preferences import CategoryChoice
from tests.accept.conftest import Api
from tests.accept.test_changes import TEMPLATE, at, made, patch, read
from tests.accept.test_windows import EVENING, NOON, SHANGHAI, category
from tests.digests.conftest import Office, office, still

__all__ = ["office", "still"]

ORDER: dict[str, Any] = {"to": {"user": "u-1"}, "content": None, "template": "order", "data": {"order": "A-1"}}
NEWS: dict[str, Any] = {"template": "news", "data": {"order": "A-1"}}


async def templates(api: Api) -> None:
    """`order` of the category orders, `news` of news."""
    for name, own in (("order", "orders"), ("news", "news")):
        assert (await api.post({**TEMPLATE, "name": name, "category": own}, path="/v1/templates")).status_code == 201
        assert (await api.post({}, path=f"/v1/templates/{name}/publish")).status_code == 200


async def edited(api: Api, one: str, **fields: Any) -> dict[str, Any]:
    answer = await patch(api, one, **fields)
    assert answer.status_code == 200, answer.text
    return await read(api, one)


async def test_who_does_not_want_it_does_not_get_it(office: Office) -> None:
    """Caught: a plain one that was edited into a template went to whoever had opted out of its category."""
    await templates(office.api)
    await office.engine.prefers("u-1", categories={"news": CategoryChoice(enabled=False)})
    one = await made(office.api, to={"user": "u-1"}, channels=["email"], send_at=at(days=1))
    assert (await edited(office.api, one, **NEWS, send_at=None))["category"] == "news"
    await office.deliver()
    shown = await read(office.api, one)
    assert (shown["status"], shown["reason"], office.texts) == ("suppressed", "opted_out", [])


async def test_it_is_the_next_templates_unless_one_was_named(api: Api) -> None:
    await templates(api)
    assert (await edited(api, await made(api, **ORDER), **NEWS))["category"] == "news"
    assert (await edited(api, await made(api, category="mine"), **NEWS))["category"] == "mine"
    assert (await edited(api, await made(api, **ORDER, category="mine"), **NEWS))["category"] == "mine"
    assert (await edited(api, await made(api, **ORDER), data={"order": "A-2"}))["category"] == "orders"


async def test_content_in_its_place_keeps_it_until_the_next_template(api: Api) -> None:
    """Otherwise mended words would go to whoever has opted out of it."""
    await templates(api)
    one = await made(api, **ORDER)
    for text in ("a", "b"):
        assert (await edited(api, one, content={"text": text}))["category"] == "orders"
    assert (await edited(api, one, **NEWS))["category"] == "news"
    assert (await edited(api, one, template="order"))["category"] == "orders"


async def test_the_hours_of_a_category_go_with_it(api: Api) -> None:
    await templates(api)
    await category(api, "orders", window=NOON)
    await category(api, "news", window=EVENING)
    low = {**ORDER, "priority": "low"}
    assert (await edited(api, await made(api, **low), **NEWS)).get("window") == EVENING
    assert (await edited(api, await made(api, **low), **NEWS, window=SHANGHAI)).get("window") == SHANGHAI
    assert (await edited(api, await made(api, **low, window=SHANGHAI), **NEWS)).get("window") == SHANGHAI


async def test_any_hour_is_a_choice_of_its_own(api: Api) -> None:
    await templates(api)
    await category(api, "news", window=EVENING)
    none = await made(api, **ORDER, priority="low")
    assert (await edited(api, none, **NEWS)).get("window") == EVENING
    answer = await api.post({"to": ORDER["to"], **NEWS, "template": "order", "priority": "low", "window": None})
    posted = answer.json()["id"]
    later = await made(api, **ORDER, priority="low")
    await edited(api, later, window=None)
    for one in (posted, later):
        shown = await edited(api, one, **NEWS)
        assert (shown.get("window"), shown["category"]) == (None, "news")
        assert "given" not in shown
