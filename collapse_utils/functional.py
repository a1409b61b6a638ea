"""Fits as maps on distributions: what a model family does with unlimited data.

With unlimited data a fit takes a distribution and returns a distribution. :func:`project` returns
the Gaussian with the same mean and variance, :func:`smooth` what a kernel density estimate with a
fixed bandwidth tends to. Distances are integrals over panels by two Gauss-Legendre rules, and come
with an error estimate. Taught in the chapter ``one_for_two``.

Distributions follow scipy's frozen ones (``pdf``, ``logpdf``, ``cdf``, ``sf``, ``ppf``, ``isf``,
``rvs``, ``mean``, ``var``), so ``scipy.stats`` can be used as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from . import _checks
from .models.density import (  # noqa: F401
    Estimate,
    NormalMixture,
    _edges,
    expect,
    integrate,
    kl,
    project,
    two_gaussians,
)
from .models.gaussian import Paths, c4, log_var_drift, simulate

Array = NDArray[np.float64]
Fit = Callable[[Any], Any]


# --------------------------------------------------------------------------- distributions


def gaussian(mean: float, sd: float) -> NormalMixture:
    """The normal distribution as a mixture of one."""
    return NormalMixture([mean], [sd])


def laplace() -> Any:
    """Laplace distribution with mean 0 and variance 1."""
    return stats.laplace(scale=np.sqrt(0.5))


def student_t(df: float) -> Any:
    """Student's t distribution with `df` degrees of freedom, scaled to variance 1.

    Raises
    ------
    ValueError
        If `df` < 3: closer to 2 the variance sits so far out that the panels do not reach it.
    """
    df = _checks.real("df", df, 3)
    return stats.t(df, scale=np.sqrt((df - 2) / df))


# --------------------------------------------------------------------------- quadrature


def l2(p: Any, q: Any) -> Estimate:
    """Integral of (p - q)^2."""
    edges = np.union1d(_edges(p), _edges(q))
    return integrate(lambda x: (p.pdf(x) - q.pdf(x)) ** 2, edges)


def w2(p: Any, q: Any) -> Estimate:
    """Squared 2-Wasserstein distance on the line: E_p[(X - Q_q(F_p(X)))^2].

    The monotone map Q_q(F_p(.)) is the cheapest one; above the median it is computed from the
    upper tails.
    """
    return expect(p, lambda x: (x - _transport(p, q, x)) ** 2)


def _transport(p: Any, q: Any, x: Array) -> Array:
    lower, upper = p.cdf(x), p.sf(x)
    tiny = np.finfo(float).tiny  # the map is needed only where p has mass
    return np.where(
        lower < 0.5,
        q.ppf(np.clip(lower, tiny, 0.5)),
        q.isf(np.clip(upper, tiny, 0.5)),
    )


def quantile_covariance(p: Any) -> Estimate:
    """C = E[Q_p(U) z(U)], the covariance of the quantiles of p with those of N(0, 1).

    The squared W2 distance of p (mean m, variance v) from N(a, s^2) is
    (m - a)^2 + v + s^2 - 2 s C, and C <= sqrt(v) with equality only for a Gaussian p.
    """
    normal = gaussian(0, 1)
    return expect(p, lambda x: (x - p.mean()) * _transport(p, normal, x))


def tail(p: Any, distance: float) -> float:
    """P(|X - mean| > distance)."""
    return float(p.cdf(p.mean() - distance) + p.sf(p.mean() + distance))


def standard_cumulants(p: Any) -> tuple[float, float]:
    """Fourth and sixth cumulant of p scaled to variance 1, for a p that is symmetric.

    The fourth is the excess kurtosis. For a Gaussian both are 0.

    Raises
    ------
    ValueError
        If the sixth moment does not converge, as for Student's t with 6 degrees of freedom or less.
    """
    mean, sd = p.mean(), np.sqrt(p.var())
    m4, m6 = (expect(p, lambda x, k=k: ((x - mean) / sd) ** k) for k in (4, 6))
    if not m6.error < 1e-6 * m6.value:
        raise ValueError(f"p must have a finite sixth moment, got an integral of {m6}")
    return m4.value - 3, m6.value - 15 * m4.value + 30


# --------------------------------------------------------------------------- fits


def smooth(bandwidth: float) -> Fit:
    """The fit p -> p * N(0, bandwidth^2): a Gaussian kernel density estimate of unlimited data.

    Raises
    ------
    ValueError
        If `bandwidth` is not positive.
    """
    h = _checks.real("bandwidth", bandwidth, 0, open_low=True)

    def fit(p: NormalMixture) -> NormalMixture:
        return NormalMixture(p.means, np.hypot(p.sds, h), p.weights)

    return fit


def unlimited(p: Any, fit: Fit, n_generations: int) -> list[Any]:
    """Generations 0..G of the loop with unlimited data: p, fit(p), fit(fit(p)), ...

    Raises
    ------
    ValueError
        If `n_generations` is not an integer >= 1.
    """
    generations = [p]
    for _ in range(_checks.integer("n_generations", n_generations, 1)):
        generations.append(fit(generations[-1]))
    return generations


# --------------------------------------------------------------------------- finite samples


def simulate_from(
    p: Any, *, n_samples: int, n_generations: int, n_replicates: int, rng: np.random.Generator
) -> Paths:
    """Refit a Gaussian under Replace, starting from real data of any law p (unbiased variance).

    Generation 1 is fitted on rows that are drawn from p. From then on the data are normal, and the
    exact simulator of :mod:`collapse_utils.models.gaussian` continues each lineage.

    Parameters
    ----------
    p : frozen distribution
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator

    Returns
    -------
    Paths
        Arrays of shape (G + 1, R).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _checks.generator(rng)
    m = _checks.integer("n_samples", n_samples, 2)
    g = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    mean, var = np.empty((g + 1, r)), np.empty((g + 1, r))
    mean[0], var[0] = p.mean(), p.var()
    block = max(1, 2**20 // m)
    for start in range(0, r, block):
        rows = p.rvs(size=(min(block, r - start), m), random_state=rng)
        mean[1, start : start + block] = rows.mean(axis=1)
        var[1, start : start + block] = rows.var(axis=1, ddof=1)
    if g > 1:
        later = simulate(n_samples=m, n_generations=g - 1, n_replicates=r, rng=rng)
        mean[2:] = mean[1] + np.sqrt(var[1]) * later.mean[1:]
        var[2:] = var[1] * later.var[1:]
    return Paths(mean, var)


def gaussian_kl(paths: Paths) -> Array:
    """KL(g* || g_n) for each fit, g* being the Gaussian with the true mean and variance.

    Returns
    -------
    ndarray, shape (G, R)
        Row n - 1 is generation n.
    """
    v, fitted = paths.var[0], paths.var[1:]
    gap = (paths.mean[1:] - paths.mean[0]) ** 2
    return 0.5 * (np.log(fitted / v) + (v + gap) / fitted - 1)


def _first_variance(m: int, kurtosis: float, sixth: float) -> tuple[float, float]:
    """Variance and third central moment of the unbiased s^2 / v of m rows (symmetric law).

    Fisher's k-statistics; see Kendall and Stuart, *The Advanced Theory of Statistics*, chapter 12.
    """
    variance = 2 / (m - 1) + kurtosis / m
    third = sixth / m**2 + 12 * kurtosis / (m * (m - 1)) + 8 / (m - 1) ** 2
    return variance, third


def expected_kl(
    n: ArrayLike, m: int, kurtosis: float = 0.0, sixth: float = 0.0
) -> tuple[Array, Array]:
    """E[KL(g* || g_n)] after real data with the given cumulants, about (n + kurtosis/4) / m.

    From generation 2 on the recursion is exact: log v_n drifts by ``log_var_drift(m)``, and
    E[v_i / v_n] = rho^(n-i) with rho = (m-1)/(m-3). The three averages over generation 1 are
    expanded to the order 1/m^2.

    Parameters
    ----------
    n : array of int
        Generations, at least 1.
    m : int
        Samples per generation, at least 4.
    kurtosis, sixth : float
        :func:`standard_cumulants` of the real law, which must be symmetric.

    Returns
    -------
    law, error : ndarray, shape of `n`
        `error` is the size of the terms of order 1/m^2, the last ones kept.

    Raises
    ------
    ValueError
        If m < 4 or n < 1.
    """
    m = _checks.integer("m", m, 4)
    n = np.asarray(n, dtype=int)
    if n.min() < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    variance, third = _first_variance(m, kurtosis, sixth)
    log_second = third / 3 - 0.75 * variance**2
    inverse_second = 3 * variance**2 - third
    mean_square_second = 2 / m**2  # E[mean_1^2 / v_1] is (1 + 2/m)/m whatever the kurtosis
    rho = (m - 1) / (m - 3)
    growth = rho ** (n - 1.0)
    later = (rho / m) * (growth - 1) / (rho - 1)
    first_log = -variance / 2 + log_second
    first_inverse = 1 + variance + inverse_second + 1 / m + mean_square_second
    law = 0.5 * (first_log + (n - 1) * log_var_drift(m) + first_inverse * growth + later - 1)
    second = abs(log_second) + (abs(inverse_second) + mean_square_second) * growth
    return law, 0.5 * second


def expected_sd(
    n: ArrayLike, m: int, kurtosis: float = 0.0, sixth: float = 0.0
) -> tuple[Array, Array]:
    """E[sd_n] / sd_0 after real data with the given cumulants; arguments as `expected_kl`.

    Returns
    -------
    law, error : ndarray, shape of `n`
        About 1 - (n + kurtosis/2)/(4 m); `error` is the size of the terms of order 1/m^2.
    """
    m = _checks.integer("m", m, 4)
    variance, third = _first_variance(m, kurtosis, sixth)
    second = third / 16 - 15 / 128 * variance**2
    growth = c4(m) ** (np.asarray(n, dtype=int) - 1.0)
    return (1 - variance / 8 + second) * growth, abs(second) * growth


def smoother_variance(n: ArrayLike, m: int, bandwidth: float, var: float = 1.0) -> Array:
    """E[v_n], the variance of the n-th kernel density estimate of m rows under Replace.

    v_n = (1 - 1/m) v_{n-1} + h^2 on average, so E[v_n] = r^n v_0 + m h^2 (1 - r^n), r = 1 - 1/m.
    """
    decay = (1 - 1 / m) ** np.asarray(n, dtype=float)
    return decay * var + m * bandwidth**2 * (1 - decay)
