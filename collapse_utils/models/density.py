"""Density estimates in the loop: kernels and histograms, all replicates at once.

To draw from a kernel density estimate is to pick a row and add noise, and to draw from a histogram
is to draw counts. Neither needs the density, so a generation costs a few array operations. The
laws rest on one remark: two draws from an estimate of M rows come from the same row with
probability 1/M, and else from two different rows, which are two draws from the generation before.

Taught in the chapters ``too_expressive`` and ``double_edged``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr, ndtri

from .. import _checks

Array = NDArray[np.float64]
Rule = Callable[[Array], Array]

CRITERIA = ("likelihood", "least squares")
SILVERMAN = (4 / 3) ** 0.2  # best factor for normal data: 1.059
_TOP = 4.0  # largest bandwidth tried, in standard deviations
_RENEW = 8  # squarings between two fresh exponentials: each doubles the rounding error
_REACH = 12  # panels end 12 standard deviations out, where 1e-33 of the probability is left
_COARSE, _FINE = (np.polynomial.legendre.leggauss(k) for k in (12, 24))
_BLOCK = 2**16  # distances per block of replicates, so that they stay in cache


# --------------------------------------------------------------------------- densities on a line


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


def project(p: Any) -> NormalMixture:
    """The Gaussian with the mean and variance of p, both by quadrature.

    Maximum likelihood with unlimited data: among all Gaussians g it has the smallest KL(p || g).
    """
    mean = expect(p, lambda x: x).value
    return NormalMixture([mean], [np.sqrt(expect(p, lambda x: (x - mean) ** 2).value)])


# --------------------------------------------------------------------------- bandwidths


def fixed(bandwidth: float) -> Rule:
    """The same bandwidth at every generation.

    Raises
    ------
    ValueError
        If `bandwidth` is not positive.
    """
    h = _checks.real("bandwidth", bandwidth, 0, open_low=True)
    return lambda rows: np.full(len(rows), h)


def rule_of_thumb(factor: float = SILVERMAN) -> Rule:
    """Bandwidth factor * s * M^(-1/5), s being the unbiased standard deviation of the rows.

    With the default factor the best for normal data (Silverman 1986, section 3.4.2), and what
    scipy's ``gaussian_kde(..., "silverman")`` does.

    Raises
    ------
    ValueError
        If `factor` is not positive.
    """
    factor = _checks.real("factor", factor, 0, open_low=True)
    return lambda rows: factor * rows.shape[1] ** -0.2 * rows.std(axis=1, ddof=1)


def cross_validated(criterion: str = "likelihood", *, floor: float = 1e-3) -> Rule:
    """Bandwidth chosen by leaving one row out: the best of a grid, in steps of 2^(1/4).

    "likelihood" maximises the mean of log f_-i(x_i), f_-i being the estimate without row i;
    "least squares" minimises the integral of f^2 minus twice the mean of f_-i(x_i)
    (Silverman 1986, sections 3.4.3 and 3.4.4).

    Parameters
    ----------
    criterion : {"likelihood", "least squares"}
    floor : float
        Smallest bandwidth of the grid in standard deviations of the rows (the largest is 4). With
        enough tied rows both criteria have no optimum but zero, and return the floor.

    Raises
    ------
    ValueError
        If the criterion is unknown or `floor` is not between 0 and 4.
    """
    _checks.choice("criterion", criterion, CRITERIA)
    floor = _checks.real("floor", floor, 0, _TOP, open_low=True, open_high=True)

    def rule(rows: Array) -> Array:
        grid, likelihood, squares = leave_one_out(rows, floor=floor)
        score = likelihood if criterion == "likelihood" else -squares
        return grid[score.argmax(axis=0)] * rows.std(axis=1, ddof=1)

    return rule


def leave_one_out(rows: ArrayLike, *, floor: float = 1e-3) -> tuple[Array, Array, Array]:
    """Both leave-one-out criteria on a grid of bandwidths.

    Halving h^2 squares every kernel exp(-d^2 / 2 h^2), so most of the grid costs one product per
    pair of rows.

    Parameters
    ----------
    rows : array, shape (R, M)
    floor : float
        See :func:`cross_validated`.

    Returns
    -------
    grid : ndarray, shape (H,)
        Bandwidths in standard deviations of the rows, decreasing.
    likelihood, squares : ndarray, shape (H, R)
        For rows in units of their standard deviation.

    Raises
    ------
    ValueError
        If rows are not finite or a data set has no spread, or `floor` is out of range.
    """
    rows = _rows(rows)
    r, m = rows.shape
    floor = _checks.real("floor", floor, 0, _TOP, open_low=True, open_high=True)
    if (np.ptp(rows, axis=1) == 0).any():
        raise ValueError("rows must differ within each data set, got one without any spread")
    n_halvings = int(np.ceil(np.log2(_TOP / floor) * 2))
    grid = _TOP * 2 ** (-np.arange(2 * n_halvings) / 4)
    log_sum, total = np.empty((len(grid), r)), np.empty((len(grid), r))
    block = max(1, _BLOCK // m**2)
    others, ones = ~np.eye(m, dtype=bool), np.ones(m)
    for first in range(0, r, block):
        part = slice(first, first + block)
        scaled = rows[part] / rows[part].std(axis=1, ddof=1, keepdims=True)
        squared = (scaled[:, :, None] - scaled[:, None, :]) ** 2
        for start in (0, 1):
            for k in range(n_halvings):
                at = start + 2 * k
                if k % _RENEW == 0:
                    kernel = np.exp(squared * (-0.5 / grid[at] ** 2)) * others
                else:
                    np.multiply(kernel, kernel, out=kernel)
                sums = kernel @ ones
                total[at, part] = sums.sum(axis=1)
                with np.errstate(divide="ignore"):  # no other row in reach: log 0 = -inf
                    log_sum[at, part] = np.log(sums).mean(axis=1)
    height = grid[:, None] * np.sqrt(2 * np.pi)
    # Two kernels at a distance d overlap as one kernel of bandwidth sqrt(2) h at d does: in the
    # grid that is two places up. The first two bandwidths have no such place and are left out.
    overlap = (m + total[:-2]) / (m**2 * height[:-2])
    squares = overlap - 2 * total[2:] / (m * (m - 1) * height[2:])
    return grid[2:], log_sum[2:] - np.log((m - 1) * height[2:]), squares


def tie_limit(m: int) -> float:
    """Tied pairs of rows above which least-squares cross-validation has no optimum but zero.

    As h -> 0 the criterion tends to [1/2 + T/m - 2 sqrt(2) T/(m - 1)] / (m h sqrt(pi)) with T
    tied pairs: plus infinity below the limit, minus infinity above it. It is about 0.27 m
    (Silverman 1986, section 3.4.3).
    """
    m = _checks.integer("m", m, 2)
    return 0.5 / (2 * np.sqrt(2) / (m - 1) - 1 / m)


# --------------------------------------------------------------------------- kernel estimates


@dataclass(frozen=True)
class Kernels:
    """R kernel density estimates with a Gaussian kernel.

    Attributes
    ----------
    centres : ndarray, shape (R, M)
    bandwidth : ndarray, shape (R,)
    """

    centres: Array
    bandwidth: Array

    def mean(self) -> Array:
        """Means, shape (R,)."""
        return self.centres.mean(axis=1)

    def var(self) -> Array:
        """Variances, shape (R,): of the centres, plus the square of the bandwidth."""
        return self.centres.var(axis=1) + self.bandwidth**2

    def fourth(self) -> Array:
        """Fourth central moments, shape (R,)."""
        squares = (self.centres - self.mean()[:, None]) ** 2
        h2 = self.bandwidth**2
        return (squares**2).mean(axis=1) + 6 * h2 * squares.mean(axis=1) + 3 * h2**2

    def pdf(self, x: ArrayLike) -> Array:
        """Densities at points of shape (k,), as shape (R, k)."""
        z = (np.asarray(x, dtype=float)[:, None] - self.centres[:, None]) / self._h(3)
        return np.exp(-0.5 * z**2).mean(axis=2) / (np.sqrt(2 * np.pi) * self._h(2))

    def outside(self, low: float, high: float) -> Array:
        """Probability below `low` or above `high`, shape (R,)."""
        h = self._h(2)
        return (ndtr((low - self.centres) / h) + ndtr((self.centres - high) / h)).mean(axis=1)

    def sample(self, rng: np.random.Generator) -> Array:
        """As many rows from each estimate as it was fitted to, shape (R, M)."""
        rows = rng.standard_normal(self.centres.shape)
        rows *= self._h(2)
        rows += _pick(self.centres, rng)
        return rows

    def _h(self, ndim: int) -> Array:
        return self.bandwidth.reshape(-1, *[1] * (ndim - 1))


def fit_kernels(rows: ArrayLike, rule: Rule, *, preserve: bool = False) -> Kernels:
    """Kernel density estimates of R data sets.

    Parameters
    ----------
    rows : array, shape (R, M)
    rule : callable
        Takes the rows and returns R bandwidths, such as :func:`rule_of_thumb`.
    preserve : bool
        Shrink the estimate towards its mean, by sqrt(S / (S + h^2)), so that its variance is the
        variance S of the rows (Silverman 1986, section 6.4).

    Returns
    -------
    Kernels

    Raises
    ------
    ValueError
        If rows are not finite or too few, or a bandwidth is not positive.
    """
    rows = _rows(rows)
    h = np.asarray(rule(rows), dtype=float)
    if h.shape != rows.shape[:1] or not (np.isfinite(h) & (h > 0)).all():
        raise ValueError(f"rule must return {len(rows)} bandwidths, finite and > 0, got {h}")
    if not preserve:
        return Kernels(rows, h)
    spread = rows.var(axis=1)
    shrink = np.sqrt(spread / (spread + h**2))
    mean = rows.mean(axis=1, keepdims=True)
    return Kernels(mean + shrink[:, None] * (rows - mean), shrink * h)


@dataclass(frozen=True)
class Paths:
    """Kernel density estimates along the generations.

    Attributes
    ----------
    mean, var : ndarray, shape (G + 1, R)
        Of the n-th estimate; row 0 is the truth.
    bandwidth : ndarray, shape (G, R)
        Row n - 1 is generation n.
    watched : ndarray, shape (G, R)
        What `watch` returned; empty without one.
    rows : ndarray, shape (R, M)
        What the last estimate wrote.
    """

    mean: Array
    var: Array
    bandwidth: Array
    watched: Array
    rows: Array


def simulate(
    truth: Any,
    rule: Rule,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    preserve: bool = False,
    copied: float = 0.0,
    watch: Callable[[Kernels], ArrayLike] | None = None,
) -> Paths:
    """Fit a kernel density estimate, generation after generation, under Replace.

    Parameters
    ----------
    truth : frozen distribution
        As in scipy.stats.
    rule : callable
        See :func:`fit_kernels`.
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator
    preserve : bool
        See :func:`fit_kernels`.
    copied : float
        Probability that a row is replaced by a copy of a random row of its data set, as if the
        data had been passed on. With 1, each data set is a bootstrap sample of what was written.
    watch : callable
        Given the :class:`Kernels` of each generation, returns R numbers.

    Returns
    -------
    Paths

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    _checks.generator(rng)
    m = _checks.integer("n_samples", n_samples, 2)
    g = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    copied = _checks.real("copied", copied, 0, 1)
    mean, var = np.empty((g + 1, r)), np.empty((g + 1, r))
    bandwidth, watched = np.empty((g, r)), np.empty((g if watch else 0, r))
    mean[0], var[0] = truth.mean(), truth.var()
    rows = np.asarray(truth.rvs(size=(r, m), random_state=rng), dtype=float)
    for n in range(1, g + 1):
        rows = copy_rows(rows, copied, rng)
        kernels = fit_kernels(rows, rule, preserve=preserve)
        mean[n], var[n], bandwidth[n - 1] = kernels.mean(), kernels.var(), kernels.bandwidth
        if watch is not None:
            watched[n - 1] = watch(kernels)
        rows = kernels.sample(rng)
    return Paths(mean, var, bandwidth, watched, rows)


