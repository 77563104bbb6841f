"""Test-sends: what marks them, and how many there may be."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from datetime import timedelta

from domain.carrying import TITLE_MOST

TEST, LOCALE = "test", "locale"
"""Names in a notification's stored options: it is a test; the locale that was asked for instead of the recipient's."""
MARKS: Mapping[str, str] = {"zh": "[测试] ", "": "[Test] "}
"""The mark before the title, by language ("": every other), so that nobody takes a test for the real thing."""
MOST = 30
PER = timedelta(minutes=1)
"""Test-sends of one tenant through one API process."""
MOST_TENANTS = 10_000


def marked(title: str, *, locale: str) -> str:
    """The title of a test, in the language of the content."""
    mark = MARKS.get(locale.partition("-")[0], MARKS[""])
    return f"{mark}{title}".rstrip()[:TITLE_MOST]


class Turns:
    """Who has sent how many tests lately. `now_s` of each call is a monotonic clock's."""

    def __init__(self, *, most: int = MOST, per: timedelta = PER) -> None:
        self._most = most
        self._per_s = per.total_seconds()
        self._taken: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, tenant: str, *, now_s: float) -> float:
        """0 where this one is within the limit, and is counted; otherwise the seconds to wait."""
        taken = self._taken.setdefault(tenant, deque())
        self._taken.move_to_end(tenant)
        while len(self._taken) > MOST_TENANTS:
            self._taken.popitem(last=False)
        while taken and taken[0] <= now_s - self._per_s:
            taken.popleft()
        if len(taken) >= self._most:
            return taken[0] + self._per_s - now_s
        taken.append(now_s)
        return 0.0
