"""Notebooks as files: their cells, their typed parameters, the cell that Colab needs."""

from __future__ import annotations

import ast
import copy
import io
import json
import math
import os
import re
import reprlib
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collapse_book.files import read_scalar
from collapse_book.messages import BadInput, suggestion
from collapse_book.project import Project

Notebook = dict[str, Any]
Cell = dict[str, Any]
Value = int | float | str | bool

INSTALL_TAG = "colab-install"
PARAMETERS_TAG = "parameters"
INJECTED_TAG = "injected-parameters"
#: The cell tagged `colab-install` as git keeps it: it names no address, so no copy is misled.
INSTALL_CELL = (Path(__file__).parent / "templates" / "install.py.j2").read_text("utf-8").rstrip()

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
NOUNS = {"int": "an integer", "float": "a finite number", "str": "text", "bool": "true or false"}
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


def read_notebook(path: Path) -> Notebook:
    """Load a notebook with every cell's source joined to one string.

    Raises
    ------
    BadInput
        If the file is not a notebook.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is not a notebook: {error}") from None
    match notebook:
        case {"cells": [*cells], "metadata": {}} if all(map(_is_cell, cells)):
            for cell in cells:
                cell["source"] = joined(cell["source"])
            return notebook
    raise BadInput(f"{path.name} is not a notebook: it lacks cells, or a cell its source")


def _is_cell(cell: Any) -> bool:
    match cell:
        case {"cell_type": str(), "source": str() | [*_] as source, "metadata": {}}:
            return all(isinstance(line, str) for line in source)
    return False


def dump_notebook(notebook: Notebook) -> str:
    """Write a notebook as Jupyter does, so that a later save changes little."""
    cells = [cell | {"source": cell["source"].splitlines(True)} for cell in notebook["cells"]]
    whole = notebook | {"cells": cells}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def joined(text: str | list[str]) -> str:
    """Notebook text, which may be stored as a list of lines, as one string."""
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> list[str]:
    """Tags of a cell."""
    return cell.get("metadata", {}).get("tags", [])


def is_code(cell: Cell) -> bool:
    """Whether a cell holds code to execute; an empty code cell does not."""
    return cell["cell_type"] == "code" and bool(cell["source"].strip())


def code_cells(notebook: Notebook, without: str = "") -> list[Cell]:
    """Cells to execute, less those with a tag."""
    return [cell for cell in notebook["cells"] if is_code(cell) and without not in tags(cell)]


def first_line(cell: Cell) -> str:
    """First line that says something, shortened: it tells an author which cell is meant."""
    line = next(filter(None, map(str.strip, cell["source"].splitlines())), "(empty)")
    return line if len(line) <= 60 else line[:57] + "..."


def title(notebook: Notebook) -> str:
    """Text of the first heading."""
    text = "\n".join(c["source"] for c in notebook["cells"] if c["cell_type"] == "markdown")
    found = re.search(r"^# (.*)", text, re.MULTILINE)
    return found[1].strip() if found else ""


def clean_copy(notebook: Notebook) -> Notebook:
    """Copy of a notebook without outputs, as it is kept in git."""
    clean = copy.deepcopy(notebook)
    for cell in clean["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return clean


# ---------------------------------------------------------------- parameters


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
        low, high = (end if end is None else _number(end) for end in (self.low, self.high))
        if low and high:
            return f"{words} from {low} to {high}"
        return f"{words} >= {low}" if low else f"{words} <= {high}" if high else words

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
        wrong, more = type(value) is not TYPES[self.type], ""
        if not wrong and self.type == "int" and abs(value) > LARGEST:
            wrong, more = True, f" and at most {LARGEST:,} in size"
        elif not wrong and self.type == "str" and HALF.search(value):
            wrong, more = True, " in Unicode"
        elif not wrong:
            wrong = isinstance(value, float) and not math.isfinite(value)
            wrong |= self.low is not None and value < self.low
            wrong |= self.high is not None and value > self.high
            wrong |= bool(self.choices) and value not in self.choices
        if wrong:
            raise BadInput(f"{self.name} must be {self.allowed}{more}, got {shown(given)}")
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
        case ast.AnnAssign(ast.Name(name), ast.Name(kind), ast.expr() as expression):
            pass
        case _:
            raise ValueError("write `name: type = value  # help [range]`")
    if kind not in TYPES:
        raise ValueError(f"type of {name} must be one of {', '.join(TYPES)}, got {kind}")
    try:
        default = ast.literal_eval(expression)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{name} must be a literal, not a derived value") from None
    place = ""
    if kind == "str" and (found := PLACE.search(comment)):
        place, comment = found[1], PLACE.sub("", comment)
    help_text = RANGE.sub("", comment)
    if not help_text:
        raise ValueError(f"{name} needs a comment that says what it is")
    parameter = Parameter(name, kind, default, help_text, place=place)
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
        parameter = named(name, known)
        checked[name] = parameter.cast(value) if cast else parameter.check(value)
    return checked


def named(name: Any, known: Mapping[str, Parameter]) -> Parameter:
    """The parameter of this name, or `BadInput`."""
    if name not in known:
        hint = suggestion(str(name), known, "parameters")
        raise BadInput(f"unknown parameter {shown(name)}{hint}")
    return known[name]


def parameters_of(notebook: Notebook) -> list[Parameter]:
    """Typed parameters of a notebook.

    Raises
    ------
    ValueError
        If there is not exactly one cell tagged ``parameters`` or it is malformed.
    """
    cells = [cell for cell in notebook["cells"] if PARAMETERS_TAG in tags(cell)]
    if len(cells) != 1:
        raise ValueError(f"needs one cell tagged {PARAMETERS_TAG!r}, has {len(cells)}")
    return read_cell(cells[0]["source"])


def chapter_parameters(project: Project, chapter: str) -> list[Parameter]:
    """Typed parameters of a chapter.

    Raises
    ------
    BadInput
        If the chapter does not exist or its parameters cell is malformed.
    """
    path = project.notebook(chapter)
    try:
        return parameters_of(read_notebook(path))
    except ValueError as error:
        raise BadInput(f"{project.relative(path)}: parameters cell: {error}") from None
