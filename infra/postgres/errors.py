"""Whose fault an error of the database is."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

POISON: tuple[type[Exception], ...] = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)
"""One of the rows cannot be written; without it the statement works. Look for these first: what the driver refuses
before sending is an InterfaceError as well."""

AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.InternalServerError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""The database cannot be reached or is in trouble: no row is to blame, and the same thing again may work."""


SPENT: tuple[type[Exception], ...] = (asyncpg.InsufficientResourcesError,)
"""It is there and short of something: room on its disk, memory, connections. A statement that needs less may still work."""


HELD: tuple[type[Exception], ...] = (asyncpg.LockNotAvailableError,)
"""Another session keeps a lock for longer than anybody waits for one (`infra.postgres.database.LOCK_WAIT`)."""


def is_held(error: BaseException) -> bool:
    """True for the errors of `HELD`, SQLAlchemy's wrapping of them too."""
    return isinstance(_cause(error), HELD)


def _cause(error: BaseException) -> BaseException:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def is_away(error: BaseException) -> bool:
    """True for the errors of `AWAY`, SQLAlchemy's wrapping of them too."""
    return isinstance(_cause(error), (*AWAY, PoolTimeoutError)) and not isinstance(_cause(error), POISON)


def why_not(error: Exception) -> str:
    """Why it takes nothing, in words for operators."""
    if isinstance(error, asyncpg.DiskFullError):
        return "its disk is full"
    if isinstance(error, SPENT):
        return "is short of memory or connections"
    return "cannot be reached" if is_away(error) else "takes no COMMIT"
