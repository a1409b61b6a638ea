"""Grids: files that say with which parameters a chapter is to be run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from collapse_book.errors import BadInput, suggestion
from collapse_book.files import read_yaml
from collapse_book.parameters import Parameter, Value

MAX_POINTS = 100_000
INTERVAL = re.compile(r"\s*([+-]?\d+)\s*\.\.\s*([+-]?\d+)\s*")

Point = dict[str, Value]


@dataclass(frozen=True)
class Grid:
    """The points of a sweep; each holds the value of every parameter of the chapter.

    Attributes
    ----------
    points : list of dict
        In the order of the file, without repetitions.
    varied : tuple of str
        Parameters with more than one value, in the order of the file; of a single point, those
        that the file names.
    """

    points: list[Point]
    varied: tuple[str, ...]

    def label(self, point: Mapping[str, Value]) -> str:
        """What tells this point from the others."""
        return ", ".join(f"{name}={point[name]}" for name in self.varied)


def read_grid(path: Path, parameters: Sequence[Parameter]) -> Grid:
    """Read a grid file and check every value against the chapter's parameters.

    A mapping is the product of its values: each a list or one value, and among integers
    ``low..high`` stands for all between two ends. A list of mappings is all of their points.
    What is not named keeps its default.

    Raises
    ------
    BadInput
        If anything in it is wrong; the message names file and parameter.
    """
    if not path.is_file():
        raise BadInput(f"no file {path}")
    content = read_yaml(path, str(path))
    blocks = content if isinstance(content, list) else [content]
    if not blocks or not all(isinstance(block, dict) and block for block in blocks):
        raise BadInput(
            f"{path} must map parameters to lists of values, or be a list of such mappings"
        )
    known = {parameter.name: parameter for parameter in parameters}
    defaults = {name: parameter.default for name, parameter in known.items()}
    try:
        axes = [
            {name: _values(known, name, given) for name, given in block.items()} for block in blocks
        ]
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    count = sum(prod(len(values) for values in block.values()) for block in axes)
    if count > MAX_POINTS:
        raise BadInput(f"{path} has {count:,} points; at most {MAX_POINTS:,} are allowed")
    points = [
        defaults | dict(zip(block, combination, strict=True))
        for block in axes
        for combination in itertools.product(*block.values())
    ]
    unique = list({tuple(point.items()): point for point in points}.values())
    named = tuple(dict.fromkeys(name for block in axes for name in block))
    varied = tuple(name for name in named if len({point[name] for point in unique}) > 1)
    return Grid(unique, varied or named)


def _values(known: Mapping[str, Parameter], name: Any, given: Any) -> list[Value]:
    if name not in known:
        raise BadInput(f"unknown parameter {name!r}" + suggestion(str(name), known, "parameters"))
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise BadInput(f"{name} must have at least one value, got []")
    return [value for entry in entries for value in _entry(known[name], entry)]


def _entry(parameter: Parameter, given: Any) -> list[Value]:
    if parameter.type == "int" and isinstance(given, str) and (ends := INTERVAL.fullmatch(given)):
        low, high = int(ends[1]), int(ends[2])
        if not 0 <= high - low < MAX_POINTS:
            raise BadInput(
                f"{parameter.name}: {given} must go up, over at most {MAX_POINTS:,} values"
            )
        parameter.check(low)
        parameter.check(high)
        return list(range(low, high + 1))
    return [parameter.check(given)]
