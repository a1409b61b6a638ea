"""The way through: execute what changed, gate, stage, build the site."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collapse_book import copies
from collapse_book.cache import (
    Store,
    code_inputs,
    data_inputs,
    expected_seconds,
    key_of,
    remember_seconds,
    values_of,
)
from collapse_book.closure import Library
from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.execute import Options, Outcome, Task, execute
from collapse_book.files import remove_parts, write_changed
from collapse_book.gate import Finding, check_book
from collapse_book.notebooks import Notebook, dump_notebook, parameters_of, read_notebook
from collapse_book.pages import merge, what_if_page, write_pages
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.scenarios import Scenario, what_ifs
from collapse_book.site import build_site, is_current, recover

#: How many executed notebooks of a chapter stay in the store of the book.
KEEP = 20


@dataclass(frozen=True)
class Run:
    """A chapter under parameters; those that are not given have their defaults."""

    name: str
    chapter: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Runs:
    """What each of some runs depends on, and their executed copies in one store.

    Chapters, what-ifs and points of a sweep are all runs. Notebooks and library are read once,
    so that one build sees one state of the files.
    """

    def __init__(self, project: Project, store: Store, runs: Iterable[Run]) -> None:
        self.project = project
        self.store = store
        self.runs = {run.name: run for run in runs}
        self._library = Library(project.package)
        self._notebooks: dict[str, Notebook] = {}
        self._code: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, Any]] = {}

    def notebook(self, name: str) -> Notebook:
        """The notebook of a run, as it is in git."""
        chapter = self.runs[name].chapter
        if chapter not in self._notebooks:
            self._notebooks[chapter] = read_notebook(self.project.notebook(chapter))
            self._code[chapter] = code_inputs(self._notebooks[chapter], self._library)
        return self._notebooks[chapter]

    def key(self, name: str) -> str:
        """Hash of everything that the outputs of a run depend on."""
        if name not in self._inputs:
            notebook, run = self.notebook(name), self.runs[name]
            values = values_of(notebook, run.parameters)
            data = data_inputs(parameters_of(notebook), values)
            self._inputs[name] = {**self._code[run.chapter], "parameters": values, "data": data}
        return key_of(self._inputs[name])

    def is_default(self, name: str) -> bool:
        """Whether a run has every parameter at its default."""
        notebook = self.notebook(name)
        return values_of(notebook, self.runs[name].parameters) == values_of(notebook, {})

    def place(self, name: str) -> str:
        """Where the executed copy is, or will be."""
        return self.store.place(self.store.name(self.runs[name].chapter, self.key(name)))

    def raw(self, name: str) -> Notebook | None:
        """The executed copy of a run, or None."""
        return self.store.get(self.runs[name].chapter, self.key(name))

    def executed(self, name: str) -> Notebook | None:
        """The current notebook with the outputs of its executed copy, or None."""
        copy = self.raw(name)
        return None if copy is None else merge(self.notebook(name), copy)

    def finished(self, names: Iterable[str]) -> set[str]:
        """Runs that have an executed copy."""
        names = list(names)
        chapters = {self.runs[name].chapter for name in names}
        keys = {chapter: self.store.keys(chapter) for chapter in chapters}
        return {name for name in names if self.key(name) in keys[self.runs[name].chapter]}

    def execute(
        self,
        names: Sequence[str],
        options: Options,
        report: Report,
        look: Callable[[Notebook], None] = lambda notebook: None,
    ) -> dict[str, str]:
        """Execute the runs that changed, and store each as soon as it has finished.

        Parameters
        ----------
        names : sequence of str
        options : Options
        report : Report
        look : callable
            Is given each notebook after it is stored; what it raises ends all.

        Returns
        -------
        dict
            Message of each run that failed, in the order of ``names``.
        """
        done = set() if options.force else self.finished(names)
        # A what-if that changes nothing, say, is the same run.
        same = {(self.runs[name].chapter, self.key(name)): name for name in reversed(names)}
        todo = [name for name in reversed(same.values()) if name not in done]
        count = counted(len(names), "notebook")
        if not todo:
            report.line(f"nothing to execute: {count} unchanged")
            return {}
        report.line(f"executing {len(todo)} of {count}, {len(done)} unchanged")
        seconds = expected_seconds(self.project)
        tasks = [
            Task(name, self.notebook(name), self.runs[name].parameters,
                 seconds.get(self.runs[name].chapter))
            for name in todo
        ]  # fmt: skip
        packages = {k: v for name in todo for k, v in self._inputs[name]["packages"].items()}
        failures: dict[str, str] = {}
        run = execute(tasks, options, packages)
        with report.executing(len(tasks)), contextlib.closing(run) as outcomes:
            for outcome in outcomes:
                took = outcome.notebook["metadata"].get("collapse_book", {}).get("seconds", 0.0)
                error = outcome.error or self._changed(outcome.name)
                report.finished(outcome.name, error, took)
                if error is not None:
                    failures[outcome.name] = self._keep_failed(outcome, error)
                    continue
                self.store.put(
                    self.runs[outcome.name].chapter, self.key(outcome.name), outcome.notebook
                )
                self.store.remove(self._failed(outcome.name))
                if self.is_default(outcome.name):
                    remember_seconds(self.project, self.runs[outcome.name].chapter, took)
                look(outcome.notebook)
        return {name: failures[name] for name in names if name in failures}

    def _changed(self, name: str) -> str | None:
        """A message if something was edited during the run: whose outputs would these be?

        Data that the run has fetched is not an edit: it becomes part of the key.
        """
        inputs = self._inputs[name]
        data = data_inputs(parameters_of(self.notebook(name)), inputs["parameters"])
        edited = [path for path, digest in inputs["data"].items() if data.get(path) != digest]
        edited += self._library.changed(inputs["library"])
        inputs["data"] = data
        return f"{edited[0]} was edited while the notebook ran: run it again" if edited else None

    def _failed(self, name: str) -> str:
        return f"failed/{name if name.isidentifier() else self.key(name)}.ipynb"

    def _keep_failed(self, outcome: Outcome, error: str) -> str:
        """Keep a notebook as far as it ran; the line that names it."""
        name = self._failed(outcome.name)
        self.store.write(name, dump_notebook(outcome.notebook).encode())
        where = self.store.place(name)
        if Path(where).is_relative_to(self.project.root):
            where = self.project.relative(Path(where))
        return f"{outcome.name}, {error} (notebook as far as it ran: {where})"


def book_runs(
    project: Project,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    questions: Iterable[Scenario] = (),
) -> Runs:
    """One run of each chapter and one of each what-if, in the store of the book.

    Parameters
    ----------
    parameters : mapping, optional
        What chapters have in the place of their defaults.
    questions : iterable of Scenario
        Each names one chapter; its run is called ``what_if/NAME``.
    """
    given = parameters or {}
    runs = [Run(chapter, chapter, given.get(chapter, {})) for chapter in project.chapters]
    for question in questions:
        ((chapter, values),) = question.chapters.items()
        runs.append(Run(f"what_if/{question.name}", chapter, values))
    return Runs(project, Store(project.build, keep=KEEP), runs)


def build_book(
    project: Project, chapters: Sequence[str], options: Options, report: Report
) -> Path | None:
    """Execute chapters with their defaults, gate, and build the site if all are executed.

    Without names the chapters are those of the table of contents; a draft is executed by name.
    If some fail, the pages of the others become a preview.

    Returns
    -------
    Path or None
        The front page, or None if other chapters still have to be executed.

    Raises
    ------
    BuildFailed
        After all have run, if one failed; the message has a line for each.
    """
    with project.lock():
        tidy(project)
        if project.unwritten:
            names = ", ".join(project.unwritten)
            raise BuildFailed(f"book/_toc.yml names notebooks that do not exist: {names}")
        questions = {f"what_if/{question.name}": question for question in what_ifs(project)}
        runs = book_runs(project, questions=questions.values())
        names = list(chapters or project.published)
        others = [name for name in project.published if name not in names]
        waiting = [name for name in others if name not in runs.finished(others)]
        if not waiting:
            names += questions
        failures = runs.execute(names, options, report)
        done, refused = _gated(runs, [name for name in names + others if name not in failures])
        failures |= refused
        if waiting and not failures:
            report.line(f"site not built: still to be executed: {', '.join(waiting)}")
            return None
        notebooks = {name: done[name] for name in project.published if name in done}
        outcomes = {question.name: done[name] for name, question in questions.items()
                    if name in done and next(iter(question.chapters)) in done}  # fmt: skip
        asked = [question for question in questions.values() if question.name in outcomes]
        missing = {name: failures[name] for name in project.published if name in failures}
        if not failures:
            return press_site(project, notebooks, asked, outcomes, report)
        if notebooks and not waiting:
            try:
                front = press_site(project, notebooks, asked, outcomes, report, missing)
                report.line(f"preview of the pages that are there: {front}")
            except BuildFailed as error:
                report.line(f"no preview: {error}")
        raise BuildFailed("\n".join(failures.values()))


def _gated(runs: Runs, names: Iterable[str]) -> tuple[dict[str, Notebook], dict[str, str]]:
    """Executed notebooks that may reach the book, and the findings about those that may not."""
    merged = {name: runs.executed(name) for name in names}
    there = {name: notebook for name, notebook in merged.items() if notebook is not None}
    chapters = {name: notebook for name, notebook in there.items() if runs.is_default(name)}
    # Claims are unique among the chapters; another run of a chapter states the same ones.
    findings = check_book(chapters, strict=True)
    for name in there.keys() - chapters.keys():
        findings += check_book({name: there[name]}, strict=False)
    refused: dict[str, str] = {}
    for finding in findings:
        before = refused.get(finding.chapter)
        refused[finding.chapter] = f"{before}\n{finding}" if before else str(finding)
    return {name: nb for name, nb in there.items() if name not in refused}, refused


def press_site(
    project: Project,
    notebooks: Mapping[str, Notebook],
    scenarios: Sequence[Scenario],
    outcomes: Mapping[str, Notebook],
    report: Report,
    missing: Mapping[str, str] | None = None,
) -> Path:
    """Stage executed chapters and build the site from them, and from what the what-ifs gave.

    A site that was built from the same pages stays as it is. With chapters that are missing, or
    an empty mapping of them, it is a preview.
    """
    write_pages(project, notebooks)
    write_changed(project.generated / "what_if.md", what_if_page(notebooks, scenarios, outcomes))
    if missing is None and is_current(project):
        report.line("the site is up to date")
        return project.html / "index.html"
    report.line("building the site")
    return build_site(project, missing=missing)


def build_lite(project: Project, report: Report) -> Path:
    """Build JupyterLite, and the site again with the links to it.

    Raises
    ------
    BadInput
        If there is no site of these pages, or the extra ``lite`` is missing.
    """
    with project.lock():
        if not is_current(project):
            raise BadInput("the site is not there or not up to date: run `collapse-book build`")
        report.line("building JupyterLite")
        copies.build_lite(project)
        chapters = copies.current_chapters(project)
        report.line(f"{len(chapters)} chapters run in a browser: {', '.join(chapters)}")
        return build_site(project)


def build_scenario(
    project: Project,
    chapters: Sequence[str],
    scenario: Scenario,
    options: Options,
    report: Report,
) -> Path:
    """Execute chapters with the parameters of a scenario, and gate; the site stays as it is.

    Returns
    -------
    Path
        Folder of the executed notebooks.
    """
    with project.lock():
        tidy(project)
        names = chapters or [name for name in project.chapters if name in scenario.chapters]
        runs = book_runs(project, scenario.chapters)
        failures = runs.execute(names, options, report)
        failures |= _gated(runs, [name for name in names if name not in failures])[1]
        if failures:
            raise BuildFailed("\n".join(failures.values()))
        return project.build / "executed"


def run_chapter(
    project: Project,
    chapter: str,
    parameters: Mapping[str, Any],
    options: Options,
    report: Report,
) -> tuple[Path, list[Finding]]:
    """Execute one chapter, with its own parameters, and look at it as the gate does.

    With its defaults it is the book's own run, which the next build then need not repeat.

    Returns
    -------
    path : Path
        The executed notebook, with papermill's cell of injected parameters.
    findings : list of Finding
    """
    with project.lock():
        tidy(project)
        runs = book_runs(project, {chapter: parameters})
        failures = runs.execute([chapter], options, report)
        if failures:
            raise BuildFailed(failures[chapter])
        merged = runs.executed(chapter)
        assert merged is not None
        findings = check_book({chapter: merged}, strict=runs.is_default(chapter))
        return Path(runs.place(chapter)), findings


def tidy(project: Project) -> None:
    """Clear away what a killed build left half done."""
    for folder in (project.build, project.staged, project.generated, project.vendor):
        if folder.is_dir():
            remove_parts(folder)
    recover(project.html)
