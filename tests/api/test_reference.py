"""The OpenAPI document and the reference page."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs
import pytest

from api.problem_types import PROBLEM_TYPES
from api.reference.lists import published_lists
from api.reference.prose import prose
from domain.judging import Remark
from domain.locales import LocaleReason
from domain.states import Reason
from tests.api.conftest import Api


@pytest.fixture
def document(shared_api: Api) -> dict[str, Any]:
    made: dict[str, Any] = shared_api.front.fastapi.openapi()
    return made


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    return set().union(*(references(inner) for inner in value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        _, kind, group, name = reference.split("/")
        assert name in document[kind][group], reference


def test_every_example_fits_its_shape(document: dict[str, Any]) -> None:
    shapes = document["components"]["schemas"]
    with_examples = 0
    for name, shape in shapes.items():
        for example in shape.get("examples", ()):
            schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": shapes}}
            errors = [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(example)]
            assert errors == [], name
            with_examples += 1
    assert with_examples > 20


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    bodies = {
        reference.rpartition("/")[2]
        for methods in document["paths"].values() for operation in methods.values()
        for reference in references(operation.get("requestBody", {}))
    }  # fmt: skip
    without = {name for name in bodies if not document["components"]["schemas"][name].get("examples")}
    assert without <= {"WhichVersion", "PreviewRequest", "NewToken", "InboxQuery"}


def test_the_accept_routes_are_in_it(document: dict[str, Any]) -> None:
    for path in ("/v1/notifications", "/v1/notifications/batch"):
        operation = document["paths"][path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"] in references(document)
        assert set(operation["responses"]) == {"202", "200", "default"}


async def test_the_page_is_whole_and_loads_nothing(shared_api: Api, document: dict[str, Any]) -> None:
    answer = await shared_api.get("/docs", key=None)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    page = answer.text
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b|@import|url\(|src=", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert set(re.findall(r'href="([^#"][^"]*)"', page)) == {"/openapi.json"}
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    assert not re.search(r"[0-9]\.0\b(?!\.[0-9])(?=[.;])", page), "whole numbers are written as such"
    for code in (*PROBLEM_TYPES, *Reason, *Remark, *LocaleReason):
        assert f"<code>{code}</code>" in page
    assert (await shared_api.get("/openapi.json", key=None)).json() == document


async def test_who_opens_the_api_in_a_browser_finds_the_page(shared_api: Api) -> None:
    answer = await shared_api.get("/", key=None)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_every_reason_says_what_it_means() -> None:
    reasons = next(found for found in published_lists() if found.anchor == "reasons")
    meanings = dict(reasons.values)
    assert meanings["retries_exhausted"].startswith("Every attempt")
    assert len(meanings) == len(Reason)


def test_descriptions_are_escaped() -> None:
    assert prose("a <b> `<i>`\n\nc") == "<p>a &lt;b&gt; <code>&lt;i&gt;</code></p><p>c</p>"
