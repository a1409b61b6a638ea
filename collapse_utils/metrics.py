"""Distances between laws, and measures of generated images.

Functions on laws and samples are vectorised over leading axes. `ImageMetrics` is fitted once on
real images and then plugs into ``recurse(metrics=...)``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from . import _checks

if TYPE_CHECKING:
    from .loop import Snapshot

Floats = NDArray[np.float64]


def mean_se(runs: ArrayLike, axis: int = -1) -> tuple[Floats, Floats]:
    """Mean over replicates and its standard error, ``sd / sqrt(R)`` with ddof = 1.

    Replicates are the last axis, as in every array of this library.
    """
    runs = np.asarray(runs, dtype=float)
    return runs.mean(axis), runs.std(axis, ddof=1) / np.sqrt(runs.shape[axis])


def _gaussian_w2(
    mean_1: ArrayLike, cov_1: ArrayLike, mean_2: ArrayLike, cov_2: ArrayLike
) -> Floats:
    """Wasserstein-2 distance between Gaussians in d dimensions.

    ``W2^2 = |mean_1 - mean_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2)`` (Givens and
    Shortt 1984, prop. 7); the trace is the squared Bures distance.

    Means have shape (..., d), covariances (..., d, d); singular ones are fine.
    """
    cov_1, cov_2 = np.asarray(cov_1, float), np.asarray(cov_2, float)
    shift = np.square(np.subtract(mean_1, mean_2, dtype=float)).sum(-1)
    # tr (S1^1/2 S2 S1^1/2)^1/2 is the nuclear norm of S1^1/2 S2^1/2: no square root of a product
    # whose small eigenvalues are lost to rounding.
    overlap = np.linalg.svd(_root(cov_1) @ _root(cov_2), compute_uv=False).sum(-1)
    traces = np.trace(cov_1, axis1=-2, axis2=-1) + np.trace(cov_2, axis1=-2, axis2=-1)
    return np.sqrt(shift + np.maximum(traces - 2 * overlap, 0.0))


def _root(cov: Floats) -> Floats:
    """Symmetric square root of positive semi-definite matrices, shape (..., d, d)."""
    values, axes = np.linalg.eigh(cov)
    return (axes * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ np.swapaxes(axes, -1, -2)


def sample_w2(x: ArrayLike, quantile: Callable[[Floats], Floats], n_nodes: int = 32) -> Floats:
    """Wasserstein-2 distance between samples on the line and a law given by its quantiles.

    ``W2^2 = int_0^1 (F_n^-1(u) - Q(u))^2 du``, with ``F_n^-1`` constant on n cells; Gauss-Legendre
    quadrature on each cell, graded towards 0 and 1 in the outer cells, where Q may be unbounded.

    `x` holds samples along its last axis; `quantile` is a vectorised function Q on (0, 1), such as
    ``scipy.stats.norm.ppf``; `n_nodes` is the number of nodes per cell.
    """
    x = np.sort(np.asarray(x, float), axis=-1)
    if x.ndim == 0 or x.shape[-1] == 0 or not np.isfinite(x).all():
        raise ValueError(f"x must hold at least one finite sample, got shape {x.shape}")
    n = x.shape[-1]
    nodes, weights = np.polynomial.legendre.leggauss(_checks.integer("n_nodes", n_nodes, 1))
    t, dt = (nodes + 1) / 2, weights / 2
    if n == 1:  # one cell with both ends: split it, so that each half is graded
        return sample_w2(np.repeat(x, 2, axis=-1), quantile, n_nodes)
    u = (np.arange(n)[:, None] + t) / n
    du = np.broadcast_to(dt / n, (n, n_nodes)).copy()
    u[0], du[0] = t**4 / n, 4 * t**3 * dt / n
    u[-1], du[-1] = 1 - u[0], du[0]
    # In its cell a sample is as far from Q as Q's mean there, and Q from that: two squares.
    q, mass = quantile(u), du.sum(-1)
    centre = (q * du).sum(-1) / mass
    within = (np.square(q - centre[:, None]) * du).sum()
    return np.sqrt((np.square(x - centre) * mass).sum(-1) + within)


def _inception_score(probabilities: ArrayLike) -> float:
    """``exp(E KL(p(y|x) || p(y)))`` from class probabilities, between 1 and the number of classes.

    Salimans et al. (2016), section 4. It is 1 when every image gets the same verdict, and K when
    each image is assigned with certainty and all K classes are equally frequent.

    - `probabilities` (array, shape (n, K)): Rows sum to one.
    """
    p = np.asarray(probabilities, float)
    if p.ndim != 2 or p.size == 0 or not np.allclose(p.sum(1), 1, atol=1e-6):
        raise ValueError(f"probabilities must be rows that sum to one, got shape {p.shape}")
    return float(np.exp(rel_entr(p, p.mean(0)).sum(1).mean()))


# ---------------------------------------------------------------- neighbourhoods


def _prdc(real: Floats, fake: Floats, k: int, real_radii: Floats | None = None) -> dict[str, float]:
    """Precision and recall, density and coverage of generated points.

    Around every point lies a ball that reaches to its k-th nearest neighbour in its own set.
    *Precision*: share of the fakes inside some real ball; *recall*: share of the reals inside some
    fake ball (Kynkaanniemi et al. 2019, eqs. 1-3). *Density*: real balls per fake, over k;
    *coverage*: share of the real balls that hold a fake (Naeem et al. 2020, eqs. 3-4).
    """
    apart = cdist(real, fake, "sqeuclidean")
    in_real_ball = apart <= (_radii(real, k) if real_radii is None else real_radii)[:, None]
    in_fake_ball = apart <= _radii(fake, k)
    return {
        "precision": in_real_ball.any(0).mean(),
        "recall": in_fake_ball.any(1).mean(),
        "density": in_real_ball.sum(0).mean() / k,
        "coverage": in_real_ball.any(1).mean(),
    }


def _radii(points: Floats, k: int) -> Floats:
    """Squared distance to the k-th nearest other point, shape (n,)."""
    return np.partition(cdist(points, points, "sqeuclidean"), k, axis=1)[:, k]


# ---------------------------------------------------------------- images


class ImageMetrics:
    """Measures of generated images against real ones, fitted once on the real ones.

    Called with a :class:`~collapse_utils.loop.Snapshot` (or with images), it returns

    - ``inception``: the inception score (Salimans et al. 2016, section 4) under a classifier
      trained on the real labels;
    - ``confidence``: mean probability of the most probable class;
    - ``frechet``: squared W2 distance between Gaussians fitted to the first principal components
      (Heusel et al. 2017, eq. 6, with principal components in place of Inception features);
    - ``coverage``, ``density``, ``precision``, ``recall``: how the balls around the points of both
      sets cover each other, in the same features (Kynkaanniemi et al. 2019; Naeem et al. 2020);
    - ``pixel_variance``: total pixel variance over that of the real images.

    - `real` (array, shape (n, pixels)): Real images.
    - `labels` (array, shape (n,)): Their classes.
    - `rng`: Settles the classifier's start and which real images serve as reference.
    - `n_components`: Principal components kept (fewer when the images have fewer).
    - `n_neighbours`: Which neighbour a ball reaches to.
    - `n_reference`: Real images that have a ball (all of them when there are fewer).
    - `holdout`: Share of the real images kept from the classifier, to measure `accuracy`.

    - `accuracy`: Share of held-out real images that the classifier gets right.
    """

    def __init__(
        self,
        real: ArrayLike,
        labels: ArrayLike,
        rng: np.random.Generator,
        *,
        n_components: int = 32,
        n_neighbours: int = 5,
        n_reference: int = 1000,
        holdout: float = 0.2,
    ) -> None:
        from sklearn.decomposition import PCA
        from sklearn.model_selection import train_test_split

        real, labels = _as_images(real), np.asarray(labels)
        if labels.shape != (len(real),):
            raise ValueError(f"labels must have shape ({len(real)},), got {labels.shape}")
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2 or counts.min() < 2:
            raise ValueError(
                "labels must name two or more classes and each at least twice, got counts "
                f"{dict(zip(classes.tolist(), counts.tolist(), strict=True))}"
            )
        _checks.generator(rng)
        _checks.integer("n_components", n_components, 1)
        _checks.integer("n_reference", n_reference, 2)
        _checks.real("holdout", holdout, 0.01, 0.9)
        self.n_neighbours = _checks.integer("n_neighbours", n_neighbours, 1, len(real) - 2)
        seed = int(rng.integers(2**31))
        seen_x, held_x, seen_y, held_y = train_test_split(
            real, labels, test_size=holdout, random_state=seed, stratify=labels
        )
        self._classifier = _classifier(seed, seen_x, seen_y)
        self.accuracy = float(self._classifier.score(held_x, held_y))
        n_components = min(n_components, *real.shape)
        self._pca = PCA(n_components, svd_solver="covariance_eigh").fit(real)
        features = self._pca.transform(real)
        self._mean, self._cov = features.mean(0), _covariance(features)
        chosen = rng.permutation(len(real))[:n_reference]
        self._reference = features[chosen]
        self._radii = _radii(self._reference, self.n_neighbours)
        self._variance = float(real.var(0).sum())

    def __call__(self, snapshot: Snapshot | ArrayLike) -> dict[str, float]:
        """Measure the ``sample`` of a snapshot, or images of shape (n, pixels)."""
        images = _as_images(getattr(snapshot, "sample", snapshot))
        if images.shape[1] != self._pca.n_features_in_:
            raise ValueError(
                f"images must have {self._pca.n_features_in_} pixels, got {images.shape[1]}"
            )
        if len(images) <= self.n_neighbours:
            raise ValueError(
                f"images must be more than n_neighbours = {self.n_neighbours}, got {len(images)}"
            )
        probabilities = self._classifier.predict_proba(images)
        features = self._pca.transform(images)
        distance = _gaussian_w2(self._mean, self._cov, features.mean(0), _covariance(features))
        values = {
            "inception": _inception_score(probabilities),
            "confidence": probabilities.max(1).mean(),
            "frechet": distance**2,
            **_prdc(self._reference, features, self.n_neighbours, self._radii),
            "pixel_variance": images.var(0).sum() / self._variance,
        }
        return {name: float(value) for name, value in values.items()}

    def probabilities(self, images: ArrayLike) -> Floats:
        """Class probabilities of images, shape (n, classes)."""
        return self._classifier.predict_proba(_as_images(images))


def _as_images(images: ArrayLike) -> Floats:
    images = np.asarray(images, float)
    if images.ndim != 2 or len(images) < 2 or not np.isfinite(images).all():
        raise ValueError(
            f"images must be finite rows, shape (n >= 2, pixels), got shape {images.shape}"
        )
    return images


def _covariance(features: Floats) -> Floats:
    return np.cov(features.T, ddof=0).reshape(features.shape[1], -1)


def _classifier(seed: int, images: Floats, labels: NDArray):
    """A small network trained for a fixed number of passes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(
        (128,), alpha=1e-3, batch_size=64, learning_rate_init=3e-3, max_iter=30, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is the budget
        return network.fit(images, labels)
