"""`providers list | show | types | add | change | test | health | pause | resume | remove`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import FAILED, Api, open_api, segment
from cli.tongda.show import Output, OutputOption

app = typer.Typer(
    help="Provider accounts: over whom messages leave.", no_args_is_help=True, rich_markup_mode=None
)  # fmt: skip

Id = Annotated[str, typer.Argument(metavar="ID", help="The account's id; `providers list` shows it.")]
Setting = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Once for each; `providers types` lists them.")
]
SecretName = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="A secret setting: asked for without echo, or a line of standard input."),
]
Order = Annotated[int | None, typer.Option(min=0, help="The next order is used when nobody before can take it.")]
Weight = Annotated[int | None, typer.Option(min=0, help="Share among equals.")]
Rate = Annotated[float | None, typer.Option("--rate", help="Messages a second, all workers together.")]
File = Annotated[Path | None, typer.Option(help="JSON as the API takes it; - is standard input.")]
LIST: Final = {
    "ID": "id", "PROVIDER": "provider", "CHANNEL": "channel", "STATE": "state", "ORDER": "order", "WEIGHT": "weight",
    "RATE": "rate_per_second", "SOURCE": "source", "PROBLEM": "problem",
}  # fmt: skip
TYPES: Final = {"PROVIDER": "name", "CHANNEL": "channel", "SETTING": "setting", "TYPE": "type", "ABOUT": "about"}
WORKERS: Final = {
    "WORKER": "name", "CURRENT": "current", "CIRCUIT": "circuit", "RETRY": "retry_at", "SLOW": "slow_share",
    "IN FLIGHT": "in_flight", "SLOTS": "slots", "LAST SUCCESS": "succeeded_at", "LAST FAILURE": "failed_at",
    "FAILURE": "failure",
}  # fmt: skip


@app.command("list")
def listing(*, limit: options.Limit = 50, cursor: options.Cursor = None, output: OutputOption = Output.TABLE) -> None:
    """List your accounts and the installation's."""
    with open_api() as api:
        show.answer(api.get("/v1/providers", limit=limit, cursor=cursor), output=output, table=show.page(LIST))


@app.command("show")
def read(account: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Show an account, without its secrets."""
    with open_api() as api:
        show.answer(api.get(f"/v1/providers/{segment(account)}"), output=output, table=show.fields)


@app.command("types")
def types(*, output: OutputOption = Output.TABLE) -> None:
    """List what there can be accounts of, with their settings; * is required, secret ones are given by --secret."""
    with open_api() as api:
        show.answer(api.get("/v1/provider-types"), output=output, table=_types)


@app.command("add")
def add(
    *,
    name: Annotated[str | None, typer.Option(help="Yours to choose: a-z, 0-9 and -.")] = None,
    provider: Annotated[str | None, typer.Option(help="Such as smtp.")] = None,
    setting: Setting = None,
    secret: SecretName = None,
    order: Order = None,
    weight: Weight = None,
    rate: Rate = None,
    file: File = None,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create an account. Workers use it within seconds; `providers test` tries it."""
    body = options.object_from(file) if file else {}
    body |= _given(name=name, provider=provider, order=order, weight=weight, rate_per_second=rate)
    if "name" not in body or "provider" not in body:
        raise typer.BadParameter("Give --name and --provider, or a --file with them.")
    with open_api() as api:
        own = _settings(api, body["provider"], given=setting, secrets=secret)
        body["settings"] = {**body.get("settings", {}), **own}
        show.answer(api.post("/v1/providers", body, once=idempotency_key), output=output, table=show.fields)


@app.command("change")
def change(
    account: Id,
    *,
    setting: Setting = None,
    secret: SecretName = None,
    order: Order = None,
    weight: Weight = None,
    rate: Rate = None,
    file: File = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change an account; what is not given stays, secrets too."""
    body = options.object_from(file) if file else {}
    body |= _given(order=order, weight=weight, rate_per_second=rate)
    with open_api() as api:
        path = f"/v1/providers/{segment(account)}"
        if setting or secret:
            own = _settings(api, api.get(path).json()["provider"], given=setting, secrets=secret)
            body["settings"] = {**body.get("settings", {}), **own}
        show.answer(api.patch(path, body), output=output, table=show.fields)


@app.command("test")
def try_it(
    account: Id,
    *,
    to: Annotated[str | None, typer.Option(help="Send a message that is marked as a test to this address.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Connect and log in, or send a test. Exit code 1 when it does not work."""
    with open_api() as api:
        got = api.post(f"/v1/providers/{segment(account)}/test", {} if to is None else {"to": to})
        show.answer(got, output=output, table=show.fields)
        if not got.json()["ok"]:
            raise typer.Exit(FAILED)


@app.command("health")
def health(account: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Show how an account does in each worker process."""
    with open_api() as api:
        show.answer(api.get(f"/v1/providers/{segment(account)}/health"), output=output, table=_health)


@app.command("pause")
def pause(account: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Choose an account no more; what waits over it moves, or waits."""
    with open_api() as api:
        show.answer(api.post(f"/v1/providers/{segment(account)}/pause"), output=output, table=show.fields)


@app.command("resume")
def resume(account: Id, *, output: OutputOption = Output.TABLE) -> None:
    """Use a paused account again."""
    with open_api() as api:
        show.answer(api.post(f"/v1/providers/{segment(account)}/resume"), output=output, table=show.fields)


@app.command("remove")
def remove(account: Id, *, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete an account with its credentials; what waits over it goes over another."""
    if not yes:
        typer.confirm(f"Delete the account {show.clean(account)}? Its credentials are gone then", abort=True)
    with open_api() as api:
        show.answer(api.delete(f"/v1/providers/{segment(account)}"), output=Output.TABLE, table=show.fields)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _settings(api: Api, provider: str, *, given: list[str] | None, secrets: list[str] | None) -> dict[str, Any]:
    """Values as the provider's schema has them. Raises BadParameter."""
    kinds = {one["name"]: one for one in api.get("/v1/provider-types").json()["items"]} if given or secrets else {}
    properties = kinds.get(provider, {}).get("settings", {}).get("properties", {})
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter("--setting is NAME=VALUE, such as host=smtp.example.com")
        if properties.get(name, {}).get("writeOnly"):
            raise typer.BadParameter(f"{name} is secret and does not belong on a command line: --secret {name} asks for it")
        found[name] = _value(value, properties.get(name, {}).get("type"))
    for name in secrets or ():
        found[name] = typer.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    return found


def _value(text: str, kind: object) -> Any:
    """A number or a truth value where the setting is one; otherwise the API says what is wrong with the text."""
    if kind in ("integer", "number", "boolean"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _types(body: dict[str, Any]) -> str:
    rows = []
    for one in body["items"]:
        required = one["settings"].get("required", ())
        for name, schema in one["settings"]["properties"].items():
            secret = "secret" if schema.get("writeOnly") else schema.get("type") or "one of " + ", ".join(schema["enum"])
            marked = f"{name}*" if name in required else name
            rows.append({"name": one["name"], "channel": one["channel"], "setting": marked, "type": secret,
                         "about": schema.get("description", "")})  # fmt: skip
    return show.grid(TYPES, rows)


def _health(body: dict[str, Any]) -> str:
    rest = show.fields({name: value for name, value in body.items() if name != "workers"})
    return f"{rest}\n\n{show.grid(WORKERS, body['workers'])}" if body["workers"] else f"{rest}\n\n(no worker runs)"
