"""The checks that every body passes before it is decoded."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import MOST_DEPTH, check_json, decoded_strictly, is_json, pointer_at
from domain.errors import Malformed

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"a]": value}
    return value


@given(value=_JSON, escaped=st.booleans())
def test_ordinary_json_passes(value: Any, *, escaped: bool) -> None:
    check_json(json.dumps({"v": value}, ensure_ascii=escaped).encode())


@given(st.integers(1, 3 * MOST_DEPTH), _TEXT)
def test_depth_is_counted_exactly_whatever_strings_hold(depth: int, text: str) -> None:
    raw = json.dumps([nested(depth - 1, text + '[{"\\'), text + "]}"] + [{}] * MOST_DEPTH).encode()
    if depth <= MOST_DEPTH:
        check_json(raw)
    else:
        with pytest.raises(Malformed) as caught:
            check_json(raw)
        assert caught.value.code == "too_deep"
        assert caught.value.pointer.count("/") == MOST_DEPTH


def test_brackets_in_strings_hide_no_depth() -> None:
    with pytest.raises(Malformed, match="deeper"):
        check_json(b'["]",' * 40 + b"1" + b',"["]' * 40)


@given(st.lists(st.one_of(st.integers(0, 5), st.text('ab~/"\\é', min_size=1, max_size=5)), min_size=1, max_size=6))
def test_a_nul_is_found_by_its_pointer(path: list[int | str]) -> None:
    value: Any = "x\x00y"
    for step in reversed(path):
        value = [*range(step), value] if isinstance(step, int) else {"first": [1, {"a": ","}], step: value}
    with pytest.raises(Malformed) as caught:
        check_json(json.dumps(value).encode())
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    if not any("\\" in step or '"' in step or "é" in step for step in steps):  # names are shown as they were written
        assert caught.value.pointer == "".join(f"/{step}" for step in steps)
    assert caught.value.code == "nul_character"


@pytest.mark.parametrize(
    ("raw", "code", "pointer"),
    [
        (b'{"a": "\xff"}', "invalid_utf8", "/a"),
        (b'{"a": ["", "\xed\xa0\x80"]}', "invalid_utf8", "/a/1"),
        (b'{"a": "\x00"}', "nul_character", "/a"),
        (b'{"b": 1, "a": "\\ud83d"}', "invalid_utf8", "/a"),
        (b'{"a": "\\ud83dx\\ude00"}', "invalid_utf8", "/a"),
        (b'{"a": "\\ude00"}', "invalid_utf8", "/a"),
    ],
)
def test_what_no_text_can_hold(raw: bytes, code: str, pointer: str) -> None:
    with pytest.raises(Malformed) as caught:
        check_json(raw)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


@pytest.mark.parametrize(
    "raw", [b'"\\\\u0000"', b'"\\ud83d\\ude00"', '"\U0001f600"'.encode(), b'"\\\\\\\\ud83d"', b"[" * 32 + b"]" * 32]
)
def test_what_only_looks_wrong(raw: bytes) -> None:
    check_json(raw)
    decoded_strictly(raw)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{'a': 1}", b"[1,]", b"NaN", b"[Infinity]", b"1e999", b"[" + b"9" * 5000 + b"]", b"nope", b'"\t"']
)
def test_what_is_not_strict_json(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decoded_strictly(raw)


@given(st.binary(max_size=60))
def test_any_bytes_are_checked_without_a_crash(raw: bytes) -> None:
    for check in (check_json, decoded_strictly):
        with contextlib.suppress(Malformed):
            check(raw)
    pointer_at(raw, len(raw) // 2)


@pytest.mark.parametrize(
    ("media", "good"),
    [
        (b"application/json", True), (b"Application/JSON; charset=UTF-8", True), (b"application/merge-patch+json", True),
        (b"application/json;charset=gbk", False), (b"text/plain", False), (b"", False), (b"multipart/form-data", False),
        (b"application/x-www-form-urlencoded", False), (b"application/jsonp", False),
    ],
)  # fmt: skip
def test_media_types(media: bytes, *, good: bool) -> None:
    assert is_json(media) is good
