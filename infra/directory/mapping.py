"""What each kind of directory calls things, as data. Attribute names as in its documentation; asked for in any case."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.directory_filters import PersonField
from infra.settings import DirectoryKind


class IdForm(StrEnum):
    """How the stable id lies in its attribute. What we call the id is the UUID's text."""

    TEXT = "text"
    BYTES = "bytes"
    LITTLE_ENDIAN = "little_endian"
    """objectGUID: the first three groups turned round ([MS-DTYP] 2.3.4)."""

    def read(self, raw: bytes) -> str:
        """Raises ValueError."""
        if self is IdForm.TEXT:
            return str(UUID(raw.decode("ascii")))
        return str(UUID(bytes_le=raw) if self is IdForm.LITTLE_ENDIAN else UUID(bytes=raw))

    def write(self, id_: UUID) -> bytes:
        """As a filter compares it."""
        if self is IdForm.TEXT:
            return str(id_).encode()
        return id_.bytes_le if self is IdForm.LITTLE_ENDIAN else id_.bytes


@dataclass(frozen=True, slots=True)
class Disabled:
    """Which value says that an account is disabled: this one, or one with this bit."""

    attribute: str
    value: bytes = b""
    bit: int = 0

    def holds(self, raw: bytes) -> bool:
        if not self.bit:
            return raw == self.value
        return raw.isdigit() and bool(int(raw) & self.bit)


@dataclass(frozen=True, slots=True)
class Within:
    """How a server is asked for those within a group: this attribute has the group's DN, by this matching rule."""

    attribute: str
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where several attributes are named, the first with a value is shown (mails and phones: all), and all are searched."""

    people: tuple[tuple[str, str], ...]
    """Attributes and values that all people have."""
    group_classes: tuple[str, ...]
    """Object classes whose members are DNs. posixGroup is not among them: it lists logins."""
    id: str
    id_form: IdForm
    fields: Table[PersonField, tuple[str, ...]]
    group_name: tuple[str, ...]
    manager: str
    groups: str
    members: tuple[str, ...]
    changed: str
    disabled: Disabled
    time_suffix: str = "Z"
    """End of a generalizedTime in a filter, after the seconds."""
    within: Within | None = None
    """None: the server cannot say who is within a group however deep; groups are walked."""


OPENLDAP = Mapping(
    people=(("objectClass", "inetOrgPerson"),),
    group_classes=("groupOfNames", "groupOfUniqueNames"),
    id="entryUUID",  # RFC 4530
    id_form=IdForm.TEXT,
    fields={
        PersonField.LOGIN: ("uid",),
        PersonField.NAME: ("displayName", "cn"),
        PersonField.MAIL: ("mail",),
        PersonField.PHONE: ("mobile", "telephoneNumber"),
        PersonField.DEPARTMENT: ("departmentNumber", "ou"),
    },
    group_name=("cn",),
    manager="manager",
    groups="memberOf",  # where an overlay keeps it
    members=("member", "uniqueMember"),
    changed="modifyTimestamp",
    disabled=Disabled("pwdAccountLockedTime", b"000001010000Z"),  # slapo-ppolicy(5): locked until an administrator opens it
)

ACTIVE_DIRECTORY = Mapping(
    people=(("objectCategory", "person"), ("objectClass", "user")),
    group_classes=("group",),
    id="objectGUID",
    id_form=IdForm.LITTLE_ENDIAN,
    fields={
        PersonField.LOGIN: ("sAMAccountName",),
        PersonField.NAME: ("displayName", "cn"),
        PersonField.MAIL: ("mail",),
        PersonField.PHONE: ("mobile", "telephoneNumber"),
        PersonField.DEPARTMENT: ("department",),
    },
    group_name=("cn",),
    manager="manager",
    groups="memberOf",
    members=("member",),
    changed="whenChanged",
    disabled=Disabled("userAccountControl", bit=0x2),  # ADS_UF_ACCOUNTDISABLE
    time_suffix=".0Z",
    # LDAP_MATCHING_RULE_IN_CHAIN. Walking would have to read `member` in ranges of 1,500.
    within=Within("memberOf", "1.2.840.113556.1.4.1941"),
)

EDIRECTORY = Mapping(
    people=(("objectClass", "inetOrgPerson"),),
    group_classes=("groupOfNames", "groupOfUniqueNames"),  # "Group" is its other name for the first
    id="GUID",
    id_form=IdForm.BYTES,
    fields={
        PersonField.LOGIN: ("uid", "cn"),
        PersonField.NAME: ("fullName", "displayName", "cn"),
        PersonField.MAIL: ("mail",),
        PersonField.PHONE: ("mobile", "telephoneNumber"),
        PersonField.DEPARTMENT: ("ou", "departmentNumber"),
    },
    group_name=("cn",),
    manager="manager",
    groups="groupMembership",
    members=("member", "uniqueMember"),
    changed="modifyTimestamp",
    disabled=Disabled("loginDisabled", b"TRUE"),
)

MAPPINGS: Table[DirectoryKind, Mapping] = {
    DirectoryKind.OPENLDAP: OPENLDAP,
    DirectoryKind.ACTIVE_DIRECTORY: ACTIVE_DIRECTORY,
    DirectoryKind.EDIRECTORY: EDIRECTORY,
}
