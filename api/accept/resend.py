"""`POST /v1/notifications/{id}/resend`: a new notification from a stored one that has ended."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import asyncpg
import msgspec

from api.accept import decode
from api.accept.rows import Sender, key_of
from api.accept.service import Accepted, AcceptService
from api.accept.stored import is_test, options_of, refuse_code
from api.accept.writer import judge
from domain.edits import GIVEN
from domain.errors import Conflict, RecipientGone, Rejected, TongdaError
from domain.ids import uuid7
from domain.states import SUCCESS, Status
from infra.postgres.accept.accepting import AcceptRepository, Key, still_open
from infra.postgres.accept.row import Row
from infra.postgres.engine.edits import EditRepository
from infra.postgres.engine.options import times_of

_NOT_AGAIN = frozenset({"dedupe", "duplicate_of", GIVEN})
"""Options of the old one alone."""


class ResendService:
    """Same recipient, content and template version; a life of its own that begins now."""

    def __init__(self, edits: EditRepository, repository: AcceptRepository, *, accept: AcceptService) -> None:
        self._edits = edits
        self._repository = repository
        self._accept = accept

    async def resend(self, notification_id: UUID, *, sender: Sender, key: str | None, raw: bytes) -> Accepted:
        """Raises NotFound, Conflict (`still_open`, `content_erased`, `idempotency_conflict`), RecipientGone, Invalid
        (a body that says anything)."""
        asked = None
        if key is not None:
            asked = key_of(sender, f"POST /v1/notifications/{notification_id}/resend", key=key, raw=raw, answer=b"")
        try:
            decode.nothing(raw)
            accepted = await self._stored(notification_id, sender=sender, key=asked)
        except Rejected as refusal:
            if asked is None:
                raise
            return Accepted.replayed(await self._accept.kept.instead_of(refusal, asked))
        if accepted is not None:
            return accepted
        assert asked is not None
        [found] = await self._repository.kept([asked])
        first = judge(asked, found)
        if isinstance(first, TongdaError):
            raise first
        return Accepted.replayed(first)

    async def _stored(self, notification_id: UUID, *, sender: Sender, key: Key | None) -> Accepted | None:
        """Store it anew; None where its key was used before, and then nothing was stored."""
        old = await self._edits.stored(sender.tenant, notification_id=notification_id)
        refuse_code(old)
        await self._check(old)
        row = row_again(old)
        accepted = Accepted.of(row)
        kept = None if key is None else replace(key, answer=accepted.body)
        if not await self._repository.store_again(row, origin=notification_id, key=kept):
            return None
        self._accept.due(accepted.lane)
        return accepted

    async def _check(self, old: asyncpg.Record) -> None:
        if is_test(old):
            raise Conflict("It is a test: make another test-send.", code="is_a_test")
        if not old["final"] and Status(old["status"]) not in SUCCESS:
            raise still_open()
        if old["template"] is None and old["content"] is None:
            raise Conflict("Its content was erased; send it anew.", code="content_erased")
        if old["user_id"] is not None:
            await self._accept.check_recipient((old["tenant"], old["user_id"]))
        elif old["to_address"] is None:
            raise RecipientGone


def row_again(old: asyncpg.Record) -> Row:
    """As accept would build it from the stored request, now. What hurried the old one was meant for that one."""
    times = times_of(old)
    options = {name: value for name, value in options_of(old).items() if name not in _NOT_AGAIN}
    return Row(
        id=uuid7(), tenant=old["tenant"], app=old["app"], lane=int(times.posted_lane), category=old["category"],
        user_id=old["user_id"], to_channel=old["to_channel"], to_address=old["to_address"],
        channels=",".join(old["channels"]), strategy=old["strategy"], template=old["template"],
        template_version=old["template_version"], content=old["content"], data=old["data"], metadata=old["metadata"],
        options=msgspec.json.encode(options).decode() if options else None, send_at=None, expires_in=times.life,
        expires_at=None,
    )  # fmt: skip
