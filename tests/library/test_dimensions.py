"""Laws of refitted Gaussians in d dimensions, against closed forms, raw rows and simulation.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import dimensions, recurse
from collapse_utils.models import gaussian

ALARM = 1e-4


def assert_mean(samples, law):
    """The mean over the first axis lies within the interval of its own standard error."""
    samples = np.atleast_2d(np.asarray(samples).T).T
    se = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    z = stats.norm.isf(ALARM / (2 * samples.shape[1]))
    assert (np.abs(samples.mean(axis=0) - law) < z * se).all(), (samples.mean(axis=0), law, se)


@pytest.fixture(scope="module")
def long_run():
    """Ten runs of 300 lineages: log-eigenvalues, log squared diagonal, factor, mean at n = 20 M."""
    rng = np.random.default_rng(5)
    logs, diagonals, factors, means = [], [], [], []
    for _ in range(10):
        paths = gaussian.simulate_nd(
            dim=3, n_samples=25, n_generations=500, n_replicates=300, rng=rng
        )
        logs.append(np.log(gaussian.PathsND(paths.mean[-1:], paths.factor[-1:]).eigenvalues()[0]))
        diagonals.append(2 * np.log(np.diagonal(paths.factor[-1], axis1=-2, axis2=-1)))
        factors.append(paths.factor[-1])
        means.append(paths.mean[-1])
    return tuple(np.concatenate(part) for part in (logs, diagonals, factors, means))


@pytest.mark.parametrize("ddof", [0, 1])
def test_one_dimension_is_the_scalar_chapter(ddof):
    for m in (2, 10, 1000):
        # A digamma minus a logarithm, each at most 2 + ln m in size.
        limit = bound(2 * CALL) * 2 * (2 + np.log(m))
        assert_within(dimensions.exponents(m, 1, ddof), gaussian.log_var_drift(m, ddof), limit)
        spread = gaussian.log_var_spread(m)
        np.testing.assert_allclose(dimensions.log_det_spread(m, 1), spread, rtol=bound(2 * CALL))
    np.testing.assert_array_equal(dimensions.offsets(1), [0.0])


def test_exponents_fall_and_approach_minus_j_over_m():
    values = dimensions.exponents(50, 20)
    assert (np.diff(values) < 0).all()
    for m in (10**4, 10**6):
        scaled = -m * dimensions.exponents(m, 5) / np.arange(1, 6)
        np.testing.assert_allclose(scaled, 1, atol=10 / m)
        first_order = -5 * 6 / (2 * m)
        assert dimensions.log_det_drift(m, 5) / first_order == pytest.approx(1, abs=10 / m)


def test_ddof_shifts_every_exponent_alike():
    gap = dimensions.exponents(30, 7, 1) - dimensions.exponents(30, 7, 0)
    assert_within(gap, -np.log1p(-1 / 30), bound(2 * CALL) * 2 * np.log(15))


def test_offsets_are_antisymmetric_and_widen_the_spectrum():
    for dim in (2, 3, 10):
        values = dimensions.offsets(dim)
        np.testing.assert_array_equal(values, -values[::-1])
        assert (np.diff(values) < 0).all()


def test_log_det_of_raw_rows_drifts_and_spreads_by_the_law():
    m, dim, g = 9, 3, 6
    history = recurse(
        gaussian.Gaussian(),
        lambda n, rng: rng.standard_normal((n, dim)),
        n_samples=m,
        n_generations=g,
        n_replicates=400,
        n_eval=1,
        metrics={"log det": lambda s: np.linalg.slogdet(s.model.cov_)[1] if s.model else 0.0},
        rng=np.random.default_rng(1),
    )
    log_det = history.array("log det")[-1]
    law = g * dimensions.log_det_drift(m, dim)
    assert_mean(log_det, law)
    assert_mean((log_det - law) ** 2, g * dimensions.log_det_spread(m, dim))


def test_late_log_eigenvalues_follow_exponents_and_offsets(long_run):
    logs, diagonals, _, _ = long_run
    assert_mean(diagonals, 500 * dimensions.exponents(25, 3))
    # The exact law of the diagonal is subtracted: what is left has a small spread.
    assert_mean(logs - diagonals, dimensions.offsets(3))
    with pytest.raises(AssertionError):
        assert_mean(logs, 500 * dimensions.exponents(25, 3))


def test_the_needle_is_uniform_on_the_sphere(long_run):
    _, _, factors, _ = long_run
    needle = np.linalg.svd(factors)[0][:, :, 0]
    law = stats.beta(0.5, (3 - 1) / 2)
    for axis in range(3):
        assert stats.kstest(needle[:, axis] ** 2, law.cdf).pvalue > ALARM / 3


def test_the_resting_place_is_a_multivariate_t(long_run):
    _, _, _, mean = long_run
    for dim in (1, 2, 3):
        radius = np.linalg.norm(mean[:, :dim], axis=1)
        p = stats.kstest(radius, lambda r, dim=dim: dimensions.radius_cdf(r, dim)).pvalue
        assert p > ALARM / 3
    # Power: three independent t variables are another law.
    independent = np.linalg.norm(stats.t(2).rvs((3000, 3), random_state=0), axis=1)
    assert stats.kstest(independent, lambda r: dimensions.radius_cdf(r, 3)).pvalue < ALARM


def test_the_resting_place_with_maximum_likelihood():
    mean = gaussian.simulate_nd(
        dim=2, n_samples=40, n_generations=400, n_replicates=1500, ddof=0,
        rng=np.random.default_rng(2),
    ).mean[-1]  # fmt: skip
    radius = np.linalg.norm(mean, axis=1)
    assert stats.kstest(radius, lambda r: dimensions.radius_cdf(r, 2, 0)).pvalue > ALARM
    assert stats.kstest(radius, lambda r: dimensions.radius_cdf(r, 2, 1)).pvalue < ALARM


def test_radius_law_in_closed_form():
    r = np.array([0.0, 0.5, 1.0, 3.0, 100.0])
    for dim in (1, 2, 5):
        law = (r**2 / (r**2 + 2)) ** (dim / 2)
        # The power multiplies the roundings of its base by dim / 2, in both routes.
        np.testing.assert_allclose(
            dimensions.radius_cdf(r, dim), law, rtol=bound(2 * CALL + 4 * dim)
        )
    both = 2 * stats.t(4).cdf(r * np.sqrt(2)) - 1
    assert_within(dimensions.radius_cdf(r, 1, 0), both, bound(4 * CALL))  # absolute: minus one


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dimensions.exponents(5, 5), "m must be an integer >= 6, got 5"),
        (lambda: dimensions.exponents(1, 1), "m must be an integer >= 2, got 1"),
        (lambda: dimensions.exponents(5, 0), "dim must be an integer >= 1, got 0"),
        (lambda: dimensions.exponents(5, 2, 2), "ddof must be an integer between 0 and 1, got 2"),
        (lambda: dimensions.log_det_spread(3, 3), "m must be an integer >= 4, got 3"),
        (lambda: dimensions.offsets(1.5), "dim must be an integer >= 1, got 1.5"),
        (lambda: dimensions.radius_cdf(1.0, 0), "dim must be an integer >= 1, got 0"),
        (lambda: dimensions.radius_cdf(1.0, 1, 3), "ddof must be an integer between 0 and 1"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
