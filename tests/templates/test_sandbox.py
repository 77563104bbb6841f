"""Templates are programs of other people: they reach nothing, and they end."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.rendering import TemplateBroken
from infra.rendering.limits import MAX_OUTPUT_CHARS
from tests.templates.conftest import one, rendered

DATA: dict[str, Any] = {
    "s": "text",
    "n": 7,
    "l": [1, 2, 3],
    "o": {"k": "v"},
    "big": "x" * 50_000,
    "many": list(range(5000)),
}

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ s['__class__']['__mro__'] }}",
    "{{ s|attr('__class__') }}",
    "{{ l|map(attribute='__class__')|list }}",
    "{{ l|map('attr', '__class__')|list }}",
    "{{ '{0.__class__}'.format(s) }}",
    "{{ '%s'|format(s) }}",
    "{{ s.format.__globals__ }}",
    "{{ o.get.__self__ }}",
    "{{ self }}",
    "{{ self.__init__ }}",
    "{{ loop }}",
    "{{ lipsum.__globals__ }}",
    "{{ cycler }}",
    "{{ namespace() }}",
    "{{ dict() }}",
    "{{ range.__class__ }}",
    "{{ _budget }}",
    "{% for i in l %}{{ loop.__class__ }}{% endfor %}",
    "{% for i in l %}{{ loop._iterator }}{% endfor %}",
    "{{ l.append(1) }}",
    "{{ o.update({}) }}",
    "{{ o.pop('k') }}",
    "{{ s|safe }}",
    "{% autoescape false %}{{ s }}{% endautoescape %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as x %}",
    "{% from 'x' import y %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% block b %}{% endblock %}",
    "{% filter upper %}x{% endfilter %}",
    "{% set x %}y{% endset %}",
    "{% set o.k = 1 %}",
    "{% set _x = 1 %}",
    "{% call(x) s() %}{% endcall %}",
    "{% for i in l recursive %}{{ loop(l) }}{% endfor %}",
    "{% do l.append(1) %}",
    "{{ s(*l) }}",
    "{{ range(*l) }}",
    "{{ l|map('_metered')|list }}",
    "{{ l|_concat }}",
    "{{ '\\x00' }}",
    "{{ '\\ud800' }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_ways_out_are_refused(source: str) -> None:
    with pytest.raises(TemplateBroken):
        rendered(source, **DATA)


BURNERS = [
    "{{ 10**10**10 }}",
    "{{ 9**64**2 }}",
    "{{ 's' * 10**9 }}",
    "{{ s * 10**9 }}",
    "{{ [s] * 10**9 }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ s.ljust(10**9) }}",
    "{{ s|center(10**9) }}",
    "{{ s|indent(10**9) }}",
    "{{ 1.5|round(10**9) }}",
    "{{ range(10**9)|list }}",
    "{{ range(10**9) }}",
    "{{ big|replace('x', big) }}",
    "{{ [big, big, big, big, big, big]|join }}",
    "{{ [big, big, big, big, big, big] }}",
    "{{ [big, big, big, big, big, big]|tojson }}",
    "{{ big ~ big ~ big ~ big ~ big ~ big }}",
    "{{ (many|join(big))|length }}",
    "{% for i in range(1000) %}{{ big }}{% endfor %}",
    "{% for i in many %}{% for j in many %}{% endfor %}{% endfor %}",
    "{% for i in range(1000) %}{% for j in range(1000) %}{% if big|upper|lower == i %}{% endif %}{% endfor %}{% endfor %}",
    "{% for i in l %}{% for j in l %}{% for k in l %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in many %}{{ many|sort|reverse|map('string')|join|length }}{% endfor %}",
    "{% set a = s ~ s %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "{% set a = n * n %}" + "{% set a = a * a %}" * 60 + "{{ a }}",
    "{% set a = [s, s] %}" + "{% set a = [a, a] %}" * 60 + "{{ a }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ " + "not " * 5000 + "1 }}",
    "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
    "{{ " + "1+" * 20_000 + "1 }}",
    "{{ s }}" * 100_000,
]


@pytest.mark.parametrize("source", BURNERS, ids=[source[:40] for source in BURNERS])
def test_what_would_stall_a_worker_fails_quickly(source: str) -> None:
    began = time.process_time()
    with pytest.raises(TemplateBroken):
        rendered(source, **DATA)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ n + 1 }} {{ n % 4 }} {{ 2 ** 10 }} {{ n // 2 }} {{ n / 2 }}", "8 3 1024 3 3.5"),
        ("{{ s + '!' }} {{ s ~ n }} {{ '-' * 3 }}", "text! text7 ---"),
        ("{{ l|sum }} {{ l|length }} {{ l|first }} {{ l[-1] }} {{ l[1:] }}", "6 3 1 3 [2, 3]"),
        ("{% for k, v in o|dictsort %}{{ k }}={{ v }}{% endfor %}", "k=v"),
        ("{% for i in l %}{{ loop.index }}/{{ loop.length }}{{ '' if loop.last else ',' }}{% endfor %}", "1/3,2/3,3/3"),
        ("{% for i in l if i > 1 %}{{ i }}{% else %}none{% endfor %}", "23"),
        ("{% if missing is defined %}a{% else %}b{% endif %} {{ missing|default('c') }}", "b c"),
        ("{{ s|upper|replace('T', 't') }} {{ s|truncate(3) }} {{ s.startswith('te') }}", "tEXt te… true"),
        ("{{ l|map('string')|join('+') }} {{ [o]|map(attribute='k')|join }}", "1+2+3 v"),
        ("{% raw %}{{ not code }}{% endraw %}{# comment #}", "{{ not code }}"),
        ("{{ o.k if n > 3 else o.missing }} {{ o.get('x', 'y') }}", "v y"),
        ("{{ 'https://x/?q=' ~ ('a b&c'|urlencode) }}", "https://x/?q=a%20b%26c"),
        ("{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{% endfor %}", "aba"),
        ("{{ 3.14159|round(2) }} {{ '7'|int + 1 }}", "3.14 8"),
    ],
)
def test_what_templates_need_works(source: str, expected: str) -> None:
    assert rendered(source, **DATA) == expected


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("a\nb {{ x", "syntax", 2),
        ("{% if x %}", "syntax", 1),
        ("{{ x|nope }}", "not_allowed", 1),
        ("\n\n{{ x.__class__ }}", "not_allowed", 3),
        ("{% endfor %}", "syntax", 1),
        ("{{ }}", "syntax", 1),
        ("{% unknown %}", "syntax", 1),
    ],
)
def test_a_bad_template_is_refused_with_code_and_line(source: str, code: str, line: int) -> None:
    with pytest.raises(TemplateBroken) as caught:
        one(source, key="html")
    (error,) = caught.value.errors
    assert (error.pointer, error.code) == ("/contents/zh-CN/default/html", code)
    assert error.message.startswith(f"line {line}: ")


@given(st.text(alphabet="{}%#|()[]'\" .,~*+-=<>ablsn_1\n", max_size=60))
def test_any_source_gives_text_or_a_clear_refusal(source: str) -> None:
    shown, pointers = "", {"/contents/zh-CN/default/text"}
    try:
        shown = rendered(source, a="A", b=2, l=[1], s="S", n=None)
    except TemplateBroken as broken:
        pointers = {error.pointer for error in broken.errors}
    assert pointers == {"/contents/zh-CN/default/text"}
    assert len(shown) <= MAX_OUTPUT_CHARS
