"""Distances against quadrature, sampling and bounds; image metrics on real digits."""

import math

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy.stats import ttest_1samp

from collapse_utils import data, metrics


def test_interval_is_that_of_the_t_test_and_is_blind_to_a_few_equal_replicates():
    runs = np.random.default_rng(1).normal(2, 3, size=(4, 7))
    expected = ttest_1samp(runs, 0, axis=1).confidence_interval(0.97)
    mean, se, low, high = metrics.t_interval(runs, 0.03)
    np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=1e-12)
    np.testing.assert_allclose([mean, se], metrics.mean_se(runs), rtol=0)
    # Two signs of three replicates agree by chance once in four times, of seven once in 64.
    assert metrics.t_interval(np.full(3, 2.0), 0.03)[2:] == (-np.inf, np.inf)
    assert metrics.t_interval(np.full(7, 2.0), 0.03)[2:] == (2, 2)


def random_covariance(rng, d, rank=None):
    root = rng.normal(size=(d, rank or d))
    return root @ root.T / d


def w2_square_error(cov_1, cov_2):
    """Rounding of a squared W2 distance between Gaussians in d dimensions.

    Roots, products and singular values are those of covariances that are off by some d roundings
    of their size. The distance sees that through the optimal map from one law to the other, which
    stretches by at most the root of the largest over the smallest eigenvalue.
    """
    d = cov_1.shape[-1]
    values_1, values_2 = np.linalg.eigvalsh(cov_1), np.linalg.eigvalsh(cov_2)
    size_1 = values_1.sum(-1) * (1 + np.sqrt(values_2[..., -1] / values_1[..., 0]))
    size_2 = values_2.sum(-1) * (1 + np.sqrt(values_1[..., -1] / values_2[..., 0]))
    return bound(10 * d) * (size_1 + size_2)


def test_frechet_distance_is_invariant_under_rotation_and_exact_for_commuting_covariances():
    rng = np.random.default_rng(1)
    a, b = random_covariance(rng, 4), random_covariance(rng, 4)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    straight = metrics._frechet(np.zeros(4), a, np.ones(4), b)
    turned = metrics._frechet(np.zeros(4), turn @ a @ turn.T, turn @ np.ones(4), turn @ b @ turn.T)
    # Two routes, and two products with a matrix that is orthogonal to d roundings.
    assert_within(straight, turned, 4 * w2_square_error(a, b))
    four = metrics._frechet(np.zeros(4), a, np.zeros(4), 4 * a)
    assert_within(four, np.trace(a), w2_square_error(a, 4 * a))


def test_frechet_distance_of_identical_singular_covariances_is_zero():
    a = random_covariance(np.random.default_rng(2), 8, rank=3)
    square = metrics._frechet(np.zeros(8), a, np.zeros(8), a)
    assert_within(square, 0, bound(10 * 8) * 2 * np.trace(a))


def prdc(real, fake):
    return metrics._prdc(real, metrics._radii(real), fake)


def test_prdc_of_identical_and_of_distant_sets():
    x = np.random.default_rng(0).normal(size=(200, 4))
    same = prdc(x, x)
    assert same["coverage"] == 1 and same["precision"] == 1 and same["recall"] == 1
    assert set(prdc(x, x + 100).values()) == {0.0}


def test_prdc_by_brute_force():
    rng = np.random.default_rng(1)
    real, fake, k = rng.normal(size=(30, 2)), rng.normal(0.5, 1, size=(20, 2)), 5

    def radius(points, i):
        return sorted(math.dist(points[i], p) for p in points)[k]

    def inside(centres, points):
        return [[math.dist(c, p) <= radius(centres, i) for p in points]
                for i, c in enumerate(centres)]  # fmt: skip

    real_balls, fake_balls = np.array(inside(real, fake)), np.array(inside(fake, real))
    expected = {
        "precision": real_balls.any(0).mean(),
        "recall": fake_balls.any(0).mean(),
        "density": real_balls.sum() / (k * len(fake)),
        "coverage": real_balls.any(1).mean(),
    }
    found = prdc(real, fake)
    assert_within(found.pop("density"), expected.pop("density"), bound(4, 2))
    assert found == expected


@pytest.fixture(scope="module")
def digits():
    return data.images("digits")


@pytest.fixture(scope="module")
def image_metrics(digits):
    return metrics.ImageMetrics(*digits, np.random.default_rng(0))


def test_image_metrics_on_the_real_images_themselves(digits, image_metrics):
    real, _ = digits
    values = image_metrics(real)
    assert image_metrics.accuracy > 0.93
    assert values["coverage"] == 1
    assert_within(values["frechet"], 0, bound(10 * 32) * 2 * real.var(0).sum())  # as above, d = 32
    assert_within(values["pixel_variance"], 1, bound(2 * len(real)))
    assert 8 < values["inception"] <= 10


def test_image_metrics_on_one_repeated_image(digits, image_metrics):
    real = digits[0].astype(float)
    values = image_metrics(np.tile(real.mean(0), (50, 1)))
    # Rows of one product may differ by its roundings; means over 50 rows, and 64 pixels.
    assert_within(values["inception"], 1, bound(2 * (50 + 64 + 128) + 3 * CALL))
    size = (real.mean(0) ** 2).sum()
    assert_within(values["pixel_variance"], 0, bound(50) ** 2 * size / real.var(0).sum())
    features = real - real.mean(0)
    leading = np.linalg.eigvalsh(features.T @ features / len(real))[-32:].sum()
    spread = bound(50 + 64) * math.sqrt(size)  # of the image's features, by rounding
    assert_within(
        values["frechet"],
        leading,
        bound(2 * (len(real) + 10 * 64), leading) + 2 * spread * math.sqrt(leading),
    )


def test_image_metrics_take_snapshots_and_are_deterministic(digits, image_metrics):
    class Snapshot:
        sample = digits[0][:300]

    again = metrics.ImageMetrics(*digits, np.random.default_rng(0))
    assert image_metrics(Snapshot()) == again(Snapshot.sample)


def test_image_metrics_refuse_bad_input(digits, image_metrics):
    real, labels = digits
    with pytest.raises(ValueError, match=r"labels must have shape \(1797,\), got \(5,\)"):
        metrics.ImageMetrics(real, labels[:5], np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"labels must name two or more classes.*\{0: 1797\}"):
        metrics.ImageMetrics(real, 0 * labels, np.random.default_rng(0))
    with pytest.raises(ValueError, match="images must have 64 pixels, got 63"):
        image_metrics(real[:, :-1])
    with pytest.raises(ValueError, match="must be more than 5 finite rows"):
        image_metrics(np.full((10, 64), np.nan))
    with pytest.raises(ValueError, match="must be more than 5 finite rows of pixels, got shape"):
        image_metrics(real[:5])


@pytest.mark.parametrize("points", [np.eye(3)[np.arange(60) % 3], np.full((30, 2), 14.62)])
def test_ties_are_inside_their_balls(points):
    """Duplicates: the balls have no radius, and each set lies inside the other's."""
    found = prdc(points, points)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    copies = len(points) / len(np.unique(points, axis=0))
    assert_within(found["density"], copies / 5, bound(2 * len(points), copies))
