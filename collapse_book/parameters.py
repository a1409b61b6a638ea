"""Typed parameters: read from a notebook's cell, checked before a kernel starts."""

from __future__ import annotations

import ast
import io
import math
import os
import re
import reprlib
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from collapse_book.errors import BadInput, suggestion
from collapse_book.files import read_scalar

Value = int | float | str | bool

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
NOUNS = {
    "int": "an integer",
    "float": "a finite number",
    "str": "text",
    "bool": "true or false",
}
#: Text that is, or may be, a path: of something that is read, or of a folder that is written.
PLACE = re.compile(r"\s*\[(path|folder)\]\s*$")
RANGE = re.compile(r"\s*\[([^\[\]]*(?:\.\.|\|)[^\[\]]*)\]\s*$")
#: Arrays and tables hold integers of 64 bits.
LARGEST = 2**63 - 1
#: Half of a character, which bytes that are not UTF-8 leave in an argument.
HALF = re.compile("[\ud800-\udfff]")

_short = reprlib.Repr()
_short.maxstring = _short.maxlong = 60
_short.maxlevel = 2


@dataclass(frozen=True)
class Parameter:
    """One line ``name: type = default  # help [range]`` of a parameters cell."""

    name: str
    type: str
    default: Value
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Value, ...] = ()
    place: str = ""

    @property
    def allowed(self) -> str:
        """What may be given, in words, for the end of an error message."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.place:
            return f"text that may be a {self.place}"
        words = NOUNS[self.type]
        if self.low is not None and self.high is not None:
            return f"{words} from {_number(self.low)} to {_number(self.high)}"
        if self.low is not None:
            return f"{words} >= {_number(self.low)}"
        if self.high is not None:
            return f"{words} <= {_number(self.high)}"
        return words

    def check(self, given: Any) -> Value:
        """Return ``given`` in the declared type.

        An integer is accepted for a float; nothing else is converted.

        Raises
        ------
        BadInput
            If the type is wrong, the number is not finite or too large for the computer, the text
            is not Unicode, or the value is out of range.
        """
        value = given
        if self.type == "float" and type(given) is int and abs(given) < 10**308:
            value = float(given)
        if type(value) is not TYPES[self.type]:
            raise self._refusal(given)
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refusal(given)
        if type(value) is int and abs(value) > LARGEST:
            raise self._refusal(given, f" and at most {LARGEST:,} in size")
        if isinstance(value, str) and HALF.search(value):
            raise self._refusal(given, " in Unicode")
        outside = (self.low is not None and value < self.low) or (
            self.high is not None and value > self.high
        )
        if outside or (self.choices and value not in self.choices):
            raise self._refusal(given)
        if self.place and value not in ("", self.default):
            # The kernel works elsewhere: a path counts from where the user stands.
            path = os.path.abspath(os.path.expanduser(value))
            if self.place == "folder" or os.path.exists(path):
                return path
        return value

    def cast(self, text: str) -> Value:
        """Read command-line text as a YAML file would have it, then `check` it."""
        try:
            return self.check(text if self.type == "str" else read_scalar(text))
        except ValueError as error:
            raise BadInput(f"{self.name} must be {self.allowed}, got {error}") from None

    def _refusal(self, given: Any, more: str = "") -> BadInput:
        return BadInput(f"{self.name} must be {self.allowed}{more}, got {shown(given)}")


def shown(given: Any) -> str:
    """What was given, for a message: one line, however long or deep it is."""
    return _short.repr(given)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:g}"


def read_cell(source: str) -> list[Parameter]:
    """Parameters of a cell of lines ``name: type = literal  # help [range]``.

    Raises
    ------
    ValueError
        If a line has another form, with the line in the message.
    """
    try:
        lines = ast.parse(source).body
        comments = {
            token.start[0]: token.string.lstrip("#").strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is not Python: {error.msg}") from None
    except (tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is not Python: {error}") from None
    parameters: dict[str, Parameter] = {}
    for line in lines:
        try:
            parameter = _read_line(line, comments.get(line.end_lineno or 0, ""))
        except (BadInput, ValueError) as error:
            raise ValueError(f"line {line.lineno}: {error}") from None
        if parameter.name in parameters:
            raise ValueError(f"{parameter.name} is defined twice")
        parameters[parameter.name] = parameter
    return list(parameters.values())


def _read_line(line: ast.stmt, comment: str) -> Parameter:
    match line:
        case ast.AnnAssign(
            target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as expression
        ):
            pass
        case _:
            raise ValueError("write `name: type = value  # help [range]`")
    if kind not in TYPES:
        raise ValueError(f"type of {name} must be one of {', '.join(TYPES)}, got {kind}")
    try:
        default = ast.literal_eval(expression)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{name} must be a literal, not a derived value") from None
    place = PLACE.search(comment) if kind == "str" else None
    comment = PLACE.sub("", comment) if place else comment
    help_text = RANGE.sub("", comment)
    if not help_text:
        raise ValueError(f"{name} needs a comment that says what it is")
    parameter = Parameter(name, kind, default, help_text, place=place[1] if place else "")
    if found := RANGE.search(comment):
        try:
            parameter = _with_range(parameter, found[1])
        except (BadInput, ValueError) as error:
            raise ValueError(f"range [{found[1]}] of {name}: {error}") from None
    try:
        return replace(parameter, default=parameter.check(default))
    except BadInput as error:
        raise ValueError(f"default of {error}") from None


def _with_range(parameter: Parameter, text: str) -> Parameter:
    """The same parameter with ``low..high`` or ``this|that``."""
    if parameter.type == "bool":
        raise ValueError("a bool takes no range")
    if ".." not in text:
        choices = tuple(parameter.cast(choice.strip()) for choice in text.split("|"))
        return replace(parameter, choices=choices)
    if parameter.type == "str":
        raise ValueError("text takes choices [a|b], not an interval")
    ends = [end.strip() for end in text.split("..")]
    if len(ends) != 2 or not any(ends):
        raise ValueError("write [low..high], [low..] or [..high]")
    low, high = (parameter.cast(end) if end else None for end in ends)
    if low is not None and high is not None and low > high:
        raise ValueError("the lower end is above the upper end")
    return replace(parameter, low=low, high=high)


def validate(
    parameters: Iterable[Parameter], given: Mapping[Any, Any], *, cast: bool = False
) -> dict[str, Value]:
    """Check given values against a chapter's parameters.

    Parameters
    ----------
    parameters : iterable of Parameter
        What the notebook declares.
    given : mapping
        Names and values; text to be read by the declared type if ``cast``.

    Raises
    ------
    BadInput
        For an unknown name, a wrong type, a value out of range or not finite.
    """
    known = {parameter.name: parameter for parameter in parameters}
    checked: dict[str, Value] = {}
    for name, value in given.items():
        if name not in known:
            hint = suggestion(str(name), known, "parameters")
            raise BadInput(f"unknown parameter {shown(name)}{hint}")
        checked[name] = known[name].cast(value) if cast else known[name].check(value)
    return checked
