"""A company to fill a directory with: the same people and groups for the twin and, as LDIF, for a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from domain.directory import Group, Person
from infra.directory.memory import MemoryDirectory
from tests.directory.slapd import BASE, BLIND, PASSWORD, READER, SHORT

START = datetime(2026, 3, 1, 8, 30, 0, tzinfo=UTC)
MANY = 230
"""More than twice what the server gives without pages."""


def _id(number: int) -> str:
    return str(UUID(int=(0x018F << 112) | (0x7 << 76) | (0x2 << 62) | number))


def _dn(rdn: str, unit: str = "people") -> str:
    return f"{rdn},ou={unit},{BASE}"


BOSS = Person(_id(1), _dn("uid=boss"), "boss", "赵敏", ("boss@lab.test",), ("+86 138-0000-0001",), "管理", changed_at=START)
FULL = Person(
    id=_id(2),
    dn=_dn("uid=wei"),
    login="wei",
    name="王 伟",
    mails=("wei@lab.test", "Wang.Wei@lab.test"),
    phones=("+8613800000002", "+86 10 5555-0002"),
    department="Sales, North & (East)",
    manager=BOSS.dn,
    changed_at=START + timedelta(seconds=1),
)
BARE = Person(_id(3), _dn("cn=O\\27Neil\\2C Ann".replace("\\27", "'")), name="O'Neil, Ann", changed_at=START)
LOCKED = Person(_id(4), _dn("uid=gone"), "gone", "Gone", enabled=False, changed_at=START)
STRANGE = tuple(
    Person(_id(10 + i), _dn(f"uid=strange{i}"), f"strange{i}", name, department=name, changed_at=START)
    for i, name in enumerate(("*", "a*c", "abc", "(x)", "back\\slash", ")(uid=*", "Straße 🧨", "Two words", "dept"))
)
MASS = tuple(
    Person(
        _id(1000 + i), _dn(f"uid=m{i:03d}"), f"m{i:03d}", f"Mass {i}", (f"m{i:03d}@lab.test",), department=f"d{i % 7}",
        changed_at=START + timedelta(days=1, seconds=i),
    )
    for i in range(MANY)
)  # fmt: skip
PEOPLE = (BOSS, FULL, BARE, LOCKED, *STRANGE, *MASS)


def _group(number: int, name: str) -> Group:
    return Group(_id(5000 + number), _dn(f"cn={name}", "groups"), name, START + timedelta(hours=number))


ALL, SALES, NORTH, EMPTYISH, SOLO = (
    _group(i, name) for i, name in enumerate(("all", "sales", "north", "nobody-left", "solo"))
)
CROWD = tuple(_group(10 + i, f"crowd-{i}") for i in range(120))
MEMBERS: Mapping[Group, tuple[str, ...]] = {
    ALL: (SALES.dn, BOSS.dn, FULL.dn),
    SALES: (NORTH.dn, FULL.dn, LOCKED.dn, *(person.dn for person in MASS[:130])),
    # A circle, somebody of another spelling, and one who is there twice on the way.
    NORTH: (ALL.dn, BARE.dn, FULL.dn.replace("uid=wei,ou", "UID=Wei, OU"), *(person.dn for person in MASS[100:180])),
    EMPTYISH: (_dn("uid=left-last-year"), f"cn=reader,{BASE}"),
    SOLO: (MASS[200].dn,),
    **dict.fromkeys(CROWD, (MASS[0].dn,)),
}
WITHIN: Mapping[Group, frozenset[Person]] = {
    ALL: frozenset((BOSS, FULL, BARE, LOCKED, *MASS[:180])),
    EMPTYISH: frozenset(),
    SOLO: frozenset((MASS[200],)),
}


def twin() -> MemoryDirectory:
    directory = MemoryDirectory()
    for person in PEOPLE:
        names = tuple(group.dn for group, members in MEMBERS.items() if person.dn in members)
        directory.put(replace(person, groups=names))
    for group, members in MEMBERS.items():
        directory.put_group(group, members=[dn.replace("UID=Wei, OU", "uid=wei,ou") for dn in members])
    return directory


def ldif() -> Iterator[str]:
    yield f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: lab\ndc: lab\n"
    for unit in ("people", "groups"):
        yield f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n"
    for who in (READER, SHORT, BLIND):
        name = who.split(",")[0].removeprefix("cn=")
        yield (
            f"dn: {who}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: {name}\n"
            f"userPassword: {PASSWORD}\n"
        )
    # Another server's part of the tree: what lies there is told of as a reference.
    yield f"dn: ou=elsewhere,{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\nou: elsewhere\nref: ldap://127.0.0.1:9/{BASE}\n"
    for person in PEOPLE:
        yield _person(person)
    for group, members in MEMBERS.items():
        lines = [("objectClass", "groupOfNames"), ("cn", group.name or ""), *(("member", dn) for dn in members)]
        yield _entry(group.dn, [*lines, *_operational(group.id, group.changed_at)])


def _person(person: Person) -> str:
    lines = [("objectClass", "inetOrgPerson"), ("cn", person.name or ""), ("sn", "x")]
    lines += [("uid", person.login)] if person.login else []
    lines += [("mail", mail) for mail in person.mails]
    lines += [("mobile", person.phones[0])] if person.phones else []
    lines += [("telephoneNumber", phone) for phone in person.phones[1:]]
    lines += [("departmentNumber", person.department)] if person.department else []
    lines += [("manager", person.manager)] if person.manager else []
    lines += [] if person.enabled else [("pwdAccountLockedTime", "000001010000Z")]
    return _entry(person.dn, [*lines, *_operational(person.id, person.changed_at)])


def _operational(id_: str, changed_at: datetime | None) -> list[tuple[str, str]]:
    assert changed_at is not None
    return [("entryUUID", id_), ("modifyTimestamp", changed_at.strftime("%Y%m%d%H%M%SZ"))]


def _entry(dn: str, lines: list[tuple[str, str]]) -> str:
    encoded = (f"{name}:: {base64.b64encode(value.encode()).decode()}" for name, value in lines)
    return "\n".join([f"dn:: {base64.b64encode(dn.encode()).decode()}", *encoded, ""])
