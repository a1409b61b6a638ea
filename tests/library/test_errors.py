"""The loop with four switches against its exact recursions."""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import errors, precision
from collapse_utils.models.density import kl, project, two_gaussians

TWO = two_gaussians(3, 1)
ONE = project(TWO)
Z = 4.5  # two-sided false-alarm rate 7e-6 per comparison


def _close(values, law, z=Z):
    return abs(values.mean() - law) < z * values.std(ddof=1) / np.sqrt(values.size)


@pytest.mark.parametrize("truth", [ONE, TWO])
@pytest.mark.parametrize("bias", [1.0, 0.97])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_mean_variance_is_exact_for_any_switches(truth, bias, dtype):
    m = 60
    offset = 200.0
    paths = errors.simulate(
        truth, n_samples=m, n_generations=12, n_replicates=1500, rng=np.random.default_rng(0),
        bias=bias, dtype=dtype, offset=offset,
    )  # fmt: skip
    noise = float(precision.ulp(offset, dtype)) ** 2 / 12
    for n in (1, 5, 12):
        law = errors.mean_variance(n, m, bias=bias, noise=noise, var=truth.var())
        assert _close(paths.var[n], law)
    if dtype == "bfloat16" and bias == 1:
        assert not _close(paths.var[12], errors.mean_variance(12, m, var=truth.var()))


def test_unlimited_data_leave_nothing_to_chance():
    paths = errors.simulate(
        TWO, n_samples=None, n_generations=9, n_replicates=2, rng=np.random.default_rng(0),
        bias=0.95, dtype="bfloat16", offset=200.0,
    )  # fmt: skip
    law = errors.mean_variance(np.arange(1, 10), bias=0.95, noise=1 / 12, var=TWO.var())
    # Three roundings a generation; the geometric series divides by 1 - 0.95.
    limit = bound(3 * 9 + 2 * CALL + CALL / (1 - 0.95))
    np.testing.assert_allclose(paths.var[1:, 0], law, rtol=limit)
    np.testing.assert_array_equal(paths.var[:, 0], paths.var[:, 1])
    np.testing.assert_array_equal(paths.mean, 0)


def test_unlimited_rounding_is_what_many_rows_give():
    many = errors.simulate(
        TWO, n_samples=400_000, n_generations=2, n_replicates=2, rng=np.random.default_rng(1),
        dtype="bfloat16", offset=200.0,
    )  # fmt: skip
    law = errors.mean_variance(np.array([1, 2]), noise=1 / 12, var=TWO.var())
    np.testing.assert_allclose(many.var[1:].mean(axis=1), law, atol=0.03)


def test_same_random_numbers_whatever_is_switched_on():
    settings = {"n_samples": 50, "n_generations": 3, "n_replicates": 20}
    plain, biased = (
        errors.simulate(ONE, **settings, rng=np.random.default_rng(2), bias=b) for b in (1.0, 0.9)
    )
    # Three generations, in both a mean and a variance of 50 rows.
    limit = bound(2 * 3 * (2 * 50 + 6))
    np.testing.assert_allclose(biased.var[3], 0.9**2 * plain.var[3], rtol=limit)


@pytest.mark.parametrize("bias", [1.0, 0.98])
def test_expected_kl_is_exact(bias):
    m = 30
    paths = errors.simulate(
        ONE, n_samples=m, n_generations=10, n_replicates=8000, rng=np.random.default_rng(3),
        bias=bias,
    )  # fmt: skip
    excess = errors.excess_kl(paths)
    for n in (1, 4, 10):
        assert _close(excess[n], errors.expected_kl(n, m, bias))


def test_excess_kl_by_quadrature():
    paths = errors.simulate(
        ONE, n_samples=30, n_generations=4, n_replicates=1, rng=np.random.default_rng(4)
    )
    fit = two_gaussians(0, float(paths.sd[4, 0]))
    shifted = type(fit)(fit.means + paths.mean[4, 0], fit.sds)
    estimate = kl(ONE, shifted)
    # Logarithms and ratios of size one.
    assert_within(errors.excess_kl(paths)[4, 0], estimate.value, estimate.error + bound(8 * CALL))


