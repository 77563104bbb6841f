"""An LDAP entry as a person or a group of the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from domain.directory import Group, Person
from domain.directory_filters import PersonField
from domain.errors import Unavailable
from infra.directory import mapping as kinds

Attributes = Mapping[str, Sequence[bytes]]
_TIME = "%Y%m%d%H%M%S"


class Entry:
    """One entry as the server gave it; attributes are found in any case."""

    def __init__(self, dn: str, attributes: Attributes) -> None:
        self.dn = dn
        self._attributes = {name.lower(): values for name, values in attributes.items()}

    def raw(self, name: str) -> Sequence[bytes]:
        return self._attributes.get(name.lower(), ())

    def texts(self, *names: str) -> tuple[str, ...]:
        """All values of all of them, each once. What is not UTF-8 is replaced: one bad entry ends no reading."""
        found = (value.decode("utf-8", "replace") for name in names for value in self.raw(name))
        return tuple(dict.fromkeys(text for text in found if text.strip()))

    def text(self, *names: str) -> str | None:
        return next(iter(self.texts(*names)), None)


def wanted(mapping: kinds.Mapping) -> list[str]:
    """Attributes to ask for; operational ones come only when they are named."""
    fields = [name for names in mapping.fields.values() for name in names]
    others = (mapping.id, mapping.manager, mapping.groups, mapping.changed, mapping.disabled.attribute)
    return list(dict.fromkeys([*fields, *others]))


def wanted_of_groups(mapping: kinds.Mapping) -> list[str]:
    return [mapping.id, mapping.changed, *mapping.group_name]


def is_group(mapping: kinds.Mapping, entry: Entry) -> bool:
    """Asked for with `objectClass`."""
    return not {name.lower() for name in entry.texts("objectClass")}.isdisjoint(n.lower() for n in mapping.group_classes)


def members(mapping: kinds.Mapping, entry: Entry) -> Iterable[str]:
    """DNs. A uniqueMember may carry an optional UID behind its DN (RFC 4517, 3.3.21); nobody's name ends like that."""
    for dn in entry.texts(*mapping.members):
        head, mark, tail = dn.rpartition("#'")
        yield head if mark and tail.endswith("'B") else dn


def person(mapping: kinds.Mapping, entry: Entry) -> Person:
    """Raises Unavailable where the entry shows no id."""
    fields = mapping.fields
    return Person(
        id=_id(mapping, entry),
        dn=entry.dn,
        login=entry.text(*fields[PersonField.LOGIN]),
        name=entry.text(*fields[PersonField.NAME]),
        mails=entry.texts(*fields[PersonField.MAIL]),
        phones=entry.texts(*fields[PersonField.PHONE]),
        department=entry.text(*fields[PersonField.DEPARTMENT]),
        manager=entry.text(mapping.manager),
        enabled=not any(mapping.disabled.holds(raw) for raw in entry.raw(mapping.disabled.attribute)),
        groups=entry.texts(mapping.groups),
        changed_at=_time(entry.text(mapping.changed)),
    )


def group(mapping: kinds.Mapping, entry: Entry) -> Group:
    """Raises Unavailable where the entry shows no id."""
    return Group(_id(mapping, entry), entry.dn, entry.text(*mapping.group_name), _time(entry.text(mapping.changed)))


def _id(mapping: kinds.Mapping, entry: Entry) -> str:
    for raw in entry.raw(mapping.id):
        try:
            return mapping.id_form.read(raw)
        except ValueError:
            break
    message = (
        f"The directory shows no usable {mapping.id}: let the user that logs in read it, or set another kind of directory."
    )
    raise Unavailable(message, code="id_missing")


def _time(text: str | None) -> datetime | None:
    """GeneralizedTime in UTC, to the second (RFC 4517, 3.3.13); other spellings are as good as none."""
    try:
        return datetime.strptime((text or "")[:14], _TIME).replace(tzinfo=UTC) if text and text.endswith("Z") else None
    except ValueError:
        return None
