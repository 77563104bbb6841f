"""Cohorts: notifications of one lane that became due together, or while others of them were at work, and that one workflow
drives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

UNPLANNED: Final = ""
"""Where accounts are named: rows that have no plan yet, and therefore none. No account is called so."""


@dataclass(frozen=True, slots=True)
class CohortEpoch:
    """A cohort in one of its epochs: who drives it. What only the current one may do is fenced by both."""

    id: UUID
    epoch: int

    @property
    def workflow_id(self) -> str:
        """Of the workflow that drives it; a re-drive is another epoch and another workflow."""
        return f"delivery-{self.id}-{self.epoch}"


def workflow_url(ui_url: str, namespace: str, cohort: CohortEpoch) -> str:
    """Where the Temporal Web UI shows the workflow that drives it."""
    return f"{ui_url.rstrip('/')}/namespaces/{namespace}/workflows/{cohort.workflow_id}"
