"""What the sandbox is told from outside: read once, at the entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import signature


class BadSetting(Exception):
    """A setting that cannot be used; the message names the variable and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses and secrets of one sandbox. Port 0 means any free port."""

    host: str = "127.0.0.1"
    smtp_port: int = 0
    http_port: int = 0
    sink_port: int | None = None
    """Port of the lean sink for benchmarks; None: not started."""
    webhook_secret: str | None = None
    """`whsec_...`; without it a webhook's signature is reported as unchecked."""
    api_url: str | None = None
    """Where Tongda's API is, for the inbox page and the send form."""
    key_file: Path | None = None
    """File that holds the API key; read at each use, because it may be written after the sandbox starts."""
    smtp_username: str | None = None
    smtp_password: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keep: int = 50_000
    """Newest messages kept whole; older ones are only counted."""
    keep_bytes: int = 256 * 1024 * 1024
    """Bound on the bytes of kept messages, so that large mails cannot fill the memory."""
    slow_s: float = 3.0
    hang_s: float = 120.0
    """How long `slow` and `hang` take; tests make them short."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Settings from TONGDA_* variables; an empty value counts as not set. Raises BadSetting."""

        def text(name: str) -> str | None:
            return env.get(f"TONGDA_{name}") or None

        def port(name: str, default: int | None) -> int | None:
            value = text(name)
            if value is None:
                return default
            if not value.isascii() or not value.isdigit() or int(value) > 65535:
                raise BadSetting(f"TONGDA_{name} is not a port number (0 to 65535)")
            return int(value)

        def path(name: str) -> Path | None:
            value = text(name)
            return Path(value) if value else None

        settings = cls(
            host=text("SANDBOX_HOST") or "127.0.0.1",
            smtp_port=port("SANDBOX_SMTP_PORT", 1025) or 0,
            http_port=port("SANDBOX_HTTP_PORT", 8025) or 0,
            sink_port=port("SANDBOX_SINK_PORT", None),
            webhook_secret=text("WEBHOOK_SECRET"),
            api_url=(text("API_URL") or "").rstrip("/") or None,
            key_file=path("KEY_FILE"),
            smtp_username=text("SANDBOX_SMTP_USERNAME"),
            smtp_password=text("SANDBOX_SMTP_PASSWORD"),
            tls_cert=path("SANDBOX_TLS_CERT"),
            tls_key=path("SANDBOX_TLS_KEY"),
        )
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse what could only fail later. Raises BadSetting."""
        if self.webhook_secret is not None:
            try:
                signature.secret_bytes(self.webhook_secret)
            except ValueError as error:
                raise BadSetting(f"TONGDA_WEBHOOK_SECRET: {error}") from error
        if self.smtp_username and not self.smtp_password:
            raise BadSetting("TONGDA_SANDBOX_SMTP_USERNAME needs TONGDA_SANDBOX_SMTP_PASSWORD")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadSetting("TONGDA_SANDBOX_TLS_CERT and TONGDA_SANDBOX_TLS_KEY go together")
        for name, file in (("CERT", self.tls_cert), ("KEY", self.tls_key)):
            if file is not None and not file.is_file():
                raise BadSetting(f"TONGDA_SANDBOX_TLS_{name}: no such file")
