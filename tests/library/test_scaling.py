"""Scaling laws: exact sums and closed forms against simulation from raw rows.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from intervals import assert_mean
from rounding import CALL, assert_within, bound
from scipy import special, stats

from collapse_utils import regression, scaling
from collapse_utils.models import words
from collapse_utils.models.zipf import Zipf

#: Sums of up to 2^21 numbers, which numpy adds in blocks of 128 and then in pairs.
SUM = bound(2 * (128 + 14 + 4 * CALL))
exponents = pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])


# ------------------------------------------------------------------ missing mass


def tail_error(b, exact=20_000, n_samples=0):
    """What the sums beyond the rank `exact` may be off, for p (1 - p)^n_samples.

    The midpoint rule leaves f'/24 at its start, Simpson's rule in the logarithm of the rank h^4/180
    times a fourth derivative, in which each step brings at most b for p and b for the power.
    """
    law, h = Zipf(b), np.log(scaling.LAST_RANK / exact) / 2000
    p = law.constant * exact**-b
    midpoint = b * p * (1 + n_samples * p) / (24 * exact)
    return midpoint + law.tail(exact) * (2 * b * h) ** 4 / 180


@exponents
def test_sums_over_all_ranks(exponent):
    law = Zipf(exponent)
    error = tail_error(exponent) + SUM
    assert_within(scaling.missing_mass(exponent, np.ones_like), 1, error)
    assert_within(scaling.missing_mass(exponent, np.ones_like, cut=7), law.tail(7), error)
    p = law.constant * np.arange(1, 2_000_001, dtype=float) ** -exponent
    for t in (1, 50, 3000):
        beyond = law.tail(len(p))  # t p < 1e-6 there: unseen but for a share of t p
        brute = (p * (1 - p) ** t).sum() + beyond
        error = t * p[-1] * beyond + tail_error(exponent, n_samples=t) + SUM + bound(t)
        assert_within(scaling.clean_error(exponent, t), brute, error)
    # Distinct ranks are the missing mass added up: E[new at draw t + 1] = E(t).
    distinct = sum(scaling.clean_error(exponent, t) for t in range(60))
    # The other sum stops at ranks with 60 p < 1/1000 and leaves out the third term of a series.
    last = int(np.ceil((1000 * law.constant * 60) ** (1 / exponent)))
    left_out = special.comb(60, 3) * law.constant**3 * special.zeta(3 * exponent, last + 1)
    error = left_out + 60 * (tail_error(exponent, n_samples=60) + SUM)
    assert_within(distinct, law.expected_distinct(60), error)


@exponents
def test_clean_error_tends_to_its_power_law(exponent):
    t = 10**8
    large = scaling.clean_error_limit(exponent, t)
    # (1 - p)^t is exp(-t p) less t p^2 / 2 of it, which makes less than 1/t of the sum.
    error = large / t + tail_error(exponent, n_samples=t) + SUM
    assert_within(scaling.clean_error(exponent, t), large, error)
    ratio = scaling.clean_error_limit(exponent, 10) / scaling.clean_error_limit(exponent, 1000)
    law = 100 ** (1 - 1 / exponent)
    assert_within(ratio, law, bound(4 * CALL, law))


def test_floor_of_a_cut_tail():
    law = Zipf(2.0)
    assert scaling.cut_floor(2.0, 100) == law.tail(100)
    # zeta(2, k + 1) by Euler and Maclaurin, up to 1 / (30 k^5)
    k = 1000
    series = law.constant * (1 / k - 1 / (2 * k**2) + 1 / (6 * k**3))
    assert_within(scaling.cut_floor(2.0, k), series, 1 / (30 * k**5) + bound(3 * CALL, series))
    far = scaling.mixed_error(2.0, n_real=0, n_model=1e9, cut=100)
    assert_within(far, law.tail(100), tail_error(2.0) + SUM * law.tail(100))


@exponents
@pytest.mark.parametrize(("n_real", "n_model"), [(0, 500), (300, 0), (100, 500), (2000, 50)])
def test_mixed_error_is_the_law_of_raw_draws(exponent, n_real, n_model):
    how = {"n_real": n_real, "n_model": n_model, "cut": 20}
    raw = scaling.simulate_mixed(exponent, **how, n_replicates=2000, rng=np.random.default_rng(1))
    assert_mean(raw, scaling.mixed_error(exponent, **how))


def test_mixed_error_without_a_model_is_the_clean_one():
    for cut in (1, 10, 3000):
        mixed = scaling.mixed_error(1.7, n_real=400, n_model=0, cut=cut)
        assert_within(mixed, scaling.clean_error(1.7, 400), SUM * mixed)  # the same positive terms
    # Ranks beyond the cut need real rows: never better than they are.
    assert scaling.mixed_error(1.7, n_real=400, n_model=1e6, cut=10) < mixed
    only_first = scaling.mixed_error(1.7, n_real=0, n_model=5, cut=1)
    assert_within(only_first, 1 - Zipf(1.7).constant, tail_error(1.7) + SUM)


@exponents
def test_recursive_error_is_the_law_of_copied_rows(exponent):
    raw = scaling.simulate_recursive(
        exponent, sizes=[300] * 8, n_replicates=2000, rng=np.random.default_rng(2)
    )
    law = scaling.recursive_error(exponent, n_samples=300, n_generations=8)
    assert_mean(raw[[1, 2, 5, 8]], law[[1, 2, 5, 8]])
    assert law[0] == raw[0].max() == 0
    error = tail_error(exponent, 200, 300) + tail_error(exponent, n_samples=300)
    assert_within(law[1], scaling.clean_error(exponent, 300), error + SUM + bound(2 * 300))


def test_recursive_error_tends_to_the_shifted_law():
    gap = []
    for t in (1000, 4000):
        exact = scaling.recursive_error(2.0, n_samples=t, n_generations=10)[1:]
        limit = scaling.recursive_error_limit(2.0, n_samples=t, n_generations=10)
        gap.append(exact / limit[1:] - 1)
    assert limit[0] == 0
    # The limit is left at the rate 1/t; the next order is smaller by some n/t.
    assert_within(4 * gap[1], gap[0], 10 / 1000 * np.abs(gap[0]))
    law = scaling.clean_error_limit(2.0, 4000 * words.surviving_share(10)[10])
    assert_within(limit[10], law, bound(2 * CALL, law))


def test_student_of_another_size():
    """A second generation of another size, by summing over the counts on the first page."""
    raw = scaling.simulate_recursive(
        2.0, sizes=[50, 120], n_replicates=4000, rng=np.random.default_rng(3)
    )
    counts = np.arange(51)
    lost = (1 - counts / 50) ** 120

    def unseen(p):
        return stats.binom.pmf(counts, 50, p[:, None]) @ lost

    assert_mean(raw[2], scaling.missing_mass(2.0, unseen, exact=500))


# ------------------------------------------------------------------ model size


@pytest.mark.parametrize("size", [2, 6, 18, 30])
def test_size_error_is_exact(size):
    signal = np.arange(1, 31.0) ** -1.5
    how = {"size": size, "n_samples": 12, "signal": signal, "noise": 0.2}
    raw = scaling.simulate_size(4, **how, n_replicates=8000, rng=np.random.default_rng(5))
    assert_mean(raw[1:], scaling.size_error(4, **how)[1:])


def test_size_error_of_a_model_that_holds_the_truth_is_replace():
    signal = np.ones(4)
    law = scaling.size_error(9, size=4, n_samples=20, signal=signal, noise=0.7)
    n = np.arange(10)
    replaced = n * regression.fit_error(dim=4, n_samples=20, noise=0.7)
    assert_within(law, replaced, bound(12) * replaced)


def test_large_models_forget_geometrically_without_noise():
    law = scaling.size_error(6, size=40, n_samples=10, signal=np.full(40, 0.025), noise=0.0)
    # A sum of 40 shares, then three roundings a generation, in units of one.
    assert_within(law[1:], 1 - 0.25 ** np.arange(1, 7), bound(2 * (40 + 3 * 6) + CALL))


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scaling.clean_error(1.0, 10), "exponent must be"),
        (lambda: scaling.cut_floor(2.0, 0), "cut must be"),
        (lambda: scaling.mixed_error(2.0, n_real=-1, n_model=5, cut=5), "n_real must be"),
        (lambda: scaling.mixed_error(2.0, n_real=1, n_model=5, cut=10**6), "cut must be"),
        (
            lambda: scaling.simulate_recursive(
                2.0, sizes=[5, 0], n_replicates=2, rng=np.random.default_rng(0)
            ),
            r"n_samples\[2\] must be",
        ),
        (
            lambda: scaling.size_error(2, size=10, n_samples=11, signal=np.ones(20)),
            "size must differ from n_samples=11 by at least 2, got 10",
        ),
        (
            lambda: scaling.size_error(2, size=21, n_samples=5, signal=np.ones(20)),
            "size must be",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
