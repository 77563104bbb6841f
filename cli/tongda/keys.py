"""`keys list | create | rotate | revoke`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import open_api, segment
from cli.tongda.show import Output, OutputOption

app = typer.Typer(help="API keys: who may use the API, and for what.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="The key's id; `keys list` shows it.")]
LIST: Final = {
    "ID": "id", "NAME": "name", "APP": "app", "ROLES": "roles", "HINT": "hint", "STATE": "state", "EXPIRES": "expires_at",
}  # fmt: skip


@app.command("list")
def listing(
    *,
    app_id: Annotated[str | None, typer.Option("--app", help="Of this app only.")] = None,
    limit: options.Limit = 50,
    cursor: options.Cursor = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List keys, oldest first, revoked and expired ones too."""
    with open_api() as api:
        got = api.get("/v1/api-keys", app=app_id, limit=limit, cursor=cursor)
        show.answer(got, output=output, table=show.page(LIST))


@app.command("create")
def create(
    *,
    name: Annotated[str, typer.Option(help="What it is for, in your words.")],
    app_id: Annotated[str, typer.Option("--app", help="The app that it belongs to.")],
    role: Annotated[list[str], typer.Option(help="sender, operator, editor, ...; once for each.")],
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339 with offset.")] = None,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a key. It is shown once, here."""
    body: dict[str, Any] = {"name": name, "app": app_id, "roles": role}
    if expires_at is not None:
        body["expires_at"] = expires_at
    with open_api() as api:
        show.answer(api.post("/v1/api-keys", body, once=idempotency_key), output=output, table=_made)


@app.command("rotate")
def rotate(
    key_id: Id,
    *,
    overlap_seconds: Annotated[int, typer.Option(min=0, help="How long the old one stays valid beside the new.")] = 0,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replace a key by a new one with the same app, name, roles and end. It is shown once, here."""
    with open_api() as api:
        path = f"/v1/api-keys/{segment(key_id)}/rotate"
        got = api.post(path, {"overlap_seconds": overlap_seconds}, once=idempotency_key)
        show.answer(got, output=output, table=_made)


@app.command("revoke")
def revoke(key_id: Id, *, output: OutputOption = Output.TABLE) -> None:
    """End a key for good, within 5 seconds everywhere. Asking again changes nothing."""
    with open_api() as api:
        show.answer(api.delete(f"/v1/api-keys/{segment(key_id)}"), output=output, table=show.fields)


def _made(body: dict[str, Any]) -> str:
    if body["key"] is None:
        return show.fields(body) + "\nIt was made before, under this --idempotency-key; the key itself was shown then only."
    return show.fields(body) + "\nKeep the key now: it is not stored, and not shown again."
