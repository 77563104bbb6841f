"""Small rules: addresses, names of workflows, the table of lanes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.addresses import MOST_EMAIL, address_problem, email_problem, has_control, url_problem
from domain.channels import Channel
from domain.cohorts import CohortEpoch, workflow_url
from domain.ids import uuid7
from domain.lanes import CLAIM_WINDOW, DRIVE_WINDOW, FLUSH_MARGIN, LEASE, POLICIES, Lane
from workflows.delivery import DRIVE_LIMIT, EXECUTION_LIMIT, TASK_LIMIT

GOOD_EMAILS = ["a@example.com", "first.last+tag@sub.example.co", "o'hara@example.com", "user@例子.中国", "x@localhost"]
BAD_EMAILS = [
    "", "@", "a@", "@b.com", "a b@c.com", "a@b..com", ".a@b.com", "a.@b.com", "a@-b.com", "a@b.com\r\nBcc: x@y.z",
    "a@b.com\x00", f"{'a' * 65}@b.com", f"a@{'b' * 64}.com", f"a@{'b.' * 130}com", "a@@b.com", "a@b@c.com", "ü@b.com",
    "a@b.\ud800com",
]  # fmt: skip
GOOD_URLS = ["https://example.com/hook?x=1", "http://10.0.0.1:8080/", "https://[::1]/a", "https://例子.中国/"]
BAD_URLS = [
    "", "example.com", "ftp://example.com", "javascript:alert(1)", "http://", "https://user:pw@example.com", "http://a b/",
    "https://example.com/\n", "https://example.com:99999/", "https://example.com:0/", "https://[::1/",
    f"https://x.y/{'a' * 2100}",
]  # fmt: skip


@pytest.mark.parametrize("address", GOOD_EMAILS)
def test_addresses_that_people_have(address: str) -> None:
    assert email_problem(address) is None


@pytest.mark.parametrize("address", BAD_EMAILS)
def test_addresses_that_would_break_something(address: str) -> None:
    """Header injection, endless names, and what no server takes."""
    assert email_problem(address) is not None


@pytest.mark.parametrize("url", GOOD_URLS)
def test_urls_that_may_be_called(url: str) -> None:
    assert url_problem(url) is None


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_may_not(url: str) -> None:
    """No other schemes, no credentials in plain sight."""
    assert url_problem(url) is not None


@given(st.text(max_size=300))
def test_what_is_allowed_can_be_written_and_sent(text: str) -> None:
    """Whatever comes in, the rules answer; what they allow fits a header line and UTF-8, and says nothing of the value."""
    for problem, most in ((email_problem(text), MOST_EMAIL), (url_problem(text), 2048)):
        if problem is None:
            assert not has_control(text)
            assert len(text) <= most
            text.encode()
    said = email_problem(text + "\r\n@evil.example")
    assert said is not None
    assert "evil" not in said


@given(st.text("ab.@-é中", max_size=20), st.sampled_from(["example.com", "x", "a.b.c"]))
def test_what_is_allowed_as_mail_has_two_parts(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    if email_problem(address) is None:
        assert address.count("@") == 1
        assert address.isascii()


def test_in_app_has_no_addresses() -> None:
    """It is a user's id: an address there would be somebody else's inbox."""
    assert address_problem(Channel.INAPP, "u-1") is not None
    assert address_problem(Channel.EMAIL, "a@example.com") is None
    assert address_problem(Channel.WEBHOOK, "https://example.com") is None


def test_a_workflows_name_tells_cohort_and_epoch() -> None:
    """Each epoch is another workflow: the start of a re-drive must never be taken for the one before."""
    cohort = uuid7()
    assert CohortEpoch(cohort, 1).workflow_id == f"delivery-{cohort}-1"
    url = workflow_url("http://127.0.0.1:8233/", "default", CohortEpoch(cohort, 2))
    assert url == f"http://127.0.0.1:8233/namespaces/default/workflows/delivery-{cohort}-2"


def test_lanes_are_ordered_by_urgency_and_named_in_lower_case() -> None:
    assert list(Lane) == [Lane.HIGH, Lane.MEDIUM, Lane.LOW]
    assert [lane.label for lane in Lane] == ["high", "medium", "low"]
    assert all(Lane.of(lane.label) is lane for lane in Lane)


@pytest.mark.parametrize("lane", list(Lane))
def test_the_table_of_lanes_holds_together(lane: Lane) -> None:
    """Numbers that depend on each other: one changed alone makes unknowns, or workflows that never end."""
    policy = POLICIES[lane]
    assert policy.hold_horizon < EXECUTION_LIMIT
    assert policy.hold_horizon <= policy.expires_in
    assert policy.cohort_size >= 1
    assert policy.cohorts_open >= 1


def test_times_of_a_drive_hold_together() -> None:
    """The activity outlives its last call and flush; a hold within the lease is not asked about."""
    longest_call = timedelta(seconds=30)
    assert DRIVE_WINDOW + CLAIM_WINDOW + longest_call + FLUSH_MARGIN <= DRIVE_LIMIT
    assert TASK_LIMIT < LEASE < EXECUTION_LIMIT
    assert DRIVE_WINDOW < LEASE
