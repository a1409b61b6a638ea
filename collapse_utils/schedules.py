"""How much data: growing samples, the clock of collapse, time to collapse, and fixed budgets.

Workflow Replace. Generation n trains on M_n samples (n = 1..G). What a finite sample costs enters
every law of the refitted Gaussian and of resampled words through one sum,

    tau_n = 1/M_1 + ... + 1/M_n,

the clock: exactly in the expected drift of the mean, to first order elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import polygamma, zeta

from . import checks
from .gaussian import c4, log_var_drift, log_var_spread

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Mean overshoot of a standard Gaussian random walk without drift, -zeta(1/2) / sqrt(2 pi)
# (Chernoff 1965; Siegmund 1979).
OVERSHOOT = 0.5825971579390106


def power(first: int, exponent: float, n_generations: int) -> Ints:
    """The schedule M_n = first * n^exponent, rounded to integers.

    Parameters
    ----------
    first : int
        M_1.
    exponent : float
        p >= 0: 0 is constant, 1 linear, above 1 superlinear.
    n_generations : int
        G.

    Returns
    -------
    ndarray of int, shape (G,)

    Raises
    ------
    ValueError
        If an argument is out of range or a size does not fit into 62 bits.
    """
    first = checks.integer("first", first, 1)
    exponent = checks.real("exponent", exponent, 0)
    n_generations = checks.integer("n_generations", n_generations, 1)
    with np.errstate(over="ignore"):
        sizes = np.rint(first * np.arange(1, n_generations + 1, dtype=float) ** exponent)
    if sizes[-1] >= 2.0**62:
        raise ValueError(
            f"first * n_generations**exponent must be below 2**62, got {first} * "
            f"{n_generations}**{exponent:g}"
        )
    return sizes.astype(np.int64)


def clock(sizes: ArrayLike) -> Array:
    """tau_n, the sum of 1/M_i over i <= n, shape (G + 1,) with tau_0 = 0.

    With ddof = 1 this is E[mean_n^2] of a refitted Gaussian exactly, in any dimension per
    coordinate (Shumailov et al. 2024, supplement 3.1).
    """
    return np.concatenate([[0.0], np.cumsum(1 / _sizes(sizes))])


def clock_limit(first: int, exponent: float) -> float:
    """tau for ever under M_n = first * n^exponent: zeta(exponent)/first, infinite up to 1."""
    first = checks.integer("first", first, 1)
    exponent = checks.real("exponent", exponent, 0)
    return float(zeta(exponent) / first) if exponent > 1 else np.inf


def expected_log_var(sizes: ArrayLike, ddof: int = 1) -> Array:
    """E[log v_n], the sum of the drifts of all fits so far, shape (G + 1,). About -tau_n."""
    return np.concatenate([[0.0], np.cumsum(log_var_drift(_sizes(sizes, 2), ddof))])


def expected_w2(sizes: ArrayLike) -> Array:
    """E[W2^2] between the n-th fit and the truth with ddof = 1, shape (G + 1,).

    tau_n + 2 (1 - product of c4(M_i)), whose first order is the published 3/2 tau_n
    (Shumailov et al. 2024, supplement eq. 6).
    """
    checked = _sizes(sizes, 2)
    return clock(sizes) + 2 * (1 - np.concatenate([[1.0], np.cumprod(c4(checked))]))


def split(total: int, weights: ArrayLike, low: int = 2) -> Ints:
    """Divide a fixed budget of samples over the generations in proportion to `weights`.

    Parameters
    ----------
    total : int
        N, the sum of all sizes.
    weights : array, shape (G,)
        Positive; equal weights minimise the clock at generation G, because 1/M is convex.
        ``sqrt(G), ..., sqrt(1)`` minimise its average over the generations.
    low : int
        Smallest size that a generation may get.

    Returns
    -------
    ndarray of int, shape (G,)
        Sizes that sum to `total`, each rounded from its share.

    Raises
    ------
    ValueError
        If a weight is not positive and finite, or a generation would get fewer than `low`.
    """
    low = checks.integer("low", low, 1)
    total = checks.integer("total", total, low)
    share = np.asarray(weights, dtype=float)
    if share.ndim != 1 or not share.size or not (np.isfinite(share) & (share > 0)).all():
        raise ValueError(f"weights must be a list of positive finite numbers, got {weights!r}")
    edges = np.rint(total * np.cumsum(share) / share.sum()).astype(np.int64)
    sizes = np.diff(edges, prepend=0)
    if sizes.min() < low:
        raise ValueError(
            f"total must leave at least {low} samples for each generation, got total={total}, "
            f"which leaves {sizes.min()} for generation {sizes.argmin() + 1}"
        )
    return sizes


def collapse_time(m: int, level: float, ddof: int = 1) -> stats._distn_infrastructure.rv_frozen:
    """Law of the first generation whose variance is below `level` times the truth's.

    The log-variance is a random walk, so its first passage is close to that of Brownian motion
    with drift, an inverse Gaussian law. Wald's identity E[T] |drift| = ln(1/level) + E[overshoot]
    is exact, and the mean overshoot is, up to order 1/M,

        0.5826 sd + |drift|/4 + skewness * sd / 6

    with the first term the corrected diffusion approximation of Siegmund (1979). The mean is then
    about M ln(1/level) + 0.82 sqrt(M). With ddof = 0 the drift doubles and the time halves.

    Parameters
    ----------
    m : int
        M, samples per generation, at least 5.
    level : float
        Between 0 and 1.
    ddof : int
        0 or 1.

    Returns
    -------
    scipy.stats frozen distribution
        ``.mean()``, ``.median()``, ``.ppf`` and so on, in generations.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    m = checks.integer("m", m, 5)
    level = checks.real("level", level, 0, 1, open_low=True, open_high=True)
    ddof = checks.integer("ddof", ddof, 0, 1)
    drift, spread = -float(log_var_drift(m, ddof)), float(log_var_spread(m))
    third = -float(polygamma(2, (m - 1) / 2))  # third cumulant of -log chi-square
    distance = np.log(1 / level) + OVERSHOOT * np.sqrt(spread) + drift / 4 + third / (6 * spread)
    mean, shape = distance / drift, distance**2 / spread
    return stats.invgauss(mean / shape, scale=shape)


