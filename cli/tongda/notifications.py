"""`send`, `get`, `list`, `timeline`, `cancel`, `recall`, `retry`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from cli.tongda import options, show
from cli.tongda.client import FAILED, Api, ended, open_api, segment
from cli.tongda.show import Output, OutputOption

Id = Annotated[str, typer.Argument(metavar="ID", help="The notification's id.")]
LIST: Final = {
    "ID": "id", "STATUS": "status", "PRIORITY": "priority", "APP": "app", "TO": "to", "CATEGORY": "category",
    "ACCEPTED": "accepted_at", "REASON": "reason",
}  # fmt: skip
PARTIAL: Final = {name: field for name, field in LIST.items() if name != "REASON"} | {"FAILED": "failed"}
DELIVERIES: Final = {
    "N": "n", "CHANNEL": "channel", "ADDRESS": "address", "STATUS": "status", "REASON": "reason", "CODE": "code",
    "ATTEMPTS": "attempts", "HELD UP BY": "held_up_by", "SENT": "sent_at",
}  # fmt: skip
TIMELINE: Final = {"AT": "at", "TYPE": "type", "N": "n", "DETAIL": "detail"}
WENT_WELL: Final = frozenset({"sent", "delivered", "read"})
STOPPED: Final = frozenset({"cancelled", "partly_cancelled"})
TAKEN_BACK: Final = frozenset({"recalled", "partly_recalled", "cancelled"})
RECALLS: Final = {"N": "n", "CHANNEL": "channel", "RESULT": "result"}
SKIPPED: Final = {"ID": "id", "CODE": "code"}
MADE: Final = {"ID": "id", "AS": "as"}
REOPENED: Final = {"ID": "id", "CHANNELS": "channels"}
POLL_S: Final = 0.2


def send(
    *,
    user: options.ToUser = None,
    email: options.ToEmail = None,
    phone: options.ToPhone = None,
    address: options.ToAddress = None,
    channel: options.Channels = None,
    title: Annotated[str | None, typer.Option()] = None,
    text: Annotated[str | None, typer.Option()] = None,
    html: Annotated[str | None, typer.Option()] = None,
    url: Annotated[str | None, typer.Option(help="Where a click leads.")] = None,
    template: Annotated[str | None, typer.Option(help="Instead of title and text.")] = None,
    data: Annotated[str | None, typer.Option(metavar="JSON", help="The template's data.")] = None,
    priority: options.Priority = None,
    category: options.Category = None,
    strategy: Annotated[str | None, typer.Option(help="all or fallback.")] = None,
    send_at: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="Such as PT2H.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="The whole request as JSON; - is standard input. Options override its fields.")
    ] = None,
    idempotency_key: options.Once = None,
    wait: options.Wait = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send one notification. The answer comes after it is stored."""
    body = options.object_from(file) if file else {}
    given: dict[str, Any] = {
        "to": options.recipient(user=user, email=email, phone=phone, address=address, needed="to" not in body),
        "channels": channel or None,
        "content": _there({"title": title, "text": text, "html": html, "url": url}) or None,
        "data": options.object_of(data, option="--data"),
        "template": template, "priority": priority, "category": category, "strategy": strategy, "send_at": send_at,
        "expires_in": expires_in,
    }  # fmt: skip
    with open_api() as api:
        accepted = api.post("/v1/notifications", body | _there(given), once=idempotency_key)
        tell(api, accepted, wait=wait, output=output)


def tell(api: Api, accepted: httpx.Response, *, wait: float | None, output: Output) -> None:
    """Print what was accepted, or with `wait` what became of it. Raises Exit where it did not go out in that time."""
    if wait is None:
        show.answer(accepted, output=output, table=show.fields)
        return
    state = _until_final(api, accepted.json()["id"], within_s=wait)
    show.answer(state, output=output, table=_details)
    found = state.json()
    if not found["final"]:
        out = f"It is {found['status']}, and not final" if found["status"] in WENT_WELL else "Not out"
        raise ended(f"{out} after {wait:g} s; it goes on: tongda timeline {show.clean(found['id'])}", code=FAILED)
    if found["status"] not in WENT_WELL:
        raise typer.Exit(FAILED)


