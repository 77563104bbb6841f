"""`PATCH /v1/notifications/{id}`: the stored request and the edit, judged together by the rules of accept."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET

from api.accept import decode
from api.accept.collecting import content_slot
from api.accept.cross_field_rules import broken
from api.accept.request import NotificationPatch, NotificationRequest, SendWindow
from api.accept.rows import Sender, window_of
from api.accept.rules import GIVES, broken_patch_rules, broken_rules, duration
from api.accept.service import AcceptService
from api.accept.stored import is_test, options_of, posted, refuse_code
from domain.edits import GIVEN, Life, life
from domain.errors import Conflict, Invalid, NotFound, Unavailable
from domain.lanes import Lane
from infra.postgres.accept.slots import Move
from infra.postgres.engine.edits import Edit, Edited, EditRepository
from infra.postgres.engine.options import times_of

TRIES = 5
"""Edits of one notification that may come first before this one gives up."""
_FIELDS = NotificationPatch.__struct_fields__
_WHAT = frozenset({"content", "template", "data"})


class EditService:
    """Computes an edit from what is stored, without a lock; the repository stores it unless another edit came first."""

    def __init__(self, repository: EditRepository, *, accept: AcceptService) -> None:
        self._repository = repository
        self._accept = accept

    async def edit(self, tenant: str, *, notification_id: UUID, raw: bytes) -> Edited:
        """Raises Malformed, Invalid, NotFound, HandedOff, Repeats; Unavailable when others keep editing it."""
        patch = decode.patch(raw)
        errors = broken_patch_rules(patch)
        if errors:
            raise Invalid(errors)
        changed = [name for name in _FIELDS if getattr(patch, name) is not UNSET]
        for _ in range(TRIES):
            row = await self._repository.stored(tenant, notification_id=notification_id)
            refuse_code(row)
            edit = await self._computed(row, patch, changed=changed)
            edited = await self._repository.write(tenant, notification_id=notification_id, edit=edit)
            if edited is not None:
                if edited.due:
                    self._accept.due(edit.lane)
                return edited
        raise Unavailable("Others are editing this notification; send it again.")

    async def _computed(self, row: asyncpg.Record, patch: NotificationPatch, *, changed: list[str]) -> Edit:
        if is_test(row):
            raise Conflict("It is a test: make another test-send.", code="is_a_test")
        leaves = row["digest"] is not None and changed != ["data"]
        request = merged(row, patch)
        errors = broken_rules(request, now=self._accept.clock.now()) + broken(GIVES, request)
        if errors:
            raise Invalid(errors)
        version: int | None = row["template_version"]
        if "template" in changed and await self._takes_category(row):
            request.category = ""
        if _WHAT & set(changed):
            stays = row["digest"] is not None and not leaves  # its digest is rendered by one version
            version = await self._accept.pinned_version(
                request, sender=Sender(row["tenant"], row["app"]), version=version if stays else None
            )
        lane = Lane.of(request.priority)
        lives = _life(row, patch, lane=lane, changed=changed)
        if lives.expires_at is not None and patch.send_at not in (UNSET, None) and lives.expires_at <= patch.send_at:
            raise Invalid.field(
                "/send_at", "range", "It would expire before it is sent: give expires_at or expires_in too."
            )
        template = None if request.template is UNSET else request.template
        content, data = _json(request.content), _json(request.data)
        options = _options(row, patch, request=request, window=await self._window(row, patch, request))
        given = await self._given(row, patch, lives=lives, changed=changed)
        return Edit(
            fields=changed,
            version=row["version"],
            lane=lane,
            category=request.category,
            template=template,
            template_version=version,
            content=content,
            data=data,
            options=msgspec.json.encode(options | given).decode() if options or given else None,
            send_at=row["send_at"] if patch.send_at is UNSET else patch.send_at,
            expires_at=lives.expires_at,
            expires_in=lives.expires_in,
            digest=row["digest"],
            leaves=leaves,
            move=_move(row, template=template, content=content, data=data),
        )

    async def _takes_category(self, row: asyncpg.Record) -> bool:
        """Its category was a template's, and so becomes the next one's."""
        if times_of(row).given.category:
            return True
        if row["template"] is None:
            return False
        own = {"template": row["template"], "version": row["template_version"]}
        with contextlib.suppress(NotFound):
            return bool(row["category"] == await self._accept.category_of(row["tenant"], **own))
        return False

    async def _given(
        self, row: asyncpg.Record, patch: NotificationPatch, *, lives: Life, changed: list[str]
    ) -> dict[str, Any]:
        """As options: what it was given, where that no longer shows once it is edited."""
        times = times_of(row)
        given = times.given
        if patch.priority is not UNSET:
            given = replace(given, lane=None, any_hour=False)
        if patch.window is not UNSET:
            given = replace(given, any_hour=patch.window is None)
        if patch.expires_in is not UNSET:
            given = replace(given, life=None)
        elif patch.expires_at is not UNSET:
            now, send_at = self._accept.clock.now(), row["send_at"] if patch.send_at is UNSET else patch.send_at
            given = replace(given, life=patch.expires_at - max(now, send_at or now))
        elif times.expires_in is None and {"send_at", "priority"} & set(changed):
            given = replace(given, life=lives.expires_in or times.life)
        if "template" in changed:
            given = replace(given, category=False)
        elif "content" in changed and row["template"] is not None:
            given = replace(given, category=await self._takes_category(row))
        kept = {name: value for name, value in asdict(given).items() if value}
        return {GIVEN: kept} if kept else {}

    async def _window(
        self, row: asyncpg.Record, patch: NotificationPatch, request: NotificationRequest
    ) -> SendWindow | None:
        """Of the low lane: what the edit says, else its own; where the edit brings it there, or takes it out of a category
        whose hours it kept, its category's or tenant's. What was hurried out of that lane keeps its own, for a new try."""
        if patch.priority is UNSET and row["lane"] != Lane.LOW and times_of(row).posted_lane is Lane.LOW:
            return msgspec.convert(options_of(row).get("window"), SendWindow | None)
        if request.priority != Lane.LOW.label:
            return None
        if request.window is not UNSET:
            return request.window
        if row["lane"] == Lane.LOW:
            own = msgspec.convert(options_of(row).get("window"), SendWindow | None)
            if request.category == row["category"] or times_of(row).given.any_hour:
                return own
            if own != window_of(row["category"], await self._accept.routes_of(row["tenant"])):
                return own
        await self._accept.follow_route(request, sender=Sender(row["tenant"], row["app"]))
        return None if request.window is UNSET else request.window


def merged(row: asyncpg.Record, patch: NotificationPatch) -> NotificationRequest:
    """What would have been posted. Times are there only where the edit gives them."""
    request = posted(row)
    if patch.content is not UNSET:
        request.content = patch.content
        request.template = request.data = request.digest = UNSET
    if patch.template is not UNSET:
        request.template = patch.template
        request.content = patch.content  # both given: the rules say that it is one or the other
    if patch.data is not UNSET:
        request.data = patch.data
    if patch.priority is not UNSET:
        request.priority = patch.priority
    if patch.send_at is not None:
        request.send_at = row["send_at"] if patch.send_at is UNSET and row["send_at"] is not None else patch.send_at
    request.expires_in = patch.expires_in
    request.expires_at = patch.expires_at
    request.window = patch.window
    return request


def _life(row: asyncpg.Record, patch: NotificationPatch, *, lane: Lane, changed: list[str]) -> Life:
    if patch.expires_at is not UNSET:
        return Life(expires_at=patch.expires_at)
    if patch.expires_in is not UNSET:
        return Life(expires_in=duration(patch.expires_in))
    return life(times_of(row), lane=lane, changed=changed)


def _options(
    row: asyncpg.Record, patch: NotificationPatch, *, request: NotificationRequest, window: SendWindow | None
) -> dict[str, Any]:
    """As accept stores them: a span is remembered, a moment takes its place. Whoever leaves a digest goes alone, but its
    template still gets `items` and `count`."""
    options = {name: value for name, value in options_of(row).items() if name not in ("window", GIVEN)}
    if window is not None:
        options["window"] = window
    if request.digest is UNSET:
        options.pop("digest", None)
    if patch.expires_at is not UNSET:
        options.pop("expires_in", None)
    if patch.expires_in is not UNSET:
        options["expires_in"] = duration(patch.expires_in)
    return options


def _move(row: asyncpg.Record, *, template: str | None, content: str | None, data: str | None) -> Move | None:
    """Between the slots of what it says; a key, where one was posted, stands for anything that it says. One that was made
    anew from another does not know whether it has such a slot."""
    if "key" in options_of(row).get("dedupe", {}):
        return None
    to = (row["tenant"], row["app"], row["user_id"], row["to_channel"], row["to_address"], ",".join(row["channels"]))
    before = content_slot(*to, template=row["template"], content=row["content"], data=row["data"])
    after = content_slot(*to, template=template, content=content, data=data)
    return None if before == after else Move(before, after)


def _json(value: Any) -> str | None:
    return None if value is UNSET else msgspec.json.encode(value).decode()
