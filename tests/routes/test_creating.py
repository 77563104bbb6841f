"""What creating routes answer is what the document says, for the first request and for its repetition."""

from __future__ import annotations

from typing import Any

import jsonschema_rs

from tests.api.conftest import Api
from tests.routes.conftest import Ids, filled
from tests.routes.test_generated import example, operations

BODIES: dict[str, Any] = {
    "/v1/notifications": {"to": {"user": "u-acme"}, "content": {"title": "x"}},
    "/v1/notifications/batch": {"notifications": [{"to": {"user": "u-acme"}, "content": {"title": "x"}}]},
    "/v1/notifications/retry": {"status": "failed"},
    "/v1/templates/{name}/test-send": {"to": {"user": "u-acme"}},
}
"""Where the document's example means objects that are not there."""


def problem(document: dict[str, Any], operation: dict[str, Any], *, status: int, body: Any) -> str | None:
    """What is wrong with an answer by its published schema; a repetition's (200) is that of the first."""
    published = [operation["responses"][code] for code in (str(status), "201", "202") if code in operation["responses"]]
    shown = published[0]["content"]["application/json"]["schema"]
    valid = jsonschema_rs.Draft202012Validator({**shown, "components": document["components"]})
    return "; ".join(error.message for error in valid.iter_errors(body)) or None


async def test_answers_fit_their_schema(routes_api: Api, document: dict[str, Any], ids: Ids) -> None:
    """Caught: a category's window was answered as {"start", "end"}, published as {"from", "to"}."""
    await routes_api.pool.execute("UPDATE notification SET final = true, status = 'failed', reason = 'retries_exhausted'")
    await routes_api.pool.execute("UPDATE otp SET resend_at = now()")
    await routes_api.pool.execute("DELETE FROM otp_counter")
    wrong, tried = [], 0
    for method, path, operation in operations(document):
        takes_key = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", ()))
        if not takes_key:
            continue
        body = BODIES.get(path, example(document, operation))
        for _ in range(2):
            answer = await routes_api.post(filled(path, ids), body, once=f"creating {path}")
            if answer.status_code >= 300:
                wrong.append(f"{method} {path}: {answer.status_code} {answer.text}")
            elif said := problem(document, operation, status=answer.status_code, body=answer.json()):
                wrong.append(f"{method} {path}: {answer.status_code} {said}")
            tried += 1
    assert wrong == [], "\n".join(wrong)
    assert tried > 20
