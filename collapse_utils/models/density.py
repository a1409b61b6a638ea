"""Densities on the line: mixtures of normals, integrals over them, kernel estimates in the loop.

With unlimited data a fit takes a distribution and returns one; distances are integrals over panels
by two Gauss-Legendre rules, and come with an error estimate. Distributions follow scipy's frozen
ones, so ``scipy.stats`` can be used as it is. To draw from a kernel density estimate is to pick a
row and add noise, so a generation of many lineages costs a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr

from .._checks import checked, number, one_of, probabilities
from ..lineages import RawRows

Array = NDArray[np.float64]
Rule = Callable[[Array], Array]

_TOP = 4.0  # largest bandwidth tried, in standard deviations
_RENEW = 8  # squarings between two fresh exponentials: each doubles the rounding error
_REACH = 12  # panels end 12 standard deviations out, where 1e-33 of the probability is left
_COARSE, _FINE = (np.polynomial.legendre.leggauss(k) for k in (12, 24))
_BLOCK = 2**16  # distances per block of replicates, so that they stay in cache


# --------------------------------------------------------------------------- densities on a line


@dataclass(frozen=True)
class NormalMixture:
    """A mixture of normal distributions, with the methods of scipy's frozen distributions.

    Means and standard deviations of K normals, and their weights, by default equal.
    """

    means: ArrayLike
    sds: ArrayLike
    weights: ArrayLike | None = None

    def __post_init__(self) -> None:
        means, sds = (np.atleast_1d(np.asarray(a, dtype=float)) for a in (self.means, self.sds))
        equal = np.full(len(means), 1 / len(means))
        weights = probabilities("weights", equal if self.weights is None else self.weights)
        if means.ndim != 1 or not means.shape == sds.shape == weights.shape:
            raise ValueError(
                "means, sds and weights must be lists of one length, got shapes "
                f"{means.shape}, {sds.shape}, {weights.shape}"
            )
        if not (np.isfinite(means).all() and np.isfinite(sds).all() and (sds > 0).all()):
            raise ValueError(f"means must be finite and sds > 0, got {means} and {sds}")
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

    def sf(self, x: ArrayLike) -> Array:
        """P(X > x), accurate in the upper tail."""
        return ndtr(-self._z(x)) @ self.weights

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


# --------------------------------------------------------------------------- integrals


class _Estimate(NamedTuple):
    """A number computed without chance, and a bound on its numerical error."""

    value: float
    error: float


def _edges(p: Any) -> Array:
    if hasattr(p, "edges"):
        return p.edges()
    lower = p.ppf(ndtr(np.arange(-_REACH, 0.5, 0.5)))
    upper = p.isf(ndtr(-np.arange(0.5, _REACH + 0.5, 0.5)))
    return np.concatenate([lower, upper])


def _integrate(f: Callable[[Array], Array], edges: ArrayLike) -> _Estimate:
    """Integral of `f` over panels between increasing `edges`, 24 Gauss-Legendre nodes in each.

    The error is the difference from the 12-node rule plus what the two outermost panels hold
    (a bound on what lies beyond them, when the integrand decays) plus rounding. No rule notices a
    feature that falls between its nodes, so the panels must follow the distribution.
    """
    edges = np.asarray(edges, dtype=float)
    half = np.diff(edges)[:, None] / 2
    centre = edges[:-1, None] + half
    coarse, fine = (f(centre + half * x) * half @ w for x, w in (_COARSE, _FINE))
    rounding = np.finfo(float).eps * len(edges) * np.abs(fine).sum()
    ends = abs(fine[0]) + abs(fine[-1])
    return _Estimate(float(fine.sum()), float(np.abs(fine - coarse).sum() + ends + rounding))


def expect(p: Any, f: Callable[[Array], Array]) -> _Estimate:
    """E_p[f(X)]."""
    return _integrate(lambda x: p.pdf(x) * f(x), _edges(p))


def kl(p: Any, q: Any) -> _Estimate:
    """KL(p || q) = E_p[log p - log q]."""
    return expect(p, lambda x: p.logpdf(x) - q.logpdf(x))


def project(p: Any) -> NormalMixture:
    """The Gaussian with the mean and variance of p, both by quadrature.

    Maximum likelihood with unlimited data: among all Gaussians g it has the smallest KL(p || g).
    """
    mean = expect(p, lambda x: x).value
    return NormalMixture([mean], [np.sqrt(expect(p, lambda x: (x - mean) ** 2).value)])


# --------------------------------------------------------------------------- kernel estimates


@checked(
    criterion=one_of("likelihood", "least squares"),
    floor=number(0, _TOP, above=True, below=True),
)
def cross_validated(criterion: str = "likelihood", *, floor: float = 1e-3) -> Rule:
    """Bandwidth chosen by leaving one row out (Silverman 1986, sections 3.4.3 and 3.4.4).

    "likelihood" maximises the mean of log f_-i(x_i), f_-i being the estimate without row i;
    "least squares" minimises the integral of f^2 minus twice the mean of f_-i(x_i). The grid runs
    from `floor` to 4 standard deviations of the rows, in steps of 2^(1/4).
    """

    def rule(rows: Array) -> Array:
        grid, likelihood, squares = _leave_one_out(rows, floor)
        score = likelihood if criterion == "likelihood" else -squares
        return grid[score.argmax(axis=0)] * rows.std(axis=1, ddof=1)

    return rule


def _leave_one_out(rows: Array, floor: float) -> tuple[Array, Array, Array]:
    """Both leave-one-out criteria on a grid of bandwidths, for rows of shape (R, M).

    Halving h^2 squares every kernel exp(-d^2 / 2 h^2): most of the grid costs one product per pair.

    Returns H decreasing bandwidths, in standard deviations, and both scores, shape (H, R).
    """
    rows = _rows(rows)
    r, m = rows.shape
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


@dataclass(frozen=True)
class Kernels:
    """R kernel density estimates with a Gaussian kernel.

    - `centres` (ndarray, shape (R, M))
    - `bandwidth` (ndarray, shape (R,))
    """

    centres: Array
    bandwidth: Array

    @classmethod
    def fit(cls, rows: ArrayLike, bandwidth: float | Rule, *, preserve: bool = False) -> Kernels:
        """Estimates of R data sets, shape (R, M).

        - `bandwidth`: A number, or a rule that takes the rows and returns R bandwidths.
        - `preserve`: Shrink the estimate towards its mean, by sqrt(S / (S + h^2)), so that its
          variance is the variance S of the rows (Silverman 1986, section 6.4).
        """
        rows = _rows(rows)
        h = bandwidth(rows) if callable(bandwidth) else np.full(len(rows), float(bandwidth))
        if h.shape != rows.shape[:1] or not (np.isfinite(h) & (h > 0)).all():
            raise ValueError(f"bandwidth must be {len(rows)} finite numbers > 0, got {h}")
        if not preserve:
            return cls(rows, h)
        spread = rows.var(axis=1)
        shrink = np.sqrt(spread / (spread + h**2))
        mean = rows.mean(axis=1, keepdims=True)
        return cls(mean + shrink[:, None] * (rows - mean), shrink * h)

    def mean(self) -> Array:
        """Means, shape (R,)."""
        return self.centres.mean(axis=1)

    def var(self) -> Array:
        """Variances, shape (R,): of the centres, plus the square of the bandwidth."""
        return self.centres.var(axis=1) + self.bandwidth**2

    def pdf(self, x: ArrayLike) -> Array:
        """Densities at points of shape (k,), as shape (R, k)."""
        z = (np.asarray(x, dtype=float)[:, None] - self.centres[:, None]) / self._h(3)
        return np.exp(-0.5 * z**2).mean(axis=2) / (np.sqrt(2 * np.pi) * self._h(2))

    def outside(self, low: float, high: float) -> Array:
        """Probability below `low` or above `high`, shape (R,)."""
        h = self._h(2)
        return (ndtr((low - self.centres) / h) + ndtr((self.centres - high) / h)).mean(axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """n rows from each estimate, shape (R, n): a row of its data plus noise."""
        r, m = self.centres.shape
        rows = rng.standard_normal((r, n))
        rows *= self._h(2)
        picked = rng.integers(m, size=(r, n), dtype=np.int64 if r * m >= 2**31 else np.int32)
        picked += (m * np.arange(r, dtype=picked.dtype))[:, None]
        rows += self.centres.reshape(-1).take(picked)
        return rows

    def _h(self, ndim: int) -> Array:
        return self.bandwidth.reshape(-1, *[1] * (ndim - 1))


def smoother(bandwidth: float | Rule, *, preserve: bool = False) -> RawRows:
    """Kernel density estimates as a family for :func:`collapse_utils.lineages.generations`.

    Its law is a :class:`Kernels`; arguments as for :meth:`Kernels.fit`.
    """
    return RawRows(Kernels.sample, partial(Kernels.fit, bandwidth=bandwidth, preserve=preserve))


def _rows(rows: ArrayLike) -> Array:
    rows = np.asarray(rows, dtype=float)
    if rows.ndim != 2 or rows.shape[1] < 2:
        raise ValueError(f"rows must have shape (R, M) with M >= 2, got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("rows must be finite, got NaN or infinity")
    return rows
