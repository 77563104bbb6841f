"""Every table as SQLAlchemy sees it, a file for each group. Migrations create them; a test compares the two.

Personal data lives only in the columns that `PERSONAL` lists: erasing a person is one set of updates over that list.
Hot tables (`notification`, `work`, `cohort`, `delivery`, `event`) are written by the statements of their repositories.
"""

from __future__ import annotations

from infra.postgres.tables.access import api_key, app, tenant
from infra.postgres.tables.digests import dedupe, digest
from infra.postgres.tables.engine import cohort, permit, probe, work
from infra.postgres.tables.inbox import inbox_item, inbox_ticket
from infra.postgres.tables.notifications import delivery, event, idempotency, notification
from infra.postgres.tables.otp import otp, otp_counter
from infra.postgres.tables.parts import metadata
from infra.postgres.tables.people import device, erasure, identity, person, suppression, suppression_pepper
from infra.postgres.tables.personal import PERSONAL
from infra.postgres.tables.preferences import cap_use, preference
from infra.postgres.tables.providers import account_health, provider_account, provider_change, worker
from infra.postgres.tables.receipts import receipt_inbox
from infra.postgres.tables.templates import category, template, template_version

__all__ = [
    "PERSONAL",
    "account_health",
    "api_key",
    "app",
    "cap_use",
    "category",
    "cohort",
    "dedupe",
    "delivery",
    "device",
    "digest",
    "erasure",
    "event",
    "idempotency",
    "identity",
    "inbox_item",
    "inbox_ticket",
    "metadata",
    "notification",
    "otp",
    "otp_counter",
    "permit",
    "person",
    "preference",
    "probe",
    "provider_account",
    "provider_change",
    "receipt_inbox",
    "suppression",
    "suppression_pepper",
    "template",
    "template_version",
    "tenant",
    "work",
    "worker",
]
