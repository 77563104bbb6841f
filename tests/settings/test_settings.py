"""Settings are refused at the start, by name, without showing their value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from cli import settings_table
from cli.up.environment import BadEnvironment, from_process
from infra.secret_files import secret_variables
from infra.settings import Settings
from infra.settings_problems import problems_of

KEY = "k" * 32
SECRETS = sorted(secret_variables(Settings))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TONGDA_")]:
        monkeypatch.delenv(name)


def test_the_table_is_current() -> None:
    """If not: `python -m cli.settings_table`."""
    assert settings_table.FILE.read_text(encoding="utf-8") == settings_table.table()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://secret@db/x"),
        ("DATABASE_POOL", "one"),
        ("TEMPORAL_ADDRESS", "temporal"),
        ("TEMPORAL_UI_URL", "ftp://secret"),
        ("PUBLIC_URL", "tongda.example"),
        ("SECRET_KEY", "secret"),
        ("WEBHOOK_ALLOW_NETWORKS", "10.0.0.0/99"),
        ("RETENTION_DAYS", "-1"),
        ("CASSANDRA_HOSTS", "one,two:port"),
        ("CASSANDRA_HOSTS", "one:70000"),
        ("CASSANDRA_KEYSPACE", "x; DROP KEYSPACE y"),
        ("CASSANDRA_DATACENTER", "dc'1"),
        ("DIRECTORY_URL", "http://secret@ldap"),
        ("DIRECTORY_URL", "ldap://host/dc=x"),
        ("DIRECTORY_KIND", "nis"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TONGDA_{name}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(name.lower(),)]
    assert "secret@" not in str(caught.value)
    said = problems_of(caught.value)
    assert f"TONGDA_{name}" in said
    assert "docs/settings.md" in said
    assert not [quoted for quoted in ("\n", "secret@", "ftp://secret", "pydantic") if quoted in said]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SMTP_PORT", "abc", "TONGDA_SMTP_PORT: a whole number from 1 to 65535"),
        ("SMTP_PORT", "0", "TONGDA_SMTP_PORT: a whole number from 1 to 65535"),
        ("OTP_PER_RECIPIENT_HOUR", "many", "TONGDA_OTP_PER_RECIPIENT_HOUR: a whole number, at least 0"),
        ("SMTP_SECURITY", "ssl", "TONGDA_SMTP_SECURITY: one of none, starttls, tls"),
        ("LOG_LEVEL", "LOUD", "TONGDA_LOG_LEVEL: it does not look like one. DEBUG, INFO, WARNING or ERROR"),
        ("SECRET_KEY", "short", "TONGDA_SECRET_KEY needs at least 32 characters"),
    ],
)
def test_one_line_says_what_a_setting_has_to_be(name: str, value: str, said: str) -> None:
    """Caught: the workers printed four lines of pydantic's."""
    environment = {**os.environ, f"TONGDA_{name}": value}
    started = [sys.executable, "-m", "workers", "--lanes", "high"]
    done = subprocess.run(started, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, f"tongda workers: {said} (docs/settings.md)\n")


def test_a_user_without_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGDA_CASSANDRA_USERNAME", "tongda")
    with pytest.raises(ValidationError, match="together"):
        Settings()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"BIND_DN": "cn=reader", "BASE_DN": "dc=x"}, "together"),
        ({"PASSWORD": "hunter2", "BASE_DN": "dc=x"}, "together"),
        ({}, "needs TONGDA_DIRECTORY_BASE_DN"),
    ],
)
def test_half_a_directory_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str) -> None:
    """A name without a password would be let in by most directories, as nobody."""
    monkeypatch.setenv("TONGDA_DIRECTORY_URL", "ldaps://ldap.example")
    for name, value in given.items():
        monkeypatch.setenv(f"TONGDA_DIRECTORY_{name}", value)
    with pytest.raises(ValidationError, match=says) as caught:
        Settings()
    assert "hunter2" not in str(caught.value)


def test_nodes_of_cassandra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGDA_CASSANDRA_HOSTS", "one, 10.0.0.2:9043,[::1]:9044 ,[fd00::2]")
    assert Settings().cassandra_endpoints == [("one", 9042), ("10.0.0.2", 9043), ("::1", 9044), ("fd00::2", 9042)]


def test_empty_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGDA_DATABASE_POOL", "")
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", "")
    assert Settings().database_pool == Settings.model_fields["database_pool"].default


def test_a_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {KEY}\r\n", encoding="utf-8")
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", str(file))
    assert Settings().secret_key.get_secret_value() == f" {KEY}"


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_file_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"{name}_FILE", "/nowhere/key")
    with pytest.raises(ValidationError, match=f"{name}_FILE names /nowhere/key: no such file"):
        Settings()


def test_a_file_is_checked_like_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"short-secret")
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", str(file))
    with pytest.raises(ValidationError, match="32 characters") as caught:
        Settings()
    assert "short-secret" not in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValidationError, match="not text in UTF-8"):
        Settings()


def test_a_secret_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which of the two counts would be a guess."""
    monkeypatch.setenv("TONGDA_SECRET_KEY", KEY)
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ValidationError, match="not both"):
        Settings()


def test_only_secrets_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "TONGDA_SECRET_KEY" in SECRETS
    monkeypatch.setenv("TONGDA_SMTP_HOST_FILE", "/nowhere/host")
    assert Settings().smtp_host == Settings.model_fields["smtp_host"].default


def test_the_supervisor_hands_on_what_the_file_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Caught: it would see no TONGDA_SECRET_KEY, fill in its own, and every child then refuse to have both."""
    file = tmp_path / "key"
    file.write_text(KEY, encoding="utf-8")
    monkeypatch.setenv("TONGDA_SECRET_KEY", "")  # so that the test's end takes away what from_process sets
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", str(file))
    environment = from_process()
    environment.check()
    assert environment.given("SECRET_KEY")
    child = environment.child()
    assert (child["TONGDA_SECRET_KEY"], child.get("TONGDA_SECRET_KEY_FILE")) == (KEY, None)


def test_the_supervisor_says_which_file_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TONGDA_SECRET_KEY_FILE", "/nowhere/key")
    with pytest.raises(BadEnvironment, match="TONGDA_SECRET_KEY_FILE names /nowhere/key"):
        from_process().check()
