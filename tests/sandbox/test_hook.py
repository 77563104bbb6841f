"""The webhook target: signatures against the reference library, and the behaviours over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

import sandbox
from sandbox import signature
from tests.channels.http_calls import until
from tests.sandbox.conftest import SECRET
from tests.sandbox.mails import new_delivery

BODY = json.dumps({"type": "order.shipped", "title": "订单 A-77 已发货"}, ensure_ascii=False)


def signed(body: str, *, delivery: str | None = None, at: float | None = None) -> dict[str, str]:
    """Headers as the reference library signs them."""
    delivery = delivery or new_delivery()
    moment = datetime.fromtimestamp(int(at or time.time()), tz=UTC)
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(delivery, moment, body),
    }


async def posted(
    http: aiohttp.ClientSession, box: sandbox.Box, name: str, *, body: str = BODY, headers: dict[str, str] | None = None
) -> aiohttp.ClientResponse:
    url = f"{box.http_url}/hook/{name}"
    response = await http.post(url, data=BytesIO(body.encode()), headers=headers or signed(body), allow_redirects=False)
    await response.read()
    return response


def last(box: sandbox.Box) -> sandbox.Seen:
    return box.record.find()[0][0].seen


async def test_a_signed_request_is_taken(http: aiohttp.ClientSession, signed_box: sandbox.Box) -> None:
    delivery = new_delivery()
    assert (await posted(http, signed_box, "orders", headers=signed(BODY, delivery=delivery))).status == 200
    seen = last(signed_box)
    assert (seen.taken, seen.signature, seen.delivery) == (True, sandbox.Signature.VALID, delivery)
    assert (seen.subject, seen.recipient, seen.raw.decode()) == ("订单 A-77 已发货", "orders", BODY)


async def test_a_webhook_can_be_read_back(http: aiohttp.ClientSession, signed_box: sandbox.Box) -> None:
    """Caught: 500 for every webhook, because the names of its headers are no plain strings."""
    delivery = new_delivery()
    await posted(http, signed_box, "orders", headers=signed(BODY, delivery=delivery))
    async with http.get(f"{signed_box.http_url}/messages/{signed_box.record.find()[0][0].id}") as response:
        assert response.status == 200
        told = await response.json()
    assert json.loads(told["raw"]) == json.loads(BODY)
    assert delivery in dict(map(tuple, told["headers"])).values()


async def test_one_good_signature_among_several_is_enough(http: aiohttp.ClientSession, signed_box: sandbox.Box) -> None:
    headers = signed(BODY)
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {headers['webhook-signature']}"
    assert (await posted(http, signed_box, "orders", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-signature": "v1,AAAA"}, "no signature"),
        ({"webhook-signature": "not a signature"}, "no signature"),
        ({"webhook-signature": ""}, "webhook-signature is missing"),
        ({"webhook-id": ""}, "webhook-id is missing"),
        ({"webhook-id": "another"}, "no signature"),
        ({"webhook-timestamp": ""}, "webhook-timestamp is missing"),
        ({"webhook-timestamp": "1.5"}, "whole seconds"),
        ({"webhook-timestamp": "1000"}, "away from now"),
        ({"webhook-timestamp": "9" * 40}, "away from now"),
    ],
)
async def test_what_is_not_signed_is_401(
    change: dict[str, str], why: str, http: aiohttp.ClientSession, signed_box: sandbox.Box
) -> None:
    assert (await posted(http, signed_box, "orders", headers=signed(BODY) | change)).status == 401
    seen = last(signed_box)
    assert (seen.taken, seen.signature, seen.verdict) == (False, sandbox.Signature.INVALID, sandbox.Verdict.REFUSED)
    assert why in (seen.why or "")


@pytest.mark.parametrize(("age", "status"), [(-290, 200), (290, 200), (-310, 401), (310, 401)])
async def test_five_minutes_to_both_sides(
    age: int, status: int, http: aiohttp.ClientSession, signed_box: sandbox.Box
) -> None:
    headers = signed(BODY, at=time.time() + age)
    assert (await posted(http, signed_box, "orders", headers=headers)).status == status


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("{", "application/json", 400),
        ('"text"', "application/json", 400),
        ('{"a": NaN}', "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        (BODY, "text/plain", 415),
        (BODY, "application/json; charset=gbk", 415),
        (BODY, "application/json; charset=utf-8", 200),
        ('{"a": "' + "x" * 1_100_000 + '"}', "application/json", 413),
    ],
)
async def test_body_and_content_type(
    body: str, content_type: str, status: int, http: aiohttp.ClientSession, signed_box: sandbox.Box
) -> None:
    headers = signed(body) | {"Content-Type": content_type}
    assert (await posted(http, signed_box, "orders", body=body, headers=headers)).status == status
    assert last(signed_box).taken == (status == 200)


async def test_without_a_secret_the_signature_is_unchecked(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    headers = signed(BODY) | {"webhook-signature": "v1,AAAA"}
    assert (await posted(http, box, "orders", headers=headers)).status == 200
    assert last(box).signature is sandbox.Signature.UNCHECKED
    del headers["webhook-id"]
    assert (await posted(http, box, "orders", headers=headers)).status == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_only_post(method: str, http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    async with http.request(method, f"{box.http_url}/hook/orders") as response:
        assert response.status == 405
    assert box.record.count == 0


@pytest.mark.parametrize(
    ("word", "status", "headers"),
    [
        ("bounce", 410, {}),
        ("full", 507, {}),
        ("busy", 503, {"Retry-After": "2"}),
        ("auth", 401, {}),
        ("spam", 403, {}),
        ("redirect", 302, {"Location": "/hook/ok"}),
        ("http418", 418, {}),
        ("http500", 500, {}),
        ("http599", 599, {}),
    ],
)
@pytest.mark.parametrize("form", ["{}", "{}-anything", "{}-more-of-it"])
async def test_refusing_words(
    word: str, status: int, headers: dict[str, str], form: str, http: aiohttp.ClientSession, box: sandbox.Box
) -> None:
    response = await posted(http, box, form.format(word))
    assert response.status == status
    assert {name: response.headers[name] for name in headers} == headers
    assert (last(box).taken, last(box).behaviour) == (False, word)


async def test_a_followed_redirect_would_show(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    await posted(http, box, "redirect")
    assert box.record.find(recipient="ok")[1] == 0


async def test_greylist_and_flaky(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    headers = signed(BODY)
    first = await posted(http, box, "greylist", headers=headers)
    assert (first.status, first.headers["Retry-After"]) == (429, "1")
    assert (await posted(http, box, "greylist", headers=headers)).status == 200
    assert [item.attempt for item in box.record.find(recipient="greylist")[0]] == [2, 1]
    assert [(await posted(http, box, "flaky")).status for _ in range(6)] == [200, 200, 503, 200, 200, 503]


async def test_garbage_is_an_html_page_with_200(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    response = await posted(http, box, "garbage")
    assert (response.status, response.content_type) == (200, "text/html")
    assert (last(box).taken, last(box).verdict) == (True, sandbox.Verdict.GARBLED)


async def test_slow(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    assert (await posted(http, box, "slow")).status == 200
    assert last(box).taken
    async with sandbox.running(slow_s=60.0) as slower:
        leaving = asyncio.create_task(posted(http, slower, "slow"))
        for _ in range(100):  # turns of the loop that both ends live in: it has arrived, however slow the machine is
            await asyncio.sleep(0.002)
        leaving.cancel()
        await until(lambda: slower.record.count == 1)
        assert (last(slower).taken, last(slower).verdict) == (False, sandbox.Verdict.ABANDONED)


@pytest.mark.parametrize(
    ("word", "verdict", "taken"),
    [("hang", sandbox.Verdict.HUNG, False), ("drop", sandbox.Verdict.DROPPED, True)],
)
async def test_no_answer(
    word: str, verdict: sandbox.Verdict, *, taken: bool, http: aiohttp.ClientSession, box: sandbox.Box
) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await posted(http, box, word)
    items, count = box.record.find()
    assert count == 1
    assert (items[0].seen.verdict, items[0].seen.taken, items[0].seen.answer) == (verdict, taken, None)


async def test_reset_is_a_tcp_reset_at_the_head(box: sandbox.Box) -> None:
    reader, writer = await asyncio.open_connection(box.host, box.http_port)
    writer.write(b"POST /hook/reset HTTP/1.1\r\nHost: x\r\nwebhook-id: d-1\r\nContent-Length: 1000\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert (last(box).verdict, last(box).taken, last(box).delivery) == (sandbox.Verdict.RESET, False, "d-1")


async def test_dropreset_is_a_tcp_reset_after_the_request(box: sandbox.Box) -> None:
    """It waits for the last byte, has the message, and resets: what comes again is a duplicate."""
    body = b'{"title": "hello"}'
    head = (
        "POST /hook/dropreset HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nwebhook-id: d-1\r\n"
        f"webhook-timestamp: {int(datetime.now(UTC).timestamp())}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    for _ in range(2):
        reader, writer = await asyncio.open_connection(box.host, box.http_port)
        writer.write(head.encode() + body[:-1])
        await writer.drain()
        await asyncio.sleep(0.05)
        before = box.record.count
        writer.write(body[-1:])
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        assert box.record.count == before + 1
        assert (last(box).verdict, last(box).taken, last(box).answer) == (sandbox.Verdict.DROPPED, True, None)
        assert last(box).raw == body
    assert box.record.stats()["duplicates"] == ["d-1"]


keys = st.binary(min_size=1, max_size=64)


@given(
    body=st.text(),
    message_id=st.text(alphabet=st.characters(codec="ascii", exclude_characters="\r\n\0"), min_size=1),
    key=keys,
)
def test_agrees_with_the_reference_library(body: str, message_id: str, key: bytes) -> None:
    moment = datetime.now(UTC)
    made = Webhook(key).sign(message_id, moment, body)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": made}
    now = moment.timestamp()
    signature.verify(headers, body.encode(), key=key, now=now)
    changes: list[tuple[dict[str, Any], bytes, bytes]] = [
        (headers | {"webhook-id": message_id + "x"}, body.encode(), key),
        (headers, body.encode() + b" ", key),
        (headers, body.encode(), key + b"x"),
    ]
    for changed_headers, changed_body, changed_key in changes:
        with pytest.raises(signature.BadSignature):
            signature.verify(changed_headers, changed_body, key=changed_key, now=now)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!", "", "whsec_A"])
def test_a_bad_secret_is_named_at_start(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        signature.secret_bytes(secret)
