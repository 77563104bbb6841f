"""What a claim says: its template's version or its inline content, rendered for channel and locale; the one-time code of
those that carry one is put in here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import msgspec

from activities.handing_over.codes import CodeMessages
from channels.base import Content, Message
from domain.digests import COUNT, ITEMS
from domain.lanes import Lane
from domain.trials import marked
from infra.postgres.engine.claimed import Claim
from infra.postgres.engine.digests import DigestRepository
from infra.rendering.catalog import TemplateCatalog

_OBJECT = msgspec.json.Decoder(dict[str, Any])
_OWN_KEYS = frozenset({"title", "text", "html", "url"})


class Contents(Protocol):
    """Where a claim's content comes from. Raises TongdaError `template_broken` when it cannot be rendered."""

    async def content(self, claim: Claim) -> Content: ...


class TemplateContents:
    """Templates by their pinned version; inline content as it was posted (it is text, never a template)."""

    def __init__(self, catalog: TemplateCatalog, *, codes: CodeMessages, digests: DigestRepository) -> None:
        self._catalog = catalog
        self._codes = codes
        self._digests = digests

    async def content(self, claim: Claim) -> Content:
        template = None
        if claim.template is not None and claim.template_version is not None:
            template = await self._catalog.version(claim.tenant, claim.template, claim.template_version)
        if claim.otp_id is not None:
            return await self._codes.content(claim, claim.otp_id, template=template, data=decode_object(claim.data))
        if template is None:
            return inline(claim)
        user = {"name": claim.person_name or "", "locale": claim.locale}
        data = await self._data(claim)
        content = template.render(claim.channel, locale=claim.locale, data=data, user=user)
        if not claim.test:
            return content
        language = template.chosen_locale(claim.channel, locale=claim.locale)
        return replace(content, title=marked(content.title, locale=language))

    async def _data(self, claim: Claim) -> dict[str, Any]:
        """The posted data; for a digest also `items` and `count` of what it collected, or of itself alone."""
        own = decode_object(claim.data)
        if not claim.digest:
            return own
        found = await self._digests.items(claim.notification_id, n=claim.n, claimed_at=claim.claimed_at)
        items = [decode_object(data) for data in found.data] or [own]
        return {**own, ITEMS: items, COUNT: max(found.count, len(items))}


def decode_object(text: str | None) -> dict[str, Any]:
    """A stored JSON object; absent = empty."""
    return _OBJECT.decode(text) if text else {}


def inline(claim: Claim) -> Content:
    posted = decode_object(claim.content)
    return Content(
        title=posted.get("title") or "",
        text=posted.get("text") or "",
        html=posted.get("html"),
        url=posted.get("url"),
        extra={key: value for key, value in posted.items() if key not in _OWN_KEYS},
    )


def message(claim: Claim, content: Content) -> Message:
    """The claim as the provider port takes it."""
    return Message(
        notification_id=claim.notification_id,
        n=claim.n,
        attempt=claim.attempt,
        tenant=claim.tenant,
        channel=claim.channel,
        address=claim.address,
        content=content,
        accepted_at=claim.accepted_at,
        expires_at=claim.expires_at,
        high=claim.lane is Lane.HIGH,
        category=claim.category,
        metadata=decode_object(claim.metadata),
        data=decode_object(claim.data),
        test=claim.test,
    )
