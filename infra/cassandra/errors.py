"""Cassandra's absence and refusals in the words of the domain."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from cassandra import AuthenticationFailed, DriverException, InvalidRequest, OperationTimedOut, RequestExecutionException
from cassandra import Unavailable as TooFewReplicas
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage, ServerError

from domain.errors import Unavailable

_AWAY: tuple[type[BaseException], ...] = (
    NoHostAvailable,
    OperationTimedOut,
    TooFewReplicas,
    RequestExecutionException,
    ConnectionException,
    OverloadedErrorMessage,
    ServerError,
    OSError,
)


@contextmanager
def told() -> Iterator[None]:
    """Raises Unavailable instead of what the driver raises for a cluster that is away, slow, short of replicas, without our
    schema or not for us. The messages name nodes at most, never values."""
    try:
        yield
    except InvalidRequest as error:
        if not _lacks_schema(error):
            raise
        raise Unavailable(
            "Cassandra has no event table: run `python -m infra.cassandra.schema`.", code="schema_missing"
        ) from error
    except (NoHostAvailable, DriverException, ErrorMessage, OSError) as error:
        if _refused(error):
            raise Unavailable("Cassandra refuses the user name or the password.", code="refused") from error
        if not isinstance(error, _AWAY):
            raise
        raise Unavailable(f"Cassandra cannot do it now ({type(error).__name__}).") from error


def sockets_full(error: NoHostAvailable) -> bool:
    """A node is there, and has not yet read what it was sent before: this request was not sent, and may be in a moment."""
    return any(isinstance(reason, ConnectionBusy) for reason in _reasons(error))


def unknown_datacenter(name: str, *, seen: Collection[str]) -> Unavailable:
    """For a data centre that no node is in: every statement would fail, without saying why."""
    known = ", ".join(sorted(seen)) or "none"
    return Unavailable(f"TONGDA_CASSANDRA_DATACENTER: no node is in {name!r}; the cluster has: {known}.", code="datacenter")


def _lacks_schema(error: InvalidRequest) -> bool:
    said = str(error).lower()
    return "does not exist" in said or "unconfigured" in said


def _refused(error: BaseException) -> bool:
    causes = _reasons(error) if isinstance(error, NoHostAvailable) else ()
    return any(isinstance(one, AuthenticationFailed) for one in (error, *causes))


def _reasons(error: NoHostAvailable) -> Collection[BaseException]:
    """What each node that was tried said."""
    return tuple(error.errors.values() if isinstance(error.errors, dict) else error.errors)
