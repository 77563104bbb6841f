"""One notification over three channels, sent and checked over the public HTTP API only, as any application would."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx

from cli.up.times import DEMO_POLL_S, DEMO_S, OWN_MAIL_S, REQUEST_S

USER: Final = "u-demo"
NAME: Final = "王芳"
EMAIL: Final = "fang@example.com"
TEMPLATE: Final = "welcome"
_WELCOME: Final[dict[str, Any]] = {
    "name": TEMPLATE,
    "category": "account",
    "variables": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
    "contents": {
        "zh-CN": {
            "default": {"title": "欢迎，{{ name }}", "text": "{{ name }}，您好！通达已经可以为您送达消息了。"},
            "email": {"html": "<h1>欢迎，{{ name }}</h1><p>通达已经可以为您送达消息了。</p>"},
        },
        "en": {
            "default": {"title": "Welcome, {{ name }}", "text": "Hello {{ name }}, Tongda is ready to deliver."},
            "email": {"html": "<h1>Welcome, {{ name }}</h1><p>Tongda is ready to deliver.</p>"},
        },
    },
    "example_data": {"name": NAME},
}


MAILED: Final = frozenset({"sent", "delivered", "read"})


class DemoFailed(Exception):
    """The API refused something; the text says what."""


@dataclass(slots=True)
class Shown:
    """What the demo saw. Times are milliseconds since the POST was sent."""

    notification_id: str = ""
    accepted_ms: float = 0.0
    arrived_ms: dict[str, float] = field(default_factory=dict)
    """Channel to time, for those that were seen to arrive."""
    missing: list[str] = field(default_factory=list)
    """What should be there and is not, in words."""
    status: str = ""
    email_status: str = ""
    """What the API says of the e-mail."""
    workflow_url: str = ""

    def note(
        self, state: dict[str, Any], *, timeline: dict[str, Any], expected: list[str], must_end: bool, mailed: bool
    ) -> None:
        """Take in what the API says of the notification now. `mailed`: a mail server has to have taken the e-mail."""
        by_channel = {d.get("channel"): str(d.get("status", "")) for d in state.get("deliveries", [])}
        self.email_status = by_channel.get("email", "")
        self.status = str(state.get("status", ""))
        workflows = [w for w in state.get("workflows", []) if w.get("id")]
        self.workflow_url = str(workflows[0].get("url") or "") if workflows else ""
        self.missing = [f"{channel}: nothing arrived" for channel in expected if channel not in self.arrived_ms]
        if mailed and self.email_status not in MAILED:
            self.missing.append(f"email: your mail server has not taken it ({self.email_status or 'not handed over'})")
        if must_end and not state.get("final"):
            self.missing.append(f"the notification is still {self.status}")
        said = json.dumps(timeline)
        if not any(str(workflow["id"]) in said for workflow in workflows):
            self.missing.append("the timeline names no workflow")


class Demo:
    def __init__(self, *, api_url: str, sandbox_url: str, key: str, own_mail: bool, strict: bool = False) -> None:
        """`strict`: an own mail server has to have taken the e-mail, too."""
        self._strict = strict
        self._sandbox_url = sandbox_url
        self._own_mail = own_mail
        self._heard: list[tuple[float, str]] = []
        self._api = httpx.AsyncClient(
            base_url=api_url, headers={"Authorization": f"Bearer {key}"}, timeout=REQUEST_S, trust_env=False
        )

    async def run(self) -> Shown:
        """Send it and wait, at most DEMO_S, until everything is there. Raises DemoFailed."""
        async with self._api:
            await self._make_user()
            await self._make_template()
            return await self._send_and_watch()

    async def _make_user(self) -> None:
        hook = {"channel": "webhook", "address": f"{self._sandbox_url}/hook/demo"}
        wanted = [{"channel": "email", "address": EMAIL}, hook]
        found = await self._found(f"/v1/users/{USER}")
        if found is None:
            await self._call("POST", "/v1/users", {"id": USER, "name": NAME, "locale": "zh-CN", "identities": wanted})
            return
        path = f"/v1/users/{USER}/identities"
        for identity in found["identities"]:
            # The sandbox's port may have changed since the last start.
            if identity["channel"] == "webhook" and identity["address"] != hook["address"]:
                await self._call("DELETE", f"{path}/{identity['id']}")
        known = {(identity["channel"], identity["address"]) for identity in found["identities"]}
        for identity in wanted:
            if (identity["channel"], identity["address"]) not in known:
                await self._call("POST", path, identity)

    async def _make_template(self) -> None:
        found = await self._found(f"/v1/templates/{TEMPLATE}")
        if found is None:
            found = await self._call("POST", "/v1/templates", _WELCOME)
        if found.get("published_version") is None:
            await self._call("POST", f"/v1/templates/{TEMPLATE}/publish")

    async def _send_and_watch(self) -> Shown:
        token = await self._call("POST", f"/v1/users/{USER}/tokens")
        ticket = await self._call("POST", "/v1/inbox/tickets", authorization=f"Bearer {token['token']}")
        query = {"ticket": str(ticket["ticket"])}
        async with self._api.stream("GET", "/v1/inbox/stream", params=query, timeout=DEMO_S) as stream:
            if stream.status_code != httpx.codes.OK:
                raise DemoFailed(f"the live inbox answers {stream.status_code}")
            live = asyncio.create_task(self._listen(stream))
            try:
                began = time.time()
                shown = await self._send()
                await self._until_all_there(shown, began=began)
            finally:
                live.cancel()
                await asyncio.wait({live})
        return shown

    async def _send(self) -> Shown:
        wanted = {
            "to": {"user": USER},
            "channels": ["email", "webhook", "inapp"],
            "template": TEMPLATE,
            "data": {"name": NAME},
            "priority": "high",
        }
        began = time.time()
        accepted = await self._call("POST", "/v1/notifications", wanted)
        return Shown(notification_id=str(accepted["id"]), accepted_ms=_milliseconds(time.time() - began))

    async def _listen(self, stream: httpx.Response) -> None:
        """Notes what comes live, and when: a message can come before the answer to its POST, which names it."""
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                self._heard.append((time.time(), line))

    async def _until_all_there(self, shown: Shown, *, began: float) -> None:
        path = f"/v1/notifications/{shown.notification_id}"
        deadline = time.monotonic() + DEMO_S
        # An own mail server that keeps us waiting is the operator's business, not a failure of this start.
        lenient_from = time.monotonic() + OWN_MAIL_S if self._own_mail else deadline
        while True:
            for arrived, line in self._heard:
                if shown.notification_id in line:
                    shown.arrived_ms.setdefault("inapp", _milliseconds(arrived - began))
            await self._look_into_sandbox(shown, began=began)
            shown.note(
                await self._call("GET", path),
                timeline=await self._call("GET", f"{path}/timeline"),
                expected=self._expected,
                must_end=time.monotonic() < lenient_from or not self._own_mail,
                mailed=self._own_mail and self._strict,
            )
            if not shown.missing or time.monotonic() > deadline:
                return
            await asyncio.sleep(DEMO_POLL_S)

    async def _look_into_sandbox(self, shown: Shown, *, began: float) -> None:
        answer = await self._api.get(f"{self._sandbox_url}/messages", params={"delivery": shown.notification_id})
        for item in answer.raise_for_status().json()["items"]:
            if item["taken"]:
                arrived = datetime.fromisoformat(item["received_at"]).timestamp()
                shown.arrived_ms.setdefault(item["channel"], _milliseconds(arrived - began))

    @property
    def _expected(self) -> list[str]:
        return ["webhook", "inapp"] if self._own_mail else ["email", "webhook", "inapp"]

    async def _found(self, path: str) -> dict[str, Any] | None:
        """The object, None if there is none."""
        answer = await self._api.get(path)
        return None if answer.status_code == httpx.codes.NOT_FOUND else _object(answer)

    async def _call(
        self, method: str, path: str, body: object | None = None, *, authorization: str | None = None
    ) -> dict[str, Any]:
        headers = {"Authorization": authorization} if authorization else None
        try:
            answer = await self._api.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: {error or type(error).__name__}") from None
        return _object(answer)


def _object(answer: httpx.Response) -> dict[str, Any]:
    request = answer.request
    if answer.is_error:
        raise DemoFailed(f"{request.method} {request.url.path} answers {answer.status_code}: {answer.text[:500]}")
    found = answer.json() if answer.content else {}
    return found if isinstance(found, dict) else {}


async def key_works(api_url: str, key: str) -> bool:
    """True if the API takes this key."""
    if not key:
        return False
    async with httpx.AsyncClient(base_url=api_url, timeout=REQUEST_S, trust_env=False) as api:
        answer = await api.get("/v1/notifications?limit=1", headers={"Authorization": f"Bearer {key}"})
    return answer.status_code not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


def _milliseconds(seconds: float) -> float:
    return seconds * 1000