def copy_rows(rows: Array, copied: float, rng: np.random.Generator) -> Array:
    """Replace each row, with probability `copied`, by a random row of its data set."""
    if copied == 0:
        return rows
    return np.where(rng.random(rows.shape) < copied, _pick(rows, rng), rows)


def _pick(rows: Array, rng: np.random.Generator) -> Array:
    r, m = rows.shape
    index = rng.integers(m, size=(r, m), dtype=np.int64 if r * m >= 2**31 else np.int32)
    index += (m * np.arange(r, dtype=index.dtype))[:, None]
    return rows.reshape(-1).take(index)


def _rows(rows: ArrayLike) -> Array:
    rows = np.asarray(rows, dtype=float)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(f"rows must have shape (R, M) with M >= 2, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite, got NaN or infinity")
    return rows


# --------------------------------------------------------------------------- laws of kernels


def growth(m: int, factor: float = SILVERMAN) -> float:
    """Growth of E[v_n] per generation with :func:`rule_of_thumb`: 1 - 1/m + factor^2 m^(-2/5)."""
    return 1 - 1 / m + factor**2 * m**-0.4


def expected_moments(
    n: int, m: int, factor: float = SILVERMAN, *, preserve: bool = False, kurtosis: float = 0.0
) -> tuple[float, float]:
    """E[v_n^2] and E[fourth central moment] of the n-th estimate, for a truth with v_0 = 1.

    With a bandwidth in proportion to the standard deviation, one generation maps the two
    expectations linearly: sampling by the moments of m draws (Cramér 1946, chapter 27), the
    kernel by adding normal noise.

    Parameters
    ----------
    n, m : int
        Generation, and samples per generation.
    factor, preserve
        As in :func:`rule_of_thumb` and :func:`fit_kernels`.
    kurtosis : float
        Excess kurtosis of the truth.
    """
    keep = 1 - 1 / m
    draw = np.array(
        [
            [keep**2 * (1 - (m - 3) / (m * (m - 1))), keep**2 / m],
            [3 * keep * (2 * m - 3) / m**2, keep * (m**2 - 3 * m + 3) / m**2],
        ]
    )
    u = factor**2 * m**-0.4 / keep  # h^2 in units of the variance of the rows (ddof = 0)
    blur = np.array([[(1 + u) ** 2, 0], [6 * u + 3 * u**2, 1]])
    step = blur @ draw / (1 + u) ** 2 if preserve else blur @ draw
    square, fourth = np.linalg.matrix_power(step, n) @ [1.0, 3 + kurtosis]
    return float(square), float(fourth)


