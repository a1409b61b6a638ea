"""Densities on the line: scipy's methods and integrals; kernel estimates against scikit-learn."""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import integrate, stats
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neighbors import KernelDensity

from collapse_utils.lineages import generations
from collapse_utils.models import density
from collapse_utils.models.density import Kernels, NormalMixture, expect, kl, project

Z = 4.5  # two-sided false-alarm rate 7e-6 per comparison, about 30 comparisons in this file
TWO = NormalMixture([-2, 2], [1, 1])
UNEVEN = NormalMixture([-1, 0.5, 6], [0.3, 2, 0.05], [0.2, 0.5, 0.3])
LAWS = {
    "two": TWO,
    "uneven": UNEVEN,
    "far and narrow": NormalMixture([-25, 25], [0.05, 0.05]),
    "laplace": stats.laplace(scale=np.sqrt(0.5)),
    "t5": stats.t(5, scale=np.sqrt(3 / 5)),
}


def near(values, law, axis=-1):
    values = np.asarray(values)
    se = values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis])
    assert (se > 0).all()
    np.testing.assert_array_less(np.abs(values.mean(axis=axis) - law), Z * se)


# --------------------------------------------------------------------------- densities


def test_mixture_is_the_weighted_sum_of_scipys_normals():
    x = np.linspace(-20, 20, 301)
    parts = list(zip(UNEVEN.weights, UNEVEN.means, UNEVEN.sds, strict=True))
    for name in ("pdf", "sf"):
        law = sum(w * getattr(stats.norm(m, s), name)(x) for w, m, s in parts)
        # An exponent z^2 / 2 of up to 1e5 is rounded, and with it the exponential.
        exponent = ((x[:, None] - UNEVEN.means) ** 2 / (2 * UNEVEN.sds**2)).max(axis=1)
        limit = bound(3 * (2 * CALL)) * law + bound(4) * exponent * law
        assert_within(getattr(UNEVEN, name)(x), law, limit + np.finfo(float).tiny)


def test_draws_have_the_law_of_the_mixture():
    rows = UNEVEN.rvs(20_000, np.random.default_rng(1))
    assert stats.kstest(UNEVEN.sf(rows), "uniform").pvalue > 1e-5
    assert stats.kstest(TWO.sf(rows), "uniform").pvalue < 1e-5
    near(rows, UNEVEN.mean())
    near((rows - UNEVEN.mean()) ** 2, UNEVEN.var())


@pytest.mark.parametrize("p", LAWS.values(), ids=LAWS)
def test_integrals_lie_within_their_error(p):
    one, second = expect(p, np.ones_like), expect(p, lambda x: (x - p.mean()) ** 2)
    assert_within(one.value, 1, one.error)
    # A panel's relative error is that of its rule, and the truth's own methods round as well.
    assert_within(second.value, p.var(), second.error + bound(8 * CALL) * p.var())
    assert one.error < 1e-9


def test_divergence_of_two_gaussians_in_closed_form():
    a, b = NormalMixture([1], [2]), NormalMixture([-0.5], [0.5])
    law = np.log(0.5 / 2) + (2**2 + 1.5**2) / (2 * 0.5**2) - 0.5
    assert_within(kl(a, b).value, law, kl(a, b).error)


def test_entropy_gap_of_a_laplace_truth():
    jump = kl(LAWS["laplace"], project(LAWS["laplace"]))
    assert_within(jump.value, 0.5 * np.log(np.pi * np.e) - 1, 2 * jump.error)


def test_error_estimate_covers_a_feature_that_the_panels_cut():
    rough = density._integrate(lambda x: np.exp(-0.5 * (x / 0.03) ** 2), [-1.0, 1.3, 3.0])
    assert_within(rough.value, 0.03 * np.sqrt(2 * np.pi), rough.error)


