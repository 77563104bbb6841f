"""Whose fault an error of the database is."""

from __future__ import annotations

import asyncpg

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
)
"""The database cannot be reached or is in trouble: no row is to blame, and the same thing again may work."""
