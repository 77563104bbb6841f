"""Cohorts: notifications of one lane that became due together, or while others of them were at work, and that one workflow
drives."""

from __future__ import annotations

from typing import Final
from uuid import UUID

UNPLANNED: Final = ""
"""Where accounts are named: rows that have no plan yet, and therefore none. No account is called so."""


def workflow_id(cohort: UUID, epoch: int) -> str:
    """The id of the workflow that drives `cohort` in this epoch; a re-drive is another epoch and another workflow."""
    return f"delivery-{cohort}-{epoch}"


def workflow_url(ui_url: str, namespace: str, cohort: UUID, epoch: int) -> str:
    """Where the Temporal Web UI shows that workflow."""
    return f"{ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{workflow_id(cohort, epoch)}"
