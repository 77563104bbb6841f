"""What an address must look like on each channel. Rules only; whether it exists is the provider's to say."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from domain.channels import Channel

MOST_EMAIL = 254
MOST_URL = 2048
_LOCAL = re.compile(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
_LETTER = r"A-Za-z0-9\u00a1-\ud7ff\ue000-\uffff"  # without surrogates, which are no characters
_LABEL = rf"[{_LETTER}]([{_LETTER}-]{{0,61}}[{_LETTER}])?"
_DOMAIN = re.compile(rf"^{_LABEL}(\.{_LABEL})*$")
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_CONTROL = re.compile(f"[{_CONTROLS}]")
NO_CONTROL = f"^[^{_CONTROLS}]*$"
"""The same as a pattern of JSON Schema."""


def has_control(value: str) -> bool:
    """Control characters and line separators: what would break a header or a log line."""
    return _CONTROL.search(value) is not None


def email_problem(address: str) -> str | None:
    """What is wrong with an e-mail address, as a rule; None when nothing is. ASCII local part, any domain (IDNA)."""
    if has_control(address):
        return "An address holds no control characters or line breaks."
    local, at, domain = address.rpartition("@")
    if not at or len(address) > MOST_EMAIL or len(local) > 64:
        return f"An e-mail address looks like name@example.com and has at most {MOST_EMAIL} characters."
    if not _LOCAL.match(local):
        return "The part before @ holds letters, digits and !#$%&'*+/=?^_`{|}~-. only, with no dot at its ends."
    if not _DOMAIN.match(domain):
        return "The part after @ must be a domain name."
    return None


def url_problem(url: str) -> str | None:
    """What is wrong with a web address; None when nothing is. Whether it may be reached is the SSRF guard's to say."""
    if has_control(url) or " " in url or len(url) > MOST_URL:
        return f"A URL holds no spaces or control characters and has at most {MOST_URL} characters."
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        return "This is not a URL."
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        return "A URL begins with http:// or https:// and names a host."
    if parts.username is not None or parts.password is not None:
        return "A URL here holds no user name or password."
    return None


def address_problem(channel: Channel, address: str) -> str | None:
    """What is wrong with `address` on `channel`; None when nothing is."""
    match channel:
        case Channel.EMAIL:
            return email_problem(address)
        case Channel.WEBHOOK:
            return url_problem(address)
        case Channel.INAPP:
            return "An in-app message goes to a user: name it as to.user."
