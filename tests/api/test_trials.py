"""Test-sends: a draft on its way to one recipient, marked, and by no other way."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from activities.handing_over.codes import CodeMessages
from activities.handing_over.contents import TemplateContents, message
from channels.base import Message
from domain.channels import Channel
from domain.lanes import Lane
from domain.trials import MOST, Turns
from infra.otp_codes import OtpCodes
from infra.postgres.accept.otp import OtpRepository
from infra.postgres.engine.cohorts import CohortRow
from infra.postgres.engine.digests import DigestRepository
from tests.api.conftest import TENANT, Api, codes
from tests.engine.support import Engine

pytestmark = pytest.mark.postgres

CONTENTS = {
    "zh-CN": {"default": {"title": "订单 {{ order }}", "text": "{{ user.name }},您好"}},
    "en": {"default": {"title": "Order {{ order }}", "text": "Hello {{ user.name }}"}},
}
TO = {"to": {"email": "fang@example.com"}}


async def draft(api: Api, name: str = "shipped", contents: dict[str, Any] | None = None, **fields: Any) -> str:
    body = {
        "name": name,
        "category": "orders",
        "contents": contents or CONTENTS,
        "example_data": {"order": "A-77"},
        **fields,
    }
    answer = await api.post("/v1/templates", body)
    assert answer.status_code == 201, answer.text
    return f"/v1/templates/{name}/test-send"


async def handed_over(api: Api, notification: str, channel: Channel = Channel.EMAIL) -> Message:
    """The message as a worker would give it to the provider."""
    engine = Engine.over(api.pool)
    at = UUID(notification)
    while True:  # the API's own grouping takes it up
        found = await api.pool.fetchrow(
            "SELECT c.* FROM work w JOIN cohort c ON c.id = w.cohort WHERE notification_id = $1", at
        )
        if found is not None:
            break
        await asyncio.sleep(0.02)
    cohort = CohortRow(found["id"], found["epoch"], Lane(found["lane"]), found["tenant"])
    await engine.plan(cohort)
    [claim] = [claim for claim in await engine.claim(cohort, channel) if claim.notification_id == at]
    secret = api.container.settings.secret_key.get_secret_value()
    codes = CodeMessages(OtpRepository(api.pool), OtpCodes(secret))
    contents = TemplateContents(api.container.catalog, codes=codes, digests=DigestRepository(api.pool))
    return message(claim, await contents.content(claim))


async def rows(api: Api) -> tuple[int, int]:
    return await api.count("notification"), await api.count("work")


async def test_a_draft_goes_out_as_a_marked_notification_in_the_high_lane(api: Api) -> None:
    path = await draft(api)
    answer = await api.post(path, TO, key="editor")
    assert (answer.status_code, answer.json()["lane"]) == (202, "high")
    assert answer.headers["location"] == f"/v1/notifications/{answer.json()['id']}"
    shown = (await api.get(answer.headers["location"])).json()
    assert (shown["test"], shown["template"], shown["template_version"], shown["category"]) == (
        True,
        "shipped",
        1,
        "orders",
    )
    assert shown["data"] == {"order": "A-77"}
    [listed] = (await api.get("/v1/notifications")).json()["items"]
    assert listed["test"] is True
    first = (await api.get(f"{answer.headers['location']}/timeline")).json()["items"][0]
    assert first["detail"] == {"lane": "high", "app": "shop", "test": True}
    sent = await handed_over(api, answer.json()["id"])
    assert (sent.content.title, sent.test) == ("[测试] 订单 A-77", True)


async def test_version_locale_data_and_recipient_are_as_asked(api: Api) -> None:
    path = await draft(api)
    again = {"contents": {**CONTENTS, "en": {"default": {"title": "New {{ order }}", "text": "Hi {{ user.name }}"}}}}
    await api.post("/v1/templates/shipped/versions", again)
    await api.post("/v1/users", {"id": "u-1", "name": "Fang", "locale": "zh-CN",
                                 "identities": [{"channel": "email", "address": "fang@example.com"}]})  # fmt: skip
    for version, title in ((1, "[Test] Order B-1"), (None, "[Test] New B-1")):
        asked = {"to": {"user": "u-1"}, "channels": ["email"], "locale": "en-gb", "data": {"order": "B-1"}}
        answer = await api.post(path, {**asked, **({"version": version} if version else {})})
        assert answer.status_code == 202, answer.text
        sent = await handed_over(api, answer.json()["id"])
        assert (sent.content.title, sent.address) == (title, "fang@example.com")
        assert sent.content.text.endswith(" Fang")
        assert (await api.get(answer.headers["location"])).json()["locale"] == "en-GB"


async def test_nothing_else_sends_a_draft(api: Api) -> None:
    """Not a send by its name, and no second use of the test itself: that would be a way out for what nobody published."""
    path = await draft(api)
    refused = await api.post("/v1/notifications", {**TO, "template": "shipped", "data": {"order": "A"}})
    assert codes(refused) == [("/template", "unknown")]
    at = (await api.post(path, TO)).headers["location"]
    for patch in ({"data": {"order": "B"}}, {"priority": "low"}):
        answer = await api.call("PATCH", at, json=patch)
        assert (answer.status_code, answer.json()["code"]) == (409, "is_a_test")
    await api.post(f"{at}/cancel")
    await api.pool.execute("UPDATE notification SET final = true, status = 'cancelled'")
    again = await api.post(f"{at}/resend")
    assert (again.status_code, again.json()["code"]) == (409, "is_a_test")
    await api.pool.execute("UPDATE notification SET status = 'failed'")
    retried = (await api.post("/v1/notifications/retry", {"id": at.rpartition("/")[2]})).json()
    assert (retried["retried"], [one["code"] for one in retried["skipped"]]) == (0, ["is_a_test"])
    assert await api.count("notification") == 1


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"to": {"email": "nobody"}}, ("/to/email", "format")),
        ({"to": {"user": "u-nobody"}}, ("/to/user", "recipient_unknown")),
        ({**TO, "channels": ["inapp"]}, ("/channels", "recipient")),
        ({**TO, "channels": ["fax"]}, ("/channels/0", "not_allowed")),
        ({**TO, "data": {}}, ("/data/order", "required")),
        ({**TO, "locale": "not a locale"}, ("/locale", "format")),
        ({**TO, "version": 0}, ("/version", "range")),
        ({**TO, "priority": "low"}, ("/priority", "unknown_field")),
        ({}, ("/to", "required")),
    ],
)
async def test_bad_input_is_named_and_nothing_is_stored(api: Api, asked: Any, expected: tuple[str, str]) -> None:
    path = await draft(api)
    answer = await api.post(path, asked)
    assert (answer.status_code, codes(answer)) == (422, [expected])
    assert await rows(api) == (0, 0)


async def test_what_cannot_be_rendered_is_refused_at_once(api: Api) -> None:
    """In the locale of the recipient and on the channels that were asked for, and only there."""
    path = await draft(api, contents={"en": {"email": {"text": "{{ order.x.y }}"}, "inapp": {"text": "{{ order }}"}}})
    answer = await api.post(path, TO)
    assert (answer.status_code, answer.json()["code"]) == (422, "template_broken")
    assert codes(answer) == [("/contents/en/email/text", "undefined")]
    assert await rows(api) == (0, 0)
    await api.post("/v1/users", {"id": "u-1"})
    assert (await api.post(path, {"to": {"user": "u-1"}, "channels": ["inapp"]})).status_code == 202


async def test_the_same_key_sends_once(api: Api) -> None:
    path = await draft(api)
    first, again = [await api.post(path, TO, once="k-1") for _ in range(2)]
    assert (first.status_code, again.status_code, again.headers["idempotent-replay"]) == (202, 200, "true")
    assert (first.json(), first.headers["location"]) == (again.json(), again.headers["location"])
    other = await api.post(path, {**TO, "locale": "en"}, once="k-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert await api.count("notification") == 1
    await draft(api, "second")
    assert (await api.post("/v1/templates/second/test-send", TO, once="k-1")).status_code == 202, "a route of its own"


async def test_two_at_once_with_one_key_send_once(api: Api) -> None:
    path = await draft(api)
    answers = await asyncio.gather(*(api.post(path, TO, once="k-1") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await api.count("notification") == 1


async def test_a_tenant_has_so_many_a_minute_and_the_other_its_own(api: Api) -> None:
    path = await draft(api)
    kept = await api.post(path, TO, once="first")
    answers = [await api.post(path, TO) for _ in range(MOST)]
    assert [answer.status_code for answer in answers] == [202] * (MOST - 1) + [429]
    refused = answers[-1]
    assert refused.json()["code"] == "too_many_requests"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert await api.count("notification") == MOST
    assert (await api.post(path, TO, once="first")).json() == kept.json(), "a repetition costs nothing"
    body = {"name": "shipped", "contents": CONTENTS, "example_data": {"order": "A"}}
    await api.post("/v1/templates", body, key="other")
    assert (await api.post(path, TO, key="other")).status_code == 202


def test_turns_come_back_one_by_one() -> None:
    turns = Turns(most=2)
    assert [turns.take("a", now_s=at) for at in (0.0, 30.0, 45.0, 60.0, 61.0)] == [0, 0, 15.0, 0, 29.0]
    assert turns.take("b", now_s=61.0) == 0


async def test_the_category_decides_where_no_channel_is_named(api: Api) -> None:
    path = await draft(api)
    await api.post("/v1/categories", {"name": "orders", "channels": ["email"]})
    await api.post("/v1/users", {"id": "u-1", "identities": [{"channel": "email", "address": "fang@example.com"}]})
    at = (await api.post(path, {"to": {"user": "u-1"}})).headers["location"]
    assert (await api.get(at)).json()["channels"] == ["email"]


async def test_archived_and_unknown_ones_are_not_there(api: Api) -> None:
    path = await draft(api)
    assert (await api.post(path, {**TO, "version": 9})).status_code == 404
    assert (await api.post(path, TO, key="other")).status_code == 404
    await api.call("DELETE", "/v1/templates/shipped")
    assert (await api.post(path, TO)).status_code == 404
    assert await rows(api) == (0, 0)
    assert await api.pool.fetchval("SELECT count(*) FROM template WHERE tenant = $1", TENANT) == 1
