"""A server that answers is not yet usable: its namespace and search attributes must be there, and known to each process."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cli.up.temporal import NAMESPACE
from infra.temporal import SEARCH_ATTRIBUTES, register_search_attributes, runtime

RETENTION = timedelta(hours=72)
"""How long the history of a workflow that has ended can be looked at."""
_ASK = timedelta(seconds=5)
_POLL_S = 0.2


async def connect(address: str) -> Client:
    """A client that connects with its first call. Each has the SDK's threads: make one a server, not one a question."""
    return await Client.connect(address, namespace=NAMESPACE, lazy=True, runtime=runtime())


async def healthy(client: Client) -> bool:
    """True if the frontend serves."""
    try:
        return await client.service_client.check_health(timeout=_ASK)
    except (RPCError, RuntimeError):
        return False


async def register(client: Client, *, within_s: float) -> None:
    """Namespace and search attributes, tried until a server that has just started takes them. Raises TimeoutError."""
    request = RegisterNamespaceRequest(namespace=NAMESPACE)
    request.workflow_execution_retention_period.CopyFrom(Duration(seconds=int(RETENTION.total_seconds())))
    async with asyncio.timeout(within_s):
        while True:
            try:
                await client.workflow_service.register_namespace(request, timeout=_ASK)
            except RPCError as error:
                if error.status is not RPCStatusCode.ALREADY_EXISTS:
                    await asyncio.sleep(_POLL_S)
                    continue
            try:
                await register_search_attributes(client)
                return
            except RPCError:
                await asyncio.sleep(_POLL_S)


async def until_usable(client: Client, *, within_s: float) -> None:
    """Until this server knows namespace and search attributes: it looks for news now and then. Raises TimeoutError."""
    query = " AND ".join(f"{name} = 'none'" for name in SEARCH_ATTRIBUTES)
    async with asyncio.timeout(within_s):
        while True:
            try:
                await client.count_workflows(query, rpc_timeout=_ASK)
                return
            except RPCError:
                await asyncio.sleep(_POLL_S)
