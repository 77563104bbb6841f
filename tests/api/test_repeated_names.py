"""A name that an object holds twice is refused wherever there is room for the question, exactly and with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import decoded_strictly
from api.repeated_names import check_names
from domain.errors import Malformed
from tests.api.conftest import Api, codes

_NAMES = st.text('ab:"\\/{}é', max_size=3)
_PLAIN = st.one_of(st.none(), st.integers(0, 9), st.text('a:"\\,{}[]é', max_size=6))
_JSON = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(_NAMES, inner), max_size=4).map(tuple),
    max_leaves=12,
)
"""An object is a tuple of its members, in which names may come again."""


def written(value: Any, *, escaped: bool, spaced: bool) -> str:
    if isinstance(value, tuple):
        colon = " \n:\t" if spaced else ":"
        members = (
            json.dumps(name, ensure_ascii=escaped) + colon + written(inner, escaped=escaped, spaced=spaced)
            for name, inner in value
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(inner, escaped=escaped, spaced=spaced) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=escaped)


def places(value: Any, at: str = "") -> list[str]:
    """The pointers of the names that come again, in the order in which they stand."""
    found, seen = list[str](), set[str]()
    if isinstance(value, list):
        return [place for index, inner in enumerate(value) for place in places(inner, f"{at}/{index}")]
    for name, inner in value if isinstance(value, tuple) else ():
        pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        found += [pointer] * (name in seen) + places(inner, pointer)
        seen.add(name)
    return found


@given(value=_JSON, escaped=st.booleans(), spaced=st.booleans())
def test_a_name_that_comes_again_is_found_and_no_other_is(value: Any, *, escaped: bool, spaced: bool) -> None:
    """Against a count of the members as they were written; strings hold colons, quotes and brackets."""
    raw = written(value, escaped=escaped, spaced=spaced).encode()
    expected = places(value)
    if not expected:
        check_names(raw, decoded_strictly(raw))
        return
    with pytest.raises(Malformed) as caught:
        check_names(raw, decoded_strictly(raw))
    assert caught.value.code == "repeated_name"
    if not any(c in expected[0] for c in '"\\é') and "//" not in expected[0] + "/":  # as the pointer shows names
        assert caught.value.pointer == expected[0]


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"channels": ["sms"], "channels": ["email"]}', "/channels"),
        (b'{"a": {"b": 1, "c": [{"d": 1}, {"d": 1, "d": 2}]}}', "/a/c/1/d"),
        (b'{"data": 1, "d\\u0061ta": 2}', "/d\\u0061ta"),
        (b'{"at": "09:00", "at" : "10:00"}', "/at"),
    ],
)
def test_its_place(raw: bytes, pointer: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_names(raw, decoded_strictly(raw))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/users"),
        ("POST", "/v1/otp"),
        ("POST", "/v1/otp/let-in"),
        ("POST", "/v1/templates/t/test-send"),
        ("PATCH", "/v1/notifications/01a20a32-744b-7020-809a-bb07e52cad04"),
        ("PUT", "/v1/categories/orders"),
        ("POST", "/v1/inbox/tickets"),
    ],
)
async def test_no_route_but_the_two_hot_ones_follows_such_a_body(shared_api: Api, method: str, path: str) -> None:
    body = b'{"to": {"email": "a@example.com"}, "to": {"email": "b@example.com"}}'
    answer = await shared_api.call(method, path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"], codes(answer)) == (400, "repeated_name", [("/to", "repeated_name")])
    assert "example.com" not in answer.text


async def test_on_the_hot_routes_the_last_one_counts(shared_api: Api) -> None:
    """As it is documented: what a gateway in front of them must know."""
    first, last = '{"email": "a@example.com"}', '{"channel": "webhook", "address": "https://h.example.com"}'
    one = f'{{"to": {first}, "content": {{"text": "x"}}, "to": {last}}}'
    for path, body in (("", one), ("/batch", f'{{"notifications": [{one}]}}')):
        answer = await shared_api.call(
            "POST", f"/v1/notifications{path}", content=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 202, answer.text
        made = answer.json()["items"][0] if path else answer.json()
        assert (await shared_api.get(f"/v1/notifications/{made['id']}")).json()["to"]["channel"] == "webhook"
