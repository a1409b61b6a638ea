"""Density loops: the vectorised path against scikit-learn, and every law against the loop."""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound, sum_condition
from scipy import integrate, stats
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neighbors import KernelDensity

from collapse_utils import functional
from collapse_utils.models import density

Z = 4.5  # two-sided false-alarm rate 7e-6 per comparison, about 100 comparisons in this file

UNIT = stats.uniform()
THREE = functional.NormalMixture([-2, 0, 2], [0.4, 0.5, 0.3], [0.3, 0.4, 0.3])
SKEWED = stats.beta(3, 6)


def near(values, law, axis=-1):
    values = np.asarray(values)
    se = values.std(axis=axis, ddof=1) / np.sqrt(values.shape[axis])
    assert (se > 0).all()
    np.testing.assert_array_less(np.abs(values.mean(axis=axis) - law), Z * se)


# --------------------------------------------------------------------------- kernel estimates


def test_density_and_moments_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    rows = rng.standard_t(4, (3, 40))
    fit = density.fit_kernels(rows, density.fixed(0.3))
    x = np.linspace(-12, 12, 4001)
    for r, row in enumerate(rows):
        log_density = KernelDensity(bandwidth=0.3).fit(row[:, None]).score_samples(x[:, None])
        # An exponential has the error of its exponent, which scikit-learn adds up in 40 logarithms.
        exponent = np.abs(log_density)
        limit = bound(40 * (CALL + 2 * exponent)) * np.exp(log_density)
        assert_within(fit.pdf(x)[r], np.exp(log_density), limit + 40 * np.finfo(float).tiny)
        mixture = functional.NormalMixture(row, np.full(40, 0.3))
        assert_within(fit.mean()[r], mixture.mean(), bound(2 * 40) * np.abs(row).max())
        np.testing.assert_allclose(fit.var()[r], mixture.var(), rtol=bound(2 * (40 + 4)))
        outside = mixture.cdf(-1) + mixture.sf(2)  # absolute: no tail needs its own digits
        assert_within(fit.outside(-1, 2)[r], outside, bound(2 * (40 + 2 * CALL)))
        gap = x - mixture.mean()
        fourth = integrate.simpson(mixture.pdf(x) * gap**4, x=x)
        # Simpson's rule with 50 nodes per bandwidth is exact but for the rounding of its sum.
        np.testing.assert_allclose(fit.fourth()[r], fourth, rtol=bound(len(x) + 40 + 4 * CALL))


def test_draws_have_the_law_of_scikit_learn():
    rng = np.random.default_rng(2)
    rows = rng.random((1, 50))
    fit = density.fit_kernels(np.repeat(rows, 200, axis=0), density.fixed(0.05))
    ours = fit.sample(rng).ravel()
    oracle = KernelDensity(bandwidth=0.05).fit(rows.T)
    theirs = oracle.sample(len(ours), random_state=3).ravel()
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-5
    wider = KernelDensity(bandwidth=0.2).fit(rows.T)
    assert stats.ks_2samp(ours, wider.sample(len(ours), random_state=3).ravel()).pvalue < 1e-5


def test_variance_is_preserved_and_shape_is_that_of_the_estimate():
    rows = np.random.default_rng(3).exponential(size=(5, 30))
    plain = density.fit_kernels(rows, density.rule_of_thumb(2))
    kept = density.fit_kernels(rows, density.rule_of_thumb(2), preserve=True)
    # Sums of 30 positive terms, two at most in a row, each term with a few roundings of its own.
    limit = bound(2 * 2 * (30 + CALL))
    np.testing.assert_allclose(kept.var(), rows.var(axis=1), rtol=limit)
    np.testing.assert_allclose(kept.mean(), rows.mean(axis=1), rtol=limit)
    shape = plain.fourth() / plain.var() ** 2
    np.testing.assert_allclose(kept.fourth() / kept.var() ** 2, shape, rtol=3 * limit)


def test_rule_of_thumb_is_scipys():
    rows = np.random.default_rng(4).standard_normal((4, 60)) * [[1], [2], [30], [0.1]]
    ours = density.rule_of_thumb()(rows)
    theirs = [np.sqrt(stats.gaussian_kde(row, "silverman").covariance[0, 0]) for row in rows]
    np.testing.assert_allclose(ours, theirs, rtol=bound(2 * (60 + 2 * CALL)))


