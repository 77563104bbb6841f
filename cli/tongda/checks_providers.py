"""What `doctor` looks at in provider accounts, the tenant's own and the installation's: can they be used, are they in order
in the workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

import httpx

from cli.tongda.client import Api, Refused, Unreachable, segment
from cli.tongda.finding import Finding, failed, ok, skipped, warning
from cli.tongda.place import NoPlace, find_place

CHECK: Final = "provider accounts"
MEND_SHARED: Final = "mend its server or network, or what the operator of the installation has set (docs/settings.md)"
MOST_TRIED: Final = 10
"""A test connects to the outside: of many accounts only the first are tried."""


def check_providers() -> list[Finding]:
    """One line for each account with something to say, else one for all. Needs an API that answers."""
    try:
        api = Api(find_place(os.environ))
    except NoPlace:
        return [skipped(CHECK, "the key comes first")]
    try:
        accounts = list(_all(api))
        own = [one for one in accounts if one["source"] == "tenant"]
        found = [finding for number, one in enumerate(own) for finding in _look(api, one, tried=number < MOST_TRIED)]
        served = {one["channel"] for one in own}
        for one in accounts:
            if one["source"] != "tenant" and one["channel"] not in served:
                found += _look_at_shared(api, one)
        in_use = f"{len(own)}, all in use" if own else "none of your own: the installation's are used, and are in order"
        return found or [ok(CHECK, in_use)]
    except (Refused, Unreachable) as error:
        return [skipped(CHECK, str(error).splitlines()[0])]
    finally:
        api.close()


def _all(api: Api) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.get("/v1/providers", limit=500, cursor=cursor).json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _look(api: Api, one: dict[str, Any], *, tried: bool) -> Iterator[Finding]:
    """Raises Refused, Unreachable."""
    path = f"/v1/providers/{segment(one['id'])}"
    if one["state"] == "broken":
        yield failed(CHECK, f"{one['id']} cannot be used: {one['problem']}", do="give its settings again with PATCH")
        return
    if one["state"] == "paused":
        yield warning(CHECK, f"{one['id']} is paused", do=f"`scripts/tongda providers resume {one['id']}` uses it again")
        return
    if one["state"] == "refused":
        do = (
            f"give its settings again with PATCH, or ask the provider; `scripts/tongda providers test {one['id']}` tries it"
        )
        yield failed(CHECK, f"{one['id']} is refused by its provider: {one['failure']}", do=do)
        return
    health = api.get(f"{path}/health").json()
    if health["circuit"] == "open":
        do = f"`scripts/tongda providers test {one['id']}` says why"
        yield failed(CHECK, f"{one['id']} fails in the workers: {health['failure'] or 'no answer'}", do=do)
    elif tried:
        yield from _tried(api, path, one)


def _look_at_shared(api: Api, one: dict[str, Any]) -> Iterator[Finding]:
    """An account of the installation, which serves the channels that the tenant has none of its own for, and whose settings
    are not the tenant's to change. Raises Refused, Unreachable."""
    do = f"`scripts/tongda providers health {one['id']}` says more; {MEND_SHARED}"
    if one["state"] == "refused":
        yield failed(CHECK, f"{one['id']}, the installation's, is refused by its provider: {one['failure']}", do=do)
        return
    health = api.get(f"/v1/providers/{segment(one['id'])}/health").json()
    if health["circuit"] == "open":
        said = f"{one['id']}, the installation's, fails in the workers: {health['failure'] or 'no answer'}"
        yield failed(CHECK, said, do=do)


def _tried(api: Api, path: str, one: dict[str, Any]) -> Iterator[Finding]:
    try:
        answer = api.post(f"{path}/test", {}).json()
    except Refused as refused:  # a key that may only read, a provider that can only be tried by sending
        if refused.status in (httpx.codes.FORBIDDEN, httpx.codes.UNPROCESSABLE_ENTITY, httpx.codes.TOO_MANY_REQUESTS):
            return
        raise
    if not answer["ok"]:
        do = f"mend it with `scripts/tongda providers change {one['id']}`"
        yield failed(CHECK, f"{one['id']}: {answer['message']} ({answer['code']})", do=do)
