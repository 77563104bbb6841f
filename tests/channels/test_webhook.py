"""Webhooks: body, signature, and what a receiver's answer means."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from channels.base import HttpReply
from channels.memory import MemoryHttp
from channels.webhook.standard import WebhookProvider, retry_after, sign, signing_key
from domain.channels import Channel
from domain.results import Refuser, ResultClass, SendResult
from tests.channels.samples import NOTIFICATION, SECRET, content, message

URL = "https://hooks.example/a"
NOW = 1_772_353_800.0
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


async def answered(*replies: HttpReply) -> SendResult:
    port = MemoryHttp()
    port.script(*replies)
    (result,) = await WebhookProvider(port, secret_for=lambda t: SECRET, now=lambda: NOW).send(
        [message(Channel.WEBHOOK, URL)]
    )
    return result


async def test_what_the_receiver_gets_verifies_with_the_specifications_library() -> None:
    port = MemoryHttp()
    sample = message(Channel.WEBHOOK, URL, content=content(title="标题", text="正文", url="https://x.example/1"))
    await WebhookProvider(port, secret_for=lambda tenant: {"acme": SECRET}[tenant]).send([sample])
    (call,) = port.calls
    assert Webhook(SECRET).verify(call.body, dict(call.headers)) == {
        "type": "notification",
        "timestamp": "2026-03-01T08:30:00Z",
        "data": {
            "notification_id": str(NOTIFICATION),
            "delivery_id": sample.delivery_id,
            "title": "标题",
            "text": "正文",
            "html": None,
            "url": "https://x.example/1",
            "extra": {},
            "test": False,
            "category": "security",
            "expires_at": "2026-03-01T09:30:00Z",
            "data": {"code": "123456"},
            "metadata": {"order": "A-1"},
        },
    }
    assert (call.method, call.url) == ("POST", URL)
    assert call.headers["webhook-id"] == sample.delivery_id
    assert "标题".encode() in call.body
    assert b'": ' not in call.body


async def test_the_id_is_the_same_in_every_attempt_and_the_signature_is_fresh() -> None:
    port = MemoryHttp()
    clock = iter([NOW, NOW + 60])
    provider = WebhookProvider(port, secret_for=lambda t: SECRET, now=lambda: next(clock))
    await provider.send([message(Channel.WEBHOOK, URL)])
    await provider.send([message(Channel.WEBHOOK, URL, attempt=2)])
    first, second = port.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert first.body == second.body
    left_s = int(message().expires_at.timestamp() - NOW)
    assert (first.headers["TTL"], second.headers["TTL"]) == (str(left_s), str(left_s - 60))


@pytest.mark.parametrize("place", [0, 1])
async def test_while_a_secret_is_replaced_receivers_know_it_by_either(place: int) -> None:
    """Otherwise every receiver would have to change at the same moment as we."""
    secrets = [SECRET, "whsec_" + "B" * 44]
    port = MemoryHttp()
    await WebhookProvider(port, secret_for=lambda t: " ".join(secrets)).send([message(Channel.WEBHOOK, URL)])
    (call,) = port.calls
    Webhook(secrets[place]).verify(call.body, dict(call.headers))
    assert len(call.headers["webhook-signature"].split(" ")) == 2


@given(st.binary(min_size=16, max_size=64), st.from_regex(r"[a-z0-9-]{1,60}", fullmatch=True), unicode_text)
def test_the_signature_equals_the_oracle(key: bytes, delivery_id: str, text: str) -> None:
    body = json.dumps({"text": text}, ensure_ascii=False).encode()
    expected = Webhook(key).sign(delivery_id, datetime.fromtimestamp(NOW, UTC), body.decode())
    assert sign(key, delivery_id=delivery_id, timestamp=int(NOW), body=body) == expected


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AAAA", "whsec_not base64!", "plain", "other_" + "A" * 44])
async def test_a_bad_secret_is_ours_to_mend_and_nothing_is_sent(secret: str) -> None:
    port = MemoryHttp()
    (result,) = await WebhookProvider(port, secret_for=lambda t: secret).send([message(Channel.WEBHOOK, URL)])
    assert (result.result, result.code, port.calls) == (ResultClass.CONFIG, "webhook_secret", [])


async def test_a_tenant_without_a_secret() -> None:
    none: dict[str, str] = {}
    (result,) = await WebhookProvider(MemoryHttp(), secret_for=none.__getitem__).send([message(Channel.WEBHOOK, URL)])
    assert (result.result, result.code) == (ResultClass.CONFIG, "webhook_secret")


def test_keys_with_and_without_padding() -> None:
    assert signing_key("whsec_" + "A" * 43 + "=") == signing_key("whsec_" + "A" * 43) == bytes(32)


@pytest.mark.parametrize("data", [{"x": "\ud800"}, {"x": object()}, {"x": 2**70}, {1.5: {}}])
async def test_what_is_no_json_is_permanent_or_sent_whole(data: dict[str, object]) -> None:
    port = MemoryHttp()
    (result,) = await WebhookProvider(port, secret_for=lambda t: SECRET).send([message(Channel.WEBHOOK, URL, data=data)])
    assert (result.result, result.code) == (ResultClass.PERMANENT, "not_json") or json.loads(port.calls[0].body)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *[(s, ResultClass.OK) for s in (200, 201, 202, 204, 299)],
        *[(s, ResultClass.PERMANENT) for s in (300, 301, 302, 303, 307, 308, 400, 404, 405, 409, 413, 415, 422, 451)],
        *[(s, ResultClass.RETRY) for s in (408, 425, 500, 502, 503, 504, 507, 599)],
        (401, ResultClass.RETRY),
        (403, ResultClass.RETRY),
        (410, ResultClass.RECIPIENT),
        (429, ResultClass.RATE),
    ],
)
async def test_what_a_status_means(status: int, meaning: ResultClass) -> None:
    result = await answered(HttpReply(status, {}, b"<html>anything</html>"))
    assert (result.result, result.code, result.delivered) == (meaning, f"http_{status}", meaning is ResultClass.OK)
    of_content = status in (400, 409, 413, 415, 422)
    endpoint = meaning is ResultClass.PERMANENT and not of_content
    assert result.refuser is (Refuser.ENDPOINT if endpoint else None), "a 404 says nothing of the content"


@pytest.mark.parametrize(
    ("status", "value", "meaning", "wait"),
    [
        (429, "30", ResultClass.RATE, timedelta(seconds=30)),
        (503, "30", ResultClass.RATE, timedelta(seconds=30)),
        (429, "", ResultClass.RATE, None),
        (503, "soon", ResultClass.RETRY, None),
        (500, "30", ResultClass.RETRY, None),
        (429, "999999999999999999", ResultClass.RATE, timedelta(days=1)),
        (429, "-5", ResultClass.RATE, None),
        (429, format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), ResultClass.RATE, timedelta(seconds=90)),
        (429, format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), ResultClass.RATE, timedelta(0)),
        (429, format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(days=99)), ResultClass.RATE, timedelta(days=1)),
        (429, "Mon, 01 Jan 99999999999 00:00:00 GMT", ResultClass.RATE, None),
        (503, "Mon, 01 Jan 99999999999 00:00:00 GMT", ResultClass.RETRY, None),
    ],
)
async def test_the_wait_that_a_receiver_asks_for(
    status: int, value: str, meaning: ResultClass, wait: timedelta | None
) -> None:
    result = await answered(HttpReply(status, {"retry-after": value}, b""))
    assert (result.result, result.retry_after) == (meaning, wait)


NEARLY_DATES = r"(Mon|Tue), [0-9]{1,2} (Jan|Feb) [0-9]{1,12} [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,12} (GMT|[+-][0-9]{4,12})"


@given(st.text(max_size=60) | st.from_regex(NEARLY_DATES, fullmatch=True))
def test_any_retry_after_is_a_bounded_wait_or_none(value: str) -> None:
    wait = retry_after(value, now=time.time())
    assert wait is None or timedelta(0) <= wait <= timedelta(days=1)


async def test_a_receiver_that_reports_is_told_where_to_and_its_2xx_proves_no_delivery() -> None:
    port = MemoryHttp()
    url = "https://notify.example/v1/receipts/webhook/webhook-default/secret"
    reporting = WebhookProvider(port, secret_for=lambda t: SECRET, reply_to=url, receipt_window=timedelta(hours=1))
    assert (reporting.capabilities.receipts, reporting.capabilities.receipt_window) == (True, timedelta(hours=1))
    sample = message(Channel.WEBHOOK, URL)
    (result,) = await reporting.send([sample])
    assert (result.result, result.delivered, result.provider_id) == (ResultClass.OK, False, sample.delivery_id)
    assert port.calls[0].headers["webhook-reply-to"] == url
    plain = WebhookProvider(port, secret_for=lambda t: SECRET)
    (result,) = await plain.send([sample])
    assert (plain.capabilities.receipts, result.delivered) == (False, True)
    assert "webhook-reply-to" not in port.calls[1].headers
