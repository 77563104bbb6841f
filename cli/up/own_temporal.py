"""An operator's own Temporal: reached, and with the search attributes registered, before anything relies on it."""

from __future__ import annotations

from temporalio.service import RPCError

from cli.up.temporal import TemporalNotReady
from infra.settings import Settings
from infra.temporal import SEARCH_ATTRIBUTES, connect, register_search_attributes


async def prepare() -> None:
    """Connect to $TONGDA_TEMPORAL_ADDRESS and register what is missing. Raises TemporalNotReady."""
    settings = Settings()
    try:
        client = await connect(settings)
    except RuntimeError:
        raise TemporalNotReady(f"Temporal at {settings.temporal_address} cannot be reached") from None
    try:
        await register_search_attributes(client)
    except RPCError as error:
        command = f"temporal operator search-attribute create --namespace {settings.temporal_namespace} --type Keyword"
        commands = "\n".join(f"  {command} --name {name}" for name in SEARCH_ATTRIBUTES)
        raise TemporalNotReady(
            f"Temporal at {settings.temporal_address} does not let us register search attributes ({error.message}). "
            f"An administrator can:\n{commands}"
        ) from None
