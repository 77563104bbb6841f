"""Secrets from files: for each secret setting `TONGDA_X`, `TONGDA_X_FILE` may name a file that holds it.

That is how orchestrators hand out secrets, and it keeps them out of process listings and crash reports.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

SUFFIX = "_FILE"


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A secret that is still in its file."""

    variable: str
    """Environment variable that named the file."""
    path: str
    twice: bool
    """The secret itself was given too."""

    def read(self) -> str:
        """The file's text without the line break at its end. Raises ValueError, which never holds what the file holds."""
        if self.twice:
            raise ValueError(f"set {self.variable} or {self.variable.removesuffix(SUFFIX)}, not both")
        try:
            return Path(self.path).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"{self.variable} names {self.path}: {(error.strerror or 'cannot be read').lower()}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{self.variable} names {self.path}: it is not text in UTF-8") from None


def is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr


def secret_variables(settings: type[BaseSettings]) -> Iterator[str]:
    """`TONGDA_X` of every secret setting."""
    prefix = settings.model_config.get("env_prefix", "")
    return (f"{prefix}{name}".upper() for name, field in settings.model_fields.items() if is_secret(field))


def file_of(variable: str, environment: Mapping[str, str]) -> SecretFile | None:
    """The file that holds the secret `variable` (`TONGDA_X`); None when none is named."""
    path = environment.get(variable + SUFFIX)
    return SecretFile(variable + SUFFIX, path, twice=bool(environment.get(variable))) if path else None


class SecretFiles(PydanticBaseSettingsSource):
    """Stands before the environment; gives a SecretFile for what is in a file. A validator of the settings reads it, so
    that a missing file is an error of that setting like any other."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        variable = f"{self.config.get('env_prefix', '')}{field_name}".upper()
        return file_of(variable, os.environ) if is_secret(field) else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = ((name, self.get_field_value(field, name)[0]) for name, field in self.settings_cls.model_fields.items())
        return {name: value for name, value in found if value is not None}