@pytest.mark.parametrize("p", [TWO, UNEVEN, LAWS["laplace"]], ids=["two", "uneven", "laplace"])
def test_projection_beats_its_neighbours_and_is_idempotent(p):
    best = project(p)
    jump = kl(p, best)
    for shift, scale in ((0.1, 1), (0, 1.1), (-0.05, 0.9)):
        sd = best.sds[0]
        other = NormalMixture(best.means + shift * sd, [scale * sd])
        assert kl(p, other).value > jump.value + jump.error
    again = project(best)
    moment = expect(best, lambda x: (x - best.mean()) ** 2)
    assert_within(again.var(), best.var(), moment.error)


# --------------------------------------------------------------------------- kernel estimates


def test_density_and_moments_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    rows = rng.standard_t(4, (3, 40))
    fit = Kernels.fit(rows, 0.3)
    x = np.linspace(-12, 12, 4001)
    for r, row in enumerate(rows):
        log_density = KernelDensity(bandwidth=0.3).fit(row[:, None]).score_samples(x[:, None])
        # An exponential has the error of its exponent, which scikit-learn adds up in 40 logarithms.
        exponent = np.abs(log_density)
        limit = bound(40 * (CALL + 2 * exponent)) * np.exp(log_density)
        assert_within(fit.pdf(x)[r], np.exp(log_density), limit + 40 * np.finfo(float).tiny)
        mixture = NormalMixture(row, np.full(40, 0.3))
        assert_within(fit.mean()[r], mixture.mean(), bound(2 * 40) * np.abs(row).max())
        np.testing.assert_allclose(fit.var()[r], mixture.var(), rtol=bound(2 * (40 + 4)))
        outside = 1 - mixture.sf(-1) + mixture.sf(2)  # absolute: no tail needs its own digits
        assert_within(fit.outside(-1, 2)[r], outside, bound(2 * (40 + 2 * CALL)))


def test_draws_have_the_law_of_scikit_learn():
    rng = np.random.default_rng(2)
    rows = rng.random((1, 50))
    fit = Kernels.fit(np.repeat(rows, 20, axis=0), 0.05)
    ours = fit.sample(500, rng).ravel()
    oracle = KernelDensity(bandwidth=0.05).fit(rows.T)
    theirs = oracle.sample(len(ours), random_state=3).ravel()
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-5
    wider = KernelDensity(bandwidth=0.2).fit(rows.T)
    assert stats.ks_2samp(ours, wider.sample(len(ours), random_state=3).ravel()).pvalue < 1e-5


def test_variance_is_preserved():
    rows = np.random.default_rng(3).exponential(size=(5, 30))
    kept = Kernels.fit(rows, lambda rows: rows.std(axis=1), preserve=True)
    # Sums of 30 positive terms, two at most in a row, each term with a few roundings of its own.
    limit = bound(2 * 2 * (30 + CALL))
    np.testing.assert_allclose(kept.var(), rows.var(axis=1), rtol=limit)
    np.testing.assert_allclose(kept.mean(), rows.mean(axis=1), rtol=limit)


def test_loop_of_a_smoother_adds_its_variance_each_time():
    n, h, m = np.array([1, 2, 5, 10]), 0.2, 30
    plan = {"n_samples": m, "n_generations": 10, "n_replicates": 4000}
    family = density.smoother(h)
    _, *fits = generations(family, stats.uniform(), **plan, rng=np.random.default_rng(10))
    mean, var = (np.array([getattr(fits[k - 1], of)() for k in n]) for of in ("mean", "var"))
    near(var + (mean - 0.5) ** 2, 1 / 12 + n * h**2)
    keep = (1 - 1 / m) ** n
    near(var, keep / 12 + m * h**2 * (1 - keep))
    assert all((fit.bandwidth == h).all() and fit.centres.shape == (4000, m) for fit in fits)


# --------------------------------------------------------------------------- cross-validation


