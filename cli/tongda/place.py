"""Where the API is and with which key: from the environment, or from the run.json of a service on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.secret_files import file_of

CHECKOUT = Path(__file__).resolve().parents[2]
URL, KEY = "TONGDA_API_URL", "TONGDA_API_KEY"


class NoPlace(Exception):
    """Address or key are not known; the text says where they were looked for and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """An API and a key of it."""

    url: str
    """Without a slash at its end."""
    key: str = field(repr=False)


def home(environment: Mapping[str, str]) -> Path:
    """$TONGDA_HOME, else the folder that `scripts/run` uses."""
    return Path(environment.get("TONGDA_HOME") or CHECKOUT / ".tongda").absolute()


def running(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What the service of this home says of itself; None where none runs, or not for us to read."""
    try:
        facts = json.loads((home(environment) / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and {"api_url", "key_file"} <= facts.keys() else None


def find_address(environment: Mapping[str, str]) -> str:
    """The API's address. Raises NoPlace."""
    if given := environment.get(URL):
        if not given.startswith(("http://", "https://")):
            raise NoPlace(f"{URL} is not an address: it begins with http:// or https://")
        return given.rstrip("/")
    if facts := running(environment):
        return str(facts["api_url"]).rstrip("/")
    raise NoPlace(
        f"Where is the API? {URL} is not set, and no service runs in {home(environment)} (no run.json there).\n"
        "Start one with `scripts/tongda up`, name its folder with TONGDA_HOME, or set TONGDA_API_URL and TONGDA_API_KEY."
    )


def find_place(environment: Mapping[str, str]) -> Place:
    """Address and key. The key of the service on this machine is given to that service only. Raises NoPlace."""
    url = find_address(environment)
    return Place(url, _given_key(environment) or _running_key(environment, url=url))


def _given_key(environment: Mapping[str, str]) -> str:
    try:
        secret = file_of(KEY, environment)
        key = secret.read().strip() if secret else environment.get(KEY, "").strip()
    except ValueError as error:
        raise NoPlace(str(error)) from None
    if not key.isascii() or not key.isprintable():
        raise NoPlace(f"The key of {KEY} or {KEY}_FILE is not one: it has characters that no key has.")
    return key


def _running_key(environment: Mapping[str, str], *, url: str) -> str:
    facts = running(environment)
    if facts is None or str(facts["api_url"]).rstrip("/") != url:
        raise NoPlace(f"There is no API key: set {KEY}, or {KEY}_FILE to a file that holds one.")
    path = Path(str(facts["key_file"]))
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        said = (error.strerror or "cannot be read").lower()
        raise NoPlace(f"The API key in {path} cannot be used ({said}): set {KEY} or {KEY}_FILE.") from None
