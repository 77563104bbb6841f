"""`send`, `get`, `list`, `timeline`, `cancel`, `tail`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.api.conftest import insert_event
from tests.cli.conftest import Cli

LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()
MAIL = ("--email", "fang@example.com", "--title", "你好", "--text", "Hello", "--send-at", LATER)


def sent(cli: Cli, *more: str) -> str:
    done = cli("send", *MAIL, *more, "-o", "json")
    assert done.code == 0, done.err
    return str(json.loads(done.out)["id"])


def test_what_was_sent_is_shown_listed_and_cancelled(cli: Cli) -> None:
    notification = sent(cli, "--category", "orders", "--priority", "low")
    shown = cli("get", notification)
    assert (shown.code, shown.err) == (0, "")
    assert "scheduled" in shown.out
    assert "low" in shown.out
    assert notification in cli("list", "--category", "orders", "--priority", "low").out
    assert notification not in cli("list", "--priority", "high").out
    assert cli("timeline", notification).code == 0

    stopped = cli("cancel", notification, "--output", "json")
    assert (stopped.code, json.loads(stopped.out)["result"]) == (0, "cancelled")
    assert "cancelled" in cli("get", notification).out


def test_json_is_exactly_the_answer(cli: Cli) -> None:
    notification = sent(cli)
    path = f"/v1/notifications/{notification}"
    answer = httpx.get(cli.url + path, headers={"Authorization": f"Bearer {cli.keys['owner']}"}, trust_env=False)
    assert cli("get", notification, "-o", "json").out == answer.text + "\n"


async def test_a_timeline_for_people(cli: Cli) -> None:
    notification = sent(cli)
    async with asyncpg.create_pool(cli.database, min_size=1) as pool:
        detail = json.dumps({"channels": ["email", "inapp"], "drops": None})
        await insert_event(pool, UUID(notification), type="planned", detail=detail)
        parts = [
            {"n": 1, "channel": "inapp", "result": "recalled"},
            {"n": 2, "channel": "email", "result": "not_supported"},
        ]
        await insert_event(pool, UUID(notification), type="recalled", detail=json.dumps({"channels": parts}))
        off = {"put_off": {"reason": "quiet_hours", "until": "2026-12-01T08:00:00Z"}}
        await insert_event(pool, UUID(notification), type="put_off", detail=json.dumps(off))
    line = next(line for line in cli("timeline", notification).out.splitlines() if "planned" in line)
    assert "channels=email,inapp" in line
    assert "null" not in line
    out = cli("timeline", notification).out
    assert "channels=1 inapp recalled; 2 email not_supported" in out
    assert "put_off=quiet_hours 2026-12-01T08:00:00Z" in out
    assert not set("{}'") & set(out), "no language's own way of writing things"


def test_an_idempotency_key_sends_once(cli: Cli) -> None:
    assert sent(cli, "--idempotency-key", "a") == sent(cli, "--idempotency-key", "a")


def test_a_request_from_a_file_or_standard_input(cli: Cli, tmp_path: Path) -> None:
    body = {"to": {"email": "fang@example.com"}, "content": {"title": "t", "text": "t"}, "send_at": LATER}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(body))
    assert cli("send", "--file", str(file), "--priority", "low").code == 0
    assert cli("send", "--file", "-", given=json.dumps(body)).code == 0


def test_what_is_refused_is_shown_as_field_and_rule(cli: Cli) -> None:
    refused = cli("send", "--email", "no address", "--title", "t", "--text", "t")
    assert refused.code == 1
    assert "/to/email: format" in refused.err
    assert refused.out == ""
    assert cli("get", "01a20a32-744b-7020-809a-bb07e52cad04").code == 1
    denied = cli("send", *MAIL, role="viewer")
    assert denied.code == 1
    assert "403 forbidden" in denied.err
    assert "role" in denied.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "--title", "to nobody"),
        ("send", "--user", "u", "--email", "e@example.com", "--title", "two"),
        ("send", "--user", "u", "--data", "{"),
        ("send", "--file", "/nonexistent"),
        ("send", "--address", "webhook"),
        ("list", "--limit", "0"),
        ("retry",),
        ("retry", "--status", "failed", "01a20a32-744b-7020-809a-bb07e52cad04"),
        ("retry", "--partial"),
        ("list", "--no-such-option"),
        ("no-such-command",),
    ],
)
def test_a_wrong_command_line_is_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments).code == 2


def test_pages(cli: Cli) -> None:
    for _ in range(3):
        sent(cli, "--category", "pages")
    first = json.loads(cli("list", "--category", "pages", "--limit", "2", "-o", "json").out)
    assert len(first["items"]) == 2
    assert first["next_cursor"] in cli("list", "--category", "pages", "--limit", "2").out
    rest = json.loads(cli("list", "--category", "pages", "--cursor", first["next_cursor"], "-o", "json").out)
    assert len(rest["items"]) == 1


def test_a_search(cli: Cli) -> None:
    notification = sent(cli, "--category", "searched")
    assert notification in cli("list", "--q", notification).out
    assert notification in cli("list", "--q", "fang@example.com", "--category", "searched").out
    assert notification not in cli("list", "--q", "nobody@example.com").out


def test_a_recall_says_what_it_achieved(cli: Cli) -> None:
    notification = sent(cli)
    done = cli("recall", notification)
    assert (done.code, "cancelled" in done.out) == (0, True), done.err
    assert json.loads(cli("recall", notification, "-o", "json").out)["result"] == "cancelled"
    assert cli("recall", "01a20a32-744b-7020-809a-bb07e52cad04").code == 1


async def test_what_failed_is_counted_and_tried_again(cli: Cli) -> None:
    notification = sent(cli, "--category", "failing")
    async with asyncpg.create_pool(cli.database, min_size=1) as pool:
        await pool.execute("DELETE FROM work WHERE notification_id = $1", UUID(notification))
        await pool.execute(
            "UPDATE notification SET status = 'failed', reason = 'content_refused', final = true WHERE id = $1",
            UUID(notification),
        )
    failed = ("--status", "failed", "--category", "failing")
    assert json.loads(cli("retry", *failed, "--dry-run", "-o", "json").out)["matched"] == 1
    done = cli("retry", *failed, "--idempotency-key", "retry-1", "-o", "json")
    assert (done.code, json.loads(done.out)["retried"]) == (0, 1), done.err
    [made] = json.loads(done.out)["made"]
    assert (made["id"], json.loads(cli("get", made["as"], "-o", "json").out)["resend_of"]) == (notification, notification)
    assert cli("retry", *failed, "--idempotency-key", "retry-1", "-o", "json").out == done.out
    again = cli("retry", notification)
    assert (again.code, "already_retried" in again.out) == (1, True)


async def test_what_arrived_in_part_is_listed_and_tried_again_over_what_failed(cli: Cli) -> None:
    """Catches: an operator who sees neither that a channel failed beside one that arrived, nor why."""
    notification = sent(cli, "--category", "in-part")
    async with asyncpg.create_pool(cli.database, min_size=1) as pool:
        await pool.execute("DELETE FROM work WHERE notification_id = $1", UUID(notification))
        await pool.execute(
            "INSERT INTO delivery (notification_id, n, tenant, channel, status, reason, code) "
            "SELECT id, 1, tenant, 'inapp', 'delivered', NULL, NULL FROM notification WHERE id = $1 UNION ALL "
            "SELECT id, 2, tenant, 'email', 'failed', 'mailbox_full', '552' FROM notification WHERE id = $1",
            UUID(notification),
        )  # fmt: skip
        await pool.execute(
            "UPDATE notification SET status = 'delivered', partial = true, final = true, finished_at = now() WHERE id = $1",
            UUID(notification),
        )
    asked = ("--partial", "--channel", "email", "--category", "in-part")
    shown = cli("list", *asked).out
    assert notification in shown
    assert "email failed mailbox_full 552" in shown
    assert notification not in cli("list", *asked, "--reason", "undelivered").out
    counted = cli("retry", *asked, "--status", "failed", "--dry-run")
    assert "channels   email=1" in counted.out, counted.out
    assert cli("retry", notification, "--partial", "--channel", "inapp").code == 1
    done = cli("retry", *asked, "--status", "failed")
    assert (done.code, done.out.count(notification)) == (0, 1), done.out
    again = cli("retry", notification)
    assert (again.code, "still_open" in again.out) == (1, True)


def test_waiting_in_vain_is_1(cli: Cli) -> None:
    done = cli("send", *MAIL, "--wait", "0")
    assert done.code == 1
    assert "scheduled" in done.out
    notification = json.loads(cli("send", *MAIL, "--wait", "0", "-o", "json").out)["id"]
    assert "Not out after 0 s; it goes on: tongda timeline " in done.err
    assert notification in cli("list", "--open", "--limit", "500").out
    assert notification not in cli("list", "--final", "--limit", "500").out


def test_tail_shows_changes_and_ends_cleanly_at_ctrl_c(cli: Cli, tmp_path: Path) -> None:
    old = sent(cli, "--category", "tailed")
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TONGDA_")} | cli.environment()
    errors = tmp_path / "errors"
    with errors.open("w") as stderr:
        command = [sys.executable, "-u", "-m", "cli.tongda", "tail", "--category", "tailed", "--past", "--interval", "0.1"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    try:
        assert old in process.stdout.readline()
        new = sent(cli, "--category", "tailed")
        assert new in process.stdout.readline()
        cli("cancel", old)
        line = process.stdout.readline()
        assert old in line
        assert "scheduled → cancelled" in line
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, rest, errors.read_text()) == (0, "", "")


def test_tail_for_a_time_and_without_the_past(cli: Cli) -> None:
    sent(cli, "--category", "still")
    assert cli("tail", "--category", "still", "--for", "0").out == ""
    line = cli("tail", "--category", "still", "--past", "--for", "0", "-o", "json").out
    assert json.loads(line)["category"] == "still"
