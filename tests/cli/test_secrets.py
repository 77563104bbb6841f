"""`secrets status | rotate`, and what `doctor` says of what is sealed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest

from infra.credentials import CredentialBox
from tests.cli.conftest import tongda
from tests.cli.test_doctor import NOWHERE, examined

OLD, NEW, STRANGE = "o" * 32, "n" * 32, "s" * 32
PASSWORD = "correct-horse"
ROW = "INSERT INTO provider_account (id, tenant, name, provider, sealed, key_id) VALUES ($1, 'acme', $1, 'smtp', $2, $3)"


async def _sealed(database: str, *, key: str, names: list[str]) -> None:
    box = CredentialBox(key)
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("INSERT INTO tenant (id, name) VALUES ('acme', 'acme') ON CONFLICT DO NOTHING")
        for name in names:
            sealed = box.seal({"password": PASSWORD}, tenant="acme", account=name)
            await connection.execute(ROW, name, sealed, box.key_id)
    finally:
        await connection.close()


@pytest.fixture
def environment(database: str, tmp_path: Path) -> dict[str, str]:
    """After the first restart of a rotation: the new key seals, the old one opens."""
    asyncio.run(_sealed(database, key=OLD, names=["relay-1", "relay-2"]))
    return {
        "TONGDA_DATABASE_URL": database, "TONGDA_HOME": str(tmp_path), "TONGDA_SECRET_KEY": NEW,
        "TONGDA_OTHER_SECRET_KEYS": OLD, "TONGDA_TEMPORAL_ADDRESS": NOWHERE, "TONGDA_SMTP_HOST": "127.0.0.1",
        "TONGDA_SMTP_PORT": "9", "TONGDA_SMTP_SECURITY": "none",
    }  # fmt: skip


def test_from_the_old_key_to_the_new_one(environment: dict[str, str]) -> None:
    """As the runbook has it, with doctor's word before and after."""
    state, says, do = examined(environment)[1]["sealed secrets"]
    assert (state, "2 by " + CredentialBox(OLD).key_id in says, "secrets rotate" in do) == ("warning", True, True)
    before = tongda("secrets", "status", environment=environment)
    assert (before.code, f"{CredentialBox(OLD).key_id}  other  2" in before.out) == (0, True)
    done = tongda("secrets", "rotate", environment=environment)
    assert (done.code, done.out.splitlines()) == (0, [f"sealed anew by {CredentialBox(NEW).key_id}: 2", "left: 0"])
    assert "sealed anew: 2" in done.err
    again = json.loads(tongda("secrets", "rotate", "-o", "json", environment=environment).out)
    assert (again["resealed"], again["left"], again["unopened"]) == (0, 0, [])
    after = tongda("secrets", "status", environment=environment)
    assert "it may be taken away" in after.out
    state, says, _ = examined(environment)[1]["sealed secrets"]
    assert (state, "TONGDA_OTHER_SECRET_KEYS" in says) == ("ok", True)
    alone = {**environment, "TONGDA_OTHER_SECRET_KEYS": ""}
    assert examined(alone)[1]["sealed secrets"][:2] == ("ok", "2, all by the key of now")


def test_it_does_not_end_well_while_anything_is_left(environment: dict[str, str]) -> None:
    """Somebody's key is missing: whoever now threw the others away would lose it for good."""
    asyncio.run(_sealed(environment["TONGDA_DATABASE_URL"], key=STRANGE, names=["relay-3"]))
    done = tongda("secrets", "rotate", environment=environment)
    assert done.code == 1
    assert "left: 1" in done.out
    assert f"relay-3 of acme, sealed by {CredentialBox(STRANGE).key_id}" in done.out
    assert "TONGDA_OTHER_SECRET_KEYS" in done.out
    assert tongda("secrets", "status", environment=environment).code == 1
    state, says, do = examined(environment)[1]["sealed secrets"]
    assert (state, says) == ("failed", "1 cannot be opened: relay-3")
    assert "TONGDA_OTHER_SECRET_KEYS" in do
    both = {**environment, "TONGDA_OTHER_SECRET_KEYS": f"{OLD}, {STRANGE}"}
    assert tongda("secrets", "rotate", environment=both).code == 0


@pytest.mark.parametrize("command", ["status", "rotate"])
def test_no_secret_is_shown_or_guessed(environment: dict[str, str], command: str) -> None:
    for output in ("table", "json"):
        said = tongda("secrets", command, "-o", output, environment=environment)
        for secret in (OLD, NEW, PASSWORD):
            assert secret not in said.out + said.err


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"TONGDA_SECRET_KEY": ""}, "TONGDA_SECRET_KEY"),
        ({"TONGDA_OTHER_SECRET_KEYS": "short"}, "TONGDA_OTHER_SECRET_KEYS"),
        ({"TONGDA_DATABASE_URL": f"postgresql://tongda:hunter2@{NOWHERE}/tongda"}, "TONGDA_DATABASE_URL"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], changed: dict[str, str], says: str) -> None:
    said = tongda("secrets", "rotate", environment={**environment, **changed})
    assert (said.code, says in said.err) == (1, True)
    assert "hunter2" not in said.err
    assert "short\n" not in said.err
