"""Requests made from the whole OpenAPI document, right ones and wrong ones, the same in each run: never a 500."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from tests.api.conftest import Api
from tests.routes.conftest import Ids, filled

EXAMPLES = 10
"""For each operation and kind: some 1,200 requests in all."""
SEED = 20261201
ENDLESS = {"/v1/inbox/stream"}
"""Streams, which do not end by themselves."""


async def request(api: Api, case: Case[Any], *, url: str | None) -> httpx.Response:
    """As the owner, who may do everything."""
    made: dict[str, Any] = case.as_transport_kwargs(base_url="http://test")
    made["url"] = url or made["url"]
    made["cookies"] = None
    if isinstance(made.get("data"), bytes | str):
        made["content"] = made.pop("data")
    made["headers"] = {**(made.get("headers") or {}), "Authorization": f"Bearer {api.keys['owner']}"}
    return await api.http.request(**made)


def problems_blocking(operation: Any, send: Callable[[Case[Any]], httpx.Response], *, kind: GenerationMode) -> list[str]:
    """What this operation answers with a 5xx, or without a problem's shape."""
    found: list[str] = []

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=kind))
    def each(case: Case[Any]) -> None:
        answer = send(case)
        refused = answer.status_code >= 400
        if answer.status_code >= 500 or (refused and answer.headers["content-type"] != "application/problem+json"):
            found.append(f"{case.method} {case.formatted_path} {case.body!r:.300}: {answer.status_code} {answer.text:.300}")

    with contextlib.suppress(Unsatisfiable):  # nothing in it can be wrong
        each()
    return found


def operations(document: dict[str, Any]) -> Iterator[Any]:
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.path not in ENDLESS:
            yield operation


# The service's own use of `random` on the event loop is taken for the strategies'.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("kind", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_nothing_that_is_sent_makes_a_defect(
    routes_api: Api, document: dict[str, Any], ids: Ids, kind: GenerationMode
) -> None:
    """Two of three requests carry ids that exist, because most of what can break lies behind them; none that ends
    something does."""
    loop = asyncio.get_running_loop()
    turns = count()

    def send(case: Case[Any]) -> httpx.Response:
        path = case.operation.path
        ends = case.method == "DELETE" or path.endswith("/erase")
        exists = not ends and "{" in path and "{code}" not in path and next(turns) % 3
        url = "http://test" + filled(path, ids) if exists else None
        return asyncio.run_coroutine_threadsafe(request(routes_api, case, url=url), loop).result(30)

    found: list[str] = []
    for operation in operations(document):
        if kind is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue
        found += await asyncio.to_thread(problems_blocking, operation, send, kind=kind)
    assert found == [], "\n".join(found)


def _can_be_wrong(operation: Any) -> bool:
    parts = ("path_parameters", "query", "headers", "body")
    return any(len(getattr(operation, name)) for name in parts)
