"""The operator's own PostgreSQL, Temporal and SMTP server are used instead of ours, and a bad one is named."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sandbox
from cli.up.ports import Ports
from tests.up.running import Instance

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tongda-own-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def own_servers(database: str, temporal_address: str, *, smtp_port: int) -> dict[str, str]:
    return {
        "TONGDA_DATABASE_URL": database,
        "TONGDA_TEMPORAL_ADDRESS": temporal_address,
        "TONGDA_SMTP_HOST": "127.0.0.1",
        "TONGDA_SMTP_PORT": str(smtp_port),
        "TONGDA_SMTP_SECURITY": "none",
    }


def test_an_own_mail_server_that_takes_nothing_is_a_failure(
    folder: Path, database: str, temporal_address: str, server_ports: Ports
) -> None:
    """Caught: exit code 0 with an e-mail that was never taken."""
    own = own_servers(database, temporal_address, smtp_port=server_ports.any())  # nobody listens there
    instance = Instance(folder / "home", settings=own)
    assert instance.wait() == 1, instance.screen
    assert "email: your mail server has not taken it (retrying)" in instance.screen
    assert instance.left() == []


async def test_own_servers_are_used(folder: Path, database: str, temporal_address: str) -> None:
    async with sandbox.running() as box:
        own = own_servers(database, temporal_address, smtp_port=box.smtp_port)
        instance = Instance(folder / "home", settings=own)
        assert await asyncio.to_thread(instance.wait) == 0, instance.screen
        assert [item.seen.channel for item in box.record.find()[0]] == ["email"]
    assert "so far: sent" in instance.screen
    assert "worker metrics" not in instance.screen, "with --once the places are about to go away"
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
