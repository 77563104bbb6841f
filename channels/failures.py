"""What a port's failure means, the same for every provider."""

from __future__ import annotations

from channels.base import NotSent, TargetRefused, TransportError
from domain.results import Refuser, ResultClass, SendResult


def result_of_failure(error: TransportError, *, provider_id: str | None = None) -> SendResult:
    """NotSent is RETRY, TargetRefused PERMANENT of the endpoint, AnswerLost and anything unforeseen UNKNOWN.

    `provider_id` is kept only where the message may be known to the provider by it.
    """
    if isinstance(error, NotSent):
        return SendResult(ResultClass.RETRY, code=error.code)
    if isinstance(error, TargetRefused):
        return SendResult(ResultClass.PERMANENT, code=error.code, refuser=Refuser.ENDPOINT)
    return SendResult(ResultClass.UNKNOWN, code=error.code, provider_id=provider_id)
