"""docker-compose.temporal.yml against the Compose specification, the settings classes and its own promises.

No Docker engine runs here: what is held is what can be read.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from cli.up.temporal import DYNAMIC_CONFIG
from infra.settings import Settings
from sandbox.settings import Settings as SandboxSettings
from workers.factory import DRAIN_LIMIT
from workers.roles import Role, parse

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.temporal.yml"
ONE_SHOT = {"temporal-schema", "temporal-namespace", "migrate", "first-key"}
_REQUIRED = {
    "POSTGRES_PASSWORD": "p" * 24,
    "TONGDA_SECRET_KEY": "k" * 32,
    "TONGDA_SMTP_HOST": "mail.example",
    "TONGDA_SMTP_FROM": "Tongda <notify@tongda.example>",
}
SECRET = re.compile(r"PASSWORD|SECRET|PWD|KEY$")


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(_read(COMPOSE)))
    return read


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


class _Asked(dict[str, str]):
    """An environment that notes which variables are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def _known_variables() -> set[str]:
    asked = _Asked()
    SandboxSettings.from_env(asked)
    return {f"TONGDA_{name.upper()}" for name in Settings.model_fields} | asked.names


def _variables(services: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Service, variable, value."""
    for service, spec in services.items():
        for name, value in spec.get("environment", {}).items():
            yield service, name, str(value)


def test_it_is_what_the_compose_specification_allows(compose: dict[str, Any]) -> None:
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    errors = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in jsonschema_rs.validator_for(json.loads(schema.read_text(encoding="utf-8"))).iter_errors(compose)
    ]
    assert errors == []


def test_every_variable_that_it_sets_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    ours = {name for _, name, _ in _variables(services) if name.startswith("TONGDA_")}
    assert ours
    assert ours <= _known_variables()


def _given(value: str) -> str:
    """As Compose fills it in where only what is required is set."""

    def filled(found: re.Match[str]) -> str:
        name, how, words = found.groups()
        return _REQUIRED[name] if how == "?" else str(words)

    return re.sub(r"\$\{(\w+):([?-])([^}]*)\}", filled, value)


def test_the_settings_take_what_is_given(services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for service, spec in services.items():
        ours = {name: _given(str(v)) for name, v in spec.get("environment", {}).items() if name.startswith("TONGDA_")}
        if not ours:
            continue
        with monkeypatch.context() as patch:
            for name, value in ours.items():
                patch.setenv(name, value)
            if service == "sandbox":
                assert SandboxSettings.from_env(ours).http_port == 8025
            else:
                assert Settings().temporal_address == "temporal:7233", service


def test_the_example_names_what_the_file_asks_for_and_holds_no_secret() -> None:
    lines = (ROOT / "deploy/.env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    asked = re.findall(r"\$\{(\w+):?([?-])?", COMPOSE.read_text(encoding="utf-8"))
    versions = {name for name, _ in asked if name.endswith("_VERSION")}
    assert {name for name, _ in asked} - versions == set(example)
    assert {name for name, value in example.items() if SECRET.search(name) and value} == set()


def test_no_secret_has_a_default(services: dict[str, dict[str, Any]]) -> None:
    """Either it must be given, or it may be left empty (a mail server without a password)."""
    for service, name, value in _variables(services):
        if SECRET.search(name):
            assert re.fullmatch(r"\$\{\w+:(\?.+|-)\}", value), f"{service}: {name}"
        credentials = re.search(r"://\w+:([^@]*)@", value)
        assert credentials is None or credentials[1].startswith("${POSTGRES_PASSWORD:?"), f"{service}: {name}"


def test_required_variables_say_what_to_do() -> None:
    said = re.findall(r"\$\{(\w+):\?([^}]*)\}", COMPOSE.read_text(encoding="utf-8"))
    assert {name for name, _ in said} >= {"POSTGRES_PASSWORD", "TEMPORAL_POSTGRES_PASSWORD", "TONGDA_SECRET_KEY"}
    assert all("deploy/.env" in words for _, words in said)


def test_ports_are_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for spec in services.values() for port in spec.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in spec or spec.get("privileged") for spec in services.values())


def test_every_service_is_limited_restarted_and_watched(services: dict[str, dict[str, Any]]) -> None:
    for name, spec in services.items():
        limits = spec["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert "logging" in spec, name
        if name in ONE_SHOT:
            assert spec["restart"] in ("no", "on-failure:5"), name
        else:
            assert spec["restart"] == "unless-stopped", name
            assert spec["healthcheck"]["test"], name


def test_what_is_ours_is_read_only_and_without_rights(services: dict[str, dict[str, Any]]) -> None:
    ours = {name: spec for name, spec in services.items() if spec["image"].startswith("tongda:")}
    assert set(ours) >= {"api", "migrate", "sandbox"}
    for name, spec in ours.items():
        assert spec["read_only"] is True, name
        assert spec["cap_drop"] == ["ALL"], name


def test_each_role_has_a_worker_and_time_to_drain(services: dict[str, dict[str, Any]]) -> None:
    workers = {name: spec for name, spec in services.items() if "workers" in spec.get("command", [])}
    roles = [role for spec in workers.values() for role in parse(spec["command"][-1])]
    assert sorted(roles) == sorted(Role)
    for name, spec in workers.items():
        assert int(spec["stop_grace_period"].removesuffix("s")) > DRAIN_LIMIT.total_seconds(), name
        assert spec["environment"]["TONGDA_METRICS_PORT"] in str(spec["healthcheck"]["test"]), name


def test_data_is_in_named_volumes(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    mounts = [mount for spec in services.values() for mount in spec.get("volumes", [])]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(compose["volumes"]) == {"postgres-data", "temporal-postgres-data", "cassandra-data"}
    bound = [mount for mount in mounts if mount.startswith("./")]
    assert all(mount.endswith(":ro") and (ROOT / mount.split(":")[0]).exists() for mount in bound)


def test_the_api_does_not_wait_for_temporal(services: dict[str, dict[str, Any]]) -> None:
    assert set(services["api"]["depends_on"]) == {"migrate"}
    assert set(services["migrate"]["depends_on"]) == {"postgres"}


def test_dependencies_exist(services: dict[str, dict[str, Any]]) -> None:
    for name, spec in services.items():
        for needed, how in spec.get("depends_on", {}).items():
            assert needed in services, name
            ends = needed in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name


def test_the_dynamic_settings_are_those_of_the_embedded_profile(services: dict[str, dict[str, Any]]) -> None:
    path = services["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    assert path.endswith("/dynamic-config.yaml")
    dynamic = _read(ROOT / "deploy/temporal/dynamic-config.yaml")
    values = {name: entry["value"] for name, [entry] in dynamic.items()}
    assert values == {name: json.loads(value) for name, value in DYNAMIC_CONFIG.items()}


def test_temporal_runs_on_the_faster_plugin(services: dict[str, dict[str, Any]]) -> None:
    assert services["temporal"]["environment"]["DB"] == "postgres12_pgx"
    assert "--plugin postgres12_pgx" in (ROOT / "deploy/temporal/setup-schema.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["setup-schema.sh", "create-namespace.sh"])
def test_scripts_are_valid_shell(script: str) -> None:
    subprocess.run(["sh", "-n", str(ROOT / "deploy/temporal" / script)], check=True)