def test_noise_leaves_an_inverse_gamma():
    m, noise = 400, 1 / 400
    rng, v = np.random.default_rng(5), np.ones(2000)
    for _ in range(6 * m):
        v = (v + noise) * rng.chisquare(m - 1, len(v)) / m
    assert stats.kstest(v, errors.resting_variance(m, noise).cdf).pvalue > 1e-5
    assert stats.kstest(v, stats.invgamma(1, scale=1).cdf).pvalue < 1e-5


def test_interactions_invert_sums_over_subsets():
    rng = np.random.default_rng(6)
    names = ("a", "b", "c")
    sets = [frozenset(n for k, n in enumerate(names) if bits >> k & 1) for bits in range(8)]
    truth = {s: rng.normal(size=3) for s in sets if s}
    cells = {s: np.sum([truth[u] for u in sets if u and u <= s], axis=0) for s in sets}
    parts = errors.interactions(cells)
    assert set(parts) == set(truth)
    # A part is a cell of up to 7 terms minus up to 6 parts, three levels deep: 7 (1 + 3 (1 + 3)).
    limit = bound(2 * 7 * 13) * np.abs(list(truth.values())).sum(axis=0).max()
    for s in truth:
        assert_within(parts[s], truth[s], limit)


@pytest.mark.parametrize(("bandwidth", "bias"), [(0.0, 1.0), (0.3, 1.0), (0.5, 0.9)])
def test_smoother_inherits_by_its_law(bandwidth, bias):
    m, v0 = 40, TWO.var()
    run = errors.simulate_smoother(
        TWO, bandwidth=bandwidth, bias=bias, n_samples=m, n_generations=15, n_replicates=1500,
        rng=np.random.default_rng(7),
    )  # fmt: skip
    r = 1 - 1 / m
    for n in (1, 6, 15):
        assert _close(run.inherited[n], r**n * bias ** (n - 1) * v0)
        law, written = r * v0, []
        for _ in range(n - 1):
            written.append(bias * (law + bandwidth**2))
            law = r * written[-1]
        assert _close(run.var[n], law)
        assert _close(run.mean[n] ** 2, (v0 + sum(written)) / m)
    if bandwidth == 0:
        # Each generation moves a row to its mean and back: three roundings of a row, which lies
        # within 6. The variance takes twice their size times the spread that is left.
        moved = bound(15 * 3) * 2 * 6 * np.sqrt(run.var[15])
        assert_within(run.inherited[15], run.var[15], moved + bound(2 * (m + 3)) * run.var[15])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: errors.simulate(ONE, **s | {"bias": 0.0}), "bias must be"),
        (lambda s: errors.simulate(ONE, **s | {"n_samples": 1}), "n_samples must be an integer"),
        (lambda s: errors.simulate(ONE, **s | {"dtype": "float8"}), "dtype must be one of"),
        (
            lambda s: errors.simulate(ONE, **s | {"dtype": "bfloat16", "offset": 200.5}),
            "offset must be a number of bfloat16",
        ),
        (
            lambda s: errors.simulate(
                ONE, **s | {"n_samples": None, "dtype": "bfloat16", "offset": 1024.0}
            ),
            "dtype must store the data of generation 1 with a spacing below",
        ),
        (lambda s: errors.expected_kl(3, 3), "m must be an integer >= 4, got 3"),
        (lambda s: errors.resting_variance(40, 0.0), "noise must be"),
        (lambda s: errors.interactions({frozenset("ab"): 1.0}), "cells must hold all subsets"),
        (lambda s: errors.simulate_smoother(ONE, bandwidth=-1.0, **s), "bandwidth must be"),
    ],
)
def test_bad_input_says_what_is_allowed(call, message):
    settings = {
        "n_samples": 9, "n_generations": 2, "n_replicates": 3, "rng": np.random.default_rng(0),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        call(settings)
