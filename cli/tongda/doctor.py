"""`doctor`: looks at every dependency and setting, and says what to do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import typer

from cli.tongda import checks_here as here
from cli.tongda.checks_providers import check_providers
from cli.tongda.client import FAILED
from cli.tongda.finding import Finding, State
from cli.tongda.show import Output, OutputOption, clean
from infra.settings import Settings

MARKS: Final = {State.OK: "✓", State.WARNING: "!", State.FAILED: "✗", State.SKIPPED: "·"}
SERVERS: Final = ("PostgreSQL", "workers", "Temporal", "SMTP", "Cassandra", "directory")


def doctor(*, output: OutputOption = Output.TABLE) -> None:
    """Check settings, API, key, accounts, servers, workers, mail, directory, clock, disk and ports. Exit code 1 when
    anything failed."""
    found = examine()
    good = not any(finding.state is State.FAILED for finding in found)
    if output is Output.JSON:
        typer.echo(json.dumps({"ok": good, "items": [asdict(finding) for finding in found]}, ensure_ascii=False))
    else:
        typer.echo("\n".join(_line(finding) for finding in found))
    if not good:
        raise typer.Exit(FAILED)


def examine() -> list[Finding]:
    """Every check, in the order in which things depend on each other."""
    settings, found = here.settings_of(os.environ)
    api = list(here.check_api())
    found += api
    if api[-1].check == "key" and api[-1].state is State.OK:
        found += check_providers()
    if not here.serves_here(os.environ):
        found += here.not_here(*SERVERS)
    elif settings is not None:
        found += asyncio.run(_servers(settings))
    found.append(here.check_disk())
    if settings is not None and here.serves_here(os.environ):
        found.append(here.check_ports(settings, api_answers=len(api) > 1))
    return found


async def _servers(settings: Settings) -> Sequence[Finding]:
    from cli.tongda import checks_servers as servers
    from cli.tongda.checks_directory import check_directory
    from cli.tongda.checks_sealed import check_sealed
    from cli.tongda.checks_workers import check_workers

    facts = here.facts_of(os.environ) or {}
    own_mail = any(os.environ.get(f"TONGDA_SMTP_{name}") for name in ("HOST", "PORT"))
    sandbox_url = "" if own_mail else str(facts.get("sandbox_url") or "")
    workers = asyncio.create_task(check_workers(settings))
    postgres, sealed, temporal, mail, cassandra, directory = await asyncio.gather(
        servers.check_postgres(settings),
        check_sealed(settings),
        servers.check_temporal(settings),
        servers.check_mail(settings, sandbox_url=sandbox_url),
        servers.check_cassandra(settings),
        check_directory(settings),
    )
    return [*postgres, await workers, *sealed, *temporal, mail, *cassandra, directory]


def _line(finding: Finding) -> str:
    line = clean(f"{MARKS[finding.state]} {finding.check:18} {finding.says}")
    return f"{line}\n  {'':18} → {clean(finding.do)}" if finding.do else line
