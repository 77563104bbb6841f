"""`templates`, `users`, `keys`, `up`, and what all commands have in common."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.tongda.place import CHECKOUT
from tests.cli.conftest import Cli, tongda

TEMPLATE = {
    "name": "shipped",
    "category": "orders",
    "contents": {"zh-CN": {"default": {"title": "订单 {{ order }}", "text": "已发货"}}},
    "example_data": {"order": "A-77"},
}


def test_a_template_from_file_to_preview(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    file.write_text(json.dumps(TEMPLATE))
    created = cli("templates", "create", str(file))
    assert created.code == 0, created.err
    assert "订单 {{ order }}" in created.out
    assert cli("templates", "draft", "shipped", str(file)).code == 0
    published = cli("templates", "publish", "shipped", "--version", "1", "-o", "json")
    assert json.loads(published.out)["published_version"] == 1
    assert "shipped" in cli("templates", "list", "--category", "orders").out
    assert "published_version" in cli("templates", "show", "shipped").out
    assert "订单 B-1" in cli("templates", "preview", "shipped", "--data", '{"order": "B-1"}').out


def test_create_and_publish_in_one_step(cli: Cli) -> None:
    done = cli("templates", "create", "-", "--publish", "-o", "json", given=json.dumps({**TEMPLATE, "name": "at-once"}))
    assert json.loads(done.out)["published_version"] == 1


def test_a_preview_that_cannot_be_rendered_is_1(cli: Cli) -> None:
    body = {**TEMPLATE, "name": "strict", "variables": {"type": "object", "required": ["order"]}}
    assert cli("templates", "create", "-", given=json.dumps(body)).code == 0
    done = cli("templates", "preview", "strict", "--data", "{}")
    assert done.code == 1
    assert "order" in done.out + done.err


def test_a_preview_says_what_each_channel_does_and_which_locale_a_user_gets(cli: Cli) -> None:
    block = {"title": "Order {{ order }}", "html": "<p>{{ user.name }}</p>"}
    body = {**TEMPLATE, "name": "looked-at", "contents": {"en": {"default": block}}}
    assert cli("templates", "create", "-", given=json.dumps(body)).code == 0
    assert cli("users", "create", "u-gb", "--name", "Ada", "--locale", "en-GB").code == 0
    done = cli("templates", "preview", "looked-at", "--user", "u-gb", "--channel", "inapp")
    assert done.code == 0, done.err
    assert "en-GB → en-GB absent (exact), en taken (shorter)" in done.out
    assert "− /html: not_carried" in done.out
    assert "· /text: made" in done.out
    assert re.search(r"text +Ada", done.out)


def test_a_code_is_sent_checked_and_sent_again(cli: Cli) -> None:
    """The code itself is in the message alone: what is checked here is a wrong one."""
    sent = cli("otp", "send", "--email", "han@example.com", "--purpose", "payment", "-o", "json")
    assert sent.code == 0, sent.err
    wrong = cli("otp", "verify", json.loads(sent.out)["id"], "000000")
    assert (wrong.code, "wrong" in wrong.err) == (1, True), wrong.err
    soon = cli("otp", "resend", json.loads(sent.out)["id"])
    assert (soon.code, "soon" in soon.err) == (1, True), soon.err


def test_whose_wrong_guesses_are_forgotten(cli: Cli) -> None:
    sent = cli("otp", "send", "--email", "lin@example.com", "-o", "json")
    assert cli("otp", "verify", json.loads(sent.out)["id"], "000000").code == 1
    arguments = ("otp", "let-in", "--email", "lin@example.com")
    refused = cli(*arguments, role="sender")
    assert (refused.code, "administrator, owner" in refused.err) == (1, True), refused.err
    done = cli(*arguments, role="administrator")
    assert (done.code, "cleared" in done.out, "hour=1 day=1" in done.out) == (0, True, True), done.out
    assert "nothing_counted" in cli(*arguments, "-o", "json").out
    unknown = cli("otp", "let-in", "--user", "u-nobody")
    assert (unknown.code, "recipient_unknown" in unknown.err) == (1, True), unknown.err
    assert cli("otp", "let-in").code == 2


def test_a_draft_is_sent_as_a_test(cli: Cli) -> None:
    assert cli("templates", "create", "-", given=json.dumps({**TEMPLATE, "name": "tried"})).code == 0
    arguments = (
        "templates",
        "test-send",
        "tried",
        "--email",
        "fang@example.com",
        "--idempotency-key",
        "try-1",
        "-o",
        "json",
    )
    first, again = cli(*arguments), cli(*arguments)
    assert first.code == 0, first.err
    assert json.loads(first.out) == json.loads(again.out)
    assert json.loads(cli("get", json.loads(first.out)["id"], "-o", "json").out)["test"] is True
    refused = cli("templates", "test-send", "tried", "--user", "u-nobody")
    assert (refused.code, "recipient_unknown" in refused.err) == (1, True)
    assert cli("templates", "test-send", "tried").code == 2


def test_users(cli: Cli) -> None:
    done = cli("users", "create", "u-1", "--name", "王芳", "--locale", "zh-CN", "--identity", "email=fang@example.com")
    assert done.code == 0, done.err
    assert "fang@example.com" in cli("users", "show", "u-1").out
    assert "王芳" in cli("users", "list", "--address", "fang@example.com").out
    again = cli("users", "create", "u-1")
    assert again.code == 1
    assert "user_exists" in again.err
    assert cli("users", "create").code == 2
    assert cli("users", "create", "u-2", "--identity", "email").code == 2


def test_what_a_person_can_ask_for(cli: Cli) -> None:
    cli("users", "create", "u-7", "--name", "王芳", "--identity", "email=seven@example.com")
    assert cli("users", "suppress", "u-7", "email=other@example.com").code == 1
    assert cli("users", "suppress", "u-7", "email").code == 2
    made = json.loads(cli("users", "suppress", "u-7", "email=seven@example.com", "-o", "json").out)
    listed = cli("users", "suppressions", "u-7").out
    assert "seven@example.com" in listed
    assert "requested" in listed
    assert cli("users", "lift", "u-7", made["id"]).out == "done\n"
    assert cli("users", "lift", "u-7", made["id"]).code == 1
    assert json.loads(cli("users", "export", "u-7").out)["user"]["name"] == "王芳"
    refused = cli("users", "export", "u-7", role="operator")
    assert (refused.code, refused.out) == (1, "")
    assert "403" in refused.err
    assert cli("users", "erase", "u-7", given="n\n").code == 1
    assert cli("users", "erase", "u-7", "--yes", role="operator").code == 1
    assert "王芳" in cli("users", "show", "u-7").out
    assert "under_way" in cli("users", "erase", "u-7", "--yes").out
    assert "erased" in cli("users", "show", "u-7").out


def test_preferences(cli: Cli) -> None:
    assert cli("users", "create", "u-3").code == 0
    assert cli("users", "preferences", "u-3").out == "(nothing chosen)\n"
    wanted = {"categories": {"marketing": {"enabled": False}}, "caps": {"channels": {"email": {"most": 5, "per": "PT24H"}}}}
    changed = cli("users", "preferences", "u-3", "--file", "-", given=json.dumps(wanted))
    assert (changed.code, changed.err) == (0, "")
    for part in ("marketing", "caps.channels", "P1D"):
        assert part in changed.out
    shown = json.loads(cli("users", "preferences", "u-3", "-o", "json").out)
    assert shown["categories"] == {"marketing": {"enabled": False, "channels": {}}}
    refused = cli("users", "preferences", "u-3", "--file", "-", given='{"channels": {"fax": true}}')
    assert (refused.code, "/channels/fax" in refused.err) == (1, True)


def test_a_key_is_made_used_rotated_and_revoked(cli: Cli) -> None:
    done = cli("keys", "create", "--name", "mine", "--app", "shop", "--role", "viewer", "-o", "json")
    first: dict[str, Any] = json.loads(done.out)
    second: dict[str, Any] = json.loads(cli("keys", "rotate", first["id"], "-o", "json").out)

    def listed(key: str) -> int:
        return tongda("list", environment={"TONGDA_API_URL": cli.url, "TONGDA_API_KEY": key}).code

    assert (listed(first["key"]), listed(second["key"])) == (1, 0)
    assert first["id"] in cli("keys", "list", "--app", "shop").out
    assert first["key"] not in cli("keys", "list").out
    revoked = cli("keys", "revoke", second["id"])
    assert (revoked.code, revoked.out) == (0, "done\n")
    assert listed(second["key"]) == 1


def test_a_key_made_for_people_says_that_it_is_shown_once(cli: Cli) -> None:
    assert "not shown again" in cli("keys", "create", "--name", "n", "--app", "shop", "--role", "viewer").out
    assert cli("keys", "create", "--name", "n", "--app", "shop", "--role", "king").code == 1


def test_up_becomes_the_supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    became: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        os, "execve", lambda _, arguments, environment: became.append((arguments, environment["TONGDA_HOME"]))
    )
    monkeypatch.chdir(tmp_path)
    assert tongda("up", "--once", environment={"TONGDA_HOME": "here"}).code == 0
    assert became == [([sys.executable, "-m", "cli.up", "--once"], str(tmp_path / "here"))]
    assert Path.cwd() == CHECKOUT


def test_control_characters_do_not_reach_the_terminal(cli: Cli) -> None:
    body = {"to": {"email": "e@example.com"}, "content": {"title": "t", "text": "t"}, "metadata": {"x": "\x1b[2J"}}
    sent = json.loads(cli("send", "--file", "-", "-o", "json", given=json.dumps(body)).out)
    assert "\x1b" not in cli("get", sent["id"]).out


def test_every_command_explains_itself() -> None:
    for command in ("up", "send", "get", "list", "timeline", "tail", "cancel", "doctor"):
        assert tongda(command, "--help", environment={}).code == 0
    for group, commands in {
        "templates": ("list", "show", "create", "draft", "publish", "preview", "test-send"),
        "users": ("list", "show", "create", "preferences", "suppressions", "suppress", "lift", "export", "erase"),
        "keys": ("list", "create", "rotate", "revoke"),
    }.items():
        said = tongda(group, "--help", environment={}).out
        assert all(command in said for command in commands)


def test_the_script_completes_for_bash(tmp_path: Path) -> None:
    environment = {**os.environ, "_TONGDA_COMPLETE": "complete_bash", "COMP_WORDS": "tongda ti", "COMP_CWORD": "1"}
    command = [sys.executable, "-P", "-m", "cli.tongda"]
    done = subprocess.run(
        command, env={**environment, "PYTHONPATH": str(CHECKOUT)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "timeline"
