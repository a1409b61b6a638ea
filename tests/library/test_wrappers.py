"""Workflows that change what the model writes: they wrap workflows, and nest.

Statistical checks state their false-alarm rate: ALARM per check, split over its points when it
has several. Seeds are fixed, so a check that passes once passes always.
"""

import math

import numpy as np
import pytest
from intervals import ALARM
from scipy import stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    recurse,
)
from collapse_utils.models.gaussian import Gaussian
from collapse_utils.workflows import (
    PLANTED,
    Poisoned,
    Soft,
    Sources,
    TrainingSet,
    Verified,
    Web,
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


# ------------------------------------------------------------------ verified


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
    with pytest.raises(ValueError, match="needs 30 real rows"):
        trained_on(Verified(FreshData(0.5), even), data=data, n_generations=5)


def test_a_verifier_must_return_a_mask():
    for wrong in (lambda r, rng: r, lambda r, rng: np.ones(3, dtype=bool)):
        with pytest.raises(ValueError, match="verifier must return a boolean for each of"):
            trained_on(Verified(Replace(), wrong))


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


# ------------------------------------------------------------------ poisoned


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


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Verified(Replace, even), "workflow must have compose"),
        (lambda: Verified(Replace(), 3), "verifier must be callable, got 3"),
        (lambda: Verified(Replace(), even, max_draws=0), "max_draws must be an integer >= 1"),
        (lambda: Soft(0.0, 0), "tau must be"),
        (lambda: Poisoned(Replace(), len, 1.5), "fraction must be"),
        (lambda: Web(1.5), "real_share"),
        # Callables are checked when they speak.
        (lambda: Web(lambda g: 2.0).compose(sources(), 5), r"real_share must be .* got 2"),
        (
            lambda: Verified(FreshData(0.5), even).check(np.array([10, 10]), 12),
            r"fraction=0\.5 needs",
        ),
    ],
)
def test_errors_name_the_parameter(make, message):
    with pytest.raises(ValueError, match=message):
        make()
