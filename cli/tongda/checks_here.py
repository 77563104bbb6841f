"""What `doctor` looks at on this machine and through the API: settings, API, key, disk, ports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from cli.tongda.client import Api, Refused, Unreachable
from cli.tongda.finding import Finding, failed, ok, skipped, warning
from cli.tongda.place import NoPlace, find_address, find_place, home, running
from cli.up.ports import is_free
from infra.postgres.tenants.keys import key_hint
from infra.settings import Settings
from infra.settings_problems import problems_of

MEBIBYTE: Final = 1024 * 1024
LOW_DISK: Final = 1024 * MEBIBYTE
NO_DISK: Final = 200 * MEBIBYTE
REQUEST_S: Final = 5.0
LOCAL: Final = ("127.0.0.1", "localhost", "::1")
KEY_MISSING: Final = "set TONGDA_SECRET_KEY, the same for every process, to 32 random characters or more"


OWN: Final = ("TONGDA_DATABASE_URL", "TONGDA_DATABASE_URL_FILE", "TONGDA_API_URL")
"""With one of these somebody has said what is to be looked at."""


def facts_of(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """run.json of the service that this environment means; None when TONGDA_API_URL points elsewhere."""
    facts = running(environment)
    given = environment.get("TONGDA_API_URL", "").rstrip("/")
    return facts if facts and given in ("", str(facts["api_url"]).rstrip("/")) else None


def serves_here(environment: Mapping[str, str]) -> bool:
    """True where this environment is that of the service, not only of somebody who uses its API."""
    own = any(environment.get(name) for name in ("TONGDA_DATABASE_URL", "TONGDA_DATABASE_URL_FILE"))
    return own or facts_of(environment) is not None or not environment.get("TONGDA_API_URL")


def settings_of(environment: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The service's settings: this environment, then the running service. None if they are not valid."""
    facts = facts_of(environment) or {}
    known: dict[str, Any] = {
        name: facts[name]
        for name in ("database_url", "temporal_address")
        if facts.get(name) and not any(environment.get(f"TONGDA_{name}{end}".upper()) for end in ("", "_file"))
    }
    try:
        settings = Settings(**known)
    except ValidationError as error:
        return None, [failed("settings", problems_of(error), do="set these variables as docs/settings.md says")]
    if serves_here(environment) and not facts and not settings.secret_key.get_secret_value():
        says = "valid, but there is no secret key: no live inboxes, no signed webhooks"
        if not any(environment.get(name) for name in OWN):
            says += "; no service runs here: the rest is checked against the defaults"
        return settings, [warning("settings", says, do=KEY_MISSING)]
    if not facts and not any(environment.get(name) for name in OWN):
        return settings, [ok("settings", "valid; no service runs here: the rest is checked against the defaults")]
    return settings, [ok("settings", "valid")]


def check_api() -> Iterator[Finding]:
    """Is it there, is it ready, is the key good. One finding each."""
    environment = os.environ
    try:
        url = find_address(environment)
    except NoPlace as error:
        says, _, do = str(error).partition("\n")
        yield failed("API", says, do=do)
        return
    try:
        answer = httpx.get(f"{url}/readyz", timeout=REQUEST_S, trust_env=urlsplit(url).hostname not in LOCAL)
        body = answer.json()
        ready = bool(body["ready"])
    except httpx.HTTPError as error:
        do = "start it with `scripts/tongda up` or `python -m api`, or set TONGDA_API_URL to where it runs"
        yield failed("API", f"no answer at {url} ({type(error).__name__})", do=do)
        return
    except (ValueError, KeyError, TypeError):
        yield failed("API", f"what answers at {url} is not Tongda", do="set TONGDA_API_URL to the API's address")
        return
    if not ready:
        states = body["dependencies"].items()
        away = [f"{name} {state.get('reason', '')}".strip() for name, state in states if not state["ready"]]
        yield failed("API", f"answers at {url}, not ready: {', '.join(away) or 'it is stopping'}", do="mend what it names")
    else:
        yield ok("API", f"ready at {url}")
    yield _check_key()


def _check_key() -> Finding:
    """Every role may read; what the key may do besides, only some keys may know."""
    try:
        place = find_place(os.environ)
    except NoPlace as error:
        return failed("key", str(error), do="`scripts/tongda keys create` makes one, with a key of the role administrator")
    api = Api(place)
    try:
        api.get("/v1/notifications", limit=1)
        return ok("key", f"works; roles: {', '.join(_roles(api, key=place.key)) or 'not known'}")
    except Refused as refused:
        if refused.status == httpx.codes.UNAUTHORIZED:
            return failed("key", "the API does not take it", do="set TONGDA_API_KEY to one that is still valid")
        away = refused.status == httpx.codes.SERVICE_UNAVAILABLE
        do = "the API cannot ask its database: see PostgreSQL below, or `/readyz`" if away else "see the log of the API"
        return failed("key", str(refused).splitlines()[0], do=do)
    except Unreachable as error:
        return failed("key", str(error).splitlines()[0], do="look at the API first")
    finally:
        api.close()


def _roles(api: Api, *, key: str) -> list[str]:
    """Found by the key's hint among those of the tenant. Raises Refused (but for 403), Unreachable."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        try:
            page = api.get("/v1/api-keys", limit=500, cursor=cursor).json()
        except Refused as refused:
            if refused.status == httpx.codes.FORBIDDEN:
                return ["not for this key to see (auditor, administrator and owner may)"]
            raise
        found += [k["roles"] for k in page["items"] if k["hint"] == key_hint(key) and k["state"] == "active"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found[0] if len(found) == 1 else []


def check_disk() -> Finding:
    """Room for logs and data in TONGDA_HOME."""
    folder = home(os.environ)
    there: Path = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    says = f"{free // MEBIBYTE} MiB free for {folder}"
    if free < NO_DISK:
        return failed("disk", says, do="make room, or set TONGDA_HOME to a folder on a larger disk")
    if free < LOW_DISK:
        return warning("disk", says, do="make room soon, or set TONGDA_HOME to a folder on a larger disk")
    return ok("disk", says)


def check_ports(settings: Settings, *, api_answers: bool) -> Finding:
    """Can an API start here on its port: only asked where none answers."""
    if api_answers:
        return ok("ports", "the API has its port")
    host, port = settings.api_host, settings.api_port
    if port == 0 or is_free(port, host=host):
        return ok("ports", f"the API's port {port} is free" if port else "the API takes any free port")
    do = "end what listens there, or set TONGDA_API_PORT to another port (`scripts/tongda up` finds a free one by itself)"
    return warning("ports", f"the API's port {port} is taken on {host}, or not to be had", do=do)


def not_here(*names: str) -> list[Finding]:
    return [skipped(name, "not the service's environment: set TONGDA_DATABASE_URL and the rest here") for name in names]
