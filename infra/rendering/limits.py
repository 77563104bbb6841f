"""How much a template may be and do. Rendering runs other people's programs: each limit closes a way to stall a worker."""

from __future__ import annotations

import time

MAX_SOURCE_CHARS = 64 * 1024
"""Of one block. Bounds straight-line work: without loops, work grows with the source."""
MAX_OUTPUT_CHARS = 256 * 1024
"""Of one rendered block, and of any text made on the way."""
MAX_RANGE = 1000
MAX_LOOP_DEPTH = 2
MAX_ITERATIONS = 20_000
"""Of all loops of one rendering together."""
MAX_NUMBER = 10**30
RENDER_CPU_S = 0.25
"""Of one block, at delivery."""
PUBLISH_CPU_S = 0.05
"""Of one block with its example data, at publish: what comes near the limit of delivery never gets there."""


class LimitPassed(Exception):
    """A template asked for more than it may have; the message says what, and holds no data."""


class Budget:
    """The loop iterations and the CPU time that one rendering has left."""

    __slots__ = ("_deadline", "_left")

    def __init__(self, *, cpu_s: float) -> None:
        self._left = MAX_ITERATIONS
        # Thread time: a busy machine must not fail a template that is cheap itself.
        self._deadline = time.thread_time() + cpu_s

    def spend(self) -> None:
        """One iteration. Raises LimitPassed when there is none left, or no time."""
        self._left -= 1
        if self._left < 0:
            raise LimitPassed(f"its loops run more than {MAX_ITERATIONS} times")
        if not self._left & 7 and time.thread_time() > self._deadline:
            raise LimitPassed("it takes too long")


def short_enough(chars: int) -> None:
    """Raises LimitPassed for a text longer than any output may be."""
    if chars > MAX_OUTPUT_CHARS:
        raise LimitPassed(f"it makes a text of more than {MAX_OUTPUT_CHARS // 1024} KiB")
