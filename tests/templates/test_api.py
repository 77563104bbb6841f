"""/v1/templates over HTTP."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.app import create_app
from api.container import open_container
from infra.postgres.bootstrap import bootstrap
from infra.settings import Settings

pytestmark = pytest.mark.postgres

ORDER: dict[str, Any] = {
    "name": "order-shipped",
    "category": "orders",
    "variables": {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}},
    "contents": {
        "zh-CN": {
            "default": {"title": "订单 {{ order }} 已发货", "text": "您好"},
            "email": {"html": "<b>{{ order }}</b>"},
            "sms": {"text": "{{ order }}", "vendor_template": "SMS_1"},
        },
        "en": {"default": {"title": "Order {{ order }} shipped", "text": "Hello"}},
    },
    "example_data": {"order": "A-77"},
}


class Api:
    """Two tenants' clients of one app."""

    def __init__(self, client: httpx.AsyncClient, *, other: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
        self.client, self.other, self.viewer = client, other, viewer

    async def post(self, path: str, body: Any = None, *, expect: int = 200) -> Any:
        answer = await self.client.post(f"/v1/templates{path}", json=body)
        assert answer.status_code == expect, answer.text
        return answer.json()

    async def get(self, path: str, *, expect: int = 200) -> Any:
        answer = await self.client.get(f"/v1/templates{path}")
        assert answer.status_code == expect, answer.text
        return answer.json()


@pytest.fixture(scope="module")
async def whole(module_database: str) -> AsyncIterator[Api]:
    settings = Settings(database_url=SecretStr(module_database), secret_key=SecretStr("s" * 32))
    keys = {
        name: await bootstrap(module_database, tenant=tenant, app="shop", name=name, roles=[role])
        for name, tenant, role in (("own", "acme", "editor"), ("other", "other", "owner"), ("viewer", "acme", "viewer"))
    }
    async with open_container(settings) as container:
        transport = httpx.ASGITransport(create_app(settings, container=container))
        clients = {
            name: httpx.AsyncClient(transport=transport, base_url="http://api", headers={"Authorization": f"Bearer {key}"})
            for name, key in keys.items()
        }
        yield Api(clients["own"], other=clients["other"], viewer=clients["viewer"])


_made = 0


@pytest.fixture
def api(whole: Api) -> Api:
    return whole


def order(**changes: Any) -> dict[str, Any]:
    """A template under a name of its own."""
    global _made
    _made += 1
    return {**copy.deepcopy(ORDER), "name": f"order-{_made:03}", **changes}


def pointers(problem: Any) -> list[tuple[str, str]]:
    return [(e["pointer"], e["code"]) for e in problem["errors"]]


async def test_from_draft_to_published_and_back(api: Api) -> None:
    first = order()
    created = await api.post("", first, expect=201)
    assert (created["version"], created["latest_version"], created["published_version"]) == (1, 1, None)
    assert {key: created[key] for key in first} == first
    name = first["name"]
    assert (await api.post(f"/{name}/publish", {"version": 1}))["published_version"] == 1
    second = {"contents": {"en": {"default": {"text": "second {{ order }}"}}}}
    added = await api.post(f"/{name}/versions", second, expect=201)
    assert (added["version"], added["status"], added["variables"]) == (2, "draft", first["variables"])
    assert (await api.get(f"/{name}"))["version"] == 1, "a draft changes nothing"
    assert (await api.post(f"/{name}/publish"))["published_version"] == 2
    assert (await api.get(f"/{name}"))["contents"] == second["contents"]
    versions = (await api.get(f"/{name}/versions"))["items"]
    assert [(v["version"], v["status"]) for v in versions] == [(2, "published"), (1, "draft")]
    assert (await api.post(f"/{name}/rollback"))["published_version"] == 1
    assert (await api.post(f"/{name}/rollback", expect=409))["code"] == "nothing_older"
    assert (await api.get(f"/{name}/versions/2"))["contents"] == second["contents"]


async def test_publish_names_everything_that_does_not_pass(api: Api) -> None:
    body = order(
        contents={"en": {"default": {"title": "{{ oder }}", "text": "{{ order }}"}, "sms": {"text": "{{ total }}"}}}
    )
    await api.post("", body, expect=201)
    problem = await api.post(f"/{body['name']}/publish", {"version": 1}, expect=422)
    assert problem["code"] == "template_broken"
    assert sorted(pointers(problem)) == [
        ("/contents/en/default/title", "undeclared"),
        ("/contents/en/sms/text", "undeclared"),
    ]
    assert "'oder'" in problem["detail"]
    assert (await api.get(f"/{body['name']}"))["published_version"] is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"contents": {"zh-CN": {"email": {"html": "a\n{{ x"}}}}, ("/contents/zh-CN/email/html", "syntax")),
        ({"contents": {"zh-CN": {"email": {"html": "{{ ''.__class__ }}"}}}}, ("/contents/zh-CN/email/html", "not_allowed")),
        ({"contents": {"zh-CN": {"fax": {"text": "x"}}}}, ("/contents/zh-CN/fax", "unknown_field")),
        ({"contents": {"zh_CN": {"email": {"text": "x"}}}}, ("/contents/zh_CN", "format")),
        ({"contents": {}}, ("/contents", "required")),
        ({"contents": []}, ("/contents", "type")),
        ({"contents": {"en": {"email": {"html": 1}}}}, ("/contents/en/email/html", "type")),
        ({"variables": {"type": "nope"}}, ("/variables/type", "schema")),
        ({"variables": {"$ref": "http://127.0.0.1:1/x"}}, ("/variables", "schema")),
        ({"name": "no spaces"}, ("/name", "format")),
        ({"name": ""}, ("/name", "format")),
        ({"title": "x"}, ("/title", "unknown_field")),
        ({"example_data": []}, ("/example_data", "type")),
    ],
)
async def test_a_bad_template_is_refused_by_field_and_nothing_is_stored(
    api: Api, change: dict[str, Any], expected: tuple[str, str]
) -> None:
    before = await api.get("?limit=500")
    body = order(**change)
    problem = await api.post("", body, expect=422)
    assert expected in pointers(problem)
    assert await api.get("?limit=500") == before


