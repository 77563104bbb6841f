"""/v1/templates: drafts, versions, publish and rollback, preview, test-send."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from sqlalchemy.ext.asyncio import AsyncConnection

from api.accept.rows import Sender
from api.container import Container, container_of
from api.cursors import decode_cursor, encode_cursor, malformed
from api.idempotency import Created, Creation, IdempotencyKey, OnceRoute, accepted, checked, creating
from api.replay_answers import LOCATED
from api.routes.notification_shapes import Accepted
from api.routes.preview_shapes import Preview, PreviewRecipient, PreviewRequest, Previews
from api.routes.template_shapes import (
    NewTemplate,
    NewVersion,
    TemplateDetail,
    TemplatePage,
    TemplateSummary,
    VersionDetail,
    VersionPage,
    WhichVersion,
)
from api.security import Permission, Principal, require
from domain.errors import Invalid, NotFound
from infra.postgres.tenants.templates import TemplateRepository, VersionContent
from infra.postgres.users.persons import PersonRepository
from infra.rendering.drafts import TemplateDrafts
from infra.rendering.previews import Reader as Seen
from infra.rendering.previews import TemplatePreviews, Wish

router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=OnceRoute)

Reader = Annotated[Principal, Depends(require(Permission.READ))]
Editor = Annotated[Principal, Depends(require(Permission.MANAGE_TEMPLATES))]
Creating = Annotated[Creation, Depends(creating(Permission.MANAGE_TEMPLATES, named="name"))]
Adding = Annotated[Creation, Depends(creating(Permission.MANAGE_TEMPLATES, named="version"))]
TemplateName = Annotated[str, Path(min_length=1, max_length=128)]
Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=500)]
Parts = Annotated[Container, Depends(container_of)]

_TEST_SEND_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TestSendRequest"}}},
    }
}


def drafts_of(container: Annotated[Container, Depends(container_of)]) -> TemplateDrafts:
    return TemplateDrafts(container.database, catalog=container.catalog)


def listed_of(container: Annotated[Container, Depends(container_of)]) -> TemplateRepository:
    return TemplateRepository(container.database.lists.engine)


def previews_of(container: Annotated[Container, Depends(container_of)]) -> TemplatePreviews:
    return TemplatePreviews(TemplateRepository(container.database.engine), catalog=container.catalog)


Drafts = Annotated[TemplateDrafts, Depends(drafts_of)]
Looks = Annotated[TemplatePreviews, Depends(previews_of)]
Listed = Annotated[TemplateRepository, Depends(listed_of)]


@router.post(
    "", status_code=status.HTTP_201_CREATED, summary="Create a template with its first draft", response_model=TemplateDetail
)
async def create_template(body: NewTemplate, creation: Creating, drafts: Drafts) -> Response:
    who = creation.principal
    content = VersionContent(body.variables or {}, body.contents, body.example_data or {})

    async def unit(connection: AsyncConnection) -> Created:
        version = await drafts.create(
            connection, who.tenant, body.name, category=body.category, content=content, by=who.key_id
        )
        stored = await drafts.repository.get(who.tenant, body.name, connection=connection)
        return Created(TemplateDetail.joined(stored, version))

    return await creation.run(unit)


@router.get("", summary="List templates")
async def list_templates(
    who: Reader,
    templates: Listed,
    limit: Limit = 50,
    cursor: Cursor = None,
    category: Annotated[str | None, Query(max_length=128)] = None,
) -> TemplatePage:
    found = await templates.listed(who.tenant, after=decode_cursor(cursor) or "", limit=limit + 1, category=category)
    page = found[:limit]
    more = encode_cursor(page[-1].name) if len(found) > limit else None
    return TemplatePage(items=[TemplateSummary.of(stored) for stored in page], next_cursor=more)


@router.get("/{name}", summary="Read a template")
async def read_template(name: TemplateName, who: Reader, drafts: Drafts) -> TemplateDetail:
    stored = await drafts.repository.get(who.tenant, name)
    version = await drafts.repository.version(who.tenant, name, stored.published_version or stored.latest_version)
    return TemplateDetail.joined(stored, version)


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, summary="Archive a template")
async def archive_template(name: TemplateName, who: Editor, drafts: Drafts) -> None:
    """What was accepted with it is still sent. A new template of the same name continues its version numbers."""
    await drafts.archive(who.tenant, name)


@router.post("/{name}/versions", status_code=status.HTTP_201_CREATED, summary="Add a draft", response_model=VersionDetail)
async def add_version(name: TemplateName, body: NewVersion, creation: Adding, drafts: Drafts) -> Response:
    who = creation.principal

    async def unit(connection: AsyncConnection) -> Created:
        stored = await drafts.add_version(
            connection, who.tenant, name, contents=body.contents, variables=body.variables,
            example_data=body.example_data, by=who.key_id,
        )  # fmt: skip
        return Created(VersionDetail.of(stored, published=None))

    return await creation.run(unit)


@router.get("/{name}/versions", summary="List versions, newest first")
async def list_versions(
    name: TemplateName, who: Reader, drafts: Drafts, limit: Limit = 50, cursor: Cursor = None
) -> VersionPage:
    stored = await drafts.repository.get(who.tenant, name)
    found = await drafts.repository.versions(who.tenant, name, below=_number(cursor), limit=limit + 1)
    page = [VersionDetail.of(version, published=stored.published_version) for version in found[:limit]]
    more = encode_cursor(str(page[-1].version)) if len(found) > limit else None
    return VersionPage(items=page, next_cursor=more)


@router.get("/{name}/versions/{version}", summary="Read a version")
async def read_version(
    name: TemplateName, version: Annotated[int, Path(ge=1, le=2**31 - 1)], who: Reader, drafts: Drafts
) -> VersionDetail:
    stored = await drafts.repository.get(who.tenant, name)
    found = await drafts.repository.version(who.tenant, name, version)
    return VersionDetail.of(found, published=stored.published_version)


@router.post("/{name}/publish", summary="Put a version in force")
async def publish_template(
    name: TemplateName, who: Editor, drafts: Drafts, body: WhichVersion | None = None
) -> TemplateDetail:
    """Renders every block in every locale with the example data first; 422 `template_broken` names what does not pass."""
    stored = await drafts.publish(who.tenant, name, version=body.version if body else None)
    return TemplateDetail.joined(stored, await drafts.repository.version(who.tenant, name, stored.published_version or 0))


@router.post("/{name}/rollback", summary="Put an older version in force")
async def rollback_template(
    name: TemplateName, who: Editor, drafts: Drafts, body: WhichVersion | None = None
) -> TemplateDetail:
    stored = await drafts.rollback(who.tenant, name, version=body.version if body else None)
    return TemplateDetail.joined(stored, await drafts.repository.version(who.tenant, name, stored.published_version or 0))


@router.post("/{name}/preview", summary="Render without sending")
async def preview_template(
    name: TemplateName, who: Reader, parts: Parts, previews: Looks, body: PreviewRequest | None = None
) -> Previews:
    """Every locale and channel, or the ones asked for; channels without a block of their own show what they inherit. With
    each: what the channel does not carry, what to mind, and why this locale. What cannot be rendered carries `errors`."""
    asked = body or PreviewRequest()
    template = await previews.template(who.tenant, name, version=asked.version)
    recipient, reader = await _reader(asked, who, PersonRepository(parts.database.engine))
    items = await previews.shown(template, wish=Wish(data=asked.data, channel=asked.channel, reader=reader))
    return Previews(version=template.version, recipient=recipient, items=[Preview.of(item) for item in items])


@router.post(
    "/{name}/test-send",
    summary="Send a version as a test",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Accepted,
    responses={202: LOCATED},
    openapi_extra=_TEST_SEND_BODY,
)
async def send_test(
    name: TemplateName, request: Request, who: Editor, parts: Parts, key: IdempotencyKey = None
) -> Response:
    """A real notification to one recipient, in the high lane, with `test: true` and a mark before its title. Any version, a
    draft too: this is the only route that sends one. A tenant has 30 a minute through one API process; 429 beyond."""
    sender = Sender(who.tenant, who.app)
    raw = await request.body()
    return accepted(await parts.trials.send(name, raw=raw, sender=sender, key=checked(key)))


async def _reader(asked: PreviewRequest, who: Principal, persons: PersonRepository) -> tuple[PreviewRecipient | None, Seen]:
    """Whose eyes it is seen with. Raises Invalid."""
    if asked.recipient is None:
        return None, Seen(user=asked.user, locale=asked.locale)
    if asked.user is not None:
        raise Invalid.field("/user", "exactly_one", "Give recipient or user, not both.")
    try:
        profile = (await persons.get(who.tenant, asked.recipient)).profile
    except NotFound:
        raise Invalid.field("/recipient", "unknown", "No user has this id.") from None
    locale = profile.locale if asked.locale is None else asked.locale
    recipient = PreviewRecipient(user=profile.id, locale=profile.locale or None)
    return recipient, Seen(user={"name": profile.name or "", "locale": locale}, locale=locale)


def _number(cursor: str | None) -> int:
    """The version that the page lies below."""
    text = decode_cursor(cursor)
    if text is None:
        return 2**31 - 1
    if not text.isdecimal() or len(text) > 9:
        raise malformed()
    return int(text)
