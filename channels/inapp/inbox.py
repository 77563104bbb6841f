"""In-app messages: stored in the user's inbox, where storing is delivering."""

from __future__ import annotations

from collections.abc import Sequence

from channels.account_settings import AccountSettings
from channels.base import Capabilities, InboxItem, InboxPort, Message, Recall, RecallAnswer, TransportError
from channels.failures import result_of_failure
from channels.plaintext import plain_text
from channels.provider_types import ProviderType, Wiring, given
from domain.channels import Channel
from domain.results import ResultClass, SendResult

_CAPABILITIES = Capabilities(provider="inapp", channel=Channel.INAPP, max_batch=200, idempotent=True, recall=True)


class InboxProvider:
    """The whole batch in one call of the port; all of it is stored or none. Safe to repeat: the port stores each once."""

    def __init__(self, port: InboxPort) -> None:
        self._port = port

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    async def send(self, batch: Sequence[Message]) -> Sequence[SendResult]:
        if not batch:
            return []
        try:
            await self._port.store([inbox_item(message) for message in batch])
        except TransportError as error:
            return [result_of_failure(error)] * len(batch)
        return [SendResult(ResultClass.OK, code="stored", provider_id=m.delivery_id, delivered=True) for m in batch]

    async def recall(self, batch: Sequence[Recall]) -> Sequence[RecallAnswer]:
        """In one call of the port. What was not stored yet is not stored any more."""
        if not batch:
            return []
        try:
            gone = await self._port.recall(batch)
        except TransportError:
            return [RecallAnswer.UNAVAILABLE] * len(batch)
        return [RecallAnswer.RECALLED if one else RecallAnswer.ALREADY_READ for one in gone]

    async def close(self) -> None:
        """Nothing to close: the port is closed where it was made."""


def inbox_item(message: Message) -> InboxItem:
    """The row of one message; `address` is the user's id."""
    return InboxItem(
        notification_id=message.notification_id,
        n=message.n,
        tenant=message.tenant,
        user_id=message.address,
        title=message.content.title,
        text=plain_text(message.content),
        url=message.content.url,
        category=message.category,
        data=message.data,
        expires_at=message.expires_at,
    )


def _build(wiring: Wiring, _: AccountSettings) -> InboxProvider:
    return InboxProvider(given(wiring.inbox, "an inbox port"))


INAPP = ProviderType(
    "Messages in the application itself: stored here, so that there is nothing to set.",
    _CAPABILITIES,
    AccountSettings,
    _build,
    accounts=False,
)
