"""`POST /v1/notifications/retry` of what arrived in part: the channels that failed are opened again, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from api.accept.service import AcceptService
from domain.partials import Wanted
from infra.postgres.accept.accepting import Key
from infra.postgres.lists.pages import Filters, Position
from infra.postgres.lists.partials import Judged, PartialRepository

PAGE = 1_000
"""Notifications of which a dry run looks at one time."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of what was asked for, or would."""

    matched: int
    skipped: Sequence[tuple[UUID, str]]
    reopened: Sequence[tuple[UUID, Sequence[str]]]
    """(notification, channels that go again)."""
    position: Position | None = None

    @property
    def by_channel(self) -> dict[str, int]:
        return dict(sorted(Counter(channel for _, channels in self.reopened for channel in channels).items()))


class PartialRetries:
    """`one`: only this notification, and then filters mean nothing."""

    def __init__(self, repository: PartialRepository, *, accept: AcceptService) -> None:
        self._repository = repository
        self._accept = accept

    async def count(
        self, tenant: str, *, one: UUID | None, filters: Filters, wanted: Wanted, position: Position | None, most: int
    ) -> Tried:
        """What a real call would do at this moment, of at least `most` of those that fit."""
        if one is not None:
            return _tried([one], await self._repository.judged(tenant, [one], wanted=wanted), None)
        parts: list[Tried] = []
        while True:
            page = await self._repository.page(tenant, filters=filters, limit=PAGE, position=position)
            ids, position = [row["id"] for row in page.rows], page.position
            parts.append(_tried(ids, await self._repository.judged(tenant, ids, wanted=wanted), position))
            if position is None or len(ids) < PAGE or sum(part.matched for part in parts) >= most:
                return Tried(
                    sum(part.matched for part in parts),
                    [skipped for part in parts for skipped in part.skipped],
                    [reopened for part in parts for reopened in part.reopened],
                    position,
                )

    async def retry(
        self,
        tenant: str,
        *,
        one: UUID | None,
        filters: Filters,
        wanted: Wanted,
        limit: int,
        position: Position | None,
        key: Key | None,
        body: Callable[[Tried], bytes],
    ) -> bytes | None:
        """The answer; None when the key is taken, and then nothing was done."""
        ids, following = [one] if one is not None else [], None
        if one is None:
            page = await self._repository.page(tenant, filters=filters, limit=limit, position=position)
            ids, following = [row["id"] for row in page.rows], page.position
        judged = await self._repository.reopen(
            tenant, ids, wanted=wanted, key=key, answer=lambda judged: body(_tried(ids, judged, following))
        )
        if judged is None:
            return None
        for lane in judged.lanes:
            self._accept.due(lane)
        return body(_tried(ids, judged, following))


def _tried(ids: Sequence[UUID], judged: Judged, position: Position | None) -> Tried:
    """In the order of `ids`."""
    return Tried(
        len(ids),
        [(one, str(judged.refused[one])) for one in ids if one in judged.refused],
        [(one, [step.channel for step in judged.again[one]]) for one in ids if one in judged.again],
        position,
    )
