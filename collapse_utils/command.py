"""A model that is a program: fitted and sampled by calling a command."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _tables
from ._checks import checked, number, texts, whole


@checked(fit=texts, sample=texts, timeout=number(0, above=True))
class CommandModel:
    """Wrap two commands as a model for ``recurse``.

    Rows travel as CSV files: numbers without a header, 17 digits each; a table with a header, and
    nothing where a value is missing. What the fitting command writes to ``{model}``, of any format,
    is kept in memory and given to the sampling command.

    - `fit` (sequence of str): Command and arguments, with the placeholders ``{data}`` (CSV to
      read), ``{model}`` (file to write) and, if you like, ``{seed}``.
    - `sample` (sequence of str): The same with ``{model}`` (file to read), ``{n}``, ``{rows}`` (CSV
      to write) and ``{seed}``.
    - `timeout`: Seconds that one call may take.

    Examples
    --------
    >>> model = CommandModel(
    ...     fit=["./train", "--in", "{data}", "--out", "{model}", "--seed", "{seed}"],
    ...     sample=["./generate", "{model}", "{n}", "{rows}", "{seed}"],
    ... )
    """

    def __init__(
        self, fit: Sequence[str], sample: Sequence[str], timeout: float | None = None
    ) -> None:
        for name, command, needed in (
            ("fit", fit, ("{data}", "{model}")),
            ("sample", sample, ("{model}", "{n}", "{rows}")),
        ):
            if not all(any(one in part for part in command) for one in needed):
                raise ValueError(
                    f"{name} must be a list of words that name {', '.join(needed)}, got {command!r}"
                )
        self.fit_command, self.sample_command = fit, sample
        self.timeout = timeout
        self._model: bytes | None = None
        self._kind: _tables.Kind | None = None

    def fit(self, X: _tables.Rows, rng: np.random.Generator) -> CommandModel:
        """Write a table or rows of shape (n,) or (n, d), call the command, keep the model file."""
        table = _tables.is_table(X)
        X = X if table else np.asarray(X)
        kind = "a table" if table else X.dtype
        if X.ndim not in (1, 2) or len(X) == 0 or not (table or X.dtype.kind in "fiub"):
            raise ValueError(
                f"X must hold numbers, of shape (n,) or (n, d), or be a table, got {kind} of "
                f"shape {X.shape}"
            )
        self._kind = _tables.Kind(X if table else X.astype(float), whole=False)
        with tempfile.TemporaryDirectory(prefix="collapse-model-") as folder:
            data, model = Path(folder, "data.csv"), Path(folder, "model")
            if table:
                X.to_csv(data, index=False)
            else:
                np.savetxt(data, X, delimiter=",", fmt="%.17g")
            self._call(self.fit_command, data=data, model=model, seed=rng.integers(2**31))
            if not model.is_file():
                raise RuntimeError(f"{self.fit_command[0]} wrote no model to {{model}}")
            self._model = model.read_bytes()
        return self

    @checked(n=whole(1))
    def sample(self, n: int, rng: np.random.Generator) -> _tables.Rows:
        """Call the command and read `n` rows."""
        if self._model is None:
            raise ValueError("fit must come before sample")
        with tempfile.TemporaryDirectory(prefix="collapse-model-") as folder:
            model, rows = Path(folder, "model"), Path(folder, "rows.csv")
            model.write_bytes(self._model)
            seed = rng.integers(2**31)
            self._call(self.sample_command, model=model, rows=rows, n=n, seed=seed)
            name = self.sample_command[0]
            if not rows.is_file() or rows.stat().st_size == 0:
                raise RuntimeError(f"{name} wrote no rows to {{rows}}")
            try:
                return self._kind(self._read(rows), n, "{rows}")
            except ValueError as error:  # of which a UnicodeDecodeError is one
                raise RuntimeError(f"{name} wrote other rows than it must: {error}") from None

    def _read(self, rows: Path) -> _tables.Rows:
        if self._kind.columns is None:
            found = np.loadtxt(rows, delimiter=",", ndmin=2)
            return found[:, 0] if self._kind.shape == () and found.shape[1] == 1 else found
        import pandas as pd

        types = dict(zip(self._kind.columns, self._kind.dtypes, strict=True))
        dates = [name for name, dtype in types.items() if dtype.kind == "M"]
        words = {name: str for name, dtype in types.items() if _is_text(dtype)}
        # Only an empty field is missing: "NA" and "None" are words. Python's engine never rounds.
        return pd.read_csv(
            rows, dtype=words, parse_dates=dates, keep_default_na=False, na_values=[""],
            engine="python",
        )  # fmt: skip

    def _call(self, command: Sequence[str], **values: object) -> None:
        words = command
        for name, value in values.items():
            words = [word.replace(f"{{{name}}}", str(value)) for word in words]
        try:
            started = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # so that what it starts can be stopped with it
            )
        except FileNotFoundError:
            raise RuntimeError(f"there is no program {words[0]!r}") from None
        except OSError as error:
            raise RuntimeError(f"{words[0]!r} cannot be run: {error.strerror}") from None
        try:
            _, said = started.communicate(timeout=self.timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError(f"{words[0]} took longer than {self.timeout:g} s") from None
            raise
        if started.returncode:
            last = said.strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{words[0]} ended with code {started.returncode}: {last[-1]}")


def _is_text(dtype: Any) -> bool:
    levels = getattr(dtype, "categories", None)
    kind = dtype if levels is None else levels.dtype
    return kind.kind == "O"
