"""Addresses and header text of e-mail, made safe before anything is written.

The API refuses bad addresses and control characters earlier; this is the last fence, because one CR LF in a header or an
SMTP command lets whoever chose the text add headers, recipients or commands of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")

_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>")


class Unsendable(Exception):
    """The message can never be sent as it is; `code` is short and holds nothing of it ("header_injection")."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sender:
    """Whom mail is from, parsed once."""

    name: str
    address: str
    domain: str


def has_control(text: str) -> bool:
    """True if `text` holds a character that must not reach a header: C0, DEL, C1, or a Unicode line separator."""
    return _CONTROL.search(text) is not None


def wire_address(address: str) -> str:
    """The address as ASCII for envelope and header: local part as given, domain in IDNA 2008 (UTS 46) form.

    Quoted local parts and address literals are refused: no mailbox of a person needs them, and each is a way to smuggle
    syntax. Raises Unsendable: header_injection, address_invalid, smtputf8_needed.
    """
    if has_control(address):
        raise Unsendable("header_injection")
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise Unsendable("address_invalid")
    if not local.isascii():
        raise Unsendable("smtputf8_needed")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise Unsendable("address_invalid") from None
    # RFC 5321 4.5.3.1: 64 octets of local part, 254 in all that fit a path
    if len(local) > 64 or len(local) + len(domain) > 253 or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise Unsendable("address_invalid")
    return f"{local}@{domain}"


def parse_sender(value: str) -> Sender:
    """From "Name <address>" or "address". Raises ValueError: this is a setting, so the operator must hear of it."""
    named = _NAMED.fullmatch(value.strip())
    name, address = (named["name"].strip().strip('"').strip(), named["address"]) if named else ("", value.strip())
    try:
        if has_control(value):
            raise Unsendable("header_injection")
        wire = wire_address(address.strip())
    except Unsendable as error:
        raise ValueError(f"the sender is not a mail address ({error.code})") from None
    return Sender(name=name, address=wire, domain=wire.rpartition("@")[2])