def get(notification_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Show a notification: its state, its deliveries, and where to see its workflows."""
    with open_api() as api:
        show.answer(api.get(f"/v1/notifications/{segment(notification_id)}"), output=output, table=_details)


def listing(
    *,
    status: options.Status = None,
    priority: options.Priority = None,
    channel: options.Channel = None,
    app: options.App = None,
    user: options.User = None,
    category: options.Category = None,
    template: options.Template = None,
    reason: options.Reason = None,
    partial: options.Partial = False,
    final: options.Final = None,
    collected_in: options.CollectedIn = None,
    q: options.Query = None,
    since: options.Since = None,
    until: options.Until = None,
    limit: options.Limit = 50,
    cursor: options.Cursor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List notifications, newest first. A page may have few items or none and still say how to go on."""
    wanted = options.filters(
        status=status, priority=priority, channel=channel, app=app, user=user, category=category, template=template,
        reason=reason, partial="true" if partial else None, final=None if final is None else str(final).lower(),
        collected_in=collected_in, q=q, since=since, until=until, cursor=cursor,
    )  # fmt: skip
    with open_api() as api:
        table = _partial_ones if partial else show.page(LIST)
        show.answer(api.get("/v1/notifications", limit=limit, **wanted), output=output, table=table)


def timeline(notification_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Tell everything that happened to a notification, in order."""
    with open_api() as api:
        got = api.get(f"/v1/notifications/{segment(notification_id)}/timeline")
        show.answer(got, output=output, table=_story)


def cancel(notification_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Stop what was not handed over yet. Exit code 1 when nothing could be stopped any more."""
    with open_api() as api:
        got = api.post(f"/v1/notifications/{segment(notification_id)}/cancel")
        show.answer(got, output=output, table=show.fields)
        if got.json()["result"] not in STOPPED:
            raise ended("Nothing was stopped: it was too late for that.", code=FAILED)


def recall(notification_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Stop what waits, and take back what was handed over, where its channel can. Exit code 1 when nothing was taken
    back."""
    with open_api() as api:
        got = api.post(f"/v1/notifications/{segment(notification_id)}/recall")
        show.answer(got, output=output, table=_recalled)
        if got.json()["result"] not in TAKEN_BACK:
            raise ended("Nothing was taken back.", code=FAILED)


def retry(
    notification_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one.")] = None,
    *,
    partial: options.Partial = False,
    status: Annotated[str | None, typer.Option(help="failed, expired, suppressed or unknown.")] = None,
    reason: options.Reason = None,
    channel: options.Channel = None,
    priority: options.Priority = None,
    app: options.App = None,
    user: options.User = None,
    category: options.Category = None,
    template: options.Template = None,
    since: options.Since = None,
    until: options.Until = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many in one call, newest first.")] = 200,
    cursor: options.Cursor = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what fits.")] = False,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Try again what ended undelivered, each as a new notification; of what arrived in part only the channels that failed.
    Exit code 1 when some were skipped."""
    if (notification_id is None) == (status is None) and not (notification_id and partial):
        raise typer.BadParameter("Give an ID, or --status with other filters.")
    wanted = options.filters(
        id=notification_id, status=status, reason=reason, channel=channel, priority=priority, app=app, user=user,
        category=category, template=template, since=since, until=until, cursor=cursor,
    )  # fmt: skip
    with open_api() as api:
        body = _there({**wanted, "partial": True if partial else None, "limit": limit, "dry_run": dry_run})
        got = api.post("/v1/notifications/retry", body, once=idempotency_key)
        show.answer(got, output=output, table=_retried)
        if got.json()["skipped"]:
            raise typer.Exit(FAILED)


def _there(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _until_final(api: Api, notification_id: str, *, within_s: float) -> httpx.Response:
    """The last state that was seen. Raises Refused, Unreachable."""
    end = time.monotonic() + within_s
    while True:
        got = api.get(f"/v1/notifications/{segment(notification_id)}")
        if got.json()["final"] or time.monotonic() >= end:
            return got
        time.sleep(POLL_S)


def _details(body: dict[str, Any]) -> str:
    rest = {name: value for name, value in body.items() if name not in ("deliveries", "failed_channels", "workflows")}
    links = "".join(f"\nworkflow  {show.clean(w['url'])}" for w in body["workflows"])
    deliveries = f"\n\n{show.grid(DELIVERIES, body['deliveries'])}" if body["deliveries"] else ""
    return show.fields(rest) + links + deliveries


def _recalled(body: dict[str, Any]) -> str:
    rest = {name: value for name, value in body.items() if name != "channels"}
    return show.fields(rest) + (f"\n\n{show.grid(RECALLS, body['channels'])}" if body["channels"] else "")


def _partial_ones(body: dict[str, Any]) -> str:
    """A page of what arrived in part, each with what failed and why."""
    rows = [{**item, "failed": _list([_why(one) for one in item["failed_channels"]])} for item in body["items"]]
    return show.page(PARTIAL)({**body, "items": rows})


def _why(failed: dict[str, Any]) -> dict[str, Any]:
    return {name: failed[name] for name in ("channel", "status", "reason", "code")}


def _retried(body: dict[str, Any]) -> str:
    """An answer that was kept before an upgrade has neither `channels` nor `reopened`."""
    told = show.fields({name: body.get(name) for name in ("dry_run", "matched", "retried", "retriable", "channels")})
    reopened = f"\n\n{show.grid(REOPENED, body['reopened'])}" if body.get("reopened") else ""
    made = f"\n\n{show.grid(MADE, body['made'])}" if body["made"] else ""
    skipped = f"\n\n{show.grid(SKIPPED, body['skipped'])}" if body["skipped"] else ""
    more = f"\nmore: --cursor {show.clean(body['next_cursor'])}" if body["next_cursor"] else ""
    return told + made + reopened + skipped + more


def _story(body: dict[str, Any]) -> str:
    """The timeline; of a workflow only its id, as `get` shows the links."""
    rows = [{**event, "detail": _short(event["detail"])} for event in body["items"]]
    return show.page(TIMELINE)({"items": rows})


def _short(detail: dict[str, Any]) -> dict[str, Any]:
    there = {name: value for name, value in detail.items() if value is not None}
    if isinstance(workflow := there.get("workflow"), dict):
        there["workflow"] = workflow["id"]
    return {name: _list(value) if isinstance(value, list) else _part(value) for name, value in there.items()}


def _list(values: list[Any]) -> str:
    """Such as "email,webhook", or "1 email recalled; 2 webhook too_late" of objects."""
    nested = any(isinstance(one, dict) for one in values)
    return ("; " if nested else ",").join(str(_part(one)) for one in values)


def _part(value: Any) -> Any:
    return " ".join(str(one) for one in value.values() if one is not None) if isinstance(value, dict) else value
