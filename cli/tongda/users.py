"""`users list | show | create`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import open_api, segment
from cli.tongda.show import Output, OutputOption

app = typer.Typer(help="Users, by your own ids.", no_args_is_help=True, rich_markup_mode=None)

LIST: Final = {
    "ID": "id", "NAME": "name", "STATE": "state", "LOCALE": "locale", "TIME ZONE": "time_zone", "CREATED": "created_at",
}  # fmt: skip
IDENTITIES: Final = {
    "CHANNEL": "channel", "ADDRESS": "address", "APP": "app", "VERIFIED": "verified", "PRIMARY": "primary", "ID": "id",
}  # fmt: skip


@app.command("list")
def listing(
    *,
    state: Annotated[str | None, typer.Option(help="active, deactivated, erased or merged.")] = None,
    channel: options.Channel = None,
    address: Annotated[str | None, typer.Option(help="Whose address is this?")] = None,
    limit: options.Limit = 50,
    cursor: options.Cursor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List users by id, or find them by an address."""
    with open_api() as api:
        got = api.get("/v1/users", state=state, channel=channel, address=address, limit=limit, cursor=cursor)
        show.answer(got, output=output, table=show.page(LIST))


@app.command("show")
def read(user_id: Annotated[str, typer.Argument(metavar="ID")], *, output: OutputOption = Output.TABLE) -> None:
    """Show a user with the addresses."""
    with open_api() as api:
        show.answer(api.get(f"/v1/users/{segment(user_id)}"), output=output, table=_details)


@app.command("create")
def create(
    user_id: Annotated[str | None, typer.Argument(metavar="ID", help="Your own id of this person.")] = None,
    *,
    name: Annotated[str | None, typer.Option()] = None,
    locale: Annotated[str | None, typer.Option(help="BCP 47, such as zh-CN.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA name, such as Asia/Shanghai.")] = None,
    identity: Annotated[
        list[str] | None, typer.Option(metavar="CHANNEL=ADDRESS", help="An address; once for each.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="JSON as the API takes it; - is standard input.")] = None,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a user."""
    body = options.object_from(file) if file else {}
    given: dict[str, Any] = {"id": user_id, "name": name, "locale": locale, "time_zone": time_zone}
    if identity:
        given["identities"] = [_identity(text) for text in identity]
    body |= {field: value for field, value in given.items() if value is not None}
    if "id" not in body:
        raise typer.BadParameter("Give the user's id, or a --file with it.")
    with open_api() as api:
        show.answer(api.post("/v1/users", body, once=idempotency_key), output=output, table=_details)


def _identity(text: str) -> dict[str, str]:
    """Raises BadParameter."""
    channel, equals, address = text.partition("=")
    if not equals:
        raise typer.BadParameter("--identity is CHANNEL=ADDRESS, such as email=fang@example.com")
    return {"channel": channel, "address": address}


def _details(body: dict[str, Any]) -> str:
    rest = {name: value for name, value in body.items() if name != "identities"}
    identities = f"\n\n{show.grid(IDENTITIES, body['identities'])}" if body.get("identities") else ""
    return show.fields(rest) + identities
