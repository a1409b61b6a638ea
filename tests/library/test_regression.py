"""Recursive regression: exact errors against simulation from rows.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Replace,
    kinship,
    lineages,
    regression,
)

HOW = {"n_samples": 12, "n_generations": 6}


def label(w, n, rng):
    x = rng.standard_normal((*w.shape[:1], n, w.shape[1]))
    y = np.einsum("rni,ri->rn", x, w) + np.sqrt(0.5) * rng.standard_normal(x.shape[:2])
    return np.concatenate([x, y[..., None]], axis=2)


def fitted(rows):
    x, y = rows[..., :-1], rows[..., -1:]
    xt = np.swapaxes(x, 1, 2)
    return np.linalg.solve(xt @ x, xt @ y)[..., 0]


def errors(family, workflow, *, dim=3, n_replicates=8000, seed=1, **how):
    "Squared errors |w_n - w|^2, shape (G + 1, R)."
    runs = lineages.generations(
        family, np.zeros(dim), workflow, n_replicates=n_replicates,
        rng=np.random.default_rng(seed), **(HOW | how),
    )  # fmt: skip
    return (lineages.record(runs) ** 2).sum(axis=-1)


@pytest.mark.parametrize("same_inputs", [False, True])
def test_errors_of_replace_and_accumulate(same_inputs):
    n = np.arange(1, 7)
    family = regression.LeastSquares(3, noise=0.5, same_inputs=same_inputs)
    one = regression.fit_error(3, 12, 0.5)
    assert_mean(errors(family, Replace())[1:], n * one)
    # With new inputs the n Gram matrices of the pool are exchangeable.
    added = one / n**2 if same_inputs else regression.fit_error(3, n * 12, 0.5) / n
    family = regression.LeastSquares(3, noise=0.5, same_inputs=same_inputs)
    assert_mean(errors(family, Accumulate(), seed=2)[1:], np.cumsum(added))


@pytest.mark.parametrize("workflow", [Replace(), Accumulate(), FreshData(0.1), FreshData(0.4)])
def test_the_gram_matrix_has_the_law_of_rows(workflow):
    rows = errors(lineages.RawRows(label, fitted), workflow, n_replicates=3000)
    gram = errors(regression.LeastSquares(3, noise=0.5), workflow, n_replicates=3000, seed=2)
    assert stats.ks_2samp(rows[-1], gram[-1]).pvalue > ALARM


@pytest.mark.parametrize("workflow", [FreshData(0.25), AccumulateSubsample()])
def test_mixed_workflows_approach_the_first_order_law(workflow):
    # With T far above d, only a relative error of order d/T is left; 4 d/T covers it.
    dim, size, length = 2, 200, 6
    plan = {"n_samples": size, "n_generations": length}
    run = errors(lineages.RawRows(label, fitted), workflow, dim=dim, n_replicates=1500, **plan)[-1]
    unit = regression.fit_error(dim, size, 0.5)
    known = kinship.moments(workflow, **plan, write=lambda mean, var: (mean, 1.0))
    law = size * known[0][-1]
    width = stats.norm.isf(ALARM / 2) * run.std() / np.sqrt(len(run)) / unit
    assert abs(run.mean() / unit - law) < width + law * 4 * dim / size


def test_fresh_rows_among_labels_of_the_last_fit():
    # The previous error is a shift in the labels of the other rows.
    law = [regression.fit_error(4, 12, 0.5)]
    rows = {"dim": 4, "n_real": 3, "n_model": 9, "noise": 0.5}
    while len(law) < 6:
        law.append(regression.mislabelled_error(**rows, shift=law[-1]))
    run = errors(regression.LeastSquares(4, noise=0.5), FreshData(0.25), dim=4, n_replicates=12_000)
    assert_mean(run[[1, 2, 6]], np.array(law)[[0, 1, 5]])


# ------------------------------------------------------------------ wrong labels


@pytest.mark.parametrize(
    ("dim", "n_real", "n_model"), [(1, 5, 6), (2, 0, 12), (4, 9, 5), (6, 40, 3)]
)
def test_mislabelled_error_is_exact(dim, n_real, n_model):
    rng, shift, noise = np.random.default_rng(4), 2.0, 0.2
    x = rng.standard_normal((6000, n_real + n_model, dim))
    y = np.sqrt(noise) * rng.standard_normal((6000, n_real + n_model, 1))
    delta = np.sqrt(shift / dim) * rng.standard_normal((6000, dim, 1))
    y[:, :n_model] += x[:, :n_model] @ delta
    raw = (fitted(np.concatenate([x, y], axis=2)) ** 2).sum(axis=1)
    rows = {"dim": dim, "n_real": n_real, "n_model": n_model}
    assert_mean(raw, regression.mislabelled_error(**rows, shift=shift, noise=noise))


def test_mislabelled_error_in_the_limits():
    for n_model in (0, 200):
        # All rows alike: the fit errs by the whole shift.
        error = regression.mislabelled_error(
            dim=5, n_real=200 - n_model, n_model=n_model, shift=3.0, noise=0.5
        )
        law = regression.fit_error(5, 200, 0.5) + (3.0 if n_model else 0.0)
        assert_within(error, law, bound(12, law))
    floor = {"dim": 5, "n_real": 9 * 10**8, "n_model": 10**8, "shift": 2.0}
    of_order = (1.0 + 2.0) * 5 / 10**9  # (noise + shift) d / n
    assert_within(regression.mislabelled_error(**floor), 0.01 * 2.0, of_order)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="n_samples must be at least dim \\+ 2 = 5, got 4"):
        regression.fit_error(3, 4)
    with pytest.raises(ValueError, match="n_samples must be an integer >= 3, got 2"):
        errors(regression.LeastSquares(3), None, n_samples=2)
    with pytest.raises(ValueError, match="n_samples must be constant with the same inputs"):
        errors(regression.LeastSquares(3, same_inputs=True), None, n_samples=[5] * 5 + [6])
    with pytest.raises(ValueError, match="3 of 24 rows are chosen from rows only"):
        errors(regression.LeastSquares(3), AccumulateSubsample(), n_samples=[21] + [3] * 5)
    with pytest.raises(ValueError, match="n_samples must be at least dim"):
        regression.mislabelled_error(dim=5, n_real=3, n_model=3, shift=1.0)
    with pytest.raises(ValueError, match="noise must be"):
        regression.fit_error(3, 10, -1.0)
