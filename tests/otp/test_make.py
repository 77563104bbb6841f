"""A code that is asked for: stored with its message before it is answered, rendered by the worker, kept nowhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.channels import Channel
from domain.results import ResultClass, SendResult
from infra.clock import ManualClock
from infra.postgres.accept.accepting import AcceptRepository
from tests.api.conftest import at_once, codes
from tests.otp.conftest import Otp, code_in

USER = {"user": "u-1"}
TEMPLATE: dict[str, Any] = {
    "name": "pay-code", "category": "payments",
    "variables": {"type": "object", "required": ["code", "amount"], "additionalProperties": False,
                  "properties": {"code": {"type": "string", "pattern": "^[0-9]+$"}, "amount": {"type": "string"}}},
    "contents": {"en": {"default": {"title": "Pay {{ amount }}", "text": "{{ code }} confirms {{ amount }}."}}},
    "example_data": {"code": "000000", "amount": "1.00"},
}  # fmt: skip


async def user(otp: Otp, *, locale: str = "en") -> None:
    identities = [
        {"channel": "email", "address": "wang@example.com"},
        {"channel": "webhook", "address": "https://hook.example.com/wang"},
    ]
    made = await otp.api.post("/v1/users", {"id": "u-1", "name": "Wang", "locale": locale, "identities": identities})
    assert made.status_code == 201, made.text


async def test_the_answer_and_what_is_stored(otp: Otp) -> None:
    made = await otp.made(purpose="login", expires_in="PT2M")
    assert set(made) == {"id", "notification_id", "expires_at", "resend_after"}
    shown = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert shown["otp"] == made["id"]
    assert (shown["lane"], shown["category"], shown["strategy"]) == ("high", "otp", "fallback")
    assert datetime.fromisoformat(shown["expires_at"]) == datetime.fromisoformat(made["expires_at"])
    assert "content" not in shown
    assert "data" not in shown
    lived = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(shown["accepted_at"])
    waits = datetime.fromisoformat(made["resend_after"]) - datetime.fromisoformat(shown["accepted_at"])
    assert (lived.total_seconds(), waits.total_seconds()) == (120, 60)


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("", "您的验证码是 {code}，5 分钟内有效。"),
        ("en", "Your verification code is {code}. It expires in 5 min."),
        ("en_gb", "Your verification code is {code}."),
    ],
)
async def test_the_own_text(otp: Otp, locale: str, text: str) -> None:
    made = await otp.made(locale=locale, length=8)
    message = await otp.delivered(made["notification_id"])
    code = code_in(message)
    assert len(code) == 8
    assert message.content.text.startswith(text.format(code=code))
    assert code not in message.content.title
    assert code not in str(message.data)
    assert message.high


async def test_a_template_of_the_tenants(otp: Otp) -> None:
    await user(otp)
    assert (await otp.api.post("/v1/templates", TEMPLATE)).status_code == 201
    assert (await otp.api.post("/v1/templates/pay-code/publish")).status_code == 200
    made = await otp.made(USER, template="pay-code", data={"amount": "88.00"})
    message = await otp.delivered(made["notification_id"])
    assert message.content.text == f"{code_in(message)} confirms 88.00."
    assert (message.content.title, message.address, dict(message.data)) == (
        "Pay 88.00", "wang@example.com", {"amount": "88.00"},
    )  # fmt: skip
    shown = (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()
    assert (shown["data"], shown["template"], shown["category"]) == ({"amount": "88.00"}, "pay-code", "payments")
    assert await otp.verdict(made["id"], code_in(message)) == "verified"


async def test_what_a_template_needs_is_asked_for_at_accept(otp: Otp) -> None:
    await otp.api.post("/v1/templates", TEMPLATE)
    await otp.api.post("/v1/templates/pay-code/publish")
    answer = await otp.make(template="pay-code")
    assert codes(answer) == [("/data/amount", "required")]
    assert await otp.count("otp") == 0


async def test_a_categorys_route_and_the_way_without_one(otp: Otp) -> None:
    await user(otp)
    made = await otp.made(USER)
    assert (await otp.api.get(f"/v1/notifications/{made['notification_id']}")).json()["channels"] == ["email"]
    route = {"name": "otp", "channels": ["inapp", "webhook", "email"], "strategy": "fallback"}
    assert (await otp.api.post("/v1/categories", route)).status_code == 201
    routed = await otp.made(USER, purpose="other")
    shown = (await otp.api.get(f"/v1/notifications/{routed['notification_id']}")).json()
    assert (shown["channels"], shown["strategy"]) == (["webhook", "email"], "fallback")


async def test_by_the_users_order_goes_no_code(otp: Otp) -> None:
    """Which channel comes first is counted, and a resend is one further."""
    await user(otp)
    route = {"name": "otp", "channels": ["email", "webhook"], "strategy": "preferred"}
    assert (await otp.api.post("/v1/categories", route)).status_code == 201
    routed = await otp.made(USER)
    shown = (await otp.api.get(f"/v1/notifications/{routed['notification_id']}")).json()
    assert (shown["channels"], shown["strategy"]) == (["email", "webhook"], "fallback")


async def test_a_user_without_an_address_is_told_at_once(otp: Otp) -> None:
    await otp.api.post("/v1/users", {"id": "u-2"})
    assert codes(await otp.make({"user": "u-2"})) == [("/to/user", "no_address")]
    assert (await otp.make({"user": "nobody"})).json()["code"] == "recipient_unknown"
    assert await otp.count("notification") == 0


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"to": {"phone": "+8613800001234"}}, [("/to/phone", "not_available")]),
        ({"to": {"email": "nobody"}}, [("/to/email", "format")]),
        ({"to": {}}, [("/to", "exactly_one")]),
        ({"length": 3}, [("/length", "range")]),
        ({"length": 11}, [("/length", "range")]),
        ({"expires_in": 59}, [("/expires_in", "range")]),
        ({"expires_in": "PT2H"}, [("/expires_in", "range")]),
        ({"expires_in": "P999D"}, [("/expires_in", "range")]),
        ({"channels": ["inapp"]}, [("/channels", "recipient"), ("/channels", "not_available")]),
        ({"to": {"user": "u-1"}, "channels": ["inapp", "email"]}, [("/channels", "not_available")]),
        ({"channels": ["sms"]}, [("/channels/0", "not_allowed")]),
        ({"strategy": "preferred"}, [("/strategy", "not_available")]),
        ({"template": "none"}, [("/template", "unknown")]),
        ({"data": {"x": 1}}, [("/data", "with_template")]),
        ({"template": "none", "data": {"code": "123456"}}, [("/data/code", "reserved")]),
        ({"purpose": "fang@example.com"}, [("/purpose", "type")]),
        ({"locale": "!"}, [("/locale", "format")]),
        ({"client_ip": "somewhere"}, [("/client_ip", "format")]),
        ({"code": "123456"}, [("/code", "unknown_field")]),
        ({"priority": "low"}, [("/priority", "unknown_field")]),
    ],
)
async def test_bad_input_is_named_and_stores_nothing(otp: Otp, body: dict[str, Any], found: list[Any]) -> None:
    answer = await otp.api.post("/v1/otp", {"to": {"email": "fang@example.com"}, **body})
    assert (answer.status_code, codes(answer)) == (422, found)
    for table in ("otp", "otp_counter", "notification", "work"):
        assert await otp.count(table) == 0


async def test_the_same_request_again_sends_one_code(otp: Otp) -> None:
    first = await otp.make(once="k")
    again = await otp.make(once="k")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replay"] == "true"
    assert again.content == first.content
    assert (await otp.make(once="k", length=8)).json()["code"] == "idempotency_conflict"
    assert await otp.count("otp") == await otp.count("notification") == 1


async def archived(otp: Otp) -> None:
    assert (await otp.api.call("DELETE", "/v1/templates/pay-code")).status_code == 204


async def gone(otp: Otp) -> None:
    await otp.api.pool.execute("UPDATE person SET state = 'erased'")


async def without_address(otp: Otp) -> None:
    await otp.api.pool.execute("DELETE FROM identity")


@pytest.mark.parametrize(
    ("happen", "pointer"), [(archived, "/template"), (gone, "/to/user"), (without_address, "/to/user")]
)  # fmt: skip
async def test_a_code_that_was_sent_is_answered_so_whatever_happened_since(
    timed_otp: Otp, clock: ManualClock, happen: Callable[[Otp], Awaitable[None]], pointer: str
) -> None:
    """Catches: a 422 for a code that is on its way, after which the client has another sent."""
    otp = timed_otp
    otp.unlimited()
    await user(otp)
    assert (await otp.api.post("/v1/templates", TEMPLATE)).status_code == 201
    assert (await otp.api.post("/v1/templates/pay-code/publish")).status_code == 200
    what: dict[str, Any] = {"to": USER, "template": "pay-code", "data": {"amount": "1.00"}}
    first = await otp.make(once="k", **what)
    await happen(otp)
    clock.advance(timedelta(minutes=1))
    again = await otp.make(once="k", **what)
    assert (first.status_code, again.status_code, again.content) == (202, 200, first.content)
    assert again.headers["idempotent-replay"] == "true"
    assert (await otp.make(once="k", **what, length=8)).json()["code"] == "idempotency_conflict"
    for refused in (await otp.make(**what), await otp.make(once="new", **what)):
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await otp.count("otp") == await otp.count("notification") == 1


async def test_where_the_database_does_not_say_whether_a_code_was_sent(otp: Otp, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(AcceptRepository, "kept", away)
    answer = await otp.make({"user": "nobody"}, once="k")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await otp.make({"user": "nobody"})).json()["code"] == "recipient_unknown"


async def test_two_with_one_key_at_once_send_one_code(otp: Otp) -> None:
    answers = await at_once(otp.make(once="k") for _ in range(8))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert len({answer.content for answer in answers}) == 1
    assert await otp.count("otp") == 1


async def test_its_message_is_neither_edited_nor_sent_again_by_itself(otp: Otp) -> None:
    """An edit would take the code's place, a resend would send a code that lives no longer."""
    made = await otp.made()
    path = f"/v1/notifications/{made['notification_id']}"
    edited = await otp.api.call("PATCH", path, json={"content": {"text": "x"}})
    assert (edited.status_code, edited.json()["code"]) == (409, "otp_message")
    await otp.delivered(made["notification_id"])
    again = await otp.api.post(f"{path}/resend")
    assert (again.status_code, again.json()["code"]) == (409, "otp_message")


