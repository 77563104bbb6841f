"""TONGDA_EMAIL_ACCOUNTS: what it takes, and what it says about what it does not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from infra.settings import Settings

TWO = [
    {"name": "a", "host": "smtp-a", "password": "hush", "rate_per_second": 5},
    {"name": "b", "host": "smtp-b", "order": 1},
]


def settings(accounts: Any) -> Settings:
    text = accounts if isinstance(accounts, str) else json.dumps(accounts)
    return Settings(email_accounts=SecretStr(text))


def test_without_it_there_is_the_one_server_of_the_smtp_settings() -> None:
    [one] = Settings(smtp_host="mail.example.com", smtp_port=2525, smtp_password=SecretStr("hush")).mail_servers
    assert (one.name, one.host, one.port, one.password, one.security) == (
        "smtp-default", "mail.example.com", 2525, "hush", "starttls",
    )  # fmt: skip


def test_several_with_their_places() -> None:
    one, two = settings(TWO).mail_servers
    assert (one.name, one.rate_per_second, two.order, two.weight, two.connections) == ("a", 5, 1, 1, 16)
    assert "hush" not in repr(one)


def test_it_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "accounts.json"
    file.write_text(json.dumps(TWO) + "\n")
    monkeypatch.setenv("TONGDA_EMAIL_ACCOUNTS_FILE", str(file))
    assert [one.name for one in Settings().mail_servers] == ["a", "b"]


@pytest.mark.parametrize(
    ("accounts", "said"),
    [
        ("[", "is not a JSON list"),
        ([], "1 to 100 accounts"),
        ([{"name": "a"}], "missing required field `host` - at `$[0]`"),
        ([{"name": "A b", "host": "x"}], "$[0].name"),
        ([{"name": "a", "host": "x", "port": 0}], "$[0].port"),
        ([{"name": "a", "host": "x", "security": "hush-hush"}], "$[0].security"),
        ([{"name": "a", "host": "x", "passwort": "hush-hush"}], "unknown field `passwort`"),
        ([{"name": "a", "host": "x"}, {"name": "a", "host": "y"}], "each name is given once"),
        ([{"name": "smtp-default", "host": "x"}], "none is smtp-default"),
        ([{"name": "a", "host": "x", "rate_per_second": 0}], "$[0].rate_per_second"),
    ],
)
def test_what_is_wrong_is_named_and_no_value_is_shown(accounts: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(accounts)
    [error] = caught.value.errors()
    assert said in error["msg"]
    assert "hush" not in str(caught.value)
