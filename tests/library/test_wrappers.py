"""Workflows that change what the model writes: they wrap workflows, and nest.

Statistical checks state their false-alarm rate: ALARM per check, split over its points when it
has several. Seeds are fixed, so a check that passes once passes always.
"""

import math

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from scipy import stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    lineages,
    recurse,
)
from collapse_utils.models.gaussian import Gaussian
from collapse_utils.models.words import Categorical
from collapse_utils.workflows import (
    PLANTED,
    Detected,
    Edited,
    NoisyDetector,
    Poisoned,
    Preferred,
    Ranked,
    Soft,
    Sources,
    TrainingSet,
    Verified,
    Web,
    winners,
)

P = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def words(n, rng):
    return rng.choice(5, n, p=P)


def uniform(n, rng):
    return rng.integers(0, 5, n)


def sources(seed=0, generation=5, pool=None):
    rng = np.random.default_rng(seed)
    real = TrainingSet.of(np.zeros(100), 0)
    return Sources(
        generation=generation,
        model=lambda n: TrainingSet.of(np.ones(n), generation - 1),
        fresh=lambda n: TrainingSet.of(np.zeros(n), 0),
        original=real,
        previous=real,
        pool=real if pool is None else pool,
        rng=rng,
    )


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


# ------------------------------------------------------------------ verified and ranked


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


def test_a_verifier_must_return_a_mask():
    for wrong in (lambda r, rng: r, lambda r, rng: np.ones(3, dtype=bool)):
        with pytest.raises(ValueError, match="verifier must return a boolean for each of"):
            trained_on(Verified(Replace(), wrong))
    with pytest.raises(ValueError, match=r"score must return a number .* NaN"):
        trained_on(Ranked(Replace(), lambda r: r * np.nan, 0.5))


def test_rows_that_pass_softly_are_gaussian_with_added_precision():
    rng = np.random.default_rng(2)
    rows = 1 + 1.5 * rng.standard_normal(60_000)
    kept = rows[Soft(-0.5, 2.0)(rows, rng)]
    precision = 1 / 1.5**2 + 1 / 2.0**2
    mean = (1 / 1.5**2 - 0.5 / 2.0**2) / precision
    assert stats.kstest(kept, stats.norm(mean, precision**-0.5).cdf).pvalue > ALARM
    plane = 3 + np.zeros((20_000, 2))
    share = Soft((0.0, 3.0), 3.0)(plane, rng).mean()
    assert stats.binomtest(round(share * 20_000), 20_000, math.exp(-0.5)).pvalue > ALARM


# ------------------------------------------------------------------ preferred


def test_ties_are_broken_evenly():
    won = winners(np.zeros((30_000, 3)), np.random.default_rng(2), sharpness=math.inf)
    assert stats.chisquare(np.bincount(won, minlength=3)).pvalue > ALARM


def test_wrapper_leaves_real_rows_alone_and_keeps_provenance():
    seen = []

    def reward(rows):
        seen.append(len(rows))
        return rows

    for inner, real in ((Mix(0.75, gamma=0.25), 25), (Replace(), 0), (Accumulate(), 100)):
        origins = []
        recurse(
            Gaussian(), np.random.default_rng(0).normal(size=100),
            workflow=Preferred(inner, reward, 5, math.inf), n_generations=2,
            metrics={"m": lambda s, o=origins: o.append(s.origin) or 0.0},
            rng=np.random.default_rng(1),
        )  # fmt: skip
        assert (origins[-1] == 0).sum() == real
        assert (origins[-1] == 1).sum() == (100 if real != 25 else 75)
    assert seen == [375, 500, 500]


def test_wrapped_replace_of_best_is_the_largest_of_k():
    """With sharpness inf and K = 200 every kept row of N(0, 1) is large."""
    got = []
    recurse(
        Gaussian(), np.random.default_rng(0).normal(size=200),
        workflow=Preferred(Replace(), lambda x: x, 200, math.inf), n_generations=2,
        metrics={"m": lambda s: got.append(s.training.min()) or 0.0}, rng=np.random.default_rng(2),
    )  # fmt: skip
    assert got[-1] > 1


