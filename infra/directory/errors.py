"""A directory's absence and refusals in the words of the domain."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from anyldap.ldap import errors

from domain.errors import Unavailable

_SAID: dict[type[errors.LDAPError], tuple[str, str]] = {
    errors.SERVER_DOWN: ("unavailable", "cannot be reached, or has gone"),
    errors.INVALID_CREDENTIALS: ("refused", "refuses the user or the password"),
    errors.INAPPROPRIATE_AUTH: ("refused", "does not let this user log in with a password"),
    errors.INSUFFICIENT_ACCESS: ("refused", "does not let this user read"),
    errors.CONFIDENTIALITY_REQUIRED: ("tls", "wants TLS: set TONGDA_DIRECTORY_START_TLS, or an ldaps:// address"),
    errors.STRONG_AUTH_REQUIRED: (
        "tls",
        "wants TLS or a log-in: see TONGDA_DIRECTORY_START_TLS and TONGDA_DIRECTORY_BIND_DN",
    ),
    errors.NO_SUCH_OBJECT: ("base_missing", "has no such TONGDA_DIRECTORY_BASE_DN, or does not show it to this user"),
    errors.INVALID_DN_SYNTAX: (
        "base_missing",
        "cannot read a DN: see TONGDA_DIRECTORY_BASE_DN and TONGDA_DIRECTORY_BIND_DN",
    ),
    errors.REFERRAL: (
        "base_missing",
        "says that another server keeps TONGDA_DIRECTORY_BASE_DN; referrals are not followed",
    ),
    errors.SIZELIMIT_EXCEEDED: ("size_limit", "gives this user fewer entries than there are: raise its size limit"),
    errors.ADMINLIMIT_EXCEEDED: ("size_limit", "sets this user a limit that is too low for this: raise it"),
    errors.TIMELIMIT_EXCEEDED: (
        "size_limit",
        "stopped a search for its time: raise the time limit, or index the attributes",
    ),
}
"""The code, and what follows "The directory"."""


@contextmanager
def told() -> Iterator[None]:
    """Raises Unavailable for everything that a directory can answer or fail to. The messages hold no values and no names:
    a server's own words may carry a DN."""
    try:
        yield
    except errors.LDAPError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise _no_tls(error.__cause__) from error
        code, words = _SAID.get(type(error), ("unavailable", f"cannot do it now ({type(error).__name__})"))
        raise Unavailable(f"The directory {words}.", code=code) from error
    except ssl.SSLError as error:
        raise _no_tls(error) from error
    except TimeoutError as error:
        raise Unavailable("The directory does not answer in time.") from error
    except OSError as error:
        raise Unavailable(f"The directory cannot be reached ({type(error).__name__}).") from error


def _no_tls(error: ssl.SSLError) -> Unavailable:
    if isinstance(error, ssl.SSLCertVerificationError):
        ask = "is its issuer in TONGDA_DIRECTORY_CA_FILE, and the address a name in the certificate?"
        return Unavailable(f"No TLS with the directory: {error.verify_message}; {ask}", code="tls")
    return Unavailable(f"No TLS with the directory: {error.reason or type(error).__name__}.", code="tls")
