"""`POST /v1/templates/{name}/test-send`: a version, published or not, as a notification that is marked as a test.

The only way out for a draft. What accept checks is checked; and a version that cannot be rendered, which would fail at its
hand-over, is refused here, where the one who can mend it is looking.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from api.accept import decode
from api.accept.kept import REFUSALS
from api.accept.request import NotificationRequest, TestSendRequest
from api.accept.rows import Sender, key_of, row_of
from api.accept.rules import broken_rules
from api.accept.service import Accepted, AcceptService
from api.accept.writer import judge
from domain.channels import Channel
from domain.errors import FieldError, Invalid, NotFound, TongdaError, TooManyRequests
from domain.locales import canonical
from domain.planning import DEFAULT_CHANNELS
from domain.trials import LOCALE, TEST, Turns
from infra.postgres.accept.accepting import AcceptRepository
from infra.postgres.accept.row import Row
from infra.postgres.users.persons import PersonRepository
from infra.rendering.errors import TemplateBroken
from infra.rendering.previews import TemplatePreviews
from infra.rendering.template import PublishedTemplate


class TrialService:
    """One a process: it counts the tests of each tenant."""

    def __init__(
        self,
        accept: AcceptService,
        *,
        previews: TemplatePreviews,
        persons: PersonRepository,
        kept: AcceptRepository,
    ) -> None:
        self._accept = accept
        self._previews = previews
        self._persons = persons
        self._kept = kept
        self._turns = Turns()

    async def send(self, name: str, *, raw: bytes, sender: Sender, key: str | None) -> Accepted:
        """Returns only after the COMMIT. Raises what accept raises, NotFound, TemplateBroken, TooManyRequests."""
        route = f"POST /v1/templates/{name}/test-send"
        once = None if key is None else key_of(sender, route, key=key, raw=raw, answer=b"")
        if once is not None:  # before anything is counted
            [found] = await self._kept.kept([once])
            if found is not None:
                return _replayed(judge(once, found))
        try:
            row = await self._row(name, raw=raw, sender=sender)
        except (*REFUSALS, NotFound) as refusal:  # the first one may just be on its way
            if once is None:
                raise
            return Accepted.replayed(await self._accept.kept.instead_of(refusal, once))
        return await self._accept.put(row, sender=sender, route=route, key=key, raw=raw)

    async def _row(self, name: str, *, raw: bytes, sender: Sender) -> Row:
        """It is counted, if nothing is wrong with it."""
        asked = decode.test_send(raw)
        template = await self._previews.template(sender.tenant, name, version=asked.version or None)
        request = _request(asked, template)
        locale = None if asked.locale is UNSET else canonical(asked.locale)
        self._check(request, template, asked=asked, locale=locale)
        await self._check_recipient(request, sender=sender)
        await self._accept.follow_route(request, sender=sender)
        await self._check_rendering(request, template, sender=sender, locale=locale)
        self._count(sender)
        options = {TEST: True, **({LOCALE: locale} if locale else {})}
        return row_of(request, sender=sender, version=template.version, more=options)

    def _check(
        self, request: NotificationRequest, template: PublishedTemplate, *, asked: TestSendRequest, locale: str | None
    ) -> None:
        """Raises Invalid."""
        errors = broken_rules(request, now=self._accept.clock.now())
        if asked.locale is not UNSET and locale is None:
            errors.append(FieldError("/locale", "format", "A locale is a language tag (BCP 47), as in zh-CN or en."))
        assert request.data is not UNSET
        errors += template.check(request.data)
        if errors:
            raise Invalid(errors)

    async def _check_recipient(self, request: NotificationRequest, *, sender: Sender) -> None:
        if request.to.user is not UNSET:
            await self._accept.check_recipient((sender.tenant, request.to.user))

    async def _check_rendering(
        self, request: NotificationRequest, template: PublishedTemplate, *, sender: Sender, locale: str | None
    ) -> None:
        """Render it as the workers will. Raises TemplateBroken with everything found."""
        name, own = "", ""
        if request.to.user is not UNSET:
            profile = (await self._persons.get(sender.tenant, request.to.user)).profile
            name, own = profile.name or "", profile.locale
        user = {"name": name, "locale": locale or own}
        assert request.data is not UNSET
        errors = await asyncio.to_thread(_errors_blocking, template, _channels(request), request.data, user)
        if errors:
            raise TemplateBroken(errors)

    def _count(self, sender: Sender) -> None:
        wait_s = self._turns.take(sender.tenant, now_s=self._accept.clock.monotonic_s())
        if wait_s:
            message = "Your tenant has sent many tests just now: send this one again later."
            raise TooManyRequests(message, retry_after_s=math.ceil(wait_s))


def _request(asked: TestSendRequest, template: PublishedTemplate) -> NotificationRequest:
    """The notification that it is, in the high lane with that lane's short life."""
    return NotificationRequest(
        to=asked.to,
        channels=asked.channels,
        template=template.name,
        data=dict(template.example_data) if asked.data is UNSET else asked.data,
        priority="high",
        category=template.category,
    )


def _channels(request: NotificationRequest) -> list[Channel]:
    """The channels that its plan will try."""
    if request.channels is not UNSET:
        return list(request.channels)
    if request.to.user is not UNSET:
        return list(DEFAULT_CHANNELS)
    return [Channel.EMAIL if request.to.channel is UNSET else request.to.channel]


def _errors_blocking(
    template: PublishedTemplate, channels: list[Channel], data: Mapping[str, Any], user: Mapping[str, Any]
) -> list[FieldError]:
    errors: list[FieldError] = []
    for channel in channels:
        try:
            template.render(channel, locale=user["locale"], data=data, user=user)
        except TemplateBroken as broken:
            errors += [error for error in broken.errors if error not in errors]
    return errors


def _replayed(answer: bytes | TongdaError) -> Accepted:
    if isinstance(answer, TongdaError):
        raise answer
    return Accepted.replayed(answer)
