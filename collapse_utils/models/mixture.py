"""Gaussian mixtures fitted by EM, for many replicates at once.

A Gaussian's log-density is linear in the features ``(1, x, x x^T)``, and an EM update needs only
the responsibility-weighted sums of the same features. So both halves of a step are one batched
matrix product over replicates. The steps are those of scikit-learn's ``GaussianMixture``, from
k-means to the floors, and agree with it to rounding error, which in a log-density grows with the
square of the spread of the data in units of a component's standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from .. import _checks
from .._checks import checked, number, one_of, whole
from ..lineages import Rows, generations

Array = NDArray[np.float64]

STARTS = ("parent", "kmeans")
_WEIGHT_FLOOR = 10 * np.finfo(float).eps  # added to each component's count, as scikit-learn does
_NOT_POSITIVE = "a component's covariance is no longer positive definite: raise reg_covar"
_ADJUGATE = np.array([1.0, -1.0, 1.0])  # signs of the inverse of a packed 2 x 2 matrix
_TINY = np.finfo(float).tiny
_BLOCK = 2**15  # samples per block of replicates: features and responsibilities stay in cache
_SETTINGS = {"n_steps": whole(1), "tol": number(0), "reg_covar": number(0)}


@dataclass(frozen=True)
class Params:
    """Parameters of mixtures of K Gaussians in d dimensions, for R replicates.

    - `weights` (ndarray, shape (R, K))
    - `means` (ndarray, shape (R, K, d))
    - `covs` (ndarray, shape (R, K, d, d)): All with a further axis in front, of length G, where
      they hold a whole history.
    """

    weights: Array
    means: Array
    covs: Array

    @classmethod
    def of(cls, weights: ArrayLike, means: ArrayLike, covs: ArrayLike) -> Params:
        """Parameters of one mixture: weights (K,), means (K, d), covs (K, d, d) or (d, d)."""
        w = np.asarray(weights, dtype=float)
        m = np.asarray(means, dtype=float)
        if m.ndim != 2 or w.shape != m.shape[:1]:
            raise ValueError(f"means must have shape ({w.size}, d), got {m.shape}")
        c = np.broadcast_to(np.asarray(covs, dtype=float), (*m.shape, m.shape[1])).copy()
        if (w < 0).any() or not np.isclose(w.sum(), 1):
            raise ValueError(f"weights must be >= 0 and sum to 1, got {w}")
        if not np.allclose(c, np.swapaxes(c, -1, -2)) or (np.linalg.eigvalsh(c) <= 0).any():
            raise ValueError("covs must be symmetric positive definite")
        return cls(w[None], m[None], c[None])

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, part) -> Params:
        return Params(self.weights[part], self.means[part], self.covs[part])

    def at(self, generation: int) -> Params:
        """The fits of one generation of a history, 1 to G."""
        return self[_checks.integer("generation", generation, 1, len(self)) - 1]

    def repeat(self, n: int) -> Params:
        """`n` copies of one mixture."""
        return Params(*(np.repeat(a, n, axis=0) for a in (self.weights, self.means, self.covs)))

    def moments(self) -> tuple[Array, Array]:
        """Mean, shape (R, d), and covariance, shape (R, d, d), of the whole mixture."""
        mean = np.einsum("...k,...kd->...d", self.weights, self.means)
        gap = self.means - mean[..., None, :]
        cov = np.einsum("...k,...kij->...ij", self.weights, self.covs)
        return mean, cov + np.einsum("...k,...ki,...kj->...ij", self.weights, gap, gap)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` rows from each mixture, shape (R, n, d), grouped by component."""
        counts = rng.multinomial(n, self.weights / self.weights.sum(axis=1, keepdims=True))
        roots = np.linalg.cholesky(self.covs)
        dim = self.means.shape[2]
        rows = rng.standard_normal((len(self), dim, n))

        def spread(per_component: Array) -> Array:
            """Numbers of the components, shape (R, K), as numbers of the rows, shape (R, n)."""
            times = counts.ravel().astype(np.intp)  # a browser counts in 32 bits
            return np.repeat(per_component.ravel(), times).reshape(len(self), n)

        for a in reversed(range(dim)):  # the root is lower triangular: the last variable first
            rows[:, a] *= spread(roots[..., a, a])
            for b in range(a):
                rows[:, a] += spread(roots[..., a, b]) * rows[:, b]
            rows[:, a] += spread(self.means[..., a])
        return rows.swapaxes(1, 2)