def test_likelihood_chooses_what_scikit_learn_chooses():
    rng = np.random.default_rng(5)
    rows = np.stack([rng.random(40), rng.standard_t(3, 40), np.exp(rng.standard_normal(40))])
    grid, likelihood, _ = density._leave_one_out(rows, 1e-2)
    chosen = density.cross_validated("likelihood", floor=1e-2)(rows)
    for r, row in enumerate(rows):
        sd = row.std(ddof=1)
        search = GridSearchCV(
            KernelDensity(rtol=0, atol=0), {"bandwidth": grid * sd}, cv=LeaveOneOut()
        ).fit(row[:, None])
        scores = search.cv_results_["mean_test_score"]
        gaps = np.abs(row[:, None] - row) / sd + np.diag(np.full(40, np.inf))
        farthest = gaps.min(axis=1).max() ** 2 / (2 * grid**2)
        finite = farthest < -np.log(np.finfo(float).tiny)  # below, kernels lose digits or vanish
        # Squaring seven times doubles an exponential's error seven times; scikit-learn's logarithm
        # of a sum takes 39 steps, each with the rounding of the largest exponent.
        limit = bound(2**7 * CALL + 2 * 40 * (CALL + farthest[finite]))
        assert_within(likelihood[finite, r] - np.log(sd), scores[finite], limit)
        best = search.best_params_["bandwidth"]
        np.testing.assert_allclose(chosen[r], best, rtol=bound(2 * (40 + 2)))


def test_least_squares_criterion_by_quadrature():
    rows = np.random.default_rng(6).standard_normal((2, 25))
    grid, _, squares = density._leave_one_out(rows, 1e-2)
    for at in (5, 15, 25):
        for r, row in enumerate(rows / rows.std(axis=1, ddof=1, keepdims=True)):
            h = grid[at]
            whole = Kernels.fit(row[None], h)
            x = np.linspace(row.min() - 10 * h, row.max() + 10 * h, 2_001)
            square = integrate.simpson(whole.pdf(x)[0] ** 2, x=x)
            left_out = [
                Kernels.fit(np.delete(row, i)[None], h).pdf(row[[i]])[0, 0] for i in range(25)
            ]
            # At least six nodes per bandwidth: Simpson's rule is exact but for its sum of 2001.
            law = square - 2 * np.mean(left_out)
            limit = bound(2_001 + 2**7 * CALL) * (square + 2 * np.mean(left_out))
            assert_within(squares[at, r], law, limit)


def test_blocks_of_replicates_change_nothing(monkeypatch):
    rows = np.random.default_rng(7).random((7, 20))
    grid, likelihood, squares = density._leave_one_out(rows, 1e-3)
    monkeypatch.setattr(density, "_BLOCK", 2 * 20**2)
    again = density._leave_one_out(rows, 1e-3)
    # Sums over 20 rows and 20 pairs each, perhaps in another order; 2 / h is the size of what the
    # least-squares criterion takes from each other.
    limit = bound(2 * (2 * 20 + CALL))
    np.testing.assert_array_equal(again[0], grid)
    np.testing.assert_allclose(again[1], likelihood, rtol=limit, atol=limit)
    assert_within(again[2], squares, limit * 2 / grid[:, None])


def test_rows_that_all_have_a_twin_are_memorised():
    rows = np.repeat(np.random.default_rng(8).random((3, 20)), 2, axis=1)
    for criterion in ("likelihood", "least squares"):
        h = density.cross_validated(criterion, floor=1e-4)(rows)
        np.testing.assert_array_less(h, 1.5e-4 * rows.std(axis=1, ddof=1))


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NormalMixture([0, 1], [1]), "lists of one length"),
        (lambda: NormalMixture([0], [-1]), "sds > 0"),
        (lambda: NormalMixture([0, 1], [1, 1], [0.5, 0.6]), "weights must sum to 1"),
        (lambda: density.cross_validated("ml"), "criterion must be one of .* got 'ml'"),
        (lambda: density.cross_validated(floor=0), "floor must be .* got 0"),
        (lambda: Kernels.fit(np.zeros((2, 5)), lambda rows: rows.std(axis=1)), "got .0. 0"),
        (lambda: Kernels.fit(np.zeros((2, 5)), -1), "bandwidth must be .* got .-1. -1"),
        (lambda: Kernels.fit(np.zeros(5), 1), r"shape .* got \(5,\)"),
        (lambda: Kernels.fit([[0, np.nan]], 1), "finite"),
        (lambda: density._leave_one_out(np.ones((1, 5)), 0.1), "rows must differ"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
