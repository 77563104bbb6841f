"""What a preview shows beside the rendering: what each channel does with it, what it inherits, and why this locale."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api, codes

pytestmark = pytest.mark.postgres

CONTENTS: dict[str, Any] = {
    "zh-CN": {
        "default": {"title": "订单 {{ order }} 已发货", "html": "<p>您的订单 <b>{{ order }}</b></p>", "url": "https://x.example/"},
        "email": {"text": "{{ user.name }},您的订单 {{ order }}", "icon": "ship"},
        "sms": {"text": "{{ order }}"},
    },
    "en": {"email": {"title": "Order {{ order }}", "text": "Order {{ order }} for {{ user.name }}"}},
}  # fmt: skip


async def created(api: Api, name: str, contents: dict[str, Any] = CONTENTS) -> str:
    body = {"name": name, "category": "orders", "contents": contents, "example_data": {"order": "A-77"}}
    answer = await api.post("/v1/templates", body)
    assert answer.status_code == 201, answer.text
    return f"/v1/templates/{name}/preview"


async def shown(api: Api, path: str, **asked: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """(asked locale, channel) -> item."""
    answer = await api.post(path, asked)
    assert answer.status_code == 200, answer.text
    return {(item["asked_locale"], item["channel"]): item for item in answer.json()["items"]}


def marks(item: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    return {
        kind: [(found["pointer"], found["code"]) for found in item[kind]] for kind in ("not_carried", "warnings", "notes")
    }


async def test_each_channel_says_what_it_does_with_it(api: Api) -> None:
    items = await shown(api, await created(api, "carried"))
    assert marks(items["zh-CN", "email"]) == {
        "not_carried": [("/extra/icon", "not_carried")], "warnings": [],
        "notes": [("/text", "link_added"), ("/html", "link_added")],
    }  # fmt: skip
    assert marks(items["zh-CN", "inapp"]) == {
        "not_carried": [("/html", "not_carried")], "warnings": [], "notes": [("/text", "made")],
    }  # fmt: skip
    assert marks(items["zh-CN", "webhook"]) == {"not_carried": [], "warnings": [], "notes": [("/text", "made")]}
    assert marks(items["zh-CN", "sms"])["warnings"] == [("", "no_channel")]
    assert items["zh-CN", "email"]["sizes"]["/title"] == {"characters": 11, "bytes": 21}


async def test_a_channel_without_a_block_shows_what_it_inherits_and_a_block_its_sources(api: Api) -> None:
    items = await shown(api, await created(api, "inherited"))
    inapp, email = items["zh-CN", "inapp"], items["zh-CN", "email"]
    assert (inapp["title"], inapp["text"]) == ("订单 A-77 已发货", "您的订单 A-77")
    assert inapp["sources"] == {"title": "default", "html": "default", "url": "default", "text": "made"}
    assert email["sources"] == {
        "title": "default", "html": "default", "url": "default", "text": "email", "icon": "email",
    }  # fmt: skip


async def test_a_locale_that_lacks_the_channel_shows_which_is_taken_instead(api: Api) -> None:
    items = await shown(api, await created(api, "lacking"))
    inapp = items["en", "inapp"]
    assert (inapp["locale"], inapp["title"]) == ("zh-CN", "订单 A-77 已发货")
    assert inapp["fallback"] == [
        {"locale": "en", "why": "exact", "found": "no_content"},
        {"locale": "zh-CN", "why": "tenant_default", "found": "taken"},
    ]


async def test_a_recipient_gets_their_name_and_their_locale_with_the_reason(api: Api) -> None:
    path = await created(api, "recipient")
    await api.post("/v1/users", {"id": "u-gb", "name": "Ada", "locale": "en-GB"})
    await api.post("/v1/users", {"id": "u-none"})
    answer = (await api.post(path, {"recipient": "u-gb", "channel": "email"})).json()
    [item] = answer["items"]
    assert answer["recipient"] == {"user": "u-gb", "locale": "en-GB"}
    assert (item["locale"], item["text"]) == ("en", "Order A-77 for Ada")
    assert [(s["locale"], s["why"], s["found"]) for s in item["fallback"]] == [
        ("en-GB", "exact", "absent"), ("en", "shorter", "taken"),
    ]  # fmt: skip
    nobody = (await api.post(path, {"recipient": "u-none", "channel": "email"})).json()
    assert nobody["recipient"] == {"user": "u-none", "locale": None}
    assert nobody["items"][0]["fallback"] == [{"locale": "zh-CN", "why": "tenant_default", "found": "taken"}]
    chosen = await shown(api, path, recipient="u-gb", locale="zh-CN", channel="email")
    assert chosen["zh-CN", "email"]["text"].startswith("Ada,")
    assert codes(await api.post(path, {"recipient": "u-nobody"})) == [("/recipient", "unknown")]
    assert codes(await api.post(path, {"locale": "not a locale"})) == [("/locale", "format")]
    assert codes(await api.post(path, {"recipient": "u-gb", "user": {}})) == [("/user", "exactly_one")]


async def test_another_tenants_user_is_unknown(api: Api) -> None:
    path = await created(api, "tenants")
    assert (await api.post("/v1/users", {"id": "u-far", "name": "Far"}, key="other")).status_code == 201
    assert codes(await api.post(path, {"recipient": "u-far"})) == [("/recipient", "unknown")]


async def test_a_title_that_is_cut_says_so(api: Api) -> None:
    """Exactly: one of 1,000 characters is whole, one of 1,001 is not."""
    path = await created(api, "titles", {"en": {"default": {"title": "{{ order }}", "text": "x"}}})
    for length, cut in ((1000, False), (1001, True)):
        [item] = (await api.post(path, {"channel": "inapp", "data": {"order": "x" * length}})).json()["items"]
        assert len(item["title"]) == 1000
        assert (("/title", "too_long") in marks(item)["warnings"]) is cut


async def test_what_cannot_be_rendered_still_says_which_locales_were_looked_at(api: Api) -> None:
    path = await created(api, "nothing", {"en": {"sms": {"text": "x"}}})
    [item] = (await api.post(path, {"channel": "email", "locale": "de"})).json()["items"]
    assert [error["code"] for error in item["errors"]] == ["no_content"]
    assert {step["found"] for step in item["fallback"]} == {"absent", "no_content"}