def outside_unit(n: ArrayLike, bandwidth: float) -> Array:
    """E[probability outside [0, 1]] of the n-th estimate with a fixed bandwidth, uniform truth.

    A row of generation n is a real row plus n independent noises, whatever the sample size, so
    this is P(U + t Z outside [0, 1]) = 2 Phi(-1/t) + 2 t [phi(0) - phi(1/t)], t = h sqrt(n). To
    first order it is 2 t / sqrt(2 pi).
    """
    t = bandwidth * np.sqrt(np.asarray(n, dtype=float))
    return 2 * ndtr(-1 / t) + 2 * t * (1 - np.exp(-0.5 / t**2)) / np.sqrt(2 * np.pi)


def _overlap(p: NormalMixture, var: ArrayLike) -> Array:
    """Density at 0 of X - Y + N(0, var), X and Y independent from p."""
    var = np.asarray(var, dtype=float)[..., None, None]
    gap = p.means[:, None] - p.means
    total = p.sds[:, None] ** 2 + p.sds**2 + var
    terms = np.outer(p.weights, p.weights) * np.exp(-0.5 * gap**2 / total)
    return (terms / np.sqrt(2 * np.pi * total)).sum(axis=(-2, -1))


def expected_kernel_ise(n: int, m: int, bandwidth: ArrayLike, truth: NormalMixture) -> Array:
    """E[integral of (p_n - p_0)^2] for the n-th estimate with a fixed bandwidth, under Replace.

    Two draws from p_n stem from one row k generations back with probability (1/m)(1-1/m)^(k-1),
    and then differ by N(0, 2 k h^2); else from two real rows. The density of their difference at
    zero is the integral of p_n^2.

    Parameters
    ----------
    n, m : int
    bandwidth : array
    truth : NormalMixture

    Returns
    -------
    ndarray, shape of `bandwidth`
    """
    n = _checks.integer("n", n, 1)
    m = _checks.integer("m", m, 2)
    h2 = np.asarray(bandwidth, dtype=float) ** 2
    k = np.arange(1, n + 1)
    keep = 1 - 1 / m
    meet = (keep ** (k - 1) / m / np.sqrt(4 * np.pi * k)).sum() / np.sqrt(h2)
    square = meet + keep**n * _overlap(truth, 2 * n * h2)
    return square - 2 * _overlap(truth, n * h2) + _overlap(truth, 0.0)