def l2_distance(p: Params, q: Params) -> Array:
    """Squared L2 distance between mixtures, replicate by replicate, shape (R,).

    Closed form from the integral of a product of Gaussians, N(m_i; m_j, S_i + S_j): the distance
    of the released GMM experiment (Shumailov and Shumaylov 2024, code).
    """

    def product(a: Params, b: Params) -> Array:
        gap = a.means[..., :, None, :] - b.means[..., None, :, :]
        cov = a.covs[..., :, None, :, :] + b.covs[..., None, :, :, :]
        quad = (gap * np.linalg.solve(cov, gap[..., None])[..., 0]).sum(axis=-1)
        scale = gap.shape[-1] * math.log(2 * math.pi) + np.linalg.slogdet(cov)[1]
        return np.einsum("...i,...j,...ij->...", a.weights, b.weights, np.exp(-(quad + scale) / 2))

    return product(p, p) + product(q, q) - 2 * product(p, q)


# --------------------------------------------------------------------------- EM


@checked(**_SETTINGS)
def em(
    X: ArrayLike, start: Params, *, n_steps: int = 100, tol: float = 0.0, reg_covar: float = 1e-6
) -> tuple[Params, Array, NDArray[np.int64]]:
    """EM steps for R data sets at once, each from its own start.

    - `X` (array, shape (R, n, d))
    - `start` (Params): R starting points.
    - `n_steps`: Steps to take, or the most to take when `tol` > 0.
    - `tol`: Stop a replicate when its mean log-likelihood changes by less than this in a step, as
      scikit-learn does; 0 takes all steps.
    - `reg_covar`: Added to the diagonal of every covariance in every step.

    Returns the parameters, the mean log-density per row before the last update (scikit-learn's
    ``lower_bound_``), shape (R,), and the steps taken, shape (R,).
    """
    X = np.asarray(X, dtype=float)
    k, dim = start.means.shape[1:]
    if X.ndim != 3 or len(X) != len(start) or X.shape[2] != dim:
        raise ValueError(f"X must have shape ({len(start)}, n, {dim}), got {X.shape}")
    if X.shape[1] < k:
        raise ValueError(f"n_components must be at most the {X.shape[1]} rows of X, got {k}")
    return _em(X, start, n_steps, tol, reg_covar, likelihood=True)


