"""Verifiers and curated workflows, and the laws of `selection` against raw data.

Statistical checks state their false-alarm rate: ALARM per check, split over its points when it
has several. Seeds are fixed, so a check that passes once passes always.
"""

import math

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import (
    Replace,
    gaussian,
    recurse,
    selection,
)
from collapse_utils.workflows import Ranked, Soft, Verified

ALARM = 1e-4


def assert_mean(samples, law):
    """The mean over the last axis lies within the interval of its own standard error."""
    samples = np.atleast_2d(samples)
    law = np.broadcast_to(law, samples.shape[0])
    se = samples.std(axis=1, ddof=1) / np.sqrt(samples.shape[1])
    z = stats.norm.isf(ALARM / (2 * len(law)))
    assert (np.abs(samples.mean(axis=1) - law) < z * se).all(), (samples.mean(axis=1), law, se)


def assert_same_law(a, b):
    assert stats.ks_2samp(a, b).pvalue > ALARM


# ------------------------------------------------------------------ the wrappers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: selection.label_floor(0.3, 0.3, n_samples=10, dim=3), "keep_right must exceed"),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def imperfect(is_right, keep_right, keep_wrong):
    "A verifier that errs."

    def verifier(rows, rng):
        return rng.random(len(rows)) < np.where(is_right(rows), keep_right, keep_wrong)

    return verifier


# ------------------------------------------------------------------ simulators against raw data


def gaussian_loop(workflow, *, start=0.0, n_samples=20, n_generations=4, n_replicates=400, seed=0):
    return recurse(
        gaussian.Gaussian(),
        lambda n, rng: start + rng.standard_normal(n),
        workflow=workflow,
        n_samples=n_samples,
        n_generations=n_generations,
        n_replicates=n_replicates,
        n_eval=1,
        metrics={
            "mean": lambda s: s.model.mean_[0] if s.model else start,
            "var": lambda s: s.model.cov_[0, 0] if s.model else 1.0,
        },
        rng=np.random.default_rng(seed),
    )


def test_soft_loop_is_the_loop_with_a_soft_verifier():
    raw = gaussian_loop(Verified(Replace(), Soft(0.2, 1.0)), start=1.0)
    fast = selection.soft_loop(
        mean=1.0, var=1.0, centre=0.2, tau=1.0, n_samples=20, n_generations=4,
        n_replicates=4000, rng=np.random.default_rng(1),
    )  # fmt: skip
    for g in (1, 2, 4):
        assert_same_law(raw.array("mean")[g], fast.mean[g])
        assert_same_law(raw.array("var")[g], fast.var[g])


class KnownSpread:
    """N(theta, 1) with a fitted mean."""

    def fit(self, X):
        self.mean_ = X.mean()
        return self

    def sample(self, n, rng):
        return self.mean_ + rng.standard_normal(n)


@pytest.mark.parametrize("start", [-1.0, 2.0])
def test_window_loop_is_the_loop_with_a_window(start):
    raw = recurse(
        KnownSpread(),
        np.full(30, start),  # generation 1 believes `start`, exactly
        workflow=Verified(Replace(), lambda rows, rng: np.abs(rows - 0.5) <= 1.5),
        n_generations=4,
        n_replicates=400,
        n_eval=1,
        metrics={"mean": lambda s: s.model.mean_ if s.model else start},
        rng=np.random.default_rng(3),
    ).array("mean")
    fast = selection.window_loop(
        start, 0.5, 1.5, n_samples=30, n_generations=3, n_replicates=4000,
        rng=np.random.default_rng(4),
    )  # fmt: skip
    for g in (1, 3):
        assert_same_law(raw[g + 1], fast[g])


class Labeller:
    """Rows (x, y): a linear classifier learned as mean(y x) labels new standard normal inputs."""

    def fit(self, X):
        self.w_ = (X[:, -1:] * X[:, :-1]).mean(axis=0)
        return self

    def sample(self, n, rng):
        x = rng.standard_normal((n, len(self.w_)))
        return np.column_stack([x, np.where(x @ self.w_ > 0, 1.0, -1.0)])


def right(rows):
    return rows[:, 0] * rows[:, -1] > 0  # the truth is the sign of the first coordinate


@pytest.mark.parametrize(("phi", "psi"), [(0.9, 0.3), (0.5, 0.8)])
def test_label_loop_is_the_loop_with_an_imperfect_verifier(phi, psi):
    def labelled(n, rng):
        x = rng.standard_normal((n, 4))
        flip = np.where(rng.random(n) < 0.2, -1.0, 1.0)
        return np.column_stack([x, flip * np.where(x[:, 0] > 0, 1.0, -1.0)])

    def error(s):
        w = s.model.w_ if s.model else np.array([1.0, 0, 0, 0])
        return math.acos(w[0] / np.linalg.norm(w)) / math.pi

    raw = recurse(
        Labeller(),
        labelled,
        workflow=Verified(Replace(), imperfect(right, phi, psi)),
        n_samples=40,
        n_generations=4,
        n_replicates=400,
        n_eval=1,
        metrics={"error": error},
        rng=np.random.default_rng(5),
    ).array("error")
    fast = selection.label_loop(
        0.2, phi, psi, n_samples=40, dim=4, n_generations=4, n_replicates=4000,
        rng=np.random.default_rng(6),
    )  # fmt: skip
    for g in (1, 2, 4):
        assert_same_law(raw[g], fast[g])


# ------------------------------------------------------------------ laws


