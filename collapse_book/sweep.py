"""Sweeps: one chapter over a grid of parameters, each point kept as soon as it is there."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as RichProgress

from collapse_book.cache import cache_key, executed_sources
from collapse_book.closure import Library
from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.execute import DaskEngine, Engine, InlineEngine, Outcome, Task, cores
from collapse_book.notebooks import chapter_parameters, dump_notebook, read_notebook
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.results import AFTER, BEFORE, tidy
from collapse_book.scenarios import Grid, Point
from collapse_book.shelf import Shelf

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SweepOptions:
    """How to run the points: as in `press.Options`."""

    jobs: int | None = None
    scheduler: str | None = None
    timeout: float | None = None
    force: bool = False

    def engine(self, points: int, report: Report) -> Engine:
        """In this process for one point or one job, a cluster otherwise."""
        if points == 0 or (self.scheduler is None and (points == 1 or self.jobs == 1)):
            return InlineEngine()
        return DaskEngine(min(self.jobs or cores(), points), self.scheduler, report.line)


class Sweep:
    """One chapter, its grid, and the shelf where its points lie.

    On the shelf: ``points/KEY.ipynb`` and then ``points/KEY.parquet`` of a finished point,
    ``failed/KEY.ipynb`` of one that failed, ``sweep.json``, and at the end ``table.parquet``,
    ``table.csv`` and ``summary.png``. KEY is a hash of the code of the notebook, the
    parameters, the modules of the library that it uses, the lock and Python's minor version.

    Parameters
    ----------
    project : Project
    chapter : str
    grid : Grid
    out : str
        Folder or URL of the shelf.
    shown : sequence of str
        Claims and numbers to draw; what suits the table when empty.

    Raises
    ------
    BadInput
        If the shelf cannot be used, or a parameter of the chapter has the name of a column.
    """

    def __init__(
        self, project: Project, chapter: str, grid: Grid, out: str, shown: Sequence[str] = ()
    ) -> None:
        for parameter in chapter_parameters(project, chapter):
            if parameter.name in (*BEFORE, *AFTER):
                raise BadInput(
                    f"parameter {parameter.name!r} of {chapter} has the name of a column of the "
                    "table: rename it"
                )
        _need_parquet()
        self.project = project
        self.chapter = chapter
        self.grid = grid
        self.shown = shown
        self.shelf = Shelf(out)
        self.notebook = read_notebook(project.notebook(chapter))
        base = cache_key(project, self.notebook, {}, Library(project.package))
        self.points = {_key(base, point): point for point in grid.points}
        self._sources = self._digest()

    @cached_property
    def _files(self) -> list[Path]:
        """Files whose edit in the middle of a sweep would mix two versions."""
        library = Library(self.project.package)
        return library.files_for(executed_sources(self.notebook))

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(path.read_bytes() if path.is_file() else b"gone")
        return digest.hexdigest()

    def finished(self) -> set[str]:
        """Keys of the points that need not run again."""
        return self.shelf.names("points", ".parquet") & self.points.keys()

    def run(self, options: SweepOptions, report: Report) -> dict[str, str]:
        """Run the points that have not finished, and keep each as it comes.

        Returns
        -------
        dict
            Message of each point that failed, by key.

        Raises
        ------
        BadInput
            If workers at the scheduler may not be used, the shelf cannot be written, or the
            points that are there have no such result to show.
        BuildFailed
            If the scheduler is lost, the library is edited meanwhile, or the first point has no
            such result to show.
        """
        self._check_shelf()
        finished = self.finished()
        if wrong := self._not_there(finished):
            raise BadInput(wrong)
        failures: dict[str, str] = {}
        # A scheduler that does not answer leaves nothing behind: it comes before the lock.
        engine = options.engine(len(self._todo(options.force)), report)
        with engine, self.shelf.lock():
            self._claim_shelf()
            todo = self._todo(options.force)  # again: another sweep may have held the lock
            count = f"{counted(len(self.points), 'point')} of {self.chapter}"
            before = len(self.points) - len(todo)
            report.line(f"{count}: {before} finished before, {len(todo)} to run")
            tasks = [Task(key, self.notebook, self.points[key]) for key in todo]
            with showing(report, len(tasks)) as progress:
                run = engine.run(tasks, timeout=options.timeout, started=progress.started)
                with contextlib.closing(run) as outcomes:
                    for outcome in outcomes:
                        self._keep(outcome, failures)
                        label = self.grid.label(self.points[outcome.name])
                        progress.finished(outcome, label)
                        if not finished and outcome.error is None:
                            finished = {outcome.name}
                            if wrong := self._not_there(finished):
                                raise BuildFailed(f"{wrong} (what has finished is kept)")
        return failures

    def _todo(self, force: bool) -> list[str]:
        done = set() if force else self.finished()
        return [key for key in self.points if key not in done]

    def _not_there(self, finished: set[str]) -> str | None:
        """A message if none of these points has a result that is to be shown."""
        there: dict[str, None] = {}
        for key in finished:
            if there.keys() >= set(self.shown):
                return None
            there |= dict.fromkeys(_results(self._point(key))["name"])
        wrong = [repr(name) for name in self.shown if name not in there]
        if not finished or not wrong:
            return None
        known = ", ".join(there) or "none"
        return f"--show {', '.join(wrong)}: no such result; {self.chapter} has {known}"

    def _check_shelf(self) -> None:
        """Refuse the shelf of another chapter, and one that cannot be read."""
        try:
            written = self.shelf.read("sweep.json")
        except BuildFailed as error:
            raise BadInput(str(error)) from None
        if written is not None:
            try:
                other = json.loads(written)["chapter"]
            except (ValueError, KeyError, TypeError):
                raise BadInput(f"{self.shelf.place('sweep.json')} is not of a sweep") from None
            if other != self.chapter:
                raise BadInput(
                    f"{self.shelf.address} holds a sweep of {other}: give {self.chapter} another"
                )

    def _claim_shelf(self) -> None:
        """Write what is being swept."""
        content = {
            "chapter": self.chapter,
            "varied": list(self.grid.varied),
            "points": self.points,
        }
        try:
            self.shelf.write("sweep.json", (json.dumps(content, indent=1) + "\n").encode())
        except BuildFailed as error:
            raise BadInput(str(error)) from None

    def _keep(self, outcome: Outcome, failures: dict[str, str]) -> None:
        if self._digest() != self._sources:
            raise BuildFailed(
                f"{self.project.package.name} was edited while the sweep ran: run it again; "
                "the points that had finished before are kept under their old key"
            )
        key = outcome.name
        text = dump_notebook(outcome.notebook).encode()
        if outcome.error is None:
            frame = tidy(key, self.points[key], outcome.notebook)
            self.shelf.write(f"points/{key}.ipynb", text)
            self.shelf.write(f"points/{key}.parquet", frame.to_parquet(index=False))
            self.shelf.remove(f"failed/{key}.ipynb")
        else:
            failures[key] = outcome.error
            self.shelf.remove(f"points/{key}.parquet")  # an earlier result, when forced
            self.shelf.write(f"failed/{key}.ipynb", text)

    def failure_lines(self, failures: Mapping[str, str]) -> list[str]:
        """One line for each point that failed: parameters, cell, error, notebook."""
        return [
            f"{self.chapter} with {self.grid.label(self.points[key])}, {failures[key]} "
            f"(notebook as far as it ran: {self.shelf.place(f'failed/{key}.ipynb')})"
            for key in self.points
            if key in failures
        ]

    def table(self, failures: Mapping[str, str]) -> pd.DataFrame:
        """All points in one tidy table, in the order of the grid; see `results.tidy`.

        A point that failed has one row of the kind *failure*.
        """
        import pandas as pd

        finished = self.finished()
        frames = []
        for key, point in self.points.items():
            if key in finished:
                frames.append(self._point(key))
            elif key in failures:
                row = {"kind": "failure", "name": "error", "text": failures[key]}
                frames.append(pd.DataFrame([{"point": key, **point, **row}]))
        columns = [*BEFORE, *next(iter(self.points.values())), *AFTER]
        if not frames:
            return pd.DataFrame(columns=columns)
        return pd.concat(frames, ignore_index=True).reindex(columns=columns)

    def _point(self, key: str) -> pd.DataFrame:
        import pandas as pd

        name = f"points/{key}.parquet"
        stored = self.shelf.read(name)
        try:
            return pd.read_parquet(io.BytesIO(stored))
        except (OSError, ValueError) as error:
            raise BuildFailed(
                f"{self.shelf.place(name)} is damaged, delete it and run again: {error}"
            ) from None

    def publish(self, failures: Mapping[str, str], report: Report) -> None:
        """Write the table and the summary figure.

        Parameters
        ----------
        failures : mapping
            As `run` returned it.
        """
        from collapse_book.summary import draw, encode

        table = self.table(failures)
        self.shelf.write("table.parquet", table.to_parquet(index=False))
        self.shelf.write("table.csv", table.to_csv(index=False).encode())
        there = table.loc[table["kind"] == "run", "point"].nunique()
        where = self.shelf.place("table.parquet")
        report.line(f"table: {where} and table.csv, {counted(there, 'point')}")
        results = _results(table)
        if results.empty:
            why = (
                "the chapter states no claims and glues no numbers"
                if there
                else "no point has finished"
            )
            report.line(f"no figure: {why}")
            return
        figure = draw(results, self.chapter, self.grid.varied, self.shown)
        self.shelf.write("summary.png", encode(figure))
        report.line(f"figure: {self.shelf.place('summary.png')}")


def _results(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["kind"].isin(("claim", "number"))]


def _key(base: str, point: Point) -> str:
    content = json.dumps([base, dict(sorted(point.items()))])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _need_parquet() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise BadInput("a sweep writes parquet and needs pyarrow: pip install pyarrow")


class Progress:
    """How far a sweep is and how long it will take: a bar, or in a log a line for each point."""

    def __init__(self, report: Report, total: int, bar: RichProgress | None) -> None:
        self.report = report
        self.total = total
        self.begun = 0
        self.done = 0
        self.failed = 0
        self._bar = bar
        self._clock: float | None = None
        self._task = bar.add_task("starting", total=total) if bar else None

    def started(self, name: str) -> None:
        """The clock of the time left begins with the first point."""
        self.begun += 1
        if self._clock is None:
            self._clock = time.perf_counter()
            self._refresh("running")

    def finished(self, outcome: Outcome, label: str) -> None:
        """A point came back."""
        assert self._clock is not None
        self.done += 1
        self.failed += outcome.error is not None
        elapsed = time.perf_counter() - self._clock
        behind = self.done + (self.begun - self.done) / 2  # those that run are half done, say
        left = duration(elapsed / behind * (self.total - behind))
        what = "failed" if outcome.error else "done"
        width = len(str(self.total))
        if self._bar is None or outcome.error:
            self.report.line(
                f"  [{self.done:{width}}/{self.total}] {label}: {what}"
                + (f", {left} left" if self.done < self.total else "")
            )
        failed = f", {self.failed} failed" if self.failed else ""
        self._refresh(f"{left} left{failed}")

    def _refresh(self, text: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, description=text)


@contextlib.contextmanager
def showing(report: Report, total: int) -> Iterator[Progress]:
    """Show progress over ``total`` points."""
    if not report.console.is_terminal:
        yield Progress(report, total, None)
        return
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with RichProgress(*columns, console=report.console, transient=True) as bar:
        yield Progress(report, total, bar)


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 100 * 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def run_sweep(
    project: Project,
    chapter: str,
    grid: Grid,
    out: str,
    options: SweepOptions,
    shown: Sequence[str],
    report: Report,
) -> None:
    """Run a sweep to its end: points, table, figure.

    Raises
    ------
    BadInput
        Before any work.
    BuildFailed
        After all points have run, if one failed; the message has a line for each.
    """
    sweep = Sweep(project, chapter, grid, out, shown)
    failures = sweep.run(options, report)
    sweep.publish(failures, report)
    if failures:
        raise BuildFailed("\n".join(sweep.failure_lines(failures)))