# --------------------------------------------------------------------------- cross-validation


def test_likelihood_chooses_what_scikit_learn_chooses():
    rng = np.random.default_rng(5)
    rows = np.stack([rng.random(40), rng.standard_t(3, 40), np.exp(rng.standard_normal(40))])
    grid, likelihood, _ = density.leave_one_out(rows, floor=1e-2)
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
    grid, _, squares = density.leave_one_out(rows, floor=1e-2)
    for at in (5, 15, 25):
        for r, row in enumerate(rows / rows.std(axis=1, ddof=1, keepdims=True)):
            h = grid[at]
            whole = density.fit_kernels(row[None], density.fixed(h))
            x = np.linspace(row.min() - 10 * h, row.max() + 10 * h, 2_001)
            square = integrate.simpson(whole.pdf(x)[0] ** 2, x=x)
            left_out = [
                density.fit_kernels(np.delete(row, i)[None], density.fixed(h)).pdf(row[[i]])[0, 0]
                for i in range(25)
            ]
            # At least six nodes per bandwidth: Simpson's rule is exact but for its sum of 2001.
            law = square - 2 * np.mean(left_out)
            limit = bound(2_001 + 2**7 * CALL) * (square + 2 * np.mean(left_out))
            assert_within(squares[at, r], law, limit)


def test_blocks_of_replicates_change_nothing(monkeypatch):
    rows = np.random.default_rng(7).random((7, 20))
    grid, likelihood, squares = density.leave_one_out(rows)
    monkeypatch.setattr(density, "_BLOCK", 2 * 20**2)
    again = density.leave_one_out(rows)
    # Sums over 20 rows and 20 pairs each, perhaps in another order; 2 / h is the size of what the
    # least-squares criterion takes from each other.
    limit = bound(2 * (2 * 20 + CALL))
    np.testing.assert_array_equal(again[0], grid)
    np.testing.assert_allclose(again[1], likelihood, rtol=limit, atol=limit)
    assert_within(again[2], squares, limit * 2 / grid[:, None])


@pytest.mark.parametrize("m", [10, 40, 101])
def test_tied_pairs_decide_whether_least_squares_has_an_optimum(m):
    limit = density.tie_limit(m)
    rng = np.random.default_rng(m)
    for pairs in (int(np.floor(limit)), int(np.floor(limit)) + 1):
        rows = rng.random((3, m))
        rows[:, : 2 * pairs : 2] = rows[:, 1 : 2 * pairs : 2]  # disjoint tied pairs
        at_floor = density.cross_validated("least squares", floor=1e-7)(rows) < 1e-6
        assert (at_floor == (pairs > limit)).all()


def test_rows_that_all_have_a_twin_are_memorised_by_likelihood_too():
    rows = np.repeat(np.random.default_rng(8).random((3, 20)), 2, axis=1)
    h = density.cross_validated("likelihood", floor=1e-4)(rows)
    np.testing.assert_array_less(h, 1.5e-4 * rows.std(axis=1, ddof=1))


def test_share_of_copies_gives_the_expected_number_of_tied_pairs():
    m, r, c = 60, 4000, 0.3
    copies = density.copy_rows(np.tile(np.arange(m), (r, 1)), c, np.random.default_rng(9))
    pairs = [(np.bincount(row) * (np.bincount(row) - 1)).sum() / 2 for row in copies]
    near(pairs, (m - 1) / 2 * (1 - (1 - c) ** 2))
    assert (density.copy_rows(copies, 0.0, np.random.default_rng(9)) == copies).all()


# --------------------------------------------------------------------------- laws of kernel loops

POINTS = np.array([1, 2, 5, 10])


@pytest.mark.parametrize("m", [5, 50])
def test_fixed_bandwidth(m):
    h = 0.2
    paths = density.simulate(
        UNIT, density.fixed(h), n_samples=m, n_generations=10, n_replicates=4000,
        rng=np.random.default_rng(m), watch=lambda k: k.outside(0, 1),
    )  # fmt: skip
    near(paths.var[POINTS], functional.smoother_variance(POINTS, m, h, 1 / 12))
    near(paths.var[POINTS] + (paths.mean[POINTS] - 0.5) ** 2, 1 / 12 + POINTS * h**2)
    near(paths.watched[POINTS - 1], density.outside_unit(POINTS, h))
    assert (paths.bandwidth == h).all()
    assert paths.rows.shape == (4000, m)