def first_passage(
    m: int, level: float, *, n_replicates: int, rng: np.random.Generator, ddof: int = 1
) -> tuple[Ints, Array]:
    """Simulate the first generation whose variance is below `level`, for each lineage.

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
    m = checks.integer("m", m, 2)
    level = checks.real("level", level, 0, 1, open_low=True, open_high=True)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    ddof = checks.integer("ddof", ddof, 0, 1)
    checks.generator(rng)
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


def survival(count: ArrayLike, sizes: Sequence[int] | NDArray[np.int64]) -> Array:
    """P(a rare item is still alive at generation G) when generation n draws M_n items.

    Each copy at generation n has Poisson(M_{n+1}/M_n) copies at generation n + 1, so with s_n the
    probability that one copy at generation n has descendants at generation G, s_G = 1,
    ``s_n = 1 - exp(-s_{n+1} M_{n+1}/M_n)`` and the answer is ``1 - exp(-count * s_1)``. With
    constant sizes s_1 is g_G of Suresh et al. (2025), about 2/G; in general 1/(1 - exp(-x)) is
    close to 1/x + 1/2, so s_1 is about 2 / (M_1 (tau_G + 1/M_G)).

    Parameters
    ----------
    count : array
        Expected number of occurrences in the first sample, M_1 times the probability; small
        against M_1.
    sizes : sequence of int
        M_1, ..., M_G.

    Returns
    -------
    ndarray
        The shape of `count`.

    Raises
    ------
    ValueError
        If a count is negative or not finite, or a size is less than 1.
    """
    count = np.asarray(count, dtype=float)
    if not (np.isfinite(count) & (count >= 0)).all():
        raise ValueError(f"count must be finite and >= 0, got {count}")
    m = _sizes(sizes)
    alive = 1.0
    for growth in (m[1:] / m[:-1])[::-1]:
        alive = -np.expm1(-growth * alive)
    return -np.expm1(-count * alive)


def _sizes(sizes: ArrayLike, low: int = 1) -> Array:
    values = np.asarray(sizes)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "iu":
        raise ValueError(f"sizes must be a list of integers, one per generation, got {sizes!r}")
    if (values < low).any():
        n = int((values < low).argmax())
        raise ValueError(f"sizes[{n}] must be an integer >= {low}, got {values[n]}")
    return values.astype(float)
