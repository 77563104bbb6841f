"""The OpenAPI document as the reference page needs it: operations by group, shapes, types in words, curl lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_LIMITS = {
    "maxLength": "at most {} characters", "minimum": "at least {}",
    "maximum": "at most {}", "minItems": "at least {} items", "maxItems": "at most {} items", "pattern": "like {}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a type in words; `shape` is the name of the shape that it links to."""

    text: str
    shape: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a shape, or a parameter (then `where` is query, path or header)."""

    name: str
    type: tuple[Part, ...]
    required: bool
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    text: str
    fields: tuple[Field, ...]
    values: tuple[str, ...]
    example: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    text: str
    type: tuple[Part, ...]
    example: str | None


@dataclass(frozen=True, slots=True)
class Operation:
    anchor: str
    method: str
    path: str
    summary: str
    text: str
    roles: str
    parameters: tuple[Field, ...]
    body: tuple[Part, ...]
    answers: tuple[Answer, ...]
    curl: str


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    anchor: str
    operations: tuple[Operation, ...]


class View:
    """One document, taken apart."""

    def __init__(self, document: Json, *, base_url: str) -> None:
        self._schemas: Json = document["components"]["schemas"]
        self._base_url = base_url
        groups: dict[str, list[Operation]] = {}
        for path, methods in document["paths"].items():
            for method in _METHODS:
                if method in methods:
                    operation = methods[method]
                    name = operation.get("tags", ["other"])[0]
                    groups.setdefault(name, []).append(self._operation(method, path, operation))
        self.title: str = document["info"]["title"]
        self.summary: str = document["info"].get("summary", "")
        self.version: str = document["info"]["version"]
        self.groups = [Group(name, slug(name), tuple(found)) for name, found in groups.items()]
        self.shapes = [self._shape(name, schema) for name, schema in sorted(self._schemas.items())]

    def _operation(self, method: str, path: str, operation: Json) -> Operation:
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        parameters = [
            Field(p["name"], tuple(self._type(_given(p["schema"]))), bool(p.get("required")), _parameter_text(p), p["in"])
            for p in operation.get("parameters", ())
        ]
        return Operation(
            anchor=slug(f"{method} {path}"),
            method=method.upper(),
            path=path,
            summary=operation.get("summary", ""),
            text=operation.get("description", ""),
            roles=_roles(operation),
            parameters=tuple(parameters),
            body=tuple(self._type(body)) if body else (),
            answers=tuple(self._answers(operation["responses"])),
            curl=self._curl(method, path, operation, body=body),
        )

    def _answers(self, responses: Json) -> Iterator[Answer]:
        for status, response in responses.items():
            if status == "default":
                continue
            content = response.get("content", {}).get("application/json", {})
            schema = content.get("schema")
            shown = _written(content["example"]) if "example" in content else self._example(schema) if schema else None
            yield Answer(status, response.get("description", ""), tuple(self._type(schema)) if schema else (), shown)

    def _curl(self, method: str, path: str, operation: Json, *, body: Json | None) -> str:
        names = iter(re.findall(r"\{(\w+)\}", path))
        filled = re.sub(r"\{\w+\}", lambda _: _sample(next(names)), path)
        lines = ["curl" + ("" if method == "get" else f" -X {method.upper()}") + f" '{self._base_url}{filled}'"]
        schemes = {name for requirement in operation.get("security", ()) for name in requirement}
        if schemes:
            lines.append(f'-H "Authorization: Bearer ${"USER_TOKEN" if "user_token" in schemes else "TONGDA_KEY"}"')
        example = self._example(body) if body else None
        if example is not None:
            quoted = example.replace("'", "'\\''")
            lines += ["-H 'Content-Type: application/json'", f"-d '{quoted}'"]
        return " \\\n  ".join(lines)

    def _shape(self, name: str, schema: Json) -> Shape:
        required = set(schema.get("required", ()))
        fields = [
            Field(key, tuple(self._type(inner)), key in required, _field_text(inner))
            for key, inner in schema.get("properties", {}).items()
        ]
        values = tuple(str(value) for value in schema.get("enum", ()))
        return Shape(name, schema.get("description", ""), tuple(fields), values, self._example(schema))

    def _example(self, schema: Json) -> str | None:
        if "$ref" in schema:
            schema = self._schemas[_name(schema)]
        for option in schema.get("anyOf", ()):
            if "$ref" in option:
                return self._example(option)
        examples = schema.get("examples")
        return _written(examples[0]) if examples else None

    def _type(self, schema: Json) -> Iterator[Part]:
        """`list of Identity`, `string (date-time) or null`, ..."""
        if "$ref" in schema:
            yield Part(_name(schema), _name(schema))
        elif "anyOf" in schema:
            for index, option in enumerate(schema["anyOf"]):
                yield from [Part(" or ")] if index else []
                yield from self._type(option)
        elif "enum" in schema:
            yield Part(" | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"]))
        elif "const" in schema:
            yield Part(json.dumps(schema["const"], ensure_ascii=False))
        elif schema.get("type") == "array":
            yield Part("list of ")
            yield from self._type(schema.get("items", {}))
        else:
            kind = schema.get("format") or schema.get("type") or "anything"
            yield Part(
                {"date-time": "time (RFC 3339)", "uuid": "id (UUID)", "duration": "duration (ISO 8601)"}.get(kind, kind)
            )


def _written(example: Any) -> str:
    return json.dumps(example, ensure_ascii=False, indent=2)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _name(schema: Json) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def _roles(operation: Json) -> str:
    roles = operation.get("x-roles")
    if roles is None:
        schemes = {name for requirement in operation.get("security", ()) for name in requirement}
        return "a user token" if "user_token" in schemes else ""
    return "any role" if len(roles) >= 8 else ", ".join(roles)


def _given(schema: Json) -> Json:
    """A parameter is there or not; nobody writes null into a query string."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else schema


def _parameter_text(parameter: Json) -> str:
    rest = {key: value for key, value in parameter["schema"].items() if key != "description"}
    return " ".join(filter(None, [parameter.get("description", ""), _field_text(rest)]))


def _field_text(schema: Json) -> str:
    """Description, limits and default."""
    options = [schema, *(option for option in schema.get("anyOf", ()) if option.get("type") != "null")]
    limits = [text.format(_number(option[key])) for option in options for key, text in _LIMITS.items() if key in option]
    default = schema.get("default")
    said = [schema.get("description", ""), f"{'; '.join(limits).capitalize()}." if limits else ""]
    if default not in (None, "", [], {}):
        said.append(f"Default: {json.dumps(default, ensure_ascii=False)}.")
    return " ".join(part for part in said if part)


def _number(limit: Any) -> Any:
    """Pydantic writes the bounds of integers as 1.0."""
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _sample(name: str) -> str:
    samples = {"user_id": "u-1024", "name": "order-shipped", "version": "1", "app_id": "crm", "code": "invalid"}
    return samples.get(name, "01a20a32-744b-7020-809a-bb07e52cad04")
