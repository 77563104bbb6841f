"""The key that seals is rotated beside a running service, and stops and starts as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import sandbox
from infra import resealing
from infra.credentials import CredentialBox
from infra.postgres.sealed import Resealed, SealedRepository
from infra.resealing import look, rotate
from tests.api.conftest import SECRET_KEY, Api
from tests.providers.conftest import Worker, changed, mails, make, settings_of

NEW = "a key of the next year, 32 long.."
OLD_BOX, NEW_BOX = CredentialBox(SECRET_KEY), CredentialBox(NEW)
RING = CredentialBox(NEW, others=[SECRET_KEY])


@pytest.fixture
async def repository(api: Api) -> AsyncIterator[SealedRepository]:
    async with api.pool.acquire() as connection:
        yield SealedRepository(connection)  # type: ignore[arg-type] # a pool's connection


async def rotated(repository: SealedRepository, box: CredentialBox = RING) -> resealing.Rotated:
    return await rotate(repository, box, tell=lambda _: None)


async def test_everything_is_sealed_anew_and_goes_on_to_send(
    api: Api, worker: Worker, box: sandbox.Box, repository: SealedRepository
) -> None:
    """The whole way: a worker that knows both keys, then one that knows only the new one."""
    account = await make(api, box)
    done = await rotated(repository)
    assert (done.resealed, done.left, done.unopened) == (1, 0, ())
    assert await repository.counts() == {NEW_BOX.key_id: 1}
    worker.loader._maker._box = NEW_BOX
    await worker.loader.load()
    [one] = await worker.sent()
    assert await worker.account_of(one) == account
    assert len(mails(box)) == 1
    again = await rotated(repository)
    assert (again.resealed, again.left) == (0, 0), "once is enough"


async def test_a_rotation_that_is_stopped_goes_on_where_it_was(
    api: Api, box: sandbox.Box, repository: SealedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches: one transaction over everything, and a place that only the process knew."""
    monkeypatch.setattr(resealing, "PAGE", 2)
    for number in range(5):
        await make(api, box, name=f"relay-{number}")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotate(repository, RING, tell=stop)
    assert await repository.counts() == {NEW_BOX.key_id: 2, OLD_BOX.key_id: 3}
    told: list[int] = []
    done = await rotate(repository, RING, tell=told.append)
    assert (done.resealed, done.left, told) == (3, 0, [2, 3])
    found = await look(repository, NEW_BOX)
    assert (found.counts, found.unopened) == ({NEW_BOX.key_id: 5}, ())


async def test_what_cannot_be_opened_is_named_and_holds_up_no_other(
    api: Api, box: sandbox.Box, repository: SealedRepository
) -> None:
    """Catches: a rotation that says it is done, whereupon the only key that opens something is thrown away."""
    lost, good = await make(api, box, name="lost"), await make(api, box, name="good")
    strange = CredentialBox("s" * 32)
    sealed = strange.seal({"password": "x"}, tenant="acme", account=lost)
    await api.pool.execute(
        "UPDATE provider_account SET sealed = $2, key_id = $3 WHERE id = $1", lost, sealed, strange.key_id
    )
    done = await rotated(repository)
    assert (done.resealed, done.left, [one.id for one in done.unopened]) == (1, 1, [lost])
    found = await look(repository, NEW_BOX)
    assert [(one.id, one.tenant, one.key_id) for one in found.unopened] == [(lost, "acme", strange.key_id)]
    assert good not in str(found.unopened)
    assert (await rotated(repository, CredentialBox(NEW, others=["s" * 32]))).left == 0


async def test_a_change_that_comes_in_between_is_not_undone(
    api: Api, box: sandbox.Box, second: sandbox.Box, repository: SealedRepository
) -> None:
    """Catches: a password that somebody has just replaced, and that comes back."""
    account = await make(api, box)
    [row] = await repository.page(after="", not_by=NEW_BOX.key_id, limit=9)
    values = OLD_BOX.open(row.sealed, tenant=row.tenant, account=row.id)
    changes: dict[str, Any] = {"settings": settings_of(second, password="another-one")}
    assert (await changed(api, account, changes)).status_code == 200
    late = Resealed(row, NEW_BOX.seal(values, tenant=row.tenant, account=row.id))
    assert await repository.reseal([late], key_id=NEW_BOX.key_id) == 0
    done = await rotated(repository)
    assert (done.resealed, done.left) == (1, 0)
    [now] = await repository.page(after="", not_by=None, limit=9)
    assert NEW_BOX.open(now.sealed, tenant=now.tenant, account=now.id)["password"] == "another-one"


async def test_two_rotations_at_once_end_as_one(api: Api, box: sandbox.Box, repository: SealedRepository) -> None:
    await make(api, box)
    [row] = await repository.page(after="", not_by=NEW_BOX.key_id, limit=9)
    values = OLD_BOX.open(row.sealed, tenant=row.tenant, account=row.id)
    both = [Resealed(row, NEW_BOX.seal(values, tenant=row.tenant, account=row.id)) for _ in range(2)]
    assert [await repository.reseal([one], key_id=NEW_BOX.key_id) for one in both] == [1, 0]
    assert (await look(repository, NEW_BOX)).unopened == ()


async def test_no_value_and_no_key_stands_in_what_is_shown(
    api: Api, box: sandbox.Box, repository: SealedRepository
) -> None:
    await make(api, box)
    [row] = await repository.page(after="", not_by=None, limit=9)
    shown = f"{row!r} {Resealed(row, row.sealed)!r} {await look(repository, RING)!r} {await rotated(repository)!r}"
    for secret in (SECRET_KEY, NEW, "correct-horse-battery", repr(row.sealed)):
        assert secret not in shown
