"""`secrets status | rotate`: which keys seal what is stored, and everything sealed anew by the key of now.

Like `doctor` they look at PostgreSQL themselves, with the service's own environment: no key ever goes over the API.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, NoReturn, TypeVar

import asyncpg
import typer

from cli.tongda.checks_here import KEY_MISSING, settings_of
from cli.tongda.client import FAILED
from cli.tongda.receipts import secret_key_of
from cli.tongda.show import Output, OutputOption, clean
from infra.credentials import CredentialBox
from infra.postgres.sealed import SealedRepository
from infra.resealing import Looked, Rotated, Unopened, look, rotate
from infra.settings import Settings

app = typer.Typer(
    help="Keys that seal what is stored: credentials of provider accounts.", no_args_is_help=True, rich_markup_mode=None
)
T = TypeVar("T")
ANSWER_S: Final = 30.0
MOST_NAMED: Final = 20
GIVE_AGAIN: Final = "name their key in TONGDA_OTHER_SECRET_KEYS, or give them again: `scripts/tongda providers change ID`"


@app.command("status")
def status(*, output: OutputOption = Output.TABLE) -> None:
    """Show which keys are in use, by name, and what none of them opens. Exit code 1 where something is not opened.

    Needs the service's environment (TONGDA_DATABASE_URL, TONGDA_SECRET_KEY), or a service of ./scripts/run."""
    box, found = _with_database(look)
    if output is Output.JSON:
        _print({"current": box.key_id, "others": sorted(box.other_ids), **asdict(found)})
    else:
        typer.echo("\n".join(clean(line) for line in _status(box, found)))
    if found.unopened:
        raise typer.Exit(FAILED)


@app.command("rotate")
def rotate_keys(*, output: OutputOption = Output.TABLE) -> None:
    """Seal by TONGDA_SECRET_KEY what TONGDA_OTHER_SECRET_KEYS have sealed. It may be stopped, and run again.

    Exit code 1 while anything is left that another key has sealed: then none of those keys may be taken away."""

    async def rotated(repository: SealedRepository, box: CredentialBox) -> Rotated:
        return await rotate(repository, box, tell=lambda done: print(f"sealed anew: {done}", file=sys.stderr))

    box, done = _with_database(rotated)
    if output is Output.JSON:
        _print({"current": box.key_id, **asdict(done)})
    else:
        typer.echo("\n".join(clean(line) for line in _rotated(box, done)))
    if done.left:
        raise typer.Exit(FAILED)


def _with_database(
    work: Callable[[SealedRepository, CredentialBox], Awaitable[T]],
) -> tuple[CredentialBox, T]:
    settings, findings = settings_of(os.environ)
    if settings is None:
        _refused(findings[0].says)
    key = secret_key_of(settings)
    if not key:
        _refused(f"There is no secret key: {KEY_MISSING}.")
    box = CredentialBox(key, others=settings.other_keys)
    try:
        return box, asyncio.run(_asked(settings, box, work))
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _refused(f"PostgreSQL cannot be used: {type(error).__name__}. Set TONGDA_DATABASE_URL to where it is.")


async def _asked(
    settings: Settings, box: CredentialBox, work: Callable[[SealedRepository, CredentialBox], Awaitable[T]]
) -> T:
    url = settings.database_url.get_secret_value()
    connection = await asyncpg.connect(url, timeout=ANSWER_S, command_timeout=ANSWER_S)
    try:
        return await work(SealedRepository(connection), box)
    finally:
        connection.terminate()


def _status(box: CredentialBox, found: Looked) -> list[str]:
    lines = [f"{key_id}  {_kind(box, key_id)}  {count}" for key_id, count in sorted(found.counts.items())]
    if box.key_id not in found.counts:
        lines.insert(0, f"{box.key_id}  TONGDA_SECRET_KEY  0")
    lines += [f"{one}  other, seals nothing: it may be taken away" for one in sorted(box.other_ids - set(found.counts))]
    return lines + _not_opened(found.unopened)


def _kind(box: CredentialBox, key_id: str) -> str:
    if key_id == box.key_id:
        return "TONGDA_SECRET_KEY"
    return "other" if key_id in box.other_ids else "unknown"


def _rotated(box: CredentialBox, done: Rotated) -> list[str]:
    lines = [f"sealed anew by {box.key_id}: {done.resealed}", f"left: {done.left}"]
    if done.left > len(done.unopened):
        lines.append(
            "Some process seals with another key still: restart it with this TONGDA_SECRET_KEY, and run this again."
        )
    return lines + _not_opened(done.unopened)


def _not_opened(unopened: Sequence[Unopened]) -> list[str]:
    if not unopened:
        return []
    named = [f"  {one.id} of {one.tenant}, sealed by {one.key_id or 'an unnamed key'}" for one in unopened[:MOST_NAMED]]
    more = [f"  and {len(unopened) - MOST_NAMED} more"] if len(unopened) > MOST_NAMED else []
    return [f"cannot be opened: {len(unopened)}", *named, *more, f"→ {GIVE_AGAIN}"]


def _print(body: dict[str, Any]) -> None:
    typer.echo(json.dumps(body, ensure_ascii=False))


def _refused(says: str) -> NoReturn:
    print(clean(says), file=sys.stderr)
    raise typer.Exit(FAILED)
