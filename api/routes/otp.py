"""/v1/otp: one-time codes. No answer, row, log or event ever holds one; only the message does."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.accept.otp import OtpAnswer
from api.accept.rows import Sender, key_errors
from api.container import Container, container_of
from api.idempotency import IdempotencyKey
from api.schemas import Body
from api.security import Permission, Principal, require
from domain.errors import CodeRefused, Invalid, TooManyRequests
from domain.otp import LONGEST, SHORTEST, LetIn
from infra.telemetry.metrics import OTP

router = APIRouter(prefix="/v1/otp", tags=["one-time codes"])

log = structlog.get_logger()

Sending = Annotated[Principal, Depends(require(Permission.SEND))]
LettingIn = Annotated[Principal, Depends(require(Permission.LET_IN))]
Parts = Annotated[Container, Depends(container_of)]


def _body(name: str) -> dict[str, Any]:
    """What a route reads by itself."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"requestBody": {"required": True, "content": content}}


_EXAMPLE: dict[str, Any] = {
    "id": "01a20a32-744b-7020-809a-bb07e52cad04", "notification_id": "01a20a32-744b-7021-8b1c-3c1f0e6a7d55",
    "expires_at": "2026-12-01T01:05:00Z", "resend_after": "2026-12-01T01:01:00Z",
}  # fmt: skip


class OtpSent(BaseModel):
    """It is stored with its message, which is on its way."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    notification_id: UUID = Field(description="The message that carries the code: its deliveries and timeline.")
    expires_at: datetime
    resend_after: datetime = Field(description="Before this it is not sent again: 429.")


DIGITS = re.compile(rf"^[0-9]{{{SHORTEST},{LONGEST}}}$")


def _digits(value: str) -> str:
    if not DIGITS.fullmatch(value):
        raise PydanticCustomError("string_pattern_mismatch", f"A code has {SHORTEST} to {LONGEST} digits.")
    return value


class Guess(Body):
    """What the person typed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "123456"}]})

    code: Annotated[str, AfterValidator(_digits)] = Field(
        description="Digits alone.", json_schema_extra={"pattern": DIGITS.pattern}
    )


class Verified(BaseModel):
    """It fitted, and will not fit again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"verified": True}]})

    verified: Literal[True] = True


class WrongGuesses(BaseModel):
    """Of a user and several addresses, the most that one of them had."""

    model_config = ConfigDict(extra="forbid")

    hour: int
    day: int


class ForgottenGuesses(BaseModel):
    """`let_in`: there were as many as there may be. `cleared`: there were some, and room for more. `nothing_counted`: there
    were none, so that a refusal has another reason."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"result": "let_in", "wrong_guesses": {"hour": 15, "day": 21}}]},
    )

    result: LetIn
    wrong_guesses: WrongGuesses = Field(description="How many there were within the hour and the day that were running.")


@router.post(
    "",
    summary="Send a one-time code",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=OtpSent,
    openapi_extra=_body("OtpRequest"),
)
async def send_code(request: Request, principal: Sending, parts: Parts, key: IdempotencyKey = None) -> Response:
    """A code of its own for each request, kept as a keyed hash alone and put into the message when it is sent. 429
    `otp_too_soon` or `otp_limited` with `Retry-After` where too many went to this recipient, range of addresses, client's
    network or from this tenant, and `otp_limited` where too many wrong guesses were made at this recipient's codes. In-app
    messages are stored as they read and carry no codes."""
    sender = Sender(principal.tenant, principal.app)
    with _Counted("made") as counted:
        answer = await parts.otp.make(await request.body(), sender=sender, key=_checked(key))
        counted.replay = answer.replay
    return _answer(answer)


@router.post("/{otp_id}/verify", summary="Check a one-time code")
async def verify_code(otp_id: UUID, guess: Guess, principal: Sending, parts: Parts) -> Verified:
    """200 for the right code, once. Otherwise 422 `otp_wrong` with `attempts_left`, `otp_expired`, `otp_used` or
    `otp_locked`; five wrong guesses lock the id, resends included. 429 `otp_limited` with `Retry-After` after too many at
    codes of this recipient, of whatever id: then no guess is looked at, also not the right one. What is left of the message
    is stopped once it is verified. There is no Idempotency-Key here."""
    with _Counted("verified"):
        await parts.otp.verify(principal.tenant, otp_id, guess=guess.code)
    return Verified()


@router.post(
    "/{otp_id}/resend", summary="Send a new code for the same id", status_code=status.HTTP_202_ACCEPTED,
    response_model=OtpSent,
)  # fmt: skip
async def resend_code(
    otp_id: UUID, request: Request, principal: Sending, parts: Parts, key: IdempotencyKey = None
) -> Response:
    """A new code with a life of its own, beginning with the next channel where there are several; the codes before it no
    longer fit, and what is left of their message is stopped. 429 before `resend_after` and at the limits of a new code, 409
    `otp_exhausted` after five sends, 422 `otp_used` and `otp_locked`."""
    sender = Sender(principal.tenant, principal.app)
    with _Counted("resent") as counted:
        answer = await parts.otp.resend(otp_id, sender=sender, key=_checked(key), raw=await request.body())
        counted.replay = answer.replay
    return _answer(answer)


@router.post("/let-in", summary="Forget a recipient's wrong guesses", openapi_extra=_body("LetInRequest"))
async def let_in(request: Request, principal: LettingIn, parts: Parts) -> ForgottenGuesses:
    """For a recipient whom too many wrong guesses keep out (429 `otp_limited`), for whatever code and purpose, before that
    ends by itself: at once guesses are looked at again and codes are sent, as far as the other limits let them. A user is
    let in with all of the user's addresses; an address by itself, whoever has it. An id that five wrong guesses have locked
    stays locked. Asking again does nothing more and says so. Whoever guessed may guess anew, so stop that first. It is
    logged with the id of the key that asked (`otp.let_in`)."""
    answer = await parts.otp.let_in(await request.body(), tenant=principal.tenant)
    # The one trace of it, since what is forgotten is deleted. Not whom: a log outlives an erasure.
    log.info(
        "otp.let_in", tenant=principal.tenant, key_id=str(principal.key_id), result=answer.result, hour=answer.hour,
        day=answer.day,
    )  # fmt: skip
    if answer.result is not LetIn.NOTHING_COUNTED:
        OTP.labels("let_in").inc()
    return ForgottenGuesses(result=answer.result, wrong_guesses=WrongGuesses(hour=answer.hour, day=answer.day))


class _Counted:
    """Counts what a request led to."""

    def __init__(self, success: str) -> None:
        self._success = success
        self.replay = False

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None and not self.replay:
            OTP.labels(self._success).inc()
        elif isinstance(error, CodeRefused):
            OTP.labels(error.code.removeprefix("otp_")).inc()
        elif isinstance(error, TooManyRequests):
            OTP.labels("limited").inc()


def _checked(key: str | None) -> str | None:
    """Raises Invalid."""
    errors = [] if key is None else key_errors(key)
    if errors:
        raise Invalid(errors)
    return key


def _answer(answer: OtpAnswer) -> Response:
    headers = {"Idempotent-Replay": "true"} if answer.replay else {}
    code = status.HTTP_200_OK if answer.replay else status.HTTP_202_ACCEPTED
    return Response(answer.body, status_code=code, headers=headers, media_type="application/json")
