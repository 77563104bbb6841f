"""Every setting of the service, read once at each entry point from `TONGDA_*` environment variables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class SmtpSecurity(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class Settings(BaseSettings):
    """Settings by environment, prefix `TONGDA_`; the embedded supervisor fills in what it starts itself."""

    model_config = SettingsConfigDict(env_prefix="TONGDA_", extra="ignore", hide_input_in_errors=True)

    home: Path = Field(default=Path(".tongda"), description="Folder of everything the embedded service keeps.")
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://tongda@127.0.0.1:5432/tongda"), description="PostgreSQL, the truth."
    )
    database_pool: int = Field(default=8, ge=2, le=200, description="Connections each process may hold.")
    temporal_address: str = Field(default="127.0.0.1:7233", description="Temporal frontend, host:port.")
    temporal_namespace: str = Field(default="default", description="Temporal namespace.")
    temporal_ui_url: str = Field(default="http://127.0.0.1:8233", description="Temporal Web UI, for links.")
    api_host: str = Field(default="127.0.0.1", description="Address the API binds to.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port the API binds to.")
    public_url: str = Field(default="http://127.0.0.1:8080", description="How people reach the API.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of a worker's /metrics, /healthz and /readyz; 0 = none."
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="At least 32 characters; user tokens and webhook signing secrets derive from it.",
    )
    smtp_host: str = Field(default="127.0.0.1", description="SMTP server for e-mail.")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port.")
    smtp_security: SmtpSecurity = Field(default=SmtpSecurity.STARTTLS, description="none, starttls or tls.")
    smtp_username: str = Field(default="", description="User name; empty = no AUTH.")
    smtp_password: SecretStr = Field(default=SecretStr(""), description="Password.")
    smtp_from: str = Field(default="Tongda <notify@tongda.example>", description="From header and envelope sender.")
    smtp_connections: int = Field(default=16, ge=1, le=500, description="Connections to it from each worker process.")
    webhook_concurrency: int = Field(
        default=64, ge=1, le=2000, description="Webhook calls at once in each worker process."
    )
    webhook_allow_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Comma-separated networks that the SSRF guard lets through (private ones are refused)."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @field_validator("webhook_allow_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 32:
            raise ValueError("TONGDA_SECRET_KEY needs at least 32 characters")
        return value
