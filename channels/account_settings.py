"""The settings of a provider account, said once for each adapter: as a struct that decodes and judges them, which is also
the JSON Schema that `GET /v1/provider-types` publishes.

    class AcmeSettings(AccountSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
        token: Secret
        base_url: Annotated[str, Meta(pattern="^https?://")] = "https://api.acme.example"

A field of the type `Secret` is write-only: sealed in the database, in no answer, in no log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from domain.errors import FieldError

Secret = Annotated[str, Meta(max_length=4096, extra_json_schema={"writeOnly": True, "format": "password"})]
"""A credential. "" is none."""
MOST_CONNECTIONS = 100
S = TypeVar("S", bound="AccountSettings")


@dataclass(frozen=True, slots=True)
class Target:
    """Where an account connects to by its own settings. A tenant's must not lead into the network of this machine."""

    pointer: str
    """The setting that says so, as a JSON pointer below `settings`."""
    host: str
    port: int


class AccountSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every account has. The methods are what a schema cannot say."""

    connections: Annotated[int, Meta(ge=1, le=MOST_CONNECTIONS, description="Calls at once, from each worker process.")] = (
        16
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # whatever prints it prints no credential

    def problems(self) -> Sequence[FieldError]:
        """Rules over values and several fields, by pointers below the settings."""
        return ()

    def targets(self) -> Sequence[Target]:
        """Hosts that these settings name."""
        return ()

    def receipt_window(self) -> timedelta | None:
        """How long the provider may report on what went over the account; None: it does not."""
        return None


@cache
def secret_names(kind: type[AccountSettings]) -> frozenset[str]:
    """The settings of this kind that are write-only."""
    properties: Mapping[str, Any] = settings_schema(kind)["properties"]
    return frozenset(name for name, schema in properties.items() if schema.get("writeOnly"))


@cache
def settings_schema(kind: type[AccountSettings]) -> dict[str, Any]:
    """Its JSON Schema (2020-12), whole: without references."""
    _, schemas = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = schemas.pop(kind.__name__)
    if schemas:
        raise TypeError(f"{kind.__name__} is made of other structs: settings are flat")
    schema.pop("title", None)
    if not schema.get("required"):
        schema.pop("required", None)
    return schema


def decode_settings(kind: type[S], given: Mapping[str, Any]) -> S:
    """Raises msgspec.ValidationError, whose text may quote a value that is no member of an enumeration."""
    return msgspec.convert(given, kind)


def divided(settings: AccountSettings) -> tuple[dict[str, Any], dict[str, str]]:
    """(what may be shown, the secrets that are set). Both without what is left at its default."""
    values: dict[str, Any] = msgspec.to_builtins(settings)
    secret = secret_names(type(settings))
    return (
        {name: value for name, value in values.items() if name not in secret},
        {name: value for name, value in values.items() if name in secret and value},
    )
