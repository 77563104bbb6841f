"""`templates list | show | create | draft | publish | preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import FAILED, open_api, segment
from cli.tongda.show import Output, OutputOption

app = typer.Typer(help="Templates: per locale and channel, in versions.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON as the API takes it; - is standard input.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Left out: the latest.")]
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
    locale: Annotated[str | None, typer.Option()] = None,
    channel: options.Channel = None,
    data: Annotated[str | None, typer.Option(metavar="JSON", help="Left out: the example data.")] = None,
    version: Version = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Render without sending. Exit code 1 when something cannot be rendered."""
    asked = _given(locale=locale, channel=channel, version=version, data=options.object_of(data, option="--data"))
    with open_api() as api:
        got = api.post(f"/v1/templates/{segment(name)}/preview", asked)
        show.answer(got, output=output, table=_previews)
        if any(item["errors"] for item in got.json()["items"]):
            raise typer.Exit(FAILED)


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
    parts = []
    for item in body["items"]:
        parts.append(f"--- {show.clean(item['locale'])} {show.clean(item['channel'])} (version {body['version']})")
        parts += [show.clean(f"✗ {error['pointer']}: {error['code']}: {error['detail']}") for error in item["errors"]]
        parts.append(show.fields({name: item[name] for name in ("title", "text", "html", "url", "extra")}))
    return "\n".join(part for part in parts if part) or "(none)"
