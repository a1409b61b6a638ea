"""Gaussians refitted generation after generation: exact simulators and closed forms.

A Gaussian fit looks at its data only through the count, the mean and the sum of squared
deviations, and for normal data these two statistics are independent: the mean is normal and the
sum of squares is a scaled chi-square with M - 1 degrees of freedom. Drawing the two statistics
instead of the M samples gives *the same law* at a cost that does not depend on M. Pools of rows
are merged by Chan's formula.

Throughout, index 0 of an array over generations is the truth and index n the n-th fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, poch, polygamma

from .. import _checks
from .._checks import checked, whole
from ..workflows import (
    Accumulate,
    FreshData,
    Mix,
    Replace,
    Workflow,
)

Array = NDArray[np.float64]


# --------------------------------------------------------------------------- the model


class Gaussian:
    """A Gaussian with fitted mean and covariance, in the loop's convention.

    Parameters
    ----------
    ddof : int
        The sum of squares is divided by ``n - ddof``: 1 is the unbiased estimator of
        Theorem 3.1 of Shumailov et al. (2024), 0 the maximum-likelihood one of their released
        notebook.

    Attributes
    ----------
    mean_ : ndarray, shape (d,)
    cov_ : ndarray, shape (d, d)
    """

    def __init__(self, ddof: int = 1):
        self.ddof = _checks.integer("ddof", ddof, 0, 1)

    def fit(self, X: ArrayLike) -> Gaussian:
        """Fit mean and covariance to rows of shape (n,) or (n, d).

        Raises
        ------
        ValueError
            If there are too few rows for a covariance (n <= ddof).
        """
        X = np.asarray(X, dtype=float)
        self._flat = X.ndim == 1
        rows = X[:, None] if self._flat else X
        if len(rows) <= self.ddof:
            raise ValueError(f"X must have more than ddof={self.ddof} rows, got {len(rows)}")
        self.mean_ = rows.mean(axis=0)
        centred = rows - self.mean_
        self.cov_ = centred.T @ centred / (len(rows) - self.ddof)
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` rows in the shape that ``fit`` was given."""
        # A square root by eigenvectors also serves a covariance that has lost rank.
        values, vectors = np.linalg.eigh(self.cov_)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        rows = self.mean_ + rng.standard_normal((n, len(self.mean_))) @ root.T
        return rows[:, 0] if self._flat else rows


# --------------------------------------------------------------------------- simulators


@dataclass(frozen=True)
class Paths:
    """Fitted parameters along the generations.

    Attributes
    ----------
    mean, var : ndarray, shape (G + 1, R)
        Row 0 holds the true mean and variance, row n the n-th fit.
    """

    mean: Array
    var: Array

    @property
    def sd(self) -> Array:
        """Standard deviations, shape (G + 1, R)."""
        return np.sqrt(self.var)

    def w2(self) -> Array:
        """Squared 2-Wasserstein distance of each fit from the truth, shape (G + 1, R)."""
        return (self.mean - self.mean[0]) ** 2 + (self.sd - self.sd[0]) ** 2