async def test_a_message_that_failed_is_not_tried_anew_with_others(otp: Otp) -> None:
    """Its code may have gone by a resend meanwhile: only /v1/otp sends codes."""
    otp.engine.providers[Channel.EMAIL].script(SendResult(ResultClass.PERMANENT, code="554"))
    made = await otp.made()
    await otp.delivered(made["notification_id"])
    answer = await otp.api.post("/v1/notifications/retry", {"id": made["notification_id"]})
    assert answer.json()["skipped"] == [{"id": made["notification_id"], "code": "otp_message"}], answer.text


async def test_a_worker_with_another_key_sends_nothing(otp: Otp) -> None:
    """A code of another key would never fit: the step waits for a worker that has the right one."""
    made = await otp.made()
    await otp.drive(made["notification_id"], secret_key="fedcba9876543210" * 2)
    assert all(not provider.sent for provider in otp.engine.providers.values())
    [step] = await otp.engine.work()
    assert (step["n"], step["state"], step["failures"]) == (1, 0, 0)


async def test_a_user_who_is_erased_between_gets_nothing(otp: Otp) -> None:
    await user(otp)
    made = await otp.made(USER)
    await otp.api.pool.execute("UPDATE person SET state = 'erased'")
    await otp.drive(made["notification_id"])
    assert all(not provider.sent for provider in otp.engine.providers.values())


async def test_figures_count_what_happens(otp: Otp) -> None:
    def figures(text: str) -> dict[str, float]:
        lines = [line.split() for line in text.splitlines() if line.startswith("tongda_otp_total{")]
        return {name: float(value) for name, value in lines}

    before = figures((await otp.api.get("/metrics", key=None)).text)
    otp_id, code = await otp.sent()
    await otp.verify(otp_id, "0000")
    await otp.verify(otp_id, code)
    await otp.verify(otp_id, code)
    await otp.make()
    after = figures((await otp.api.get("/metrics", key=None)).text)
    for event in ("made", "verified", "wrong", "used", "limited"):
        name = f'tongda_otp_total{{event="{event}"}}'
        assert after[name] - before.get(name, 0.0) == 1, event
