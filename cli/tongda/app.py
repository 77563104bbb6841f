"""All commands, put together."""

from __future__ import annotations

import typer

from cli.tongda import doctor, keys, notifications, otp, providers, receipts, secrets, tail, templates, up, users

HELP = """Send notifications and see what became of them.

Address and key come from TONGDA_API_URL and TONGDA_API_KEY (or TONGDA_API_KEY_FILE), else from the service that runs in
TONGDA_HOME. Exit codes: 0 done, 1 refused or failed, 2 wrong command line, 3 the API cannot be reached."""


def build() -> typer.Typer:
    """The app. Plain text without boxes, so that screens can be copied and searched; never a trace with values."""
    app = typer.Typer(name="tongda", help=HELP, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("up")(up.up)
    app.command("send")(notifications.send)
    app.command("get")(notifications.get)
    app.command("list")(notifications.listing)
    app.command("timeline")(notifications.timeline)
    app.command("tail")(tail.tail)
    app.command("cancel")(notifications.cancel)
    app.command("recall")(notifications.recall)
    app.command("retry")(notifications.retry)
    app.add_typer(otp.app, name="otp")
    app.add_typer(templates.app, name="templates")
    app.add_typer(users.app, name="users")
    app.add_typer(keys.app, name="keys")
    app.add_typer(providers.app, name="providers")
    app.add_typer(secrets.app, name="secrets")
    app.command("receipt-url")(receipts.receipt_url)
    app.command("webhook-secret")(receipts.webhook_secret)
    app.command("doctor")(doctor.doctor)
    return app


def main() -> None:
    build()(prog_name="tongda")