def kernel_ise(kernels: Kernels, truth: NormalMixture) -> Array:
    """Integral of (p_n - p_0)^2 in closed form, shape (R,), for estimates of a few hundred rows."""
    h, x = kernels.bandwidth, kernels.centres
    own = np.empty(len(x))
    for r in range(len(x)):
        own[r] = np.exp(-((x[r, :, None] - x[r]) ** 2) / (4 * h[r] ** 2)).mean()
    own /= np.sqrt(4 * np.pi) * h
    sd = np.hypot(truth.sds, kernels._h(3))
    z = (x[:, :, None] - truth.means) / sd
    cross = (np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * sd)).mean(axis=1) @ truth.weights
    return own - 2 * cross + _overlap(truth, 0.0)


# --------------------------------------------------------------------------- histograms


@dataclass(frozen=True)
class Histogram:
    """Equal bins over an interval that holds all of a smooth truth, and their exact masses.

    Parameters
    ----------
    truth : frozen distribution
        As in scipy.stats, with the support [low, high].
    n_bins : int
        B.
    low, high : float

    Raises
    ------
    ValueError
        If `n_bins` < 1, the interval is empty, or it leaves out some of the truth.
    """

    truth: Any
    n_bins: int
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _checks.integer("n_bins", self.n_bins, 1)
        low = _checks.real("low", self.low)
        _checks.real("high", self.high, low, open_low=True)
        left_out = self.truth.cdf(low) + self.truth.sf(self.high)
        if left_out > 1e-12:
            raise ValueError(
                f"low and high must hold all of the truth, but {low:g} and {self.high:g} leave out "
                f"{left_out:.2g}"
            )

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.n_bins

    @property
    def masses(self) -> Array:
        """True probabilities of the bins, shape (B,)."""
        return np.diff(self.truth.cdf(np.linspace(self.low, self.high, self.n_bins + 1)))

    def simulate(
        self, *, n_samples: int, n_generations: int, n_replicates: int, rng: np.random.Generator
    ) -> Array:
        """Refit the histogram generation after generation under Replace.

        A row falls into bin b with the probability that the last histogram gave to b, wherever in
        b it lies: the counts are multinomial, as those of words are.

        Returns
        -------
        ndarray, shape (G + 1, R, B)
            Bin probabilities; row 0 is the truth.

        Raises
        ------
        ValueError
            If an argument is out of range.
        """
        _checks.generator(rng)
        m = _checks.integer("n_samples", n_samples, 1)
        g = _checks.integer("n_generations", n_generations, 1)
        r = _checks.integer("n_replicates", n_replicates, 1)
        shares = np.empty((g + 1, r, self.n_bins))
        shares[0] = self.masses / self.masses.sum()
        for n in range(1, g + 1):
            shares[n] = rng.multinomial(m, shares[n - 1]) / m
        return shares

    def ise(self, shares: ArrayLike) -> Array:
        """Integral of (histogram - truth)^2 for bin probabilities of shape (..., B)."""
        gap = np.asarray(shares) - self.masses
        return self.bias() + (gap**2).sum(axis=-1) / self.width

    def bias(self) -> float:
        """The error with unlimited data: integral of truth^2 minus sum(masses^2) / width."""
        square = expect(self.truth, self.truth.pdf).value
        return square - float((self.masses**2).sum()) / self.width

    def expected_ise(self, n: ArrayLike, m: int) -> Array:
        """E[ISE] of the n-th histogram: bias + [1 - (1 - 1/m)^n] sum p(1 - p) / width.

        The shares are martingales with the variance p(1 - p)[1 - (1 - 1/m)^n] (Wright 1931).
        """
        spread = float((self.masses * (1 - self.masses)).sum()) / self.width
        return self.bias() + spread * _met(n, m)


def effective_samples(n: ArrayLike, m: int) -> Array:
    """Real rows that estimate a share as well as generation n >= 1 does: 1 / [1 - (1 - 1/m)^n].

    About m/n. It holds for every fit that, like a histogram, only counts rows.
    """
    return 1 / _met(n, m)


def _met(n: ArrayLike, m: int) -> Array:
    """Probability that two draws stem from one row within n generations: 1 - (1 - 1/m)^n."""
    return -np.expm1(np.asarray(n, dtype=float) * np.log1p(-1 / _checks.integer("m", m, 2)))
