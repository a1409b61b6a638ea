"""Schedules, budgets, time to collapse and survival: closed forms against simulation.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import math
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import CALL, assert_within, bound
from scipy import special, stats

from collapse_utils import categorical, gaussian, schedules


def simulate(sizes, seed, n_replicates=20_000, **how):
    return gaussian.simulate(
        n_samples=sizes,
        n_generations=len(sizes),
        n_replicates=n_replicates,
        rng=np.random.default_rng(seed),
        **how,
    )


# ------------------------------------------------------------------ schedules and the clock


def test_power_schedules():
    np.testing.assert_array_equal(schedules.power(20, 0, 3), [20, 20, 20])
    np.testing.assert_array_equal(schedules.power(20, 1, 3), [20, 40, 60])
    np.testing.assert_array_equal(schedules.power(10, 1.5, 3), [10, 28, 52])
    assert schedules.power(10**12, 1, 1000)[-1] == 10**15


def test_clock_tends_to_zeta_above_one_only():
    for exponent in (1.5, 2.0, 3.0):
        limit = schedules.clock_limit(1000, exponent)
        sizes, k = schedules.power(1000, exponent, 4000), np.arange(1, 4001)
        rest = special.zeta(exponent, 4001) / 1000
        whole = np.abs(1 / sizes - k**-exponent / 1000).sum()  # because sizes are whole numbers
        error = whole + bound(4000 + CALL, limit)
        assert_within(schedules.clock(sizes)[-1] + rest, limit, error)
    assert_within(schedules.clock_limit(5, 2), np.pi**2 / 30, bound(2 * CALL, np.pi**2 / 30))
    assert schedules.clock_limit(5, 1) == np.inf


@pytest.mark.parametrize("exponent", [1, 1.5, 2])
def test_growing_samples_follow_the_clock(exponent):
    sizes = schedules.power(20, exponent, 60)
    n = [1, 10, 60]
    paths = simulate(sizes, seed=1)
    assert_mean(paths.mean[n] ** 2, schedules.clock(sizes)[n])
    assert_mean(np.log(paths.var[n]), schedules.expected_log_var(sizes)[n])
    assert_mean(paths.w2()[n], schedules.expected_w2(sizes)[n])


def test_constant_schedules_agree_with_the_constant_laws():
    sizes = [40] * 10
    n = np.arange(11)
    assert_within(schedules.clock(sizes), n / 40, bound(2 * n) * n / 40)
    # Products of n constants c4, each with two gamma functions, and numbers up to four.
    error = bound((2 * CALL + 4) * n + CALL, 4)
    assert_within(schedules.expected_w2(sizes), gaussian.expected_w2(n, 40), error)
    for ddof in (0, 1):
        law = n * gaussian.log_var_drift(40, ddof)
        assert_within(schedules.expected_log_var(sizes, ddof), law, bound(2 * n) * np.abs(law))


# ------------------------------------------------------------------ budgets


def test_split_spends_the_whole_budget_in_proportion():
    sizes = schedules.split(1000, [1, 2, 3, 4])
    np.testing.assert_array_equal(sizes, [100, 200, 300, 400])
    for total in (97, 1003):
        sizes = schedules.split(total, np.arange(1, 8) ** -0.5)
        assert sizes.sum() == total
        assert (np.diff(sizes) <= 1).all()


def test_no_split_beats_the_equal_one_at_the_end():
    total = 12
    splits = [s for s in combinations_with_replacement(range(2, 9), 3) if sum(s) == total]
    equal = tuple(schedules.split(total, np.ones(3)))
    assert (4, 4, 4) == equal in splits
    for loss in (
        lambda sizes: schedules.clock(sizes)[-1],
        lambda sizes: schedules.expected_w2(sizes)[-1],
        lambda sizes: -schedules.expected_log_var(sizes)[-1],
    ):
        assert min(splits, key=loss) == equal


def test_square_root_weights_minimise_the_average():
    total, n_generations = 10**6, 20
    left = np.arange(n_generations, 0, -1)
    sizes = schedules.split(total, np.sqrt(left))
    average = schedules.clock(sizes)[1:].mean()
    least = np.sqrt(left).sum() ** 2 / (total * n_generations)
    # At a minimum, sizes that are off by less than one change the average by its square only.
    assert_within(average, least, (1 / sizes.min() ** 2 + bound(3 * n_generations)) * least)
    for weights in (np.ones(n_generations), left, left**0.4, left**0.6):
        assert schedules.clock(schedules.split(total, weights))[1:].mean() > average


# ------------------------------------------------------------------ time to collapse


def test_overshoot_constant_is_minus_zeta_half():
    k = np.arange(1, 10**6 + 1)
    # The next term of Euler and Maclaurin is zero, the one after it k^(-3/2) / 24.
    zeta_half = math.fsum(k**-0.5) - 2 * np.sqrt(k[-1]) - 0.5 * k[-1] ** -0.5
    error = k[-1] ** -1.5 / 24 + bound(2 * CALL, 2 * np.sqrt(k[-1]))
    assert_within(schedules.OVERSHOOT * np.sqrt(2 * np.pi), -zeta_half, error)


@pytest.mark.parametrize(
    ("m", "level", "ddof"), [(20, 0.1, 1), (50, 0.1, 1), (50, 0.3, 0), (200, 0.5, 1)]
)
def test_first_passage_is_inverse_gaussian(m, level, ddof):
    rng = np.random.default_rng(4)
    time, overshoot = schedules.first_passage(m, level, n_replicates=8000, rng=rng, ddof=ddof)
    assert time.min() >= 1
    assert (overshoot > 0).all()
    law = schedules.collapse_time(m, level, ddof)
    drift = -gaussian.log_var_drift(m, ddof)
    assert_mean(time, law.mean())
    # Wald's identity, an exact theorem, and the mean overshoot, which is far less noisy than time.
    assert_mean(drift * time - overshoot, np.log(1 / level))
    assert_mean(overshoot, law.mean() * drift - np.log(1 / level))
    # A time in (t - 1, t] is what the continuous law knows of t.
    assert stats.kstest(time - rng.random(8000), law.cdf).pvalue > ALARM


def test_the_overshoot_is_needed():
    m, level = 50, 0.1
    time, _ = schedules.first_passage(m, level, n_replicates=8000, rng=np.random.default_rng(5))
    drift, spread = -gaussian.log_var_drift(m), gaussian.log_var_spread(m)
    mean, shape = np.log(1 / level) / drift, np.log(1 / level) ** 2 / spread
    assert stats.kstest(time, stats.invgauss(mean / shape, scale=shape).cdf).pvalue < ALARM


def test_first_passage_has_the_law_of_the_paths():
    var = simulate([20] * 400, seed=6, n_replicates=3000).var
    from_paths = np.where((var < 0.5).any(axis=0), (var < 0.5).argmax(axis=0), 401)
    time, _ = schedules.first_passage(20, 0.5, n_replicates=3000, rng=np.random.default_rng(7))
    assert stats.ks_2samp(np.minimum(time, 401), from_paths).pvalue > ALARM


# ------------------------------------------------------------------ rare items


def test_survival_with_constant_sizes_is_the_published_recursion():
    g = categorical.surviving_share(50)
    for n in (1, 2, 10, 50):
        law = -np.expm1(-5.0 * g[n])
        # An exponential and two roundings a generation; 1 - exp(-s) hands on less than the error.
        assert_within(schedules.survival(5.0, [1000] * n), law, bound(2 * (CALL + 2) * n, law))


@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_survival_of_a_rare_item_in_growing_samples(exponent):
    rng = np.random.default_rng(8)
    sizes = schedules.power(10**9, exponent, 30)
    for count in (0.5, 3.0):
        copies = rng.binomial(sizes[0], count / sizes[0], 20_000)
        for before, size in pairwise(sizes):
            copies = rng.binomial(size, copies / before)
        assert_mean((copies > 0).astype(float), schedules.survival(count, sizes))


@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_survival_follows_the_clock_to_first_order(exponent):
    sizes = schedules.power(10**6, exponent, 400)
    share = [-np.log1p(-schedules.survival(1.0, sizes[n:])) for n in range(400)]  # s_1, ..., s_G
    rough = 10**6 * (schedules.clock(sizes)[-1] + 1 / sizes[-1]) / 2
    # 1/(1 - exp(-x)) - 1/x - 1/2 lies between 0 and x/12, with x = s_{n+1} M_{n+1}/M_n.
    rest = sum(sizes[0] / sizes[:-1] * (sizes[1:] / sizes[:-1] * share[1:]) / 12)
    assert 0 < 1 / share[0] - rough < rest


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.power(0, 1, 5), "first must be an integer >= 1, got 0"),
        (lambda: schedules.power(5, -1, 5), "exponent must be a finite number .*, got -1"),
        (lambda: schedules.power(10**12, 8, 10**4), r"must be below 2\*\*62, got 1000000000000"),
        (lambda: schedules.clock([]), "sizes must be a list of integers, one per generation, got"),
        (lambda: schedules.clock([5, 0]), r"sizes\[1\] must be an integer >= 1, got 0"),
        (lambda: schedules.clock(7), "sizes must be a list .*, got 7"),
        (lambda: schedules.clock([5.0]), r"sizes must be a list of integers, .*, got \[5.0\]"),
        (lambda: schedules.expected_w2([5, 1]), r"sizes\[1\] must be an integer >= 2, got 1"),
        (lambda: schedules.split(10, [1, 0]), "weights must be a list of positive finite"),
        (lambda: schedules.split(10, [1] * 6), "total=10, which leaves 1 for generation"),
        (lambda: schedules.collapse_time(4, 0.5), "m must be an integer >= 5, got 4"),
        (lambda: schedules.collapse_time(10, 1.0), r"level must be .* in \(0, 1\), got 1.0"),
        (
            lambda: schedules.first_passage(10, 0.0, n_replicates=1, rng=np.random.default_rng(0)),
            r"level must be .* in \(0, 1\), got 0.0",
        ),
        (lambda: schedules.survival(-1.0, [10]), "count must be finite and >= 0, got -1"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