async def test_a_syntax_error_names_its_line(api: Api) -> None:
    problem = await api.post("", order(contents={"en": {"email": {"html": "a\n\n{% if %}"}}}), expect=422)
    assert problem["errors"][0]["detail"].startswith("line 3: ")


async def test_preview_shows_every_locale_and_channel(api: Api) -> None:
    body = order()
    await api.post("", body, expect=201)
    shown = await api.post(f"/{body['name']}/preview")
    items = {(i["locale"], i["channel"]): i for i in shown["items"]}
    channels = {"default", "email", "inapp", "webhook"}
    assert set(items) == {("zh-CN", "sms"), *((locale, channel) for locale in ("zh-CN", "en") for channel in channels)}
    assert items["zh-CN", "email"]["html"] == "<b>A-77</b>"
    assert items["zh-CN", "email"]["title"] == "订单 A-77 已发货"
    assert items["zh-CN", "sms"]["extra"] == {"vendor_template": "SMS_1"}
    one = await api.post(f"/{body['name']}/preview", {"data": {"order": "<x>"}, "locale": "en-GB", "channel": "email"})
    (item,) = one["items"]
    assert (item["locale"], item["channel"], item["title"]) == ("en", "email", "Order <x> shipped")
    assert pointers(await api.post(f"/{body['name']}/preview", {"data": {}}, expect=422)) == [("/data/order", "required")]
    wrong = await api.post(f"/{body['name']}/preview", {"channel": "fax"}, expect=422)
    assert pointers(wrong) == [("/channel", "not_allowed")]


async def test_preview_of_a_draft_says_where_it_fails(api: Api) -> None:
    body = order(variables={}, contents={"en": {"default": {"text": "{{ order }}"}, "email": {"html": "{{ order.x.y }}"}}})
    await api.post("", body, expect=201)
    items = {i["channel"]: i for i in (await api.post(f"/{body['name']}/preview"))["items"]}
    assert items["default"]["text"] == "A-77"
    assert [(e["pointer"], e["code"]) for e in items["email"]["errors"]] == [("/contents/en/email/html", "undefined")]


