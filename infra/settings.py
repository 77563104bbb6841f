"""Every setting of the service, read once at each entry point from `TONGDA_*` environment variables.

A secret may be in a file instead, named by `TONGDA_<NAME>_FILE`. docs/settings.md is generated from this class.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from infra.email_accounts import DEFAULT_NAME, EmailAccount, parsed
from infra.secret_files import SecretFile, SecretFiles

_ENDPOINT = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")
_WEB = r"^https?://\S+$"
CASSANDRA_PORT = 9042


def keys_in(value: SecretStr) -> tuple[str, ...]:
    """Keys that are listed by commas, blanks or lines."""
    return tuple(value.get_secret_value().replace(",", " ").split())


class SmtpSecurity(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class DirectoryKind(StrEnum):
    OPENLDAP = "openldap"
    ACTIVE_DIRECTORY = "active_directory"
    EDIRECTORY = "edirectory"


class Settings(BaseSettings):
    """Settings by environment, prefix `TONGDA_`; the embedded supervisor fills in what it starts itself."""

    model_config = SettingsConfigDict(
        env_prefix="TONGDA_",
        extra="ignore",
        hide_input_in_errors=True,
        env_ignore_empty=True,  # as most compose files and shells mean it
    )

    home: Path = Field(default=Path(".tongda"), description="Folder of everything the embedded service keeps.")
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://tongda@127.0.0.1:5432/tongda"), description="PostgreSQL, the truth."
    )
    database_read_url: SecretStr = Field(
        default=SecretStr(""),
        description="PostgreSQL that the API's long lists are read from, such as a replica; empty = TONGDA_DATABASE_URL.",
    )
    database_pool: int = Field(default=8, ge=2, le=200, description="Connections each process may hold.")
    temporal_address: str = Field(
        default="127.0.0.1:7233", pattern=r"^\S+:[0-9]{1,5}$", description="Temporal frontend, host:port."
    )
    temporal_namespace: str = Field(default="default", description="Temporal namespace.")
    temporal_ui_url: str = Field(default="http://127.0.0.1:8233", pattern=_WEB, description="Temporal Web UI, for links.")
    api_host: str = Field(default="127.0.0.1", description="Address the API binds to.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port the API binds to.")
    api_drain_notice_s: float = Field(
        default=0,
        ge=0,
        le=300,
        description="Seconds that the API goes on serving after SIGTERM, with /readyz at 503, before its port closes: "
        "above the interval at which a load balancer asks; 0 = none is in front.",
    )
    public_url: str = Field(default="http://127.0.0.1:8080", pattern=_WEB, description="How people reach the API.")
    metrics_host: str = Field(default="127.0.0.1", description="Address a worker's /metrics binds to.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="Port of a worker's /metrics, /healthz and /readyz; 0 = none."
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""),
        description="At least 32 characters; user tokens, one-time codes and webhook signing secrets derive from it; "
        "credentials of provider accounts are sealed with it.",
    )
    other_secret_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys that TONGDA_SECRET_KEY had before, or will have next, by commas or lines: what is sealed "
        "with them is opened, what derives from them is taken. For rotating the key (docs/operations.md).",
    )
    smtp_host: str = Field(default="127.0.0.1", description="SMTP server for e-mail.")
    smtp_port: int = Field(default=25, ge=1, le=65535, description="Its port.")
    smtp_security: SmtpSecurity = Field(default=SmtpSecurity.STARTTLS, description="none, starttls or tls.")
    smtp_username: str = Field(default="", description="User name; empty = no AUTH.")
    smtp_password: SecretStr = Field(default=SecretStr(""), description="Password.")
    smtp_from: str = Field(default="Tongda <notify@tongda.example>", description="From header and envelope sender.")
    smtp_connections: int = Field(default=16, ge=1, le=500, description="Connections to it from each worker process.")
    email_accounts: SecretStr = Field(
        default=SecretStr(""),
        description="Several SMTP servers instead of that one, as JSON: see docs/operations.md.",
    )
    webhook_concurrency: int = Field(
        default=64,
        ge=1,
        le=2000,
        description="Webhook calls at once in each worker process; one host has 3 of 4 at most, a slow one fewer.",
    )
    webhook_allow_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Comma-separated networks that the SSRF guard lets through, for webhooks and tenants' mail servers "
        "(private ones are refused).",
    )
    webhook_receipts: bool = Field(
        default=False, description="Receivers of webhooks report later what became of them; a 2xx is then `sent` only."
    )
    webhook_receipt_window_seconds: int = Field(
        default=86_400, ge=60, le=604_800, description="How long they may; until then `sent` is not final."
    )
    webhook_receipt_within_seconds: int = Field(
        default=0, ge=0, le=86_400, description="Without `delivered` within this time another account is used; 0 = never."
    )
    otp_cooldown_seconds: int = Field(
        default=60, ge=0, le=3600, description="Between two one-time codes to a recipient for one purpose; 0 = no wait."
    )
    otp_per_recipient_hour: int = Field(default=5, ge=0, description="One-time codes to a recipient; 0 = no limit.")
    otp_per_recipient_day: int = Field(default=15, ge=0, description="The same within 24 hours.")
    otp_per_range_hour: int = Field(
        default=1000,
        ge=0,
        description="One-time codes to a block of phone numbers or to a host; 0 = no limit.",
    )
    otp_per_client_hour: int = Field(
        default=100, ge=0, description="One-time codes for a client's network (/24, /48), where it is given; 0 = no limit."
    )
    otp_per_tenant_hour: int = Field(default=10_000, ge=0, description="One-time codes of a tenant; 0 = no limit.")
    otp_wrong_per_recipient_hour: int = Field(
        default=15, ge=0, description="Wrong guesses at all one-time codes of a recipient; 0 = no limit."
    )
    otp_wrong_per_recipient_day: int = Field(default=30, ge=0, description="The same within 24 hours.")
    retention_days: int = Field(
        default=180,
        ge=0,
        le=36_500,
        description="Days that notifications, deliveries and events are kept in PostgreSQL, in whole weeks; 0 = for ever.",
    )
    cassandra_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Comma-separated nodes, host or host:port, to find the cluster by; empty = no Cassandra."
    )
    cassandra_keyspace: str = Field(
        default="tongda", pattern=r"^[a-z][a-z0-9_]{0,47}$", description="Keyspace of the event history."
    )
    cassandra_username: str = Field(default="", description="Cassandra user; empty = no log-in.")
    cassandra_password: SecretStr = Field(default=SecretStr(""), description="Its password.")
    cassandra_datacenter: str = Field(
        default="datacenter1",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="The data centre to read and write in, as `nodetool status` names it.",
    )
    directory_url: str = Field(
        default="",
        pattern=r"^(ldaps?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?)?$",
        description="LDAP directory, ldap://host or ldaps://host; empty = none.",
    )
    directory_kind: DirectoryKind = Field(default=DirectoryKind.OPENLDAP, description="Which directory it is.")
    directory_start_tls: bool = Field(
        default=True, description="StartTLS before the log-in; only ldap://, as ldaps:// is TLS from the start."
    )
    directory_ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) to trust for it; none = those of this system."
    )
    directory_bind_dn: str = Field(default="", description="Who logs in to it: a DN (or a UPN); empty = anonymous.")
    directory_password: SecretStr = Field(default=SecretStr(""), description="Its password.")
    directory_base_dn: str = Field(default="", description="Where people and groups are looked for: the DN of a subtree.")
    log_level: str = Field(
        default="INFO", pattern=r"(?i)^(debug|info|warning|error)$", description="DEBUG, INFO, WARNING or ERROR."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What code gives comes first, then secrets' files, then the environment; nothing else is read."""
        del dotenv_settings, file_secret_settings
        return init_settings, SecretFiles(settings_cls), env_settings

    @property
    def mail_servers(self) -> tuple[EmailAccount, ...]:
        """The SMTP servers: those of TONGDA_EMAIL_ACCOUNTS, or the one of TONGDA_SMTP_*."""
        if self.email_accounts.get_secret_value():
            return parsed(self.email_accounts.get_secret_value())
        one = EmailAccount(
            name=DEFAULT_NAME,
            host=self.smtp_host,
            port=self.smtp_port,
            security=self.smtp_security.value,
            username=self.smtp_username,
            password=self.smtp_password.get_secret_value(),
            connections=self.smtp_connections,
        )
        return (one,)

    @property
    def cassandra_endpoints(self) -> list[tuple[str, int]]:
        """`cassandra_hosts`, taken apart."""
        matches = (_ENDPOINT.fullmatch(host) for host in self.cassandra_hosts)
        return [(m["host"].strip("[]"), int(m["port"] or CASSANDRA_PORT)) for m in matches if m]

    @field_validator("*", mode="before")
    @classmethod
    def _from_file(cls, value: object) -> object:
        return value.read() if isinstance(value, SecretFile) else value

    @field_validator("webhook_allow_networks", "cassandra_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value

    @field_validator("database_url", "database_read_url")
    @classmethod
    def _postgresql(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("an address of PostgreSQL begins with postgresql://")
        return value

    @field_validator("webhook_allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("cassandra_hosts")
    @classmethod
    def _endpoints(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            match = _ENDPOINT.fullmatch(host)
            if match is None or not 0 < int(match["port"] or CASSANDRA_PORT) <= 65535:
                raise ValueError("each of TONGDA_CASSANDRA_HOSTS is a host or host:port, IPv6 in brackets")
        return value

    @field_validator("email_accounts")
    @classmethod
    def _accounts(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            parsed(value.get_secret_value())
        return value

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < 32:
            raise ValueError("TONGDA_SECRET_KEY needs at least 32 characters")
        return value

    @field_validator("other_secret_keys")
    @classmethod
    def _each_long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key) < 32 for key in keys_in(value)):
            raise ValueError("each of TONGDA_OTHER_SECRET_KEYS needs at least 32 characters")
        return value

    @property
    def other_keys(self) -> tuple[str, ...]:
        """Of `other_secret_keys`, as they stand there."""
        return keys_in(self.other_secret_keys)

    @model_validator(mode="after")
    def _logs_in_or_not(self) -> Self:
        if bool(self.cassandra_username) != bool(self.cassandra_password.get_secret_value()):
            raise ValueError("set TONGDA_CASSANDRA_USERNAME and TONGDA_CASSANDRA_PASSWORD together, or neither")
        return self

    @model_validator(mode="after")
    def _finds_people(self) -> Self:
        """A DN with an empty password would count as an anonymous log-in that succeeded (RFC 4513, section 5.1.2)."""
        if bool(self.directory_bind_dn) != bool(self.directory_password.get_secret_value()):
            raise ValueError("set TONGDA_DIRECTORY_BIND_DN and TONGDA_DIRECTORY_PASSWORD together, or neither")
        if self.directory_url and not self.directory_base_dn:
            raise ValueError("TONGDA_DIRECTORY_URL needs TONGDA_DIRECTORY_BASE_DN")
        return self
