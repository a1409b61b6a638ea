"""Telling the user what happens: a bar on a terminal, one line per event in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tqdm import tqdm


class Report:
    """Messages on standard output; a bar on standard error, if that is a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._done = 0
        self._total = 0

    def line(self, text: str) -> None:
        """Print one line."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    @contextlib.contextmanager
    def executing(self, total: int) -> Iterator[None]:
        """Show progress over ``total`` notebooks."""
        self._done, self._total = 0, total
        with tqdm(total=total, unit="notebook", leave=False, disable=None) as self._bar:
            yield
        self._bar = None

    def finished(self, name: str, error: str | None, seconds: float) -> None:
        """A notebook came back."""
        self._done += 1
        result = "failed" if error else "done"
        self.line(f"  {name}: {result} after {seconds:.1f} s ({self._done}/{self._total})")
        if self._bar is not None:
            self._bar.update()
