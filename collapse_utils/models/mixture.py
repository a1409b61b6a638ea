"""Gaussian mixtures fitted by EM, for many replicates at once.

A Gaussian's log-density is linear in the features ``(1, x, x x^T)``, and an EM update needs only
the responsibility-weighted sums of the same features. So both halves of a step are one batched
matrix product over replicates, with no Python loop over samples, components or replicates. The
steps are those of scikit-learn's ``GaussianMixture``, floors included, and agree with it to
rounding error, which in a log-density grows with the square of the spread of the data in units of
a component's standard deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from .. import _checks

Array = NDArray[np.float64]

COVARIANCES = ("full", "diag")
STARTS = ("kmeans", "random_from_data")
_WEIGHT_FLOOR = 10 * np.finfo(float).eps  # added to each component's count, as scikit-learn does
_NOT_POSITIVE = "a component's covariance is no longer positive definite: raise reg_covar"
_ADJUGATE = np.array([1.0, -1.0, 1.0])  # signs of the inverse of a packed 2 x 2 matrix
_BLOCK = 2**15  # samples per block of replicates: features and responsibilities stay in cache


@dataclass(frozen=True)
class Params:
    """Parameters of R mixtures of K Gaussians in d dimensions.

    Attributes
    ----------
    weights : ndarray, shape (R, K)
    means : ndarray, shape (R, K, d)
    covs : ndarray, shape (R, K, d, d)
    """

    weights: Array
    means: Array
    covs: Array

    @classmethod
    def of(cls, weights: ArrayLike, means: ArrayLike, covs: ArrayLike) -> Params:
        """Parameters of one mixture: weights (K,), means (K, d), covs (K, d, d) or (d, d).

        Raises
        ------
        ValueError
            If the shapes disagree, the weights are not a distribution, or a covariance is not
            symmetric positive definite.
        """
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

    def __getitem__(self, replicates) -> Params:
        return Params(self.weights[replicates], self.means[replicates], self.covs[replicates])

    def repeat(self, n: int) -> Params:
        """`n` copies of one mixture."""
        return Params(*(np.repeat(a, n, axis=0) for a in (self.weights, self.means, self.covs)))

    def moments(self) -> tuple[Array, Array]:
        """Mean, shape (R, d), and covariance, shape (R, d, d), of the whole mixture."""
        mean = np.einsum("rk,rkd->rd", self.weights, self.means)
        gap = self.means - mean[:, None]
        cov = np.einsum("rk,rkij->rij", self.weights, self.covs)
        return mean, cov + np.einsum("rk,rki,rkj->rij", self.weights, gap, gap)

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

    def log_density(self, X: ArrayLike) -> Array:
        """Log-density of rows X, shape (n, d) for all or (R, n, d), as shape (R, n)."""
        X = np.broadcast_to(X, (len(self), *np.shape(X)[-2:]))
        centre = self.moments()[0]
        joint = _theta(self.weights, *_centred(self, centre)) @ _features(X, centre)
        top = joint.max(axis=1)
        return top + np.log(np.exp(joint - top[:, None]).sum(axis=1))


def l2_distance(p: Params, q: Params) -> Array:
    """Squared L2 distance between mixtures, replicate by replicate, shape (R,).

    Closed form from the integral of a product of Gaussians, N(m_i; m_j, S_i + S_j): the distance
    of the released GMM experiment (Shumailov and Shumaylov 2024, code).
    """

    def product(a: Params, b: Params) -> Array:
        gap = a.means[:, :, None] - b.means[:, None]
        cov = a.covs[:, :, None] + b.covs[:, None]
        quad = np.einsum("rijd,rijd->rij", gap, np.linalg.solve(cov, gap[..., None])[..., 0])
        dim = gap.shape[-1]
        density = np.exp(-0.5 * (quad + dim * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1]))
        return np.einsum("ri,rj,rij->r", a.weights, b.weights, density)

    return product(p, p) + product(q, q) - 2 * product(p, q)


# --------------------------------------------------------------------------- EM


def em(
    X: ArrayLike,
    start: Params,
    *,
    n_steps: int = 100,
    tol: float = 0.0,
    reg_covar: float = 1e-6,
    covariance: str = "full",
) -> tuple[Params, Array, NDArray[np.int64]]:
    """EM steps for R data sets at once, each from its own start.

    Parameters
    ----------
    X : array, shape (R, n, d)
        One data set per replicate.
    start : Params
        R starting points.
    n_steps : int
        Steps to take, or the most to take when `tol` > 0.
    tol : float
        Stop a replicate when its mean log-likelihood changes by less than this in a step, as
        scikit-learn does; 0 takes all steps.
    reg_covar : float
        Added to the diagonal of every covariance in every step.
    covariance : {"full", "diag"}

    Returns
    -------
    params : Params
    log_likelihood : ndarray, shape (R,)
        Mean log-density per row before the last update (scikit-learn's ``lower_bound_``).
    steps : ndarray of int, shape (R,)
        Steps taken.

    Raises
    ------
    ValueError
        If an argument is out of range, X is not finite or has the wrong shape, there are fewer
        rows than components, or a covariance degenerates (raise `reg_covar`).
    """
    X = np.asarray(X, dtype=float)
    settings = _settings(n_steps, tol, reg_covar, covariance)
    k, dim = start.means.shape[1:]
    if X.ndim != 3 or len(X) != len(start) or X.shape[2] != dim:
        raise ValueError(f"X must have shape ({len(start)}, n, {dim}), got {X.shape}")
    if X.shape[1] < k:
        raise ValueError(f"n_components must be at most the {X.shape[1]} rows of X, got {k}")
    return _em(X, start, *settings, likelihood=True)


def _settings(n_steps, tol, reg_covar, covariance) -> tuple[int, float, float, str]:
    return (
        _checks.integer("n_steps", n_steps, 1),
        _checks.real("tol", tol, 0),
        _checks.real("reg_covar", reg_covar, 0),
        _checks.choice("covariance", covariance, COVARIANCES),
    )


def _em(X, start, n_steps, tol, reg_covar, covariance, *, likelihood):
    """`em` for checked arguments; the log-likelihood is left out if nobody asks for it."""
    n_rows, dim = X.shape[1:]
    centre = np.matmul(np.full(n_rows, 1 / n_rows), X)
    if not np.isfinite(centre).all():
        raise ValueError("X must be finite, got NaN or infinity")
    weights, (means, packed) = start.weights.copy(), _centred(start, centre)
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
        done = _em_block(feats, now, n_steps, tol, reg_covar, covariance, resp, likelihood)
        log_likelihood[part], steps[part] = done
    return _params(weights, means, packed, centre), log_likelihood, steps


def _em_block(phi, params, n_steps, tol, reg_covar, covariance, resp, likelihood):
    """EM on the replicates of one block; `params` are overwritten with the result."""
    weights, means, packed = now = params
    bound = np.full(len(phi), np.nan if tol == 0 else -np.inf)
    steps = np.full(len(phi), n_steps)
    active = np.arange(len(phi))
    for step in range(1, n_steps + 1):
        theta, shares = _theta(*now), resp[: len(active)]
        judged = tol > 0 or (likelihood and step == n_steps)
        new = _e_step(theta, phi, out=shares, with_likelihood=judged)
        now = _m_step(shares, phi, means.shape[2], reg_covar, covariance)
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
    top = joint.max(axis=1)
    joint -= top[:, None]
    np.exp(joint, out=joint)
    total = joint.sum(axis=1)
    joint /= total[:, None]
    return (top + np.log(total)).mean(axis=1) if with_likelihood else None


@cache
def _pairs(dim: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the upper triangle, in the order in which covariances are packed."""
    return np.triu_indices(dim)


@cache
def _unpacking(dim: int) -> NDArray[np.int64]:
    """Places in the packed triangle of the entries of a symmetric matrix, shape (d, d)."""
    i, j = _pairs(dim)
    places = np.empty((dim, dim), dtype=np.int64)
    places[i, j] = places[j, i] = np.arange(len(i))
    return places


def _centred(params: Params, centre: Array) -> tuple[Array, Array]:
    """Means relative to `centre`, and the upper triangles of the covariances (R, K, P)."""
    i, j = _pairs(centre.shape[1])
    return params.means - centre[:, None], params.covs[..., i, j]


def _params(weights: Array, means: Array, packed: Array, centre: Array) -> Params:
    """The opposite of `_centred`."""
    return Params(weights, means + centre[:, None], packed[..., _unpacking(centre.shape[1])])


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
    i, j = _pairs(dim)
    precision, log_det = _precision(packed, dim)
    slope = (precision[..., _unpacking(dim)] @ means[..., None])[..., 0]
    theta = np.empty((*means.shape[:2], 1 + dim + len(i)))
    # The floor is for a component that has died: it gets no row, and log 0 would give NaN.
    log_weight = np.log(np.maximum(weights, np.finfo(float).tiny))
    scale = dim * math.log(2 * math.pi) + log_det + np.vecdot(slope, means)
    theta[..., 0] = log_weight - 0.5 * scale
    theta[..., 1 : 1 + dim] = slope
    theta[..., 1 + dim :] = precision * np.where(i == j, -0.5, -1.0)
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


def _m_step(resp: Array, phi: Array, dim: int, reg_covar: float, covariance: str):
    """Weights (R, K), centred means (R, K, d) and packed covariances (R, K, P)."""
    i, j = _pairs(dim)
    sums = resp @ np.swapaxes(phi, 1, 2)
    count = sums[..., 0] + _WEIGHT_FLOOR
    moments = sums[..., 1:] / count[..., None]
    means, packed = moments[..., :dim], moments[..., dim:]
    # sum of r (x - m)(x - m)^T with m the new mean; the floor makes m differ slightly from S1/S0
    share = (sums[..., 0] / count)[..., None]
    packed -= (2 - share) * means[..., i] * means[..., j]
    packed += np.where(i == j, reg_covar, 0.0)
    if covariance == "diag":
        packed *= i == j
    return count / count.sum(axis=1, keepdims=True), means, packed


def start_from(
    X: ArrayLike,
    n_components: int,
    rng: np.random.Generator,
    *,
    init: str = "kmeans",
    reg_covar: float = 1e-6,
    covariance: str = "full",
) -> Params:
    """Starting points from data, as scikit-learn's ``init_params`` makes them.

    Parameters
    ----------
    X : array, shape (R, n, d)
    n_components : int
        K, at most n.
    rng : numpy.random.Generator
    init : {"kmeans", "random_from_data"}
        One k-means run per data set, or K random rows.
    reg_covar, covariance
        As in :func:`em`.

    Returns
    -------
    Params

    Raises
    ------
    ValueError
        If there are more components than rows, or `init` is unknown.
    """
    X = np.asarray(X, dtype=float)
    _checks.choice("init", init, STARTS)
    n_components = _checks.integer("n_components", n_components, 1, X.shape[1])
    resp = np.zeros((len(X), n_components, X.shape[1]))
    if init == "kmeans":
        from sklearn.cluster import KMeans
    for r, rows in enumerate(X):
        if init == "kmeans":
            seed = int(rng.integers(2**31))
            labels = KMeans(n_components, n_init=1, random_state=seed).fit(rows).labels_
            resp[r, labels, np.arange(len(rows))] = 1
        else:
            chosen = rng.choice(len(rows), n_components, replace=False)
            resp[r, np.arange(n_components), chosen] = 1
    centre = X.mean(axis=1)
    fit = _m_step(resp, _features(X, centre), centre.shape[1], reg_covar, covariance)
    return _params(*fit, centre)


# --------------------------------------------------------------------------- model and recursion


class Mixture(BaseEstimator):
    """A Gaussian mixture in the loop's convention; ``fit_many`` trains all lineages at once.

    Parameters
    ----------
    n_components : int
        K.
    covariance : {"full", "diag"}
    init : {"kmeans", "random_from_data"}
    n_steps : int
        EM steps, or the most of them when `tol` > 0.
    tol : float
        See :func:`em`.
    reg_covar : float
        Floor of the variances.

    Attributes
    ----------
    params_ : Params
        The fitted mixture (R = 1).
    log_likelihood_ : float
    n_steps_ : int
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        covariance: str = "full",
        init: str = "kmeans",
        n_steps: int = 100,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
    ) -> None:
        self.n_components = _checks.integer("n_components", n_components, 1)
        self.covariance = _checks.choice("covariance", covariance, COVARIANCES)
        self.init = _checks.choice("init", init, STARTS)
        self.n_steps = _checks.integer("n_steps", n_steps, 1)
        self.tol = _checks.real("tol", tol, 0)
        self.reg_covar = _checks.real("reg_covar", reg_covar, 0)

    def fit(self, X: ArrayLike, rng: np.random.Generator) -> Mixture:
        """Fit rows of shape (n, d)."""
        self._adopt(self.fit_many([np.asarray(X)], rng)[0])
        return self

    def fit_many(self, datasets: list[NDArray], rng: np.random.Generator) -> list[Mixture]:
        """Fit one mixture per data set; sets of equal length are fitted together."""
        fitted: list[Mixture | None] = [None] * len(datasets)
        lengths = np.array([len(X) for X in datasets])
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            X = np.stack([np.asarray(datasets[i], dtype=float) for i in members])
            if X.ndim != 3:
                raise ValueError(f"X must have shape (n, d), got {X.shape[1:]}")
            shared = {"reg_covar": self.reg_covar, "covariance": self.covariance}
            start = start_from(X, self.n_components, rng, init=self.init, **shared)
            params, bound, steps = em(X, start, n_steps=self.n_steps, tol=self.tol, **shared)
            for at, i in enumerate(members):
                one = clone(self)
                one.params_, one.log_likelihood_ = params[[at]], float(bound[at])
                one.n_steps_ = int(steps[at])
                fitted[i] = one
        return fitted  # type: ignore[return-value]

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """`n` rows, shape (n, d)."""
        return self.params_.sample(n, rng)[0]

    def _adopt(self, other: Mixture) -> None:
        self.params_, self.n_steps_ = other.params_, other.n_steps_
        self.log_likelihood_ = other.log_likelihood_


@dataclass(frozen=True)
class Paths:
    """Mixtures along the generations.

    Attributes
    ----------
    weights, means, covs : ndarray, shapes (G, R, K), (G, R, K, d), (G, R, K, d, d)
        Row g - 1 holds the fit of generation g.
    """

    weights: Array
    means: Array
    covs: Array

    def at(self, generation: int) -> Params:
        """The fits of one generation, 1 to G."""
        g = _checks.integer("generation", generation, 1, len(self.weights)) - 1
        return Params(self.weights[g], self.means[g], self.covs[g])

    def moments(self) -> tuple[Array, Array]:
        """Mean, shape (G, R, d), and covariance, shape (G, R, d, d), of each fit."""
        shape = self.weights.shape[:2]
        flat = (a.reshape(-1, *a.shape[2:]) for a in (self.weights, self.means, self.covs))
        mean, cov = Params(*flat).moments()
        return mean.reshape(*shape, *mean.shape[1:]), cov.reshape(*shape, *cov.shape[1:])


def simulate(
    truth: Params,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    n_components: int | None = None,
    init: str = "warm",
    n_steps: int = 10,
    tol: float = 0.0,
    reg_covar: float = 1e-6,
    covariance: str = "full",
) -> Paths:
    """Refit a mixture generation after generation under Replace, R chains at once.

    Parameters
    ----------
    truth : Params
        One mixture (R = 1) that writes the real data.
    n_samples : int, sequence, or callable ``generation -> int``
    n_generations, n_replicates : int
    rng : numpy.random.Generator
    n_components : int
        K of the fits; default that of the truth.
    init : {"warm", "kmeans", "random_from_data"}
        Start each fit from the parameters that wrote its data (the first fit from the truth if
        K is the truth's, else from k-means), or afresh from the data every time.
    n_steps, tol, reg_covar, covariance
        As in :func:`em`.

    Returns
    -------
    Paths

    Raises
    ------
    ValueError
        If an argument is out of range, or K exceeds a sample size.
    """
    _checks.generator(rng)
    if len(truth) != 1:
        raise ValueError(f"truth must be one mixture, got {len(truth)}")
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    _checks.choice("init", init, ("warm", *STARTS))
    same_k = n_components is None or n_components == truth.weights.shape[1]
    k = truth.weights.shape[1] if n_components is None else n_components
    k = _checks.integer("n_components", k, 1)
    sizes = _checks.schedule(n_samples, n_generations, low=k)
    settings = _settings(n_steps, tol, reg_covar, covariance)
    shared = {"reg_covar": reg_covar, "covariance": covariance}
    parent = truth.repeat(n_replicates)
    fits = []
    for g, size in enumerate(sizes, start=1):
        X = parent.sample(int(size), rng)
        if init == "warm" and (g > 1 or same_k):
            start = parent
        else:
            start = start_from(X, k, rng, init="kmeans" if init == "warm" else init, **shared)
        parent, _, _ = _em(X, start, *settings, likelihood=False)
        fits.append(parent)
    stacked = (np.stack([getattr(f, name) for f in fits]) for name in ("weights", "means", "covs"))
    return Paths(*stacked)
