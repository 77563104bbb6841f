"""What an application sends with unmistakable marks in it, by every way there is: well, badly, with secrets and codes."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

import sandbox

MARK = "k4n4ry"
"""In every piece of personal data that is sent in; no word of ours holds it, in any case of its letters."""
JSON = {"Content-Type": "application/json"}
TRIED_WITHIN_S = 60.0
FAILING = ("bounce", "full", "drop", "auth", "spam", "garbage", "redirect", "reset", "busy", "http500")


@dataclass
class Caller:
    """An application that talks to the service, and what it was trusted with."""

    http: httpx.AsyncClient
    sandbox_url: str
    secrets: dict[str, str] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    async def post(self, path: str, body: object, *, status: int = 201, **rest: Any) -> dict[str, Any]:
        answer = await self.http.post(path, json=body, **rest)
        assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    async def send(self, **body: Any) -> None:
        whole = {"metadata": {"order": f"{MARK}-metadata"}, "expires_in": "PT1H", **body}
        if "template" not in whole:
            content = {"title": f"{MARK}-title", "text": f"{MARK}-text", "url": f"https://{MARK}.example.com/"}
            whole.setdefault("content", content)
        self.sent.append((await self.post("/v1/notifications", whole, status=202))["id"])


async def make_people_and_templates(caller: Caller) -> None:
    identities = [
        {"channel": "email", "address": f"{MARK}-user@example.com"},
        {"channel": "webhook", "address": f"{caller.sandbox_url}/hook/{MARK}-user"},
    ]
    user = {"id": "u-1", "name": f"{MARK}-name", "locale": "en", "attributes": {"x": f"{MARK}-attribute"}}
    await caller.post("/v1/users", {**user, "identities": identities}, headers={"Idempotency-Key": "once"})
    device = {"kind": "android", "token": f"{MARK}-token-of-a-device"}
    await caller.post("/v1/users/u-1/devices", device, headers={"Idempotency-Key": "device"})
    suppressed = {"channel": "email", "address": f"{MARK}-suppressed@example.com"}
    await caller.post("/v1/suppressions", suppressed, headers={"Idempotency-Key": "suppressed"})
    await caller.post("/v1/users", {"id": "u-9", "name": f"{MARK}-gone", "identities": [suppressed]})
    await caller.post("/v1/users/u-9/erase", None, status=202)
    template = {
        "name": "t-1",
        "category": "c-1",
        "variables": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}}},
        "contents": {"en": {"default": {"title": "{{ name }}", "text": f"{MARK}-template {{{{ name }}}}"}}},
        "example_data": {"name": f"{MARK}-example"},
    }
    await caller.post("/v1/templates", template)
    await caller.post("/v1/templates/t-1/publish", {}, status=200)


async def send_all(caller: Caller) -> None:
    """By every channel and lane, to recipients that take it and to those that fail in every way."""
    for priority in ("high", "medium", "low"):
        to = {"to": {"user": "u-1"}, "channels": ["email", "webhook", "inapp"], "priority": priority}
        await caller.send(**to, template="t-1", data={"name": f"{MARK}-data"})
        await caller.send(**to)
    for word in FAILING:
        await caller.send(to={"email": f"{word}+{MARK}@example.com"}, priority="high", on_unknown="resend")
        await caller.send(to={"channel": "webhook", "address": f"{caller.sandbox_url}/hook/{word}-{MARK}"})
    for refused in (f"http://10.0.0.1/{MARK}", f"http://127.0.0.1:1/{MARK}", f"http://{MARK}.invalid/"):
        await caller.send(to={"channel": "webhook", "address": refused})


async def ask_badly(caller: Caller) -> None:
    """Requests that are refused, each with a canary where it could be quoted."""
    one = {"to": {"email": f"{MARK}@example.com"}, "content": {"text": f"{MARK}-text"}}
    again = {"headers": {"Idempotency-Key": "twice"}}
    await caller.post("/v1/notifications", one, status=202, **again)
    await caller.post("/v1/notifications", {**one, "content": {"text": f"{MARK}-other"}}, status=409, **again)
    await caller.post("/v1/users", {"id": "u-1", "name": f"{MARK}-twice"}, status=409)
    for change in (
        {"priority": MARK},
        {MARK: MARK},
        {"to": {"email": f"{MARK} at"}},
        {"send_at": MARK},
        {"template": MARK},
    ):
        await caller.post("/v1/notifications", {**one, **change}, status=422)
    await caller.post(
        "/v1/notifications", {"to": {"user": "u-1"}, "template": "t-1", "data": {"name": MARK * 9}}, status=422
    )
    await caller.post("/v1/notifications/batch", {"notifications": [{**one, "category": 7}, MARK]}, status=202)
    await caller.post("/v1/users", {"id": "u-2", "time_zone": MARK, "identities": [{"channel": MARK}]}, status=422)
    await ask_strangely(caller)
    await ask_unreadably(caller)
    stranger = {"Authorization": f"Bearer tk_{MARK}"}
    assert (await caller.http.get("/v1/users", headers=stranger)).status_code == 401


async def ask_strangely(caller: Caller) -> None:
    for path, body in not_storable():
        answer = await caller.http.post(path, content=json.dumps(body), headers=JSON)
        assert answer.status_code < 500, f"{path} {body}: {answer.status_code} {answer.text}"


async def ask_unreadably(caller: Caller) -> None:
    """Bodies that are no JSON, paths and methods that are not there, identifiers that nobody has."""
    for path in ("/v1/notifications", "/v1/notifications/batch", "/v1/users", "/v1/templates", "/v1/inbox/tickets"):
        for text in (f'{{"to": "{MARK}', f'{{"to": "{MARK}\\ud800"}}', f'["{MARK}"]', f'"{MARK}\xff"'):
            answer = await caller.http.post(
                path, content=text.encode("latin-1"), headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, f"{path} {text}: {answer.status_code} {answer.text}"
    for path in (
        MARK, f"v1/users/{MARK}", f"v1/users?address={MARK}", f"v1/users?{MARK}={MARK}", f"v1/templates/{MARK}",
        f"v1/inbox/stream?ticket={MARK}", f"v1/notifications/{MARK}", f"v1/notifications?cursor={MARK}",
    ):  # fmt: skip
        for method in ("GET", MARK.upper()):
            assert (await caller.http.request(method, f"/{path}")).status_code < 500, path


def not_storable() -> Iterator[tuple[str, dict[str, Any]]]:
    """Texts and numbers that JSON has and PostgreSQL has not: whoever lets them through gets them back in its log."""
    for strange in (f"{MARK}\0", f"{MARK}\ud800", {MARK: f"{MARK}\0", "n": int("9" * 400)}):
        to = {"to": {"email": f"{MARK}@example.com"}}
        yield "/v1/notifications", {**to, "content": {"title": strange, "text": strange}}
        yield "/v1/notifications", {**to, "content": {"text": "x"}, "metadata": {"x": strange}}
        yield "/v1/notifications", {**to, "template": "t-1", "data": {"x": strange}}
        yield "/v1/users", {"id": "u-3", "name": strange}
        yield "/v1/users", {"id": f"u-{time.monotonic_ns()}", "attributes": {"x": strange}}
        yield "/v1/templates", {"name": f"t-{time.monotonic_ns()}", "contents": {"en": {"default": {"text": strange}}}}


async def use_secrets(caller: Caller) -> None:
    """Keys that are made, rotated, revoked and used; tokens and tickets of the live inbox."""
    new = {"name": "k", "app": "demo", "roles": ["sender", "owner"]}
    made = await caller.post("/v1/api-keys", new, headers={"Idempotency-Key": "key"})
    rotated = await caller.post(f"/v1/api-keys/{made['id']}/rotate", {})
    assert (await caller.http.delete(f"/v1/api-keys/{rotated['id']}")).status_code == 204
    for name, key in (("first key", made["key"]), ("second key", rotated["key"])):
        caller.secrets[name] = key
        assert (await caller.http.get("/v1/users", headers={"Authorization": f"Bearer {key}"})).status_code == 401
    token = (await caller.post("/v1/users/u-1/tokens", {}))["token"]
    own = {"Authorization": f"Bearer {token}"}
    assert (await caller.http.get("/v1/inbox", headers=own)).status_code == 200
    ticket = (await caller.post("/v1/inbox/tickets", None, headers=own))["ticket"]
    for status in (200, 401):
        async with caller.http.stream("GET", "/v1/inbox/stream", params={"ticket": ticket}) as stream:
            assert stream.status_code == status
    caller.secrets |= {"user token": token, "ticket": ticket}


async def use_providers(caller: Caller) -> None:
    """Passwords of provider accounts: refused by us, refused by their server, replaced, and one that messages go over."""
    wrong, right, refused = (f"{name}-password-{secrets.token_hex(8)}" for name in ("wrong", "right", "refused"))
    caller.secrets |= {"a password": right, "a wrong password": wrong, "a refused password": refused}
    async with sandbox.running(smtp_username="u", smtp_password=right) as box:
        settings = {"host": box.host, "port": box.smtp_port, "security": "none", "username": "u", "sender": "a@b.example"}
        new = {"name": "relay", "provider": "smtp", "settings": {**settings, "password": wrong}}
        made = await caller.post("/v1/providers", new, headers={"Idempotency-Key": "relay"})
        path = f"/v1/providers/{made['id']}"
        for change in ({"security": refused}, {refused: 1}, {"username": "", "password": refused}):
            bad = {"name": "bad", "provider": "smtp", "settings": {**settings, "password": refused, **change}}
            await caller.post("/v1/providers", bad, status=422)
        await caller.post("/v1/providers", {"name": f"{refused}\n", "provider": refused}, status=422)
        assert (await caller.post(f"{path}/test", {"to": f"{MARK}-tried@example.com"}, status=200))["code"][:3] == "535"
        await until_taken_over(caller, path)
        await caller.send(to={"email": f"{MARK}-refused@example.com"}, priority="high")
        await until_tried(caller)
        changed = await caller.http.patch(path, json={"settings": {"password": right}})
        assert changed.status_code == 200, changed.text
        assert (await caller.post(f"{path}/test", {"to": f"{MARK}-tried@example.com"}, status=200))["ok"]
        await until_taken_over(caller, path)
        await caller.send(to={"email": f"{MARK}-over-an-account@example.com"}, priority="high")
        await until_tried(caller)
        assert (await caller.http.get(path)).json()["secrets"] == ["password"]
        assert len(box.record.find()[0]) > 1, "nothing went over the account"
        signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        hooks = await caller.post("/v1/providers", {"name": "hooks", "provider": "webhook",
                                                    "settings": {"signing_secret": signing}})  # fmt: skip
        caller.secrets["signing secret of an account"] = signing[6:]
        for account in (path, f"/v1/providers/{hooks['id']}"):
            assert (await caller.http.delete(account)).status_code == 204


async def until_taken_over(caller: Caller, path: str) -> None:
    """Until every worker uses what was changed."""
    deadline = time.monotonic() + TRIED_WITHIN_S
    while True:
        found = (await caller.http.get(f"{path}/health")).json()["workers"]
        if found and all(worker["current"] for worker in found):
            return
        assert time.monotonic() < deadline, f"not taken over: {found}"
        await asyncio.sleep(0.2)


async def use_codes(caller: Caller) -> None:
    """One-time codes of ten digits, read in the sandbox as their recipient reads them: sent again, guessed at, used."""
    to = {"email": f"otp-{MARK}@example.com"}
    wanted = {"to": to, "length": 10, "metadata": {"order": f"{MARK}-metadata"}, "client_ip": "203.0.113.1"}
    made = await caller.post("/v1/otp", wanted, status=202, headers={"Idempotency-Key": "otp"})
    code = await code_of(caller, made["notification_id"])
    path = f"/v1/otp/{made['id']}"
    await caller.post(f"{path}/verify", {"code": code[::-1] + "0"}, status=422)
    await caller.post(f"{path}/verify", {"code": code[:9] + str((int(code[9]) + 1) % 10)}, status=422)
    await caller.post(f"{path}/verify", {"code": code}, status=200)
    await caller.post(f"{path}/verify", {"code": code}, status=422)
    await caller.post(f"{path}/resend", None, status=422)
    await caller.post("/v1/otp", wanted, status=200, headers={"Idempotency-Key": "otp"})
    caller.secrets["one-time code"] = code


async def code_of(caller: Caller, notification_id: str) -> str:
    """From the sandbox's record of what it was sent."""
    deadline = time.monotonic() + TRIED_WITHIN_S
    async with httpx.AsyncClient(base_url=caller.sandbox_url, trust_env=False) as sandbox:
        while time.monotonic() < deadline:
            found = (await sandbox.get("/messages", params={"delivery": notification_id})).json()["items"]
            if found:
                text: str = (await sandbox.get(f"/messages/{found[0]['id']}")).json()["text"]
                return next(match[0] for match in re.finditer(r"\d{10}", text))
            await asyncio.sleep(0.2)
    raise AssertionError("the code never arrived")


async def until_tried(caller: Caller) -> None:
    """Until each has had its first answer from a provider, or has ended."""
    deadline, left = time.monotonic() + TRIED_WITHIN_S, set(caller.sent)
    while left:
        assert time.monotonic() < deadline, f"never tried: {left}"
        for notification_id in list(left):
            path = f"/v1/notifications/{notification_id}"
            events = (await caller.http.get(f"{path}/timeline")).json()["items"]
            tried = any(event["type"] in {"attempt", "unknown"} for event in events)
            if tried or (await caller.http.get(path)).json()["final"]:
                left.discard(notification_id)
        await asyncio.sleep(0.2)
