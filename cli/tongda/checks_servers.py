"""What `doctor` looks at beside the API: PostgreSQL, Temporal, the mail server, Cassandra. Reads only, with time-outs."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx

from cli.tongda.finding import Finding, State, failed, ok, skipped, warning
from infra.email_accounts import DEFAULT_NAME, EmailAccount
from infra.postgres.condition import OLDEST_VERSION, Condition, look, revisions
from infra.settings import Settings

ANSWER_S: Final = 5.0
MOST_SKEW: Final = timedelta(seconds=1)
LEAST_AHEAD: Final = timedelta(days=7)
SWEEP: Final = "tongda-sweep"
"""`workers.schedules.SWEEP_SCHEDULE`; a test compares."""
MIGRATE: Final = "run `python -m infra.postgres.migrate`"
HOUSEKEEPING: Final = "start a worker with `python -m workers --lanes housekeeping`: it makes them within 30 s"


STILL: Final = (
    "it runs, or its machine stands still: look at its disk and load; if it does not run, start it (`scripts/tongda up` "
    "brings its own)"
)


def _place(settings: Settings) -> str:
    """host:port, without what else the address holds."""
    try:
        parts = urlsplit(settings.database_url.get_secret_value())
        return f"{parts.hostname or 'its socket'}:{parts.port or 5432}"
    except ValueError:
        return "the address of TONGDA_DATABASE_URL"


async def check_postgres(settings: Settings) -> list[Finding]:
    """Reached, its version; migrations; partitions; clocks."""
    rest = ("migrations", "partitions", "clock")
    try:
        async with asyncio.timeout(ANSWER_S):
            connection = await asyncpg.connect(settings.database_url.get_secret_value())
    except TimeoutError:
        unseen = [skipped(name, "PostgreSQL does not answer") for name in rest]
        return [failed("PostgreSQL", f"no answer from {_place(settings)} within {ANSWER_S:.0f} s", do=STILL), *unseen]
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        said = str(error) if isinstance(error, asyncpg.PostgresError) else type(error).__name__
        do = "start PostgreSQL (`scripts/tongda up` brings its own), or set TONGDA_DATABASE_URL to where it is"
        unseen = [skipped(name, "PostgreSQL cannot be reached") for name in rest]
        return [failed("PostgreSQL", f"cannot be used: {said}", do=do), *unseen]
    try:
        asked = datetime.now(UTC)
        async with asyncio.timeout(ANSWER_S):
            found = await look(connection)
        answered = datetime.now(UTC)
    except TimeoutError:
        return [failed("PostgreSQL", f"no answer from {_place(settings)} within {ANSWER_S:.0f} s", do=STILL)]
    except (OSError, asyncpg.PostgresError) as error:
        return [failed("PostgreSQL", f"does not answer questions: {type(error).__name__}", do="see its log")]
    finally:
        connection.terminate()
    return [_version(found), _migrations(found), _partitions(found), _clock(found, asked=asked, answered=answered)]


def _version(found: Condition) -> Finding:
    if found.major_version < OLDEST_VERSION:
        do = f"use PostgreSQL {OLDEST_VERSION} or newer"
        return failed("PostgreSQL", f"version {found.major_version} is too old", do=do)
    return ok("PostgreSQL", f"version {found.major_version}")


def _migrations(found: Condition) -> Finding:
    known = revisions()
    if found.revision == known[0]:
        return ok("migrations", f"current ({found.revision})")
    if found.revision is None:
        return failed("migrations", "none was applied", do=MIGRATE)
    if found.revision in known:
        return failed("migrations", f"at {found.revision}, this version needs {known[0]}", do=MIGRATE)
    says = f"{found.revision} is not of this version: the database is newer"
    return warning("migrations", says, do="bring this checkout to the version of the database")


def _partitions(found: Condition) -> Finding:
    ahead = found.partitions_ahead
    if found.revision is None:
        return skipped("partitions", "migrations come first")
    if ahead is None or ahead < timedelta():
        return failed("partitions", "there is none for now: rows go to the default partition", do=MIGRATE)
    says = f"made for {ahead.days} days ahead"
    if ahead < LEAST_AHEAD:
        return warning("partitions", says, do=f"{MIGRATE}; see that a worker with the lane housekeeping runs and sweeps")
    return ok("partitions", says)


def _clock(found: Condition, *, asked: datetime, answered: datetime) -> Finding:
    """The server read its clock between `asked` and `answered`, so what lies outside is the least skew there can be."""
    skew = max(asked - found.now, found.now - answered, timedelta())
    says = f"differs from PostgreSQL's by {skew.total_seconds():.1f} s or a little more"
    if skew > MOST_SKEW:
        return failed("clock", says, do="let NTP (chrony, systemd-timesyncd) set the clocks of both machines")
    return ok("clock", "agrees with PostgreSQL's")


async def check_temporal(settings: Settings) -> list[Finding]:
    """Reached; namespace; search attributes; the sweep's schedule."""
    from temporalio.service import RPCError  # the SDK takes half a second to import

    from infra.temporal import connect

    rest = ("namespace", "search attributes", "sweep")
    try:
        async with asyncio.timeout(ANSWER_S):
            client = await connect(settings)
    except (RuntimeError, TimeoutError, ValueError):
        do = "start Temporal (`scripts/tongda up` brings its own), or set TONGDA_TEMPORAL_ADDRESS to its frontend"
        unseen = [skipped(name, "Temporal cannot be reached") for name in rest]
        return [failed("Temporal", f"no answer at {settings.temporal_address}", do=do), *unseen]
    reached = ok("Temporal", f"answers at {settings.temporal_address}")
    try:
        async with asyncio.timeout(3 * ANSWER_S):
            return [reached, *await _inside(client, settings)]
    except (RPCError, TimeoutError) as error:
        return [reached, failed("namespace", f"a question failed: {type(error).__name__}", do="see Temporal's log")]