def test_outside_unit_by_quadrature_and_its_square_root_law():
    for n, h in ((1, 0.05), (7, 0.2), (50, 0.3)):
        t = h * np.sqrt(n)
        half, error = integrate.quad(lambda u, t=t: stats.norm.cdf(-u / t), 0, 1)
        assert_within(density.outside_unit(n, h), 2 * half, 2 * error + bound(8 * CALL))
    t = 0.02 * np.sqrt([1, 10, 100])
    root = 2 * t / np.sqrt(2 * np.pi)
    # What it leaves out, t phi(1/t) - Phi(-1/t), is below t^3 phi(1/t) by Mills' ratio.
    limit = t**2 * np.exp(-0.5 / t**2) + bound(4 * CALL)
    assert_within(density.outside_unit([1, 10, 100], 0.02), root, limit * root)
    assert 2 * 0.1 * np.sqrt(50 / (2 * np.pi)) > 1.09 * density.outside_unit(50, 0.1)


@pytest.mark.parametrize("preserve", [False, True])
@pytest.mark.parametrize("factor", [0.5, density.SILVERMAN])
def test_bandwidth_in_proportion_to_the_spread(factor, preserve):
    m = 40
    paths = density.simulate(
        UNIT, density.rule_of_thumb(factor), n_samples=m, n_generations=10, n_replicates=8000,
        rng=np.random.default_rng(10), preserve=preserve, watch=density.Kernels.fourth,
    )  # fmt: skip
    var, fourth = 12 * paths.var[POINTS], 144 * paths.watched[POINTS - 1]
    near(var, (1 - 1 / m) ** POINTS if preserve else density.growth(m, factor) ** POINTS)
    laws = [
        density.expected_moments(n, m, factor, preserve=preserve, kurtosis=-1.2) for n in POINTS
    ]
    near(var**2, [square for square, _ in laws])
    near(fourth, [moment for _, moment in laws])


def test_kernel_ise():
    h, m = 0.3, 40
    paths = density.simulate(
        THREE, density.fixed(h), n_samples=m, n_generations=10, n_replicates=1500,
        rng=np.random.default_rng(11), watch=lambda k: density.kernel_ise(k, THREE),
    )  # fmt: skip
    near(paths.watched[POINTS - 1], [density.expected_kernel_ise(n, m, h, THREE) for n in POINTS])
    fit = density.fit_kernels(paths.rows[:2], density.fixed(h))
    for r, row in enumerate(paths.rows[:2]):
        by_quadrature = functional.l2(functional.NormalMixture(row, np.full(m, h)), THREE)
        # Sums of m^2 densities, in all no more than 2 / sqrt(4 pi h^2) = 1.9.
        limit = by_quadrature.error + bound(m**2 + 4 * CALL, 1.9)
        assert_within(density.kernel_ise(fit, THREE)[r], by_quadrature.value, limit)


def test_kernel_ise_with_unlimited_data_is_that_of_the_smoother():
    smoothed = functional.unlimited(THREE, functional.smooth(0.2), 5)[5]
    law = density.expected_kernel_ise(5, 10**9, [0.2], THREE)
    # Two draws meet in one row with a chance below 5 / m, and then lie at least as close as two
    # kernels of one row do.
    limit = functional.l2(THREE, smoothed).error + 5 / 10**9 / np.sqrt(4 * np.pi * 0.2**2)
    assert_within(law[0], functional.l2(THREE, smoothed).value, limit)


# --------------------------------------------------------------------------- histograms

BINS, GENERATIONS = (1, 2, 4, 7, 12, 25), (1, 3, 10, 40)


