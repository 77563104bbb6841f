"""What the routes need that change notifications after their accept."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from api.accept.edits import EditService
from api.accept.partial_retries import PartialRetries
from api.accept.resend import ResendService
from api.accept.retries import RetryService
from api.accept.service import AcceptService
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.engine.edits import EditRepository
from infra.postgres.engine.expediting import ExpediteRepository
from infra.postgres.engine.removing import RemoveRepository
from infra.postgres.lists.partials import PartialRepository
from infra.postgres.lists.retrying import RetryRepository


@dataclass(frozen=True, slots=True)
class ChangeParts:
    edits: EditService
    resends: ResendService
    retries: RetryService
    expedites: ExpediteRepository
    removes: RemoveRepository

    @classmethod
    def over(cls, pool: asyncpg.Pool, *, accept: AcceptService) -> ChangeParts:
        stored = EditRepository(pool)
        return cls(
            EditService(stored, accept=accept),
            ResendService(stored, AcceptRepository(pool), accept=accept),
            RetryService(
                stored,
                RetryRepository(pool),
                AcceptRepository(pool),
                accept=accept,
                partials=PartialRetries(PartialRepository(pool), accept=accept),
            ),
            ExpediteRepository(pool),
            RemoveRepository(pool),
        )
