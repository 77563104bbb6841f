"""The way to Tongda's own API, for the send form and the inbox page: over HTTP with the API key, like any customer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=10)
MAX_ANSWER_BYTES = 1024 * 1024


class ApiProblem(Exception):
    """The API said no, or nothing. `status` is what the page's backend answers with, the text is for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Tongda:
    """The API at one address. The key stays on this side: a browser only ever gets single-use tickets."""

    url: str | None
    key_file: Path | None

    @property
    def ready(self) -> bool:
        """Whether address and key are there; the key file may come later than the sandbox."""
        return self.url is not None and self._key() is not None

    async def send(self, notification: dict[str, Any]) -> dict[str, Any]:
        """`POST /v1/notifications`. Raises ApiProblem."""
        return await self._call("POST", "/v1/notifications", body=notification)

    async def notification(self, notification_id: str) -> dict[str, Any]:
        return await self._call("GET", f"/v1/notifications/{_part(notification_id)}")

    async def inbox(self, user: str) -> dict[str, Any]:
        """The user's newest items, with `unread`."""
        return await self._call("GET", f"/v1/users/{_part(user)}/inbox?limit=50")

    async def mark(self, user: str, *, item: str, mark: str) -> dict[str, Any]:
        """`mark`: `read` or `archive`."""
        return await self._call("POST", f"/v1/users/{_part(user)}/inbox/{_part(item)}/{mark}")

    async def stream_url(self, user: str) -> str:
        """Where a browser can open the user's live inbox, once: a token of the user buys a single-use ticket."""
        token = (await self._call("POST", f"/v1/users/{_part(user)}/tokens")).get("token")
        ticket = (await self._call("POST", "/v1/inbox/tickets", bearer=str(token))).get("ticket")
        return f"{self.url}/v1/inbox/stream?ticket={quote(str(ticket), safe='')}"

    def _key(self) -> str | None:
        if self.key_file is None:
            return None
        try:
            return self.key_file.read_text().strip() or None
        except OSError:
            return None

    async def _call(
        self, method: str, path: str, *, body: dict[str, Any] | None = None, bearer: str | None = None
    ) -> dict[str, Any]:
        key = bearer or self._key()
        if self.url is None or key is None:
            raise ApiProblem(503, "TONGDA_API_URL or TONGDA_KEY_FILE is not set")
        headers = {"Authorization": f"Bearer {key}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as session,
                session.request(method, self.url + path, json=body, headers=headers, allow_redirects=False) as reply,
            ):
                raw = await reply.content.read(MAX_ANSWER_BYTES)
                status = reply.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiProblem(502, f"the API does not answer ({type(error).__name__})") from error
        return _read(raw, status=status)


def _read(raw: bytes, *, status: int) -> dict[str, Any]:
    try:
        answer = json.loads(raw) if raw.strip() else {}
    except ValueError:
        answer = None
    if status >= 400 or not isinstance(answer, dict):
        raise ApiProblem(status if status >= 400 else 502, _problem(answer, status=status))
    return answer


def _problem(answer: Any, *, status: int) -> str:
    """One line of a problem+json: each bad field with its rule, otherwise title and detail."""
    if not isinstance(answer, dict):
        return f"the API answered HTTP {status} without JSON"
    found = answer.get("errors")
    errors = [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []
    if errors:
        return " · ".join(f"{error.get('pointer') or '(body)'}: {error.get('detail')}" for error in errors)
    return " · ".join(str(answer[name]) for name in ("title", "detail") if answer.get(name)) or f"HTTP {status}"


def _part(text: str) -> str:
    return quote(text, safe="")
