"""Quality checks: workflows that wrap workflows, and verifiers to put into them.

A curated workflow composes the next training set as its inner workflow does, except that rows of
the model pass through a check first. So any check goes with any workflow and any model:
``Verified(Accumulate(), verifier)`` runs through :func:`collapse_utils.recurse` like the others.

A verifier is a callable ``(rows, rng) -> mask`` that says which rows pass; `rng` serves verifiers
that err at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .workflows import Sources, TrainingSet, Workflow

Mask = NDArray[np.bool_]
Verifier = Callable[[NDArray, np.random.Generator], Mask]
Score = Callable[[NDArray], NDArray[np.float64]]


# --------------------------------------------------------------------------- workflows


@dataclass(frozen=True)
class Verified:
    """Let only those rows of the model into the inner workflow that a verifier passes.

    The model writes until enough rows have passed, so the inner workflow gets as many as it asks
    for: "verifier-filtered retraining" of Feng et al. (2025) and Yi et al. (2026). Real rows are
    not checked.

    Parameters
    ----------
    workflow : Workflow
        What composes the training set from real, earlier and (verified) new rows.
    verifier : callable
        ``(rows, rng) -> mask``, boolean, shape (n,).
    max_draws : int
        Bounded effort: the model writes at most this many rows for each row that is needed.

    Raises
    ------
    ValueError
        If the workflow or the verifier is none, or `max_draws` is not a positive integer.
    """

    workflow: Workflow
    verifier: Verifier
    max_draws: int = 100

    def __post_init__(self) -> None:
        _require_workflow(self.workflow)
        _require_callable("verifier", self.verifier)
        checks.integer("max_draws", self.max_draws, 1)

    def check(self, sizes: NDArray[np.int64], n_real: int | None) -> None:
        """Ask the inner workflow."""
        _check_inner(self.workflow, sizes, n_real)

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`~collapse_utils.workflows.Workflow`.

        Raises
        ------
        RuntimeError
            If the effort is spent before enough rows have passed.
        """

        def verified(n: int) -> TrainingSet:
            kept, n_kept, n_drawn = [sources.model(0)], 0, 0
            while n_kept < n:
                if n_drawn >= self.max_draws * n:
                    raise RuntimeError(
                        f"the verifier passed {n_kept} of {n_drawn} rows written for generation "
                        f"{sources.generation}, which needs {n}: raise max_draws (now "
                        f"{self.max_draws} rows written per row needed) or pass more rows"
                    )
                # As many as the share that passed so far calls for, and a few to spare.
                expected = (n - n_kept) * (n_drawn + 1) / (n_kept + 1)
                batch = int(min(1.1 * expected + 10, self.max_draws * n - n_drawn))
                rows = sources.model(batch)
                mask = _mask(self.verifier(rows.X, sources.rng), batch)
                kept.append(rows.take(np.flatnonzero(mask)[: n - n_kept]))
                n_kept += len(kept[-1])
                n_drawn += batch
            return TrainingSet.join(*kept)

        return self.workflow.compose(dataclasses.replace(sources, model=verified), n_samples)


@dataclass(frozen=True)
class Ranked:
    """Let the best share of the model's rows into the inner workflow.

    For n rows the model writes ``n / keep`` of them (rounded up), and the n with the highest
    score enter. Where :class:`Verified` asks "good enough?", this asks "better than the others?".

    Parameters
    ----------
    workflow : Workflow
        The inner workflow.
    score : callable
        ``rows -> numbers``, shape (n,).
    keep : float
        Share that is kept, in (0, 1].

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    workflow: Workflow
    score: Score
    keep: float

    def __post_init__(self) -> None:
        _require_workflow(self.workflow)
        _require_callable("score", self.score)
        checks.real("keep", self.keep, 0, 1, open_low=True)

    def check(self, sizes: NDArray[np.int64], n_real: int | None) -> None:
        """Ask the inner workflow."""
        _check_inner(self.workflow, sizes, n_real)

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`~collapse_utils.workflows.Workflow`."""

        def best(n: int) -> TrainingSet:
            if n == 0:
                return sources.model(0)
            rows = sources.model(int(np.ceil(n / self.keep - 1e-9)))
            scores = _numbers("score", self.score(rows.X), len(rows))
            return rows.take(np.sort(np.argsort(-scores, kind="stable")[:n]))

        return self.workflow.compose(dataclasses.replace(sources, model=best), n_samples)


