"""Workflows: what the next generation trains on.

Shumailov et al. (2024) call the setting *learning with generational data*: the next training
distribution is ``alpha * p_model + beta * p_previous + gamma * p_original``. A workflow turns
that sentence into a training set with three operations: ask for new rows, join with ``+``, and
``choose``. So the same object runs in :func:`collapse_utils.recurse` (rows that know which
generation wrote them), in :mod:`collapse_utils.lineages` (rows, counts or moments of many
lineages at once) and in :mod:`collapse_utils.kinship` (exact expectations).

Those on :class:`Through` wrap another one: ``Verified(Accumulate(), verifier)``. A chapter that
needs one of its own writes it beside the text that explains it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _tables
from ._checks import checked, function, number, share, whole, workflow

Mask = NDArray[np.bool_]
Rows = NDArray[Any]
Random = np.random.Generator
Share = float | Callable[[int], float]

PLANTED = -1
"""Provenance of the rows of an attacker: no generation wrote them."""


@dataclass(frozen=True)
class TrainingSet:
    """Rows ``X``, shape (n, ...) or a table, and the generation of each, ``origin``; 0 is real.

    ``+`` joins two sets; an index or a mask takes rows.
    """

    X: NDArray
    origin: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: slice | NDArray) -> TrainingSet:
        return TrainingSet(_tables.take(self.X, rows), self.origin[rows])

    def __add__(self, other: TrainingSet) -> TrainingSet:
        if not len(self) or not len(other):
            return self if len(self) else other
        origin = np.concatenate([self.origin, other.origin])
        return TrainingSet(_tables.join(self.X, other.X), origin)

    def choose(self, n: int, rng: Random) -> TrainingSet:
        """`n` rows drawn without replacement (all of them when `n` equals the length)."""
        if n > len(self):
            raise ValueError(f"cannot choose {n} rows out of {len(self)} without replacement")
        return self[rng.choice(len(self), n, replace=False, shuffle=False)]

    @staticmethod
    def of(X: NDArray, generation: int) -> TrainingSet:
        """Rows that were all written by one generation."""
        return TrainingSet(X, np.full(len(X), generation, dtype=np.int64))


@dataclass(slots=True)
class Sources:
    """What a workflow may draw on when it composes the training set of one generation.

    - `generation`: The one to be trained, 2 or more: generation 1 trains on real data.
    - `model`, `fresh`: ``n ->`` n new rows of the latest model; n real rows that no generation has
      seen.
    - `original, previous, pool`: The real data of generation 1, the previous training set, and what
      was kept so far.
    - `n_lineages` (int or None): How many are composed at once, the size to pass to ``rng``; None
      for one.
    """

    generation: int
    model: Callable[[int], Any]
    fresh: Callable[[int], Any]
    original: Any
    previous: Any
    pool: Any
    rng: Random
    n_lineages: int | None = None


class Workflow(Protocol):
    """Composes the training set of ``sources.generation``, and the pool to keep for later.

    An optional ``check(sizes, n_real)`` may refuse the sizes of generations 1, 2, ... or the
    number of real rows (None: no end) before anything is fitted.
    """

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]: ...


@dataclass(frozen=True)
class Replace:
    """Train on rows of the latest model and on nothing else (Shumailov et al. 2024, Thm 3.1)."""

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        new = sources.model(n_samples)
        return new, new


@dataclass(frozen=True)
class Accumulate:
    """Train on all earlier rows plus ``n_samples`` new ones (Gerstgrasser et al. 2024)."""

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        pool = sources.pool + sources.model(n_samples)
        return pool, pool


@dataclass(frozen=True)
class AccumulateSubsample:
    """Keep everything, but train on a random ``n_samples`` of it (Kazdan et al. 2025)."""

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        pool = sources.pool + sources.model(n_samples)
        return pool.choose(n_samples, sources.rng), pool


@checked(alpha=number(0, 1), beta=number(0, 1), gamma=number(0, 1))
@dataclass(frozen=True)
class Mix:
    """Shares of new model rows, of the previous training set and of the original real data.

    - `alpha`, `beta`, `gamma`: They sum to one; counts are rounded so that they add up to
      ``n_samples``.
    - `redraw`: Choose the original rows anew each generation (as the language experiment of
      Shumailov et al. does), or keep one fixed subset for ever.
    """

    alpha: float
    beta: float = 0.0
    gamma: float = 0.0
    redraw: bool = True

    def __post_init__(self) -> None:
        total = self.alpha + self.beta + self.gamma
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"alpha + beta + gamma must be 1, got {self.alpha:g} + {self.beta:g} + "
                f"{self.gamma:g} = {total:g}"
            )

    def counts(self, n_samples: int) -> tuple[int, int, int]:
        """Rows from the model, the previous set and the original (largest remainders)."""
        exact = [share * n_samples for share in (self.alpha, self.beta, self.gamma)]
        whole = [math.floor(rows + 1e-9) for rows in exact]
        by_remainder = sorted(range(3), key=lambda i: whole[i] - exact[i])
        for i in by_remainder[: n_samples - sum(whole)]:
            whole[i] += 1
        return whole[0], whole[1], whole[2]

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

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        n_model, n_previous, n_original = self.counts(n_samples)
        original = (
            sources.original.choose(n_original, sources.rng)
            if self.redraw
            else sources.original[:n_original]
        )
        previous = sources.model(n_model) + sources.previous.choose(n_previous, sources.rng)
        new = previous + original
        return new, new


@checked(fraction=number(0, 1))
@dataclass(frozen=True)
class FreshData:
    """A fraction of real rows that nobody has seen before; the rest from the latest model."""

    fraction: float

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

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        n_model, n_fresh = self.counts(n_samples)
        new = sources.model(n_model) + sources.fresh(n_fresh)
        return new, new


def _at(name: str, value: Share, generation: int) -> float:
    return number(0, 1)(name, value(generation)) if callable(value) else value


@checked(real_share=share)
@dataclass(frozen=True)
class Web:
    """A stream in which each row is, by chance, a new real one or one of the latest model.

    ``real_share`` is the probability of the former, or ``generation -> probability``.
    """

    real_share: Share

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        share = _at("real_share", self.real_share, sources.generation)
        n_real = sources.rng.binomial(n_samples, share, sources.n_lineages)
        new = sources.fresh(n_real) + sources.model(n_samples - n_real)
        return new, new


@checked(workflow=workflow)
@dataclass(frozen=True)
class Through:
    """Any workflow, with what the model writes passed through ``written``; subclasses say how.

    Real and earlier rows are left alone.
    """

    workflow: Workflow

    def written(self, sources: Sources, n: int) -> Any:
        """`n` rows for the inner workflow, in place of ``sources.model(n)``."""
        raise NotImplementedError

    def check(self, sizes: NDArray[np.int64], n_real: int | None) -> None:
        """Ask the inner workflow."""
        workflow("workflow", self.workflow, sizes, n_real)

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        def model(n: int) -> Any:
            return self.written(sources, n) if n else sources.model(0)

        return self.workflow.compose(dataclasses.replace(sources, model=model), n_samples)


@checked(workflow=workflow, verifier=function, max_draws=whole(1))
@dataclass(frozen=True)
class Verified(Through):
    """Only rows that a verifier passes; the model writes until there are enough.

    Feng et al. (2025), Yi et al. (2026).

    - `verifier`: ``(rows, rng) -> mask``, shape (n,): which rows pass.
    - `max_draws`: Bounded effort: the model writes at most this many rows for each row that is
      needed.
    """

    verifier: Callable[[Rows, Random], Mask]
    max_draws: int = 100

    def written(self, sources: Sources, n: int) -> TrainingSet:
        kept, n_drawn = sources.model(0), 0
        while len(kept) < n:
            if n_drawn >= self.max_draws * n:
                raise RuntimeError(
                    f"the verifier passed {len(kept)} of {n_drawn} rows written for generation "
                    f"{sources.generation}, which needs {n}: raise max_draws (now "
                    f"{self.max_draws} rows written per row needed) or pass more rows"
                )
            # As many as the share that passed so far calls for, and a few to spare.
            expected = (n - len(kept)) * (n_drawn + 1) / (len(kept) + 1)
            batch = int(min(1.1 * expected + 10, self.max_draws * n - n_drawn))
            rows = sources.model(batch)
            kept = kept + rows[_mask("verifier", self.verifier(rows.X, sources.rng), batch)]
            n_drawn += batch
        return kept[:n]


@checked(workflow=workflow, plant=function, fraction=number(0, 1))
@dataclass(frozen=True)
class Poisoned(Through):
    """A fraction of all new rows, generated or fresh, is an attacker's: ``plant(n, rng)``."""

    plant: Callable[[int, Random], Rows]
    fraction: float

    def compose(self, sources: Sources, n_samples: int) -> tuple[Any, Any]:
        def attacked(source: Callable[[int], TrainingSet]) -> Callable[[int], TrainingSet]:
            def rows(n: int) -> TrainingSet:
                honest, n_bad = source(n), round(self.fraction * n)
                if n_bad == 0:
                    return honest
                like = _tables.Kind(honest.X, whole=False)
                bad = like(self.plant(n_bad, sources.rng), n_bad, f"plant({n_bad}, rng)")
                return honest[: n - n_bad] + TrainingSet.of(bad, PLANTED)

            return rows

        inner = dataclasses.replace(
            sources, model=attacked(sources.model), fresh=attacked(sources.fresh)
        )
        return self.workflow.compose(inner, n_samples)


@checked(tau=number(0, above=True))
@dataclass(frozen=True)
class Soft:
    """A verifier that passes a row at distance d of `centre` with chance ``exp(-d^2/(2 tau^2))``.

    Rows of a Gaussian that pass are again Gaussian: precisions add.
    """

    centre: float | tuple[float, ...]
    tau: float

    def __call__(self, rows: Rows, rng: Random) -> Mask:
        """Which rows pass, shape (n,)."""
        gap = np.reshape(np.asarray(rows, dtype=float) - np.asarray(self.centre), (len(rows), -1))
        return rng.random(len(rows)) < np.exp(-(gap**2).sum(axis=1) / (2 * self.tau**2))


def _mask(name: str, mask: ArrayLike, n: int) -> Mask:
    mask = np.asarray(mask)
    if mask.shape != (n,) or mask.dtype != bool:
        raise ValueError(
            f"{name} must return a boolean for each of {n} rows, got {mask.dtype} of shape "
            f"{mask.shape}"
        )
    return mask