def simulate(
    workflow: Workflow | None = None,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    ddof: int = 1,
    mean: float = 0.0,
    var: float = 1.0,
    every_sample: bool = False,
) -> Paths:
    """Refit a one-dimensional Gaussian generation after generation, R times at once.

    The law is that of :func:`collapse_utils.recurse` with :class:`Gaussian` and normal data.

    Parameters
    ----------
    workflow : Replace, FreshData, Accumulate, or Mix with ``beta=0`` and ``redraw=False``
        Default :class:`Replace`.
    n_samples : int, sequence, or callable ``generation -> int``
        M, the (new) rows of each generation.
    n_generations, n_replicates : int
        G and R.
    rng : numpy.random.Generator
    ddof : int
        0 or 1, see :class:`Gaussian`.
    mean, var : float
        The truth.
    every_sample : bool
        Draw all M samples instead of their two sufficient statistics: the brute-force oracle.

    Returns
    -------
    Paths
        Arrays of shape (G + 1, R).

    Raises
    ------
    ValueError
        If an argument is out of range, or the workflow has no exact reduction (it needs raw
        rows: use ``recurse``).
    """
    workflow = Replace() if workflow is None else workflow
    _checks.generator(rng)
    ddof = _checks.integer("ddof", ddof, 0, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    sizes = _checks.schedule(n_samples, n_generations, low=ddof + 1)
    mean = _checks.real("mean", mean)
    var = _checks.real("var", var, 0, open_low=True)
    if isinstance(workflow, Replace) and not every_sample:
        return _replace(sizes, n_replicates, rng, ddof, mean, var)
    step = _stepper(workflow, sizes)
    draw = _draw_samples if every_sample else _draw_statistics
    means = np.empty((n_generations + 1, n_replicates))
    variances = np.empty_like(means)
    means[0], variances[0] = mean, var
    truth = Stats(0, means[0], variances[0])  # parameters to draw from; no rows yet
    state: Stats | None = None
    for g, size in enumerate(sizes, start=1):
        parent = Stats(0, means[g - 1], variances[g - 1])
        state, training = step(state, truth, parent, int(size), draw, rng)
        means[g] = training.mean
        variances[g] = training.ss / (training.n - ddof)
    return Paths(means, variances)


@dataclass(frozen=True)
class Stats:
    """Sufficient statistics of n rows: count, mean and sum of squared deviations, shape (R,)."""

    n: int
    mean: Array
    ss: Array

    def merge(self, other: Stats) -> Stats:
        """Statistics of the rows of both (Chan, Golub and LeVeque 1983)."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        gap = other.mean - self.mean
        return Stats(
            n, self.mean + gap * (other.n / n), self.ss + other.ss + gap**2 * (self.n * other.n / n)
        )


# A draw takes (mean, var, n, rng) to the statistics of n normal rows per replicate.
Draw = Callable[[Array, Array, int, np.random.Generator], Stats]


def _draw_statistics(mean: Array, var: Array, n: int, rng: np.random.Generator) -> Stats:
    if n == 0:
        return Stats(0, mean, np.zeros_like(mean))
    centre = mean + np.sqrt(var / n) * rng.standard_normal(len(mean))
    ss = var * rng.chisquare(n - 1, len(mean)) if n > 1 else np.zeros_like(mean)
    return Stats(n, centre, ss)


def _draw_samples(mean: Array, var: Array, n: int, rng: np.random.Generator) -> Stats:
    if n == 0:
        return Stats(0, mean, np.zeros_like(mean))
    z_mean = np.empty_like(mean)
    z_ss = np.empty_like(mean)
    block = max(1, 2**15 // n)  # keeps the drawn numbers in the processor's cache
    buffer = np.empty((min(block, len(mean)), n))
    for start in range(0, len(mean), block):
        z = buffer[: len(mean) - start]
        rng.standard_normal(out=z)
        centre = z.mean(axis=1)
        z_mean[start : start + block] = centre
        z_ss[start : start + block] = np.einsum("ij,ij->i", z, z) - n * centre**2
    return Stats(n, mean + np.sqrt(var) * z_mean, var * z_ss)


def _stepper(workflow: Workflow, sizes: NDArray[np.int64]):
    """The recursion of one workflow: (state, truth, parent, M, draw, rng) -> (state, training)."""

    def replace(state, truth, parent, size, draw, rng):
        training = draw(parent.mean, parent.ss, size, rng)
        return training, training

    def fresh(state, truth, parent, size, draw, rng):
        n_model, n_fresh = workflow.counts(size) if state is not None else (0, size)
        training = draw(parent.mean, parent.ss, n_model, rng).merge(
            draw(truth.mean, truth.ss, n_fresh, rng)
        )
        return training, training

    def accumulate(state, truth, parent, size, draw, rng):
        new = draw(parent.mean, parent.ss, size, rng)
        pool = new if state is None else state.merge(new)
        return pool, pool

    def mix(state, truth, parent, size, draw, rng):
        if state is None:  # split the real rows into the subset that is kept and the rest
            kept = draw(truth.mean, truth.ss, n_kept, rng)
            return kept, kept.merge(draw(truth.mean, truth.ss, size - n_kept, rng))
        return state, state.merge(draw(parent.mean, parent.ss, size - n_kept, rng))

    if isinstance(workflow, Replace):
        return replace
    if isinstance(workflow, FreshData):
        return fresh
    if isinstance(workflow, Accumulate):
        return accumulate
    if isinstance(workflow, Mix) and workflow.beta == 0 and not workflow.redraw:
        kept_sizes = {workflow.counts(int(m))[2] for m in sizes[1:]} or {0}
        n_kept = kept_sizes.pop()
        if kept_sizes or n_kept > sizes[0]:
            raise ValueError(
                "n_samples must keep the same number of original rows in every generation, at "
                f"most the first {sizes[0]}, got sizes {sizes.tolist()}"
            )
        return mix
    raise ValueError(
        "workflow must be Replace, FreshData, Accumulate or Mix(alpha, gamma=..., redraw=False); "
        f"{workflow!r} needs the raw rows: use collapse_utils.recurse with Gaussian"
    )


def _replace(sizes, n_replicates, rng, ddof, mean, var) -> Paths:
    """Under Replace the variance is a product of independent chi-squares: no recursion at all."""
    n_generations = len(sizes)
    means = np.empty((n_generations + 1, n_replicates))
    variances = np.empty_like(means)
    # Sizes are few and repeat, and numpy draws fastest with one scalar parameter.
    runs = [(run, int(sizes[run.start])) for run in _runs(sizes)]
    root = np.sqrt(sizes)[:, None]
    block = max(16, 2**15 // n_generations)  # the arrays of one block fit in the cache
    for start in range(0, n_replicates, block):
        width = min(block, n_replicates - start)
        v = np.empty((n_generations + 1, width))
        v[0] = var
        for run, m in runs:
            draws = rng.standard_gamma((m - 1) / 2, (run.stop - run.start, width))
            np.multiply(draws, 2 / (m - ddof), out=v[run.start + 1 : run.stop + 1])
        np.multiply.accumulate(v, axis=0, out=v)
        steps = rng.standard_normal((n_generations, width))
        steps *= np.sqrt(v[:-1])
        steps /= root
        means[0, start : start + width] = mean
        np.add.accumulate(steps, axis=0, out=steps)
        means[1:, start : start + width] = steps + mean
        variances[:, start : start + width] = v
    return Paths(means, variances)


def _runs(sizes: NDArray[np.int64]) -> list[slice]:
    """Slices of equal consecutive sizes."""
    edges = np.flatnonzero(np.diff(sizes)) + 1
    return [slice(int(a), int(b)) for a, b in zip([0, *edges], [*edges, len(sizes)], strict=True)]


def first_passage(
    m: int, level: float, *, n_replicates: int, rng: np.random.Generator, ddof: int = 1
) -> tuple[NDArray[np.int64], Array]:
    """First generation whose variance is below `level` times the truth's, under Replace.

    The log-variance is a random walk, so lineages are followed in blocks of generations, and one
    that has arrived is dropped.

    Returns
    -------
    time : ndarray of int, shape (R,)
    overshoot : ndarray, shape (R,)
        log(level / v) at that generation, > 0.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    m = _checks.integer("m", m, 2)
    level = _checks.real("level", level, 0, 1, open_low=True, open_high=True)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    ddof = _checks.integer("ddof", ddof, 0, 1)
    _checks.generator(rng)
    block = max(16, m // 2)  # generations at a time; a lineage that has arrived is dropped
    time = np.zeros(n_replicates, dtype=np.int64)
    overshoot = np.zeros(n_replicates)
    left, log_v, done = np.arange(n_replicates), np.zeros(n_replicates), 0
    while len(left):
        draws = rng.standard_gamma((m - 1) / 2, (block, len(left))) * (2 / (m - ddof))
        walk = log_v + np.cumsum(np.log(draws, out=draws), axis=0)
        below = walk < np.log(level)
        arrived = below.any(axis=0)
        step = below.argmax(axis=0)[arrived]
        time[left[arrived]] = done + 1 + step
        overshoot[left[arrived]] = np.log(level) - walk[step, np.flatnonzero(arrived)]
        left, log_v, done = left[~arrived], walk[-1, ~arrived], done + block
    return time, overshoot


@checked(
    dim=whole(1), n_generations=whole(1), n_replicates=whole(1), ddof=whole(0, 1), rng=_checks.rng
)
def bartlett(
    *,
    dim: int,
    n_samples: _checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    ddof: int = 1,
) -> Iterator[tuple[Array, Array]]:
    """Refit a d-dimensional standard Gaussian under Replace, exactly, without its rows.

    The scatter matrix of M rows of N(m, L L^T) is L A A^T L^T with A lower triangular,
    A_jj^2 ~ chi-square with M - j degrees of freedom and standard normal entries below the
    diagonal (Bartlett 1933), so each refit is L <- L A / sqrt(M - ddof). Eigenvalues are the
    squared singular values of L: ``eigvalsh(L L^T)`` turns negative beyond a condition of 1e16.

    Parameters
    ----------
    dim : int
        Dimension d; every M must exceed it.
    n_samples : int, sequence, or callable ``generation -> int``
    n_generations, n_replicates : int
        G and R.
    rng : numpy.random.Generator
    ddof : int
        0 or 1, see :class:`Gaussian`.

    Yields
    ------
    mean : ndarray, shape (R, d)
    factor : ndarray, shape (R, d, d)
        Lower-triangular L of generation 0 (the identity), 1, ..., G.
    """
    sizes = _checks.schedule(n_samples, n_generations, low=dim + 1)
    return _bartlett(dim, sizes, n_replicates, rng, ddof)


def _bartlett(dim, sizes, r, rng, ddof):
    mean, factor = np.zeros((r, dim)), np.broadcast_to(np.eye(dim), (r, dim, dim))
    lower, diag = np.tril_indices(dim, -1), np.arange(dim)
    yield mean, factor
    for m in sizes:
        step = factor @ rng.standard_normal((r, dim, 1))
        mean = mean + step[..., 0] / np.sqrt(m)
        spread = np.zeros((r, dim, dim))
        spread[:, diag, diag] = np.sqrt(rng.chisquare(m - 1 - diag, (r, dim)) / (m - ddof))
        spread[:, lower[0], lower[1]] = rng.standard_normal((r, len(lower[0]))) / np.sqrt(m - ddof)
        factor = factor @ spread
        yield mean, factor


# --------------------------------------------------------------------------- closed forms
# All for Replace with constant M and a truth of mean 0 and variance 1, unless said otherwise.


def c4(m: ArrayLike) -> Array:
    """E[s] / sigma for the unbiased standard deviation of m >= 2 normal rows.

    Gamma(m/2) / Gamma((m-1)/2) * sqrt(2/(m-1)), about 1 - 1/(4(m-1)).
    """
    m = np.asarray(m, dtype=float)
    # A difference of log-gammas would lose three digits of 1 - c4 at m = 10^6.
    return np.sqrt(2 / (m - 1)) * poch((m - 1) / 2, 0.5)


def log_var_drift(m: ArrayLike, ddof: int = 1) -> Array:
    """E[log(v_n / v_{n-1})], the drift of the log-variance per generation.

    psi((m-1)/2) - log((m-ddof)/2), because v_n / v_{n-1} is chi-square(m-1) / (m-ddof).
    """
    m = np.asarray(m, dtype=float)
    return digamma((m - 1) / 2) - np.log((m - ddof) / 2)


def log_var_spread(m: ArrayLike) -> Array:
    """Var[log(v_n / v_{n-1})] = psi_1((m-1)/2), about 2/(m-1), per generation."""
    return polygamma(1, (np.asarray(m, dtype=float) - 1) / 2)


def expected_var(n: ArrayLike, m: int, ddof: int = 1) -> Array:
    """E[v_n]: 1 for ever with ddof = 1, (1 - 1/m)^n with ddof = 0."""
    return ((m - 1) / (m - ddof)) ** np.asarray(n, dtype=float)


def expected_mean_square(n: ArrayLike, m: int, ddof: int = 1) -> Array:
    """E[mean_n^2], the sum of E[v_i]/m over i < n: n/m, or 1 - (1 - 1/m)^n with ddof = 0."""
    n = np.asarray(n, dtype=float)
    return n / m if ddof else 1 - (1 - 1 / m) ** n


def expected_sd(n: ArrayLike, m: int, ddof: int = 1) -> Array:
    """E[sd_n], a product of n independent chi factors."""
    return (c4(m) * np.sqrt((m - 1) / (m - ddof))) ** np.asarray(n, dtype=float)


def expected_w2(n: ArrayLike, m: int, ddof: int = 1) -> Array:
    """E[W2^2] between the n-th fit and the truth, exact.

    E[mean_n^2] + E[v_n] + 1 - 2 E[sd_n]. With ddof = 1 this is n/m + 2(1 - c4(m)^n), whose first
    order 3n/(2m) is equation 6 of the supplement of Shumailov et al. (2024); with ddof = 0 it is
    2 - 2 E[sd_n], which tends to 2.
    """
    return (
        expected_mean_square(n, m, ddof)
        + expected_var(n, m, ddof)
        + 1
        - 2 * expected_sd(n, m, ddof)
    )


def expected_w2_published(n: ArrayLike, m: int) -> Array:
    """3n/(2m): the published first-order form (supplement of Shumailov et al. 2024, eq. 6)."""
    return 1.5 * np.asarray(n, dtype=float) / m


def sample_variance(n: ArrayLike, sizes: ArrayLike) -> Array:
    """Var[X^n], the variance over lineages and samples of one row of generation n (ddof = 1).

    1 + sum over i <= n of 1/M_i: exact, where the published form carries an O(2) remainder.

    Parameters
    ----------
    n : array of int
        Generations.
    sizes : int or sequence
        M, or M_1, M_2, ...
    """
    n = np.asarray(n, dtype=int)
    if np.ndim(sizes) == 0:
        return 1 + n / float(sizes)  # type: ignore[arg-type]
    return 1 + np.concatenate([[0.0], np.cumsum(1 / np.asarray(sizes, dtype=float))])[n]


def expected_kl(n: ArrayLike, m: int) -> Array:
    """E[KL(n-th fit || truth)] with ddof = 1: n/(2m) - n log_var_drift(m)/2, about n/m."""
    n = np.asarray(n, dtype=float)
    return n / (2 * m) - n * log_var_drift(m) / 2
