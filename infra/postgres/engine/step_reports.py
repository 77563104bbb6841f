"""A step beside all that is known of its messages, and what that says of it: `domain.receipts` over database rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from domain.attempts import Awaited
from domain.ids import referred
from domain.lanes import Lane
from domain.lost import Lost, after_reports
from domain.receipts import Consequence, Report, ReportedStep, better, consequence, messages_of, stands
from domain.results import ResultClass
from domain.states import Reason, Status, Strategy
from domain.work_row import WorkState
from infra.postgres.engine.chains import ResumePoint, StepKey
from infra.postgres.engine.lost_attempts import lost_of
from infra.postgres.engine.options import options_of, resends_unknown


@dataclass(frozen=True, slots=True)
class StepReports:
    """One step with what is known of its messages, its locks held."""

    row: asyncpg.Record
    messages: Sequence[asyncpg.Record]
    chain: Awaited | None
    """What its notification's chain waits for."""
    resumable: bool = False
    """It has ended, and its chain may go on."""

    @property
    def key(self) -> StepKey:
        return self.row["notification_id"], self.row["n"]

    @property
    def evidence(self) -> Status | None:
        known: list[Status | None] = [None] * len(self.messages)
        for message, number in zip(self.messages, self._numbers, strict=True):
            if message["status"] is not None:
                known[number] = better(known[number], Status(message["status"]))
        return stands([*known, self._silent])

    @property
    def _numbers(self) -> list[int]:
        return messages_of([
            Report(m["account"], m["attempt"], referred(m["provider_id"]) is not None,
                   None if m["status"] is None else Status(m["status"]))
            for m in self.messages
        ])  # fmt: skip

    @property
    def lost(self) -> Lost:
        """Attempts that may have arrived: those whose answers were lost, without what receipts have told of. A receipt
        that names no attempt is about the account's latest."""
        lost = lost_of(self.row["lost"])
        if not lost:
            return lost
        numbers = self._numbers
        told = {number for m, number in zip(self.messages, numbers, strict=True) if m["status"] is not None}
        return after_reports(
            lost, [(m["account"], m["attempt"]) for m, n in zip(self.messages, numbers, strict=True) if n in told]
        )

    @property
    def may_resume(self) -> bool:
        """Its chain may go on, for all that is known of its own messages: it has failed, or may come twice."""
        if self.evidence is not Status.FAILED or not self.lost:
            return self.evidence is Status.FAILED
        return resends_unknown(options_of(self.row["options"]), lane=Lane(self.row["lane"]))

    @property
    def _silent(self) -> Status | None:
        """The last message was taken by an account that reports nothing: what was said of an earlier one is not the end
        of the step."""
        row = self.row
        taken = row["status"] == Status.SENT and row["class"] == ResultClass.OK
        return Status.SENT if taken and all(m["account"] != row["account"] for m in self.messages) else None

    @property
    def known(self) -> Status:
        return Status(self.row["status"])

    @property
    def consequence(self) -> Consequence:
        evidence = self.evidence
        if evidence is None or self.row["reason"] == Reason.RECALLED_BY_REQUEST:
            return Consequence(self.known)
        return consequence(
            ReportedStep(
                self.known,
                open=self.row["state"] == WorkState.OPEN,
                handed_over=self.row["state"] == WorkState.IN_HAND,
                awaiting=bool(self.row["awaiting"]),
                wants=self.chain.status if self.chain and self.row["chain"] else None,
                resumable=self.resumable,
                lost=bool(self.lost),
            ),
            evidence,
        )

    @property
    def failure(self) -> asyncpg.Record | None:
        """The failure that counts, where the step has failed by its receipts: of the latest attempt."""
        if self.evidence is not Status.FAILED:
            return None
        return max((m for m in self.messages if m["status"] == Status.FAILED), key=lambda m: m["attempt"])

    @property
    def failed(self) -> ResultClass:
        return ResultClass(self.failure["class"]) if self.failure is not None else ResultClass.RETRY

    @property
    def satisfies(self) -> bool:
        """No other channel need be tried."""
        chained = self.row["strategy"] != Strategy.ALL
        wants = self.chain.status if self.chain else None
        evidence = self.evidence
        arrived = evidence in {Status.DELIVERED, Status.READ}
        return chained and evidence is not None and arrived and ReportedStep(self.known, wants=wants).met_by(evidence)

    def told(self, message: asyncpg.Record) -> bool:
        """Whether the timeline tells of this message's receipt: not what is known anyway."""
        if message["told"] or message["status"] is None or self._told_by_another_name(message):
            return False
        return message["status"] != Status.SENT or self.consequence.status is not self.known

    def _told_by_another_name(self, message: asyncpg.Record) -> bool:
        place, numbers = self.messages.index(message), self._numbers
        status = Status(message["status"])
        for other, m in enumerate(self.messages):
            if other != place and numbers[other] == numbers[place] and m["status"] is not None:
                known = Status(m["status"])
                as_much = better(known, status) is known
                if as_much and (m["told"] or known is not status or other < place):
                    return True
        return False

    @property
    def rest(self) -> ResumePoint | None:
        """What its open row knows of the chain."""
        row = self.row
        if row["chain"] is None or row["erased"]:
            return None
        return ResumePoint(row["chain"], row["attempt"], row["locale"], row["failures"], row["tried"] or ())
