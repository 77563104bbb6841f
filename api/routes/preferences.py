"""/v1/users/{id}/preferences: what one user wants; /v1/preferences/stats: what all of them want."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends

from api.container import Container, container_of
from api.routes.preference_bodies import PreferencesIn, PreferencesPatch
from api.routes.preference_shapes import PreferencesOut, PreferenceStats
from api.routes.users import Manager, Reader
from domain.preferences import Preferences
from infra.postgres.users.preferences import PreferenceRepository

router = APIRouter(tags=["preferences"])
PATH = "/v1/users/{user_id}/preferences"


def preferences_of(container: Annotated[Container, Depends(container_of)]) -> PreferenceRepository:
    return PreferenceRepository(container.database.engine)


def listed_of(container: Annotated[Container, Depends(container_of)]) -> PreferenceRepository:
    return PreferenceRepository(container.database.lists.engine)


Repository = Annotated[PreferenceRepository, Depends(preferences_of)]
Listed = Annotated[PreferenceRepository, Depends(listed_of)]


@router.get(PATH, summary="Read a user's preferences")
async def read_preferences(user_id: str, who: Reader, repository: Repository) -> PreferencesOut:
    """A user who never chose anything has everything at its default, which permits everything."""
    return PreferencesOut.of(await repository.get(who.tenant, user_id))


@router.put(PATH, summary="Set a user's preferences")
async def set_preferences(user_id: str, body: PreferencesIn, who: Manager, repository: Repository) -> PreferencesOut:
    """All of them: what is left out goes back to its default. They hold for everything that is not being handed over at
    this moment, whenever it was accepted; frequency caps for what is planned from now on."""
    made = body.made()
    return PreferencesOut.of(await repository.change(who.tenant, user_id, app=who.app, change=_always(made)))


@router.patch(PATH, summary="Change a user's preferences")
async def change_preferences(
    user_id: str, body: PreferencesPatch, who: Manager, repository: Repository
) -> PreferencesOut:  # fmt: skip
    """What is left out stays; null takes back to the default."""
    return PreferencesOut.of(await repository.change(who.tenant, user_id, app=who.app, change=body.applied))


@router.get("/v1/preferences/stats", summary="Count what users prefer")
async def preference_stats(who: Reader, repository: Listed) -> PreferenceStats:
    """By channel, category and app. It reads the preferences of all users of the tenant who have any, once; from the
    replica where there is one, so that the figures may be a moment old."""
    return PreferenceStats.of(await repository.figures(who.tenant))


def _always(made: Preferences) -> Callable[[Preferences], Preferences]:
    return lambda _: made
