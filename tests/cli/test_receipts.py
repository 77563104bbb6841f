"""What derives from the installation's secret, shown to whoever has it: addresses for receipts, webhooks' secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.secrets import receipt_path, webhook_secret
from tests.cli.conftest import tongda

KEY = "0123456789abcdef" * 2


def test_the_address_is_the_one_that_the_api_knows(tmp_path: Path) -> None:
    environment = {"TONGDA_HOME": str(tmp_path), "TONGDA_SECRET_KEY": KEY, "TONGDA_PUBLIC_URL": "https://n.example.com/"}
    shown = tongda("receipt-url", "webhook", "webhook-default", environment=environment)
    assert shown.code == 0, shown.err
    assert shown.out.strip() == "https://n.example.com" + receipt_path(KEY, provider="webhook", account="webhook-default")


def test_a_tenants_receivers_can_be_told_their_secret(tmp_path: Path) -> None:
    """Of the key of now alone, also while an older one is named: it is what receivers move to."""
    environment = {"TONGDA_HOME": str(tmp_path), "TONGDA_SECRET_KEY": KEY, "TONGDA_OTHER_SECRET_KEYS": "b" * 32}
    shown = tongda("webhook-secret", "acme", environment=environment)
    assert shown.code == 0, shown.err
    assert shown.out.strip() == webhook_secret(KEY, "acme")


@pytest.mark.parametrize("command", [("receipt-url", "webhook", "webhook-default"), ("webhook-secret", "acme")])
def test_without_a_secret_key_it_says_what_to_set(tmp_path: Path, command: tuple[str, ...]) -> None:
    shown = tongda(*command, environment={"TONGDA_HOME": str(tmp_path)})
    assert shown.code == 1
    assert "TONGDA_SECRET_KEY" in shown.err
