"""One-time codes: asked for, guessed, sent again. The code itself never leaves `OtpCodes` and the worker's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET

from api.accept import decode
from api.accept.kept import REFUSALS
from api.accept.otp_rules import broken_otp_rules, notification_of
from api.accept.request import NotificationRequest, OtpRequest
from api.accept.rows import Sender, key_of, row_of
from api.accept.rules import direct_address, duration
from api.accept.service import AcceptService
from api.accept.stored import options_of
from api.accept.writer import judge
from domain.channels import Channel
from domain.errors import CodeRefused, Conflict, Invalid, NotFound, RecipientGone, Rejected, TongdaError
from domain.ids import uuid7
from domain.lanes import Lane
from domain.locales import canonical
from domain.otp import (
    CATEGORY,
    DEFAULT_CHANNELS,
    DEFAULT_LIFE,
    NEXT_CHANNEL_AFTER,
    STORED_CHANNELS,
    LetIn,
    Policy,
    ResendVerdict,
    Scope,
    Verdict,
    client_network,
    counted,
    let_in,
    one_further,
    recipients,
)
from domain.states import Strategy
from infra.otp_codes import OtpCodes, Seed
from infra.postgres.accept.accepting import AcceptRepository, Key
from infra.postgres.accept.otp import Again, Answer, NewOtp, OtpRepository, Sealed, StoredOtp
from infra.postgres.accept.otp_limits import Counted, too_many
from infra.postgres.accept.row import Row

ROUTE = "POST /v1/otp"
GUESSED_AT = "guesses"
"""In the names of those whose wrong guesses are counted: one for every span."""
STAND_IN = "0"
"""What a template is checked with in place of each digit."""
_REFUSALS: dict[Verdict, str] = {
    Verdict.WRONG: "The code does not fit.",
    Verdict.EXPIRED: "The code has expired. Ask for a new code.",
    Verdict.USED: "The code was used before. Ask for a new code.",
    Verdict.LOCKED: "There were too many wrong guesses. Ask for a new code.",
}


@dataclass(frozen=True, slots=True)
class OtpAnswer:
    body: bytes
    replay: bool = False


@dataclass(frozen=True, slots=True)
class LetInAnswer:
    """What became of a recipient's wrong guesses, and how many there were."""

    result: LetIn
    hour: int
    day: int


