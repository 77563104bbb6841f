"""Inboxes: /v1/users/{id}/inbox with an API key, and the same under /v1/inbox for the person, with a user token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Security, status
from fastapi.security import HTTPBearer

from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor, malformed
from api.inbox_parts import InboxParts
from api.query import refuse_unknown_body
from api.routes.inbox_shapes import AllRead, InboxQuery, Item, Items, NewToken, Ticket, Token
from api.security import Permission, Principal, require
from domain.errors import Unauthenticated
from infra.postgres.inbox.items import InboxEntry

users = APIRouter(prefix="/v1/users/{user_id}", tags=["inbox"])
own = APIRouter(prefix="/v1/inbox", tags=["inbox (user token)"])

UserId = Annotated[str, Path(min_length=1, max_length=255)]

_token_documented = HTTPBearer(
    scheme_name="user_token", description="A token of `POST /v1/users/{id}/tokens`: `Bearer tu_...`.", auto_error=False
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose inbox it is."""

    tenant: str
    user_id: str


def parts_of(container: Annotated[Container, Depends(container_of)]) -> InboxParts:
    return container.inbox


Parts = Annotated[InboxParts, Depends(parts_of)]


async def _read_by_key(
    user_id: UserId, who: Annotated[Principal, Depends(require(Permission.READ))], parts: Parts
) -> Owner:
    await parts.store.require_user(who.tenant, user_id)
    return Owner(who.tenant, user_id)


async def _opened_by_key(
    user_id: UserId, who: Annotated[Principal, Depends(require(Permission.OPEN_INBOX))], parts: Parts
) -> Owner:
    await parts.store.require_user(who.tenant, user_id)
    return Owner(who.tenant, user_id)


async def by_token(request: Request, parts: Parts, _: Annotated[object, Security(_token_documented)] = None) -> Owner:
    """The person whom a valid user token names. Raises Unauthenticated; then Invalid for a body where there is none, and
    NotFound (erased since)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("Send a user token: `Authorization: Bearer tu_...`.")
    named = parts.tokens.read(token.strip())
    await refuse_unknown_body(request)
    await parts.store.require_user(named.tenant, named.user_id)
    return Owner(named.tenant, named.user_id)


ReadByKey = Annotated[Owner, Depends(_read_by_key)]
OpenedByKey = Annotated[Owner, Depends(_opened_by_key)]
ByToken = Annotated[Owner, Depends(by_token)]


@users.get("/inbox", summary="A user's messages, newest first")
async def list_inbox(owner: ReadByKey, parts: Parts, query: Annotated[InboxQuery, Query()]) -> Items:
    return await _page(parts, owner, query=query)


@users.post("/inbox/read-all", summary="Mark all as read")
async def read_all(owner: OpenedByKey, parts: Parts) -> AllRead:
    return await _all_read(parts, owner)


@users.post("/inbox/{item_id}/read", summary="Mark as read")
async def read(item_id: UUID, owner: OpenedByKey, parts: Parts) -> Item:
    """The notification becomes `read`, also after its end; marking it unread later does not take that back."""
    return Item.of(await parts.store.mark_read(owner.tenant, owner.user_id, item=item_id))


@users.post("/inbox/{item_id}/unread", summary="Mark as unread")
async def unread(item_id: UUID, owner: OpenedByKey, parts: Parts) -> Item:
    return Item.of(await parts.store.mark_unread(owner.tenant, owner.user_id, item=item_id))


@users.post("/inbox/{item_id}/archive", summary="Move to the archive")
async def archive(item_id: UUID, owner: OpenedByKey, parts: Parts) -> Item:
    return Item.of(await parts.store.archive(owner.tenant, owner.user_id, item=item_id))


@users.post("/tokens", status_code=status.HTTP_201_CREATED, summary="Make a token for the user's own browser or app")
async def make_token(owner: OpenedByKey, parts: Parts, body: NewToken | None = None) -> Token:
    """Reads and marks this one inbox, and nothing else. It cannot be revoked: keep it short."""
    expires_at = (parts.clock.now() + (body or NewToken()).expires_in).replace(microsecond=0)
    return Token(token=parts.tokens.issue(owner.tenant, owner.user_id, expires_at=expires_at), expires_at=expires_at)


@own.get("", summary="My messages, newest first")
async def list_own(owner: ByToken, parts: Parts, query: Annotated[InboxQuery, Query()]) -> Items:
    return await _page(parts, owner, query=query)


@own.post("/tickets", status_code=status.HTTP_201_CREATED, summary="Make a ticket for the live stream")
async def make_ticket(owner: ByToken, parts: Parts) -> Ticket:
    """Good once, for 30 seconds: EventSource cannot send headers."""
    ticket, expires_at = await parts.tickets.issue(owner.tenant, owner.user_id)
    return Ticket(ticket=ticket, expires_at=expires_at)


@own.post("/read-all", summary="Mark all of mine as read")
async def read_all_own(owner: ByToken, parts: Parts) -> AllRead:
    return await _all_read(parts, owner)


@own.post("/{item_id}/read", summary="Mark mine as read")
async def read_own(item_id: UUID, owner: ByToken, parts: Parts) -> Item:
    return Item.of(await parts.store.mark_read(owner.tenant, owner.user_id, item=item_id))


@own.post("/{item_id}/unread", summary="Mark mine as unread")
async def unread_own(item_id: UUID, owner: ByToken, parts: Parts) -> Item:
    return Item.of(await parts.store.mark_unread(owner.tenant, owner.user_id, item=item_id))


@own.post("/{item_id}/archive", summary="Move mine to the archive")
async def archive_own(item_id: UUID, owner: ByToken, parts: Parts) -> Item:
    return Item.of(await parts.store.archive(owner.tenant, owner.user_id, item=item_id))


async def _page(parts: InboxParts, owner: Owner, *, query: InboxQuery) -> Items:
    found = await parts.store.listed(
        owner.tenant,
        owner.user_id,
        before=_before(query.cursor),
        limit=query.limit + 1,
        unread=query.unread,
        archived=query.archived,
    )
    page: list[InboxEntry] = found[: query.limit]
    return Items(
        items=[Item.of(entry) for entry in page],
        next_cursor=encode_cursor(str(page[-1].id)) if len(found) > query.limit else None,
        unread=await parts.store.unread(owner.tenant, owner.user_id),
    )


def _before(cursor: str | None) -> UUID | None:
    key = decode_cursor(cursor)
    try:
        return None if key is None else UUID(key)
    except ValueError:
        raise malformed() from None


async def _all_read(parts: InboxParts, owner: Owner) -> AllRead:
    marked = await parts.store.mark_all_read(owner.tenant, owner.user_id)
    return AllRead(marked=marked, unread=await parts.store.unread(owner.tenant, owner.user_id))
