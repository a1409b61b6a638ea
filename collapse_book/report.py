"""Telling the user what happens: a bar on a terminal, one line per event in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed


class Report:
    """Messages on standard output; progress while notebooks run."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True, markup=False)
        self._progress: Progress | None = None
        self._running: dict[str, float] = {}
        self._done = 0
        self._total = 0

    def line(self, text: str) -> None:
        """Print one line."""
        self.console.print(text)

    @contextlib.contextmanager
    def executing(self, total: int) -> Iterator[None]:
        """Show progress over ``total`` notebooks."""
        self._running, self._done, self._total = {}, 0, total
        if not self.console.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Elapsed(),
        )
        with Progress(*columns, console=self.console, transient=True) as self._progress:
            self._bar = self._progress.add_task("starting", total=total)
            yield
        self._progress = None

    def started(self, name: str) -> None:
        """A notebook began to run."""
        self._running[name] = time.perf_counter()
        if self._progress is None:
            self.line(f"  {name}: started")
        self._refresh()

    def finished(self, name: str, error: str | None) -> None:
        """A notebook came back."""
        seconds = time.perf_counter() - self._running.pop(name)
        self._done += 1
        result = "failed" if error else "done"
        self.line(f"  {name}: {result} after {seconds:.1f} s ({self._done}/{self._total})")
        self._refresh()

    def _refresh(self) -> None:
        if self._progress is not None:
            running = ", ".join(self._running) or "waiting"
            self._progress.update(self._bar, completed=self._done, description=running)
