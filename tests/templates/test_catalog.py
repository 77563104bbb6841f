"""What the accept path and the workers see of templates in the database, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from domain.errors import Conflict, NotFound
from infra.clock import ManualClock
from infra.postgres.database import Database
from infra.postgres.tenants.templates import TemplateRepository, VersionContent
from infra.rendering import TemplateCatalog, catalog
from infra.settings import Settings

pytestmark = pytest.mark.postgres


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    opened = await Database.open(Settings(database_url=SecretStr(database)), name="tests")
    await opened.pool.execute("INSERT INTO tenant (id, name) VALUES ('acme', 'acme'), ('other', 'other')")
    yield opened
    await opened.close()


@pytest.fixture
def repository(db: Database) -> TemplateRepository:
    return TemplateRepository(db.engine)


def text(value: str) -> VersionContent:
    return VersionContent({}, {"zh-CN": {"default": {"text": value}}}, {})


async def create(repository: TemplateRepository, name: str, value: str = "one", *, tenant: str = "acme") -> None:
    async with repository.begin() as connection:
        await repository.create(connection, tenant, name, category="orders", content=text(value), by=None)


async def add(repository: TemplateRepository, name: str, value: str) -> int:
    async with repository.begin() as connection:
        return (await repository.add_version(connection, "acme", name, content=text(value), by=None)).version


async def shown(templates: TemplateCatalog, name: str) -> str | None:
    found = await templates.published("acme", name)
    return None if found is None else found.render("inapp", locale="", data={}).text


async def test_a_draft_is_not_published(db: Database, repository: TemplateRepository) -> None:
    templates = TemplateCatalog(db)
    await create(repository, "t")
    assert await templates.published("acme", "t") is None
    assert templates.published_cached("acme", "t") is None
    assert (await templates.version("acme", "t", 1)).version == 1


async def test_publish_and_rollback_show_at_once_here_and_soon_elsewhere(
    db: Database, repository: TemplateRepository
) -> None:
    clock = ManualClock()
    here, elsewhere = TemplateCatalog(db, clock=clock), TemplateCatalog(db, clock=clock)
    await create(repository, "t")
    await add(repository, "t", "two")
    await repository.publish("acme", "t", 1)
    assert [await shown(here, "t"), await shown(elsewhere, "t")] == ["one", "one"]
    await repository.publish("acme", "t", 2)
    here.forget("acme", "t")
    assert [await shown(here, "t"), await shown(elsewhere, "t")] == ["two", "one"]
    clock.advance(timedelta(seconds=catalog.FRESH_S))
    assert elsewhere.published_cached("acme", "t") is None
    assert await shown(elsewhere, "t") == "two"
    await repository.archive("acme", "t")
    here.forget("acme", "t")
    assert await shown(here, "t") is None
    assert (await here.version("acme", "t", 1)).version == 1, "accepted notifications pin it"


async def test_callers_at_the_same_time_share_one_query(
    db: Database, repository: TemplateRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(repository, "t")
    await repository.publish("acme", "t", 1)
    asked = 0
    ask = TemplateRepository.published_version

    async def counted(self: TemplateRepository, tenant: str, name: str) -> int | None:
        nonlocal asked
        asked += 1
        return await ask(self, tenant, name)

    monkeypatch.setattr(TemplateRepository, "published_version", counted)
    templates = TemplateCatalog(db)
    impatient = asyncio.ensure_future(templates.published("acme", "t"))
    await asyncio.sleep(0)
    impatient.cancel()
    found = await asyncio.gather(*(templates.published("acme", "t") for _ in range(50)))
    assert asked == 1
    assert len({id(t) for t in found}) == 1
    assert templates.published_cached("acme", "t") is found[0]


async def test_a_publish_during_a_lookup_is_not_overwritten_by_the_older_answer(
    db: Database, repository: TemplateRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(repository, "t")
    await add(repository, "t", "two")
    await repository.publish("acme", "t", 1)
    templates = TemplateCatalog(db)
    load = catalog.TemplateCatalog.version

    async def slow(self: TemplateCatalog, tenant: str, name: str, version: int) -> Any:
        await asyncio.sleep(0.1)
        return await load(self, tenant, name, version)

    monkeypatch.setattr(catalog.TemplateCatalog, "version", slow)
    old = asyncio.ensure_future(templates.published("acme", "t"))
    await asyncio.sleep(0.05)
    await repository.publish("acme", "t", 2)
    templates.forget("acme", "t")
    await old
    found = await templates.published("acme", "t")
    assert found is not None
    assert found.version == 2


async def test_caches_are_bounded(db: Database, repository: TemplateRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MAX_VERSIONS", 3)
    monkeypatch.setattr(catalog, "MAX_PUBLISHED", 2)
    templates = TemplateCatalog(db)
    for number in range(6):
        await create(repository, f"t{number}", str(number))
        await repository.publish("acme", f"t{number}", 1)
    for number in (*range(6), 0):
        assert await shown(templates, f"t{number}") == str(number)
    assert len(templates._versions) == 3
    assert len(templates._published) == 2


async def test_tenants_do_not_see_each_other(db: Database, repository: TemplateRepository) -> None:
    templates = TemplateCatalog(db)
    await create(repository, "t", tenant="other")
    await repository.publish("other", "t", 1)
    assert await templates.published("acme", "t") is None
    with pytest.raises(NotFound):
        await templates.version("acme", "t", 1)


async def test_names_are_taken_until_archived_and_numbers_are_never_used_twice(repository: TemplateRepository) -> None:
    await create(repository, "t")
    with pytest.raises(Conflict):
        await create(repository, "t")
    assert sorted(await asyncio.gather(*(add(repository, "t", "x") for _ in range(5)))) == [2, 3, 4, 5, 6]
    await repository.publish("acme", "t", 6)
    await repository.archive("acme", "t")
    with pytest.raises(NotFound):
        await repository.get("acme", "t")
    await create(repository, "t")
    again = await repository.get("acme", "t")
    assert (again.latest_version, again.published_version) == (7, None)
