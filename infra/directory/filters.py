r"""Filters of the domain as LDAP's, built as trees (RFC 4511, 4.5.1.7): a value is bytes with a length in front and
never parsed, so that nothing in it can become part of the question.

The client's own parser of filter strings (anyldap 0.2.0) is kept out: it reads `\e7` as a character and sends two bytes for
it, so that no objectGUID would ever be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from anyldap.protocols import pureldap
from anyldap.protocols.pureber import BERBase

from domain.directory_filters import AllOf, AnyOf, Filter, Has, Is, Not, StartsWith
from infra.directory.mapping import Mapping

Tree = BERBase


def everything() -> Tree:
    return pureldap.LDAPFilter_present("objectClass")


def people(mapping: Mapping, *, where: Filter | None = None, changed_since: datetime | None = None) -> Tree:
    """People, those whom `where` describes, changed in the second of `changed_since` or later."""
    parts = [_equal(attribute, value.encode()) for attribute, value in mapping.people]
    if where is not None:
        parts.append(_tree(mapping, where))
    if changed_since is not None:
        since = changed_since.astimezone(UTC).strftime("%Y%m%d%H%M%S") + mapping.time_suffix
        parts.append(pureldap.LDAPFilter_greaterOrEqual(_attribute(mapping.changed), _value(since.encode())))
    return both(*parts)


def groups(mapping: Mapping) -> Tree:
    return either(*(_equal("objectClass", name.encode()) for name in mapping.group_classes))


def by_id(mapping: Mapping, id_: str) -> Tree | None:
    """None where it is no id that this directory could have given."""
    try:
        parsed = UUID(id_)
    except ValueError:
        return None
    return _equal(mapping.id, mapping.id_form.write(parsed)) if str(parsed) == id_ else None


def within(mapping: Mapping, dn: str) -> Tree:
    """People in the group `dn` however deep, where the mapping says how to ask for them."""
    assert mapping.within is not None
    attribute, rule = mapping.within.attribute, mapping.within.rule
    if rule is None:
        return both(people(mapping), _equal(attribute, dn.encode()))
    return both(people(mapping), pureldap.LDAPFilter_extensibleMatch(rule, attribute, dn.encode()))


def both(*parts: Tree) -> Tree:
    return parts[0] if len(parts) == 1 else pureldap.LDAPFilter_and(list(parts))


def either(*parts: Tree) -> Tree:
    return parts[0] if len(parts) == 1 else pureldap.LDAPFilter_or(list(parts))


def _tree(mapping: Mapping, where: Filter) -> Tree:
    match where:
        case Is(field, value):
            return either(*(_equal(name, value.encode()) for name in mapping.fields[field]))
        case StartsWith(field, value):
            return either(*(_starts(name, value.encode()) for name in mapping.fields[field]))
        case Has(field):
            return either(*(pureldap.LDAPFilter_present(name) for name in mapping.fields[field]))
        case Not(inner):
            return pureldap.LDAPFilter_not(_tree(mapping, inner))
        case AllOf(every):
            return both(*_trees(mapping, every)) if every else everything()
        case AnyOf(some):
            return either(*_trees(mapping, some)) if some else pureldap.LDAPFilter_not(everything())


def _trees(mapping: Mapping, several: Sequence[Filter]) -> list[Tree]:
    return [_tree(mapping, one) for one in several]


def _equal(name: str, value: bytes) -> Tree:
    return pureldap.LDAPFilter_equalityMatch(_attribute(name), _value(value))


def _starts(name: str, value: bytes) -> Tree:
    return pureldap.LDAPFilter_substrings(name, [pureldap.LDAPFilter_substrings_initial(value)])


def _attribute(name: str) -> pureldap.LDAPAttributeDescription:
    return pureldap.LDAPAttributeDescription(name)


def _value(value: bytes) -> pureldap.LDAPAssertionValue:
    return pureldap.LDAPAssertionValue(value)
