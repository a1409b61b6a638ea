"""Scenario files: a sentence, and for each chapter the parameters it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from collapse_book.errors import BadInput, suggestion
from collapse_book.files import read_yaml
from collapse_book.notebooks import chapter_parameters
from collapse_book.parameters import Value, validate
from collapse_book.project import Project

ENTRIES = ("description", "chapters", "compare")


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
    path = project.scenarios / f"{name}.yml"
    if not path.is_file():
        hint = suggestion(name, scenario_names(project), "scenarios")
        raise BadInput(f"no scenario {name!r}{hint}")
    return read_scenario(project, path)


def read_scenario(project: Project, path: Path) -> Scenario:
    """Read and check a scenario file: chapters, names, types and ranges.

    Raises
    ------
    BadInput
        If anything in it is wrong; the message names file, chapter and parameter.
    """
    name = project.relative(path.resolve())
    if not path.is_file():
        known = [project.relative(file) for file in sorted(project.scenarios.rglob("*.yml"))]
        same = [file for file in known if Path(file).stem == path.stem]
        hint = f"; did you mean {same[0]}?" if same else ""
        raise BadInput(f"no file {path}{hint}")
    content = read_yaml(path, name)
    if not isinstance(content, dict):
        raise BadInput(f"{name} must hold `description:` and `chapters:`")
    for key in content:
        if key not in ENTRIES:
            hint = suggestion(str(key), ENTRIES, "entries")
            raise BadInput(f"{name}: unknown entry {key!r}{hint}")
    description = content.get("description")
    if not isinstance(description, str) or not description.strip():
        raise BadInput(f"{name}: `description:` must say in one sentence what the scenario shows")
    sections = content.get("chapters")
    if not isinstance(sections, dict) or not sections:
        raise BadInput(f"{name}: `chapters:` must map chapters to their parameters")
    chapters: dict[str, dict[str, Value]] = {}
    for chapter, given in sections.items():
        if chapter not in project.chapters:
            hint = suggestion(str(chapter), project.chapters, "chapters")
            raise BadInput(f"{name}: no chapter {chapter!r}{hint}")
        if given is None:
            given = {}
        if not isinstance(given, dict):
            raise BadInput(f"{name}: {chapter} must map parameters to values, got {given!r}")
        try:
            chapters[chapter] = validate(chapter_parameters(project, chapter), given)
        except BadInput as error:
            raise BadInput(f"{name}: {chapter}: {error}") from None
    compare = content.get("compare", {})
    if not isinstance(compare, dict) or not all(
        isinstance(text, str) for item in compare.items() for text in item
    ):
        raise BadInput(f"{name}: `compare:` must map keys of glued numbers to what they mean")
    return Scenario(path.stem, " ".join(description.split()), chapters, compare)


def check_scenarios(project: Project) -> list[str]:
    """Problems of all scenario files; ``smoke`` must be there and name every chapter."""
    problems: list[str] = []
    scenarios: dict[str, Scenario] = {}
    for name in scenario_names(project):
        try:
            scenarios[name] = named_scenario(project, name)
        except BadInput as error:
            problems.append(str(error))
    if "smoke" not in scenario_names(project):
        problems.append("scenarios/smoke.yml does not exist")
    elif "smoke" in scenarios:
        missing = [name for name in project.chapters if name not in scenarios["smoke"].chapters]
        if missing:
            problems.append(f"scenarios/smoke.yml does not name {', '.join(missing)}")
    for path in _what_if_files(project):
        try:
            read_what_if(project, path)
        except BadInput as error:
            problems.append(str(error))
    return problems


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
    name = project.relative(path)
    if len(scenario.chapters) != 1 or not scenario.compare or "?" not in scenario.description:
        raise BadInput(
            f"{name} must begin with a question, name one chapter, and in `compare:` the numbers "
            "to look at"
        )
    (chapter,) = scenario.chapters
    if chapter not in project.published:
        raise BadInput(f"{name}: {chapter} is not in book/_toc.yml")
    return scenario
