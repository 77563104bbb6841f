"""`providers`, and what `doctor` says of accounts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.cli.conftest import Cli
from tests.cli.test_doctor import examined

SENDER = ("--setting", "sender=Acme <notify@acme.example>")


@pytest.fixture
async def no_accounts(cli: Cli) -> AsyncIterator[None]:
    """Before and after: the API is shared with all tests of the command line."""
    connection = await asyncpg.connect(cli.database)
    await connection.execute("DELETE FROM provider_account")
    yield
    await connection.execute("DELETE FROM provider_account")
    await connection.close()


@pytest.mark.usefixtures("no_accounts")
def test_an_account_from_its_types_to_its_end(cli: Cli) -> None:
    types = cli("providers", "types").out
    assert "host*" in types
    assert "secret" in types
    log_in = ("--setting", "username=tongda", "--secret", "password")
    named = ("--name", "relay", "--provider", "smtp", "--order", "1")
    made = cli("providers", "add", *named, "--setting", "host=mail.example.com", *SENDER, *log_in, "-o", "json",
               given="hunter2-hunter2\n")  # fmt: skip
    assert made.code == 0, made.err
    assert "hunter2" not in made.out
    account = json.loads(made.out)
    assert (account["secrets"], account["order"]) == (["password"], 1)
    assert account["id"] in cli("providers", "list").out
    assert "smtp-default" in cli("providers", "list").out
    moved = cli("providers", "change", account["id"], "--rate", "20", "--setting", "connections=4", "-o", "json")
    assert json.loads(moved.out)["settings"]["connections"] == 4
    assert "paused" in cli("providers", "pause", account["id"]).out
    assert "no worker runs" in cli("providers", "health", account["id"]).out
    assert json.loads(cli("providers", "resume", account["id"], "-o", "json").out)["state"] == "active"
    assert cli("providers", "show", account["id"], role="viewer").code == 0
    assert cli("providers", "pause", account["id"], role="viewer").code == 1
    assert cli("providers", "remove", account["id"], given="n\n").code == 1
    assert cli("providers", "remove", account["id"], "--yes").code == 0
    assert cli("providers", "show", account["id"]).code == 1


@pytest.mark.usefixtures("no_accounts")
def test_a_secret_is_not_taken_from_the_command_line(cli: Cli) -> None:
    """It would stand in the shell's history and in the list of processes."""
    said = cli("providers", "add", "--name", "relay", "--provider", "smtp", "--setting", "password=hunter2")
    assert said.code == 2
    assert "--secret password" in said.err.replace("\n", " ").replace("│", "")


@pytest.mark.usefixtures("no_accounts")
def test_what_does_not_work_is_said_by_test_and_by_doctor(cli: Cli, tmp_path: Path) -> None:
    environment = {**cli.environment(), "TONGDA_HOME": str(tmp_path)}
    assert examined(environment)[1]["provider accounts"][0] == "ok"
    named = ("--name", "relay", "--provider", "smtp")
    made = cli("providers", "add", *named, "--setting", "host=localhost", *SENDER, "-o", "json")
    account = json.loads(made.out)["id"]
    tried = cli("providers", "test", account)
    assert tried.code == 1
    assert "network that is not connected to" in tried.out
    state, says, do = examined(environment)[1]["provider accounts"]
    assert state == "failed"
    assert "target_address" in says
    assert "providers change" in do
    cli("providers", "pause", account)
    assert examined(environment)[1]["provider accounts"][0] == "warning"


@pytest.mark.usefixtures("no_accounts")
async def test_trouble_with_the_installations_accounts_is_said_by_doctor(cli: Cli, tmp_path: Path) -> None:
    connection = await asyncpg.connect(cli.database)
    process = uuid4()
    await connection.execute("INSERT INTO worker (process, name, accounts_version, at) VALUES ($1, 'w', 0, now())", process)
    await connection.execute(
        "INSERT INTO account_health (account, process, circuit, slow_share, in_flight, slots, failed_at, failure, at)"
        " VALUES ('smtp-default', $1, 'open', 0, 0, 16, now(), 'RETRY connect_failed', now())",
        process,
    )
    environment = {**cli.environment(), "TONGDA_HOME": str(tmp_path)}
    said, found = await asyncio.to_thread(examined, environment)
    await connection.execute("DELETE FROM account_health")
    await connection.execute("DELETE FROM worker WHERE process = $1", process)
    await connection.close()
    state, says, do = found["provider accounts"]
    assert (said.code, state) == (1, "failed")
    assert "smtp-default" in says
    assert "RETRY connect_failed" in says
    assert "providers health smtp-default" in do
