"""One-time codes: what a guess or a resend leads to, and how much may be sent to whom. Pure; the code itself is not here.

open ── right ──> used            used and locked are ends; an expired code can be sent anew
open ── the last wrong guess ──> locked
open ── time ──> expired ── resend ──> open
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from domain.channels import Channel

DEFAULT_LENGTH, SHORTEST, LONGEST = 6, 4, 10
"""Digits."""
DEFAULT_LIFE = timedelta(minutes=5)
SHORTEST_LIFE, LONGEST_LIFE = timedelta(minutes=1), timedelta(hours=1)
MOST_ATTEMPTS = 5
"""Wrong guesses over the whole life of an id, resends included: otherwise each resend would buy new guesses."""
MOST_SENDS = 5
"""Codes of one id: the first and its resends."""
CATEGORY = "otp"
"""The category of codes that name none and whose template has none; a tenant may give it a route."""
DEFAULT_CHANNELS: tuple[Channel, ...] = (Channel.EMAIL,)
"""The channels where neither the request nor the category's route names any. Not in-app: somebody who asks for a code has
no inbox open."""
NEXT_CHANNEL_AFTER = timedelta(seconds=30)
"""How long a channel that reports may give no receipt before the next one is tried, unless the request or the category's
route says otherwise."""
STORED_CHANNELS = frozenset({Channel.INAPP})
"""Channels that keep the message as it reads in our own database, where no code may stand."""
KEPT_FOR = timedelta(days=7)
"""How long after its end an id is kept: a late guess learns what became of it, not that there is no such id."""


class Verdict(StrEnum):
    """What a guess leads to."""

    VERIFIED = "verified"
    WRONG = "otp_wrong"
    EXPIRED = "otp_expired"
    USED = "otp_used"
    LOCKED = "otp_locked"


class ResendVerdict(StrEnum):
    """What asking for it again leads to."""

    SENT = "sent"
    TOO_SOON = "otp_too_soon"
    USED = "otp_used"
    LOCKED = "otp_locked"
    EXHAUSTED = "otp_exhausted"


@dataclass(frozen=True, slots=True)
class CodeState:
    """One id, whatever codes it has had. Only the newest code counts: `sends` is its number."""

    expires_at: datetime
    resend_at: datetime
    attempts: int = 0
    sends: int = 1
    used: bool = False

    @property
    def attempts_left(self) -> int:
        return max(0, MOST_ATTEMPTS - self.attempts)

    @property
    def locked(self) -> bool:
        return self.attempts_left == 0


def closed(state: CodeState, *, now: datetime) -> Verdict | None:
    """Why no guess is looked at, whatever it is; None where one is."""
    if state.used:
        return Verdict.USED
    if state.locked:
        return Verdict.LOCKED
    return Verdict.EXPIRED if state.expires_at <= now else None


def verify(state: CodeState, *, right: bool, now: datetime) -> tuple[Verdict, CodeState]:
    """The verdict, and the state after it. A guess counts only against a code that could still be used."""
    end = closed(state, now=now)
    if end is not None:
        return end, state
    if right:
        return Verdict.VERIFIED, replace(state, used=True)
    return Verdict.WRONG, replace(state, attempts=state.attempts + 1)


def resend(state: CodeState, *, now: datetime, life: timedelta, cooldown: timedelta) -> tuple[ResendVerdict, CodeState]:
    """The verdict, and the state after it: a new code with a life of its own, the guesses of the old one still counted."""
    if state.used:
        return ResendVerdict.USED, state
    if state.locked:
        return ResendVerdict.LOCKED, state
    if state.sends >= MOST_SENDS:
        return ResendVerdict.EXHAUSTED, state
    if now < state.resend_at:
        return ResendVerdict.TOO_SOON, state
    return ResendVerdict.SENT, replace(state, sends=state.sends + 1, expires_at=now + life, resend_at=now + cooldown)


def one_further(channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """The chain of a resend: it begins with the next channel, since the first one of the last send did not help."""
    return channels[1:] + channels[:1]


class Scope(StrEnum):
    """What is counted. Values are stored."""

    COOLDOWN = "cooldown"
    """One recipient and purpose, between two codes."""
    RECIPIENT_HOUR = "recipient_hour"
    RECIPIENT_DAY = "recipient_day"
    RANGE = "range"
    """A block of phone numbers, or a host: what pumping walks through, for the sake of who is paid for what comes in."""
    CLIENT = "client"
    """The network of the client that asked, where the caller names it."""
    TENANT = "tenant"
    GUESSES_HOUR = "guesses_hour"
    """Wrong guesses at the codes of one recipient, of whatever id and purpose: otherwise each new id would buy new ones."""
    GUESSES_DAY = "guesses_day"


GUESSES = (Scope.GUESSES_HOUR, Scope.GUESSES_DAY)
"""Counted by wrong guesses; all others by what is sent."""

WORDS: dict[Scope, str] = {
    Scope.COOLDOWN: "A code was sent to this recipient a moment ago.",
    Scope.RECIPIENT_HOUR: "Too many codes for this recipient within an hour.",
    Scope.RECIPIENT_DAY: "Too many codes for this recipient within a day.",
    Scope.RANGE: "Too many codes for this range of addresses within an hour.",
    Scope.CLIENT: "Too many codes asked for from this client's network within an hour.",
    Scope.TENANT: "Too many codes for this tenant within an hour.",
    Scope.GUESSES_HOUR: "Too many wrong guesses at this recipient's codes within an hour.",
    Scope.GUESSES_DAY: "Too many wrong guesses at this recipient's codes within a day.",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many in a span, which begins with its first."""

    most: int
    span: timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """Every limit; a scope that is missing has none."""

    limits: dict[Scope, Limit]

    @property
    def cooldown(self) -> timedelta:
        limit = self.limits.get(Scope.COOLDOWN)
        return limit.span if limit else timedelta(0)

    @property
    def guesses(self) -> dict[Scope, Limit]:
        """Those of wrong guesses."""
        return {scope: self.limits[scope] for scope in GUESSES if scope in self.limits}


