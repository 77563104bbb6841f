"""Finding providers by name, and what each says of the accounts that it can have."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import jsonschema_rs
import msgspec
import pytest

import channels.registry as registry
from channels.account_settings import AccountSettings, Secret, decode_settings, divided, secret_names, settings_schema
from channels.base import Provider
from channels.email.smtp import SmtpSettings
from channels.memory import MemoryHttp, MemoryInbox, MemoryProvider, MemorySmtp
from channels.registry import BUILT_IN, ProviderType, UnknownProvider, Wiring, build, provider_types
from channels.webhook.standard import WebhookSettings
from domain.channels import Channel
from tests.channels.samples import SECRET

WIRING = Wiring(http=MemoryHttp(), smtp=MemorySmtp(), inbox=MemoryInbox(), secret_for=lambda tenant: SECRET)
SETTINGS: dict[str, AccountSettings] = {
    "smtp": SmtpSettings(host="smtp.example.com", sender="Tongda <notify@tongda.example>"),
    "webhook": WebhookSettings(),
    "inapp": AccountSettings(),
}


def build_memory(wiring: Wiring, settings: AccountSettings) -> Provider:
    return MemoryProvider(channel=Channel.WEBHOOK)


MEMORY = ProviderType("What a package would offer.", MemoryProvider().capabilities, AccountSettings, build_memory)


def test_each_built_in_provider_knows_its_own_name_and_says_beforehand_what_it_can() -> None:
    for name, kind in provider_types().items():
        assert kind.name == name
        assert kind.build(WIRING, SETTINGS[name]).capabilities == kind.capabilities
        assert hasattr(kind.build(WIRING, SETTINGS[name]), "check") is kind.checks
    assert {kind.capabilities.channel for kind in provider_types().values()} == set(Channel)


def test_a_package_adds_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("memory", "tests.channels.test_registry:MEMORY", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "tongda.channels" else [])
    provider = build("memory", Wiring(), AccountSettings(), among=provider_types())
    assert provider.capabilities.channel is Channel.WEBHOOK


def test_a_package_cannot_take_a_built_in_name_nor_offer_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, said in (("smtp", "MEMORY", "two providers are called 'smtp'"), ("x", "SECRET", "is not a provider")):
        point = EntryPoint(name, f"tests.channels.test_registry:{value}", registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group, point=point: [point])
        with pytest.raises(ValueError, match=said):
            provider_types()


def test_what_is_missing_is_said_when_the_account_is_made() -> None:
    with pytest.raises(UnknownProvider, match="fax"):
        build("fax", WIRING, AccountSettings(), among=BUILT_IN)
    for name, missing in (("smtp", "SMTP port"), ("webhook", "signing secrets"), ("inapp", "inbox port")):
        with pytest.raises(ValueError, match=missing):
            build(name, Wiring(), SETTINGS[name], among=BUILT_IN)
    with pytest.raises(ValueError, match="HTTP port"):
        build("webhook", Wiring(secret_for=lambda tenant: SECRET), SETTINGS["webhook"], among=BUILT_IN)


def test_the_schema_of_settings_is_what_decodes_them() -> None:
    """Catches: a form made from the schema whose values are refused, or the other way round."""
    good = {"host": "smtp.example.com", "sender": "a@b.example", "username": "u", "password": "p"}
    documents: list[dict[str, Any]] = [
        good,
        {**good, "port": 0},
        {**good, "security": "ssl"},
        {"host": "x"},
        {**good, "token": "x"},
        {},
    ]
    schema = settings_schema(SmtpSettings)
    valid = jsonschema_rs.Draft202012Validator(schema)
    for document in documents:
        try:
            decode_settings(SmtpSettings, document)
            taken = True
        except msgspec.ValidationError:
            taken = False
        assert valid.is_valid(document) is taken, document
    assert schema["required"] == ["host", "sender"]
    assert schema["additionalProperties"] is False


def test_what_is_secret_is_write_only_and_kept_apart() -> None:
    class Token(AccountSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
        token: Secret
        second: Secret = ""

    assert secret_names(Token) == {"token", "second"}
    assert settings_schema(Token)["properties"]["token"]["writeOnly"] is True
    assert divided(Token(token="hush")) == ({"connections": 16}, {"token": "hush"})
    assert secret_names(SmtpSettings) == {"password"}
    assert secret_names(WebhookSettings) == {"signing_secret"}
    assert "hush" not in repr(SmtpSettings(host="h", sender="a@b.example", password="hush"))


@pytest.mark.parametrize(
    ("settings", "pointers"),
    [
        (SmtpSettings(host="h", sender="nobody"), ["/sender"]),
        (SmtpSettings(host="h", sender="a@b.example", username="u"), ["/password"]),
        (SmtpSettings(host="h", sender="a@b.example", password="p"), ["/username"]),
        (SmtpSettings(host="h", sender="a@b.example", username="u", password="p", security="none"), ["/security"]),
        (SmtpSettings(host="h", sender="Tongda <a@b.example>", username="u", password="p"), []),
        (WebhookSettings(signing_secret="whsec_short"), ["/signing_secret"]),
        (WebhookSettings(signing_secret=SECRET), []),
    ],
)
def test_rules_over_several_settings_name_the_one_that_is_wrong(settings: AccountSettings, pointers: list[str]) -> None:
    assert [error.pointer for error in settings.problems()] == pointers
