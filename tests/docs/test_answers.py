"""docs/operations.md says what follows an answer: as the tables that it is decided by say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby

from domain.lanes import POLICIES, Lane
from domain.retries import JITTER, RULES, WAITS, Case
from tests.docs.markdown import ROOT

SECTION = (ROOT / "docs/operations.md").read_text(encoding="utf-8").split("### What follows an answer")[1].split("\n###")[0]


def table(heading: str) -> list[list[str]]:
    """The cells below the row of titles that begins with `heading`."""
    [found] = re.findall(rf"^\| {heading} \|.*\n\|[ -|]+\n((?:\|.*\n)+)", SECTION, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found.splitlines()]


def named(case: Case) -> str:
    return re.sub("^[A-Z]+", r"`\g<0>`", case)


def told(wait: timedelta) -> str:
    minutes, seconds = divmod(int(wait.total_seconds()), 60)
    parts = {"h": minutes // 60, "min": minutes % 60, "s": seconds}
    return " ".join(f"{number} {unit}" for unit, number in parts.items() if number)


def told_all(waits: Iterable[timedelta]) -> str:
    spans = [(told(wait), len(list(same))) for wait, same in groupby(waits)]
    return ", ".join(span if times == 1 else f"{times} × {span}" for span, times in spans)


def waits_of(case: Case) -> list[str]:
    rule = RULES[case]
    return [told_all(rule.waits(lane)) + ("" if rule.counts else ", and again") for lane in Lane]


def rule_of(case: Case) -> list[str]:
    rule = RULES[case]
    if rule.most == 0:
        tries, uses_up, ends = "no", "", [rule.ends.tried]
    else:
        tries = "by the lane's waits" if rule.most is None else f"{rule.most} times at most"
        ends = [rule.ends.tried] * rule.counts + [rule.ends.late] * rule.falls_back + [rule.ends.expired]
        uses_up = "yes" if rule.counts else "no"
    reasons = ", ".join(dict.fromkeys(f"`{end.reason}`" for end in ends))
    suppressed = "; the address is suppressed" if rule.suppresses else ""
    return [rule.elsewhere, tries, uses_up, reasons + suppressed, "goes on" if rule.falls_back else "stops"]


def test_the_rule_of_each_answer_is_as_the_page_says() -> None:
    found = {case: cells for _, case, *cells in table("answer")}
    assert found == {named(case): rule_of(case) for case in Case}


def test_the_waits_in_each_lane_are_as_the_page_says() -> None:
    expected: dict[tuple[str, ...], list[str]] = {}
    for case in Case:
        if RULES[case].most != 0:
            expected.setdefault(tuple(waits_of(case)), []).append(named(case))
    rows = {"; ".join(cases): list(waits) for waits, cases in expected.items()}
    rows["all of the lane's in a row"] = [told(sum(WAITS[lane], timedelta(0))) for lane in Lane]
    rows["`on_unknown` unless told"] = ["`resend`" if POLICIES[lane].resend_unknown else "`hold`" for lane in Lane]
    rows["expires unless told"] = [told(POLICIES[lane].expires_in) for lane in Lane]
    assert {first: cells for first, *cells in table("waits after")} == rows
    assert f"by {JITTER:.0%}" in SECTION