def test_winners_follow_the_rule_of_bradley_and_terry():
    rewards = np.array([0.0, 0.5, 2.0])
    won = winners(np.tile(rewards, (20_000, 1)), np.random.default_rng(4), sharpness=0.5)
    law = np.exp(0.5 * rewards)
    expected = 20_000 * law / law.sum()
    assert stats.chisquare(np.bincount(won), expected).pvalue > ALARM


# ------------------------------------------------------------------ edited, poisoned


def test_edited_keeps_real_rows_at_the_right_rate():
    real = []
    recurse(
        Categorical(5),
        words,
        workflow=Edited(lambda generation: 0.5 if generation == 2 else 0.2),
        n_samples=4000,
        n_generations=3,
        n_eval=1,
        metrics={"look": lambda s: real.append((s.origin == 0).sum()) or 0.0},
        rng=np.random.default_rng(2),
    )
    for left, share in zip(real[1:], (1, 0.5, 0.4), strict=True):
        assert stats.binomtest(int(left), 4000, share).pvalue > ALARM


def test_planted_rows_take_their_share_of_all_new_rows():
    seen = []
    settings = {
        "n_generations": 3,
        "metrics": {"m": lambda s: seen.append((s.training, s.origin)) or 0.0},
        "rng": np.random.default_rng(9),
    }

    def plant(n, rng):
        return np.full(n, 99.0)

    inner = Replace()
    recurse(
        Gaussian(), np.linspace(0, 1, 100), workflow=Poisoned(inner, plant, 0.1), **settings
    )  # fmt: skip
    rows, origin = seen[-1]
    assert (rows == 99).sum() == 10
    assert ((origin == PLANTED) == (rows == 99)).all()
    assert (origin == 2).sum() == 90
    seen.clear()
    recurse(
        Gaussian(), lambda n, rng: rng.normal(size=n), n_samples=50,
        workflow=Poisoned(FreshData(1.0), plant, 0.2), **settings,
    )  # fmt: skip
    assert (seen[-1][1] == PLANTED).sum() == 10


def test_editing_counts_has_the_law_of_editing_rows():
    how = {"n_samples": 15, "n_generations": 5, "rng": np.random.default_rng(5)}
    raw = recurse(
        Categorical(5),
        words,
        workflow=Edited(0.4),
        n_replicates=1000,
        n_eval=1,
        metrics={"last": lambda s: (s.training == 4).mean()},
        **how,
    ).array("last")
    fast = list(lineages.generations(lineages.Words(), P, Edited(0.4), n_replicates=8000, **how))
    for g in (2, 5):
        assert_mean([fast[g].p[:, 4], raw[g].repeat(8)], P[4])
        squares = fast[g].p[:, 4] ** 2, raw[g] ** 2
        assert stats.ttest_ind(*squares, equal_var=False).pvalue > ALARM / 2


# ------------------------------------------------------------------ detected


def test_accumulate_is_filtered_and_the_pool_is_not():
    workflow = Detected(Accumulate(), NoisyDetector(1.0, 0.0), refill="none")
    rows, pool = workflow.compose(sources(), 40)
    assert (rows.origin == 0).all()
    assert len(rows) == 100
    assert len(pool) == 140
    half = Detected(Accumulate(), NoisyDetector(0.5, 0.0), refill="none")
    rows, _ = half.compose(sources(), 400)
    assert 100 + 150 < len(rows) < 100 + 250


def test_repeat_keeps_the_size():
    workflow = Detected(Accumulate(), NoisyDetector(1.0, 0.5), refill="repeat")
    rows, pool = workflow.compose(sources(), 40)
    assert len(rows) == len(pool) == 140
    assert (rows.origin == 0).all()


