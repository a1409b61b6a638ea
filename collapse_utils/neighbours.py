"""Forgetting, poisoning and collapse: one learner, one truth, and four recipes for its data.

The learner keeps the probabilities of S symbols and moves towards what it reads,
``p <- (1 - rate) p + rate f``, where f are the frequencies of M new rows. What goes wrong depends
only on where those rows come from: from the truth, from one task alone (catastrophic forgetting),
from an attacker (data poisoning) or from the learner itself (model collapse).

Beside the simulators stand exact laws, and workflows of the same kinds for
:func:`collapse_utils.recurse`. Taught in the chapter "Forgetting, poisoning, collapse".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import _checks
from .models.words import probabilities
from .workflows import Sources, TrainingSet

Array = NDArray[np.float64]

"""Provenance of the rows of an attacker: no generation wrote them."""


@dataclass(frozen=True)
class Recipe:
    """Shares of the rows that the learner reads in every generation after the first.

    Parameters
    ----------
    real, task, planted, own : float
        From the truth, from one task, from an attacker, and from the learner itself. They are
        non-negative and sum to one.

    Raises
    ------
    ValueError
        If a share is negative or the shares do not sum to one.
    """

    real: float = 0.0
    task: float = 0.0
    planted: float = 0.0
    own: float = 0.0

    def __post_init__(self) -> None:
        for name, share in dataclasses.asdict(self).items():
            _checks.real(name, share, 0, 1)
        total = sum(dataclasses.astuple(self))
        if abs(total - 1) > 1e-9:
            raise ValueError(f"real + task + planted + own must be 1, got {total:g}")

    def with_real(self, share: float) -> Recipe:
        """The same recipe with a share of its rows replaced by fresh ones from the truth."""
        share = _checks.real("share", share, 0, 1)
        old = (1 - share) * np.array(dataclasses.astuple(self))
        return Recipe(old[0] + share, *map(float, old[1:]))

    def counts(self, n_samples: int) -> NDArray[np.int64]:
        """Rows of each kind (largest remainders)."""
        exact = np.array(dataclasses.astuple(self)) * n_samples
        whole = np.floor(exact + 1e-9).astype(np.int64)
        whole[np.argsort(whole - exact, kind="stable")[: n_samples - whole.sum()]] += 1
        return whole


HEALTHY = Recipe(real=1.0)
FORGETTING = Recipe(task=1.0)
COLLAPSE = Recipe(own=1.0)


@dataclass(frozen=True)
class World:
    """What there is to know, and what the neighbours do to it.

    Parameters
    ----------
    truth : array, shape (S,)
        Probabilities of the symbols.
    task : array of bool, shape (S,)
        Symbols of the task that alone goes on; the other symbols make up the old task.
    target : int
        The symbol that the attacker plants.

    Raises
    ------
    ValueError
        If `truth` is no distribution, a task has no mass, or `target` is no symbol.
    """

    truth: Array
    task: NDArray[np.bool_]
    target: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "truth", probabilities(self.truth, "truth"))
        task = np.asarray(self.task)
        if task.dtype != bool or task.shape != self.truth.shape:
            raise ValueError(
                f"task must be true or false for each of the {len(self.truth)} symbols, got an "
                f"array of {task.dtype} with shape {task.shape}"
            )
        if not 0 < self.truth[task].sum() < 1:
            raise ValueError(f"task must hold some of the mass, got {self.truth[task].sum():g}")
        object.__setattr__(self, "task", task)
        _checks.integer("target", self.target, 0, len(self.truth) - 1)

    @property
    def task_law(self) -> Array:
        """The truth restricted to the task."""
        return np.where(self.task, self.truth, 0.0) / self.truth[self.task].sum()

    @property
    def attack(self) -> Array:
        """All mass on the target."""
        return np.eye(len(self.truth))[self.target]


def zipf_world(n_symbols: int) -> World:
    """Two tasks of equal mass with `n_symbols` each, frequent ones first, probability ~ 1/rank.

    The second task goes on; the attacker plants the rarest symbol of the first.
    """
    n = _checks.integer("n_symbols", n_symbols, 2)
    p = 0.5 / np.arange(1, n + 1) / (1 / np.arange(1, n + 1)).sum()
    return World(np.tile(p, 2), np.arange(2 * n) >= n, n - 1)


def simulate(
    world: World,
    recipe: Recipe,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    rate: float = 1.0,
    replay: bool | int = False,
    n_sources: int | None = None,
    trim: float = 0.1,
) -> Array:
    """The learner's probabilities, for R lineages at once.

    Generation 1 is the frequencies of M rows of the truth; from generation 2 on the rows follow
    the recipe.

    Parameters
    ----------
    world : World
    recipe : Recipe
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator
    rate : float
        How far the learner moves towards new frequencies, in (0, 1].
    replay : bool or int
        Store every row that is read (an int: the last so many training sets), and learn from M
        rows drawn from the store in place of the new ones, with the tasks in the proportion of
        the first training set.
    n_sources : int, optional
        The rows come in so many equal parts, of which an attacker fills whole ones; the learner
        takes the trimmed mean over parts of each frequency, divided by the sum of all.
    trim : float
        Share of the parts to leave out at each end, in [0, 0.5).

    Returns
    -------
    ndarray, shape (G + 1, R, S)
        Index 0 is the truth.

    Raises
    ------
    ValueError
        If an argument is out of range, or the sources do not divide the rows.
    """
    m = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    rate = _checks.real("rate", rate, 0, 1, open_low=True)
    _checks.generator(rng)
    window = None if isinstance(replay, bool) else _checks.integer("replay", replay, 1)
    if n_sources is not None:
        n_sources = _checks.integer("n_sources", n_sources, 2, m)
        trim = _checks.real("trim", trim, 0, 0.5, open_high=True)
        if m % n_sources:
            raise ValueError(f"n_sources must divide n_samples={m}, got {n_sources}")
        if replay:
            raise ValueError(f"replay must be off with n_sources={n_sources}, got {replay!r}")
    path = np.empty((n_generations + 1, r, len(world.truth)))
    store = rng.multinomial(m, world.truth, size=r)
    path[0], path[1] = world.truth, store / m
    old_share = store[:, ~world.task].sum(axis=1) / m
    recent = [store.copy()]
    n_real, n_task, n_planted, n_own = recipe.counts(m)
    for g in range(2, n_generations + 1):
        p = path[g - 1]
        if n_sources is not None:
            f = _trimmed(world, recipe, p, m, n_sources, trim, rng)
        else:
            rows = rng.multinomial(n_own, p)
            rows += rng.multinomial(n_real, world.truth, size=r)
            rows += rng.multinomial(n_task, world.task_law, size=r)
            rows[:, world.target] += n_planted
            if replay:
                store += rows
                if window is not None:
                    recent.append(rows)
                    if len(recent) > window:
                        store -= recent.pop(0)
                rows = _replayed(store, world.task, old_share, m, rng)
            f = rows / m
        path[g] = (1 - rate) * p + rate * f
    return path


def _trimmed(world, recipe, p, m, n_sources, trim, rng) -> Array:
    """Trimmed mean over sources of each frequency, then normalised, shape (R, S)."""
    n_bad = round(recipe.planted * n_sources)
    size = m // n_sources
    honest = recipe.real * world.truth + recipe.task * world.task_law + recipe.own * p
    honest /= honest.sum(axis=1, keepdims=True)
    parts = rng.multinomial(size, np.repeat(honest[:, None], n_sources, axis=1))
    parts[:, :n_bad] = 0
    parts[:, :n_bad, world.target] = size
    cut = math.floor(trim * n_sources)
    kept = np.sort(parts, axis=1)[:, cut : n_sources - cut].sum(axis=1).astype(float)
    total = kept.sum(axis=1, keepdims=True)
    return np.where(total > 0, kept / np.maximum(total, 1), p)


def _replayed(store, task, old_share, m, rng) -> NDArray[np.int64]:
    """M rows of the store per lineage, the tasks in their first proportion."""
    held = np.stack([np.where(~task, store, 0), np.where(task, store, 0)])
    total = held.sum(axis=2)
    n_old = np.rint(old_share * m).astype(np.int64)
    # a task that is not in the store cannot be replayed: the other one takes its place
    n_old = np.where(total[0] == 0, 0, np.where(total[1] == 0, m, n_old))
    law = np.where(total[..., None] > 0, held / np.maximum(total, 1)[..., None], 1 / len(task))
    return rng.multinomial(n_old, law[0]) + rng.multinomial(m - n_old, law[1])


# --------------------------------------------------------------------------- laws


def expected(
    world: World, recipe: Recipe, *, n_samples: int, n_generations: int, rate: float = 1.0
) -> tuple[Array, Array]:
    """Mean model and mean squared error of :func:`simulate` without a remedy; exact.

    With shares o, t, k, a of own, real, task and planted rows the mean moves by
    ``E p' = (1 - rate + rate o) E p + rate (t truth + k task + a attack)`` and the variance, summed
    over symbols, by ``V' = (1 - rate + rate o)^2 V + rate^2 (o E H(p) + t H_truth + k H_task) / M``
    with ``E H(p) = 1 - |E p|^2 - V``, because each kind fills a fixed number of rows.

    Returns
    -------
    mean : ndarray, shape (G + 1, S)
    error : ndarray, shape (G + 1,)
        ``E |p_n - truth|^2``, the squared bias plus the variance.
    """
    m = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    rate = _checks.real("rate", rate, 0, 1, open_low=True)
    t, k, a, o = recipe.counts(m) / m
    truth, task = world.truth, world.task_law
    mean, variance = [truth, truth], [0.0, (1 - truth @ truth) / m]
    for _ in range(n_generations - 1):
        b, v = mean[-1], variance[-1]
        noise = o * (1 - b @ b - v) + t * (1 - truth @ truth) + k * (1 - task @ task)
        mean.append((1 - rate + rate * o) * b + rate * (t * truth + k * task + a * world.attack))
        variance.append((1 - rate + rate * o) ** 2 * v + rate**2 * noise / m)
    means = np.array(mean)
    return means, ((means - truth) ** 2).sum(axis=1) + np.array(variance)


def forgetting_law(share: float, dim: int) -> float:
    """Mean squared training error on task 1 after task 2, for a target of length one.

    Two noiseless regressions with ``n = share * dim`` Gaussian rows each, fitted one after the
    other by the nearest interpolating weights: ``a (1 - a)^2 d^2 / ((d - 1)(d + 2))``, exactly.
    The setting is that of Evron et al. (2022); the chapter derives the formula.
    """
    a = _checks.real("share", share, 0, 1)
    d = _checks.integer("dim", dim, 2)
    return a * (1 - a) ** 2 * d**2 / ((d - 1) * (d + 2))


def forget_regression(
    dim: int, n_rows: int, n_replicates: int, rng: np.random.Generator, *, replay: bool = False
) -> Array:
    """Training error on task 1 after task 2, from raw data, shape (R,).

    Parameters
    ----------
    dim, n_rows, n_replicates : int
        d, rows per task n (below d; with replay, at most d / 2), and R.
    rng : numpy.random.Generator
    replay : bool
        Show the rows of task 1 again together with those of task 2.
    """
    d = _checks.integer("dim", dim, 2)
    n = _checks.integer("n_rows", n_rows, 1, d // 2 if replay else d - 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    _checks.generator(rng)
    first, second = rng.standard_normal((2, r, n, d))
    target = rng.standard_normal((r, d, 1))
    target /= np.linalg.norm(target, axis=1, keepdims=True)
    both = np.concatenate([first, second], axis=1)
    w = fit_in_turn([first, both if replay else second], target)
    return ((first @ (target - w))[..., 0] ** 2).mean(axis=1)


def fit_in_turn(tasks: Sequence[Array], target: Array) -> Array:
    """Weights after fitting noiseless regressions one after the other, shape (..., d, 1).

    Each fit starts from the weights of the one before and moves to the nearest weights that
    reproduce its labels, where gradient descent arrives.

    Parameters
    ----------
    tasks : sequence of arrays, shape (..., n, d)
        Inputs of each task, n <= d.
    target : ndarray, shape (..., d, 1)
        The true weights.
    """
    w = np.zeros_like(target)
    for X in tasks:
        transposed = np.swapaxes(X, -1, -2)
        w = w + transposed @ np.linalg.solve(X @ transposed, X @ (target - w))
    return w


# --------------------------------------------------------------------------- workflows


@dataclass(frozen=True)
class NewTask:
    """Train on new rows of another task, and remember some of the old ones.

    Parameters
    ----------
    draw : callable
        ``(n, rng) -> rows`` of the new task.
    memory : float
        Share of rows taken from the previous training set.
    replay : float
        Share of rows taken from the first training set.

    Raises
    ------
    ValueError
        If a share is out of range or they leave no room for the new task.
    """

    draw: Callable[[int, np.random.Generator], NDArray]
    memory: float = 0.0
    replay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("memory", "replay"):
            _checks.real(name, getattr(self, name), 0, 1)
        if self.memory + self.replay > 1 + 1e-9:
            raise ValueError(
                f"memory + replay must be at most 1, got {self.memory:g} + {self.replay:g}"
            )

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`collapse_utils.workflows.Workflow`."""
        n_memory, n_replay = round(self.memory * n_samples), round(self.replay * n_samples)
        n_new = max(0, n_samples - n_memory - n_replay)
        rows = np.asarray(self.draw(n_new, sources.rng)) if n_new else sources.original.X[:0]
        new = TrainingSet.of(rows, 0) + sources.previous.choose(n_memory, sources.rng)
        new = new + sources.original.choose(n_samples - n_new - n_memory, sources.rng)
        return new, new
