"""Cohorts: notifications that became due in the same moment in the same lane, driven by one workflow."""

from __future__ import annotations

from uuid import UUID


def workflow_id(cohort: UUID, epoch: int) -> str:
    """The id of the workflow that drives `cohort` in this epoch; a re-drive is another epoch and another workflow."""
    return f"delivery-{cohort}-{epoch}"


def workflow_url(ui_url: str, namespace: str, cohort: UUID, epoch: int) -> str:
    """Where the Temporal Web UI shows that workflow."""
    return f"{ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{workflow_id(cohort, epoch)}"
