"""One-time codes: made, guessed and sent again, each in one transaction.

Order of locks: the otp row, the idempotency key, the notification, and last the counters, which many requests share and
which are therefore held for nothing but the COMMIT. The counters of wrong guesses come before the notification, since a
guess is not looked at before there is room for it: only guesses at codes of one recipient share those, and nothing else
locks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from domain.channels import Channel
from domain.errors import NotFound
from domain.ids import uuid7
from domain.otp import KEPT_FOR, MOST_ATTEMPTS, CodeState, Limit, ResendVerdict, Scope, Verdict, closed, resend, verify
from domain.timeline import EventType
from infra.otp_codes import Seed
from infra.postgres.accept.accepting import Key, insert, keep_key
from infra.postgres.accept.otp_limits import Counted, clear_guesses, count, forget_counters, guesses_of, hold, look
from infra.postgres.accept.row import Row
from infra.postgres.engine.cancelling import cancel_locked
from infra.postgres.engine.locks import Connection, lock_notifications, retried
from infra.postgres.engine.timeline import write_event

_INSERT = """
INSERT INTO otp (id, tenant, app, notification_id, purpose, locale, length, key_id, salt, code_hash, client, life,
                 expires_at, resend_at, recipients)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::interval, now() + $12::interval, $13, $14)"""

_LOCK = """
SELECT id, app, notification_id, purpose, length, key_id, salt, code_hash, client, recipients, life, expires_at, resend_at,
       attempts, sends, verified_at, now() AS now
FROM otp WHERE id = $1 AND tenant = $2 FOR UPDATE"""

_GUESSED = "UPDATE otp SET attempts = $2, verified_at = CASE WHEN $3 THEN now() END WHERE id = $1"

_RENEW = """
UPDATE otp SET sends = $2, notification_id = $3, key_id = $4, salt = $5, code_hash = $6, expires_at = $7, resend_at = $8,
    recipients = $9
WHERE id = $1"""

_SENDABLE = """
SELECT id, sends, salt, length, key_id, locale, expires_at - now() AS left FROM otp
WHERE id = $1 AND tenant = $2 AND notification_id = $3 AND verified_at IS NULL AND attempts < $4"""

_NOTIFICATION = "SELECT * FROM notification WHERE id = $1"

_ADDRESSES = """
SELECT channel, address FROM identity WHERE tenant = $1 AND person_id = $2 AND channel = ANY ($3::text[])
   AND EXISTS (SELECT FROM person WHERE tenant = $1 AND id = $2 AND state = 'active')
ORDER BY is_primary DESC, created_at, id"""

_FORGET = """
DELETE FROM otp WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM otp WHERE expires_at < now() - $1::interval ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A code as it is stored: what it is computed from, and its hash. Never the code."""

    seed: Seed
    key_id: str
    code_hash: bytes


@dataclass(frozen=True, slots=True)
class NewOtp:
    """A code that is to be made."""

    tenant: str
    app: str
    sealed: Sealed
    purpose: str
    locale: str
    life: timedelta
    cooldown: timedelta
    client: bytes | None
    """Keyed hash of the client's network."""
    recipients: tuple[bytes, ...]
    """Keyed hashes of whom it goes to: whose wrong guesses are counted together."""