async def _inside(client: Any, settings: Settings) -> list[Finding]:
    """Raises RPCError."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.service import RPCError, RPCStatusCode

    from infra.temporal import SEARCH_ATTRIBUTES

    name = settings.temporal_namespace
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=name))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        do = f"`temporal operator namespace create --namespace {name}`, or set TONGDA_TEMPORAL_NAMESPACE"
        unseen = [skipped(check, "the namespace comes first") for check in ("search attributes", "sweep")]
        return [failed("namespace", f"there is no namespace {name}", do=do), *unseen]
    listed = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=name))
    missing = [attribute for attribute in SEARCH_ATTRIBUTES if attribute not in listed.custom_attributes]
    attributes = ok("search attributes", "registered")
    if missing:
        attributes = failed("search attributes", f"missing: {', '.join(missing)}", do=HOUSEKEEPING)
    return [ok("namespace", name), attributes, await _sweep(client)]


async def _sweep(client: Any) -> Finding:
    """Raises RPCError."""
    from temporalio.service import RPCError, RPCStatusCode

    try:
        schedule = await client.get_schedule_handle(SWEEP).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return failed("sweep", f"there is no schedule {SWEEP}: what is lost stays lost", do=HOUSEKEEPING)
    if schedule.schedule.state.paused:
        return failed(
            "sweep", f"the schedule {SWEEP} is paused", do=f"unpause it: `temporal schedule toggle --unpause -s {SWEEP}`"
        )
    return ok("sweep", f"the schedule {SWEEP} is there")


async def check_mail(settings: Settings, *, sandbox_url: str = "") -> Finding:
    """Each server answers EHLO, over TLS where that is wanted. `sandbox_url`: where the sandbox stands in for it."""
    if sandbox_url:
        return await _check_sandbox(sandbox_url)
    found = [await _check_mail_server(one) for one in settings.mail_servers]
    bad = [one for one in found if one.state is State.FAILED]
    if bad or len(found) == 1:
        return (bad or found)[0]
    return ok("SMTP", f"all {len(found)} servers answer EHLO")


async def _check_mail_server(one: EmailAccount) -> Finding:
    where = f"{one.host}:{one.port}"
    do = "set TONGDA_SMTP_HOST, TONGDA_SMTP_PORT and TONGDA_SMTP_SECURITY to your mail server's"
    if one.name != DEFAULT_NAME:
        where, do = f"{one.name} ({where})", "mend its entry in TONGDA_EMAIL_ACCOUNTS"
    try:
        said = await asyncio.to_thread(_ehlo_blocking, one)
    except ssl.SSLError as error:
        return failed("SMTP", f"no TLS with {where}: {error.reason or type(error).__name__}", do=do)
    except smtplib.SMTPNotSupportedError:
        return failed("SMTP", f"{where} offers no STARTTLS", do=f"{do}; `none` only within a network that you trust")
    except (OSError, smtplib.SMTPException) as error:
        return failed("SMTP", f"{where} does not answer EHLO: {type(error).__name__}", do=do)
    return ok("SMTP", f"{where} answers EHLO{said}")


def _ehlo_blocking(one: EmailAccount) -> str:
    """What to say beside success. Raises OSError, SMTPException."""
    context = ssl.create_default_context()
    place: dict[str, Any] = {"host": one.host, "port": one.port, "timeout": ANSWER_S}
    with smtplib.SMTP_SSL(**place, context=context) if one.security == "tls" else smtplib.SMTP(**place) as server:
        server.ehlo_or_helo_if_needed()
        if one.security == "starttls":
            server.starttls(context=context)
            server.ehlo()
    return "" if one.security == "none" else " over TLS"


async def _check_sandbox(url: str) -> Finding:
    try:
        async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False) as client:
            (await client.get(f"{url}/healthz")).raise_for_status()
    except httpx.HTTPError as error:
        return failed("SMTP", f"the sandbox does not answer: {type(error).__name__}", do="start `scripts/tongda up` again")
    return ok("SMTP", f"the sandbox at {url} stands in for the mail server")


async def check_cassandra(settings: Settings) -> Sequence[Finding]:
    """Only where it is set; nothing needs it yet."""
    if not settings.cassandra_hosts:
        return [skipped("Cassandra", "TONGDA_CASSANDRA_HOSTS is not set, and nothing needs it yet")]
    from domain.errors import Unavailable
    from infra.cassandra.connection import Cassandra

    try:
        cassandra = await Cassandra.open(settings)
    except Unavailable as error:
        return [failed("Cassandra", str(error), do="start it, or set the TONGDA_CASSANDRA_* variables (docs/settings.md)")]
    await cassandra.close()
    return [ok("Cassandra", f"connected in data centre {settings.cassandra_datacenter}")]