Places = tuple[tuple[Channel, str], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where one send goes, for the counters."""

    user_id: str | None
    to: Places
    later: Places = ()
    """Where it may come to, if the first place does not help."""

    @classmethod
    def of(cls, user_id: str, places: Places, *, strategy: str) -> Target:
        """A user's. A chain goes to its first place for certain; else every place is gone to."""
        return cls(user_id, places[:1], places[1:]) if strategy == Strategy.FALLBACK else cls(user_id, places)


class OtpService:
    def __init__(
        self,
        repository: OtpRepository,
        accepting: AcceptRepository,
        *,
        accept: AcceptService,
        codes: OtpCodes,
        policy: Policy,
    ) -> None:
        self._repository = repository
        self._accepting = accepting
        self._accept = accept
        self._codes = codes
        self._policy = policy

    async def make(self, raw: bytes, *, sender: Sender, key: str | None) -> OtpAnswer:
        """Store code and message; returns after COMMIT. Raises the errors of `domain.errors`, TooManyRequests too."""
        kept = _key(sender, ROUTE, key=key, raw=raw)
        try:
            return await self._make(raw, sender=sender, kept=kept)
        except REFUSALS as refusal:
            return await self._before(refusal, kept)

    async def _make(self, raw: bytes, *, sender: Sender, kept: Key | None) -> OtpAnswer:
        request = decode.otp(raw)
        errors = broken_otp_rules(request, now=self._accept.clock.now())
        if errors:
            raise Invalid(errors)
        notification = notification_of(request)
        if notification.to.user is not UNSET:
            await self._accept.check_recipient((sender.tenant, notification.to.user))
        version = await self._pinned(request, notification, sender=sender)
        target = await self._routed(notification, sender=sender)
        otp_id = uuid7()
        row = _carrying(row_of(notification, sender=sender, version=version), otp_id=otp_id)
        client = None if request.client_ip is UNSET else client_network(request.client_ip)
        subject = None if client is None else self._codes.subject(sender.tenant, Scope.CLIENT, client)
        new = NewOtp(
            sender.tenant,
            sender.app,
            self._sealed(otp_id, send=1, length=request.length),
            request.purpose,
            canonical(request.locale) or "",
            DEFAULT_LIFE if request.expires_in is UNSET else duration(request.expires_in),
            self._policy.cooldown,
            subject,
            self._recipients(sender.tenant, target),
        )
        body = await self._repository.create(
            new,
            row=row,
            counted=self._counted(sender.tenant, target, purpose=request.purpose, client=subject),
            guesses=self._policy.guesses,
            key=kept,
            answer=_answers(otp_id),
        )
        return await self._done(body, kept)

    async def verify(self, tenant: str, otp_id: UUID, *, guess: str) -> Verdict:
        """VERIFIED, or raises CodeRefused, TooManyRequests or NotFound. There is no Idempotency-Key here: the stored hash
        of a body that holds a code would be the code."""

        def fits(sealed: Sealed) -> bool | None:
            codes = self._codes.under(sealed.key_id)
            if codes is None:
                return None
            return codes.matches(sealed.seed, guess, stored=sealed.code_hash)

        verdict, left = await self._repository.verify(tenant, otp_id, fits=fits, guesses=self._policy.guesses)
        if verdict is not Verdict.VERIFIED:
            raise CodeRefused(
                _REFUSALS[verdict], code=verdict, attempts_left=left if verdict is Verdict.WRONG else None
            )  # fmt: skip
        return verdict

    async def resend(self, otp_id: UUID, *, sender: Sender, key: str | None, raw: bytes) -> OtpAnswer:
        """A new code for the same id; the old one fits no more. Raises NotFound, CodeRefused, Conflict, TooManyRequests."""

        def build(stored: StoredOtp, old: asyncpg.Record, own: dict[Channel, str], notification_id: UUID) -> Again:
            send = stored.state.sends + 1
            row, target = _row_again(stored, old, own, notification_id=notification_id)
            return Again(
                row,
                self._sealed(otp_id, send=send, length=stored.sealed.seed.length),
                self._counted(sender.tenant, target, purpose=stored.purpose, client=stored.client),
                self._recipients(sender.tenant, target),
            )

        kept = _key(sender, f"POST /v1/otp/{otp_id}/resend", key=key, raw=raw)
        try:
            decode.nothing(raw)
            answered = await self._repository.resend(
                sender.tenant, otp_id, cooldown=self._policy.cooldown, guesses=self._policy.guesses, key=kept, build=build,
                answer=_answers(otp_id),
            )  # fmt: skip
        except (*REFUSALS, NotFound) as refusal:  # a code is kept for a shorter time than a key
            return await self._before(refusal, kept)
        match answered.verdict:
            case ResendVerdict.SENT:
                return await self._done(answered.body, kept)
            case ResendVerdict.TOO_SOON:
                raise too_many(Scope.COOLDOWN, wait_s=answered.wait.total_seconds())
            case ResendVerdict.EXHAUSTED:
                raise Conflict("It was sent as often as one can be; make a new one.", code="otp_exhausted")
            case verdict:
                raise CodeRefused(_REFUSALS[Verdict(verdict)], code=verdict)

    async def let_in(self, raw: bytes, *, tenant: str) -> LetInAnswer:
        """The recipient's wrong guesses, over all ids and purposes, are forgotten: a user's, and those at all of the user's
        addresses; or those at one address. Raises Malformed, Invalid, RecipientUnknown, RecipientGone."""
        to = decode.let_in(raw).to
        errors = broken_otp_rules(OtpRequest(to), now=self._accept.clock.now())
        if errors:
            raise Invalid(errors)
        direct, user = direct_address(to), None if to.user is UNSET else to.user
        if user is not None:
            await self._accept.check_recipient((tenant, user))

        def named(own: Sequence[tuple[Channel, str]]) -> list[bytes]:
            found = recipients(user_id=user, to=own if direct is None else [direct])
            return [codes.subject(tenant, GUESSED_AT, name) for codes in self._codes.of_all_keys() for name in found]

        were = await self._repository.let_in(tenant, user, recipients=named)
        return LetInAnswer(let_in(were, self._policy.guesses), were[Scope.GUESSES_HOUR], were[Scope.GUESSES_DAY])

    async def _before(self, refusal: Rejected, key: Key | None) -> OtpAnswer:
        """What the first request with this key was answered; raises `refusal` where there was none."""
        if key is None:
            raise refusal
        return OtpAnswer(await self._accept.kept.instead_of(refusal, key), replay=True)

    async def _done(self, body: bytes | None, key: Key | None) -> OtpAnswer:
        """The answer of what was committed just now, or of the first request with this key."""
        if body is not None:
            self._accept.due(Lane.HIGH)
            return OtpAnswer(body)
        assert key is not None
        [found] = await self._accepting.kept([key])
        first = judge(key, found)
        if isinstance(first, TongdaError):
            raise first
        return OtpAnswer(first, replay=True)

    async def _pinned(self, request: OtpRequest, notification: NotificationRequest, *, sender: Sender) -> int | None:
        """The template's version, checked with a stand-in: the code is not there yet, and is never stored with the data."""
        given = notification.data
        if notification.template is not UNSET:
            notification.data = {**({} if given is UNSET else given), "code": STAND_IN * request.length}
        version = await self._accept.pinned_version(notification, sender=sender)
        notification.data = given
        notification.category = notification.category or CATEGORY
        return version

    async def _routed(self, notification: NotificationRequest, *, sender: Sender) -> Target:
        """Settle channels and strategy: of a user's, those on which there is an address. Raises Invalid."""
        user = notification.to.user
        if user is UNSET:
            if notification.strategy is UNSET:
                notification.strategy = Strategy.FALLBACK
            direct = direct_address(notification.to)
            assert direct is not None
            notification.channels = [direct[0]]  # a resend reads them
            return Target(None, (direct,))
        if notification.channels is UNSET:
            await self._accept.follow_route(notification, sender=sender)
            routed = DEFAULT_CHANNELS if notification.channels is UNSET else notification.channels
            notification.channels = [channel for channel in routed if channel not in STORED_CHANNELS]
        if notification.strategy in (UNSET, Strategy.PREFERRED):  # a route's; a resend is one channel further
            notification.strategy = Strategy.FALLBACK
        if notification.strategy is Strategy.FALLBACK and notification.fallback_after is UNSET:
            notification.fallback_after = NEXT_CHANNEL_AFTER
        own = await self._repository.addresses(sender.tenant, user, channels=notification.channels)
        notification.channels = [channel for channel in notification.channels if channel in own]
        if not notification.channels:
            message = "This user has no address on a channel that could carry the code."
            raise Invalid.field("/to/user", "no_address", message)
        places = tuple((channel, own[channel]) for channel in notification.channels)
        return Target.of(user, places, strategy=notification.strategy)

    def _sealed(self, otp_id: UUID, *, send: int, length: int) -> Sealed:
        seed = Seed.new(otp_id, send=send, length=length)
        return Sealed(seed, self._codes.key_id, self._codes.hashed(seed, self._codes.code(seed)))

    def _recipients(self, tenant: str, target: Target) -> tuple[bytes, ...]:
        found = recipients(user_id=target.user_id, to=target.to)
        return tuple(self._codes.subject(tenant, GUESSED_AT, recipient) for recipient in found)

    def _counted(self, tenant: str, target: Target, *, purpose: str, client: bytes | None) -> Sequence[Counted]:
        found = [
            Counted(scope, self._codes.subject(tenant, scope, value), self._policy.limits[scope])
            for scope, value in counted(user_id=target.user_id, to=target.to, later=target.later, purpose=purpose)
            if scope in self._policy.limits
        ]
        if client is not None and Scope.CLIENT in self._policy.limits:
            found.append(Counted(Scope.CLIENT, client, self._policy.limits[Scope.CLIENT]))
        return found


def _carrying(row: Row, *, otp_id: UUID) -> Row:
    """The row plus option `otp`, which tells the worker to insert the code. It has no inline content."""
    options = {**(msgspec.json.decode(row.options) if row.options else {}), "otp": str(otp_id)}
    return row._replace(content=None, options=msgspec.json.encode(options).decode())


def _row_again(
    stored: StoredOtp, old: asyncpg.Record, own: dict[Channel, str], *, notification_id: UUID
) -> tuple[Row, Target]:
    """The last notification anew, one channel further in its chain. Raises RecipientGone."""
    chain = tuple(Channel(name) for name in old["channels"])
    if old["user_id"] is None:
        if old["to_address"] is None:
            raise RecipientGone
        target = Target(None, ((Channel(old["to_channel"]), old["to_address"]),))
    else:
        chain = tuple(channel for channel in one_further(chain) if channel in own)
        if not chain:
            raise RecipientGone("This user has no address left that could carry the code.")
        target = Target.of(old["user_id"], tuple((channel, own[channel]) for channel in chain), strategy=old["strategy"])
    options: dict[str, Any] = options_of(old)
    row = Row(
        id=notification_id, tenant=old["tenant"], app=old["app"], lane=int(Lane.HIGH), category=old["category"],
        user_id=old["user_id"], to_channel=old["to_channel"], to_address=old["to_address"], channels=",".join(chain),
        strategy=old["strategy"], template=old["template"], template_version=old["template_version"], content=None,
        data=old["data"], metadata=old["metadata"], options=msgspec.json.encode(options).decode(), send_at=None,
        expires_in=stored.life, expires_at=None,
    )  # fmt: skip
    return row, target


def _answers(otp_id: UUID) -> Answer:
    def answer(notification_id: UUID, expires_at: datetime, resend_at: datetime) -> bytes:
        return msgspec.json.encode(
            {"id": otp_id, "notification_id": notification_id, "expires_at": expires_at, "resend_after": resend_at}
        )

    return answer


def _key(sender: Sender, route: str, *, key: str | None, raw: bytes) -> Key | None:
    """Without its answer, which is only known in the transaction."""
    return None if key is None else key_of(sender, route, key=key, raw=raw, answer=b"")
