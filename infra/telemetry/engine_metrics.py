"""The engine's figures for Prometheus: workers count what they do, the API's sweep what waits."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

_CALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LIVES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)

ATTEMPTS = Counter("tongda_attempts_total", "Hand-overs by what the answer meant.", ["channel", "class"])
CALL_SECONDS = Histogram("tongda_call_seconds", "From the call of a provider to its answer.", ["channel"], buckets=_CALLS)
PARKED = Counter("tongda_parked_total", "Times that due rows were put off: no permit, or an open circuit.", ["channel"])
ACCOUNT_REFUSED = Gauge(
    "tongda_account_refused", "1 while a provider refuses the account itself.", ["channel", "account"]
)  # fmt: skip
CIRCUITS_OPENED = Counter(
    "tongda_account_circuit_opened_total", "Times that an account's circuit opened.", ["channel", "account"]
)  # fmt: skip
CIRCUIT_OPEN = Gauge(
    "tongda_account_circuit_open", "1 while an account's circuit is open or half open.", ["channel", "account"]
)  # fmt: skip
STEPS = Counter("tongda_steps_ended_total", "Steps that ended, by how.", ["channel", "status"])
FIRST_ANSWER_SECONDS = Histogram(
    "tongda_first_answer_seconds", "From accept (or the time it was sent for) to the first attempt's answer.", ["lane"],
    buckets=_LIVES,
)  # fmt: skip
COHORTS = Counter("tongda_cohorts_total", "Cohorts made.", ["lane"])
COHORT_SIZE = Histogram("tongda_cohort_size", "Notifications in a new cohort.", ["lane"], buckets=_SIZES)
GROUP_SIZE = Histogram(
    "tongda_group_size", "Rows that a cohort at work took on at a time.", ["lane"], buckets=_SIZES
)  # fmt: skip
UNREADABLE = Counter("tongda_unreadable_rows_total", "Rows that were claimed and could not be read, and were given back.")
START_FAILURES = Counter("tongda_cohort_start_failures_total", "Workflows that Temporal did not take.", ["lane"])
REDRIVEN = Counter("tongda_cohorts_redriven_total", "Cohorts driven again in a new epoch.", ["lane"])
WAITING = Gauge("tongda_work_waiting", "Rows that are due and in no cohort yet.", ["lane"])
LATER = Gauge("tongda_work_later", "Rows whose time lies ahead.", ["lane"])
IN_COHORTS = Gauge("tongda_work_in_cohorts", "Rows that a workflow drives.", ["lane"])
OLDEST_SECONDS = Gauge("tongda_work_oldest_seconds", "How long the oldest due row has waited.", ["lane"])


# The children that every message counts in, found once: `labels` costs more than the counting.


@lru_cache(maxsize=256)
def attempts(channel: str, meaning: str) -> Counter:
    return ATTEMPTS.labels(channel, meaning)


@lru_cache(maxsize=256)
def call_seconds(channel: str) -> Histogram:
    return CALL_SECONDS.labels(channel)


@lru_cache(maxsize=256)
def steps(channel: str, status: str) -> Counter:
    return STEPS.labels(channel, status)


@lru_cache(maxsize=256)
def first_answer_seconds(lane: str) -> Histogram:
    return FIRST_ANSWER_SECONDS.labels(lane)
