"""Credentials at rest: opened by the key and the account that they were sealed for, and by nothing else."""

from __future__ import annotations

import pytest

from domain.errors import Unavailable
from infra.credentials import CredentialBox, Unreadable

BOX = CredentialBox("0123456789abcdef" * 2)
VALUES = {"password": "密码-correct-horse"}


def test_what_was_sealed_is_opened() -> None:
    sealed = BOX.seal(VALUES, tenant="acme", account="relay-1")
    assert BOX.open(sealed, tenant="acme", account="relay-1") == VALUES
    assert BOX.seal(VALUES, tenant="acme", account="relay-1") != sealed, "no two are alike"
    assert b"horse" not in sealed


def test_it_belongs_to_one_account_of_one_tenant_under_one_key() -> None:
    sealed = BOX.seal(VALUES, tenant="acme", account="relay-1")
    for box, tenant, account in (
        (BOX, "acme", "relay-2"), (BOX, "globex", "relay-1"), (CredentialBox("k" * 32), "acme", "relay-1"),
    ):  # fmt: skip
        with pytest.raises(Unreadable):
            box.open(sealed, tenant=tenant, account=account)
    for damaged in (b"", sealed[:-1], sealed[:20], bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(Unreadable):
            BOX.open(damaged, tenant="acme", account="relay-1")


def test_the_key_is_named_and_without_one_nothing_is_sealed() -> None:
    assert BOX.key_id != CredentialBox("k" * 32).key_id
    with pytest.raises(Unavailable, match="TONGDA_SECRET_KEY"):
        CredentialBox("").seal(VALUES, tenant="acme", account="relay-1")


def test_a_key_that_is_named_beside_ours_opens_what_it_sealed_and_seals_nothing() -> None:
    """The key that was there before, or the one to come: processes are restarted one by one."""
    other = CredentialBox("k" * 32)
    sealed = other.seal(VALUES, tenant="acme", account="relay-1")
    ring = CredentialBox("0123456789abcdef" * 2, others=["k" * 32])
    assert ring.open(sealed, tenant="acme", account="relay-1", key_id=other.key_id) == VALUES
    assert ring.key_id == BOX.key_id
    assert ring.other_ids == {other.key_id}
    anew = ring.seal(VALUES, tenant="acme", account="relay-1")
    assert BOX.open(anew, tenant="acme", account="relay-1", key_id=ring.key_id) == VALUES
    for box, key_id in ((BOX, other.key_id), (ring, BOX.key_id), (ring, "nobody's")):
        with pytest.raises(Unreadable):
            box.open(sealed, tenant="acme", account="relay-1", key_id=key_id)
