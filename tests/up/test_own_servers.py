"""The operator's own PostgreSQL, Temporal and SMTP server are used instead of ours, and a bad one is named."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.up.ports import Ports
from tests.up.running import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tongda-own-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_own_servers_are_used_and_mail_is_not_checked(
    folder: Path, database: str, temporal_address: str, server_ports: Ports
) -> None:
    own = {
        "TONGDA_DATABASE_URL": database,
        "TONGDA_TEMPORAL_ADDRESS": temporal_address,
        "TONGDA_SMTP_HOST": "127.0.0.1",
        "TONGDA_SMTP_PORT": str(server_ports.any()),  # nobody listens there
    }
    instance = Instance(folder / "home", settings=own)
    assert instance.wait() == 0, instance.screen
    assert "cannot be checked from here" in instance.screen
    assert not (folder / "home" / "postgres").exists()
    assert not (folder / "home" / "logs" / "temporal.log").exists()
    assert instance.left() == []


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("TONGDA_SMTP_PORT", "mail", "TONGDA_SMTP_PORT"),
        ("TONGDA_DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x", "PostgreSQL of TONGDA_DATABASE_URL"),
        ("TONGDA_TEMPORAL_ADDRESS", "127.0.0.1:1", "Temporal at 127.0.0.1:1 cannot be reached"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, setting: str, value: str, said: str) -> None:
    instance = Instance(folder / "home", settings={setting: value})
    assert instance.wait() == 1
    assert said in instance.screen
    assert "secret" not in instance.screen
    assert instance.left() == []
