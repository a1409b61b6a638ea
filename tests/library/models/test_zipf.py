"""Zipf's law against sums over its ranks, and the two growth laws of a page.

Statistical checks raise a false alarm with probability ALARM each, at a fixed seed.
"""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import special, stats

from collapse_utils.models.zipf import Zipf, zipf

ALARM = 1e-4


def test_finite_ranks():
    law = np.array([6, 3, 2]) / 11
    assert_within(zipf(3), law, bound(2 * CALL + 4) * law)
    np.testing.assert_array_equal(zipf(4, 0.0), 0.25)


@pytest.mark.parametrize("b", [1.5, 2.0, 3.0])
def test_tail_is_one_less_the_head(b):
    law = Zipf(b)
    head = law.constant * np.arange(1, 51.0) ** -b
    assert_within(law.tail(0), 1, bound(2 * CALL + 2))
    assert_within(law.tail(50), 1 - head.sum(), bound(2 * CALL + 50 + 2))  # in units of the head


@pytest.mark.parametrize(("b", "m"), [(1.5, 10), (2.0, 100), (2.0, 1), (3.0, 2000)])
def test_expected_distinct_is_the_sum_over_ranks(b, m):
    law = Zipf(b)
    n, c = 2_000_000, law.constant
    p = c * np.arange(1, n + 1.0) ** -b
    direct = -np.expm1(m * np.log1p(-p)).sum() + m * law.tail(n)
    # Series in m p that alternate: what is left out is less than the next term.
    last = int(np.ceil((1000 * c * m) ** (1 / b)))
    left_out = special.comb(m, 2) * c**2 * special.zeta(2 * b, n + 1)
    left_out += special.comb(m, 3) * c**3 * special.zeta(3 * b, last + 1)
    # numpy adds up to 2^21 numbers in blocks of 128 and then in pairs.
    rounding = bound(2 * (128 + 14 + 4 * CALL), direct)
    assert_within(law.expected_distinct(m), direct, left_out + rounding)


def test_growth_laws_are_limits():
    for b in (1.5, 2.0, 2.5):
        law = Zipf(b)
        gap = [
            1 - law.expected_distinct(m) / law.expected_distinct_limit(m) for m in (10**3, 10**5)
        ]
        assert 0 < gap[1] < gap[0] < 0.03
        # The tail at the median of the largest rank leaves one half.
        m = 10**6
        r = law.median_largest(m)
        # tail(r) is c r^(1-b) / (b-1) less (b-1) / (2 r) of it; (1 - t)^m is exp(-m t) less
        # m t^2 / 2 of it; the last tenth is for the orders after these.
        next_order = np.log(2) * (b - 1) / (2 * r) + np.log(2) ** 2 / (2 * m)
        assert_within((1 - law.tail(r)) ** m, 0.5, 0.5 * (1.1 * next_order + bound(m + CALL)))


def test_drawn_pages_follow_the_laws():
    law, m, r = Zipf(2.0), 200, 4000
    rng = np.random.default_rng(7)
    pages = law(m * r, rng).reshape(r, m)
    distinct = np.array([len(np.unique(page)) for page in pages])
    largest = np.log(pages.max(axis=1))
    z = stats.norm.isf(ALARM / 2)
    for values, expected, rival in (
        (distinct, law.expected_distinct(m), law.expected_distinct_limit(m)),
        (largest, law.mean_log_largest(m), np.log(law.effective_head(m))),
    ):
        se = values.std(ddof=1) / np.sqrt(r)
        assert abs(values.mean() - expected) < z * se
        assert abs(values.mean() - rival) > z * se
    below = (pages.max(axis=1) <= law.median_largest(m)).mean()
    assert abs(below - 0.5) < z * 0.5 / np.sqrt(r)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Zipf(1.0), r"exponent must be a finite number in \(1, inf\], got 1.0"),
        (lambda: Zipf(float("nan")), "exponent must be a finite number .*, got nan"),
        (lambda: zipf(0), "n_symbols must be an integer >= 1, got 0"),
        (lambda: zipf(5, -1.0), "exponent must be a finite number .*, got -1.0"),
        (lambda: Zipf(2.0).expected_distinct(0), "n_samples must be an integer >= 1, got 0"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
