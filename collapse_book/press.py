"""The way through: execute what changed, gate, stage, build the site."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collapse_book import lite
from collapse_book.cache import Store, cache_key
from collapse_book.closure import Library
from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.execute import DaskEngine, Engine, InlineEngine, Outcome, Task, cores
from collapse_book.files import sweep_parts, write_atomic, write_changed
from collapse_book.gate import Finding, check_book
from collapse_book.notebooks import Notebook, dump_notebook, read_notebook
from collapse_book.pages import merge, write_pages
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.scenarios import Scenario, what_ifs
from collapse_book.site import build_site, is_current, recover
from collapse_book.what_if import what_if_page

Parameters = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Options:
    """How to execute: worker processes, seconds per cell, whether to ignore the cache."""

    jobs: int | None = None
    timeout: float | None = None
    force: bool = False
    scheduler: str | None = None

    def engine(self, tasks: int) -> Engine:
        """In this process for one notebook, a cluster for several."""
        if self.scheduler is None and (tasks == 1 or self.jobs == 1):
            return InlineEngine()
        return DaskEngine(min(self.jobs or cores(), tasks), self.scheduler)


class Chapters:
    """Chapters of one set of parameters: their keys, and their executed copies in one store.

    Notebooks and keys are read once, so that one build sees one state of the files. A run whose
    name is not its chapter's, such as a what-if, has its chapter in ``chapter_of``.
    """

    def __init__(
        self,
        project: Project,
        store: Store,
        parameters: Parameters,
        chapter_of: Mapping[str, str] | None = None,
    ) -> None:
        self.project = project
        self.store = store
        self.parameters = parameters
        self.chapter_of = chapter_of or {}
        self._library = Library(project.package)
        self._tasks: dict[str, Task] = {}
        self._keys: dict[str, str] = {}

    def task(self, chapter: str) -> Task:
        """What there is to execute for a chapter."""
        if chapter not in self._tasks:
            source = self.chapter_of.get(chapter, chapter)
            notebook = read_notebook(self.project.notebook(source))
            seconds = self.store.seconds().get(chapter)
            task = Task(chapter, notebook, dict(self.parameters.get(chapter, {})), seconds)
            self._keys[chapter] = cache_key(
                self.project, task.notebook, task.parameters, self._library
            )
            self._tasks[chapter] = task
        return self._tasks[chapter]

    def path(self, chapter: str) -> Path:
        """Where the executed copy of a chapter is, or will be."""
        self.task(chapter)
        return self.store.path(chapter, self._keys[chapter])

    def executed(self, chapter: str) -> Notebook | None:
        """Notebook with the outputs of its executed copy, or None if it has none."""
        task = self.task(chapter)
        copy = self.store.get(chapter, self._keys[chapter])
        return None if copy is None else merge(task.notebook, copy)

    def execute(self, chapters: Sequence[str], options: Options, report: Report) -> list[str]:
        """Execute the chapters that changed; store each as soon as it has finished.

        Returns
        -------
        list of str
            The chapters that were executed.

        Raises
        ------
        BuildFailed
            After all have run, if one failed; the message has a line for each.
        """
        tasks = [
            self.task(chapter)
            for chapter in chapters
            if options.force or not self.path(chapter).is_file()
        ]
        if not tasks:
            report.line(f"nothing to execute: {counted(len(chapters), 'notebook')} unchanged")
            return []
        count = counted(len(tasks), "notebook")
        report.line(f"executing {count}, {len(chapters) - len(tasks)} unchanged")
        failures: list[str] = []
        with options.engine(len(tasks)) as engine, report.executing(len(tasks)):
            run = engine.run(tasks, timeout=options.timeout, started=report.started)
            with contextlib.closing(run) as outcomes:
                for outcome in outcomes:
                    error = outcome.error or self._moved(outcome.name)
                    report.finished(outcome.name, error)
                    if error is None:
                        self.store.put(outcome.name, self._keys[outcome.name], outcome.notebook)
                    else:
                        failures.append(self._failure(outcome, error))
        if failures:
            raise BuildFailed("\n".join(failures))
        return [task.name for task in tasks]

    def _moved(self, chapter: str) -> str | None:
        """A message if the library was edited during the run: whose outputs would these be?"""
        task, library = self.task(chapter), Library(self.project.package)
        key = cache_key(self.project, task.notebook, task.parameters, library)
        same = key == self._keys[chapter]
        return (
            None if same else f"{library.package} was edited while the notebook ran: run it again"
        )

    def _failure(self, outcome: Outcome, error: str) -> str:
        path = self.project.build / "failed" / f"{outcome.name}.ipynb"
        write_atomic(path, dump_notebook(outcome.notebook))
        where = self.project.relative(path)
        return f"{outcome.name}, {error} (notebook as far as it ran: {where})"


def book_chapters(project: Project) -> Chapters:
    """The chapters with their default parameters: those that the site shows."""
    return Chapters(project, Store(project.build / "executed"), {})


def what_if_runs(project: Project, scenarios: Sequence[Scenario]) -> Chapters:
    """The what-ifs: one run each, named after the scenario."""
    return Chapters(
        project,
        Store(project.build / "what_if", keep=1),
        {scenario.name: next(iter(scenario.chapters.values())) for scenario in scenarios},
        {scenario.name: next(iter(scenario.chapters)) for scenario in scenarios},
    )


def gate(notebooks: Mapping[str, Notebook], *, strict: bool) -> None:
    """Refuse executed notebooks that may not reach the book.

    Raises
    ------
    BuildFailed
        With one line for each finding.
    """
    findings = check_book(notebooks, strict=strict)
    if findings:
        raise BuildFailed("\n".join(str(finding) for finding in findings))


def build_book(
    project: Project, chapters: Sequence[str], options: Options, report: Report
) -> Path | None:
    """Execute chapters with their defaults, gate, and build the site if all are executed.

    Without names the chapters are those of the table of contents; a draft is executed by name.

    Returns
    -------
    Path or None
        The front page, or None if other chapters still have to be executed.
    """
    with project.lock():
        tidy(project)
        book = book_chapters(project)
        if project.unwritten:
            names = ", ".join(project.unwritten)
            raise BuildFailed(f"book/_toc.yml names notebooks that do not exist: {names}")
        scenarios = what_ifs(project)
        book.execute(chapters or project.published, options, report)
        wanted = dict.fromkeys([*project.published, *chapters])
        merged = {chapter: book.executed(chapter) for chapter in wanted}
        done = {chapter: notebook for chapter, notebook in merged.items() if notebook is not None}
        gate(done, strict=True)
        missing = [chapter for chapter in project.published if chapter not in done]
        if missing:
            report.line(f"site not built: still to be executed: {', '.join(missing)}")
            return None
        outcomes: dict[str, Notebook] = {}
        if scenarios:
            report.line(f"what if? {counted(len(scenarios), 'scenario')}")
            runs = what_if_runs(project, scenarios)
            runs.execute([scenario.name for scenario in scenarios], options, report)
            outcomes = {scenario.name: runs.executed(scenario.name) for scenario in scenarios}
            for name, outcome in outcomes.items():
                gate({name: outcome}, strict=False)
        published = {chapter: done[chapter] for chapter in project.published}
        return press_site(project, published, scenarios, outcomes, report)


def press_site(
    project: Project,
    notebooks: Mapping[str, Notebook],
    scenarios: Sequence[Scenario],
    outcomes: Mapping[str, Notebook],
    report: Report,
) -> Path:
    """Stage executed chapters and build the site from them, and from what the what-ifs gave.

    A site that was built from the same pages stays as it is.
    """
    write_pages(project, notebooks)
    write_changed(project.generated / "what_if.md", what_if_page(notebooks, scenarios, outcomes))
    if is_current(project):
        report.line("the site is up to date")
        return project.html / "index.html"
    report.line("building the site")
    return build_site(project)


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
        lite.build_lite(project)
        chapters = lite.current_chapters(project)
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
        folder = project.build / "scenarios" / scenario.name
        run = Chapters(project, Store(folder, keep=1), scenario.chapters)
        run.execute(names, options, report)
        merged = {name: run.executed(name) for name in names}
        gate({name: nb for name, nb in merged.items() if nb is not None}, strict=False)
        return folder


def run_chapter(
    project: Project,
    chapter: str,
    parameters: Mapping[str, Any],
    options: Options,
    report: Report,
) -> tuple[Path, list[Finding]]:
    """Execute one chapter, with its own parameters, and look at it as the gate does.

    Without parameters it is the book's own run, which the next build then need not repeat.

    Returns
    -------
    path : Path
        The executed notebook, with papermill's cell of injected parameters.
    findings : list of Finding
    """
    with project.lock():
        tidy(project)
        folder = "runs" if parameters else "executed"
        run = Chapters(project, Store(project.build / folder), {chapter: parameters})
        run.execute([chapter], options, report)
        merged = run.executed(chapter)
        assert merged is not None
        return run.path(chapter), check_book({chapter: merged}, strict=not parameters)


def tidy(project: Project) -> None:
    """Clear away what a killed build left half done."""
    for folder in (project.build, project.staged, project.generated, project.vendor):
        if folder.is_dir():
            sweep_parts(folder)
    recover(project.html)
