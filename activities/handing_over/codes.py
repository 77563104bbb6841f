"""The message of a one-time code. Here alone the code is computed for sending: in the worker's memory, after the claim."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from channels.base import Content
from domain.errors import NoLongerWanted, OutOfTime, Unavailable
from infra.otp_codes import OtpCodes
from infra.postgres.accept.otp import Sendable
from infra.postgres.engine.claimed import Claim
from infra.rendering.template import PublishedTemplate

VARIABLE = "code"
GRACE = timedelta(seconds=15)
"""A message that is rendered this soon after its accept still says the whole number of minutes."""

TEXTS: dict[str, dict[str, dict[str, str]]] = {
    "zh-CN": {
        "default": {
            "title": "验证码",
            "text": "您的验证码是 {{ code }}，{{ minutes }} 分钟内有效。请勿告诉他人，工作人员不会向您索要。",
        }
    },
    "en": {
        "default": {
            "title": "Your verification code",
            "text": "Your verification code is {{ code }}. It expires in {{ minutes }} min. "
            "Do not share it: nobody from us will ask you for it.",
        }
    },
}
"""Where the tenant names no template. Never in the title: subjects stand in mail servers' logs."""


class SendableCodes(Protocol):
    """Which code a notification may carry at this moment."""

    async def sendable(self, tenant: str, otp_id: UUID, *, notification_id: UUID) -> Sendable | None: ...


class CodeMessages:
    """Wired once for each worker process."""

    def __init__(self, stored: SendableCodes, codes: OtpCodes) -> None:
        self._stored = stored
        self._codes = codes
        self._own = PublishedTemplate("otp", version=1, category="", variables={}, contents=TEXTS)

    async def content(
        self, claim: Claim, otp_id: UUID, *, template: PublishedTemplate | None, data: dict[str, Any]
    ) -> Content:
        """`template` is the tenant's own. Raises NoLongerWanted where the code was used or replaced meanwhile, OutOfTime
        where it has expired, Unavailable where it was made under a key that this process does not have."""
        found = await self._stored.sendable(claim.tenant, otp_id, notification_id=claim.notification_id)
        if found is None:
            raise NoLongerWanted
        if found.left <= timedelta(0):
            raise OutOfTime
        codes = self._codes.under(found.key_id)
        if codes is None:
            raise Unavailable("This code was made under another TONGDA_SECRET_KEY.", code="otp_other_key")
        values = {**data, VARIABLE: codes.code(found.seed)}
        if template is None:
            template, values["minutes"] = self._own, max(1, (found.left + GRACE) // timedelta(minutes=1))
        locale = found.locale or claim.locale
        user = {"name": claim.person_name or "", "locale": locale}
        return template.render(claim.channel, locale=locale, data=values, user=user)
