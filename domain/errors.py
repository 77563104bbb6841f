"""The errors that a user or an operator can meet.

    TongdaError                     code, transient
    ├── Rejected                    the request cannot be taken as it is
    │   ├── Malformed               not JSON, not UTF-8, too deep
    │   ├── TooLarge                body over the limit
    │   ├── UnsupportedMedia        the body is something else than JSON in UTF-8
    │   ├── Invalid                 one or more fields break a rule; each named by a JSON pointer
    │   ├── RecipientUnknown        no such user
    │   ├── RecipientGone           the user was erased, merged away or deactivated
    │   ├── NotFound                no such object for this tenant
    │   ├── Conflict                the object's state, or another use of the same key, forbids it
    │   │   ├── HandedOff           too late to edit: `fence` says how far it is
    │   │   └── Repeats             edited, it would be what another one is already: `of`
    │   ├── CodeRefused             a one-time code does not fit, or can no longer be used
    │   ├── TooManyRequests         more than this caller may ask for: come back after `retry_after_s`
    │   ├── Unauthenticated         no valid API key or token
    │   └── Forbidden               the key lacks the role
    └── Failed                      the service could not do it; transient unless said otherwise
        ├── Overloaded              a queue is full: come back after `retry_after_s`
        ├── Unavailable             something that this needs cannot be reached
        ├── NoLongerWanted          what was accepted must not be sent any more: end it quietly
        │   └── OutOfTime           what it carries has expired
        └── Broken                  a defect of ours; `code` finds it in the logs

`code` is stable and part of the API. Messages name fields and rules, never values: they end up in logs and answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule."""

    pointer: str
    """JSON pointer (RFC 6901) of the field, "" for the whole body; `?name` for a query parameter, `/headers/Name` for a
    header (the API shows these two as `parameter` and `header`)."""
    code: str
    """Stable name of the rule: unknown_field, required, type, format, too_long, not_allowed, ..."""
    message: str
    """What the rule is and how to satisfy it."""


class TongdaError(Exception):
    """Root. `str(error)` is a sentence for people."""

    code = "error"
    transient = False

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().splitlines()[0])
        if code is not None:
            self.code = code


class Rejected(TongdaError):
    """The request cannot be taken as it is."""

    code = "rejected"


class Malformed(Rejected):
    """The body is not JSON that can be read."""

    code = "malformed"

    def __init__(self, message: str = "", *, pointer: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.pointer = pointer


class TooLarge(Rejected):
    """The body is larger than the limit."""

    code = "too_large"


class UnsupportedMedia(Rejected):
    """Send the body as `Content-Type: application/json`, in UTF-8 and not compressed."""

    code = "unsupported_media_type"


class Invalid(Rejected):
    """One or more fields break a rule."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.message}" for e in errors))
        self.errors = tuple(errors)

    @classmethod
    def field(cls, pointer: str, code: str, message: str) -> Invalid:
        return cls([FieldError(pointer, code, message)])


class RecipientUnknown(Rejected):
    """No user has this id."""

    code = "recipient_unknown"


class RecipientGone(Rejected):
    """The user was erased, merged into another or deactivated."""

    code = "recipient_gone"


class NotFound(Rejected):
    """There is no such object."""

    code = "not_found"


class Conflict(Rejected):
    """The object's present state does not allow this."""

    code = "conflict"


class HandedOff(Conflict):
    """It was handed over already, or is being handed over."""

    code = "handed_off"

    def __init__(self, message: str = "", *, fence: str) -> None:
        super().__init__(message)
        self.fence = fence


class Repeats(Conflict):
    """The same was sent to the same recipient, or is on its way, and one of the two asked that it be sent once."""

    code = "duplicate"

    def __init__(self, message: str = "", *, of: UUID) -> None:
        super().__init__(message or "The same is on its way as another notification, or was sent: `duplicate_of`.")
        self.of = of
        """The other one."""


class CodeRefused(Rejected):
    """The one-time code does not fit, or can no longer be used."""

    code = "otp_wrong"

    def __init__(self, message: str, *, code: str, attempts_left: int | None = None) -> None:
        super().__init__(message, code=code)
        self.attempts_left = attempts_left
        """With `otp_wrong`."""


class TooManyRequests(Rejected):
    """More than may be asked for in this time; nothing of this request was kept."""

    code = "too_many_requests"

    def __init__(self, message: str = "", *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unauthenticated(Rejected):
    """Send a valid API key: `Authorization: Bearer <api key>`."""

    code = "unauthenticated"


class Forbidden(Rejected):
    """The key lacks the role for it."""

    code = "forbidden"


class Failed(TongdaError):
    """The service could not do it."""

    code = "failed"
    transient = True


class Overloaded(Failed):
    """More came in than can be stored at the moment; nothing of this request was kept."""

    code = "overloaded"

    def __init__(self, message: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(Failed):
    """Something that this needs cannot be reached, or did not answer in time.

    Mostly nothing was changed; where the message says that it may still be done, the same request again tells.
    """

    code = "unavailable"


class NoLongerWanted(Failed):
    """It was accepted, and something has happened since after which it must not be sent."""

    code = "no_longer_wanted"
    transient = False


class OutOfTime(NoLongerWanted):
    """What it carries has expired while it was on its way."""

    code = "out_of_time"


class Broken(Failed):
    """A defect of this service."""

    code = "broken"
    transient = False
