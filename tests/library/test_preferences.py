"""Choice among K rows: the exact factor against brute force, recursions against raw data.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points. Seeds are fixed, so a check that passes once passes always.
"""

import itertools
import math
from functools import partial

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import FreshData, lineages, preferences, recurse
from collapse_utils.models import words
from collapse_utils.workflows import Preferred, winners

P = np.array([0.4, 0.3, 0.2, 0.1])
R = np.array([0.0, 1.0, 0.5, 2.0])

first_axis = partial(assert_mean, axis=0)


def brute_force(p, reward, k):
    """Probability of each symbol among winners, by going through all K-tuples."""
    w, won = np.exp(reward), [[] for _ in p]
    for tup in itertools.product(range(len(p)), repeat=k):
        total = w[list(tup)].sum()
        for i in tup:
            won[i].append(np.prod(p[list(tup)]) * w[i] / total)
    return np.array([math.fsum(terms) for terms in won])


def factor_error(k, n_symbols=4, span=2.0):
    """Relative rounding of the factor for `k` candidates whose rewards span so much.

    One sum over the nodes of the quadrature, the (k - 1)-th power of a sum over the symbols, and
    exponentials of numbers up to the largest log-time. Where the power matters, its base is near
    one, so that errors of the exponents in it are as small as 1/k.
    """
    last = 44 + span
    return bound(last / 0.2 + k * (n_symbols + CALL) + 2 * last)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_factor_is_that_of_all_tuples(k):
    won = P * preferences.winner_factor(P, R, k)
    law = brute_force(P, R, k)
    assert_within(won, law, (factor_error(k) + bound(2 * k + 2 * CALL)) * law)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
def test_factor_has_mean_one_for_any_rewards(scale):
    for k in (2, 7, 100):
        h = preferences.winner_factor(P, R, k, sharpness=scale)
        error = factor_error(k, span=scale * R.max())
        assert_within(P @ h, 1, error)
        assert h.max() <= k * (1 + error)


def test_limits_of_the_factor():
    k, w = 10**7, np.exp(R)
    mean = P @ w
    law = w / mean
    # E[k w / (w + the others' sum)] to the next order in 1/k, with a tenth for the orders after it.
    next_order = (1 + law.max() + P @ (law - 1) ** 2) / k
    many = preferences.winner_factor(P, R, k)
    assert_within(many, law, (1.1 * next_order + factor_error(k)) * law)
    endless = preferences.winner_factor(P, R, math.inf)
    assert_within(endless, law, bound(4 * CALL + 2 * len(P), law))
    best = preferences.winner_factor(P, R, 3, sharpness=math.inf)
    steep = preferences.winner_factor(P, R, 3, sharpness=1e3)
    assert_within(steep, best, factor_error(3, span=1e3 * R.max()) * 3)
    flat = preferences.winner_factor(P, R, 3, sharpness=0)
    assert_within(flat, 1, factor_error(3, span=0))


def test_best_of_k_with_ties_and_absent_symbols():
    p, r = np.array([0.5, 0.25, 0.25, 0.0]), np.array([0.0, 1.0, 1.0, 2.0])
    h = preferences.winner_factor(p, r, 2, sharpness=math.inf)
    np.testing.assert_array_equal(h, [0.5, 1.5, 1.5, 2.0])
    batch = preferences.winner_factor(np.array([p, P]), r, 2, sharpness=math.inf)
    np.testing.assert_array_equal(batch[0], h)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, math.inf])
def test_choose_follows_the_factor(sharpness):
    rng = np.random.default_rng(1)
    n, k = 200_000, 3
    rows = rng.choice(len(P), size=(n, k), p=P)
    won = rows[np.arange(n), winners(R[rows], rng, sharpness=sharpness)]
    law = P * preferences.winner_factor(P, R, k, sharpness=sharpness)
    assert stats.chisquare(np.bincount(won, minlength=4), n * law / law.sum()).pvalue > ALARM


def test_rounds_of_best_of_k_are_one_round_of_a_power():
    p = P
    for _ in range(3):
        p = p * preferences.winner_factor(p, R, 3, sharpness=math.inf)
    once = P * preferences.winner_factor(P, R, 27, sharpness=math.inf)
    # A power of 27 of sums over the symbols; differences of powers lose a factor of two at most.
    assert_within(p, once, 2 * bound(2 * 27 * (len(P) + CALL), 2 * once))


def test_winning_words_have_the_law_of_the_loop():
    """KS over 300 lineages of each: the frequency of two symbols at generation 4."""
    plan = {"n_samples": 40, "n_generations": 4, "n_replicates": 300}

    def write(words):
        p = words.p
        return p * preferences.winner_factor(p, R, 3)

    rng = np.random.default_rng(4)
    *_, fast = lineages.generations(
        lineages.Words(), P, FreshData(0.25), **plan, rng=rng, write=write
    )
    history = recurse(
        words.Categorical(4),
        lambda n, rng: rng.choice(4, n, p=P),
        workflow=Preferred(FreshData(0.25), lambda X: R[X], 3),
        metrics={f"p{i}": lambda s, i=i: np.mean(s.training == i) for i in range(4)},
        n_eval=1,
        rng=np.random.default_rng(5),
        **plan,
    )
    for i in (0, 3):
        assert stats.ks_2samp(fast.p[:, i], history.array(f"p{i}")[4]).pvalue > ALARM


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: preferences.winner_factor(P, R[:3], 2), "reward must give one finite number"),
        (lambda: preferences.winner_factor(P, R, 0), "n_candidates must be an integer >= 1"),
        (lambda: preferences.winner_factor(P, R, 2, sharpness=-1), "sharpness must be"),
        (lambda: preferences.winner_factor(P, R, math.inf, sharpness=math.inf), "must be finite"),
    ],
)  # fmt: skip
def test_errors_name_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call()
