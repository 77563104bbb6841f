"""The messages page: what was received, live, each message rendered safely, and the table of behaviours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sandbox import contents
from sandbox.behaviours import BEHAVIOURS, Behaviour, How, Stage
from sandbox.http import found
from sandbox.record import Item, Record
from sandbox.settings import Settings
from sandbox.tongda import Tongda
from sandbox.words import LANGUAGES, language_of, script_words, words

HERE = Path(__file__).parent
PAGE_SIZE = 100
SSE_PAUSE_S = 0.25
"""At most four updates a second reach a browser, however many messages arrive."""
SSE_KEEPALIVE_S = 15.0


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses that the pages show."""

    smtp: str
    http: str


class Shell:
    """Renders templates with what every page needs: words, addresses, security headers."""

    def __init__(self, settings: Settings, *, tongda: Tongda) -> None:
        self._api_url = settings.api_url
        self._tongda = tongda
        self.places = Places(smtp="", http="")
        """Known only once both servers listen."""
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def page(self, template: str, request: web.Request, *, status: int = 200, **values: Any) -> web.Response:
        """A rendered page or fragment, in the visitor's language."""
        language = language_of(request)
        text = self._templates.get_template(template).render(
            w=words(language),
            script_words=script_words(language),
            language=language,
            languages=LANGUAGES,
            places=self.places,
            api_url=self._api_url,
            connected=self._tongda.ready,
            path=request.path,
            **values,
        )
        response = web.Response(text=text, content_type="text/html", status=status, headers=self._headers())
        if request.query.get("lang") == language:
            response.set_cookie("lang", language, max_age=365 * 24 * 3600, samesite="Lax")
        return response

    def _headers(self) -> Mapping[str, str]:
        # A srcdoc frame inherits this policy, so it alone already stops a mail's scripts and remote content; styles are
        # inline in mails. Nothing on these pages is loaded from elsewhere but the API's event stream.
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            f"font-src data:; connect-src 'self' {self._api_url or ''}; frame-src 'self'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        return {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }


class MessagesPage:
    """`/`, one message at `/m/{id}`, and what keeps them live."""

    def __init__(self, record: Record, *, shell: Shell) -> None:
        self._record = record
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.index),
            web.get("/m/{id}", self.message),
            web.get("/rows", self.rows),
            web.get("/events", self.events),
        ]

    async def index(self, request: web.Request) -> web.Response:
        language = language_of(request)
        table = [_row(behaviour, language=language) for behaviour in BEHAVIOURS.values()]
        return self._shell.page("messages.html", request, item=None, behaviours=table, **self._list(request))

    async def message(self, request: web.Request) -> web.Response:
        """One message beside the list. Its HTML reaches the browser only as a sandboxed frame's source."""
        item = self._record.get(request.match_info["id"])
        if item is None:
            return self._shell.page("gone.html", request, status=404)
        return self._shell.page(
            "messages.html",
            request,
            item=item,
            opened=contents.opened(item),
            framed=contents.framed(item),
            **self._list(request, selected=item),
        )

    async def rows(self, request: web.Request) -> web.Response:
        """The list alone, for the live update."""
        selected = self._record.get(request.query.get("selected", ""))
        return self._shell.page("rows.html", request, **self._list(request, selected=selected))

    def _list(self, request: web.Request, *, selected: Item | None = None) -> dict[str, Any]:
        items, count = found(self._record, request)
        limit = len(items) + PAGE_SIZE
        more = str(request.rel_url.with_path("/").update_query(limit=limit)) if count > len(items) else None
        return {
            "items": items,
            "count": count,
            "selected": selected,
            "stats": self._record.stats(),
            "query": request.query.get("q", ""),
            "more": more,
        }

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: a hint that the record has changed."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        changed = self._record.watch()
        try:
            while True:
                try:
                    await asyncio.wait_for(changed.wait(), SSE_KEEPALIVE_S)
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                changed.clear()
                await response.write(f"event: changed\ndata: {self._record.count}\n\n".encode())
                await asyncio.sleep(SSE_PAUSE_S)
        except ConnectionError:
            return response
        finally:
            self._record.unwatch(changed)


def _row(behaviour: Behaviour, *, language: str) -> dict[str, str]:
    """One line of the table as people read it."""
    w = words(language)
    code = " ".join(behaviour.smtp.split(" ")[:2])
    at = "RCPT" if behaviour.stage is Stage.RCPT else "DATA"
    status = f"HTTP {behaviour.http}"
    effects: dict[How, tuple[str, str]] = {
        How.ANSWER: (f"{code} ({at})", status),
        How.FIRST_TIME: (w["then"].format(reply=code), w["then"].format(reply=status)),
        How.EVERY_THIRD: (w["third"].format(reply=code), w["third"].format(reply=status)),
        How.SLOW: (w["after"], w["after"]),
        How.HANG: (w["silence"], w["silence"]),
        How.DROP: (w["dropped_smtp"], w["dropped_http"]),
        How.RESET: (w["reset_smtp"], w["reset_http"]),
        How.DROP_RESET: (w["drop_reset_smtp"], w["drop_reset_http"]),
    }
    smtp, http = effects[behaviour.how]
    if behaviour.html:
        smtp, http = w["garbled"], w["html_page"].format(reply=status)
    return {"word": behaviour.word, "smtp": smtp, "http": http, "meaning": getattr(behaviour, language)}
