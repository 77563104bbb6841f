"""Provider accounts of tenants as rows. Settings and secrets come and go as they are stored: who opens them is
`activities.accounts.making`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.errors import Conflict, NotFound
from infra.postgres.tables import provider_account as account

MOST_ACCOUNTS = 100
"""In one tenant: every worker process holds them all."""
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_END = 8

_RAISE = "UPDATE provider_change SET version = version + 1 WHERE id = 1"
"""Its lock puts writers in a row, so that versions are seen in the order in which they were given."""
_VERSION = "SELECT version FROM provider_change WHERE id = 1"


@dataclass(frozen=True, slots=True)
class Placing:
    """Where an account stands among the others of its channel."""

    order: int = 0
    cost: float = 0.0
    weight: int = 1
    rate_per_second: float | None = None
    receipt_within: timedelta | None = None


@dataclass(frozen=True, slots=True)
class StoredAccount:
    id: str
    tenant: str
    name: str
    provider: str
    settings: Mapping[str, Any]
    sealed: bytes | None
    """Its secrets, encrypted (`infra.credentials`)."""
    key_id: str | None
    """Under which key; None where there are no secrets."""
    placing: Placing
    paused_at: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"StoredAccount({self.id!r})"


_COLUMNS = tuple(account.c)
_PLACING = {"order": "place"}
"""Field -> column, where they differ."""


def new_id(name: str) -> str:
    """Readable in a timeline, and not to be guessed: `work.account` and permits are keyed by it, for all tenants."""
    return f"{name}-{''.join(secrets.choice(_ALPHABET) for _ in range(_ID_END))}"


class ProviderAccountRepository:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, connection: AsyncConnection, tenant: str, account_id: str, *, values: Mapping[str, Any], placing: Placing
    ) -> StoredAccount:
        """In the caller's transaction; `values` are the columns name, provider, settings, sealed and key_id.
        Raises Conflict (`provider_exists`, `provider_limit`)."""
        await connection.execute(text(_RAISE))
        count = select(func.count()).select_from(account).where(account.c.tenant == tenant)
        if (await connection.execute(count)).scalar_one() >= MOST_ACCOUNTS:
            raise Conflict(f"A tenant has at most {MOST_ACCOUNTS} provider accounts.", code="provider_limit")
        new = insert(account).values(id=account_id, tenant=tenant, **values, **_columns_of(placing))
        row = (await connection.execute(new.on_conflict_do_nothing().returning(*_COLUMNS))).first()
        if row is None:
            raise _taken()
        return _stored(row)

    async def get(self, tenant: str, account_id: str) -> StoredAccount:
        """Raises NotFound."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(*_COLUMNS).where(*_is(tenant, account_id)))).first()
        return _found(row)

    async def whosesoever(self, account_id: str) -> StoredAccount | None:
        """For what no tenant asks for: its receipts."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(*_COLUMNS).where(account.c.id == account_id))).first()
        return None if row is None else _stored(row)

    async def listed(self, tenant: str) -> list[StoredAccount]:
        """All of a tenant's, by id."""
        query = select(*_COLUMNS).where(account.c.tenant == tenant).order_by(account.c.id)
        async with self._engine.connect() as connection:
            return [_stored(row) for row in await connection.execute(query)]

    async def change(
        self, tenant: str, account_id: str, *, seen: int, values: Mapping[str, Any], placing: Placing
    ) -> StoredAccount | None:
        """As the account was decided upon when its version was `seen`; None where somebody else has changed it since.
        Raises NotFound, Conflict (`provider_exists`)."""
        statement = (
            update(account)
            .where(*_is(tenant, account_id), account.c.version == seen)
            .values(**values, **_columns_of(placing), version=account.c.version + 1, updated_at=func.now())
        )
        try:
            async with self._engine.begin() as connection:
                await connection.execute(text(_RAISE))
                row = (await connection.execute(statement.returning(*_COLUMNS))).first()
        except IntegrityError:
            raise _taken() from None
        if row is None:
            await self.get(tenant, account_id)
            return None
        return _stored(row)

    async def pause(self, tenant: str, account_id: str, *, paused: bool) -> StoredAccount:
        """Or resume. Asking again changes nothing. Raises NotFound."""
        differs = account.c.paused_at.is_(None) if paused else account.c.paused_at.is_not(None)
        values = {"paused_at": func.now() if paused else None, "version": account.c.version + 1, "updated_at": func.now()}
        statement = update(account).where(*_is(tenant, account_id), differs).values(values)
        async with self._engine.begin() as connection:
            await connection.execute(text(_RAISE))
            await connection.execute(statement)
            row = (await connection.execute(select(*_COLUMNS).where(*_is(tenant, account_id)))).first()
            return _found(row)

    async def remove(self, tenant: str, account_id: str) -> None:
        """Its secrets go with it. Raises NotFound."""
        async with self._engine.begin() as connection:
            await connection.execute(text(_RAISE))
            gone = delete(account).where(*_is(tenant, account_id)).returning(account.c.id)
            if (await connection.execute(gone)).first() is None:
                raise _missing()

    async def version(self) -> int:
        """Of all accounts together: raised with each change."""
        async with self._engine.connect() as connection:
            return int((await connection.execute(text(_VERSION))).scalar_one())

    async def all(self) -> tuple[int, Sequence[StoredAccount]]:
        """(version, every tenant's accounts), of one moment or with later changes among them."""
        async with self._engine.connect() as connection:
            version = int((await connection.execute(text(_VERSION))).scalar_one())
            rows = await connection.execute(select(*_COLUMNS).order_by(account.c.id))
            return version, [_stored(row) for row in rows]


def _is(tenant: str, account_id: str) -> tuple[Any, ...]:
    return (account.c.tenant == tenant, account.c.id == account_id)


def _columns_of(placing: Placing) -> dict[str, Any]:
    return {_PLACING.get(name, name): getattr(placing, name) for name in Placing.__slots__}


def _missing() -> NotFound:
    return NotFound("There is no provider account with this id.")


def _taken() -> Conflict:
    return Conflict("A provider account of this name exists.", code="provider_exists")


def _found(row: Any) -> StoredAccount:
    if row is None:
        raise _missing()
    return _stored(row)


def _stored(row: Any) -> StoredAccount:
    return StoredAccount(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        provider=row.provider,
        settings=row.settings,
        sealed=None if row.sealed is None else bytes(row.sealed),
        key_id=row.key_id,
        placing=Placing(row.place, row.cost, row.weight, row.rate_per_second, row.receipt_within),
        paused_at=row.paused_at,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
