"""The API's figures for Prometheus. Labels are names of ours: never an id, an address or anything a caller chooses."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_FAST = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_SLOW = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ACCEPTED = Counter("tongda_accepted_total", "Notifications stored and answered with 202.", ["lane"])
REJECTED = Counter("tongda_rejected_total", "Notifications refused at accept, by problem code.", ["code"])
REPLAYED = Counter("tongda_replayed_total", "Accept requests answered from their Idempotency-Key.")
ACCEPT_SECONDS = Histogram(
    "tongda_accept_seconds", "From the request's first byte here to the answer after COMMIT.", ["lane"], buckets=_FAST
)
OTP = Counter("tongda_otp_total", "One-time codes by what happened to them.", ["event"])
HTTP_REQUESTS = Counter(
    "tongda_http_requests_total", "Requests by route template and status; the accept routes count themselves.",
    ["method", "route", "status"],
)  # fmt: skip
HTTP_SECONDS = Histogram(
    "tongda_http_seconds", "Time to the end of the answer, by route template.", ["method", "route"], buckets=_SLOW
)
RECEIPTS = Counter(
    "tongda_receipts_total", "Receipts of providers by what they say and what that led to.",
    ["provider", "account", "status", "effect"],
)  # fmt: skip
RECEIPTS_REFUSED = Counter(
    "tongda_receipts_refused_total", "Requests for receipts that were not taken, by problem code.", ["provider", "code"]
)
