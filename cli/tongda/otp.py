"""`otp send | verify | resend | let-in`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from cli.tongda import options, show
from cli.tongda.client import open_api, segment
from cli.tongda.show import Output, OutputOption

app = typer.Typer(help="One-time codes: send and check them.", no_args_is_help=True, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="What `otp send` answered.")]
PURPOSE: Final = "login"


@app.command("send")
def send(
    *,
    user: options.ToUser = None,
    email: options.ToEmail = None,
    phone: options.ToPhone = None,
    address: options.ToAddress = None,
    channel: options.Channels = None,
    purpose: Annotated[str, typer.Option(help="What the code is for; one of another purpose does not fit.")] = PURPOSE,
    length: Annotated[int | None, typer.Option(min=4, max=10, help="Digits.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="Such as PT5M.")] = None,
    idempotency_key: options.Once = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a new code. It is in the message alone, never in an answer."""
    body: dict[str, Any] = {
        "to": options.recipient(user=user, email=email, phone=phone, address=address, needed=True),
        "purpose": purpose, "channels": channel or None, "length": length, "expires_in": expires_in,
    }  # fmt: skip
    given = {name: value for name, value in body.items() if value is not None}
    with open_api() as api:
        show.answer(api.post("/v1/otp", given, once=idempotency_key), output=output, table=show.fields)


@app.command("verify")
def verify(
    otp_id: Id,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The digits that were typed.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a code. It fits once; exit code 1 and the reason when it does not."""
    with open_api() as api:
        show.answer(api.post(f"/v1/otp/{segment(otp_id)}/verify", {"code": code}), output=output, table=show.fields)


@app.command("resend")
def resend(otp_id: Id, *, idempotency_key: options.Once = None, output: OutputOption = Output.TABLE) -> None:
    """Send a new code for the same id; those before it no longer fit."""
    with open_api() as api:
        got = api.post(f"/v1/otp/{segment(otp_id)}/resend", once=idempotency_key)
        show.answer(got, output=output, table=show.fields)


@app.command("let-in")
def let_in(
    *,
    user: options.ToUser = None,
    email: options.ToEmail = None,
    phone: options.ToPhone = None,
    address: options.ToAddress = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget the wrong guesses that keep a recipient out: a user's with all addresses, or those of one address."""
    body = {"to": options.recipient(user=user, email=email, phone=phone, address=address, needed=True)}
    with open_api() as api:
        show.answer(api.post("/v1/otp/let-in", body), output=output, table=show.fields)
