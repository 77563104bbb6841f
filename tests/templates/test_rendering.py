"""What comes out of a template: blocks, locales, escaping, one-line titles."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.base import Content
from domain.locales import canonical, fallback
from infra.rendering import TemplateBroken
from tests.templates.conftest import one, rendered, template

CONTENTS: dict[str, Any] = {
    "zh-CN": {
        "default": {
            "title": "订单 {{ order }} 已发货",
            "text": "{{ user.name }},您好",
            "url": "https://x.example/{{ order }}",
        },
        "email": {"html": "<b>{{ order }}</b>", "text": "邮件 {{ order }}"},
        "sms": {"text": "短信", "vendor_template": "SMS_1", "args": ["{{ order }}", 1, {"k": "{{ order }}"}]},
    },
    "en": {"default": {"title": "Order {{ order }} shipped", "text": "Hi"}},
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_a_channels_own_fields_stand_before_the_default_field_by_field() -> None:
    shown = template(CONTENTS).render("email", locale="zh-CN", data={"order": "A<1>"}, user={"name": "王芳"})
    assert shown == Content(
        title="订单 A<1> 已发货",
        text="邮件 A<1>",
        html="<b>A&lt;1&gt;</b>",
        url="https://x.example/A<1>",
    )


def test_what_else_a_block_holds_is_rendered_into_extra() -> None:
    shown = template(CONTENTS).render("sms", locale="zh-CN", data={"order": "A"})
    assert shown.extra == {"vendor_template": "SMS_1", "args": ["A", 1, {"k": "A"}]}


def test_without_a_user_the_name_is_empty_and_data_may_bring_its_own() -> None:
    t = template(CONTENTS)
    assert t.render("inapp", locale="zh-CN", data={"order": "A"}).text == ",您好"
    assert t.render("inapp", locale="zh-CN", data={"order": "A", "user": {"name": "李雷"}}).text == "李雷,您好"


@pytest.mark.parametrize(
    ("asked", "available", "expected"),
    [
        ("zh-CN", {"zh-CN", "en"}, ["zh-CN", "en"]),
        ("zh_cn", {"zh-CN", "en"}, ["zh-CN", "en"]),
        ("zh-TW", {"zh-CN", "zh", "en"}, ["zh", "zh-CN", "en"]),
        ("zh-Hant-TW", {"zh-Hant", "zh-CN"}, ["zh-Hant", "zh-CN"]),
        ("en-GB", {"en-US", "zh-CN"}, ["en-US", "zh-CN"]),
        ("de", {"zh-CN", "en"}, ["en", "zh-CN"]),
        ("de-AT", {"zh-CN", "fr"}, ["zh-CN", "fr"]),
        ("de", {"zh-TW", "fr"}, ["zh-TW", "fr"]),
        ("", {"zh-CN", "en"}, ["zh-CN", "en"]),
        ("not a locale", {"zh-CN", "en"}, ["zh-CN", "en"]),
        ("ja", {"fr", "it"}, ["fr", "it"]),
    ],
)
def test_order_of_locales(asked: str, available: set[str], expected: list[str]) -> None:
    assert list(fallback(asked, available=available)) == expected


tags = st.sampled_from(["zh-CN", "zh-TW", "zh", "en", "en-GB", "de", "fr-CA", "pt-BR"])


@given(tags, st.sets(tags, min_size=1))
def test_every_locale_is_offered_once_and_the_best_first(asked: str, available: set[str]) -> None:
    order = list(fallback(asked, available=available))
    assert sorted(order) == sorted(available)
    language = asked.split("-")[0]
    same = [tag for tag in order if tag.split("-")[0] == language]
    assert order[: len(same)] == same
    if asked in available:
        assert order[0] == asked
    elif not same and "en" in available:
        assert order[0] == "en"


@given(st.text(max_size=40))
def test_a_canonical_locale_stays_as_it_is(text: str) -> None:
    tag = canonical(text)
    assert tag is None or canonical(tag) == tag


def test_a_locale_without_the_channel_is_passed_over() -> None:
    t = template({"en": {"sms": {"text": "short"}}, "zh-CN": {"default": {"text": "默认"}}})
    assert t.render("email", locale="en", data={}).text == "默认"
    assert t.render("sms", locale="en", data={}).text == "short"
    with pytest.raises(TemplateBroken, match="no locale has a block for email"):
        template({"en": {"sms": {"text": "x"}}}).render("email", locale="en", data={})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


HTML = (
    '<p title="{{ v }}">{{ v }} {{ v|upper }} {{ v|string|replace("a", "b") }} {{ [v, v]|join("<i>") }} {{ v ~ v }}'
    " {{ v|tojson }} {{ v|e }} {{ v|nl2br }} {{ v|truncate(5) }} {% for x in [v] %}{{ x }}{% endfor %}"
    "{% set w = v ~ '<u>' %}{{ w }}{{ w|trim|title }}</p>"
)


@given(json_values)
def test_no_value_can_bring_a_tag_or_attribute_into_html(value: Any) -> None:
    parser = Tags()
    parser.feed(rendered(HTML, key="html", v=value))
    parser.close()
    assert [found for found in parser.seen if found[0] != "br"] == [("p", ("title",))]


@given(json_values)
def test_any_value_can_be_shown_in_text(value: Any) -> None:
    shown = rendered("[{{ v }}]", v=value)
    assert shown.startswith("[")
    assert shown.endswith("]")
    if isinstance(value, str):
        assert shown == f"[{value}]".replace("\x00", "")


@given(st.text())
def test_a_title_is_one_line(value: str) -> None:
    title = rendered("a\n{{ v }}\r\nb", key="title", v=value)
    assert len(title.splitlines()) == 1
    assert "\x00" not in title
    assert title.startswith("a")
    assert title.endswith("b") or len(title) == 1000


def test_values_look_as_people_expect() -> None:
    assert (
        rendered("{{ a }}|{{ b }}|{{ c }}|{{ d }}", a=None, b=True, c=[1, "x"], d={"k": 1.5}) == '|true|[1, "x"]|{"k": 1.5}'
    )


def test_an_objects_key_comes_before_the_method_of_its_name() -> None:
    assert rendered("{% for i in order.items %}{{ i }};{% endfor %}", order={"items": ["a", "b"]}) == "a;b;"


@pytest.mark.parametrize(
    "scheme", ["javascript:", "JavaScript:", " java\nscript:", "data:", "vbscript:", "\x01javascript:"]
)
def test_a_link_never_runs_code(scheme: str) -> None:
    with pytest.raises(TemplateBroken, match="scheme"):
        rendered("{{ u }}", key="url", u=scheme + "alert(1)")


def test_an_error_names_block_and_line_and_no_data() -> None:
    secret = "13800000000"
    t = template({"zh-CN": {"email": {"html": "ok\n\n{{ phone }} {{ phone.x.y }}"}}})
    with pytest.raises(TemplateBroken) as caught:
        t.render("email", locale="zh-CN", data={"phone": secret})
    (error,) = caught.value.errors
    assert (caught.value.code, error.pointer) == ("template_broken", "/contents/zh-CN/email/html")
    assert error.message.startswith("line 3: ")
    assert secret not in str(caught.value)


def test_a_missing_variable_never_becomes_an_empty_place() -> None:
    with pytest.raises(TemplateBroken, match="not in the data"):
        one("Hello {{ name }}").render("email", locale="", data={})


def test_what_one_block_sets_another_does_not_see() -> None:
    t = template({"en": {"default": {"title": "{% set x = 'secret' %}{{ x }}", "text": "{{ x|default('none') }}"}}})
    shown = t.render("email", locale="en", data={})
    assert (shown.title, shown.text) == ("secret", "none")
