"""Options that several commands share, and files and JSON from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Status = Annotated[str | None, typer.Option(help="accepted, scheduled, processing, sent, delivered, read, failed, ...")]
Priority = Annotated[str | None, typer.Option(help="high, medium or low.")]
Channel = Annotated[str | None, typer.Option(help="email, webhook, inapp, ...")]
App = Annotated[str | None, typer.Option(help="The app whose key sent it.")]
User = Annotated[str | None, typer.Option(help="The recipient's user id.")]
Category = Annotated[str | None, typer.Option()]
Template = Annotated[str | None, typer.Option()]
Reason = Annotated[str | None, typer.Option(help="Why it ended undelivered: content_refused, no_address, ...")]
Final = Annotated[
    bool | None, typer.Option("--final/--open", help="Only what has ended, or only what is still open.", show_default=False)
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="What arrived on one channel and failed on another; --channel and --reason are then those of one that failed.",
    ),
]
CollectedIn = Annotated[str | None, typer.Option(metavar="ID", help="What the message of this one carries (digests).")]
Query = Annotated[
    str | None, typer.Option("--q", help="A notification's id, a user's id, an address, or words of what was posted.")
]
Since = Annotated[str | None, typer.Option("--from", help="RFC 3339 with offset; this moment or later.")]
Until = Annotated[str | None, typer.Option("--to", help="RFC 3339 with offset; before this moment.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="Items of one page.")]
Cursor = Annotated[str | None, typer.Option(help="The next_cursor of the page before.")]
Once = Annotated[str | None, typer.Option("--idempotency-key", help="The same key and request is done once only.")]

ToUser = Annotated[str | None, typer.Option("--user", help="To the user with this id.")]
ToEmail = Annotated[str | None, typer.Option("--email", help="To this e-mail address.")]
ToPhone = Annotated[str | None, typer.Option("--phone", help="To this phone number.")]
ToAddress = Annotated[str | None, typer.Option("--address", metavar="CHANNEL=ADDRESS", help="To a channel's own address.")]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", help="Once for each channel; left out: the category decides.")
]
Wait = Annotated[float | None, typer.Option(min=0, help="Wait so many seconds for its end; 1 if it did not go out.")]


def recipient(
    *, user: str | None, email: str | None, phone: str | None, address: str | None, needed: bool
) -> dict[str, str] | None:
    """`to` as the API wants it; None when not given and not needed. Raises BadParameter."""
    given: list[dict[str, str]] = [
        {name: value} for name, value in (("user", user), ("email", email), ("phone", phone)) if value is not None
    ]
    if address is not None:
        channel, equals, own = address.partition("=")
        if not equals:
            raise typer.BadParameter("--address is CHANNEL=ADDRESS, such as webhook=https://example.com/hook")
        given.append({"channel": channel, "address": own})
    if len(given) > 1 or (needed and not given):
        raise typer.BadParameter("To whom? Give exactly one of --user, --email, --phone, --address, or a --file with `to`.")
    return given[0] if given else None


def filters(**given: str | None) -> dict[str, str | None]:
    """Query parameters of a list; `since` and `until` are `from` and `to` there."""
    names = {"since": "from", "until": "to"}
    return {names.get(name, name): value for name, value in given.items()}


def object_of(text: str | None, *, option: str) -> dict[str, Any] | None:
    """A JSON object given as an option. Raises BadParameter."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"""{option} is a JSON object, such as '{{"order": "A-77"}}'""")
    return value


def object_from(path: Path) -> dict[str, Any]:
    """A JSON object in a file; `-` is standard input. Raises BadParameter."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise typer.BadParameter(f"{path} cannot be read: {(said or 'unknown').lower()}") from None
    return object_of(text, option=str(path)) or {}
