"""How a code is computed: from a key that the database does not have, every code as likely as any other."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from domain.errors import Unavailable
from domain.ids import uuid7
from infra.otp_codes import OtpCodes, Seed

CODES = OtpCodes("0123456789abcdef" * 2)
OTHER = OtpCodes("fedcba9876543210" * 2)


@pytest.mark.parametrize("length", range(4, 11))
def test_a_code_has_its_length_and_is_always_the_same(length: int) -> None:
    seed = Seed.new(uuid7(), send=1, length=length)
    code = CODES.code(seed)
    assert len(code) == length
    assert code.isdigit()
    assert CODES.code(seed) == code


def test_every_part_of_the_seed_and_the_key_makes_another_code() -> None:
    """Ten digits, so that two are alike once in 10^10."""
    seed = Seed.new(uuid7(), send=1, length=10)
    others = [replace(seed, otp_id=uuid7()), replace(seed, send=2), replace(seed, salt=bytes(16))]
    codes = [CODES.code(one) for one in (seed, *others)] + [OTHER.code(seed)]
    assert len(set(codes)) == len(codes)


def test_codes_are_spread_evenly() -> None:
    """Chi-squared over the last digit, and over the first, of 20,000 codes: 9 degrees of freedom, 0.0001 lies at 33.7."""
    seed = Seed(uuid7(), 1, bytes(16), 6)
    codes = [CODES.code(replace(seed, salt=number.to_bytes(16, "big"))) for number in range(20_000)]
    for place in (0, 5):
        seen = Counter(code[place] for code in codes)
        assert sum((seen[str(digit)] - 2000) ** 2 / 2000 for digit in range(10)) < 33.7


def test_only_the_right_code_under_the_right_key_matches() -> None:
    seed = Seed.new(uuid7(), send=1, length=6)
    code = CODES.code(seed)
    stored = CODES.hashed(seed, code)
    assert CODES.matches(seed, code, stored=stored)
    assert not CODES.matches(seed, code + "0", stored=stored)
    assert not CODES.matches(seed, code[:-1], stored=stored)
    assert not OTHER.matches(seed, code, stored=stored)
    assert not CODES.matches(replace(seed, send=2), code, stored=stored)
    assert CODES.key_id != OTHER.key_id


def test_names_of_what_is_counted_differ_by_tenant_and_scope() -> None:
    names = {CODES.subject(t, s, "a@example.com") for t in ("a", "b") for s in ("range", "client")}
    assert len(names) == 4


def test_without_a_key_nothing_is_computed() -> None:
    with pytest.raises(Unavailable):
        OtpCodes("").code(Seed.new(uuid7(), send=1, length=6))


def test_a_code_is_judged_by_the_key_that_it_was_made_under() -> None:
    """While a key is rotated: the codes of the minutes before go on."""
    seed = Seed.new(uuid7(), send=1, length=6)
    rotated = OtpCodes("fedcba9876543210" * 2, others=["0123456789abcdef" * 2])
    before = rotated.under(CODES.key_id)
    assert before is not None
    assert before.matches(seed, CODES.code(seed), stored=CODES.hashed(seed, CODES.code(seed)))
    assert rotated.key_id == OTHER.key_id
    assert rotated.under(rotated.key_id) is rotated
    assert CODES.under(OTHER.key_id) is None
