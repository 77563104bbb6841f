"""The code behind an otp row: computed when it is needed, from a key that is not in the database.

    code   HMAC-SHA256(code key, id, number of the send, salt) as a number, its last 4 to 10 decimal digits
    hash   HMAC-SHA256(hash key, id, number of the send, salt, code), all that is stored of it

256 bits modulo 10^10 are uniform to one part in 2^222. Both keys derive from TONGDA_SECRET_KEY; whoever has the database
without it can neither compute a code nor test a guess.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.errors import Unavailable
from infra.secrets import derive

SALT_BYTES = 16
SUBJECT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Seed:
    """What a code is computed from, besides the key."""

    otp_id: UUID
    send: int
    salt: bytes
    length: int

    @classmethod
    def new(cls, otp_id: UUID, *, send: int, length: int) -> Seed:
        return cls(otp_id, send, secrets.token_bytes(SALT_BYTES), length)

    def message(self) -> bytes:
        """Of one length for all, so that no two seeds read the same."""
        return self.otp_id.bytes + self.send.to_bytes(2, "big") + self.length.to_bytes(1, "big") + self.salt


class OtpCodes:
    """Codes, their hashes, and names for what is counted."""

    def __init__(self, secret_key: str, *, others: Sequence[str] = ()) -> None:
        """Without a `secret_key` nothing can be computed: what derives from "" is known to all."""
        self._secret_key = secret_key
        self._others = tuple(others)

    def under(self, key_id: str) -> OtpCodes | None:
        """Codes of the key of this name: the one of now or one of `others`. Raises Unavailable."""
        if key_id == self.key_id:
            return self
        return next((codes for key in self._others if (codes := OtpCodes(key)).key_id == key_id), None)

    def of_all_keys(self) -> list[OtpCodes]:
        """These, and those of `others`: what was counted under a key of before still counts."""
        return [self, *(OtpCodes(key) for key in self._others)]

    @property
    def key_id(self) -> str:
        """Stored beside each hash: tells whether a code was made under the key of now. Raises Unavailable."""
        return self._key("id").hex()[:16]

    def code(self, seed: Seed) -> str:
        """The digits. Raises Unavailable."""
        number = int.from_bytes(hmac.digest(self._key("code"), seed.message(), "sha256"), "big")
        return str(number % 10**seed.length).zfill(seed.length)

    def hashed(self, seed: Seed, code: str) -> bytes:
        """What is stored of `code`. Raises Unavailable."""
        return hmac.digest(self._key("hash"), seed.message() + code.encode(), "sha256")

    def matches(self, seed: Seed, guess: str, *, stored: bytes) -> bool:
        """In a time that tells nothing of how near `guess` is. Raises Unavailable."""
        return hmac.compare_digest(self.hashed(seed, guess), stored)

    def subject(self, tenant: str, scope: str, value: str) -> bytes:
        """A name for an address, user or network in the counters; it does not lead back. Raises Unavailable."""
        text = "\0".join((tenant, scope, value))  # no NUL gets past the API
        return hmac.digest(self._key("counter"), text.encode(), "sha256")[:SUBJECT_BYTES]

    def _key(self, purpose: str) -> bytes:
        if not self._secret_key:
            raise Unavailable("One-time codes need TONGDA_SECRET_KEY to be set.")
        return derive(self._secret_key, f"otp-{purpose}")
