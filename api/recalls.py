"""`POST /v1/notifications/{id}/recall`: stops what is open, and asks the providers that can take a message back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from channels.base import Recall, RecallAnswer, RecallingProvider
from domain.channels import Channel
from domain.recall import ChannelRecall, RecallResult, recall_result, stands_as
from domain.states import Status
from infra.postgres.engine.recalling import RecallableStep, RecallRepository

log = structlog.get_logger()

_ANSWERS = {
    RecallAnswer.RECALLED: ChannelRecall.RECALLED,
    RecallAnswer.ALREADY_READ: ChannelRecall.ALREADY_READ,
    RecallAnswer.REFUSED: ChannelRecall.CANNOT_RECALL,
    RecallAnswer.UNAVAILABLE: ChannelRecall.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class RecallOutcome:
    """What was achieved, on each channel and in all."""

    result: RecallResult
    status: Status
    channels: Sequence[tuple[RecallableStep, ChannelRecall]]


class RecallService:
    """`providers`: those of this process that take messages back; every other channel cannot."""

    def __init__(self, repository: RecallRepository, providers: Mapping[Channel, RecallingProvider]) -> None:
        self._repository = repository
        self._providers = providers

    async def recall(self, tenant: str, *, notification_id: UUID) -> RecallOutcome:
        """Asking again gives the same answer. Raises NotFound."""
        steps = await self._repository.stop(tenant, notification_id=notification_id)
        channels: dict[int, ChannelRecall] = {}
        asked: dict[Channel, list[RecallableStep]] = defaultdict(list)
        for step in steps:
            stands = stands_as(step.status, step.reason, recallable=step.channel in self._providers)
            if stands is not None:
                channels[step.n] = stands
            if step.channel in self._providers and (stands is None or _may_have_arrived(step, stands)):
                asked[step.channel].append(step)
        for channel, some in asked.items():
            for step, answer in zip(some, await self._ask(channel, notification_id, some), strict=True):
                if channels.get(step.n) is not ChannelRecall.NOT_DELIVERED:
                    channels[step.n] = _ANSWERS[answer]
        done = await self._repository.record(tenant, notification_id=notification_id, steps=steps, channels=channels)
        result = recall_result(list(done.channels.values()), status=done.status)
        return RecallOutcome(result, done.status, [(step, done.channels[step.n]) for step in steps])

    async def _ask(
        self, channel: Channel, notification_id: UUID, steps: Sequence[RecallableStep]
    ) -> Sequence[RecallAnswer]:
        """One answer a step. An adapter that raises leaves it open."""
        asked = [Recall(notification_id, s.n, s.tenant, s.channel, s.address, s.provider_id) for s in steps]
        try:
            return await self._providers[channel].recall(asked)
        except Exception as error:
            log.error("provider.defect", provider=self._providers[channel].capabilities.provider, code=type(error).__name__)
            return [RecallAnswer.UNAVAILABLE] * len(steps)


def _may_have_arrived(step: RecallableStep, stands: ChannelRecall) -> bool:
    """An attempt whose failure was told may have arrived all the same: it must not turn up later."""
    return step.attempts > 0 and stands in {ChannelRecall.CANCELLED, ChannelRecall.NOT_DELIVERED}
