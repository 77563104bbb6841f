"""Personal data and secrets stay where they belong: unmistakable marks come in by every way and are looked for everywhere.

Places: logs of every process, figures, Temporal (histories, inputs, results, failures, search attributes, memos), and every
column that `tables.PERSONAL` does not list.
"""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from cli.up.service import TENANT
from infra.secrets import webhook_secret
from tests.e2e.canary_traffic import (
    MARK,
    Caller,
    ask_badly,
    make_people_and_templates,
    send_all,
    until_tried,
    use_codes,
    use_providers,
    use_secrets,
)
from tests.e2e.leaks import everywhere, personal_columns, unpacked
from tests.up.running import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
KEPT_IN = ("person.name", "identity.address", "notification.content", "notification.data", "inbox_item.text")
"""Where the mark has to be, or the search is blind."""


async def leaks(caller: Caller, *, facts: dict[str, Any], home: Path) -> list[str]:
    """Each place with what it should not hold."""
    found: list[str] = []
    places = {name: text async for name, text in everywhere(facts, home=home)}
    for name, text in places.items():
        at = text.lower().find(MARK)
        found += [f"{name}: ...{text[max(0, at - 300) : at + 100]}..."] if at >= 0 else []
    personal = {name: text async for name, text in personal_columns(facts)}
    assert all(MARK in personal[f"column {place}"] for place in KEPT_IN), "the search finds nothing where it should"
    places |= personal
    for name, text in places.items():
        found += [f"{name}: {secret}" for secret, value in caller.secrets.items() if value in text]
        found += [f"{name}: a signature"] if SIGNATURE.search(text) else []
    return found


def own_secrets(facts: dict[str, Any], *, home: Path) -> dict[str, str]:
    secret_key = (home / "secret-key").read_text().strip()
    signing = webhook_secret(secret_key, TENANT)
    password = urlsplit(facts["database_url"]).password or ""
    secrets = {
        "key file": Path(facts["key_file"]).read_text().strip(), "secret key": secret_key, "signing secret": signing[6:],
        "password": password, "password as it is": unquote(password),
    }  # fmt: skip
    assert all(len(value) > 15 for value in secrets.values())
    return secrets


@pytest.fixture
def home() -> Iterator[Path]:
    """Where PostgreSQL's plain user can go too."""
    folder = Path(tempfile.mkdtemp(prefix="tongda-canary-"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def service(home: Path) -> Iterator[dict[str, Any]]:
    """Logs say all they can."""
    instance = Instance(home, arguments=(), settings={"TONGDA_LOG_LEVEL": "DEBUG"})
    try:
        yield instance.until_ready()
    finally:
        instance.signal(signal.SIGTERM)
        instance.wait()


async def test_personal_data_and_secrets_stay_where_they_belong(service: dict[str, Any], home: Path) -> None:
    secrets = own_secrets(service, home=home)
    headers = {"Authorization": f"Bearer {secrets['key file']}"}
    async with httpx.AsyncClient(base_url=service["api_url"], headers=headers, timeout=10, trust_env=False) as http:
        caller = Caller(http, service["sandbox_url"], secrets)
        await make_people_and_templates(caller)
        await send_all(caller)
        await ask_badly(caller)
        await use_secrets(caller)
        await use_codes(caller)
        await use_providers(caller)
        await until_tried(caller)
        assert await leaks(caller, facts=service, home=home) == []


def test_what_is_packed_in_a_payload_is_seen() -> None:
    """The search itself: a canary in an activity's input, as Temporal's JSON holds it."""
    assert MARK in unpacked('{"input": {"payloads": [{"data": "eyJ4IjogIms0bjRyeSJ9"}]}}')
