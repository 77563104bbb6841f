"""One text of a template ("/contents/zh-CN/email/html"), compiled."""

from __future__ import annotations

import re
from types import TracebackType

from jinja2 import Template, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context

from infra.rendering import language
from infra.rendering.environment import HTML, TEXT, Scope
from infra.rendering.errors import TemplateBroken
from infra.rendering.limits import MAX_SOURCE_CHARS, RENDER_CPU_S, Budget, LimitPassed, short_enough

_BREAKS = re.compile(r"\s*[\x00-\x1f\x7f-\x9f\u2028\u2029]+\s*")


_NAMED = re.compile(r"'([A-Za-z_][A-Za-z0-9_]*)'(?: is undefined)?$")
"""The name at the end of Jinja2's "'x' is undefined" and "'dict object' has no attribute 'x'"."""


def one_line(text: str) -> str:
    """Line breaks and other control characters, with the blanks around them, as one space each."""
    return _BREAKS.sub(" ", text).strip()


class Block:
    """A compiled text. `variables` are the names it takes from the data, `certain` those it always needs."""

    __slots__ = ("_constant", "_file", "_html", "_loops", "_sets", "_template", "certain", "pointer", "variables")

    def __init__(self, source: str, *, pointer: str, html: bool = False) -> None:
        """Raises TemplateBroken (syntax, not_allowed, too_long) with the pointer and line."""
        self.pointer = pointer
        self.variables: frozenset[str] = frozenset()
        self.certain: frozenset[str] = frozenset()
        self._template: Template | None = None
        self._constant = source
        self._html = html
        self._loops = False
        self._sets = False
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateBroken.block(pointer, "too_long", f"a block has at most {MAX_SOURCE_CHARS} characters")
        if "{" in source:
            self._compile(source)

    def _compile(self, source: str) -> None:
        environment = HTML if self._html else TEXT
        self._file = f"<{self.pointer}>"
        try:
            tree = environment.parse(source)
            language.check(tree)
            self._loops = language.bound(tree)
            self._sets = language.sets_names(tree)
            self.variables = language.variables(tree)
            self.certain = language.certain(tree)
            code = environment.compile(tree, None, self._file)
        except TemplateSyntaxError as error:
            raise TemplateBroken.block(self.pointer, "syntax", error.message or "syntax error", line=error.lineno) from None
        except language.NotAllowed as error:
            raise TemplateBroken.block(self.pointer, "not_allowed", str(error), line=error.line) from None
        except (RecursionError, SyntaxError, MemoryError):
            raise TemplateBroken.block(self.pointer, "too_deep", "it is nested too deeply") from None
        self._template = Template.from_code(environment, code, environment.make_globals(None))

    def render(self, scope: Scope, *, cpu_s: float = RENDER_CPU_S) -> str:
        """The text with the scope's values, without NUL characters (nothing can store them). Raises TemplateBroken."""
        template = self._template
        if template is None:
            return self._constant
        pieces: list[str] = []
        length = 0
        try:
            for piece in template.root_render_func(self._context(scope, cpu_s=cpu_s)):
                length += len(piece)
                short_enough(length)
                pieces.append(piece)
        except Exception as error:
            raise self._broken(error, template) from None
        rendered = "".join(pieces)
        return rendered.replace("\x00", "") if "\x00" in rendered else rendered

    def _context(self, scope: Scope, *, cpu_s: float) -> Context:
        if self._loops:
            return scope.own_context(html=self._html, **{language.BUDGET: Budget(cpu_s=cpu_s)})
        return scope.own_context(html=self._html) if self._sets else scope.context(html=self._html)

    def _broken(self, error: Exception, template: Template) -> TemplateBroken:
        """Without the cause's own message, which may quote data."""
        line = _line(error.__traceback__, file=self._file, template=template)
        if isinstance(error, UndefinedError):
            return TemplateBroken.block(self.pointer, "undefined", self._undefined(str(error)), line=line)
        if isinstance(error, SecurityError):
            return TemplateBroken.block(self.pointer, "not_allowed", "this is not available in templates", line=line)
        if isinstance(error, LimitPassed):
            return TemplateBroken.block(self.pointer, "limit", str(error), line=line)
        if isinstance(error, RecursionError):
            return TemplateBroken.block(self.pointer, "limit", "the data is nested too deeply", line=line)
        kind = "a value has the wrong type" if isinstance(error, TypeError) else f"it fails ({type(error).__name__})"
        return TemplateBroken.block(self.pointer, "failed", kind, line=line)

    def _undefined(self, message: str) -> str:
        """Names what is not there, if the template itself writes the name: one that was computed may be data."""
        named = _NAMED.search(message)
        if named is None or re.search(rf"\b{named[1]}\b", self._constant) is None:
            return "a value that it uses is not in the data"
        return f"{named[1]!r} is not in the data"


def _line(trace: TracebackType | None, *, file: str, template: Template) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
