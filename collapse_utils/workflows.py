"""Workflows: what the next generation trains on.

Shumailov et al. (2024) call the setting *learning with generational data*: the next training
distribution is ``alpha * p_model + beta * p_previous + gamma * p_original``. A workflow turns
that sentence into rows of a training set and keeps, for every row, the generation that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from . import checks


@dataclass(frozen=True)
class TrainingSet:
    """Rows and their provenance.

    Attributes
    ----------
    X : ndarray, shape (n, ...)
        The rows.
    origin : ndarray of int, shape (n,)
        Generation that wrote each row; 0 means real.
    """

    X: NDArray
    origin: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[np.int64]) -> TrainingSet:
        """The given rows, with their provenance."""
        return TrainingSet(self.X[rows], self.origin[rows])

    def choose(self, n: int, rng: np.random.Generator) -> TrainingSet:
        """`n` rows drawn without replacement (all of them when `n` equals the length)."""
        if n > len(self):
            raise ValueError(f"cannot choose {n} rows out of {len(self)} without replacement")
        return self.take(rng.choice(len(self), n, replace=False, shuffle=False))

    @staticmethod
    def of(X: NDArray, generation: int) -> TrainingSet:
        """Rows that were all written by one generation."""
        return TrainingSet(X, np.full(len(X), generation, dtype=np.int64))

    @staticmethod
    def join(*parts: TrainingSet) -> TrainingSet:
        """One training set from several."""
        parts = tuple(p for p in parts if len(p)) or parts[:1]
        return TrainingSet(
            np.concatenate([p.X for p in parts]), np.concatenate([p.origin for p in parts])
        )


@dataclass(frozen=True)
class Sources:
    """What a workflow may draw on when it composes the training set of one generation.

    Attributes
    ----------
    generation : int
        Generation about to be trained (2 or more; generation 1 trains on real data).
    model : callable
        ``n -> TrainingSet`` of n new rows written by the latest model.
    fresh : callable
        ``n -> TrainingSet`` of n real rows that no generation has seen.
    original, previous, pool : TrainingSet
        The real data of generation 1, the previous training set, and everything kept so far.
    rng : numpy.random.Generator
        Source of randomness for choosing rows.
    """

    generation: int
    model: Callable[[int], TrainingSet]
    fresh: Callable[[int], TrainingSet]
    original: TrainingSet
    previous: TrainingSet
    pool: TrainingSet
    rng: np.random.Generator


class Workflow(Protocol):
    """Anything that composes the next training set.

    ``compose`` returns the training set of ``sources.generation`` and the pool to keep for
    later generations. An optional ``check(sizes, n_real)`` may refuse the sizes of generations
    1, 2, ... or the number of real rows (None: no end) before anything is fitted.
    """

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]: ...


@dataclass(frozen=True)
class Replace:
    """Train on ``n_samples`` rows of the latest model and on nothing else.

    The setting of Theorem 3.1 of Shumailov et al. (2024): alpha = 1, beta = gamma = 0.
    """

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`Workflow`."""
        new = sources.model(n_samples)
        return new, new


@dataclass(frozen=True)
class Accumulate:
    """Keep everything: train on all earlier rows plus ``n_samples`` new ones.

    The workflow of Gerstgrasser et al. (2024).
    """

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`Workflow`."""
        pool = TrainingSet.join(sources.pool, sources.model(n_samples))
        return pool, pool


@dataclass(frozen=True)
class AccumulateSubsample:
    """Keep everything, but train on a random ``n_samples`` of it (a fixed compute budget).

    The third workflow of Kazdan et al. (2025).
    """

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`Workflow`."""
        pool = TrainingSet.join(sources.pool, sources.model(n_samples))
        return pool.choose(n_samples, sources.rng), pool


@dataclass(frozen=True)
class Mix:
    """Fixed shares of new model rows, the previous training set and the original data.

    Parameters
    ----------
    alpha, beta, gamma : float
        Shares of the latest model, the previous training set, and the original real data; they
        are non-negative and sum to one. Counts are rounded so that they add up to ``n_samples``.
    redraw : bool
        Choose the original rows anew each generation (as the language experiment of
        Shumailov et al. does), or keep one fixed subset for ever.

    Raises
    ------
    ValueError
        If a share is negative or the shares do not sum to one.
    """

    alpha: float
    beta: float = 0.0
    gamma: float = 0.0
    redraw: bool = True

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            checks.real(name, getattr(self, name), 0, 1)
        total = self.alpha + self.beta + self.gamma
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"alpha + beta + gamma must be 1, got {self.alpha:g} + {self.beta:g} + "
                f"{self.gamma:g} = {total:g}"
            )

    def counts(self, n_samples: int) -> tuple[int, int, int]:
        """Rows from the model, the previous set and the original (largest remainders)."""
        exact = np.array([self.alpha, self.beta, self.gamma]) * n_samples
        floor = np.floor(exact + 1e-9).astype(int)
        by_remainder = np.argsort(floor - exact, kind="stable")
        floor[by_remainder[: n_samples - floor.sum()]] += 1
        return int(floor[0]), int(floor[1]), int(floor[2])

    def check(self, sizes: NDArray[np.int64], n_real: int | None) -> None:
        """Refuse sizes that ask for more rows than there are to choose from."""
        for g in range(2, len(sizes) + 1):
            _, n_previous, n_original = self.counts(int(sizes[g - 1]))
            for name, need, held, kind in (
                ("beta", n_previous, int(sizes[g - 2]), "previous"),
                ("gamma", n_original, int(sizes[0]), "original"),
            ):
                if need > held:
                    raise ValueError(
                        f"{name}={getattr(self, name):g} asks for {need} {kind} rows in "
                        f"generation {g} (n_samples={sizes[g - 1]}), but there are only {held}"
                    )

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`Workflow`."""
        n_model, n_previous, n_original = self.counts(n_samples)
        original = (
            sources.original.choose(n_original, sources.rng)
            if self.redraw
            else sources.original.take(np.arange(n_original))
        )
        new = TrainingSet.join(
            sources.model(n_model), sources.previous.choose(n_previous, sources.rng), original
        )
        return new, new


@dataclass(frozen=True)
class FreshData:
    """A share of real rows that nobody has seen before; the rest from the latest model.

    Parameters
    ----------
    fraction : float
        Share of fresh real rows, between 0 and 1.

    Raises
    ------
    ValueError
        If `fraction` lies outside [0, 1].
    """

    fraction: float

    def __post_init__(self) -> None:
        checks.real("fraction", self.fraction, 0, 1)

    def counts(self, n_samples: int) -> tuple[int, int]:
        """Rows from the model and fresh real rows."""
        n_fresh = round(self.fraction * n_samples)
        return n_samples - n_fresh, n_fresh

    def check(self, sizes: NDArray[np.int64], n_real: int | None) -> None:
        """Refuse a finite data set that would run out of unseen rows."""
        need = int(sizes[0]) + sum(self.counts(int(m))[1] for m in sizes[1:])
        if n_real is not None and need > n_real:
            raise ValueError(
                f"fraction={self.fraction:g} needs {need} real rows over {len(sizes)} generations, "
                f"but data has {n_real}; pass data as a callable (n, rng) -> rows, or fewer "
                "samples or generations"
            )

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`Workflow`."""
        n_model, n_fresh = self.counts(n_samples)
        new = TrainingSet.join(sources.model(n_model), sources.fresh(n_fresh))
        return new, new