# --------------------------------------------------------------------------- verifiers


@dataclass(frozen=True)
class Window:
    """Pass rows within a distance of a centre: the biased verifier of Yi et al. (2026).

    Parameters
    ----------
    centre : float or sequence of float
        What the verifier believes.
    radius : float
        How far from it a row may lie (Euclidean distance), > 0.
    """

    centre: float | tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        checks.real("radius", self.radius, 0, open_low=True)

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> Mask:
        """Which rows pass, shape (n,)."""
        return _squared_distance(rows, self.centre) <= self.radius**2


@dataclass(frozen=True)
class Soft:
    """Pass a row at distance d from a centre with probability ``exp(-d^2 / (2 tau^2))``.

    Rows of a Gaussian that pass are again Gaussian, so loops with this verifier have exact laws
    (:func:`collapse_utils.selection.soft_path`).

    Parameters
    ----------
    centre : float or sequence of float
        What the verifier believes.
    tau : float
        Its tolerance, > 0.
    """

    centre: float | tuple[float, ...]
    tau: float

    def __post_init__(self) -> None:
        checks.real("tau", self.tau, 0, open_low=True)

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> Mask:
        """Which rows pass, shape (n,)."""
        log_pass = -_squared_distance(rows, self.centre) / (2 * self.tau**2)
        return rng.random(len(rows)) < np.exp(log_pass)


@dataclass(frozen=True)
class AtLeast:
    """Pass rows whose score reaches a threshold.

    Parameters
    ----------
    score : callable
        ``rows -> numbers``, shape (n,): a log-likelihood, a classifier's confidence.
    threshold : float
    """

    score: Score
    threshold: float

    def __post_init__(self) -> None:
        _require_callable("score", self.score)
        checks.real("threshold", self.threshold)

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> Mask:
        """Which rows pass, shape (n,)."""
        return _numbers("score", self.score(rows), len(rows)) >= self.threshold


@dataclass(frozen=True)
class Imperfect:
    """A verifier that errs: passes right rows and wrong rows with given probabilities.

    The label verifier of Feng et al. (2025), with keep rates phi and psi.

    Parameters
    ----------
    is_right : callable
        ``rows -> mask``: which rows are right, shape (n,).
    keep_right, keep_wrong : float
        phi and psi, in [0, 1].
    """

    is_right: Callable[[NDArray], Mask]
    keep_right: float
    keep_wrong: float

    def __post_init__(self) -> None:
        _require_callable("is_right", self.is_right)
        checks.real("keep_right", self.keep_right, 0, 1)
        checks.real("keep_wrong", self.keep_wrong, 0, 1)

    def __call__(self, rows: NDArray, rng: np.random.Generator) -> Mask:
        """Which rows pass, shape (n,)."""
        right = _mask(self.is_right(rows), len(rows))
        return rng.random(len(rows)) < np.where(right, self.keep_right, self.keep_wrong)


# --------------------------------------------------------------------------- checks


def _require_workflow(workflow: object) -> None:
    if isinstance(workflow, type) or not callable(getattr(workflow, "compose", None)):
        raise ValueError(
            f"workflow must have compose(sources, n_samples), such as Replace(), got {workflow!r}"
        )


def _require_callable(name: str, value: object) -> None:
    if not callable(value):
        raise ValueError(f"{name} must be callable, got {value!r}")


def _check_inner(workflow: Workflow, sizes: NDArray[np.int64], n_real: int | None) -> None:
    if hasattr(workflow, "check"):
        workflow.check(sizes, n_real)


def _mask(mask: ArrayLike, n: int) -> Mask:
    mask = np.asarray(mask)
    if mask.shape != (n,) or mask.dtype != bool:
        raise ValueError(
            f"verifier must return a boolean for each of {n} rows, got {mask.dtype} of shape "
            f"{mask.shape}"
        )
    return mask


def _numbers(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=float)
    if values.shape != (n,) or np.isnan(values).any():
        raise ValueError(
            f"{name} must return a number for each of {n} rows, got shape {values.shape}"
            + (" with NaN" if values.shape == (n,) else "")
        )
    return values


def _squared_distance(rows: NDArray, centre: ArrayLike) -> NDArray[np.float64]:
    gap = np.asarray(rows, dtype=float) - np.asarray(centre, dtype=float)
    return gap**2 if gap.ndim == 1 else (gap**2).sum(axis=tuple(range(1, gap.ndim)))