@pytest.mark.parametrize("n_bins", BINS)
def test_ise_law_at_24_pairs_of_bins_and_generations(n_bins):
    m = 100
    histogram = density.Histogram(SKEWED, n_bins)
    shares = histogram.simulate(
        n_samples=m, n_generations=40, n_replicates=2000, rng=np.random.default_rng(n_bins)
    )
    ise = histogram.ise(shares[list(GENERATIONS)])
    law = histogram.expected_ise(GENERATIONS, m)
    if n_bins == 1:  # one bin has no statistical error
        np.testing.assert_allclose(ise, histogram.bias(), rtol=bound(4))
        np.testing.assert_allclose(law, histogram.bias(), rtol=bound(4))
        return
    near(ise, law)
    rival = histogram.bias() + (law - histogram.bias())[0]  # the sample errs once only
    se = ise[-1].std() / np.sqrt(ise.shape[1])
    assert abs(ise[-1].mean() - rival) > Z * se


def test_counts_suffice_and_ise_is_the_integral():
    rng = np.random.default_rng(12)
    histogram = density.Histogram(SKEWED, 6)
    rows = SKEWED.rvs((3000, 50), random_state=rng)
    for _ in range(3):  # draw every row, as a reader would
        counts = np.stack([np.histogram(row, 6, (0, 1))[0] for row in rows])
        which = np.stack([rng.choice(6, 50, p=c / 50) for c in counts])
        rows = (which + rng.random(which.shape)) / 6
    near(histogram.ise(counts / 50), histogram.expected_ise(3, 50))
    bins = [
        integrate.quad(lambda x, c=c: (c / 50 * 6 - SKEWED.pdf(x)) ** 2, b / 6, (b + 1) / 6)
        for b, c in enumerate(counts[0])
    ]
    integral, error = np.sum(bins, axis=0)
    # The closed form takes the integral of the truth's square, by quadrature, from what it adds.
    square = functional.expect(SKEWED, SKEWED.pdf)
    limit = error + square.error + bound(2 * (6 + 4 * CALL)) * (2 * square.value + integral)
    assert_within(histogram.ise(counts[0] / 50), integral, limit)


def test_one_generation_of_fewer_rows_does_as_well():
    histogram = density.Histogram(SKEWED, 9)
    m = float(density.effective_samples(99, 100))
    power = bound(99 + 3 * CALL)  # 0.99 is rounded, and multiplied 99 times
    np.testing.assert_allclose(1 / m, 1 - 0.99**99, rtol=power)
    bias = histogram.bias()
    spread = histogram.expected_ise(1, 1000) - bias
    later = histogram.expected_ise(99, 100) - bias
    cancelled = bound(2 * (9 + 3), sum_condition([bias + spread, -bias]))
    np.testing.assert_allclose(later * m, spread * 1000, rtol=power + cancelled)


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: density.fixed(0.0), r"bandwidth must be .* got 0\.0"),
        (lambda: density.fixed(-0.3), r"bandwidth must be .* got -0\.3"),
        (lambda: density.rule_of_thumb(-1), r"factor must be .* got -1"),
        (lambda: density.cross_validated("ml"), "criterion must be one of .* got 'ml'"),
        (lambda: density.cross_validated(floor=0), "floor must be .* got 0"),
        (lambda: density.Histogram(SKEWED, 0), "n_bins must be an integer >= 1, got 0"),
        (lambda: density.Histogram(SKEWED, 2.5), "n_bins must be an integer >= 1, got 2.5"),
        (lambda: density.Histogram(SKEWED, 3, high=0.5), "leave out 0.14"),
        (lambda: density.Histogram(SKEWED, 3, low=1, high=1), "high must be .* got 1"),
        (lambda: density.fit_kernels(np.zeros((2, 5)), density.rule_of_thumb()), "got .0. 0"),
        (lambda: density.fit_kernels(np.zeros(5), density.fixed(1)), r"shape .* got \(5,\)"),
        (lambda: density.fit_kernels([[0, np.nan]], density.fixed(1)), "finite"),
        (lambda: density.leave_one_out(np.ones((1, 5))), "rows must differ"),
    ],
)  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_samples": 1}, "n_samples must be an integer >= 2, got 1"),
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": -1}, "n_replicates must be an integer >= 1, got -1"),
        ({"copied": 1.5}, r"copied must be .* got 1\.5"),
        ({"rng": 3}, "rng must be .* got 3"),
    ],
)
def test_bad_loop(change, message):
    good = {"n_samples": 5, "n_generations": 1, "n_replicates": 1, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        density.simulate(UNIT, density.fixed(0.1), **{**good, **change})