@pytest.mark.parametrize("inner", [Replace(), Mix(alpha=0.5, gamma=0.5), FreshData(0.5), Web(0.5)])
def test_more_hands_on_the_number_asked_for(inner):
    rows, _ = Detected(inner, NoisyDetector(0.5, 0.5)).compose(sources(), 90)
    assert len(rows) == 90


def test_more_does_not_prefer_the_rows_that_come_first():
    rows, _ = Detected(Mix(alpha=0.5, gamma=0.5), NoisyDetector(0.5, 0.5)).compose(sources(), 100)
    assert 20 < (rows.origin == 0).sum() < 80


def test_any_model_runs_through_it():
    history = recurse(
        Gaussian(ddof=1),
        lambda n, rng: rng.standard_normal(n),
        workflow={
            "bare": Web(0.02),
            "detected": Detected(Web(0.02), NoisyDetector(0.99, 0.05)),
        },
        n_samples=5,
        n_generations=25,
        n_replicates=25,
        metrics={"log": lambda s: np.log(s.model.cov_[0, 0]) if s.model else 0.0},
        rng=np.random.default_rng(5),
    )
    gain = history.array("log", "detected")[-1] - history.array("log", "bare")[-1]
    assert stats.ttest_1samp(gain, 0, alternative="greater").pvalue < 1e-5


def test_a_detector_that_passes_nothing_or_answers_oddly_is_told():
    everything = NoisyDetector(1.0, 1.0)
    with pytest.raises(ValueError, match="flagged all 140"):
        Detected(Accumulate(), everything, refill="none").compose(sources(), 40)
    with pytest.raises(ValueError, match="must let 1 rows pass, but 0 did out of 10000"):
        Detected(Replace(), everything).compose(sources(), 1)
    with pytest.raises(ValueError, match="detector must return a boolean for each of 3 rows"):
        Detected(Replace(), lambda rows, generation, rng: np.zeros(3)).compose(sources(), 3)


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Verified(Replace, even), "workflow must have compose"),
        (lambda: Verified(Replace(), 3), "verifier must be callable, got 3"),
        (lambda: Verified(Replace(), even, max_draws=0), "max_draws must be an integer >= 1"),
        (lambda: Ranked(Replace(), np.abs, 0), r"keep must be a finite number in \(0, 1\], got 0"),
        (lambda: Soft(0.0, 0), "tau must be"),
        (lambda: Preferred(Replace(), 3.0), "reward must be callable, got 3.0"),
        (lambda: Preferred(Replace(), len, 0), "n_candidates must be an integer >= 1, got 0"),
        (lambda: winners(np.zeros((2, 2)), np.random.default_rng(0), sharpness=-1), "sharpness"),
        (lambda: trained_on(Preferred(Replace(), lambda x: x[:2])), "reward must return a number"),
        (lambda: Edited(-0.1), "share must be"),
        (lambda: trained_on(Edited(lambda g: g)), r"share\(2\) must be"),
        (lambda: trained_on(Edited(0.5), n_samples=[5, 6, 5]), "n_samples must be constant under"),
        (lambda: Poisoned(Replace(), len, 1.5), "fraction must be"),
        (lambda: Detected(Replace(), len, refill="all"), "refill must be one of more, repeat"),
        (lambda: Detected("replace", len), "workflow must have compose"),
        (lambda: Detected(Replace(), 0.5), "detector must be callable"),
        (lambda: Web(1.5), "real_share"),
        (lambda: NoisyDetector(-0.1), "true_positive"),
        # Callables are checked when they speak.
        (lambda: Web(lambda g: 2.0).compose(sources(), 5), r"real_share must be .* got 2"),
        (
            lambda: Detected(FreshData(0.5), len).check(np.array([10, 10]), 12),
            r"fraction=0\.5 needs",
        ),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()
