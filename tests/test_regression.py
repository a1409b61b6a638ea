"""Recursive regression: exact errors against simulation from rows.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import Accumulate, AccumulateSubsample, FreshData, Replace, keeping, regression

how = {"dim": 3, "n_samples": 12, "n_generations": 6}
either_inputs = pytest.mark.parametrize("new_inputs", [False, True])


@either_inputs
@pytest.mark.parametrize("every_row", [False, True])
def test_errors_of_replace_and_accumulate(new_inputs, every_row):
    n = [1, 2, 6]
    run = {"n_replicates": 8000, "new_inputs": new_inputs, "every_row": every_row}
    replaced = regression.simulate(Replace(), **how, **run, noise=0.5, rng=np.random.default_rng(1))
    law = regression.replace_error(n, dim=3, n_samples=12, noise=0.5)
    assert_mean(replaced[n], law)
    pooled = regression.simulate(Accumulate(), **how, **run, rng=np.random.default_rng(2))
    law = regression.accumulate_error(n, dim=3, n_samples=12, new_inputs=new_inputs)
    assert_mean(pooled[n], law)


@either_inputs
def test_the_gram_shortcut_has_the_law_of_rows(new_inputs):
    for workflow in (Replace(), Accumulate()):
        runs = [
            regression.simulate(
                workflow,
                **how,
                n_replicates=3000,
                rng=np.random.default_rng(3 + every_row),
                new_inputs=new_inputs,
                every_row=every_row,
            )[-1]
            for every_row in (False, True)
        ]
        assert stats.ks_2samp(*runs).pvalue > ALARM


def test_accumulated_error_is_bounded_and_less_with_new_inputs():
    n = np.arange(200)
    size = {"dim": 5, "n_samples": 20}
    one = regression.fit_error(**size)
    same = regression.accumulate_error(n, **size)
    new = regression.accumulate_error(n, **size, new_inputs=True)
    assert (same < np.pi**2 / 6 * one).all()
    assert same[-1] > 1.63 * one
    assert (new[2:] < same[2:]).all()
    assert new[1] == same[1] == one


@pytest.mark.parametrize("workflow", [FreshData(0.25), AccumulateSubsample()])
def test_mixed_workflows_approach_the_first_order_law(workflow):
    # With T far above d, only a relative error of order d/T is left; 4 d/T covers it.
    dim, size, length = 2, 200, 6
    run = regression.simulate(
        workflow,
        dim=dim,
        n_samples=size,
        n_generations=length,
        n_replicates=1500,
        rng=np.random.default_rng(5),
        new_inputs=True,
    )[-1]
    unit = regression.fit_error(dim, size)
    law = size * keeping.kinship(workflow, n_samples=size, n_generations=length, refit=False)[-1]
    width = stats.norm.isf(ALARM / 2) * run.std() / np.sqrt(len(run)) / unit
    assert abs(run.mean() / unit - law) < width + law * 4 * dim / size


@pytest.mark.parametrize("n_model", [15, 60])
def test_weighted_fits_follow_their_recursion(n_model):
    weight, noise = 0.6, 2.0
    run = regression.simulate_mixed(
        dim=3,
        n_real=15,
        n_model=n_model,
        n_generations=5,
        n_replicates=10_000,
        rng=np.random.default_rng(6),
        weight=weight,
        noise=noise,
    )
    v = [0.0, regression.fit_error(3, 15, noise)]
    for _ in range(4):
        old = (1 - weight) ** 2 * (v[-1] + regression.fit_error(3, n_model, noise))
        v.append(weight**2 * v[1] + old)
    assert_mean(run[[1, 2, 5]], np.array(v)[[1, 2, 5]])


# ------------------------------------------------------------------ wrong labels


@pytest.mark.parametrize(
    ("dim", "n_real", "n_model"), [(1, 5, 6), (2, 0, 12), (4, 9, 5), (6, 40, 3)]
)
def test_mislabelled_error_is_exact(dim, n_real, n_model):
    how = {"dim": dim, "n_real": n_real, "n_model": n_model, "shift": 2.0, "noise": 0.2}
    raw = regression.simulate_mislabelled(**how, n_replicates=6000, rng=np.random.default_rng(4))
    assert_mean(raw, regression.mislabelled_error(**how))


def test_mislabelled_error_in_the_limits():
    for n_model in (0, 200):
        # All rows alike: the fit errs by the whole shift.
        error = regression.mislabelled_error(
            dim=5, n_real=200 - n_model, n_model=n_model, shift=3.0, noise=0.5
        )
        law = regression.fit_error(5, 200, 0.5) + (3.0 if n_model else 0.0)
        assert_within(error, law, bound(12, law))
    gap = []
    for scale in (1, 10):
        large = {"dim": 400, "n_real": 1600, "n_model": 400}
        how = {name: scale * size for name, size in large.items()} | {"shift": 1.0, "noise": 0.3}
        gap.append(
            regression.mislabelled_error(**how) / regression.mislabelled_error_limit(**how) - 1
        )
    # The limit is left at the rate 1/n; the next order is smaller by some 1/(n - d).
    assert_within(10 * gap[1], gap[0], 4 / 1600 * abs(gap[0]))
    floor = {"dim": 5, "n_real": 9 * 10**8, "n_model": 10**8, "shift": 2.0}
    of_order = (1.0 + 2.0) * 5 / 10**9  # (noise + shift) d / n
    assert_within(regression.mislabelled_error(**floor), 0.01 * 2.0, of_order)


def test_fresh_error_is_exact():
    run = regression.simulate(
        FreshData(0.25),
        dim=4,
        n_samples=12,
        n_generations=6,
        n_replicates=12_000,
        rng=np.random.default_rng(7),
        noise=0.5,
        new_inputs=True,
    )
    law = regression.fresh_error(6, dim=4, n_samples=12, n_real=3, noise=0.5)
    assert_mean(run[[1, 2, 6]], law[[1, 2, 6]])
    n = np.arange(7)
    none = regression.fresh_error(6, dim=4, n_samples=12, n_real=0)
    law = regression.replace_error(n, dim=4, n_samples=12)
    assert_within(none, law, bound(12 * n) * law)


def test_wrong_arguments_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="n_samples must be at least dim \\+ 2 = 5, got 4"):
        regression.fit_error(3, 4)
    with pytest.raises(ValueError, match="n_samples must be an integer >= 3, got 2"):
        regression.simulate(dim=3, n_samples=2, n_generations=1, n_replicates=1, rng=rng)
    with pytest.raises(ValueError, match="n_samples must be constant"):
        regression.simulate(dim=2, n_samples=[5, 6], n_generations=2, n_replicates=1, rng=rng)
    with pytest.raises(ValueError, match="n_samples must be at least dim"):
        regression.mislabelled_error(dim=5, n_real=3, n_model=3, shift=1.0)
    with pytest.raises(ValueError, match="n_real must be an integer between 0 and 10, got 11"):
        regression.fresh_error(2, dim=2, n_samples=10, n_real=11)
    with pytest.raises(ValueError, match="noise must be"):
        regression.fit_error(3, 10, -1.0)