def test_breakdown_is_where_half_of_the_passing_labels_are_wrong():
    for phi, psi in ((1, 1), (0.9, 0.3), (0.7, 0.05)):
        p = selection.breakdown(phi, psi)
        np.testing.assert_allclose(p, 1 / (1 + psi / phi), rtol=bound(5))
        # 1 - p has p / (1 - p) = phi / psi times the error of p.
        half = selection.share_wrong(p, phi, psi)
        np.testing.assert_allclose(half, 0.5, rtol=bound(10, phi / psi))
    assert selection.breakdown(0.4, 0) == 1


def test_share_wrong_in_raw_labels():
    rng = np.random.default_rng(7)
    wrong = rng.random(100_000) < 0.6
    passed = imperfect(np.logical_not, 0.9, 0.3)(wrong, rng)
    law = float(selection.share_wrong(0.6, 0.9, 0.3))
    test = stats.binomtest(int(wrong[passed].sum()), int(passed.sum()), law)
    assert test.pvalue > ALARM


def test_expected_accuracy():
    fast = selection.one_round(
        0.4, n_samples=500, dim=6, n_replicates=4000, rng=np.random.default_rng(8)
    )
    assert_mean(fast, selection.expected_accuracy(0.4, n_samples=500, dim=6))
    # Symmetric: what is left is the rounding of means over 80 nodes and 300 quantiles.
    chance = selection.expected_accuracy(0.5, n_samples=500, dim=6)
    np.testing.assert_allclose(chance, 0.5, rtol=bound(80 + 300 + 2 * CALL))


def test_label_floor_and_its_promise():
    how = {"n_samples": 1000, "dim": 10}
    error = selection.label_loop(
        0.1, 0.9, 0.3, **how, n_generations=25, n_replicates=600, rng=np.random.default_rng(9)
    )
    squares = (math.pi * error[-1]) ** 2
    floor = selection.label_floor(0.9, 0.3, **how)
    se = squares.std(ddof=1) / math.sqrt(len(squares))
    neglected = math.sqrt(floor) * floor  # terms of relative order of the angle
    assert abs(squares.mean() - floor) < stats.norm.isf(ALARM / 2) * se + neglected
    # An oracle (psi = 0) makes generated labels worth three quarters of as many real ones.
    real = (how["dim"] - 1) * math.pi / (2 * 10**9)
    oracle = selection.label_floor(1.0, 0.0, n_samples=10**9, dim=10)
    assert oracle == pytest.approx(real / 0.75, rel=math.sqrt(real / 0.75))  # the angle again


def test_central_filter_multiplies_the_expected_variance():
    run = selection.central_loop(
        0.9, n_samples=50, n_generations=4, n_replicates=4000, rng=np.random.default_rng(10)
    )
    factor = selection.central_factor(0.9)
    cut = stats.norm.isf(0.05)
    np.testing.assert_allclose(factor, stats.truncnorm(-cut, cut).var(), rtol=bound(8 * CALL))
    assert_mean(run.var[1:], factor ** np.arange(4))
    assert selection.central_factor(1.0) == 1


def test_central_filter_through_the_loop():
    """Rows ranked by how close they are to the middle of their batch: the same factor."""

    def likely(rows):
        return -np.abs(rows - rows.mean())

    raw = gaussian_loop(Ranked(Replace(), likely, 0.9), n_samples=2000, n_generations=3)
    log_var = np.log(raw.array("var")[3])
    # The batch's own mean and cut add errors of order 1/M to each of two filtered generations.
    law, error = 2 * math.log(selection.central_factor(0.9)), 2 * 3 / 2000
    se = log_var.std(ddof=1) / math.sqrt(len(log_var))
    assert abs(log_var.mean() - law) < stats.norm.isf(ALARM / 2) * se + error


def test_window_moments():
    how = {"n_samples": 400, "n_generations": 12}
    run = selection.window_loop(
        -2, 0.5, 1.5, **how, n_replicates=3000, rng=np.random.default_rng(11)
    )
    mean, var = selection.window_moments(-2, 0.5, 1.5, **how)
    assert_mean(run[1:], mean[1:])
    assert_mean((run[1:] - mean[1:, None]) ** 2, var[1:])


def test_window_map_and_slope():
    for theta in (-2.0, 0.0, 1.3):
        ends = 0.5 - 1.5 - theta, 0.5 + 1.5 - theta
        cut = stats.truncnorm(*ends)
        # The mass is a difference of two probabilities, and the other terms are at most 4.
        limit = bound(4 * CALL, 4 * 2 / np.diff(stats.norm.cdf(ends))[0])
        assert_within(selection.window_map(theta, 0.5, 1.5), theta + cut.mean(), limit)
        assert_within(selection.window_slope(theta, 0.5, 1.5), cut.var(), limit)
    assert selection.window_map(0.5, 0.5, 1.5) == 0.5


def test_soft_checks_add_precision_exactly():
    how = {"var": 1.0, "tau": 1.5, "n_samples": 10}
    run = selection.soft_loop(
        mean=1.0, centre=0.2, **how, n_generations=6, n_replicates=20_000,
        rng=np.random.default_rng(12),
    )  # fmt: skip
    generations = np.arange(1, 7)
    assert_mean(1 / run.var[1:], selection.expected_precision(generations, **how))


def test_best_stop_beats_its_neighbours():
    how = {"mean": 1.0, "var": 1.0, "centre": 0.2, "tau": 2.0}
    best = selection.best_stop(**how)
    m, v = selection.soft_path(np.arange(best - 1, best + 2), **how)
    before, at, after = m**2 + (np.sqrt(v) - 1) ** 2
    assert at < before
    assert at < after
    assert selection.best_stop(mean=0, var=1, centre=0, tau=1) == 0  # nothing to repair
