"""How far the property tests look: the same examples in each run, or with `TESTS_DEPTH=50` that many times as many, at
random."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

DEPTH = int(os.environ.get("TESTS_DEPTH", "1"))


def deep(examples: int) -> settings:
    """Without a deadline: the machine is shared, and a slow example is not a wrong one."""
    return settings(
        max_examples=examples * DEPTH,
        derandomize=DEPTH == 1,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
