"""Gaussian mixtures fitted by EM, for many replicates at once.

A Gaussian's log-density is linear in the features ``(1, x, x x^T)``, and an EM update needs only
the responsibility-weighted sums of the same features. So both halves of a step are one batched
matrix product over replicates. The steps are those of scikit-learn's ``GaussianMixture``, from
k-means to the floors, and agree with it to rounding error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import checked, number, one_of, whole
from ..lineages import Rows

Array = NDArray[np.float64]

_WEIGHT_FLOOR = 10 * np.finfo(float).eps  # added to each component's count, as scikit-learn does
_NOT_POSITIVE = "a component's covariance is no longer positive definite: raise reg_covar"
_ADJUGATE = np.array([[1.0, -1.0], [-1.0, 1.0]])  # signs of the inverse of a 2 x 2 matrix
_TINY = np.finfo(float).tiny
_BLOCK = 2**15  # samples per block of replicates: features and responsibilities stay in cache


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


def _em(X: Array, start: Params, n_steps: int, tol: float, reg_covar: float) -> Params:
    """EM steps for R data sets at once, shape (R, n, d), each from its own start."""
    n_rows, dim = X.shape[1:]
    if n_rows < start.means.shape[1]:
        raise ValueError(f"X must have a row for each of the {start.means.shape[1]} components")
    centre = np.matmul(np.full(n_rows, 1 / n_rows), X)
    if not np.isfinite(centre).all():
        raise ValueError("X must be finite, got NaN or infinity")
    fits = start.weights.copy(), start.means - centre[:, None], start.covs.copy()
    block = min(len(X), max(1, _BLOCK // n_rows))
    # One feature or component after the other: each pass over the rows is contiguous.
    phi = np.empty((1 + dim + dim**2, block, n_rows)).swapaxes(0, 1)
    resp = np.empty((fits[0].shape[1], block, n_rows)).swapaxes(0, 1)
    for first in range(0, len(X), block):
        part = slice(first, first + block)
        feats = _features(X[part], centre[part], out=phi[: len(X[part])])
        _em_block(feats, [a[part] for a in fits], n_steps, tol, reg_covar, resp)
    weights, means, covs = fits
    return Params(weights, means + centre[:, None], covs)


def _em_block(phi, fits, n_steps, tol, reg_covar, resp):
    """EM on the replicates of one block; `fits` are overwritten with the result."""
    likelihood, active, now = np.full(len(phi), -np.inf), np.arange(len(phi)), fits
    for _ in range(n_steps):
        shares = resp[: len(active)]
        new = _e_step(_theta(*now), phi, out=shares, with_likelihood=tol > 0)
        now = _m_step(shares, phi, reg_covar)
        if tol > 0:
            stopped = np.abs(new - likelihood[active]) < tol
            likelihood[active] = new
            if stopped.any():
                for whole, some in zip(fits, now, strict=True):
                    whole[active[stopped]] = some[stopped]
                active, phi, now = active[~stopped], phi[~stopped], [a[~stopped] for a in now]
                if not len(active):
                    break
    for whole, some in zip(fits, now, strict=True):
        whole[active] = some


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


def _features(X: Array, centre: Array, out: Array) -> Array:
    """Rows (1, x_i, x_i x_j) of x - centre: shape (R, 1 + d + d^2, n)."""
    dim = X.shape[2]
    out[:, 0] = 1
    for a in range(dim):
        np.subtract(X[:, :, a], centre[:, a, None], out=out[:, 1 + a])
    for at, (a, b) in enumerate(np.ndindex(dim, dim), start=1 + dim):
        np.multiply(out[:, 1 + a], out[:, 1 + b], out=out[:, at])
    return out


def _theta(weights: Array, means: Array, covs: Array) -> Array:
    """Coefficients of the features in log(weight) + log-density: shape (R, K, F)."""
    dim = means.shape[2]
    precision, log_det = _precision(covs)
    slope = (precision @ means[..., None])[..., 0]
    theta = np.empty((*means.shape[:2], 1 + dim + dim**2))
    # The floor is for a component that has died: it gets no row, and log 0 would give NaN.
    log_weight = np.log(np.maximum(weights, _TINY))
    scale = dim * math.log(2 * math.pi) + log_det + np.vecdot(slope, means)
    theta[..., 0] = log_weight - 0.5 * scale
    theta[..., 1 : 1 + dim] = slope
    theta[..., 1 + dim :] = -0.5 * precision.reshape(*means.shape[:2], dim**2)
    return theta


def _precision(covs: Array) -> tuple[Array, Array]:
    """Inverses and log-determinants; written out up to d = 2, where LAPACK costs more."""
    dim = covs.shape[-1]
    if dim > 2:
        try:
            root = np.linalg.inv(np.linalg.cholesky(covs))
        except np.linalg.LinAlgError:
            raise ValueError(_NOT_POSITIVE) from None
        log_det = -2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
        return np.swapaxes(root, -1, -2) @ root, log_det
    first, last = covs[..., 0, 0], covs[..., -1, -1]
    det = first if dim == 1 else first * last - covs[..., 0, 1] ** 2
    if not (det.min() > 0 and first.min() > 0):
        raise ValueError(_NOT_POSITIVE)
    if dim == 1:
        return 1 / covs, np.log(det)
    return covs[..., ::-1, ::-1] * _ADJUGATE / det[..., None, None], np.log(det)


def _m_step(resp: Array, phi: Array, reg_covar: float) -> tuple[Array, Array, Array]:
    """Weights (R, K), centred means (R, K, d) and covariances (R, K, d, d)."""
    sums = resp @ np.swapaxes(phi, 1, 2)
    dim = math.isqrt(phi.shape[1] - 1)
    count = sums[..., 0] + _WEIGHT_FLOOR
    moments = sums[..., 1:] / count[..., None]
    means, covs = moments[..., :dim], moments[..., dim:].reshape(*count.shape, dim, dim)
    # sum of r (x - m)(x - m)^T with m the new mean; the floor makes m differ slightly from S1/S0
    share = (sums[..., 0] / count)[..., None, None]
    covs -= (2 - share) * means[..., :, None] * means[..., None, :]
    covs[..., range(dim), range(dim)] += reg_covar
    return count / count.sum(axis=1, keepdims=True), means, covs


# --------------------------------------------------------------------------- starting points


def _start_from(X: Array, k: int, rng: np.random.Generator, *, reg_covar: float = 1e-6) -> Params:
    """Starting points by k-means from X, shape (R, n, d), as in scikit-learn."""
    (r, n, dim), centre = X.shape, X.mean(axis=1)
    shares = (_kmeans(X, k, rng)[:, None] == np.arange(k)[:, None]).astype(float)
    features = _features(X, centre, np.empty((r, 1 + dim + dim**2, n)))
    weights, means, covs = _m_step(shares, features, reg_covar)
    return Params(weights, means + centre[:, None], covs)


def _kmeans(
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


# --------------------------------------------------------------------------- chains


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


@checked(
    n_components=whole(1),
    start=one_of("parent", "kmeans"),
    n_steps=whole(1),
    tol=number(0),
    reg_covar=number(0),
)
@dataclass(frozen=True)
class EM:
    """Mixtures fitted by EM: a family for :func:`collapse_utils.lineages.generations`.

    - `n_components`: K of the fits.
    - `start` ({"parent", "kmeans"}): Where a fit starts: from the mixture that wrote its data (from
      k-means if there is no one such mixture, or it has another K), or from k-means every time.
    - `n_steps`: Steps to take, or the most to take when `tol` > 0.
    - `tol`: Stop a replicate when its mean log-likelihood changes by less than this in a step, as
      scikit-learn does; 0 takes all steps.
    - `reg_covar`: Added to the diagonal of every covariance in every step.
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
        return law[np.zeros(n_lineages, dtype=int)]

    def draw(self, law: Params, n: int, rng: np.random.Generator) -> _Written:
        """See :class:`collapse_utils.lineages.Family`."""
        return _Written(law.sample(n, rng), law, rng)

    def fit(self, sample: _Written) -> Params:
        """See :class:`collapse_utils.lineages.Family`."""
        parent, k = sample.law, self.n_components
        if self.start == "kmeans" or parent is None or parent.weights.shape[1] != k:
            parent = _start_from(sample.X, k, sample.rng, reg_covar=self.reg_covar)
        return _em(sample.X, parent, self.n_steps, self.tol, self.reg_covar)
