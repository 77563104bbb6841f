"""What keeps a version from being published."""

from __future__ import annotations

from typing import Any

import pytest

from infra.rendering import TemplateBroken, publish_errors_blocking, shape_errors
from tests.templates.conftest import one, template

SCHEMA: dict[str, Any] = {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}}


def found(contents: Any, *, variables: Any = None, example: Any = None) -> list[tuple[str, str]]:
    return [(e.pointer, e.code) for e in publish_errors_blocking(template(contents, variables=variables, example=example))]


def test_a_good_version_has_no_errors() -> None:
    contents = {
        "zh-CN": {"default": {"title": "{{ order }}", "text": "{{ user.name }} {% for i in range(3) %}{{ i }}{% endfor %}"}}
    }
    assert found(contents, variables=SCHEMA, example={"order": "A"}) == []
    assert found(contents, example={"order": "A"}) == []


def test_undeclared_variables_are_named_with_their_block() -> None:
    contents = {
        "zh-CN": {"default": {"title": "{{ order }} {{ oder }}"}},
        "en": {"email": {"html": "{% for l in lines %}{{ l }}{% endfor %}", "card": [{"text": "{{ user.name }} {{ x }}"}]}},
    }
    assert found(contents, variables=SCHEMA, example={"order": "A"}) == [
        ("/contents/zh-CN/default/title", "undeclared"),
        ("/contents/en/email/html", "undeclared"),
        ("/contents/en/email/card/0/text", "undeclared"),
    ]


def test_where_the_schema_leaves_names_open_nothing_is_undeclared() -> None:
    contents = {"en": {"default": {"text": "{{ x_1 }}"}}}
    open_schema = {"patternProperties": {"^x_": {"type": "string"}}}
    assert found(contents, variables=open_schema, example={"x_1": "a"}) == []


def test_example_data_has_to_satisfy_the_schema() -> None:
    contents = {"en": {"default": {"text": "{{ order }}"}}}
    assert found(contents, variables=SCHEMA) == [("/example_data/order", "required")]
    assert found(contents, variables=SCHEMA, example={"order": 5}) == [("/example_data/order", "type")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{{ order.missing }}", "undefined"),
        ("{{ order.missing.deeper }}", "undefined"),
        ("{{ order + 1 }}", "failed"),
        ("{{ 1 / 0 }}", "failed"),
        ("{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}", "limit"),
        ("{% for i in range(900) %}{{ big|upper|lower|upper|lower|title|capitalize|length }}{% endfor %}", "limit"),
    ],
)
def test_every_block_has_to_render_with_the_example_in_good_time(text: str, code: str) -> None:
    contents = {"zh-CN": {"default": {"text": "fine"}, "email": {"html": text}}, "en": {"default": {"text": text}}}
    assert found(contents, example={"order": "A", "big": "x" * 200_000}) == [
        ("/contents/zh-CN/email/html", code),
        ("/contents/en/default/text", code),
    ]


def test_a_name_that_the_template_writes_is_named_and_one_that_the_data_made_is_not() -> None:
    """A misspelt name is the commonest mistake; a computed one may be somebody's data."""
    for text, said in (
        ("{{ user.nmae }}", "line 1: 'nmae' is not in the data"),
        ("{{ order.missing.deeper }}", "line 1: 'missing' is not in the data"),
        ("{{ nothing }}", "line 1: 'nothing' is not in the data"),
        ("{{ order[key] }}", "line 1: a value that it uses is not in the data"),
    ):
        with pytest.raises(TemplateBroken) as caught:
            one(text).render("email", locale="en", data={"order": {"a": 1}, "key": "secret"})
        assert [error.message for error in caught.value.errors] == [said]


def test_every_block_that_does_not_compile_is_named() -> None:
    with pytest.raises(TemplateBroken) as caught:
        template({"zh-CN": {"email": {"html": "{{", "text": "ok"}, "sms": {"text": "{% x %}"}}}, variables={"type": "nope"})
    assert [e.pointer for e in caught.value.errors] == [
        "/variables/type",
        "/contents/zh-CN/email/html",
        "/contents/zh-CN/sms/text",
    ]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, [("/contents", "required")]),
        ([], [("/contents", "type")]),
        ({"zh_cn": {"default": {"text": "x"}}}, [("/contents/zh_cn", "format")]),
        ({"Chinese!": {"default": {"text": "x"}}}, [("/contents/Chinese!", "format")]),
        ({"en": {}}, [("/contents/en", "required")]),
        ({"en": "x"}, [("/contents/en", "type")]),
        ({"en": {"fax": {"text": "x"}}}, [("/contents/en/fax", "unknown_field")]),
        ({"en": {"email": "x"}}, [("/contents/en/email", "type")]),
        ({"en": {"email": {}}}, [("/contents/en/email", "required")]),
        ({"en": {"email": {"html": 5}}}, [("/contents/en/email/html", "type")]),
        ({"en": {"sms": {"text": "x" * 70_000}}}, [("/contents/en/sms/text", "too_long")]),
        (
            {"en": {"wecom": {"card": {"a": [{"b": {"c": {"d": {}}}}]}}}},
            [("/contents/en/wecom/card/a/0/b/c/d", "too_deep")],
        ),
        ({"en": {"wecom": {"card": {"text": "x", "n": 1}}, "sms": {"vendor_template": "S"}}}, []),
    ],
)
def test_shape_of_contents(contents: Any, expected: list[tuple[str, str]]) -> None:
    assert [(e.pointer, e.code) for e in shape_errors(contents)] == expected
