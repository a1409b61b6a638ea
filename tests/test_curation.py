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
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    gaussian,
    recurse,
    selection,
)
from collapse_utils.curation import AtLeast, Imperfect, Ranked, Soft, Verified, Window

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


class Counter:
    """Writes consecutive numbers, so that a test can tell rows apart."""

    def fit(self, X):
        return self

    def sample(self, n):
        start = getattr(self, "written", 0)
        self.written = start + n
        return np.arange(start, start + n, dtype=float)


def even(rows, rng):
    return rows % 2 == 0


def trained_on(workflow, *, model=None, data=None, n_samples=10, n_generations=3, seed=0):
    """(training rows, origin) of generations 1, 2, ..."""
    seen = []

    def look(s):
        if s.generation:
            seen.append((s.training, s.origin))
        return 0.0

    recurse(
        model or Counter(),
        (lambda n, rng: -1 - np.arange(n, dtype=float)) if data is None else data,
        workflow=workflow,
        n_samples=n_samples,
        n_generations=n_generations,
        n_eval=1,
        metrics={"look": look},
        rng=np.random.default_rng(seed),
    )
    return seen


# ------------------------------------------------------------------ the wrappers


@pytest.mark.parametrize(
    "inner",
    [Replace(), Accumulate(), AccumulateSubsample(), Mix(0.5, gamma=0.5), FreshData(0.4)],
    ids=lambda w: type(w).__name__,
)
def test_rows_of_the_model_pass_and_real_rows_are_not_checked(inner):
    plain, checked = trained_on(inner), trained_on(Verified(inner, even))
    for (_, origin_0), (rows, origin) in zip(plain, checked, strict=True):
        assert len(rows) == len(origin_0)
        if not isinstance(inner, AccumulateSubsample):  # there the origins are drawn
            np.testing.assert_array_equal(np.sort(origin), np.sort(origin_0))
        assert (rows[origin == 0] < 0).all()  # real rows, odd ones among them
        assert (rows[origin > 0] % 2 == 0).all()
        written = rows[origin == origin.max()]
        if origin.max() > 0:
            assert len(np.unique(written)) == len(written)  # no row twice


def test_the_first_rows_that_pass_are_kept_in_order():
    (_, (rows, _), _) = trained_on(Verified(Replace(), even))
    # one row is written for evaluation before the workflow draws
    np.testing.assert_array_equal(rows, np.arange(2, 22, 2))


def test_a_verifier_that_passes_everything_changes_nothing():
    def everything(rows, rng):
        return np.ones(len(rows), dtype=bool)

    plain, checked = trained_on(Replace()), trained_on(Verified(Replace(), everything))
    np.testing.assert_array_equal(plain[1][0], checked[1][0])


def test_checks_nest():
    def small(rows, rng):
        return rows % 6 < 3

    both = Verified(Verified(Replace(), even), small)
    (_, (rows, _), _) = trained_on(both)
    np.testing.assert_array_equal(rows, [n for n in range(1, 100) if n % 2 == 0 and n % 6 < 3][:10])


def test_effort_is_bounded_and_the_error_says_what_happened():
    def nothing(rows, rng):
        return np.zeros(len(rows), dtype=bool)

    message = r"passed 0 of 70 rows written for generation 2, which needs 10: raise max_draws"
    with pytest.raises(RuntimeError, match=message):
        trained_on(Verified(Replace(), nothing, max_draws=7))


def test_a_rare_pass_is_found_within_the_effort():
    rare = Verified(Replace(), lambda rows, rng: rows % 50 == 0, max_draws=60)
    (_, (rows, _), _) = trained_on(rare)
    np.testing.assert_array_equal(rows, 50 * np.arange(1, 11))


def test_the_inner_workflow_may_refuse():
    data = np.zeros(25)
    for wrapper in (Verified(FreshData(0.5), even), Ranked(FreshData(0.5), np.abs, 0.5)):
        with pytest.raises(ValueError, match="needs 30 real rows"):
            trained_on(wrapper, data=data, n_generations=5)


