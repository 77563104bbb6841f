"""Finding providers by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import channels.registry as registry
from channels.base import Provider
from channels.memory import MemoryHttp, MemoryInbox, MemoryProvider, MemorySmtp
from channels.registry import UnknownProvider, Wiring, build, factories
from domain.channels import Channel
from tests.channels.samples import SECRET

WIRING = Wiring(
    http=MemoryHttp(),
    smtp=MemorySmtp(),
    inbox=MemoryInbox(),
    sender="Tongda <notify@tongda.example>",
    secret_for=lambda tenant: SECRET,
)


def build_memory(wiring: Wiring) -> Provider:
    """What a package would offer."""
    return MemoryProvider(channel=wiring.options["channel"])


def test_each_built_in_provider_knows_its_own_name() -> None:
    for name, factory in factories().items():
        assert factory(WIRING).capabilities.provider == name
    assert {build(n, WIRING, among=factories()).capabilities.channel for n in ("smtp", "webhook", "inapp")} == set(Channel)


def test_a_package_adds_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("memory", "tests.channels.test_registry:build_memory", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "tongda.channels" else [])
    provider = build("memory", Wiring(options={"channel": Channel.WEBHOOK}), among=factories())
    assert provider.capabilities.channel is Channel.WEBHOOK


def test_a_package_cannot_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("smtp", "tests.channels.test_registry:build_memory", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(ValueError, match="two providers are called 'smtp'"):
        factories()


def test_what_is_missing_is_said_when_the_account_is_made() -> None:
    with pytest.raises(UnknownProvider, match="fax"):
        build("fax", WIRING, among=factories())
    for name, missing in (("smtp", "SMTP port"), ("webhook", "HTTP port"), ("inapp", "inbox port")):
        with pytest.raises(ValueError, match=missing):
            build(name, Wiring(sender="a@b.example"), among=factories())
    with pytest.raises(ValueError, match="signing secrets"):
        build("webhook", Wiring(http=MemoryHttp()), among=factories())
