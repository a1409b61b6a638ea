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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import logsumexp, ndtr, ndtri

from . import _checks
from .models.gaussian import Paths, c4, log_var_drift, simulate

Array = NDArray[np.float64]
Fit = Callable[[Any], Any]

_REACH = 12  # panels end 12 standard deviations out, where 1e-33 of the probability is left
_COARSE, _FINE = (np.polynomial.legendre.leggauss(k) for k in (12, 24))


# --------------------------------------------------------------------------- distributions


@dataclass(frozen=True)
class NormalMixture:
    """A mixture of normal distributions, with the methods of scipy's frozen distributions.

    Parameters
    ----------
    means, sds : sequence of float, shape (K,)
    weights : sequence of float, shape (K,)
        Default: equal.

    Raises
    ------
    ValueError
        If the lengths differ, a standard deviation is not positive, or the weights are negative or
        do not sum to one.
    """

    means: ArrayLike
    sds: ArrayLike
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        means = np.atleast_1d(np.asarray(self.means, dtype=float))
        sds = np.atleast_1d(np.asarray(self.sds, dtype=float))
        equal = np.full(len(means), 1 / len(means))
        weights = equal if self.weights is None else np.asarray(self.weights, dtype=float)
        if means.ndim != 1 or not means.shape == sds.shape == weights.shape:
            raise ValueError(
                "means, sds and weights must be lists of one length, got shapes "
                f"{means.shape}, {sds.shape}, {weights.shape}"
            )
        if not (np.isfinite(means).all() and np.isfinite(sds).all() and (sds > 0).all()):
            raise ValueError(f"means must be finite and sds > 0, got {means} and {sds}")
        if not ((weights >= 0).all() and abs(weights.sum() - 1) < 1e-9):
            raise ValueError(f"weights must be >= 0 and sum to one, got {weights}")
        for name, value in (("means", means), ("sds", sds), ("weights", weights)):
            object.__setattr__(self, name, value)

    def _z(self, x: ArrayLike) -> Array:
        return (np.asarray(x, dtype=float)[..., None] - self.means) / self.sds

    def logpdf(self, x: ArrayLike) -> Array:
        """Log-density, same shape as `x`."""
        terms = -0.5 * self._z(x) ** 2 - np.log(self.sds * np.sqrt(2 * np.pi))
        return logsumexp(terms, axis=-1, b=self.weights)

    def pdf(self, x: ArrayLike) -> Array:
        """Density, same shape as `x`."""
        return np.exp(self.logpdf(x))

    def cdf(self, x: ArrayLike) -> Array:
        """P(X <= x), same shape as `x`."""
        return ndtr(self._z(x)) @ self.weights

    def sf(self, x: ArrayLike) -> Array:
        """P(X > x), accurate in the upper tail."""
        return ndtr(-self._z(x)) @ self.weights

    def ppf(self, u: ArrayLike) -> Array:
        """Quantile function, by bisection."""
        return self._invert(u, self.cdf, ndtri, 1)

    def isf(self, u: ArrayLike) -> Array:
        """Inverse of `sf`, accurate for small `u`."""
        return self._invert(u, self.sf, lambda v: -ndtri(v), -1)

    def _invert(self, u: ArrayLike, of: Callable, normal: Callable, sign: int) -> Array:
        u = np.asarray(u, dtype=float)
        # The quantile of a mixture lies between those of its components.
        candidates = self.means + self.sds * normal(u)[..., None]
        low, high = candidates.min(axis=-1), candidates.max(axis=-1)
        for _ in range(64):
            middle = (low + high) / 2
            below = sign * (of(middle) - u) < 0
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def rvs(self, size: int | tuple[int, ...], random_state: np.random.Generator) -> Array:
        """Draw an array of shape `size`."""
        which = random_state.choice(len(self.means), size, p=self.weights)
        return self.means[which] + self.sds[which] * random_state.standard_normal(size)

    def mean(self) -> float:
        """Mean."""
        return float(self.weights @ self.means)

    def var(self) -> float:
        """Variance: within the components plus between them."""
        return float(self.weights @ (self.sds**2 + (self.means - self.mean()) ** 2))

    def edges(self) -> Array:
        """Ends of panels in which the density is smooth: a grid around each component."""
        grid = (self.means[:, None] + self.sds[:, None] * np.arange(-_REACH, _REACH + 1)).ravel()
        step = self.sds.min() / 2
        return np.unique(np.round(grid / step)) * step


def gaussian(mean: float, sd: float) -> NormalMixture:
    """The normal distribution as a mixture of one."""
    return NormalMixture([mean], [sd])


def two_gaussians(separation: float, width: float) -> NormalMixture:
    """Equal mixture of two normals, `separation` apart and each with standard deviation `width`.

    The example of Shumailov et al. (2024) for functional expressivity error: a mixture of two
    Gaussians to be fitted by one.

    Raises
    ------
    ValueError
        If `separation` is negative or `width` is not positive.
    """
    separation = _checks.real("separation", separation, 0)
    width = _checks.real("width", width, 0, open_low=True)
    return NormalMixture([-separation / 2, separation / 2], [width, width])


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


class Estimate(NamedTuple):
    """A number computed without chance, and a bound on its numerical error."""

    value: float
    error: float


def _edges(p: Any) -> Array:
    if hasattr(p, "edges"):
        return p.edges()
    lower = p.ppf(ndtr(np.arange(-_REACH, 0.5, 0.5)))
    upper = p.isf(ndtr(-np.arange(0.5, _REACH + 0.5, 0.5)))
    return np.concatenate([lower, upper])


def integrate(f: Callable[[Array], Array], edges: ArrayLike) -> Estimate:
    """Integral of `f` over panels between `edges`, by 24 Gauss-Legendre nodes in each.

    The error is the difference from the 12-node rule plus what the two outermost panels hold
    (a bound on what lies beyond them, when the integrand decays) plus rounding. No rule notices a
    feature that falls between its nodes, so the panels must follow the distribution.

    Parameters
    ----------
    f : callable
        Takes and returns an array, shape (panels, nodes).
    edges : array, shape (panels + 1,)
        Increasing.

    Returns
    -------
    Estimate
    """
    edges = np.asarray(edges, dtype=float)
    half = np.diff(edges)[:, None] / 2
    centre = edges[:-1, None] + half
    coarse, fine = (f(centre + half * x) * half @ w for x, w in (_COARSE, _FINE))
    rounding = np.finfo(float).eps * len(edges) * np.abs(fine).sum()
    ends = abs(fine[0]) + abs(fine[-1])
    return Estimate(float(fine.sum()), float(np.abs(fine - coarse).sum() + ends + rounding))


def expect(p: Any, f: Callable[[Array], Array]) -> Estimate:
    """E_p[f(X)]."""
    return integrate(lambda x: p.pdf(x) * f(x), _edges(p))


def kl(p: Any, q: Any) -> Estimate:
    """KL(p || q) = E_p[log p - log q]."""
    return expect(p, lambda x: p.logpdf(x) - q.logpdf(x))


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


def project(p: Any) -> NormalMixture:
    """The Gaussian with the mean and variance of p, both by quadrature.

    Maximum likelihood with unlimited data: among all Gaussians g it has the smallest KL(p || g).
    """
    mean = expect(p, lambda x: x).value
    return gaussian(mean, np.sqrt(expect(p, lambda x: (x - mean) ** 2).value))


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
