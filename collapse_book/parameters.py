"""Typed parameters: read from a notebook's cell, checked before a kernel starts."""

from __future__ import annotations

import ast
import io
import math
import os
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collapse_book.errors import BadInput, suggestion

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
RANGE = re.compile(r"\s*\[([^\[\]]*)\]\s*$")
INTEGER = re.compile(r"[+-]?\d+(_\d+)*")


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

    def check(self, value: Any) -> Value:
        """Return ``value`` in the declared type.

        An integer is accepted for a float; nothing else is converted.

        Raises
        ------
        BadInput
            If the type is wrong, the number is not finite, or the value is out of range.
        """
        if self.type == "float" and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not TYPES[self.type]:
            raise BadInput(self._refusal(value) + self._yaml_hint(value))
        if self.type == "float" and not math.isfinite(value):
            raise BadInput(self._refusal(value))
        outside = (self.low is not None and value < self.low) or (
            self.high is not None and value > self.high
        )
        if outside or (self.choices and value not in self.choices):
            raise BadInput(self._refusal(value))
        if self.place and value not in ("", self.default):
            # The kernel works elsewhere: a path counts from where the user stands.
            path = os.path.abspath(os.path.expanduser(value))
            if self.place == "folder" or os.path.exists(path):
                return path
        return value

    def cast(self, text: str) -> Value:
        """Read command-line text by the declared type, then `check` it."""
        value: Any = text
        if self.type == "int" and INTEGER.fullmatch(text):
            value = int(text)
        elif self.type == "float":
            try:
                value = float(text)
            except ValueError:
                raise BadInput(self._refusal(text)) from None
        elif self.type == "bool" and text.lower() in ("true", "false"):
            value = text.lower() == "true"
        return self.check(value)

    def _refusal(self, value: Any) -> str:
        return f"{self.name} must be {self.allowed}, got {value!r}"

    def _yaml_hint(self, value: Any) -> str:
        """YAML 1.1 reads 1e-3 as text: say how to write the number."""
        if self.type != "float" or not isinstance(value, str):
            return ""
        try:
            number = float(value)
        except ValueError:
            return ""
        if not math.isfinite(number):
            return ""
        return f" (YAML reads {value} as text: write {yaml_float(value)})"


def yaml_float(text: str) -> str:
    """Spell a number so that YAML 1.1 reads a number: ``1e-3`` becomes ``1.0e-3``."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}e{int(exponent):+d}" if exponent else mantissa


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
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno} is not Python: {error.msg}") from None
    comments = {
        token.start[0]: token.string.lstrip("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = [_read_line(node, comments.get(node.end_lineno or 0, "")) for node in tree.body]
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is defined twice")
    return parameters


def _read_line(node: ast.stmt, comment: str) -> Parameter:
    where = f"line {node.lineno}"
    match node:
        case ast.AnnAssign(
            target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as expression
        ):
            pass
        case _:
            raise ValueError(f"{where} must read `name: type = value  # help [range]`")
    if kind not in TYPES:
        raise ValueError(f"{where}: type of {name} must be one of {', '.join(TYPES)}, got {kind}")
    try:
        default = ast.literal_eval(expression)
    except ValueError:
        raise ValueError(f"{where}: {name} must be a literal, not a derived value") from None
    place = PLACE.search(comment) if kind == "str" else None
    comment = PLACE.sub("", comment) if place else comment
    found = RANGE.search(comment)
    help_text = RANGE.sub("", comment)
    if not help_text:
        raise ValueError(f"{where}: {name} needs a comment that says what it is")
    low = high = None
    choices: tuple[Value, ...] = ()
    if found:
        if kind == "bool":
            raise ValueError(f"{where}: {name} is a bool and takes no range")
        try:
            low, high, choices = _read_range(found[1], kind)
        except ValueError as error:
            raise ValueError(f"{where}: range [{found[1]}] of {name}: {error}") from None
    parameter = Parameter(name, kind, default, help_text, low, high, choices)
    try:
        default = parameter.check(default)
    except BadInput as error:
        raise ValueError(f"{where}: default of {error}") from None
    return Parameter(name, kind, default, help_text, low, high, choices, place[1] if place else "")


def _read_range(text: str, kind: str) -> tuple[float | None, float | None, tuple[Value, ...]]:
    if ".." in text:
        if kind == "str":
            raise ValueError("text takes choices [a|b], not an interval")
        ends = text.split("..")
        if len(ends) != 2 or not any(end.strip() for end in ends):
            raise ValueError("write [low..high], [low..] or [..high]")
        read = TYPES[kind]
        low, high = (read(end) if end.strip() else None for end in ends)
        if low is not None and high is not None and low > high:
            raise ValueError("the lower end is above the upper end")
        return low, high, ()
    read = TYPES[kind]
    return None, None, tuple(read(choice.strip()) for choice in text.split("|"))


def validate(
    parameters: Iterable[Parameter], given: Mapping[str, Any], *, cast: bool = False
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
            raise BadInput(
                f"unknown parameter {name!r}" + suggestion(str(name), known, "parameters")
            )
        checked[name] = known[name].cast(value) if cast else known[name].check(value)
    return checked