def _em(X, start, n_steps, tol, reg_covar, *, likelihood):
    """`em` for checked arguments; the log-likelihood is left out if nobody asks for it."""
    n_rows, dim = X.shape[1:]
    centre = np.matmul(np.full(n_rows, 1 / n_rows), X)
    if not np.isfinite(centre).all():
        raise ValueError("X must be finite, got NaN or infinity")
    i, j = _pairs(dim)
    weights, means = start.weights.copy(), start.means - centre[:, None]
    packed = start.covs[..., i, j]
    log_likelihood = np.full(len(X), np.nan)
    steps = np.zeros(len(X), dtype=np.int64)
    block = min(len(X), max(1, _BLOCK // n_rows))
    # One feature or component after the other: each pass over the rows is contiguous.
    phi = np.empty((1 + dim + packed.shape[2], block, n_rows)).swapaxes(0, 1)
    resp = np.empty((weights.shape[1], block, n_rows)).swapaxes(0, 1)
    for first in range(0, len(X), block):
        part = slice(first, first + block)
        feats = _features(X[part], centre[part], out=phi[: len(X[part])])
        now = weights[part], means[part], packed[part]
        done = _em_block(feats, now, n_steps, tol, reg_covar, resp, likelihood)
        log_likelihood[part], steps[part] = done
    fitted = Params(weights, means + centre[:, None], packed[..., _unpacking(dim)])
    return fitted, log_likelihood, steps


def _em_block(phi, params, n_steps, tol, reg_covar, resp, likelihood):
    """EM on the replicates of one block; `params` are overwritten with the result."""
    weights, means, packed = now = params
    bound = np.full(len(phi), np.nan if tol == 0 else -np.inf)
    steps = np.full(len(phi), n_steps)
    active = np.arange(len(phi))
    for step in range(1, n_steps + 1):
        theta, shares = _theta(*now), resp[: len(active)]
        judged = tol > 0 or (likelihood and step == n_steps)
        new = _e_step(theta, phi, out=shares, with_likelihood=judged)
        now = _m_step(shares, phi, means.shape[2], reg_covar)
        if tol > 0:
            stopped = np.abs(new - bound[active]) < tol
            bound[active] = new
            if stopped.any():
                out = active[stopped]
                steps[out] = step
                weights[out], means[out], packed[out] = (a[stopped] for a in now)
                active, phi, now = active[~stopped], phi[~stopped], [a[~stopped] for a in now]
                if not len(active):
                    break
        elif judged:
            bound = new
    weights[active], means[active], packed[active] = now
    return bound, steps


def _e_step(theta: Array, phi: Array, *, out: Array, with_likelihood: bool) -> Array | None:
    """Write the responsibilities (R, K, n) to `out`; if asked for, return mean log-densities."""
    if theta.shape[1] == 2 and not with_likelihood:
        # Two components need one exponential per row; neither is taken as 1 minus the other.
        first, odds = out[:, 0], out[:, 1]
        np.matmul(theta[:, 1:] - theta[:, :1], phi, out=out[:, 1:])
        np.minimum(odds, 700, out=odds)
        np.exp(odds, out=odds)
        np.add(odds, 1, out=first)
        np.reciprocal(first, out=first)
        np.multiply(odds, first, out=odds)
        return None
    joint = np.matmul(theta, phi, out=out)
    parts = [joint[:, k] for k in range(theta.shape[1])]  # each contiguous
    top = reduce(np.maximum, parts[1:], parts[0].copy())
    for part in parts:
        part -= top
        np.exp(part, out=part)
    total = reduce(np.add, parts)
    for part in parts:
        part /= total
    return (top + np.log(total)).mean(axis=1) if with_likelihood else None


@cache
def _pairs(dim: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the upper triangle, in the order in which covariances are packed."""
    return np.triu_indices(dim)


@cache
def _diagonal(dim: int, on: float, off: float) -> Array:
    """A packed symmetric matrix with `on` along the diagonal and `off` elsewhere."""
    i, j = _pairs(dim)
    return np.where(i == j, on, off)


@cache
def _unpacking(dim: int) -> NDArray[np.int64]:
    """Places in the packed triangle of the entries of a symmetric matrix, shape (d, d)."""
    i, j = _pairs(dim)
    places = np.empty((dim, dim), dtype=np.int64)
    places[i, j] = places[j, i] = np.arange(len(i))
    return places


def _features(X: Array, centre: Array, out: Array | None = None) -> Array:
    """Rows (1, x_i, x_i x_j for i <= j) of x - centre: shape (R, 1 + d + d(d+1)/2, n)."""
    dim = X.shape[2]
    i, j = _pairs(dim)
    phi = np.empty((len(X), 1 + dim + len(i), X.shape[1])) if out is None else out
    phi[:, 0] = 1
    for a in range(dim):
        np.subtract(X[:, :, a], centre[:, a, None], out=phi[:, 1 + a])
    for at, (a, b) in enumerate(zip(i, j, strict=True), start=1 + dim):
        np.multiply(phi[:, 1 + a], phi[:, 1 + b], out=phi[:, at])
    return phi


def _theta(weights: Array, means: Array, packed: Array) -> Array:
    """Coefficients of the features in log(weight) + log-density: shape (R, K, F)."""
    dim = means.shape[2]
    precision, log_det = _precision(packed, dim)
    slope = (precision[..., _unpacking(dim)] @ means[..., None])[..., 0]
    theta = np.empty((*means.shape[:2], 1 + dim + packed.shape[2]))
    # The floor is for a component that has died: it gets no row, and log 0 would give NaN.
    log_weight = np.log(np.maximum(weights, _TINY))
    scale = dim * math.log(2 * math.pi) + log_det + np.vecdot(slope, means)
    theta[..., 0] = log_weight - 0.5 * scale
    theta[..., 1 : 1 + dim] = slope
    theta[..., 1 + dim :] = precision * _diagonal(dim, -0.5, -1.0)
    return theta


def _precision(packed: Array, dim: int) -> tuple[Array, Array]:
    """Inverses, packed, and log-determinants; written out up to d = 2, where LAPACK costs more."""
    if dim <= 2:
        first, last = packed[..., 0], packed[..., -1]
        det = first if dim == 1 else first * last - packed[..., 1] ** 2
        if not (det.min() > 0 and first.min() > 0):
            raise ValueError(_NOT_POSITIVE)
        if dim == 1:
            return 1 / packed, np.log(det)
        return packed[..., ::-1] * _ADJUGATE / det[..., None], np.log(det)
    try:
        root = np.linalg.cholesky(packed[..., _unpacking(dim)])
    except np.linalg.LinAlgError:
        raise ValueError(_NOT_POSITIVE) from None
    inverse = np.linalg.inv(root)
    i, j = _pairs(dim)
    log_det = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    return (np.swapaxes(inverse, -1, -2) @ inverse)[..., i, j], log_det


def _m_step(resp: Array, phi: Array, dim: int, reg_covar: float):
    """Weights (R, K), centred means (R, K, d) and packed covariances (R, K, P)."""
    i, j = _pairs(dim)
    sums = resp @ np.swapaxes(phi, 1, 2)
    count = sums[..., 0] + _WEIGHT_FLOOR
    moments = sums[..., 1:] / count[..., None]
    means, packed = moments[..., :dim], moments[..., dim:]
    # sum of r (x - m)(x - m)^T with m the new mean; the floor makes m differ slightly from S1/S0
    share = (sums[..., 0] / count)[..., None]
    packed -= (2 - share) * means[..., i] * means[..., j]
    packed += _diagonal(dim, reg_covar, 0.0)
    return count / count.sum(axis=1, keepdims=True), means, packed


# --------------------------------------------------------------------------- starting points


def _start_from(
    X: ArrayLike, n_components: int, rng: np.random.Generator, *, reg_covar: float = 1e-6
) -> Params:
    """Starting points by k-means from X, shape (R, n, d), as in scikit-learn."""
    X = np.asarray(X, dtype=float)
    k = _checks.integer("n_components", n_components, 1, X.shape[1])
    centre = X.mean(axis=1)
    labels = kmeans(X, k, rng)
    shares = (labels[:, None] == np.arange(k)[:, None]).astype(float)
    dim = X.shape[2]
    weights, means, packed = _m_step(shares, _features(X, centre), dim, reg_covar)
    return Params(weights, means + centre[:, None], packed[..., _unpacking(dim)])


def kmeans(
    X: Array, k: int, rng: np.random.Generator, *, tol: float = 1e-4, max_iter: int = 300
) -> NDArray[np.int64]:
    """Labels, shape (R, n), of one run of k-means on each data set of X, shape (R, n, d).

    What scikit-learn's ``KMeans(k, n_init=1)`` does: greedy k-means++ seeds (Arthur and
    Vassilvitskii 2007), then Lloyd's steps until no label changes, or the centres move by less
    than `tol` times the mean variance. An empty cluster keeps its centre.
    """
    X = X - X.mean(axis=1, keepdims=True)
    centres = _seeds(X, k, rng)
    still = tol * X.var(axis=1).mean(axis=1)
    labels = np.full(X.shape[:2], -1)
    active = np.arange(len(X))
    for _ in range(max_iter):
        now = _nearest(X[active], centres[active])
        same = (now == labels[active]).all(axis=1)
        labels[active] = now
        shares = (now[:, None] == np.arange(k)[:, None]).astype(float)
        count = shares.sum(axis=2)[..., None]
        new = np.where(count > 0, shares @ X[active] / np.maximum(count, 1), centres[active])
        close = ((new - centres[active]) ** 2).sum(axis=(1, 2)) <= still[active]
        centres[active] = new
        labels[active[close]] = _nearest(X[active[close]], new[close])
        active = active[~(same | close)]
        if not len(active):
            break
    return labels


def _nearest(X: Array, centres: Array) -> NDArray[np.int64]:
    scores = centres @ np.swapaxes(X, 1, 2)
    scores -= (centres**2).sum(axis=2)[..., None] / 2
    # argmax along two is slow
    return scores.argmax(axis=1) if scores.shape[1] > 2 else scores[:, -1] > scores[:, 0]


def _seeds(X: Array, k: int, rng: np.random.Generator) -> Array:
    """Each further centre is the best of a few rows, drawn by their squared distances."""
    r, n, dim = X.shape
    trials = 2 + int(math.log(k))
    lines = np.arange(r)
    centres = np.empty((r, k, dim))
    centres[:, 0] = X[lines, rng.integers(n, size=r)]
    closest = ((X - centres[:, :1]) ** 2).sum(axis=2)
    for c in range(1, k):
        mass = closest.cumsum(axis=1)
        at = rng.random((trials, r)) * mass[:, -1]
        rows = [(mass < one[:, None]).sum(axis=1).clip(max=n - 1) for one in at]
        left = [np.minimum(closest, ((X - X[lines, i][:, None]) ** 2).sum(axis=2)) for i in rows]
        best = np.argmin([one.sum(axis=1) for one in left], axis=0)
        closest = np.array(left)[best, lines]
        centres[:, c] = X[lines, np.array(rows)[best, lines]]
    return centres


# --------------------------------------------------------------------------- model and recursion


@dataclass
class _Written(Rows):
    """Rows with the mixtures that wrote them, and the generator for what a fit does by chance."""

    law: Params | None
    rng: np.random.Generator

    def __getitem__(self, rows: slice) -> _Written:
        return _Written(self.X[:, rows], self.law, self.rng)

    def __add__(self, other: Rows) -> _Written:
        return _Written(np.concatenate([self.X, other.X], axis=1), None, self.rng)

    def choose(self, n: int, rng: np.random.Generator) -> _Written:
        """See :class:`collapse_utils.lineages.Rows`."""
        return _Written(Rows(self.X).choose(n, rng).X, self.law, self.rng)


@checked(n_components=whole(1), start=one_of(*STARTS), **_SETTINGS)
@dataclass(frozen=True)
class EM:
    """Mixtures fitted by EM: a family for :func:`collapse_utils.lineages.generations`.

    - `n_components`: K of the fits.
    - `start` ({"parent", "kmeans"}): Where a fit starts: from the mixture that wrote its data (from
      k-means if there is no one such mixture, or it has another K), or from k-means every time.
    - `n_steps, tol, reg_covar`: As in :func:`em`.
    """

    n_components: int = 2
    start: str = "parent"
    n_steps: int = 10
    tol: float = 0.0
    reg_covar: float = 1e-6

    @property
    def least(self) -> int:
        """See :class:`collapse_utils.lineages.Normal`."""
        return self.n_components

    def truth(self, law: Params, n_lineages: int) -> Params:
        """One mixture as the law of all lineages."""
        if len(law) != 1:
            raise ValueError(f"truth must be one mixture, got {len(law)}")
        return law.repeat(n_lineages)

    def draw(self, law: Params, n: int, rng: np.random.Generator) -> _Written:
        """See :class:`collapse_utils.lineages.Family`."""
        return _Written(law.sample(n, rng), law, rng)

    def fit(self, sample: _Written) -> Params:
        """See :class:`collapse_utils.lineages.Family`."""
        parent, k = sample.law, self.n_components
        if self.start == "kmeans" or parent is None or parent.weights.shape[1] != k:
            parent = _start_from(sample.X, k, sample.rng, reg_covar=self.reg_covar)
        settings = self.n_steps, self.tol, self.reg_covar
        return _em(sample.X, parent, *settings, likelihood=False)[0]


def simulate(
    truth: Params, *, n_samples, n_generations: int, n_replicates: int, rng, **settings
) -> Params:
    """Mixtures refitted generation after generation under Replace: a history of R chains.

    Arguments of :func:`collapse_utils.lineages.generations`, and settings of :class:`EM`;
    `n_components` defaults to that of the truth.
    """
    family = EM(**{"n_components": truth.weights.shape[1], **settings})
    sizes = {"n_samples": n_samples, "n_generations": n_generations}
    laws = generations(family, truth, n_replicates=n_replicates, rng=rng, **sizes)
    next(laws)
    fits = list(laws)
    return Params(*(np.stack([getattr(f, a) for f in fits]) for a in ("weights", "means", "covs")))


class Mixture(BaseEstimator):
    """A Gaussian mixture in the loop's convention; ``fit_many`` trains all lineages at once.

    - `n_components, n_steps, tol, reg_covar`: As in :func:`em`, which starts from k-means.

    - `params_` (Params): The fitted mixture (R = 1).
    """

    @checked(n_components=whole(1), **_SETTINGS)
    def __init__(
        self,
        n_components: int = 2,
        *,
        n_steps: int = 100,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
    ) -> None:
        self.n_components, self.n_steps = n_components, n_steps
        self.tol, self.reg_covar = tol, reg_covar

    def fit(self, X: ArrayLike, rng: np.random.Generator) -> Mixture:
        """Fit rows of shape (n, d)."""
        self.params_ = self.fit_many([np.asarray(X)], rng)[0].params_
        return self

    def fit_many(self, datasets: list[NDArray], rng: np.random.Generator) -> list[Mixture]:
        """Fit one mixture per data set; sets of equal length are fitted together."""
        fitted = [clone(self) for _ in datasets]
        lengths = np.array([len(X) for X in datasets])
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            X = np.stack([np.asarray(datasets[i], dtype=float) for i in members])
            if X.ndim != 3:
                raise ValueError(f"X must have shape (n, d), got {X.shape[1:]}")
            start = _start_from(X, self.n_components, rng, reg_covar=self.reg_covar)
            settings = {"n_steps": self.n_steps, "tol": self.tol, "reg_covar": self.reg_covar}
            params = em(X, start, **settings)[0]
            for at, i in enumerate(members):
                fitted[i].params_ = params[[at]]
        return fitted

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` rows, shape (n, d)."""
        return self.params_.sample(n, rng)[0]
