"""`tongda doctor` on a directory: what it says of a real one, and of one that is set up wrongly."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from cli.tongda.checks_directory import check_directory
from cli.tongda.finding import State
from infra.settings import DirectoryKind, Settings
from tests.directory.slapd import BASE, PASSWORD, READER, Slapd


@pytest.fixture
def settings(slapd: Slapd) -> Settings:
    return Settings(
        directory_url=f"ldap://localhost:{slapd.port}",
        directory_base_dn=BASE,
        directory_bind_dn=READER,
        directory_password=SecretStr(PASSWORD),
        directory_ca_file=slapd.certificate,
    )


@pytest.mark.directory
async def test_a_directory_that_is_well(settings: Settings) -> None:
    found = await check_directory(settings)
    assert (found.state, "over TLS, and shows people" in found.says) == (State.OK, True)


@pytest.mark.directory
@pytest.mark.parametrize(
    ("changes", "state", "says"),
    [
        ({"directory_password": SecretStr("wrong")}, State.FAILED, "password"),
        ({"directory_ca_file": None}, State.FAILED, "TONGDA_DIRECTORY_CA_FILE"),
        ({"directory_start_tls": False}, State.FAILED, "TONGDA_DIRECTORY_START_TLS"),
        ({"directory_base_dn": "dc=nobody,dc=test"}, State.FAILED, "TONGDA_DIRECTORY_BASE_DN"),
        ({"directory_base_dn": f"ou=groups,{BASE}"}, State.WARNING, "no people"),
        ({"directory_kind": DirectoryKind.ACTIVE_DIRECTORY}, State.WARNING, "no people"),
    ],
)
async def test_what_is_wrong_is_named(settings: Settings, changes: dict[str, object], state: State, says: str) -> None:
    """Each of these would otherwise show as a synchronisation that finds nobody, or as a line in a log."""
    found = await check_directory(settings.model_copy(update=changes))
    assert found.state is state
    assert says in found.says
    assert found.do
    assert PASSWORD not in found.says + found.do


async def test_none_is_set_up() -> None:
    assert (await check_directory(Settings())).state is State.SKIPPED
