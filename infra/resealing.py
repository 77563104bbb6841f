"""The rotation of the key that seals: everything that another key has sealed is sealed by the one of now.

Page by page, each in one statement that changes only what still holds what was opened: it may be stopped at any point,
started again, and run beside the service and beside itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from infra.credentials import CredentialBox, Unreadable
from infra.postgres.sealed import Resealed, SealedRepository, SealedRow

PAGE = 100


@dataclass(frozen=True, slots=True)
class Unopened:
    """A value that none of our keys opens."""

    id: str
    tenant: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Looked:
    """Which keys are in use, and what they do not open."""

    counts: dict[str, int]
    unopened: tuple[Unopened, ...]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What one rotation did, and what it left: by other keys sealed still, or again meanwhile."""

    resealed: int
    left: int
    unopened: tuple[Unopened, ...]


async def look(repository: SealedRepository, box: CredentialBox) -> Looked:
    """Opens every value once, and keeps none. Raises Unavailable without a key."""
    unopened: list[Unopened] = []
    after = ""
    while rows := await repository.page(after=after, not_by=None, limit=PAGE):
        after = rows[-1].id
        unopened += [_unopened(row) for row in rows if _opened(row, box) is None]
    return Looked(await repository.counts(), tuple(unopened))


async def rotate(repository: SealedRepository, box: CredentialBox, *, tell: Callable[[int], None]) -> Rotated:
    """`tell` hears after each page how many have been sealed anew. Raises Unavailable without a key."""
    resealed, after, unopened = 0, "", list[Unopened]()
    while rows := await repository.page(after=after, not_by=box.key_id, limit=PAGE):
        after = rows[-1].id
        opened = [(row, _opened(row, box)) for row in rows]
        unopened += [_unopened(row) for row, values in opened if values is None]
        anew = [
            Resealed(row, box.seal(values, tenant=row.tenant, account=row.id))
            for row, values in opened
            if values is not None
        ]
        if anew:
            resealed += await repository.reseal(anew, key_id=box.key_id)
            tell(resealed)
    counts = await repository.counts()
    return Rotated(resealed, sum(counts.values()) - counts.get(box.key_id, 0), tuple(unopened))


def _opened(row: SealedRow, box: CredentialBox) -> dict[str, str] | None:
    try:
        return box.open(row.sealed, tenant=row.tenant, account=row.id, key_id=row.key_id)
    except Unreadable:
        return None


def _unopened(row: SealedRow) -> Unopened:
    return Unopened(row.id, row.tenant, row.key_id or "")
