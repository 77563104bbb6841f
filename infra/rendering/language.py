"""What a template may say: a small part of Jinja2, checked on its syntax tree before anything runs.

Left out is what has no use in a message and could stall or surprise: macros, includes, blocks, captured output, switching
escaping off, methods beyond a few, names with an underscore.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import meta, nodes

from infra.rendering.environment import LOOP_METHODS, METHODS
from infra.rendering.filters import FILTERS
from infra.rendering.limits import MAX_LOOP_DEPTH

_STATEMENTS = (nodes.Output, nodes.For, nodes.If, nodes.Assign)
_EXPRESSIONS = (
    nodes.TemplateData, nodes.Name, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.CondExpr,
    nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare,
    nodes.Operand, nodes.BinExpr, nodes.UnaryExpr, nodes.Keyword,
)  # fmt: skip
_RESERVED = frozenset({"self", "super", "caller", "varargs", "kwargs", "loop"})
BUDGET = "_budget"
"""The context variable that holds a rendering's Budget; templates cannot name it."""


class NotAllowed(Exception):
    """The template says something that this language leaves out."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


def check(tree: nodes.Template) -> None:
    """Raises NotAllowed for the first node that may not be there."""
    for node in tree.body:
        _check(node, loops=0)


def _check(node: nodes.Node, *, loops: int) -> None:
    problem = _problem(node, loops=loops)
    if problem:
        raise NotAllowed(problem, line=node.lineno)
    inside = loops + isinstance(node, nodes.For)
    for child in node.iter_child_nodes():
        _check(child, loops=inside)


def _problem(node: nodes.Node, *, loops: int) -> str | None:
    if not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS)):
        return f"{{% {type(node).__name__.lower()} %}} is not available in templates"
    if isinstance(node, nodes.Name):
        return _problem_of_name(node)
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        return "names that begin with an underscore are not available"
    if isinstance(node, nodes.Filter) and (node.name not in FILTERS or node.name.startswith("_")):
        return f"there is no filter {node.name!r}"
    if isinstance(node, nodes.Call):
        return _problem_of_call(node)
    if isinstance(node, nodes.For):
        return _problem_of_loop(node, loops=loops)
    if isinstance(node, nodes.Assign):
        return _problem_of_set(node)
    if isinstance(node, nodes.Const) and isinstance(node.value, str) and not _storable(node.value):
        return "a text holds a character that cannot be stored"
    return None


def _problem_of_name(node: nodes.Name) -> str | None:
    if node.name.startswith("_"):
        return "names that begin with an underscore are not available"
    if node.name in _RESERVED and not (node.name == "loop" and node.ctx == "load"):
        return f"{node.name!r} is not available in templates"
    return None


def _problem_of_call(node: nodes.Call) -> str | None:
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "calls with * or ** are not available"
    target = node.node
    if isinstance(target, nodes.Name) and target.name == "range":
        return None
    if isinstance(target, nodes.Getattr) and target.attr in METHODS | LOOP_METHODS:
        return None
    return f"only range and the methods {', '.join(sorted(METHODS))} can be called"


def _problem_of_loop(node: nodes.For, *, loops: int) -> str | None:
    if node.recursive:
        return "recursive loops are not available"
    if loops >= MAX_LOOP_DEPTH:
        return f"loops can be nested {MAX_LOOP_DEPTH} deep"
    return None


def _problem_of_set(node: nodes.Assign) -> str | None:
    if not isinstance(node.target, nodes.Name):
        return "set takes one name"
    # A list of two names, set again and again, doubles with every line.
    if isinstance(node.node, nodes.List | nodes.Dict | nodes.Tuple) or any(
        node.node.find_all((nodes.List, nodes.Dict, nodes.Tuple))
    ):
        return "set takes no lists or objects"
    return None


def _storable(value: str) -> bool:
    return "\x00" not in value and value.encode(errors="ignore").decode() == value


def bound(tree: nodes.Template) -> bool:
    """Rewrite the checked tree: loops run over metered values, `~` is bounded. True when there are loops."""
    has_loops = False
    for loop in tree.find_all(nodes.For):
        has_loops = True
        budget = nodes.Name(BUDGET, "load", lineno=loop.lineno)
        loop.iter = nodes.Filter(loop.iter, "_metered", [budget], [], None, None, lineno=loop.lineno)
    _bound_concats(tree)
    return has_loops


def _bound_concats(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_bounded(item) for item in value])
        else:
            setattr(node, field, _bounded(value))


def _bounded(value: object) -> object:
    if not isinstance(value, nodes.Node):
        return value
    _bound_concats(value)
    if isinstance(value, nodes.Concat):
        items = nodes.List(value.nodes, lineno=value.lineno)
        return nodes.Filter(items, "_concat", [], [], None, None, lineno=value.lineno)
    return value


def sets_names(tree: nodes.Template) -> bool:
    """True if it says `set`, which changes the context that it runs in."""
    return tree.find(nodes.Assign) is not None


def variables(tree: nodes.Template) -> frozenset[str]:
    """The names that a template takes from the data."""
    return frozenset(meta.find_undeclared_variables(tree)) - {"range", BUDGET}


_TOLERANT = frozenset({"defined", "undefined", "d", "default"})
"""Tests and filters that a missing value passes."""


def certain(tree: nodes.Template) -> frozenset[str]:
    """Those of them without which it is certain to fail: used outside every condition, test and default."""
    return variables(tree) & {name for node in tree.body for name in _certain(node)}


def _certain(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Name):
        yield node.name
    elif isinstance(node, nodes.If | nodes.CondExpr):
        yield from _certain(node.test)
    elif isinstance(node, nodes.For):
        yield from _certain(node.iter)
    elif isinstance(node, nodes.And | nodes.Or):
        yield from _certain(node.left)
    elif not (isinstance(node, nodes.Test | nodes.Filter) and node.name in _TOLERANT):
        for child in node.iter_child_nodes():
            yield from _certain(child)
