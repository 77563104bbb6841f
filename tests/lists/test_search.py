"""What `q` finds, and what it never tells."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
import structlog

from infra.postgres.lists import pages as notification_lists
from infra.telemetry import logs
from tests.api.conftest import OTHER, Api, api, insert_notification

__all__ = ["api"]


async def find(api: Api, q: str, **more: Any) -> set[str]:
    answer = await api.get("/v1/notifications", params={"q": q, **more})
    assert answer.status_code == 200, answer.text
    return {item["id"] for item in answer.json()["items"]}


async def put(api: Api, **columns: Any) -> str:
    return str(await insert_notification(api.pool, **columns))


def to_user(user: str) -> dict[str, Any]:
    return {"user_id": user, "to_channel": None, "to_address": None}


async def user(api: Api, name: str, *, address: str | None = None, channel: str = "email", key: str = "owner") -> None:
    identities = [] if address is None else [{"channel": channel, "address": address}]
    answer = await api.post("/v1/users", {"id": name, "identities": identities}, key=key)
    assert answer.status_code == 201, answer.text


async def test_a_notifications_id(api: Api) -> None:
    one, _ = await put(api), await put(api)
    assert await find(api, one) == {one}
    theirs = await insert_notification(api.pool, tenant=OTHER)
    assert await find(api, str(theirs)) == set()


async def test_a_users_id_and_their_addresses(api: Api) -> None:
    await user(api, "u-1", address="Fang@Example.com")
    await user(api, "u-2", address="+8613800000000", channel="sms")
    await user(api, "u-3", address="fang.wang", channel="wecom")
    first, second, third = [await put(api, **to_user(f"u-{n}")) for n in (1, 2, 3)]
    assert await find(api, "u-1") == {first}
    assert await find(api, "+8613800000000") == {second}
    assert await find(api, "fang.wang") == {third}
    [stored] = [row["address"] for row in await api.pool.fetch("SELECT address FROM identity WHERE person_id = 'u-1'")]
    assert await find(api, stored) == {first}


async def test_an_address_sent_to_by_itself_and_as_a_users(api: Api) -> None:
    await user(api, "u-1", address="li@example.com")
    mine, direct = await put(api, **to_user("u-1")), await put(api, to_address="li@example.com")
    await put(api, to_address="li@example.com", tenant=OTHER)
    await put(api, to_address="lili@example.com")
    assert await find(api, "li@example.com") == {mine, direct}
    assert await find(api, "li@EXAMPLE.com") == {mine, direct}
    assert await find(api, "nobody@example.com") == set()
    hook = "https://hooks.example.com/a"
    posted = await put(api, to_channel="webhook", to_address=hook)
    assert await find(api, hook) == {posted}


async def test_words_of_what_was_posted(api: Api) -> None:
    titled = await put(api, content=json.dumps({"title": "Order A-77 has left", "text": "secret words"}))
    chinese = await put(api, content=json.dumps({"title": "订单已发货", "text": "x"}, ensure_ascii=False))
    data = await put(api, template="order-shipped", data=json.dumps({"order": {"numbers": ["A-77", 4711]}}))
    quoted = await put(api, metadata=json.dumps({"trace": 'say "hi" \\ 100%_'}))
    assert await find(api, "a-77") == {titled, data}
    assert await find(api, "4711") == {data}
    assert await find(api, "发货") == {chinese}
    assert await find(api, "Order-SHIP") == {data}
    assert await find(api, 'say "hi" \\ 100%_') == {quoted}
    assert await find(api, "%") == {quoted}
    assert await find(api, "secret words") == set(), "texts are not searched"
    assert await find(api, "numbers") == set(), "names of fields are not searched"
    assert await find(api, "a-77", template="order-shipped") == {data}


async def test_quotation_marks_make_it_text(api: Api) -> None:
    """An order number that is some user's id too."""
    await user(api, "1024")
    theirs, order = await put(api, **to_user("1024")), await put(api, data='{"order": "1024"}')
    assert await find(api, "1024") == {theirs}
    assert await find(api, '"1024"') == {order}


async def test_a_reading_stays_the_same_from_page_to_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: a user of that id is created between two pages, and the rest of the orders is left out."""
    orders = [await put(api, data='{"order": "77"}') for _ in range(6)]
    first = (await api.get("/v1/notifications", params={"q": "77", "limit": 3})).json()
    await user(api, "77")
    params = {"q": "77", "limit": 10, "cursor": first["next_cursor"]}
    rest = (await api.get("/v1/notifications", params=params)).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == orders[::-1]


async def test_every_page_is_honest_about_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_lists, "MOST_SEARCHED", 4)
    old = await put(api, data='{"order": "A-1"}')
    for _ in range(10):
        await put(api)
    pages = [items async for items in api.pages("/v1/notifications", limit=5, q="A-1")]
    assert [item["id"] for items in pages for item in items] == [old]
    assert len(pages) > 1


@pytest.mark.parametrize("q", ["", "x" * 513])
async def test_a_bad_q_is_refused_without_quoting_it(api: Api, q: str) -> None:
    answer = await api.get("/v1/notifications", params={"q": q})
    assert answer.status_code == 422
    assert "xxxx" not in answer.text


async def test_q_stands_in_no_log(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug")
    structlog.configure(cache_logger_on_first_use=False)  # a logger that keeps this test's file would break later ones
    for q in ("secret.person@example.com", '"secret.person'):
        await find(api, q)
    await api.pool.execute("ALTER TABLE identity RENAME TO elsewhere")
    assert (await api.get("/v1/notifications", params={"q": "secret.person@example.com"})).status_code >= 500
    said = capfd.readouterr()
    structlog.reset_defaults()
    assert "request.failed" in said.out + said.err
    assert "secret.person" not in said.out + said.err


async def test_numbers_that_no_database_type_holds(api: Api) -> None:
    """JSON may hold what jsonb cannot: a list must not fail over one row."""
    one = await put(api, data='{"order": "A-9", "far": 1e308}')
    assert await find(api, "A-9") == {one}


def test_ids_are_ids() -> None:
    from infra.postgres.lists.search import _as_id

    assert _as_id("01a20a32-744b-7020-809a-bb07e52cad04") == UUID("01a20a32-744b-7020-809a-bb07e52cad04")
    assert _as_id("{01a20a32-744b-7020-809a-bb07e52cad}") is None
