"""What `doctor` looks at in the directory: reached, secured, logged in, its base, and whether there is anybody in it."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from cli.tongda.finding import Finding, failed, ok, skipped, warning
from infra.settings import Settings

CHECK: Final = "directory"


async def check_directory(settings: Settings) -> Finding:
    """Only where it is set; nothing needs it yet."""
    if not settings.directory_url:
        return skipped(CHECK, "TONGDA_DIRECTORY_URL is not set, and nothing needs it yet")
    from domain.errors import Unavailable
    from infra.directory.ldap import LdapDirectory  # the client takes a tenth of a second to import

    directory = LdapDirectory.of(settings)
    try:
        await directory.check()
        async with aclosing(directory.people(page_size=1)) as pages:
            found = await anext(pages, None)
    except Unavailable as error:
        return failed(CHECK, str(error), do="start it, or set the TONGDA_DIRECTORY_* variables (docs/settings.md)")
    where = f"{settings.directory_url} answers{_secured(settings)}"
    if found is None:
        do = "look at TONGDA_DIRECTORY_KIND and TONGDA_DIRECTORY_BASE_DN, and at what the user that logs in may read"
        return warning(CHECK, f"{where}, and shows no people", do=do)
    return ok(CHECK, f"{where}, and shows people")


def _secured(settings: Settings) -> str:
    tls = settings.directory_start_tls or settings.directory_url.startswith("ldaps://")
    return " over TLS" if tls else " without TLS"
