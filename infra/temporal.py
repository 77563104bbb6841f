"""The connection to Temporal, and what has to be registered there before anything is started."""

from __future__ import annotations

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode

from infra.settings import Settings

LANE = SearchAttributeKey.for_keyword("TongdaLane")
KIND = SearchAttributeKey.for_keyword("TongdaKind")
TENANT = SearchAttributeKey.for_keyword("TongdaTenant")
SEARCH_ATTRIBUTES = (LANE.name, KIND.name, TENANT.name)
"""Keywords by which workflows are found in the Temporal Web UI. Their values are names and ids, never personal data."""


def runtime() -> Runtime:
    """The SDK's core, quiet: it otherwise prints its retries to standard output."""
    quiet = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    return Runtime(telemetry=TelemetryConfig(logging=quiet))


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """A client. `lazy` connects at the first call: the API must come up while Temporal is away.

    Raises RuntimeError when Temporal cannot be reached (at the first call, if lazy).
    """
    return await Client.connect(
        settings.temporal_address, namespace=settings.temporal_namespace, lazy=lazy, runtime=runtime()
    )


async def register_search_attributes(client: Client) -> None:
    """Add those that are missing; safe to repeat. Raises RPCError when Temporal refuses or cannot be reached."""
    operator = client.operator_service
    listed = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [name for name in SEARCH_ATTRIBUTES if name not in listed.custom_attributes]
    if not missing:
        return
    kinds = dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
    try:
        await operator.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
        )
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
