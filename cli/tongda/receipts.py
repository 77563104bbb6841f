"""What derives from the secret key and others have to be told: `receipt-url`, `webhook-secret`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli.tongda.checks_here import KEY_MISSING, settings_of
from cli.tongda.client import FAILED
from cli.tongda.place import NoPlace, find_address, home, running
from infra import secrets
from infra.settings import Settings


def receipt_url(
    provider: Annotated[str, typer.Argument(help="As deliveries show it: webhook, ...")],
    account: Annotated[str, typer.Argument(help="As deliveries show it: webhook-default, ...")],
) -> None:
    """Show the address for an account's receipts. It holds a secret: whoever has it may post there.

    Needs the service's environment (TONGDA_SECRET_KEY, TONGDA_PUBLIC_URL), or a service of ./scripts/run."""
    settings, key = _opened()
    print(secrets.receipt_url(key, public_url=_base(settings), provider=provider, account=account))


def webhook_secret(tenant: Annotated[str, typer.Argument(help="The tenant's id.")]) -> None:
    """Show a tenant's webhook signing secret (Standard Webhooks, whsec_...), for its receivers to check what they get.

    Needs the service's environment (TONGDA_SECRET_KEY), or a service of ./scripts/run."""
    _, key = _opened()
    print(secrets.webhook_secret(key, tenant))


def _opened() -> tuple[Settings, str]:
    """The settings of here and their secret key; ends the command with what is missing."""
    settings, findings = settings_of(os.environ)
    key = secret_key_of(settings) if settings else ""
    if settings is None or not key:
        print(findings[0].says if settings is None else f"There is no secret key: {KEY_MISSING}.", file=sys.stderr)
        raise typer.Exit(FAILED)
    return settings, key


def secret_key_of(settings: Settings) -> str:
    """That of the environment, else of the service that runs here."""
    given = settings.secret_key.get_secret_value()
    if given or running(os.environ) is None:
        return given
    try:
        return (home(os.environ) / "secret-key").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _base(settings: Settings) -> str:
    if os.environ.get("TONGDA_PUBLIC_URL"):
        return settings.public_url.rstrip("/")
    try:
        return find_address(os.environ)
    except NoPlace:
        return settings.public_url.rstrip("/")
