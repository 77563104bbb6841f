"""`templates list | show | create | draft | publish | preview | test-send`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import FAILED, open_api, segment
from cli.tongda.notifications import tell
from cli.tongda.show import Output, OutputOption

app = typer.Typer(help="Templates: per locale and channel, in versions.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON as the API takes it; - is standard input.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Left out: the latest.")]
Locale = Annotated[str | None, typer.Option(help="Instead of the recipient's.")]
Data = Annotated[str | None, typer.Option(metavar="JSON", help="Left out: the example data.")]
LIST: Final = {
    "NAME": "name", "CATEGORY": "category", "PUBLISHED": "published_version", "LATEST": "latest_version",
    "UPDATED": "updated_at",
}  # fmt: skip
BLOCK: Final = {"LOCALE": "locale", "CHANNEL": "channel", "FIELD": "field", "SOURCE": "source"}


@app.command("list")
def listing(
    *,
    category: options.Category = None,
    limit: options.Limit = 50,
    cursor: options.Cursor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List templates by name."""
    with open_api() as api:
        got = api.get("/v1/templates", category=category, limit=limit, cursor=cursor)
        show.answer(got, output=output, table=show.page(LIST))


@app.command("show")
def read(name: Name, *, output: OutputOption = Output.TABLE) -> None:
    """Show a template with the version in force, or its latest draft where none is."""
    with open_api() as api:
        show.answer(api.get(f"/v1/templates/{segment(name)}"), output=output, table=_details)


@app.command("create")
def create(
    file: File,
    *,
    publish_it: Annotated[bool, typer.Option("--publish", help="Put it in force at once.")] = False,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a template from a file."""
    body = options.object_from(file)
    with open_api() as api:
        got = api.post("/v1/templates", body, once=idempotency_key)
        if publish_it:
            made = got.json()
            got = api.post(f"/v1/templates/{segment(made['name'])}/publish", {"version": made["version"]})
        show.answer(got, output=output, table=_details)


@app.command("draft")
def draft(name: Name, file: File, *, idempotency_key: options.Once = None, output: OutputOption = Output.TABLE) -> None:
    """Add a version from a file to a template that is there; publish puts it in force."""
    body = {field: value for field, value in options.object_from(file).items() if field not in ("name", "category")}
    with open_api() as api:
        got = api.post(f"/v1/templates/{segment(name)}/versions", body, once=idempotency_key)
        show.answer(got, output=output, table=_details)


@app.command("publish")
def publish(name: Name, *, version: Version = None, output: OutputOption = Output.TABLE) -> None:
    """Put a version in force. Everything is rendered with the example data first."""
    with open_api() as api:
        got = api.post(f"/v1/templates/{segment(name)}/publish", _given(version=version))
        show.answer(got, output=output, table=_details)


@app.command("preview")
def preview(
    name: Name,
    *,
    locale: Locale = None,
    channel: options.Channel = None,
    user: Annotated[str | None, typer.Option(help="As this user would see it: name and locale are theirs.")] = None,
    data: Data = None,
    version: Version = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Render without sending, and say what each channel does with it. Exit code 1 when something cannot be rendered."""
    asked = _given(
        locale=locale, channel=channel, recipient=user, version=version, data=options.object_of(data, option="--data")
    )
    with open_api() as api:
        got = api.post(f"/v1/templates/{segment(name)}/preview", asked)
        show.answer(got, output=output, table=_previews)
        if any(item["errors"] for item in got.json()["items"]):
            raise typer.Exit(FAILED)


@app.command("test-send")
def send_test(
    name: Name,
    *,
    user: options.ToUser = None,
    email: options.ToEmail = None,
    address: options.ToAddress = None,
    channel: options.Channels = None,
    locale: Locale = None,
    data: Data = None,
    version: Version = None,
    idempotency_key: options.Once = None,
    wait: options.Wait = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a version, a draft too, to one recipient; the title is marked as a test."""
    asked = _given(
        to=options.recipient(user=user, email=email, phone=None, address=address, needed=True),
        channels=channel or None, locale=locale, version=version, data=options.object_of(data, option="--data"),
    )  # fmt: skip
    with open_api() as api:
        accepted = api.post(f"/v1/templates/{segment(name)}/test-send", asked, once=idempotency_key)
        tell(api, accepted, wait=wait, output=output)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _details(body: dict[str, Any]) -> str:
    """Every field of every block on a line of its own."""
    rest = {name: value for name, value in body.items() if name != "contents"}
    rows = [
        {"locale": locale, "channel": channel, "field": field, "source": source}
        for locale, blocks in body["contents"].items()
        for channel, block in blocks.items()
        for field, source in block.items()
    ]
    return f"{show.fields(rest)}\n\n{show.grid(BLOCK, rows)}"


def _previews(body: dict[str, Any]) -> str:
    return "\n\n".join(_preview(item, version=body["version"]) for item in body["items"]) or "(none)"


def _preview(item: dict[str, Any], *, version: int) -> str:
    """Heading, texts, then one line for each thing to know: ✗ fails, − is left out, ! is to be minded, · is by the way."""
    lines = [f"--- {item['locale']} {item['channel']} (version {version})"]
    if item["locale"] != item["asked_locale"] or len(item["fallback"]) > 1:
        way = ", ".join(f"{step['locale']} {step['found']} ({step['why']})".replace("_", " ") for step in item["fallback"])
        lines.append(f"{item['asked_locale'] or '(no locale)'} → {way}")
    texts = {name: item[name] for name in ("title", "text", "html", "url", "extra")}
    found = [("✗", item["errors"]), ("−", item["not_carried"]), ("!", item["warnings"]), ("·", item["notes"])]
    marks = [f"{mark} {one['pointer'] or '(all)'}: {one['code']}: {one['detail']}" for mark, all_ in found for one in all_]
    return "\n".join(part for part in (*map(show.clean, lines), show.fields(texts), *map(show.clean, marks)) if part)
