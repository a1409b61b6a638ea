"""The way through: execute what changed, gate, stage, build the site."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from collapse_book import cache, copies
from collapse_book.execute import Options, Outcome, Task, execute
from collapse_book.files import remove_parts
from collapse_book.gate import check_book
from collapse_book.messages import BadInput, BuildFailed, counted, say
from collapse_book.notebooks import Notebook, dump_notebook, parameters_of, read_notebook
from collapse_book.pages import merge, what_if_page, write_pages
from collapse_book.project import Project
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

    def __init__(self, project: Project, store: cache.Store, runs: Iterable[Run]) -> None:
        self.project = project
        self.store = store
        self.runs = {run.name: run for run in runs}
        self._library = cache.Library(project.package)
        self._notebooks: dict[str, Notebook] = {}
        self._code: dict[str, dict[str, Any]] = {}
        self._inputs: dict[str, dict[str, Any]] = {}

    def notebook(self, name: str) -> Notebook:
        """The notebook of a run, as it is in git."""
        chapter = self.runs[name].chapter
        if chapter not in self._notebooks:
            self._notebooks[chapter] = read_notebook(self.project.notebook(chapter))
            self._code[chapter] = cache.code_inputs(self._notebooks[chapter], self._library)
        return self._notebooks[chapter]

    def key(self, name: str) -> str:
        """Hash of everything that the outputs of a run depend on."""
        if name not in self._inputs:
            notebook, run = self.notebook(name), self.runs[name]
            values = cache.values_of(notebook, run.parameters)
            data = cache.data_inputs(parameters_of(notebook), values)
            self._inputs[name] = {**self._code[run.chapter], "parameters": values, "data": data}
        return cache.key_of(self._inputs[name])

    def is_default(self, name: str) -> bool:
        """Whether a run has every parameter at its default."""
        notebook = self.notebook(name)
        return cache.values_of(notebook, self.runs[name].parameters) == cache.values_of(
            notebook, {}
        )

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

    def finished(self, names: Collection[str]) -> set[str]:
        """Runs that have an executed copy."""
        chapters = {self.runs[name].chapter for name in names}
        keys = {chapter: self.store.keys(chapter) for chapter in chapters}
        return {name for name in names if self.key(name) in keys[self.runs[name].chapter]}

    def execute(self, names: Sequence[str], options: Options) -> dict[str, str]:
        """Execute the runs that changed, and store each as soon as it has finished.

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
            say(f"nothing to execute: {count} unchanged")
            return {}
        say(f"executing {len(todo)} of {count}, {len(done)} unchanged")
        known = cache.expected_seconds(self.project)
        tasks = [
            Task(run.name, self.notebook(run.name), run.parameters, known.get(run.chapter))
            for run in map(self.runs.__getitem__, todo)
        ]
        packages = {k: v for name in todo for k, v in self._inputs[name]["packages"].items()}
        failures: dict[str, str] = {}
        bar = tqdm(total=len(todo), unit="notebook", leave=False, disable=None)
        with bar, contextlib.closing(execute(tasks, options, packages)) as outcomes:
            for number, outcome in enumerate(outcomes, start=1):
                name, took = outcome.name, outcome.seconds
                error = outcome.error or self._changed(name)
                result = f"{'failed' if error else 'done'} after {took:.1f} s"
                say(f"  {name}: {result} ({number}/{len(todo)})")
                bar.update()
                if error is not None:
                    failures[name] = self._keep_failed(outcome, error)
                    continue
                self.store.put(self.runs[name].chapter, self.key(name), outcome.notebook)
                self.store.remove(self._failed(name))
                if self.is_default(name):
                    cache.remember_seconds(self.project, self.runs[name].chapter, took)
        return {name: failures[name] for name in names if name in failures}

    def _changed(self, name: str) -> str | None:
        """A message if something was edited during the run: whose outputs would these be?

        Data that the run has fetched is not an edit: it becomes part of the key.
        """
        inputs = self._inputs[name]
        data = cache.data_inputs(parameters_of(self.notebook(name)), inputs["parameters"])
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
        where = self.store.place(name).removeprefix(f"{self.project.root}/")
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
    runs += [Run(f"what_if/{q.name}", q.chapter, q.chapters[q.chapter]) for q in questions]
    return Runs(project, cache.Store(project.build, keep=KEEP), runs)


