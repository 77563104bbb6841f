"""Who may do what: roles of API keys, permissions of routes, and the one table between them."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import cache


class Role(StrEnum):
    """What a key is for. Values are the names in the API."""

    SENDER = "sender"
    """An application's module: sends, cancels what it sent, opens inboxes and registers devices for its users."""
    OPERATOR = "operator"
    """Keeps it running: users, providers, what is under way."""
    EDITOR = "editor"
    """Writes templates."""
    APPROVER = "approver"
    """Approves campaigns."""
    ADMINISTRATOR = "administrator"
    """Everything within the tenant but sending, approving and what belongs to the owner."""
    AUDITOR = "auditor"
    """Reads everything, who may do what and what is held about a person included."""
    VIEWER = "viewer"
    """Reads."""
    OWNER = "owner"
    """Everything."""


class Permission(StrEnum):
    """What a group of routes asks for."""

    READ = "read"
    SEND = "send"
    """Also again: a resend is a message that nobody else asked for."""
    CONTROL = "control"
    """Cancel, hurry and change what was accepted, and try anew what of it ended undelivered."""
    OPEN_INBOX = "open_inbox"
    """Make tokens with which a user's browser reads that user's inbox."""
    MANAGE_TEMPLATES = "manage_templates"
    MANAGE_USERS = "manage_users"
    REGISTER_DEVICES = "register_devices"
    """Say on which browsers and apps a user is."""
    EXPORT_USERS = "export_users"
    """Read all that is held about a person, in one document."""
    ERASE_USERS = "erase_users"
    """Erase a person for good."""
    READ_KEYS = "read_keys"
    MANAGE_KEYS = "manage_keys"
    """Apps and API keys."""
    LET_IN = "let_in"
    """Forget the wrong guesses at a recipient's one-time codes. Not for who sends them: a form in which somebody guesses
    would give itself new guesses."""
    OPERATE = "operate"
    APPROVE = "approve"
    AUDIT = "audit"


_READER = frozenset({Permission.READ})

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _READER,
    Role.SENDER: _READER | {Permission.SEND, Permission.CONTROL, Permission.OPEN_INBOX, Permission.REGISTER_DEVICES},
    Role.OPERATOR: _READER
    | {
        Permission.CONTROL,
        Permission.OPEN_INBOX,
        Permission.MANAGE_USERS,
        Permission.REGISTER_DEVICES,
        Permission.OPERATE,
    },
    Role.EDITOR: _READER | {Permission.MANAGE_TEMPLATES},
    Role.APPROVER: _READER | {Permission.APPROVE},
    Role.AUDITOR: _READER | {Permission.READ_KEYS, Permission.AUDIT, Permission.EXPORT_USERS},
    Role.ADMINISTRATOR: frozenset(Permission) - {Permission.SEND, Permission.APPROVE},
    Role.OWNER: frozenset(Permission),
}


def allows(roles: Iterable[str], permission: Permission) -> bool:
    """True if one of `roles` has it. A role that this version does not know allows nothing."""
    return permission in _allowed(frozenset(roles))


@cache
def _allowed(roles: frozenset[str]) -> frozenset[Permission]:
    return frozenset().union(*(PERMISSIONS[Role(role)] for role in roles if role in _KNOWN))


def may_grant(own: frozenset[Role], wanted: Iterable[Role]) -> bool:
    """No key makes a mightier one: an owner grants anything, an administrator anything but owner, others their own."""
    if Role.OWNER in own:
        return True
    grantable = own | (frozenset(Role) - {Role.OWNER} if Role.ADMINISTRATOR in own else frozenset())
    return grantable >= frozenset(wanted)


def holders(permission: Permission) -> list[Role]:
    """The roles that have it, for a helpful refusal."""
    return [role for role in Role if permission in PERMISSIONS[role]]


_KNOWN = frozenset(Role)