@dataclass(frozen=True, slots=True)
class StoredOtp:
    """A row, its lock held."""

    state: CodeState
    sealed: Sealed
    app: str
    notification_id: UUID
    purpose: str
    life: timedelta
    client: bytes | None
    recipients: tuple[bytes, ...]
    """None of a code that the version before has made: its guesses count for its id alone."""
    now: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> StoredOtp:
        seed = Seed(row["id"], row["sends"], row["salt"], row["length"])
        used = row["verified_at"] is not None
        state = CodeState(row["expires_at"], row["resend_at"], row["attempts"], row["sends"], used)
        sealed = Sealed(seed, row["key_id"], row["code_hash"])
        return cls(
            state, sealed, row["app"], row["notification_id"], row["purpose"], row["life"], row["client"],
            tuple(row["recipients"] or ()), row["now"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sendable:
    """A code that may be put into its message, while it lives."""

    seed: Seed
    key_id: str
    locale: str
    left: timedelta
    """Of its life; nothing or less: it has expired."""


@dataclass(frozen=True, slots=True)
class Again:
    """What a resend stores: a notification and a code of its own."""

    row: Row
    sealed: Sealed
    counted: Sequence[Counted]
    recipients: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request to make or resend."""

    verdict: ResendVerdict
    wait: timedelta = timedelta(0)
    """With TOO_SOON."""
    body: bytes | None = None
    """With SENT: the answer; None when the Idempotency-Key was there before, and then nothing was done."""


Answer = Callable[[UUID, datetime, datetime], bytes]
"""(notification, expires_at, resend_at) -> body of the 202."""
Build = Callable[[StoredOtp, asyncpg.Record, dict[Channel, str], UUID], Again]
"""(the code, its last notification's row, the user's addresses, the new notification's id) -> what to store."""


class OtpRepository:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def addresses(self, tenant: str, user_id: str, *, channels: Sequence[Channel]) -> dict[Channel, str]:
        """The address that the plan will take on each of these channels; those without one are missing."""
        return await _addresses(self._pool, tenant, user_id, channels=channels)

    async def create(
        self,
        new: NewOtp,
        *,
        row: Row,
        counted: Sequence[Counted],
        guesses: Mapping[Scope, Limit],
        key: Key | None,
        answer: Answer,
    ) -> bytes | None:
        """Code, notification and work, counted, in one transaction: the answer, or None when the key is taken. Raises
        TooManyRequests, also where the recipient has no wrong guess left, and then nothing was stored or counted."""
        seed = new.sealed.seed

        async def unit(connection: Connection) -> bytes | None:
            now: datetime = await connection.fetchval("SELECT now()")
            body = answer(row.id, now + new.life, now + new.cooldown)
            if key is not None and not await keep_key(connection, replace(key, answer=body)):
                return None
            await look(connection, new.tenant, guesses_of(new.recipients, guesses))
            await connection.execute(
                _INSERT, seed.otp_id, new.tenant, new.app, row.id, new.purpose, new.locale, seed.length,
                new.sealed.key_id, seed.salt, new.sealed.code_hash, new.client, new.life, now + new.cooldown,
                new.recipients,
            )  # fmt: skip
            await insert(connection, row)
            await count(connection, new.tenant, counted)
            return body

        return await retried(self._pool, unit)

    async def verify(
        self, tenant: str, otp_id: UUID, *, fits: Callable[[Sealed], bool | None], guesses: Mapping[Scope, Limit]
    ) -> tuple[Verdict, int]:
        """One guess, under the locks of the row and of its recipients' wrong guesses: however many come at once, each is
        counted and one at most succeeds. Returns the verdict and the guesses that are left. `fits` says None where the key
        of that code is gone. Raises NotFound, and TooManyRequests where the recipients have no wrong guess left: then it
        was not asked whether this one fits, so that neither the answer nor its time tells.

        A right guess stops what is left of the notification; what is in flight at that moment, its timeline says.
        """

        async def unit(connection: Connection) -> tuple[Verdict, int]:
            stored = await _locked(connection, tenant, otp_id)
            end = closed(stored.state, now=stored.now)
            if end is not None:
                return end, stored.state.attempts_left
            counted = guesses_of(stored.recipients, guesses)
            await hold(connection, tenant, counted)
            right = fits(stored.sealed)
            if right is None:
                return Verdict.EXPIRED, stored.state.attempts_left
            verdict, after = verify(stored.state, right=right, now=stored.now)
            await connection.execute(_GUESSED, otp_id, after.attempts, after.used)
            if verdict is Verdict.VERIFIED:
                await _stop(connection, tenant, stored.notification_id, because="verified")
                detail = {"send": stored.state.sends}
                await write_event(connection, stored.notification_id, EventType.VERIFIED, detail)
            else:
                await count(connection, tenant, counted)
            return verdict, after.attempts_left

        return await retried(self._pool, unit)

    async def resend(
        self,
        tenant: str,
        otp_id: UUID,
        *,
        cooldown: timedelta,
        guesses: Mapping[Scope, Limit],
        key: Key | None,
        build: Build,
        answer: Answer,
    ) -> Answered:
        """A new code for the same id, in a new notification; what is left of the old one is stopped. Raises
        NotFound, TooManyRequests as `create` does, and what `build` raises."""

        async def unit(connection: Connection) -> Answered:
            stored = await _locked(connection, tenant, otp_id)
            verdict, after = resend(stored.state, now=stored.now, life=stored.life, cooldown=cooldown)
            notification_id = uuid7()
            body = answer(notification_id, after.expires_at, after.resend_at)
            # Asked before the verdict counts: the same request again is no second one. A refusal takes the key back.
            if key is not None and not await keep_key(connection, replace(key, answer=body)):
                return Answered(ResendVerdict.SENT)
            if verdict is not ResendVerdict.SENT:
                raise _Refused(Answered(verdict, stored.state.resend_at - stored.now))
            old = await connection.fetchrow(_NOTIFICATION, stored.notification_id)
            if old is None:
                raise NotFound("The message of this code is not kept any more.")
            own: dict[Channel, str] = {}
            if old["user_id"] is not None:
                channels = [Channel(name) for name in old["channels"]]
                own = await _addresses(connection, tenant, old["user_id"], channels=channels)
            again = build(stored, old, own, notification_id)
            await look(connection, tenant, guesses_of(again.recipients, guesses))
            await _replace(connection, tenant, stored, after, again=again)
            await count(connection, tenant, again.counted)
            return Answered(ResendVerdict.SENT, body=body)

        try:
            return await retried(self._pool, unit)
        except _Refused as refused:
            return refused.answered

    async def let_in(
        self, tenant: str, user_id: str | None, *, recipients: Callable[[Sequence[tuple[Channel, str]]], Sequence[bytes]]
    ) -> dict[Scope, int]:
        """Forget the wrong guesses at codes of these recipients: how many there were, by span. `recipients` names them, of
        all addresses that the user has now. Safe to repeat: what is forgotten is not there the next time."""

        async def unit(connection: Connection) -> dict[Scope, int]:
            own = [] if user_id is None else await connection.fetch(_ADDRESSES, tenant, user_id, [*Channel])
            named = recipients([(Channel(row["channel"]), row["address"]) for row in own])
            return await clear_guesses(connection, tenant, named)

        return await retried(self._pool, unit)

    async def sendable(self, tenant: str, otp_id: UUID, *, notification_id: UUID) -> Sendable | None:
        """What the message of this notification needs to carry its code; None when that code must not be sent any more: it
        was used, guessed at too often, or a newer one took its place."""
        row = await self._pool.fetchrow(_SENDABLE, otp_id, tenant, notification_id, MOST_ATTEMPTS)
        if row is None:
            return None
        return Sendable(
            Seed(row["id"], row["sends"], row["salt"], row["length"]), row["key_id"], row["locale"], row["left"]
        )  # fmt: skip

    async def forget(self, *, limit: int) -> int:
        """Delete at most `limit` codes whose end is longer ago than they are kept, and as many counters whose span is over;
        returns the greater count. Safe to run from several processes at once."""
        status: str = await self._pool.execute(_FORGET, KEPT_FOR, limit)
        return max(int(status.split()[-1]), await forget_counters(self._pool, limit=limit))


class _Refused(Exception):
    """Undoes the transaction: neither the key nor anything else is kept."""

    def __init__(self, answered: Answered) -> None:
        super().__init__()
        self.answered = answered


async def _locked(connection: Connection, tenant: str, otp_id: UUID) -> StoredOtp:
    row = await connection.fetchrow(_LOCK, otp_id, tenant)
    if row is None:
        raise NotFound("There is no one-time code with this id.")
    return StoredOtp.of(row)


async def _replace(connection: Connection, tenant: str, stored: StoredOtp, after: CodeState, *, again: Again) -> None:
    """The old code's message is stopped and the new one's takes its place."""
    await _stop(connection, tenant, stored.notification_id, because="resent")
    sealed = again.sealed
    await connection.execute(
        _RENEW, sealed.seed.otp_id, after.sends, again.row.id, sealed.key_id, sealed.seed.salt, sealed.code_hash,
        after.expires_at, after.resend_at, again.recipients,
    )  # fmt: skip
    await insert(connection, again.row, origin=stored.notification_id)


async def _stop(connection: Connection, tenant: str, notification_id: UUID, *, because: str) -> None:
    await lock_notifications(connection, [notification_id])
    await cancel_locked(connection, tenant, notification_id=notification_id, because=because)


async def _addresses(
    connection: Connection | asyncpg.Pool, tenant: str, user_id: str, *, channels: Sequence[Channel]
) -> dict[Channel, str]:
    found: dict[Channel, str] = {}
    for row in await connection.fetch(_ADDRESSES, tenant, user_id, list(channels)):
        found.setdefault(Channel(row["channel"]), row["address"])
    return found
