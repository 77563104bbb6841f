"""A user's addresses on the channels, and what each must look like. Kept for every channel of the contract, also for those
whose provider is not set up yet: directories know more about people than can be used today."""

from __future__ import annotations

import re
from enum import StrEnum

from domain.addresses import email_problem, has_control, url_problem

MOST_IDENTITIES = 100
"""Identities that one user may have."""
MOST_ADDRESS = 512
_PHONE = re.compile(r"\+[1-9][0-9]{5,14}")


class IdentityChannel(StrEnum):
    """Channels on which a user has an address. In-app needs none: it is the user's id."""

    EMAIL = "email"
    SMS = "sms"
    WEBHOOK = "webhook"
    WEBPUSH = "webpush"
    PUSH = "push"
    WECHAT = "wechat"
    QQ = "qq"
    WECOM = "wecom"
    DINGTALK = "dingtalk"


def identity_problem(channel: IdentityChannel, address: str) -> str | None:
    """What is wrong with `address` on `channel`; None when nothing is."""
    match channel:
        case IdentityChannel.EMAIL:
            return email_problem(address)
        case IdentityChannel.WEBHOOK:
            return url_problem(address)
        case IdentityChannel.SMS:
            return None if _PHONE.fullmatch(address) else "A phone number is international: + and 6 to 15 digits."
        case _:
            return _id_problem(address)


def _id_problem(address: str) -> str | None:
    """Ids that a platform gives out (open ids, device tokens)."""
    if not address or len(address) > MOST_ADDRESS or has_control(address) or any(c.isspace() for c in address):
        return f"An address here has 1 to {MOST_ADDRESS} characters, none of them a space or control character."
    return None
