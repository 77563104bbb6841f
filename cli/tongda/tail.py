"""`tail`: polls the list and shows each notification that is new or has changed its state."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import Api, open_api, segment
from cli.tongda.show import Output, OutputOption

WINDOW: Final = 200
"""The newest notifications that each poll looks at."""
MOST_OPEN: Final = 50
"""Open ones that have left the window are asked for one by one, so many of them at the most in a poll."""
KEPT: Final = 10_000
"""Notifications whose last state is remembered."""

Item = Mapping[str, Any]


class Watch:
    """The states seen so far. What is there at the first look is known, and shown only when asked for."""

    def __init__(self, api: Api, *, wanted: Mapping[str, str | None]) -> None:
        self._api = api
        self._wanted = wanted
        self._seen: dict[str, Item] = {}

    def look(self) -> Iterator[tuple[str | None, Item]]:
        """(last state or None, notification) of each that is new or changed, oldest first. Raises Refused, Unreachable."""
        items = self._api.get("/v1/notifications", limit=WINDOW, **self._wanted).json()["items"]
        there = {item["id"] for item in items}
        if self._wanted.get("status") is None:
            items += self._left_behind(there)
        for item in sorted(items, key=lambda item: str(item["accepted_at"])):
            before = self._seen.pop(item["id"], None)
            self._seen[item["id"]] = item
            if before is None or _state(before) != _state(item):
                yield (None if before is None else str(before["status"])), item
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    def _left_behind(self, there: set[str]) -> list[Item]:
        gone = [i for i, item in self._seen.items() if i not in there and not item["final"]]
        return [self._api.get(f"/v1/notifications/{segment(i)}").json() for i in gone[-MOST_OPEN:]]


def tail(
    *,
    status: options.Status = None,
    priority: options.Priority = None,
    channel: options.Channel = None,
    app: options.App = None,
    user: options.User = None,
    category: options.Category = None,
    template: options.Template = None,
    since: options.Since = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    past: Annotated[bool, typer.Option("--past", help="Begin with those that are there already.")] = False,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="End by itself after so many seconds.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Follow notifications live until Ctrl-C. With --output json one object a line, as the API's list has it."""
    wanted = options.filters(
        status=status, priority=priority, channel=channel, app=app, user=user, category=category, template=template,
        since=since,
    )  # fmt: skip
    end = None if seconds is None else time.monotonic() + seconds
    try:
        with open_api() as api:
            _follow(Watch(api, wanted=wanted), interval_s=interval, end=end, past=past, output=output)
    except KeyboardInterrupt:
        return


def _follow(watch: Watch, *, interval_s: float, end: float | None, past: bool, output: Output) -> None:
    first = True
    while True:
        for before, item in watch.look():
            if past or not first:
                at = _then(item) if first else datetime.now().astimezone()
                line = json.dumps(item, ensure_ascii=False) if output is Output.JSON else _line(before, item=item, at=at)
                typer.echo(line)
        first = False
        if end is not None and time.monotonic() >= end:
            return
        time.sleep(interval_s if end is None else max(0.0, min(interval_s, end - time.monotonic())))


def _then(item: Item) -> datetime:
    """When it came to be what it is, of what was there before we looked."""
    return datetime.fromisoformat(str(item["finished_at"] or item["accepted_at"])).astimezone()


def _line(before: str | None, *, item: Item, at: datetime) -> str:
    """Time of this machine, id, what it is now and was before, and what it is about."""
    change = f"{before} → {item['status']}" if before and before != item["status"] else str(item["status"])
    about = [f"{item['priority']!s:6}", str(item["app"]), show.cell(item["to"]), str(item["category"] or "")]
    reason = f"({item['reason']})" if item["reason"] else ""
    parts = [at.strftime("%H:%M:%S"), str(item["id"]), f"{change:24}", *about, reason]
    return show.clean("  ".join(part for part in parts if part))


def _state(item: Item) -> tuple[object, ...]:
    return item["status"], item["final"], item["reason"], item["priority"]
