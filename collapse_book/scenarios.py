"""Files that give parameters: scenarios, flat files as papermill takes them, grids."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from collapse_book.files import read_yaml
from collapse_book.messages import BadInput, suggestion
from collapse_book.notebooks import Parameter, Value, chapter_parameters, named, shown, validate
from collapse_book.project import Project

ENTRIES = ("description", "chapters", "compare")
MOST_POINTS = 100_000
INTERVAL = re.compile(r"\s*(\S+?)\s*\.\.\s*(\S+)\s*")

Point = dict[str, Value]


@dataclass(frozen=True)
class Scenario:
    """Named parameters: ``chapters`` maps a chapter to the parameters it changes.

    ``compare`` maps keys of numbers that the chapter glues to what they mean; the *What if?* page
    sets them beside their values at the defaults.
    """

    name: str
    description: str
    chapters: dict[str, dict[str, Value]] = field(default_factory=dict)
    compare: dict[str, str] = field(default_factory=dict)

    @property
    def chapter(self) -> str:
        """The one chapter that a *What if?* asks."""
        return next(iter(self.chapters))


@contextlib.contextmanager
def within(place: str) -> Iterator[None]:
    """Say where something is wrong: in which file, in which chapter."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from None


def scenario_names(project: Project) -> list[str]:
    """Names of the scenario files of a project."""
    return sorted(path.stem for path in project.scenarios.glob("*.yml"))


def named_scenario(project: Project, name: str) -> Scenario:
    """Read ``scenarios/NAME.yml``.

    Raises
    ------
    BadInput
        If there is no such scenario, or anything in it is wrong.
    """
    names = scenario_names(project)
    if name not in names:
        raise BadInput(f"no scenario {name!r}{suggestion(name, names, 'scenarios')}")
    return read_scenario(project, project.scenarios / f"{name}.yml")


def read_scenario(project: Project, path: Path) -> Scenario:
    """Read and check a scenario file: chapters, names, types and ranges.

    Raises
    ------
    BadInput
        If anything in it is wrong; the message names file, chapter and parameter.
    """
    name = project.relative(path.resolve())
    content = read_yaml(path, name)
    with within(name):
        return _scenario(project, path.stem, content)


def _scenario(project: Project, name: str, content: Any) -> Scenario:
    if not isinstance(content, dict):
        raise BadInput("it must hold `description:` and `chapters:`")
    for key in content:
        if key not in ENTRIES:
            raise BadInput(f"unknown entry {shown(key)}{suggestion(str(key), ENTRIES, 'entries')}")
    description = content.get("description")
    if not isinstance(description, str) or not description.strip():
        raise BadInput("`description:` must say in one sentence what the scenario shows")
    sections = content.get("chapters")
    if not isinstance(sections, dict) or not sections:
        raise BadInput("`chapters:` must map chapters to their parameters")
    chapters: dict[str, dict[str, Value]] = {}
    for chapter, given in sections.items():
        if chapter not in project.chapters:
            hint = suggestion(str(chapter), project.chapters, "chapters")
            raise BadInput(f"no chapter {shown(chapter)}{hint}")
        with within(chapter):
            chapters[chapter] = _checked(project, chapter, {} if given is None else given)
    compare = content.get("compare", {})
    if not isinstance(compare, dict) or not all(
        isinstance(text, str) for item in compare.items() for text in item
    ):
        raise BadInput("`compare:` must map keys of glued numbers to what they mean")
    return Scenario(name, " ".join(description.split()), chapters, compare)


def _checked(project: Project, chapter: str, given: Any) -> dict[str, Value]:
    if not isinstance(given, dict):
        raise BadInput(f"parameters must be mapped to values, got {shown(given)}")
    return validate(chapter_parameters(project, chapter), given)


