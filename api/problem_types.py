"""The published list of problem codes: each with its HTTP status, what it means and what to do. Served at /problems."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One code. `title` is the same for every occurrence, as RFC 9457 asks."""

    status: HTTPStatus
    title: str
    meaning: str
    """What happened, and what the caller can do about it."""


_NOTHING_KEPT = "Nothing of the request was kept."

PROBLEM_TYPES: dict[str, ProblemType] = {
    # The body
    "malformed": ProblemType(
        HTTPStatus.BAD_REQUEST,
        "The body cannot be read",
        "The body is not JSON. Check it with a JSON parser. " + _NOTHING_KEPT,
    ),
    "invalid_utf8": ProblemType(
        HTTPStatus.BAD_REQUEST, "The body is not UTF-8", "Text is sent as UTF-8, without half surrogate pairs."
    ),
    "nul_character": ProblemType(
        HTTPStatus.BAD_REQUEST, "The body holds a NUL character", "No text may hold U+0000, written out or as an escape."
    ),
    "too_deep": ProblemType(
        HTTPStatus.BAD_REQUEST, "The body is nested too deeply", "Objects and lists are nested at most 32 levels deep."
    ),
    "repeated_name": ProblemType(
        HTTPStatus.BAD_REQUEST,
        "An object holds a name twice",
        "Which one counts depends on who reads it: give each name of an object once. " + _NOTHING_KEPT,
    ),
    "too_large": ProblemType(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large", "A body has at most 1 MiB; send several requests."
    ),
    "unsupported_media_type": ProblemType(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not JSON", "Send `Content-Type: application/json`, in UTF-8, not compressed."
    ),
    "invalid": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "One or more fields break a rule",
        "`errors` names each: `pointer` is the JSON pointer of a field of the body, `parameter` a query parameter, "
        "`header` a header; `code` is the rule, `detail` what it asks for. " + _NOTHING_KEPT,
    ),
    # Who asks, and for what
    "unauthenticated": ProblemType(
        HTTPStatus.UNAUTHORIZED,
        "No valid API key",
        "Send `Authorization: Bearer <api key>`. The key may be missing, mistyped, expired or revoked.",
    ),
    "receipt_signature": ProblemType(
        HTTPStatus.UNAUTHORIZED,
        "The receipt is not signed as it must be",
        "`detail` says what is missing. Sign the bytes that you send, with the secret that signs what you get, and the "
        "present time.",
    ),
    "forbidden": ProblemType(
        HTTPStatus.FORBIDDEN,
        "The key lacks the role",
        "Ask an administrator for a key that has one of the roles named in `detail`.",
    ),
    "token_expired": ProblemType(
        HTTPStatus.UNAUTHORIZED, "The user token has expired", "Ask the application's server for a new one."
    ),
    "ticket_invalid": ProblemType(
        HTTPStatus.UNAUTHORIZED,
        "The ticket is unknown, used or expired",
        "A ticket opens one stream, within 30 seconds: make a new one with POST /v1/inbox/tickets.",
    ),
    "not_found": ProblemType(
        HTTPStatus.NOT_FOUND, "No such object", "There is no such path, or no object with this id in your tenant."
    ),
    "method_not_allowed": ProblemType(
        HTTPStatus.METHOD_NOT_ALLOWED, "Not this method", "The path exists; the header `Allow` lists its methods."
    ),
    "recipient_unknown": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "No such user", "Create the user first, or send to an address. " + _NOTHING_KEPT
    ),
    "recipient_gone": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The user can no longer be written to",
        "The user was erased, merged into another or deactivated. " + _NOTHING_KEPT,
    ),
    "too_many_requests": ProblemType(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests",
        "More than may be asked for in this time. Wait as long as `Retry-After` says. " + _NOTHING_KEPT,
    ),
    # The object's state
    "conflict": ProblemType(
        HTTPStatus.CONFLICT, "The present state does not allow it", "Read the object, decide again. Nothing was changed."
    ),
    "idempotency_conflict": ProblemType(
        HTTPStatus.CONFLICT,
        "The Idempotency-Key was used for another body",
        "The same key belongs to the same body for 30 days. Use a new key for a new request. " + _NOTHING_KEPT,
    ),
    "handed_off": ProblemType(
        HTTPStatus.CONFLICT,
        "Too late to edit",
        "`fence` says how far it is: `planned` (one step was handed over, others wait), `handing_over`, `finished` or "
        "`cancelled`. Nothing was changed; cancel stops what is left, resend sends a finished one again.",
    ),
    "duplicate": ProblemType(
        HTTPStatus.CONFLICT,
        "It would repeat another",
        "It would say the same to the same recipient as the notification that `duplicate_of` names, while the window of "
        "`dedupe` lasts. Nothing was changed, so it is still sent as it was: cancel it, if the other one will do.",
    ),
    "still_open": ProblemType(
        HTTPStatus.CONFLICT,
        "It has not ended yet",
        "Only what has ended is sent again: wait for its end, or cancel it first. Nothing was sent.",
    ),
    "is_a_test": ProblemType(
        HTTPStatus.CONFLICT,
        "It is a test",
        "A notification that test-send made may hold a draft: it is neither edited nor sent again. Make another test-send.",
    ),
    "content_erased": ProblemType(
        HTTPStatus.CONFLICT, "Its content was erased", "There is nothing left that could be sent again: send it anew."
    ),
    "category_exists": ProblemType(
        HTTPStatus.CONFLICT, "The category exists", "A category of this name exists: change it with PATCH."
    ),
    "category_limit": ProblemType(
        HTTPStatus.CONFLICT, "Too many categories", "A tenant has at most 1,000 categories: delete some that nobody uses."
    ),
    "user_exists": ProblemType(
        HTTPStatus.CONFLICT, "The user exists", "A user with this id exists: change it with PATCH /v1/users/{id}."
    ),
    "identity_exists": ProblemType(
        HTTPStatus.CONFLICT, "The identity exists", "This user has this address on this channel already."
    ),
    "app_exists": ProblemType(HTTPStatus.CONFLICT, "The app exists", "An app with this id exists in this tenant."),
    "key_revoked": ProblemType(
        HTTPStatus.CONFLICT, "The key is revoked", "A revoked or expired key stays so; create a new one."
    ),
    "template_exists": ProblemType(
        HTTPStatus.CONFLICT, "The template exists", "A template of this name exists: add a version to it."
    ),
    "template_broken": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The template cannot be used",
        "`errors` names each block by its JSON pointer, such as `/contents/zh-CN/email/html`, with the line. "
        + _NOTHING_KEPT,
    ),
    "not_published": ProblemType(
        HTTPStatus.CONFLICT,
        "The template is not published",
        "Nothing is in force that could be rolled back: publish a version.",
    ),
    "nothing_older": ProblemType(
        HTTPStatus.CONFLICT, "No older version", "No older version can be published: name one, or add a version."
    ),
    "provider_exists": ProblemType(
        HTTPStatus.CONFLICT, "The provider account exists", "A provider account of this name exists: change it with PATCH."
    ),
    "provider_limit": ProblemType(
        HTTPStatus.CONFLICT, "Too many provider accounts", "A tenant has at most 100: delete some that nobody uses."
    ),
    "provider_read_only": ProblemType(
        HTTPStatus.CONFLICT,
        "It belongs to the installation",
        "Accounts with the source `installation` come from the settings of the service: its operator changes them there. "
        "Create one of your own to use another.",
    ),
    # One-time codes
    "otp_wrong": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The code does not fit",
        "`attempts_left` guesses are left, over all codes of this id; with 0 the next answer is `otp_locked`. The limit of "
        "wrong guesses for the recipient may be reached before: `otp_limited`.",
    ),
    "otp_expired": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "The code has expired",
        "Send it again with POST /v1/otp/{id}/resend, or make a new one. The guess was not counted.",
    ),
    "otp_used": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY, "The code was used", "A code is good once. Make a new one with POST /v1/otp."
    ),
    "otp_locked": ProblemType(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Too many wrong guesses",
        "This id takes no further guess, also not the right one. Make a new one with POST /v1/otp.",
    ),
    "otp_exhausted": ProblemType(
        HTTPStatus.CONFLICT, "Sent often enough", "It was sent five times. Make a new one with POST /v1/otp."
    ),
    "otp_too_soon": ProblemType(
        HTTPStatus.TOO_MANY_REQUESTS,
        "A code was sent a moment ago",
        "Wait as long as `Retry-After` says; the answer to the last one said the same as `resend_after`. " + _NOTHING_KEPT,
    ),
    "otp_limited": ProblemType(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many codes, or wrong guesses",
        "`detail` names the limit: of the recipient, of the range of addresses, of the client's network or of the tenant; "
        "or of wrong guesses at all codes of the recipient: then no code is sent, and no guess is looked at or counted, "
        "also not the right one. Wait as long as `Retry-After` says. " + _NOTHING_KEPT,
    ),
    "otp_message": ProblemType(
        HTTPStatus.CONFLICT,
        "It carries a one-time code",
        "Such a message is neither edited nor sent again by itself: use POST /v1/otp/{id}/resend. Cancelling works.",
    ),
    # Ours
    "overloaded": ProblemType(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Over capacity",
        "More comes in than can be stored at the moment. Wait as long as `Retry-After` says. " + _NOTHING_KEPT,
    ),
    "unavailable": ProblemType(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Something this needs cannot be reached",
        "Send it again after `Retry-After`, with the same Idempotency-Key: whether this try was kept may not be known.",
    ),
    "internal": ProblemType(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "A defect of this service",
        "The time and the header `X-Request-Id` find it in the operators' logs. Sending it again is safe with an "
        "Idempotency-Key.",
    ),
    "not_storable": ProblemType(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "This request cannot be stored",
        "The database refuses this request and only this one; tell the operators its time. " + _NOTHING_KEPT,
    ),
}
