"""Means with their errors, and measures of generated images."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr, stdtrit

from ._checks import checked, rng, whole

if TYPE_CHECKING:
    from .loop import Snapshot

Floats = NDArray[np.float64]
#: Principal components that stand for an image, and neighbours that its ball reaches.
_COMPONENTS, _NEIGHBOURS = 32, 5


def mean_se(runs: ArrayLike, axis: int = -1) -> tuple[Floats, Floats]:
    """Mean over replicates and its standard error, ``sd / sqrt(R)`` with ddof = 1.

    Replicates are the last axis, as in every array of this library.
    """
    runs = np.asarray(runs, dtype=float)
    return runs.mean(axis), runs.std(axis, ddof=1) / np.sqrt(runs.shape[axis])


def t_interval(runs: ArrayLike, chance: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean over replicates, standard error, and the ends of Student's interval.

    Its mean lies outside with probability `chance`. Replicates that are all alike, as counts may
    be, have no scatter to judge by: without an effect their signs would agree with a chance of
    ``2 / 2^R``, and the interval is the whole line where that is more than `chance`.
    """
    (mean, se), n = mean_se(runs), np.shape(runs)[-1]
    blind = (se == 0) & (mean != 0) & (2.0 ** (1 - n) > chance)
    reach = np.where(blind, np.inf, -stdtrit(n - 1, chance / 2) * se)
    return mean, se, mean - reach, mean + reach


class ImageMetrics:
    """Measures of generated images against real ones, fitted once on the real ones.

    Called with a :class:`~collapse_utils.loop.Snapshot` (or with images), it returns

    - ``inception``: ``exp(E KL(p(y|x) || p(y)))`` under a classifier trained on the real labels,
      from 1 to the number of classes (Salimans et al. 2016, section 4);
    - ``confidence``: mean probability of the most probable class;
    - ``frechet``: squared W2 distance between Gaussians fitted to the first principal components
      (Heusel et al. 2017, eq. 6, with principal components in place of Inception features);
    - ``precision``, ``recall``: share of the generated images within reach of a real one, and of
      the real ones within reach of a generated one, each as far as its fifth neighbour among
      its own kind (Kynkaanniemi et al. 2019, eqs. 1-3); ``density``, ``coverage``: real balls per
      generated image, over five, and share of the real balls that hold one (Naeem et al. 2020, eqs.
      3-4);
    - ``pixel_variance``: total pixel variance over that of the real images.

    - `real` (array, shape (n, pixels)), `labels` (array, shape (n,)): Real images, their classes.
    - `rng`: Settles the classifier's start and which real images serve as reference.
    - `n_reference`: Real images whose neighbours are counted.

    `accuracy` is the share of a fifth of the real images, held out, that the classifier gets right.
    """

    @checked(rng=rng, n_reference=whole(_NEIGHBOURS + 1))
    def __init__(
        self,
        real: ArrayLike,
        labels: ArrayLike,
        rng: np.random.Generator,
        *,
        n_reference: int = 1000,
    ) -> None:
        from sklearn.decomposition import PCA
        from sklearn.model_selection import train_test_split

        real, labels = _images(real), np.asarray(labels)
        if labels.shape != (len(real),):
            raise ValueError(f"labels must have shape ({len(real)},), got {labels.shape}")
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2 or counts.min() < 2:
            raise ValueError(
                "labels must name two or more classes and each at least twice, got counts "
                f"{dict(zip(classes.tolist(), counts.tolist(), strict=True))}"
            )
        seed = int(rng.integers(2**31))
        seen_x, held_x, seen_y, held_y = train_test_split(
            real, labels, test_size=0.2, random_state=seed, stratify=labels
        )
        self._classifier = _classifier(seed, seen_x, seen_y)
        self.accuracy = float(self._classifier.score(held_x, held_y))
        n_components = min(_COMPONENTS, *real.shape)
        self._pca = PCA(n_components, svd_solver="covariance_eigh").fit(real)
        features = self._pca.transform(real)
        self._mean, self._cov = features.mean(0), _covariance(features)
        chosen = rng.permutation(len(real))[:n_reference]
        self._reference = features[chosen]
        self._radii = _radii(self._reference)
        self._variance = float(real.var(0).sum())

    def __call__(self, snapshot: Snapshot | ArrayLike) -> dict[str, float]:
        """Measure the ``sample`` of a snapshot, or images of shape (n, pixels)."""
        images = _images(getattr(snapshot, "sample", snapshot), self._pca.n_features_in_)
        probabilities = self._classifier.predict_proba(images)
        features = self._pca.transform(images)
        values = {
            "inception": np.exp(rel_entr(probabilities, probabilities.mean(0)).sum(1).mean()),
            "confidence": probabilities.max(1).mean(),
            "frechet": _frechet(self._mean, self._cov, features.mean(0), _covariance(features)),
            **_prdc(self._reference, self._radii, features),
            "pixel_variance": images.var(0).sum() / self._variance,
        }
        return {name: float(value) for name, value in values.items()}

    def probabilities(self, images: ArrayLike) -> Floats:
        """Class probabilities of images, shape (n, classes)."""
        return self._classifier.predict_proba(_images(images, self._pca.n_features_in_))


def _images(images: ArrayLike, n_pixels: int | None = None) -> Floats:
    images = np.asarray(images, float)
    if images.ndim != 2 or len(images) <= _NEIGHBOURS or not np.isfinite(images).all():
        raise ValueError(
            f"images must be more than {_NEIGHBOURS} finite rows of pixels, got shape "
            f"{images.shape}"
        )
    if n_pixels not in (None, images.shape[1]):
        raise ValueError(f"images must have {n_pixels} pixels, got {images.shape[1]}")
    return images


def _frechet(mean_1: Floats, cov_1: Floats, mean_2: Floats, cov_2: Floats) -> float:
    """Squared Wasserstein-2 distance between Gaussians (Givens and Shortt 1984, prop. 7)."""
    # tr (S1^1/2 S2 S1^1/2)^1/2 is the nuclear norm of S1^1/2 S2^1/2: no square root of a product
    # whose small eigenvalues are lost to rounding.
    overlap = np.linalg.norm(_root(cov_1) @ _root(cov_2), "nuc")
    spread = np.trace(cov_1) + np.trace(cov_2) - 2 * overlap
    return ((mean_1 - mean_2) ** 2).sum() + max(spread, 0.0)


def _root(cov: Floats) -> Floats:
    """Symmetric square root of a positive semi-definite matrix."""
    values, axes = np.linalg.eigh(cov)
    return axes * np.sqrt(np.maximum(values, 0.0)) @ axes.T


def _prdc(real: Floats, real_radii: Floats, fake: Floats) -> dict[str, float]:
    from scipy.spatial.distance import cdist

    apart = cdist(real, fake, "sqeuclidean")
    in_real_ball = apart <= real_radii[:, None]
    in_fake_ball = apart <= _radii(fake)
    return {
        "precision": in_real_ball.any(0).mean(),
        "recall": in_fake_ball.any(1).mean(),
        "density": in_real_ball.sum(0).mean() / _NEIGHBOURS,
        "coverage": in_real_ball.any(1).mean(),
    }


def _radii(points: Floats) -> Floats:
    """Squared distance to the fifth nearest other point, shape (n,)."""
    from scipy.spatial.distance import cdist

    return np.partition(cdist(points, points, "sqeuclidean"), _NEIGHBOURS)[:, _NEIGHBOURS]


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
