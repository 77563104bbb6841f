"""`users list | show | create | preferences | suppressions | suppress | lift | export | erase`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import open_api, segment
from cli.tongda.show import Output, OutputOption

Id = Annotated[str, typer.Argument(metavar="ID", help="Your own id of this person.")]
Address = Annotated[str, typer.Argument(metavar="CHANNEL=ADDRESS", help="Such as email=fang@example.com.")]

app = typer.Typer(help="Users, by your own ids.", no_args_is_help=True, rich_markup_mode=None)

LIST: Final = {
    "ID": "id", "NAME": "name", "STATE": "state", "LOCALE": "locale", "TIME ZONE": "time_zone", "CREATED": "created_at",
}  # fmt: skip
IDENTITIES: Final = {
    "CHANNEL": "channel", "ADDRESS": "address", "APP": "app", "VERIFIED": "verified", "PRIMARY": "primary", "ID": "id",
}  # fmt: skip

SUPPRESSIONS: Final = {
    "CHANNEL": "channel", "ADDRESS": "address", "REASON": "reason", "SINCE": "created_at", "ID": "id",
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


@app.command("preferences")
def preferences(
    user_id: Id,
    *,
    file: Annotated[
        Path | None,
        typer.Option(help="Changes as JSON, as PATCH takes them; - is standard input. Without it they are shown."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a user wants to get, or change it."""
    path = f"/v1/users/{segment(user_id)}/preferences"
    with open_api() as api:
        got = api.get(path) if file is None else api.patch(path, options.object_from(file))
        show.answer(got, output=output, table=_wishes)


def _wishes(body: dict[str, Any]) -> str:
    caps = {f"caps.{of}": by_name for of, by_name in body["caps"].items()}
    return show.fields({**body, "caps": None, **caps}) or "(nothing chosen)"


@app.command("suppressions")
def suppressions(user_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Show which of a user's addresses are not written to, and why."""
    with open_api() as api:
        got = api.get(f"/v1/users/{segment(user_id)}/suppressions")
        show.answer(got, output=output, table=show.page(SUPPRESSIONS))


@app.command("suppress")
def suppress(
    user_id: Id,
    address: Address,
    *,
    reason: Annotated[str, typer.Option(help="requested, complaint, hard_bounce or recipient_refused.")] = "requested",
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Write to an address of a user no more."""
    body = {**_identity(address, option="The address"), "reason": reason}
    with open_api() as api:
        made = api.post(f"/v1/users/{segment(user_id)}/suppressions", body, once=idempotency_key)
        show.answer(made, output=output, table=show.fields)


@app.command("lift")
def lift(user_id: Id, suppression_id: Annotated[str, typer.Argument(metavar="SUPPRESSION")]) -> None:
    """Write to a suppressed address of a user again."""
    with open_api() as api:
        done = api.delete(f"/v1/users/{segment(user_id)}/suppressions/{segment(suppression_id)}")
        show.answer(done, output=Output.TABLE, table=show.fields)


@app.command("export")
def export(user_id: Id) -> None:
    """Write all that is held about a user to standard output, as JSON."""
    with open_api() as api:
        for piece in api.pieces(f"/v1/users/{segment(user_id)}/export"):
            sys.stdout.write(piece)
        sys.stdout.write("\n")


@app.command("erase")
def erase(
    user_id: Id,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Erase a user for good. Again, it tells how far it is."""
    if not yes:
        typer.confirm(
            f"Erase {show.clean(user_id)} and all that is held about this person? It cannot be undone", abort=True
        )
    with open_api() as api:
        show.answer(api.post(f"/v1/users/{segment(user_id)}/erase"), output=output, table=show.fields)


def _identity(text: str, *, option: str = "--identity") -> dict[str, str]:
    """Raises BadParameter."""
    channel, equals, address = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{option} is CHANNEL=ADDRESS, such as email=fang@example.com")
    return {"channel": channel, "address": address}


def _details(body: dict[str, Any]) -> str:
    rest = {name: value for name, value in body.items() if name != "identities"}
    identities = f"\n\n{show.grid(IDENTITIES, body['identities'])}" if body.get("identities") else ""
    return show.fields(rest) + identities
