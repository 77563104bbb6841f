"""What Temporal's programs are told."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cli.temporal_cluster import config
from cli.temporal_cluster.binaries import TEMPORAL_VERSION, UI_VERSION
from cli.temporal_cluster.config import BadDatabase, Database
from cli.up.ports import LOOPBACK, Ports, is_free

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.temporal.yml").read_text(encoding="utf-8")
SECRET = 'p"a\\ss: {{x}}'


def database() -> Database:
    return Database("db.example", 5432, "temporal", SECRET)


def test_two_servers_share_no_port() -> None:
    ports = Ports()
    two = [config.choose_ports(ports, number=number, first=17233, again=False) for number in (1, 2)]
    assert len({port for one in two for port in one.all}) == 16


def test_a_taken_port_is_left_alone() -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        taken = other.getsockname()[1]
        chosen = config.choose_ports(Ports(), number=1, first=taken, again=False)
        assert taken not in chosen.all
        assert all(is_free(port) for port in chosen.all)


def test_a_server_is_told_its_ports_and_its_database() -> None:
    ports = config.choose_ports(Ports(), number=1, first=17233, again=False)
    text = config.server(ports, database=database(), dynamic_config="/x/dynamic.yaml")
    read = YAML(typ="safe").load(text)
    assert json.loads(text) == read  # the same to a reader of YAML, which Temporal is, whatever a password holds
    assert [read["services"][name]["rpc"]["grpcPort"] for name in config.SERVICES] == list(ports.calls.values())
    stores = read["persistence"]["datastores"]
    assert {store: stores[store]["sql"]["databaseName"] for store in stores} == dict(config.STORES)
    assert {(s["sql"]["connectAddr"], s["sql"]["password"]) for s in stores.values()} == {("db.example:5432", SECRET)}
    assert read["dynamicConfigClient"]["filepath"] == "/x/dynamic.yaml"


def test_a_password_is_taken_out_of_its_url_encoding() -> None:
    found = Database.of("postgresql://te%40m:p%2Fw@db.example/")
    assert found == Database("db.example", 5432, "te@m", "p/w")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:secret@h/",
        "postgresql://h:1/",
        "postgresql://a:secret@/x",
        "postgresql://a:secret@h:port/",
        "postgresql://a:secret@h:1/?sslmode=require",
        "secret",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadDatabase) as refused:
        Database.of(url)
    assert "secret" not in str(refused.value)


def test_containers_run_the_same_versions_shards_and_plugin() -> None:
    """The dynamic settings are one file for both."""
    assert f"temporalio/server:${{TEMPORAL_VERSION:-{TEMPORAL_VERSION}}}" in COMPOSE
    assert f"temporalio/ui:${{TEMPORAL_UI_VERSION:-{UI_VERSION}}}" in COMPOSE
    assert f'NUM_HISTORY_SHARDS: "{config.SHARDS}"' in COMPOSE
    assert f"DB: {config.PLUGIN}" in COMPOSE
