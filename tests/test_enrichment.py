"""Smoothed, inflated, tempered and edited loops: exact recursions against raw data.

Statistical checks state their false-alarm rate: ALARM per check, split over its points when it
has several. Seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import (
    FreshData,
    Mix,
    Replace,
    categorical,
    editing,
    enrichment,
    gaussian,
    recurse,
)
from collapse_utils.workflows import Edited, Smoothed, Through, TrainingSet

ALARM = 1e-4
P = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
UNIFORM = np.full(5, 0.2)


def assert_mean(samples, law):
    """The mean over the last axis lies within the interval of its own standard error."""
    samples = np.atleast_2d(samples)
    law = np.broadcast_to(law, samples.shape[0])
    se = samples.std(axis=1, ddof=1) / np.sqrt(samples.shape[1])
    z = stats.norm.isf(ALARM / (2 * len(law)))
    assert (np.abs(samples.mean(axis=1) - law) < z * se).all(), (samples.mean(axis=1), law, se)


def assert_same_mean(a, b):
    assert stats.ttest_ind(a, b, equal_var=False).pvalue > ALARM


def words(n, rng):
    return rng.choice(5, n, p=P)


def uniform(n, rng):
    return rng.integers(0, 5, n)


def frequencies(s):
    p = np.bincount(s.training, minlength=5) / len(s.training) if s.model else P
    return {"diversity": 1 - p @ p, "distance": ((p - P) ** 2).sum(), "last": p[4]}


def raw_words(workflow, *, model=None, n_samples=15, n_generations=5, n_replicates=600, seed=0):
    return recurse(
        model or categorical.Categorical(5),
        words,
        workflow=workflow,
        n_samples=n_samples,
        n_generations=n_generations,
        n_replicates=n_replicates,
        n_eval=1,
        metrics={"frequencies": frequencies},
        rng=np.random.default_rng(seed),
    )


def fast_words(seed=1, **how):
    how = {"n_samples": 15, "n_generations": 5, "n_replicates": 6000} | how
    return enrichment.word_loop(P, rng=np.random.default_rng(seed), **how)


class Tempered(categorical.Categorical):
    "Writes at temperature 1.5."

    def fit(self, X):
        super().fit(X)
        self.p_ = enrichment.tempered(self.p_, 1.5)
        return self


class Inflated(Through):
    "Rows are spread about their mean: 1.3 times the variance."

    def written(self, sources, n):
        rows = sources.model(n)
        centre = rows.X.mean()
        return TrainingSet(centre + np.sqrt(1.3) * (rows.X - centre), rows.origin)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fast_words(n_fresh=3, edit=0.5), "n_fresh=3 needs edit=1"),
        (lambda: editing.pass_cost(1.2), r"share must lie in \[0, 1\]"),
        (lambda: editing.regression_error(np.ones((5, 2)), []), "full rank"),
        (
            lambda: enrichment.smoothed_moments(P, [1.0], 0.1, n_samples=5, n_generations=2),
            "q must have as many symbols",
        ),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------ the fast loop of words


@pytest.mark.parametrize(
    ("workflow", "how"),
    [
        (Replace(), {}),
        (FreshData(0.2), {"n_fresh": 3}),
        (Edited(0.4), {"edit": 0.4}),
    ],
    ids=["replace", "fresh", "edited"],
)
def test_word_loop_is_the_loop(workflow, how):
    raw, fast = raw_words(workflow), fast_words(**how)
    for g in (1, 2, 5):
        assert_same_mean(raw.array("diversity")[g], fast.diversity[g])
        assert_same_mean(raw.array("distance")[g], fast.distance[g])


def test_word_loop_with_temperature_is_the_loop():
    raw = recurse(
        Tempered(5),
        words,
        n_samples=15,
        n_generations=4,
        n_replicates=600,
        n_eval=1,
        metrics={"diversity": lambda s: 1 - (s.model.p_ @ s.model.p_ if s.model else P @ P)},
        rng=np.random.default_rng(3),
    ).array("diversity")
    fast = fast_words(write=lambda f: enrichment.tempered(f, 1.5), n_generations=4)
    for g in (1, 4):
        assert_same_mean(raw[g], fast.diversity[g])


def test_dead_words_stay_dead():
    p = np.array([0.97, 0.03, 0.0])
    run = enrichment.word_loop(
        p, n_samples=5, n_generations=30, n_replicates=200, rng=np.random.default_rng(4)
    )
    assert (run.diversity[-1] <= 0.5 + bound(4)).all()  # two words at most
    assert (np.diff((run.diversity > 0).sum(axis=1)[1:]) <= 0).all()  # nobody comes back


# ------------------------------------------------------------------ laws of words


def test_smoothed_moments():
    u = enrichment.smoothing_share(0.3, 5, 15)
    np.testing.assert_allclose(u, 1.5 / 16.5, rtol=bound(5))
    law = enrichment.smoothed_moments(P, UNIFORM, u, n_samples=15, n_generations=12)
    run = fast_words(n_generations=12, write=lambda f: enrichment.smoothed(f, u, UNIFORM))
    assert_mean(run.diversity[1:], law.diversity[1:])
    assert_mean(run.distance[1:], law.distance[1:])
    np.testing.assert_allclose(law.mean.sum(axis=1), 1, rtol=bound(3 * 5 + CALL))


def test_smoothing_in_the_loop():
    """Rows of `Smoothed` against the law: training data are draws from the smoothed model."""
    u = 0.2
    raw = raw_words(Smoothed(Replace(), uniform, u), n_replicates=1500)
    law = enrichment.smoothed_moments(P, UNIFORM, u, n_samples=15, n_generations=5)
    # The frequencies f_n of M draws from p_{n-1}; f_1 are draws from the truth.
    parent = 1 - law.diversity[1:5]
    assert_mean(1 - raw.array("diversity")[2:], 1 / 15 + (1 - 1 / 15) * parent)
    assert_mean(raw.array("last")[2:], law.mean[1:5, 4])


def test_smoothing_forgets_the_truth():
    law = enrichment.smoothed_moments(P, UNIFORM, 0.1, n_samples=15, n_generations=400)
    assert_within(law.mean[-1], UNIFORM, 0.9**400 + bound(2 * 5))
    end = enrichment.stationary_diversity(UNIFORM, 0.1, n_samples=15)
    # A generation keeps 0.9^2 (1 - 1/15) = 0.756 of an error and adds that of 20 roundings.
    limit = bound(20 / (1 - 0.756) + 20)
    assert_within(law.diversity[-1], end, limit)
    other = enrichment.smoothed_moments(P[::-1], UNIFORM, 0.1, n_samples=15, n_generations=400)
    assert_within(other.diversity[-1], end, limit)


def test_smoothing_with_the_truth_forgets_nothing_on_average():
    law = enrichment.smoothed_moments(P, P, 0.1, n_samples=15, n_generations=50)
    np.testing.assert_allclose(law.mean, np.broadcast_to(P, law.mean.shape), rtol=bound(2 * 5))
    assert_within(law.distance, 1 - P @ P - law.diversity, bound(2 * (2 * 5 + 3)))


def test_note_on_stationary_smoothing():
    """K = 20, M = 100, a = 0.05: stationary sum of squares 0.3656."""
    q = np.full(20, 1 / 20)
    u = enrichment.smoothing_share(0.05, 20, 100)
    assert 1 - enrichment.stationary_diversity(q, u, n_samples=100) == pytest.approx(
        0.3656, abs=5e-5
    )


def test_tempered_is_the_iterated_temperature():
    for temperature in (0.7, 1.3):
        p = P
        for n in range(1, 30):
            p = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
            # A generation multiplies relative errors by 1/T, and adds a power and a sum of five.
            growth = (temperature ** -np.arange(n)).sum()
            limit = bound(2 * (2 * CALL + 5) * growth)
            tiny = np.finfo(float).tiny
            np.testing.assert_allclose(
                enrichment.tempered(P, temperature, n), p, rtol=limit, atol=tiny
            )
    np.testing.assert_array_equal(enrichment.tempered(P, 0.5, 60), [1, 0, 0, 0, 0])
    np.testing.assert_array_equal(enrichment.tempered([0.7, 0.3, 0], 2.0, 60), [0.5, 0.5, 0])
    np.testing.assert_allclose(enrichment.tempered(P, 1.0, 9), P, rtol=bound(2 * (2 * CALL + 5)))


# ------------------------------------------------------------------ Gaussians


def test_inflated_loop_is_the_loop():
    raw = recurse(
        gaussian.Gaussian(),
        lambda n, rng: rng.standard_normal(n),
        workflow=Inflated(Replace()),
        n_samples=8,
        n_generations=5,
        n_replicates=500,
        n_eval=1,
        metrics={
            "mean": lambda s: s.model.mean_[0] if s.model else 0.0,
            "log var": lambda s: np.log(s.model.cov_[0, 0]) if s.model else 0.0,
        },
        rng=np.random.default_rng(5),
    )
    fast = enrichment.inflated_loop(
        1.3, n_samples=8, n_generations=5, n_replicates=5000, rng=np.random.default_rng(6)
    )
    for g in (1, 2, 5):
        assert stats.ks_2samp(raw.array("mean")[g], fast.mean[g]).pvalue > ALARM
        assert stats.ks_2samp(raw.array("log var")[g], np.log(fast.var[g])).pvalue > ALARM


def test_level_inflation_removes_the_drift_and_inflates_the_mean():
    m = 30
    factor = enrichment.level_inflation(m)
    run = enrichment.inflated_loop(
        factor, n_samples=m, n_generations=20, n_replicates=20_000, rng=np.random.default_rng(7)
    )
    points = [1, 5, 20]
    drift = gaussian.log_var_drift(m)
    assert_mean(np.log(run.var[points]), drift)  # that of the first, real generation
    assert_mean(
        (np.log(run.var[points]) - drift) ** 2, np.array(points) * gaussian.log_var_spread(m)
    )
    assert_mean(run.var[[1, 5]], factor ** np.array([0, 4]))


# ------------------------------------------------------------------ editing


def test_edited_diversity():
    shares = [0.3] * 6
    law = editing.edited_diversity(P, shares, n_samples=15)
    fast = fast_words(edit=0.3, n_generations=7)
    assert_mean(fast.diversity[1:], law[1:])
    whole = editing.edited_diversity(P, [1.0] * 6, n_samples=15)
    replace = categorical.expected_heterozygosity(P, n_samples=15, n_generations=7)
    np.testing.assert_allclose(whole, replace, rtol=bound(2 * (5 + 7 * 6)))  # six a generation


def test_edited_is_nearly_mix_with_beta():
    """A fixed count of rewritten rows (Mix with beta) instead of a random one: nearly the same."""
    raw = raw_words(Mix(0.4, beta=0.6), n_replicates=2000)
    a, m = 6, 15  # rewritten rows of M
    touched = 1 - (m - a) * (m - a - 1) / (m * (m - 1))
    start = (1 - P @ P) * (1 - 1 / m)
    assert_mean(raw.array("diversity")[1:], start * (1 - touched / m) ** np.arange(5))
    assert touched == pytest.approx(float(editing.pass_cost(0.4)), abs=0.02)


@pytest.mark.parametrize("shares", [[0.5], [0.3] * 5, [1.0] * 3, [0.5, 0.25, 0.1]])
def test_regression_error_is_exact(shares):
    rng = np.random.default_rng(8)
    X = rng.standard_normal((20, 3))  # few rows: far from the approximation
    run = editing.regression_loop(X, shares, n_replicates=6000, rng=rng, noise=2.0)
    law = editing.regression_error(X, shares, noise=2.0)
    assert_mean(run[1:], law[1:])


def test_regression_error_limits():
    rng = np.random.default_rng(9)
    X = rng.standard_normal((400, 2))
    b = editing.regression_error(X, [])[1]
    shares = [0.3] * 10
    np.testing.assert_allclose(
        editing.regression_error(X, shares)[1:],
        editing.regression_error_approximate(shares, b)[1:],
        rtol=0.02,
    )
    whole = editing.regression_error(X, [1.0] * 4)
    # Two products a pass and one at the end, sums of 400 terms. The sizes of the entries of the
    # projection, I minus two dyads of unit vectors, have a norm of at most 1 + 2, on both sides.
    limit = bound((2 * 4 + 1) * 400, (1 + 2) ** 2)
    np.testing.assert_allclose(whole[1:], b * np.arange(1, 6), rtol=limit)  # replace
    still = editing.regression_error(X, [0.0] * 4)[1:]
    np.testing.assert_allclose(still, b, rtol=bound(2 * 400))