def read_parameters(project: Project, chapter: str, path: Path) -> dict[str, Value]:
    """Parameters of a chapter from a flat file, ``n_samples: 50``, or from a scenario.

    Raises
    ------
    BadInput
        If anything in it is wrong, or the scenario does not name the chapter; the message names
        the file, which is standard input if it is ``-``.
    """
    name = _called(path)
    content = read_yaml(path, name)
    known = {parameter.name for parameter in chapter_parameters(project, chapter)}
    with within(name):
        if not isinstance(content, dict) or not content.keys() & (set(ENTRIES) - known):
            return _checked(project, chapter, content)
        chapters = _scenario(project, path.stem, content).chapters
        if chapter not in chapters:
            raise BadInput(f"it says nothing about chapter {chapter!r}")
        return chapters[chapter]


def _called(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def check_scenarios(project: Project) -> list[str]:
    """Problems of all scenario files; ``smoke`` must be there and name every chapter."""
    problems, names = [], scenario_names(project)
    files = [(read_scenario, project.scenarios / f"{name}.yml") for name in names]
    files += [(read_what_if, path) for path in _what_if_files(project)]
    for read, path in files:
        try:
            named = read(project, path).chapters
        except BadInput as error:
            problems.append(str(error))
            continue
        missing = [name for name in project.chapters if name not in named]
        if path.stem == "smoke" and missing:
            problems.append(f"scenarios/smoke.yml does not name {', '.join(missing)}")
    return problems if "smoke" in names else [*problems, "scenarios/smoke.yml does not exist"]


def _what_if_files(project: Project) -> list[Path]:
    return sorted((project.scenarios / "what_if").glob("*.yml"))


def what_ifs(project: Project) -> list[Scenario]:
    """Scenarios of the *What if?* page, by name.

    Raises
    ------
    BadInput
        If anything in one of them is wrong.
    """
    return [read_what_if(project, path) for path in _what_if_files(project)]


def read_what_if(project: Project, path: Path) -> Scenario:
    """Read a scenario that asks a question of one chapter of the book and says what to compare.

    Raises
    ------
    BadInput
        If anything in it is wrong; the message names the file.
    """
    scenario = read_scenario(project, path)
    with within(project.relative(path)):
        if len(scenario.chapters) != 1 or not scenario.compare or "?" not in scenario.description:
            raise BadInput(
                "it must begin with a question, name one chapter, and in `compare:` the numbers "
                "to look at"
            )
        (chapter,) = scenario.chapters
        if chapter not in project.published:
            raise BadInput(f"{chapter} is not in book/_toc.yml")
    return scenario


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
    name = _called(path)
    content = read_yaml(path, name)
    with within(name):
        return _grid(content, {parameter.name: parameter for parameter in parameters})


def _grid(content: Any, known: Mapping[str, Parameter]) -> Grid:
    blocks = content if isinstance(content, list) else [content]
    if not blocks or not all(isinstance(block, dict) and block for block in blocks):
        raise BadInput("it must map parameters to lists of values, or be a list of such mappings")
    axes: list[dict[str, list[Value]]] = []
    count = 0
    for block in blocks:
        axes.append({name: _values(known, name, given) for name, given in block.items()})
        count += prod(len(values) for values in axes[-1].values())
        if count > MOST_POINTS:
            raise BadInput(f"it has more than {MOST_POINTS:,} points")
    defaults = {name: parameter.default for name, parameter in known.items()}
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
    parameter, entries = named(name, known), given if isinstance(given, list) else [given]
    if not entries:
        raise BadInput(f"{name} must have at least one value, got []")
    values = itertools.chain.from_iterable(_entry(parameter, entry) for entry in entries)
    return list(itertools.islice(values, MOST_POINTS + 1))


def _entry(parameter: Parameter, given: Any) -> Sequence[Value]:
    if parameter.type == "int" and isinstance(given, str) and (ends := INTERVAL.fullmatch(given)):
        low, high = parameter.cast(ends[1]), parameter.cast(ends[2])
        if low > high:
            raise BadInput(f"{parameter.name}: {shown(given)} must go up")
        return range(low, high + 1)
    return [parameter.check(given)]
