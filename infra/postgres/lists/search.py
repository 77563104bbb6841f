"""What `q` means: an id, a user or an address where it is one, otherwise words in what was posted.

Exact things go by index. Words are looked for in the notifications that a list walks over anyway, so many a request as it
may examine: the template's name, an address that was sent to by itself, the title of inline content, and the values in
`data` and `metadata`. `q` is personal data as soon as it is an address: it is never logged, and errors do not quote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from domain.addresses import email_problem, url_problem
from domain.identities import IdentityChannel, identity_problem
from infra.postgres.engine.locks import Connection

MOST_PEOPLE = 20
"""Users whose notifications one address leads to; it is one person's, and seldom that of two."""

_NOTIFICATION = "SELECT EXISTS (SELECT FROM notification WHERE id = $2 AND tenant = $1)"

_USER = "SELECT EXISTS (SELECT FROM person WHERE tenant = $1 AND id = $2)"

_OWNERS = """
SELECT DISTINCT i.person_id FROM unnest($2::text[]) a(address), unnest($3::text[]) c(channel)
JOIN LATERAL (SELECT person_id FROM identity WHERE tenant = $1 AND channel = c.channel AND address = a.address
              ORDER BY person_id LIMIT $4) i ON true
ORDER BY 1 LIMIT $4"""

_CHANNELS = [channel.value for channel in IdentityChannel]


def text_filter(*, raw: str, json: str) -> str:
    """The condition on `n` for two parameters of `Words`. First the whole JSON as text, then, where that matches, the
    values in it: names of fields are not searched."""
    return f"""(
      n.template ILIKE {raw} OR n.to_address ILIKE {raw}
   OR CASE WHEN n.content::text ILIKE {json} THEN n.content ->> 'title' ILIKE {raw} END
   OR CASE WHEN n.data::text ILIKE {json} THEN {_values("data", raw)} END
   OR CASE WHEN n.metadata::text ILIKE {json} THEN {_values("metadata", raw)} END)"""


def _values(column: str, raw: str) -> str:
    return f"""EXISTS (SELECT FROM jsonb_path_query(n.{column}::jsonb, 'strict $.**') v(found)
          WHERE jsonb_typeof(found) IN ('string', 'number') AND found #>> '{{}}' ILIKE {raw})"""


@dataclass(frozen=True, slots=True)
class Words:
    """`q` as two patterns of ILIKE."""

    raw: str
    json: str
    """As it stands in JSON text, where quotes and backslashes are escaped."""

    @classmethod
    def of(cls, q: str) -> Words:
        """Quotation marks around it say that it is meant as text."""
        text = q[1:-1] if _quoted(q) else q
        return cls(_pattern(text), _pattern(msgspec.json.encode(text).decode()[1:-1]))


@dataclass(frozen=True, slots=True)
class Named:
    """What `q` is exactly."""

    ids: Sequence[str]
    users: Sequence[str]
    addresses: Sequence[str]
    """Its spellings, where it is an address."""


class Search:
    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    async def exact(self, q: str) -> Named | None:
        """None when `q` names nothing, or is quoted."""
        if _quoted(q):
            return None
        one = _as_id(q)
        known = one is not None and await self._connection.fetchval(_NOTIFICATION, self._tenant, one)
        user = await self._connection.fetchval(_USER, self._tenant, q)
        spellings = list(dict.fromkeys([q, _lower_domain(q)]))
        owners = await self._connection.fetch(_OWNERS, self._tenant, spellings, _CHANNELS, MOST_PEOPLE)
        named = Named(
            ids=[str(one)] if known else [],
            users=list(dict.fromkeys([*([q] if user else []), *(row["person_id"] for row in owners)])),
            addresses=spellings if owners or _is_address(q) else [],
        )
        return named if named.ids or named.users or named.addresses else None


def _quoted(q: str) -> bool:
    return len(q) > 2 and q.startswith('"') and q.endswith('"')


def _as_id(q: str) -> UUID | None:
    try:
        return UUID(q) if len(q) == 36 else None
    except ValueError:
        return None


def _is_address(q: str) -> bool:
    """By its looks. Addresses that a platform gives out look like any word; users carry them."""
    return email_problem(q) is None or url_problem(q) is None or identity_problem(IdentityChannel.SMS, q) is None


def _lower_domain(q: str) -> str:
    """An e-mail address as most people have stored it: the domain's case means nothing."""
    local, at, domain = q.rpartition("@")
    return f"{local}@{domain.lower()}" if at else q


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
