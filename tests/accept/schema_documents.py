"""Documents made from a published JSON Schema: right ones, and each way of breaking one rule of it.

Knows the keywords that the schemas of the accept routes use, and no others: a test asks whether it knows them all.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
Break = tuple[str, str, Any]
"""Keyword, pointer of what is broken, the whole document."""

KEYWORDS = {
    "$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "minLength", "maxLength", "pattern",
    "format", "minimum", "maximum", "items", "minItems", "maxItems", "uniqueItems", "anyOf", "oneOf", "allOf", "not", "if",
    "then", "dependentRequired", "minProperties",
}  # fmt: skip
NOTES = {"title", "description", "default", "examples"}
LONGEST = 40
"""Of generated texts; the bounds themselves are looked at by the breaks."""

_text = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_plain: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_text),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(_text, max_size=8), inner, max_size=2),
    max_leaves=4,
)
_WRONG: dict[str, list[Any]] = {
    "string": [5, None, True, {}, []], "object": [5, None, "text", []], "array": ["email", None, {}],
    "integer": [None, True, 1.5, {}],
}  # fmt: skip


class Documents:
    """Of the schemas of one document, by name."""

    def __init__(self, schemas: dict[str, Schema]) -> None:
        self._schemas = schemas

    def resolved(self, schema: Schema) -> Schema:
        name = schema.get("$ref")
        return schema if name is None else self._schemas[name.rpartition("/")[2]]

    def strategy(self, schema: Schema) -> st.SearchStrategy[Any]:
        """Right by each keyword alone; `if`, and `not` of several fields, are left to a filter."""
        schema = self.resolved(schema)
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "anyOf" in schema and "type" not in schema:
            return st.one_of([self.strategy(part) for part in schema["anyOf"]])
        match schema["type"]:
            case "object" if "properties" in schema:
                return self._objects(schema)
            case "object":
                return st.dictionaries(st.text(_text, max_size=8), _plain, max_size=3)
            case "array":
                items, most = self.strategy(schema["items"]), min(schema["maxItems"], 3)
                return st.lists(items, min_size=schema["minItems"], max_size=most, unique=schema.get("uniqueItems", False))
            case "integer":
                return st.integers(schema["minimum"], schema["maximum"])
            case "null":
                return st.none()
        return self._strings(schema)

    def _strings(self, schema: Schema) -> st.SearchStrategy[str]:
        if schema.get("format") == "date-time":
            return st.datetimes().map(lambda at: at.isoformat() + "Z")
        pattern = schema.get("pattern")
        if pattern is not None and "maxLength" not in schema:
            return st.from_regex(re.compile(str(pattern)), fullmatch=True)
        made = st.text(_text, min_size=schema.get("minLength", 0), max_size=min(schema["maxLength"], LONGEST))
        return made if pattern is None else made.filter(lambda text: re.fullmatch(pattern, text) is not None)

    @st.composite
    @staticmethod
    def _chosen(draw: st.DrawFn, documents: Documents, schema: Schema) -> dict[str, Any]:
        properties = {name: part for name, part in schema["properties"].items() if part.get("not") != {}}
        least = max([part.get("minProperties", 0) for part in schema.get("allOf", ())], default=0)
        required, banned = set(schema.get("required", ())), set()
        for part in schema.get("allOf", ()):
            for choice in ("oneOf", "anyOf"):
                if all("required" in option for option in part.get(choice, [{}])):
                    names = [option["required"][0] for option in part[choice] if option["required"][0] in properties]
                    chosen = draw(st.sampled_from(names))
                    required.add(chosen)
                    banned |= set(names) - {chosen} if choice == "oneOf" else set()
        forced = frozenset(required)
        names = sorted(set(properties) - banned)
        required |= set(draw(st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=4)))
        for _ in schema.get("allOf", ()):
            for part in schema["allOf"]:
                for name, others in part.get("dependentRequired", {}).items():
                    if name in required and banned & set(others):
                        required.discard(name)
                    elif name in required:
                        required |= set(others)
                both = part.get("not", {}).get("required")
                if both is not None and set(both) <= required:
                    required.discard(draw(st.sampled_from([name for name in both if name not in forced])))
        return {name: draw(documents.strategy(properties[name])) for name in sorted(required)}

    def _objects(self, schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
        return Documents._chosen(self, schema)

    def breaks(self, schema: Schema, document: Any) -> list[Break]:
        """Each way to break one keyword, at each place of this document."""
        return list(self._breaks(self.resolved(schema), document, "", document))

    def _breaks(self, schema: Schema, value: Any, at: str, root: Any) -> Iterator[Break]:
        def put(keyword: str, new: Any) -> Break:
            return keyword, at, _with(root, at, new)

        schema = self.resolved(schema)
        if "anyOf" in schema and "type" not in schema:
            yield put("anyOf", {})
            part = next(part for part in map(self.resolved, schema["anyOf"]) if _fits(part, value))
            for keyword, broken in _broken_alone(part, value):
                yield put(keyword, broken)
            return
        for wrong in _WRONG.get(schema.get("type", ""), ()):
            if at:
                yield put("type", wrong)
        if "enum" in schema:
            yield put("enum", "no such")
        for keyword, broken in _broken_alone(schema, value):
            yield put(keyword, broken)
        if isinstance(value, dict) and "properties" in schema:
            yield "additionalProperties", f"{at}/no such", _with(root, at, {**value, "no such": 1})
            for name in schema.get("required", ()):
                yield "required", f"{at}/{name}", _with(root, at, {k: v for k, v in value.items() if k != name})
            for name, inner in value.items():
                yield from self._breaks(schema["properties"][name], inner, f"{at}/{name}", root)
        if isinstance(value, list) and "items" in schema:
            for place, item in enumerate(value):
                yield from self._breaks(schema["items"], item, f"{at}/{place}", root)


def _broken_alone(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    """Of a text, a number or a list."""
    if isinstance(value, str):
        if schema.get("minLength", 0) > 0:
            yield "minLength", "x" * (schema["minLength"] - 1)
        if "maxLength" in schema:
            yield "maxLength", "x" * (schema["maxLength"] + 1)
        if "pattern" in schema:
            yield "pattern", f"{value}\n"
        if "format" in schema:
            yield "format", "tomorrow"
    if isinstance(value, int):
        for keyword, beyond in (("minimum", -1), ("maximum", 1)):
            if keyword in schema:
                yield keyword, schema[keyword] + beyond
                yield keyword, schema[keyword] + beyond * 10**30
    if isinstance(value, list):
        if schema.get("minItems", 0) > 0:
            yield "minItems", []
        if "maxItems" in schema:
            yield "maxItems", (value * (schema["maxItems"] + 1))[: schema["maxItems"] + 1]
        if schema.get("uniqueItems"):
            yield "uniqueItems", [*value, value[0]]


def _fits(schema: Schema, value: Any) -> bool:
    kinds = {"string": str, "integer": int, "null": type(None), "object": dict}
    return isinstance(value, kinds[schema["type"]])


def _with(root: Any, at: str, new: Any) -> Any:
    """A copy of the document with another value at this place."""
    if not at:
        return new
    made = copy.deepcopy(root)
    *way, last = at[1:].split("/")
    inner = made
    for step in way:
        inner = inner[int(step) if isinstance(inner, list) else step]
    inner[int(last) if isinstance(inner, list) else last] = new
    return made


def keywords(schema: Any) -> Iterator[str]:
    """All that are used in a schema, without the names of properties."""
    for keyword, value in schema.items():
        yield keyword
        if keyword == "properties":
            for part in value.values():
                yield from keywords(part)
        elif keyword in {"items", "not", "if", "then"}:
            yield from keywords(value)
        elif keyword in {"anyOf", "oneOf", "allOf"}:
            for part in value:
                yield from keywords(part)