def build_book(project: Project, chapters: Sequence[str], options: Options) -> Path | None:
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
        names += [] if waiting else questions
        failures = runs.execute(names, options)
        done, refused = _gated(runs, [name for name in names + others if name not in failures])
        failures |= refused
        notebooks = {name: done[name] for name in project.published if name in done}
        if waiting and not failures:
            say(f"site not built: still to be executed: {', '.join(waiting)}")
            return None
        if waiting or not notebooks:
            raise BuildFailed("\n".join(failures.values()))
        asked = [question for name, question in questions.items()
                 if name in done and question.chapter in done]  # fmt: skip
        outcomes = {question.name: done[f"what_if/{question.name}"] for question in asked}
        write_pages(project, notebooks, what_if_page(notebooks, asked, outcomes))
        if not failures and is_current(project):
            say("the site is up to date")
            return project.html / "index.html"
        say("building the site")
        if not failures:
            return build_site(project)
        try:
            missing = {name: failures[name] for name in project.published if name in failures}
            say(f"preview of the pages that are there: {build_site(project, missing=missing)}")
        except BuildFailed as error:
            say(f"no preview: {error}")
        raise BuildFailed("\n".join(failures.values()))


def _gated(runs: Runs, names: Iterable[str]) -> tuple[dict[str, Notebook], dict[str, str]]:
    """Executed notebooks that may reach the book, and the findings about those that may not."""
    merged = {name: runs.executed(name) for name in names}
    there = {name: notebook for name, notebook in merged.items() if notebook is not None}
    # Claims are unique among the chapters; another run of a chapter states the same ones.
    found = check_book({n: nb for n, nb in there.items() if runs.is_default(n)}, strict=True)
    for name, notebook in there.items():
        if not runs.is_default(name):
            found |= check_book({name: notebook}, strict=False)
    refused = {name: "\n".join(lines) for name, lines in found.items()}
    return {name: nb for name, nb in there.items() if name not in refused}, refused


def build_lite(project: Project) -> Path:
    """Build JupyterLite, and the site again with the links to it.

    Raises
    ------
    BadInput
        If there is no site of these pages, or the extra ``lite`` is missing.
    """
    with project.lock():
        if not is_current(project):
            raise BadInput("the site is not there or not up to date: run `collapse-book build`")
        say("building JupyterLite")
        copies.build_lite(project)
        chapters = copies.current_chapters(project)
        say(f"{len(chapters)} chapters run in a browser: {', '.join(chapters)}")
        return build_site(project)


def run_chapters(
    project: Project, parameters: Mapping[str, Mapping[str, Any]], options: Options
) -> tuple[dict[str, Path], dict[str, str]]:
    """Execute chapters with parameters, and gate; the site stays as it is.

    With its defaults a chapter is the book's own run, which the next build then need not repeat.

    Returns
    -------
    executed : dict
        Where the executed notebooks lie, with papermill's cell of injected parameters.
    failures : dict
        What failed, and what the gate found, by chapter.
    """
    with project.lock():
        tidy(project)
        runs = book_runs(project, parameters)
        failures = runs.execute(list(parameters), options)
        ran = [name for name in parameters if name not in failures]
        return {name: Path(runs.place(name)) for name in ran}, failures | _gated(runs, ran)[1]


def tidy(project: Project) -> None:
    """Clear away what a killed build left half done."""
    for folder in (project.build, project.staged, project.generated, project.vendor):
        remove_parts(folder)
    recover(project.html)
