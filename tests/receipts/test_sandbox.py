"""End to end with the sandbox's hooks: accepted over the API, handed over, reported on as real receivers do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.receipts.conftest import Site, eventually


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        ("receipt-delivered-1", "delivered"), ("receipt-early", "delivered"), ("receipt-twice-1", "delivered"),
        ("receipt-disorder-1", "read"), ("receipt-read-1", "read"), ("receipt-failed-1", "failed"),
        ("receipt-dead-1", "failed"),
    ],
)  # fmt: skip
async def test_what_a_receiver_reports_is_what_is_shown(site: Site, hook: str, status: str) -> None:
    one = await site.send(hook)
    found = await site.until(one, lambda n: bool(n["status"] == status))
    assert found["final"] is True
    [delivery] = found["deliveries"]
    assert (delivery["status"], delivery["n"]) == (status, 1)
    told = [event["detail"]["status"] for event in await site.timeline(one) if event["type"] == "receipt"]
    assert told[-1] == status
    assert len(told) == len(set(told)), "the second time it is no news"
    assert (delivery["delivered_at"] is not None) == (status in {"delivered", "read"})


async def test_one_that_never_reports_was_sent(site: Site) -> None:
    one = await site.send("orders")
    found = await site.seen(one)
    assert (found["status"], found["final"], found["finished_at"]) == ("sent", False, None)
    for query, there in (
        ("final=false", True),
        ("final=false&status=sent", True),
        ("final=true", False),
        ("status=sent", True),
    ):
        listed = (await site.http.get(f"/v1/notifications?{query}", headers=site.auth())).json()["items"]
        assert (str(one) in {n["id"] for n in listed}) is there, query
    await site.engine.pool.execute("UPDATE delivery SET receipt_until = now() WHERE receipt_until IS NOT NULL")
    found = await site.until(one, lambda n: bool(n["final"]))  # the API's own sweep
    assert found["status"] == "sent"
    assert found["finished_at"] is not None


async def test_a_forged_report_changes_nothing(site: Site) -> None:
    before = await _forged(site)
    one = await site.send("receipt-forged-1")
    await eventually(lambda: _forged(site), lambda count: count == before + 1)
    assert (await site.seen(one))["status"] == "sent"


async def _forged(site: Site) -> float:
    metrics = (await site.http.get("/metrics")).text.splitlines()
    name = 'tongda_receipts_refused_total{code="receipt_signature",provider="webhook"} '
    return next((float(line.removeprefix(name)) for line in metrics if line.startswith(name)), 0.0)


@pytest.mark.parametrize(
    ("hook", "mails", "hook_is"),
    [("receipt-delivered-1", 0, "delivered"), ("receipt-failed-1", 1, "failed"), ("receipt-early", 0, "delivered")],
)
async def test_a_chain_follows_what_is_reported(site: Site, hook: str, mails: int, hook_is: str) -> None:
    """Delivered: it ends at once. Failed: the next channel at once, and not when the hour is over."""
    user = await site.user(hook)
    chain: dict[str, Any] = {"channels": ["webhook", "email"], "strategy": "fallback", "fallback_after": "PT1H"}
    one = await site.send(hook, to={"user": user}, **chain)

    async def driven() -> dict[str, Any]:
        await site.drive()
        return await site.seen(one)

    found = await eventually(driven, lambda n: n["final"])
    assert {d["channel"]: d["status"] for d in found["deliveries"]}["webhook"] == hook_is
    assert len(site.mail.sent) == mails
    assert found["status"] == ("sent" if mails else "delivered")


@pytest.mark.parametrize(
    ("hook", "status", "reason"),
    [("receipt-cut-400", "delivered", None), ("receipt-cutfailed-400", "failed", "undelivered")],
)
async def test_a_lost_answer_becomes_what_is_reported(site: Site, hook: str, status: str, reason: str | None) -> None:
    """The connection was cut before the answer, and no time is left for another: unknown, until the receiver says."""
    one = await site.send(hook, priority="low", expires_in=6)
    events = [event["type"] for event in await site.timeline(one)]
    assert "unknown" in events
    found = await site.until(one, lambda n: bool(n["status"] == status))
    assert (found["reason"], found["final"]) == (reason, True)
    told = [(e["type"], e["detail"].get("status")) for e in await site.timeline(one) if e["type"] in {"attempt", "receipt"}]
    assert told == [("attempt", "unknown"), ("receipt", status)], "it was handed over once"


async def test_a_lost_answer_whose_message_arrived_is_not_sent_again(site: Site) -> None:
    one = await site.send("receipt-cut-0", expires_in=3600)
    found = await site.until(one, lambda n: bool(n["status"] == "delivered"))
    assert found["deliveries"][0]["attempts"] == 1
    assert await site.engine.work(one) == []


async def test_a_chain_that_waits_for_nothing_goes_on_after_its_end(site: Site) -> None:
    """Without `fallback_after`: it was sent, and is open again when the receiver says that it failed."""
    user = await site.user("receipt-failed-1000")
    one = await site.send("", to={"user": user}, channels=["webhook", "email"], strategy="fallback")
    found = await site.seen(one)
    assert (found["status"], found["final"]) == ("sent", False)

    async def driven() -> dict[str, Any]:
        await site.drive()
        return await site.seen(one)

    found = await eventually(driven, lambda n: n["final"])
    assert found["status"] == "sent"
    assert {d["channel"]: (d["status"], d["reason"]) for d in found["deliveries"]} == {
        "webhook": ("failed", "undelivered"), "email": ("sent", None),
    }  # fmt: skip
    assert len(site.mail.sent) == 1
    types = [event["type"] for event in await site.timeline(one)]
    assert [kind for kind in types if kind in {"resumed", "receipt", "fallback"}] == ["receipt", "resumed", "fallback"]
