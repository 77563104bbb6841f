"""Data against a template's variables: which field is wrong, and why, without repeating what it holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.rendering import TemplateBroken
from tests.templates.conftest import one, template

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["order", "a/b"],
    "additionalProperties": False,
    "properties": {
        "order": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[A-Z]"},
        "a/b": {"type": "integer", "minimum": 0},
        "mail": {"type": "string", "format": "email"},
        "kind": {"enum": ["x", "y"]},
        "lines": {"type": "array", "maxItems": 2, "items": {"type": "object", "required": ["sku"]}},
    },
}
GOOD: dict[str, Any] = {"order": "A-7", "a/b": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"order": 5}, [("/data/order", "type")]),
        ({"order": "A"}, [("/data/order", "too_short")]),
        ({"order": "SECRET"}, [("/data/order", "too_long")]),
        ({"order": "secret"}, [("/data/order", "format"), ("/data/order", "too_long")]),
        ({"a/b": -1}, [("/data/a~1b", "out_of_range")]),
        ({"mail": "secret"}, [("/data/mail", "format")]),
        ({"kind": "secret"}, [("/data/kind", "not_allowed")]),
        ({"lines": [{"sku": 1}, {}]}, [("/data/lines/1/sku", "required")]),
        ({"lines": [{"sku": 1}] * 3}, [("/data/lines", "too_long")]),
        ({"extra": "secret"}, [("/data/extra", "unknown_field")]),
    ],
)
def test_each_broken_rule_is_named_by_its_field(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    errors = one("{{ order }}", variables=SCHEMA).check({**GOOD, **change})
    assert sorted((e.pointer, e.code) for e in errors) == expected
    assert "secret" not in str(errors).lower()


def test_missing_variables_are_named_each() -> None:
    errors = one("{{ order }}", variables=SCHEMA).check({})
    assert sorted((e.pointer, e.code) for e in errors) == [("/data/a~1b", "required"), ("/data/order", "required")]


def test_without_a_schema_only_what_every_text_needs_is_required() -> None:
    t = template(
        {
            "zh-CN": {
                "default": {"title": "{{ order }} {{ user.name }}", "text": "{% if vip %}{{ level }}{% endif %}"},
                "email": {"html": "{{ link }} {{ note|default('') }}"},
            },
            "en": {"default": {"title": "{{ order }}", "text": "{{ vip }} {% for l in lines %}{{ l }}{% endfor %}"}},
        }
    )
    assert [(e.pointer, e.code) for e in t.check({})] == [("/data/order", "required"), ("/data/vip", "required")]
    assert t.check({"order": "A", "vip": False}) == []


def test_a_declared_variable_that_every_text_uses_is_required_though_the_schema_forgets_it() -> None:
    t = one("{{ order }}", variables={"type": "object", "properties": {"order": {"type": "string"}}})
    assert [(e.pointer, e.code) for e in t.check({})] == [("/data/order", "required")]


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"type": "nope"}, "/variables/type"),
        ({"properties": {"a": {"type": 5}}}, "/variables/properties/a/type"),
        ({"properties": {"a": {"pattern": "("}}}, "/variables/properties/a/pattern"),
        ({"$ref": "http://example.com/x"}, "/variables"),
        ({"$ref": "file:///etc/passwd"}, "/variables"),
        ({"$schema": "http://example.com/meta"}, "/variables"),
    ],
)
def test_a_schema_that_is_none_is_refused_and_fetches_nothing(schema: dict[str, Any], pointer: str) -> None:
    with pytest.raises(TemplateBroken) as caught:
        one("x", variables=schema)
    assert [e.pointer for e in caught.value.errors] == [pointer]


def test_a_pattern_cannot_burn_cpu() -> None:
    t = one("x", variables={"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert [e.pointer for e in t.check({"a": "a" * 5000 + "!"})] == ["/data/a"]


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text(), max_size=5))
def test_any_data_gets_an_answer(data: dict[str, Any]) -> None:
    for error in one("{{ order }}", variables=SCHEMA).check(data):
        assert error.pointer == "/data" or error.pointer.startswith("/data/")
