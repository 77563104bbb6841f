"""The two Jinja2 environments: plain text, and HTML with escaping of every value.

There is no loader, no extension, no global but `range`; values are JSON, and an attribute of one is a key of an object or
one of a few harmless methods. What the static rules (`infra.rendering.language`) cannot see is bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from infra.rendering.filters import FILTERS, text
from infra.rendering.limits import MAX_NUMBER, MAX_RANGE, LimitPassed, short_enough

TEXT_METHODS = frozenset({"capitalize", "endswith", "lower", "split", "startswith", "strip", "title", "upper"})
OBJECT_METHODS = frozenset({"get", "items", "keys", "values"})
METHODS = TEXT_METHODS | OBJECT_METHODS
LOOP_METHODS = frozenset({"changed", "cycle"})


def _bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise LimitPassed(f"range gives at most {MAX_RANGE} numbers")
    return numbers


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        short_enough(len(left) + len(right))
        return left + right
    return _number(left) + _number(right)


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, int):
        short_enough(len(left) * right)
        return left * right
    return _number(left) * _number(right)


def _power(left: Any, right: Any) -> Any:
    if abs(_number(right)) > 64 or abs(_number(left)) > 10**9:
        raise LimitPassed("** takes numbers up to 1,000,000,000 and powers up to 64")
    return left**right


def _modulo(left: Any, right: Any) -> Any:
    return _number(left) % _number(right)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError("this needs numbers")
    return value


_OPERATORS = {"+": _add, "*": _multiply, "**": _power, "%": _modulo}


class _Environment(ImmutableSandboxedEnvironment):
    """ImmutableSandboxedEnvironment for JSON values only."""

    intercepted_binops = frozenset(_OPERATORS)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja2's signature
        result = _OPERATORS[operator](left, right)
        if isinstance(result, int) and abs(result) > MAX_NUMBER:
            raise LimitPassed("it makes too large a number")
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`order.items` is the key "items" where there is one: data comes before methods. What is below something that is
        not there is that same nothing, so that its failure names the first.
        """
        if isinstance(obj, Undefined):
            return obj
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        allowed = (isinstance(obj, dict) and attribute in OBJECT_METHODS) or (
            isinstance(obj, str) and attribute in TEXT_METHODS
        )
        if allowed or (isinstance(obj, LoopContext) and not attribute.startswith("_")):
            return super().getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (LookupError, TypeError, AttributeError):
            return self.undefined(obj=obj, name=argument)


def _shown(value: Any) -> Any:
    """What `{{ value }}` puts out; Jinja2 makes a string of it, and escapes that in HTML."""
    return value if isinstance(value, str) else text(value)


_GLOBALS = {"range": _bounded_range}


def _environment(*, html: bool) -> _Environment:
    # Jinja2's optimizer would run operators and filters while compiling, outside every budget.
    environment = _Environment(autoescape=html, undefined=StrictUndefined, finalize=_shown, optimized=False, cache_size=0)
    environment.globals = dict(_GLOBALS)
    environment.filters = dict(FILTERS)
    return environment


TEXT = _environment(html=False)
HTML = _environment(html=True)


class Scope:
    """The values of one rendering, as the blocks of one message share them: making Jinja2's context costs more than most
    blocks do.
    """

    __slots__ = ("_html", "_text", "_values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._text: Context | None = None
        self._html: Context | None = None

    def context(self, *, html: bool) -> Context:
        """For blocks that set nothing."""
        if html:
            if self._html is None:
                self._html = self.own_context(html=True)
            return self._html
        if self._text is None:
            self._text = self.own_context(html=False)
        return self._text

    def own_context(self, *, html: bool, **more: Any) -> Context:
        """For a block that sets names: another must not see them."""
        return Context(HTML if html else TEXT, {**_GLOBALS, **self._values, **more}, None, {})
