"""`doctor`, with all well and with things broken on purpose."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from cli.tongda import checks_here, checks_servers, checks_workers
from cli.tongda.finding import State
from infra.postgres.condition import Condition, revisions
from infra.postgres.tenants.worker_signs import Sign, name_of
from infra.settings import Settings
from tests.cli.conftest import Cli, Said, tongda
from workers.roles import Role
from workers.schedules import SWEEP_SCHEDULE, sync

NOWHERE = "127.0.0.1:9"


@contextmanager
def mail_server() -> Iterator[int]:
    """Answers EHLO without STARTTLS; its port."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as stream:
                stream.write(b"220 here\r\n")
                while line := stream.readline():
                    stream.write(b"221 bye\r\n" if line.lower().startswith(b"quit") else b"250 here\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def examined(environment: dict[str, str]) -> tuple[Said, dict[str, tuple[str, str, str]]]:
    said = tongda("doctor", "-o", "json", environment=environment)
    return said, {i["check"]: (i["state"], i["says"], i["do"]) for i in json.loads(said.out)["items"]}


@pytest.fixture
def environment(cli: Cli, tmp_path: Path) -> dict[str, str]:
    """Everything that does not run is at an address where nobody listens."""
    return {
        **cli.environment(), "TONGDA_HOME": str(tmp_path), "TONGDA_DATABASE_URL": cli.database,
        "TONGDA_TEMPORAL_ADDRESS": NOWHERE, "TONGDA_SMTP_HOST": "127.0.0.1", "TONGDA_SMTP_PORT": "9",
        "TONGDA_SMTP_SECURITY": "none", "TONGDA_SECRET_KEY": "x" * 32,
    }  # fmt: skip


async def _prepare(address: str) -> None:
    from infra.temporal import connect

    await sync(await connect(Settings(temporal_address=address)))


async def _sign(database: str, *, lanes: str = "high,medium,low,housekeeping", silent_s: float = 0) -> None:
    """As a worker process does, so long ago; those before are forgotten."""
    connection = await asyncpg.connect(database)
    await connection.execute("DELETE FROM worker")
    await connection.execute(
        "INSERT INTO worker (process, name, accounts_version, at) VALUES ($1, $2, 0, now() - $3::interval)",
        uuid4(),
        name_of("host:4711", lanes=lanes.split(",")),
        timedelta(seconds=silent_s),
    )
    await connection.close()


@pytest.fixture
def a_worker(cli: Cli) -> Iterator[None]:
    """One of every lane has just given a sign; none is there afterwards."""
    asyncio.run(_sign(cli.database))
    yield
    asyncio.run(_sign(cli.database, silent_s=3600))


@pytest.mark.usefixtures("a_worker")
def test_all_is_well(environment: dict[str, str], temporal_address: str) -> None:
    asyncio.run(_prepare(temporal_address))
    with mail_server() as port:
        said, found = examined({**environment, "TONGDA_TEMPORAL_ADDRESS": temporal_address, "TONGDA_SMTP_PORT": str(port)})
    assert said.code == 0, found
    assert {check for check, (state, *_) in found.items() if state != "ok"} == {"Cassandra", "directory"}
    assert "roles: owner" in found["key"][1]
    assert found["sweep"][0] == "ok"


@pytest.mark.usefixtures("a_worker")
def test_what_is_away_is_named_with_what_to_do(environment: dict[str, str]) -> None:
    said, found = examined(environment)
    assert said.code == 1
    assert {check for check, (state, *_) in found.items() if state == "failed"} == {"Temporal", "SMTP"}
    assert "TONGDA_TEMPORAL_ADDRESS" in found["Temporal"][2]
    assert "TONGDA_SMTP_HOST" in found["SMTP"][2]


@pytest.mark.usefixtures("a_worker")
def test_workers_that_stand_still_are_missed(cli: Cli, environment: dict[str, str]) -> None:
    """A stopped process writes no log and ends no connection: only its silence tells."""
    asyncio.run(_sign(cli.database, silent_s=25))
    state, says, do = examined(environment)[1]["workers"]
    assert state == "failed"
    assert "none of lanes high, medium, low, housekeeping has been heard of for 2" in says
    assert "python -m workers --lanes high,medium,low,housekeeping" in do


@pytest.mark.usefixtures("a_worker")
def test_a_lane_without_a_worker_is_missed(cli: Cli, environment: dict[str, str]) -> None:
    asyncio.run(_sign(cli.database, lanes="medium,low,housekeeping"))
    state, says, do = examined(environment)[1]["workers"]
    assert (state, says) == ("failed", "none of lane high has been heard of")
    assert "`python -m workers --lanes high`" in do


def test_the_lanes_are_the_workers_own_and_an_older_worker_may_serve_any() -> None:
    assert tuple(Role) == checks_workers.LANES
    assert checks_workers.judged([Sign("host:1", timedelta(seconds=3), None)]).state is State.OK


def test_no_database_no_api_no_secret_shown(environment: dict[str, str]) -> None:
    broken = {
        **environment,
        "TONGDA_DATABASE_URL": f"postgresql://tongda:hunter2@{NOWHERE}/tongda",
        "TONGDA_API_URL": f"http://{NOWHERE}",
        "TONGDA_SECRET_KEY": "",
    }
    said, found = examined(broken)
    assert said.code == 1
    assert found["PostgreSQL"][0] == found["API"][0] == "failed"
    assert found["settings"][0] == "warning"
    assert found["migrations"][0] == "skipped"
    assert "hunter2" not in said.out + said.err
    assert broken["TONGDA_API_KEY"] not in said.out
    assert "→" in tongda("doctor", environment=broken).out


def test_settings_that_are_refused(environment: dict[str, str]) -> None:
    said, found = examined({**environment, "TONGDA_API_PORT": "eighty"})
    assert said.code == 1
    assert "TONGDA_API_PORT" in found["settings"][1]


def test_a_key_that_is_revoked_and_one_that_may_only_read(cli: Cli, environment: dict[str, str]) -> None:
    assert "not for this key" in examined({**environment, "TONGDA_API_KEY": cli.keys["viewer"]})[1]["key"][1]
    assert examined({**environment, "TONGDA_API_KEY": "tk_wrong"})[1]["key"][0] == "failed"


def test_who_only_uses_the_api_needs_no_servers(cli: Cli) -> None:
    said, found = examined(cli.environment())
    assert said.code == 0
    assert found["PostgreSQL"][0] == "skipped"


async def test_an_empty_database_wants_migrations(postgres_url: str) -> None:
    found = {f.check: f for f in await checks_servers.check_postgres(Settings(database_url=postgres_url))}  # type: ignore[arg-type]
    assert found["migrations"].state is State.FAILED
    assert "infra.postgres.migrate" in found["migrations"].do
    assert found["partitions"].state is State.SKIPPED


async def test_partitions_that_run_out_and_a_newer_database(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE alembic_version SET version_num = 'later'")
    names = await connection.fetch(
        "SELECT inhrelid::regclass::text AS n FROM pg_inherits WHERE inhparent = 'event'::regclass"
    )
    for row in names:
        await connection.execute(f"DROP TABLE {row['n']}")
    await connection.close()
    found = {f.check: f for f in await checks_servers.check_postgres(Settings(database_url=database))}  # type: ignore[arg-type]
    assert found["migrations"].state is State.WARNING
    assert found["partitions"].state is State.FAILED


def test_clocks_that_differ() -> None:
    now = datetime.now(UTC)
    there = Condition(17, now + timedelta(minutes=2), revisions()[0], timedelta(days=9))
    assert checks_servers._clock(there, asked=now, answered=now).state is State.FAILED
    slow = checks_servers._clock(there, asked=now, answered=now + timedelta(minutes=3))
    assert slow.state is State.OK, "a slow answer is no wrong clock"


async def test_a_mail_server_without_starttls() -> None:
    with mail_server() as port:
        found = await checks_servers.check_mail(Settings(smtp_host="127.0.0.1", smtp_port=port))
    assert found.state is State.FAILED
    assert "STARTTLS" in found.says


async def test_each_mail_server_of_several_is_looked_at() -> None:
    with mail_server() as port:
        plain = f'{{"name": "a", "host": "127.0.0.1", "port": {port}, "security": "none"}}'
        secure = f'{{"name": "b", "host": "127.0.0.1", "port": {port}}}'
        good = await checks_servers.check_mail(Settings(email_accounts=SecretStr(f"[{plain}]")))
        bad = await checks_servers.check_mail(Settings(email_accounts=SecretStr(f"[{plain}, {secure}]")))
    assert good.state is State.OK
    assert bad.state is State.FAILED
    assert "b (127.0.0.1" in bad.says
    assert "TONGDA_EMAIL_ACCOUNTS" in bad.do


async def test_a_namespace_that_is_missing(temporal_address: str) -> None:
    settings = Settings(temporal_address=temporal_address, temporal_namespace="nobody")
    found = {f.check: f for f in await checks_servers.check_temporal(settings)}
    assert found["Temporal"].state is State.OK
    assert found["namespace"].state is State.FAILED
    assert "--namespace nobody" in found["namespace"].do


def test_the_sweep_is_the_workers_own() -> None:
    assert checks_servers.SWEEP == SWEEP_SCHEDULE


def test_disk_and_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1024))
    assert checks_here.check_disk().state is State.FAILED
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(api_port=taken.getsockname()[1])
        assert checks_here.check_ports(settings, api_answers=False).state is State.WARNING
    assert checks_here.check_ports(settings, api_answers=True).state is State.OK


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            b'{"ready": false, "dependencies": {"postgres": {"ready": false, "reason": "cannot be reached"}}}',
            "postgres cannot",
        ),
        (b"<html>", "is not Tongda"),
    ],
)
def test_an_api_that_is_not_ready_and_something_else(tmp_path: Path, body: bytes, says: str) -> None:
    class Away(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with HTTPServer(("127.0.0.1", 0), Away) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        environment = {"TONGDA_API_URL": f"http://127.0.0.1:{server.server_port}", "TONGDA_API_KEY": "tk_x"}
        said, found = examined({**environment, "TONGDA_HOME": str(tmp_path)})
        server.shutdown()
        thread.join(5)
    assert said.code == 1
    assert says in found["API"][1]


async def test_a_postgresql_that_stands_still_is_not_told_to_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen machine takes the connection and says nothing."""
    monkeypatch.setattr(checks_servers, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as still:
        port = still.getsockname()[1]
        settings = Settings(database_url=SecretStr(f"postgresql://tongda:hunter2@127.0.0.1:{port}/tongda"))
        found = await checks_servers.check_postgres(settings)
    assert f"no answer from 127.0.0.1:{port} within" in found[0].says
    assert found[0].do.startswith("it runs, or its machine stands still")
    assert "hunter2" not in str(found)
    assert {one.state for one in found[1:]} == {State.SKIPPED}


def test_where_no_service_runs_it_says_what_is_looked_at(tmp_path: Path, environment: dict[str, str]) -> None:
    said = [checks_here.settings_of(given)[1][0].says for given in ({"TONGDA_HOME": str(tmp_path)}, environment)]
    assert ["no service runs here" in one for one in said] == [True, False]