async def test_contents_come_back_as_people_write_them(api: Api) -> None:
    body = order()
    await api.post("", body, expect=201)
    shown = (await api.get(f"/{body['name']}"))["contents"]["zh-CN"]
    assert [list(shown), list(shown["default"])] == [["default", "email", "sms"], ["title", "text"]]


async def test_lists_by_name_in_pages(api: Api) -> None:
    for number in range(5):
        await api.post("", order(name=f"page-{number}", category="paged"), expect=201)
    seen: list[str] = []
    query = "?category=paged&limit=2"
    page = await api.get(query)
    while True:
        seen += [t["name"] for t in page["items"]]
        if page["next_cursor"] is None:
            break
        page = await api.get(f"{query}&cursor={page['next_cursor']}")
    assert seen == [f"page-{n}" for n in range(5)]
    assert (await api.get("?cursor=***", expect=422))["errors"][0]["parameter"] == "cursor"
    assert (await api.get("/page-0/versions?cursor=eHg", expect=422))["errors"][0]["parameter"] == "cursor"


async def test_archived_is_gone_and_its_name_can_begin_again(api: Api) -> None:
    body = order()
    await api.post("", body, expect=201)
    assert (await api.post("", body, expect=409))["code"] == "template_exists"
    assert (await api.client.delete(f"/v1/templates/{body['name']}")).status_code == 204
    await api.get(f"/{body['name']}", expect=404)
    await api.post(f"/{body['name']}/publish", expect=404)
    assert (await api.client.delete(f"/v1/templates/{body['name']}")).status_code == 404
    assert (await api.post("", body, expect=201))["version"] == 2


async def test_others_do_not_see_it_and_viewers_do_not_change_it(api: Api) -> None:
    body = order()
    await api.post("", body, expect=201)
    path = f"/v1/templates/{body['name']}"
    for answer in (
        await api.other.get(path),
        await api.other.post(f"{path}/publish"),
        await api.other.post(f"{path}/versions", json={"contents": body["contents"]}),
        await api.other.post(f"{path}/preview"),
        await api.other.delete(path),
    ):
        assert answer.status_code == 404
    assert (await api.viewer.get(path)).status_code == 200
    assert (await api.viewer.post(f"{path}/preview")).status_code == 200
    for answer in (await api.viewer.post(f"{path}/publish"), await api.viewer.delete(path)):
        assert answer.status_code == 403


@pytest.mark.parametrize("version", [0, -1, "1", 1.5, True, 2**40, None])
async def test_a_version_is_a_number_that_exists(api: Api, version: Any) -> None:
    body = order()
    await api.post("", body, expect=201)
    expect = 200 if version is None else 422
    await api.post(f"/{body['name']}/publish", {"version": version}, expect=expect)
    await api.post(f"/{body['name']}/publish", {"version": 99}, expect=404)


async def test_the_same_key_creates_once(api: Api) -> None:
    body = order()
    path, headers = "/v1/templates", {"Idempotency-Key": body["name"]}
    first = await api.client.post(path, json=body, headers=headers)
    again = await api.client.post(path, json=body, headers=headers)
    assert (first.status_code, again.status_code, again.headers["idempotent-replay"]) == (201, 200, "true")
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"] == f"{path}/{body['name']}"
    other = await api.client.post(path, json=order(), headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    draft = {"contents": {"en": {"default": {"text": "x {{ order }}"}}}}
    answers = [await api.client.post(f"{path}/{body['name']}/versions", json=draft, headers=headers) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 200, 200]
    assert {a.headers["location"] for a in answers} == {f"{path}/{body['name']}/versions/2"}
    assert (await api.get(f"/{body['name']}"))["latest_version"] == 2
    broken = {"Idempotency-Key": "broken"}
    assert (await api.client.post(path, json=order(contents={}), headers=broken)).status_code == 422
    assert (await api.client.post(path, json=order(), headers=broken)).status_code == 201, "a refusal keeps nothing"