def test_ranked_keeps_the_best_share():
    (_, (rows, _), _) = trained_on(Ranked(Replace(), lambda rows: rows, 0.25))
    np.testing.assert_array_equal(rows, np.arange(31, 41))  # 40 are written, from 1 on
    plain, all_kept = trained_on(Accumulate()), trained_on(Ranked(Accumulate(), np.negative, 1.0))
    np.testing.assert_array_equal(plain[2][0], all_kept[2][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Verified(Replace, even), "workflow must have compose"),
        (lambda: Verified(Replace(), 3), "verifier must be callable, got 3"),
        (lambda: Verified(Replace(), even, max_draws=0), "max_draws must be an integer >= 1"),
        (lambda: Ranked(Replace(), np.abs, 0), r"keep must be a finite number in \(0, 1\], got 0"),
        (lambda: Window(0.0, -1), "radius must be"),
        (lambda: Soft(0.0, 0), "tau must be"),
        (lambda: AtLeast(None, 1), "score must be callable"),
        (lambda: Imperfect(np.isfinite, 1.2, 0), "keep_right must be .* got 1.2"),
        (lambda: selection.label_floor(0.3, 0.3, n_samples=10, dim=3), "keep_right must exceed"),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_verifier_must_return_a_mask():
    for wrong in (lambda r, rng: r, lambda r, rng: np.ones(3, dtype=bool)):
        with pytest.raises(ValueError, match="verifier must return a boolean for each of"):
            trained_on(Verified(Replace(), wrong))
    with pytest.raises(ValueError, match=r"score must return a number .* NaN"):
        trained_on(Ranked(Replace(), lambda r: r * np.nan, 0.5))


# ------------------------------------------------------------------ verifiers


def test_windows_and_scores():
    rng = np.random.default_rng(0)
    line = np.array([-1.0, 0.0, 0.9, 1.6])
    np.testing.assert_array_equal(Window(0.5, 1.0)(line, rng), [False, True, True, False])
    plane = np.column_stack([line, line])
    np.testing.assert_array_equal(Window((0, 0), 1.3)(plane, rng), [False, True, True, False])
    np.testing.assert_array_equal(AtLeast(np.abs, 0.9)(line, rng), [True, False, True, True])


def test_imperfect_keeps_right_and_wrong_at_its_rates():
    rng = np.random.default_rng(1)
    rows = np.arange(40_000)
    passed = Imperfect(lambda r: r % 4 != 0, 0.9, 0.3)(rows, rng)
    for mask, rate in ((rows % 4 != 0, 0.9), (rows % 4 == 0, 0.3)):
        assert stats.binomtest(int(passed[mask].sum()), int(mask.sum()), rate).pvalue > ALARM


def test_rows_that_pass_softly_are_gaussian_with_added_precision():
    rng = np.random.default_rng(2)
    rows = 1 + 1.5 * rng.standard_normal(60_000)
    kept = rows[Soft(-0.5, 2.0)(rows, rng)]
    mean, var = selection.soft_path(1, mean=1, var=1.5**2, centre=-0.5, tau=2.0)
    assert stats.kstest(kept, stats.norm(mean, np.sqrt(var)).cdf).pvalue > ALARM


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
        workflow=Verified(Replace(), Window(0.5, 1.5)),
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
        workflow=Verified(Replace(), Imperfect(right, phi, psi)),
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
    passed = Imperfect(np.logical_not, 0.9, 0.3)(wrong, rng)
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


# ------------------------------------------------------------------ with a network


def test_verifier_accumulate_and_the_vae_compose():
    from collapse_utils.vae import VAE

    rng = np.random.default_rng(13)
    prototypes = (rng.random((3, 16)) < 0.5).astype(float)
    real = prototypes[rng.integers(3, size=200)]
    real = np.where(rng.random(real.shape) < 0.05, 1 - real, real)

    def likeness(rows):
        """Minus the share of pixels in which a row differs from the nearest prototype."""
        return -np.abs(rows[:, None] - prototypes).mean(axis=2).min(axis=1)

    verifier = AtLeast(likeness, -0.2)
    seen = {}

    def look(s):
        seen[s.workflow, s.replicate, s.generation] = (s.training, s.origin)
        return {"likeness": likeness(s.sample).mean()}

    history = recurse(
        VAE(hidden=16, latent=2, likelihood="bernoulli", sampling="noisy", n_steps=60),
        real,
        workflow={"plain": Accumulate(), "verified": Verified(Accumulate(), verifier)},
        n_samples=60,
        n_generations=3,
        n_replicates=2,
        metrics={"look": look},
        rng=rng,
    )
    for replicate in range(2):
        plain, _ = seen["plain", replicate, 3]
        rows, origin = seen["verified", replicate, 3]
        np.testing.assert_array_equal(np.bincount(origin), [60, 60, 60])
        assert verifier(rows[origin > 0], rng).all()
        assert not verifier(plain, rng).all()  # so the check had something to do
        real_rows, _ = seen["verified", replicate, 1]
        np.testing.assert_array_equal(rows[origin == 0], real_rows)
    gain = history.array("likeness", "verified")[3] - history.array("likeness", "plain")[3]
    assert (gain > 0).all()