class LetIn(StrEnum):
    """What it led to that a recipient's wrong guesses are to be forgotten."""

    LET_IN = "let_in"
    """There were as many as there may be, so that no guess was looked at and no code sent; now there are none."""
    CLEARED = "cleared"
    """There were some, and room for more; now there are none."""
    NOTHING_COUNTED = "nothing_counted"
    """There were none: a refusal has another reason."""


def let_in(counted: Mapping[Scope, int], limits: Mapping[Scope, Limit]) -> LetIn:
    """`counted`: the wrong guesses that were forgotten, by span."""
    if any(scope in limits and count >= limits[scope].most for scope, count in counted.items()):
        return LetIn.LET_IN
    return LetIn.CLEARED if any(counted.values()) else LetIn.NOTHING_COUNTED


def counted(
    *, user_id: str | None, to: Sequence[tuple[Channel, str]], later: Sequence[tuple[Channel, str]] = (), purpose: str
) -> list[tuple[Scope, str]]:
    """What one send counts against, each once: (scope, subject). `to` are the addresses that it goes to, `later` those that
    it may come to. Both count by range: whoever pumps messages puts a channel first that costs nothing and reports nothing.
    As recipients only the first: nobody has shown that a later address is theirs, and whoever names somebody else's there
    would use up that one's codes without a single one being sent. (The client's network is counted too; when a code is sent
    again, only its hash is known.)"""
    blocks = ((channel, address_range(address)) for channel, address in (*to, *later))
    found = [(Scope.RANGE, f"{channel}:{block}") for channel, block in blocks if block is not None]
    for recipient in recipients(user_id=user_id, to=to):
        found.append((Scope.COOLDOWN, f"{recipient}:{purpose}"))
        found += ((scope, recipient) for scope in (Scope.RECIPIENT_HOUR, Scope.RECIPIENT_DAY))
    return list(dict.fromkeys([*found, (Scope.TENANT, "")]))


def recipients(*, user_id: str | None, to: Sequence[tuple[Channel, str]]) -> list[str]:
    """Whose codes these are, each once: the user and the addresses that they go to."""
    users = [f"user:{user_id}"] if user_id is not None else []
    return list(dict.fromkeys([*users, *(f"address:{channel}:{mailbox(address)}" for channel, address in to)]))


def mailbox(address: str) -> str:
    """One spelling for addresses that reach the same person: neither case counts, nor what follows `+` in an e-mail's."""
    local, at, domain = address.rpartition("@")
    if not at or "/" in address:
        return address
    return f"{local.partition('+')[0]}@{domain}".lower()


def address_range(address: str) -> str | None:
    """The block that an address lies in: a phone number without its last four digits, a URL's host. None for an e-mail
    address: nobody earns by what comes into a domain, and half of a tenant's users are at one of a few. Its limit would be
    a lever by which anyone who asks for codes to made-up addresses there keeps them all from theirs."""
    if address.startswith("+"):
        return address[:-4]
    if "://" in address:
        return (urlsplit(address).hostname or "").lower()
    return None


def client_network(client_ip: str) -> str:
    """/24 of an IPv4 address, /48 of an IPv6 one. Raises ValueError for anything else."""
    ip = ip_address(client_ip)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip_network((int(ip), 24 if ip.version == 4 else 48), strict=False))
