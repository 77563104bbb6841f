"""The record over HTTP: filters, details, stats, its bounds; and the sink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

import sandbox
from sandbox.record import Record, Seen, Verdict
from tests.sandbox.mails import mail, new_delivery, transferred


async def fetched(http: aiohttp.ClientSession, box: sandbox.Box, path: str) -> Any:
    async with http.get(box.http_url + path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_filters(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    notification = new_delivery().removesuffix("-1")
    await transferred(box, mail(delivery=f"{notification}-1"), to=b"fang@demo.example")
    await transferred(box, mail(), to=b"li@demo.example")
    hook = f"{box.http_url}/hook/orders"
    headers = {"webhook-id": f"{notification}-2", "webhook-timestamp": "1"}
    async with http.post(hook, json={"title": "hello"}, headers=headers) as response:
        assert response.status == 200

    async def counted(query: str) -> int:
        return int((await fetched(http, box, f"/messages?{query}"))["count"])

    assert await counted("") == 3
    assert await counted(f"delivery={notification}") == 2
    assert await counted(f"delivery={notification}-2") == 1
    assert await counted("recipient=FANG@demo.example") == 1
    assert await counted("recipient=orders") == await counted(f"recipient={hook}") == 1
    assert await counted("channel=email") == 2
    assert await counted(f"channel=email&delivery={notification}") == 1
    assert await counted("q=a-77 demo.example") == 2
    listed = await fetched(http, box, "/messages?limit=1")
    assert (listed["count"], [item["recipient"] for item in listed["items"]]) == (3, ["orders"])
    async with http.get(f"{box.http_url}/messages?limit=x") as response:
        assert response.status == 400


async def test_an_item_as_listed_and_whole(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    delivery = new_delivery()
    content = mail(delivery=delivery)
    await transferred(box, content)
    (brief,) = (await fetched(http, box, "/messages"))["items"]
    assert brief | {"id": "", "received_at": ""} == {
        "id": "",
        "received_at": "",
        "channel": "email",
        "recipient": "fang@demo.example",
        "delivery": delivery,
        "attempt": 1,
        "taken": True,
        "verdict": "accepted",
        "why": None,
        "answer": "250 2.0.0 Ok: taken",
        "behaviour": None,
        "signature": None,
        "subject": "订单 A-77 已发货",
        "size": len(content),
    }
    whole = await fetched(http, box, f"/messages/{brief['id']}")
    assert whole["text"] == "您的订单 A-77 已发货。\n"
    assert "<b>A-77</b>" in whole["html"]
    assert ["Subject", "订单 A-77 已发货"] in whole["headers"]
    assert whole["raw"] == content.decode()
    async with http.get(f"{box.http_url}/messages/nothing") as response:
        assert response.status == 404


async def test_stats_name_what_was_taken_twice(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    twice, once, refused = new_delivery(), new_delivery(), new_delivery()
    for delivery, to in (
        (twice, b"a@x.y"),
        (twice, b"a@x.y"),
        (once, b"a@x.y"),
        (refused, b"full@x.y"),
        (refused, b"full@x.y"),
    ):
        await transferred(box, mail(delivery=delivery), to=to)
    stats = await fetched(http, box, "/stats")
    assert (stats["count"], stats["taken"], stats["distinct_deliveries"], stats["duplicates"]) == (5, 3, 3, [twice])
    async with http.delete(f"{box.http_url}/messages") as response:
        assert response.status == 204
    stats = await fetched(http, box, "/stats")
    assert (stats["count"], stats["distinct_deliveries"], stats["duplicates"]) == (0, 0, [])


def seen(number: int, *, raw: bytes = b"") -> Seen:
    return Seen(channel="email", recipient="a@x.y", delivery=f"d-{number}", taken=True, verdict=Verdict.ACCEPTED, raw=raw)


def test_the_newest_are_kept_and_all_are_counted() -> None:
    record = Record(keep=10)
    for number in range(25):
        record.add(seen(number))
    items, count = record.find(limit=100)
    assert ([item.seen.delivery for item in items], count) == ([f"d-{n}" for n in range(24, 14, -1)], 25)
    assert record.stats()["distinct_deliveries"] == 25
    record.add(seen(0))  # forgotten, and still known as taken
    assert record.stats()["duplicates"] == ["d-0"]


def test_bodies_are_bounded_by_bytes() -> None:
    record = Record(keep_bytes=1000)
    for number in range(5):
        record.add(seen(number, raw=b"x" * 400))
    assert len(record.find()[0]) == 2
    record.add(seen(9, raw=b"x" * 5000))
    assert [item.seen.delivery for item in record.find()[0]] == ["d-9"]


async def test_watchers_are_told(http: aiohttp.ClientSession, box: sandbox.Box) -> None:
    async with http.get(f"{box.http_url}/events") as stream:
        await transferred(box, mail())
        async with asyncio.timeout(30):
            assert await stream.content.readline() == b"event: changed\n"
            assert await stream.content.readline() == b"data: 1\n"


@pytest.fixture
async def sink() -> AsyncIterator[sandbox.Box]:
    async with sandbox.running(sink_port=0) as box:
        yield box


async def test_sink_counts_on_both_ports(http: aiohttp.ClientSession, sink: sandbox.Box) -> None:
    raw = f"http://{sink.host}:{sink.sink_port}/any"
    for url, message_id in ((raw, "A"), (raw, "b"), (raw, "b"), (f"{sink.http_url}/sink", "a")):
        async with http.post(url, json={"x": 1}, headers={"webhook-id": message_id}) as response:
            assert response.status == 204
    assert await fetched(http, sink, "/sink") == {"count": 4, "distinct": 2}
    async with http.post(f"{sink.http_url}/sink/reset") as response:
        assert response.status == 204
    assert await fetched(http, sink, "/sink") == {"count": 0, "distinct": 0}


async def test_sink_reads_pieces_and_pipelines(http: aiohttp.ClientSession, sink: sandbox.Box) -> None:
    one = b"POST /sink HTTP/1.1\r\nHost: x\r\nWebhook-Id: %d\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nyo"
    reader, writer = await asyncio.open_connection(sink.host, sink.sink_port)
    content = b"".join(one % number for number in range(50))
    for start in range(0, len(content), 37):
        writer.write(content[start : start + 37])
        await writer.drain()
        await asyncio.sleep(0)
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert await reader.readexactly(50 * len(answer)) == answer * 50
    assert await fetched(http, sink, "/sink") == {"count": 50, "distinct": 50}
    writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"405"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"400"),
        (b"POST /" + b"x" * 70_000, b"400"),
    ],
)
async def test_sink_refuses_what_it_cannot_read(request_: bytes, status: bytes, sink: sandbox.Box) -> None:
    reader, writer = await asyncio.open_connection(sink.host, sink.sink_port)
    writer.write(request_)
    assert (await reader.read()).split()[1] == status
    writer.close()


def test_items_are_json(box: sandbox.Box) -> None:
    json.dumps(box.record.add(seen(1)).brief())
