"""The address for an account's receipts, shown to whoever has the installation's secret."""

from __future__ import annotations

from pathlib import Path

from infra.secrets import receipt_path
from tests.cli.conftest import tongda

KEY = "0123456789abcdef" * 2


def test_the_address_is_the_one_that_the_api_knows(tmp_path: Path) -> None:
    environment = {"TONGDA_HOME": str(tmp_path), "TONGDA_SECRET_KEY": KEY, "TONGDA_PUBLIC_URL": "https://n.example.com/"}
    shown = tongda("receipt-url", "webhook", "webhook-default", environment=environment)
    assert shown.code == 0, shown.err
    assert shown.out.strip() == "https://n.example.com" + receipt_path(KEY, provider="webhook", account="webhook-default")


def test_without_a_secret_key_it_says_what_to_set(tmp_path: Path) -> None:
    shown = tongda("receipt-url", "webhook", "webhook-default", environment={"TONGDA_HOME": str(tmp_path)})
    assert shown.code == 1
    assert "TONGDA_SECRET_KEY" in shown.err
