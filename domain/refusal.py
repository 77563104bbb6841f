"""A provider that refuses the account itself, message after message: its credentials, contract or allow-list. An operator
has to mend that, so it is said aloud. Whether calls are made meanwhile is the circuit's business (`domain.health`)."""

from __future__ import annotations

from domain.results import ResultClass

REFUSING = frozenset({ResultClass.CONFIG, ResultClass.TOKEN})
IN_A_ROW = 5
"""So many, with nothing taken between them: a single one may be the provider's slip, or one sender address that it bars."""
PROBLEM = "refused_by_provider"
"""What such an account is told to suffer from."""


class Refusal:
    """One account, as one process sees it."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last = ""

    def note(self, result: ResultClass, code: str) -> None:
        """An answer. What was taken, throttled or refused for its own sake shows that the account is accepted; a time-out
        says nothing about that."""
        if result in REFUSING:
            self._in_a_row += 1
            self._last = f"{result} {code}".rstrip()
        elif result not in {ResultClass.RETRY, ResultClass.UNKNOWN}:
            self._in_a_row = 0

    @property
    def said(self) -> str | None:
        """The class and code of the last refusal, while it lasts."""
        return self._last if self._in_a_row >= IN_A_ROW else None
