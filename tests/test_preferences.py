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

from collapse_utils import FreshData, categorical, preferences, recurse
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


def test_infinite_choice_is_the_exponential_family():
    path = preferences.replicator(P, R, n_candidates=math.inf, n_generations=8)
    law = P * np.exp(7 * R)
    law /= law.sum()
    assert_within(path[8], law, bound(7 * (3 * CALL + 3 * len(P)) + 2 * CALL, law))
    assert (path[0] == path[1]).all()


def test_rounds_of_best_of_k_are_one_round_of_a_power():
    path = preferences.replicator(P, R, n_candidates=3, n_generations=4, sharpness=math.inf)
    once = P * preferences.winner_factor(P, R, 27, sharpness=math.inf)
    # A power of 27 of sums over the symbols; differences of powers lose a factor of two at most.
    assert_within(path[4], once, 2 * bound(2 * 27 * (len(P) + CALL), 2 * once))


@pytest.mark.parametrize("k", [2, 5, math.inf])
def test_gain_is_at_least_the_published_bound(k):
    rng = np.random.default_rng(3)
    for _ in range(20):
        p, r = rng.dirichlet(np.ones(6)), rng.normal(size=6)
        w = np.exp(r)
        gain = (p * preferences.winner_factor(p, r, k)) @ w - p @ w
        assert gain >= preferences.gain_bound(p, r, k)


def test_real_data_bound_the_ratio_and_the_reward():
    w = np.exp(R)
    for k, share in ((2, 0.6), (4, 0.8), (10, 0.95)):
        for sharpness in (1.0, math.inf):
            path = preferences.replicator(
                P, R, n_candidates=k, n_generations=200, real_share=share, sharpness=sharpness
            )
            assert (path / P).max() <= preferences.ratio_bound(share, k)
            assert (path >= share * P).all()
        spread = P @ w**2 - (P @ w) ** 2
        least = share * (1 - share) * (1 - 1 / k) * spread / w.max()
        path = preferences.replicator(P, R, n_candidates=k, n_generations=50, real_share=share)
        assert (path[2:] @ w - P @ w >= least).all()
    assert preferences.ratio_bound(0.5, 2) == math.inf
    assert preferences.ratio_bound(1.0, 5) == 1.0


def test_a_rare_favourite_spreads_above_threshold_only():
    q = 1e-9
    p, r = np.array([1 - q, q]), np.array([0.0, 1.5])
    for share in (0.1, 0.5):
        copies = preferences.reproduction(share, 4, 1.5)
        step = preferences.replicator(p, r, n_candidates=4, n_generations=3, real_share=share)
        grown = step[3, 1] - step[2, 1]
        before = step[2, 1] - step[1, 1]
        # Favourites meet each other among four with a chance below four times their share; the rest
        # is rounding of two differences.
        error = 4 * step[3, 1] + factor_error(4, 2, 1.5) * 2 * (step[3, 1] / grown + q / before)
        assert_within(grown / before, copies, 2 * error * copies)
    assert preferences.reproduction(0.5, 4) == 2
    assert preferences.reproduction(0.5, math.inf, 0.0) == 0.5


def test_simulator_has_the_law_of_the_loop():
    """KS over 300 lineages of each: the frequency of two symbols at generation 4."""
    settings = {"n_samples": 40, "n_generations": 4, "n_replicates": 300}
    fast = preferences.simulate(
        P, R, n_candidates=3, real_share=0.25, rng=np.random.default_rng(4), **settings
    )
    history = recurse(
        categorical.Categorical(4),
        lambda n, rng: rng.choice(4, n, p=P),
        workflow=Preferred(FreshData(0.25), lambda X: R[X], 3),
        metrics={f"p{i}": lambda s, i=i: np.mean(s.training == i) for i in range(4)},
        n_eval=1,
        rng=np.random.default_rng(5),
        **settings,
    )
    for i in (0, 3):
        slow = history.array(f"p{i}")[4]
        assert stats.ks_2samp(fast[4, :, i], slow).pvalue > ALARM


def test_one_generation_has_the_recursion_as_its_mean():
    path = preferences.simulate(
        P, R, n_candidates=2, n_samples=30, n_generations=2, n_replicates=4000, real_share=0.5,
        rng=np.random.default_rng(6),
    )  # fmt: skip
    won = path[1] * preferences.winner_factor(path[1], R, 2)
    first_axis(path[2] - (0.5 * P + 0.5 * won), 0.0)


def test_best_of_two_shrinks_a_gaussian_geometrically():
    mean, var = preferences.best_of_normal(2)
    law = 1 / math.sqrt(math.pi), 1 - 1 / math.pi
    assert_within([mean, var], law, bound(2400 + 4 * CALL))  # sums of 2400 terms, one in all
    _, v = preferences.simulate_gaussian(
        lambda x: x, n_candidates=2, sharpness=math.inf, n_samples=50, n_generations=4,
        n_replicates=4000, rng=np.random.default_rng(7),
    )  # fmt: skip
    first_axis(v[1:].T, var ** np.arange(1, 4))


def test_quadratic_reward_shrinks_a_gaussian_harmonically():
    """E 1/v follows a linear recursion, exactly for any M: see the chapter."""
    m, s2 = 40, 3.0
    _, v = preferences.simulate_gaussian(
        lambda x: -(x**2) / (2 * s2), n_candidates=math.inf, top=0.0, n_samples=m,
        n_generations=5, n_replicates=4000, rng=np.random.default_rng(8),
    )  # fmt: skip
    law = [1.0]
    for _ in range(4):
        law.append((m - 1) / (m - 3) * (law[-1] + 1 / s2))
    first_axis(1 / v[1:].T, law[1:])


def test_accepted_rows_are_what_many_candidates_tend_to():
    def rewards(x):
        return -np.abs(x)

    settings = {"n_samples": 200, "n_generations": 2, "n_replicates": 100}
    draws = [
        preferences.simulate_gaussian(
            rewards, n_candidates=k, top=0.0, rng=np.random.default_rng(9), **settings
        )[1][1]
        for k in (math.inf, 300)
    ]
    assert stats.ks_2samp(*draws).pvalue > ALARM


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: preferences.winner_factor(P, R[:3], 2), "reward must give one finite number"),
        (lambda: preferences.winner_factor(P, R, 0), "n_candidates must be an integer >= 1"),
        (lambda: preferences.winner_factor(P, R, 2, sharpness=-1), "sharpness must be"),
        (lambda: preferences.winner_factor(P, R, math.inf, sharpness=math.inf), "must be finite"),
        (
            lambda: preferences.simulate_gaussian(
                lambda x: x, n_candidates=math.inf, n_samples=5, n_generations=2, n_replicates=1,
                rng=np.random.default_rng(0),
            ),
            "top",
        ),
        (
            lambda: preferences.simulate_gaussian(
                lambda x: x, n_candidates=math.inf, top=0.0, n_samples=5, n_generations=2,
                n_replicates=1, rng=np.random.default_rng(0),
            ),
            "top must be at least",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call()
