"""The exact Gaussian simulators against brute force and against closed forms.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points when it has several. Seeds are fixed, so a check that passes once passes always.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from intervals import assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats
from scipy.special import digamma, polygamma

from collapse_utils import (
    Accumulate,
    FreshData,
    Mix,
    Replace,
    lineages,
    recurse,
)
from collapse_utils.models import gaussian
from collapse_utils.workflows import AccumulateSubsample

ALARM = 1e-4

WORKFLOWS = {
    "replace": Replace(),
    "fresh": FreshData(0.3),
    "all fresh": FreshData(1),
    "accumulate": Accumulate(),
    "mix with a fixed subset": Mix(0.6, gamma=0.4, redraw=False),
}
# A schedule where sizes rise, repeat and fall; Mix keeps 4 original rows at sizes 9, 10 and 11.
SCHEDULES = {"constant": [10] * 5, "schedule": [11, 9, 9, 10, 11]}

cases = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
both_ddof = pytest.mark.parametrize("ddof", [0, 1])


def uniform(p_values):
    """P-value of the hypothesis that these p-values are uniform (KS of KS)."""
    return stats.kstest(p_values, "uniform").pvalue


def normal_rows(n, rng):
    return rng.standard_normal(n)


def brute_force(workflow, sizes, n_replicates, ddof, rng):
    """Mean and variance of the last fit, from raw rows that go round the one loop."""
    history = recurse(
        gaussian.Gaussian(ddof),
        normal_rows,
        workflow=workflow,
        n_samples=sizes,
        n_generations=len(sizes),
        n_replicates=n_replicates,
        n_eval=1,
        metrics={
            "mean": lambda s: s.model.mean_[0] if s.model else 0.0,
            "var": lambda s: s.model.cov_[0, 0] if s.model else 1.0,
        },
        rng=rng,
    )
    return history.array("mean")[-1], history.array("var")[-1]


# ------------------------------------------------------------------ the same law, by simulation


@cases
@both_ddof
@pytest.mark.parametrize("sizes", SCHEDULES.values(), ids=SCHEDULES)
def test_exact_and_every_sample_have_the_same_law(workflow, ddof, sizes):
    p_mean, p_var = [], []
    for seed in range(30):
        exact, drawn = (
            gaussian.simulate(
                workflow,
                n_samples=sizes,
                n_generations=len(sizes),
                n_replicates=1000,
                ddof=ddof,
                rng=rng,
                every_sample=every_sample,
            )
            for rng, every_sample in zip(
                np.random.default_rng(seed).spawn(2), (False, True), strict=True
            )
        )
        p_mean.append(stats.ks_2samp(exact.mean[-1], drawn.mean[-1], method="asymp").pvalue)
        p_var.append(stats.ks_2samp(exact.var[-1], drawn.var[-1], method="asymp").pvalue)
    assert uniform(p_mean) > ALARM
    assert uniform(p_var) > ALARM


@cases
@both_ddof
def test_exact_has_the_law_of_the_loop_on_raw_rows(workflow, ddof):
    sizes = SCHEDULES["schedule"]
    p_mean, p_var = [], []
    for seed in range(12):
        rng_exact, rng_rows = np.random.default_rng(seed).spawn(2)
        exact = gaussian.simulate(
            workflow,
            n_samples=sizes,
            n_generations=len(sizes),
            n_replicates=3000,
            ddof=ddof,
            rng=rng_exact,
        )
        mean, var = brute_force(workflow, sizes, 60, ddof, rng_rows)
        p_mean.append(stats.ks_2samp(exact.mean[-1], mean).pvalue)
        p_var.append(stats.ks_2samp(exact.var[-1], var).pvalue)
    assert uniform(p_mean) > ALARM
    assert uniform(p_var) > ALARM


def test_the_comparison_tells_neighbouring_laws_apart():
    """Power: M = 11 is not M = 10, and ddof = 0 is not ddof = 1."""
    p_size, p_ddof = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        drawn, size, ddof = (
            gaussian.simulate(n_generations=5, n_replicates=2000, rng=rng, **kind).var[-1]
            for kind in (
                {"n_samples": 10, "every_sample": True},
                {"n_samples": 11},
                {"n_samples": 10, "ddof": 0},
            )
        )
        p_size.append(stats.ks_2samp(drawn, size, method="asymp").pvalue)
        p_ddof.append(stats.ks_2samp(drawn, ddof, method="asymp").pvalue)
    assert uniform(p_size) < ALARM
    assert uniform(p_ddof) < ALARM


@pytest.mark.parametrize("dim", [2, 3])
@both_ddof
def test_bartlett_has_the_law_of_the_loop_on_raw_rows(dim, ddof):
    sizes = [8, 7, 9]
    looks = {
        "log det": lambda mean, cov: np.linalg.slogdet(cov)[1],
        "trace": lambda mean, cov: np.trace(cov, axis1=-2, axis2=-1),
        "largest": lambda mean, cov: np.linalg.eigvalsh(cov)[..., -1],
        "off the diagonal": lambda mean, cov: cov[..., 0, 1],
        "last variance": lambda mean, cov: cov[..., -1, -1],
        "distance": lambda mean, cov: (mean**2).sum(axis=-1),
    }
    p_values = {name: [] for name in looks}
    for seed in range(12):
        rng_exact, rng_rows = np.random.default_rng(seed).spawn(2)
        exact = gaussian.simulate_nd(
            dim=dim, n_samples=sizes, n_generations=3, n_replicates=3000, ddof=ddof, rng=rng_exact
        )
        models = recurse(
            gaussian.Gaussian(ddof),
            lambda n, rng: rng.standard_normal((n, dim)),
            n_samples=sizes,
            n_generations=3,
            n_replicates=60,
            n_eval=1,
            rng=rng_rows,
        ).models.values()
        mean = np.array([model.mean_ for model in models])
        cov = np.array([model.cov_ for model in models])
        for name, look in looks.items():
            pair = look(exact.mean[-1], exact.cov[-1]), look(mean, cov)
            p_values[name].append(stats.ks_2samp(*pair).pvalue)
    for name, values in p_values.items():
        assert uniform(values) > ALARM / len(looks), name


@both_ddof
def test_one_dimension_of_bartlett_is_the_scalar_simulator(ddof):
    p_mean, p_var = [], []
    for seed in range(30):
        first, second = np.random.default_rng(seed).spawn(2)
        common = {"n_samples": [5, 6, 9, 9], "n_generations": 4, "n_replicates": 2000, "ddof": ddof}
        scalar = gaussian.simulate(**common, rng=first)
        matrix = gaussian.simulate_nd(dim=1, **common, rng=second)
        p_mean.append(stats.ks_2samp(scalar.mean[-1], matrix.mean[-1, :, 0], method="asymp").pvalue)
        p_var.append(stats.ks_2samp(scalar.var[-1], matrix.cov[-1, :, 0, 0], method="asymp").pvalue)
    assert uniform(p_mean) > ALARM
    assert uniform(p_var) > ALARM


# ------------------------------------------------------------------ closed forms


@both_ddof
@pytest.mark.parametrize("m", [5, 20, 200])
def test_log_variance_drifts_and_spreads_by_the_law(m, ddof):
    n = np.array([1, 3, 10])
    paths = gaussian.simulate(
        n_samples=m, n_generations=10, n_replicates=20_000, ddof=ddof, rng=np.random.default_rng(1)
    )
    logs = np.log(paths.var[n])
    drift = n * gaussian.log_var_drift(m, ddof)
    assert_mean(logs, drift)
    assert_mean((logs - drift[:, None]) ** 2, n * gaussian.log_var_spread(m))


@both_ddof
def test_moments_of_replace_follow_the_closed_forms(ddof):
    m, n = 40, np.array([1, 2, 5, 10])  # n <= M/4: means over lineages still have light tails
    paths = gaussian.simulate(
        n_samples=m, n_generations=10, n_replicates=40_000, ddof=ddof, rng=np.random.default_rng(2)
    )
    assert_mean(paths.var[n], gaussian.expected_var(n, m, ddof))
    assert_mean(paths.sd[n], gaussian.expected_sd(n, m, ddof))
    assert_mean(paths.mean[n], 0.0)
    assert_mean(paths.mean[n] ** 2, gaussian.expected_mean_square(n, m, ddof))
    assert_mean(paths.w2()[n], gaussian.expected_w2(n, m, ddof))


def test_the_published_w2_is_the_first_order_of_the_exact_one():
    n = 40
    gaps = [
        gaussian.expected_w2_published(n, m) / gaussian.expected_w2(n, m) - 1
        for m in (10**3, 10**4, 10**5)
    ]
    assert all(gap > 0 for gap in gaps)
    assert [late / early for early, late in pairwise(gaps)] == pytest.approx([0.1, 0.1], rel=0.02)


def test_the_exact_w2_is_told_apart_from_the_published_one():
    m, n = 20, 20
    w2 = gaussian.simulate(
        n_samples=m, n_generations=n, n_replicates=400_000, rng=np.random.default_rng(3)
    ).w2()[n]
    assert_mean(w2, gaussian.expected_w2(n, m))
    with pytest.raises(AssertionError):
        assert_mean(w2, gaussian.expected_w2_published(n, m))


def test_kl_of_the_fit_follows_the_closed_form():
    m, n = 40, np.array([1, 5, 10])
    paths = gaussian.simulate(
        n_samples=m, n_generations=10, n_replicates=40_000, rng=np.random.default_rng(4)
    )
    kl = 0.5 * (paths.mean[n] ** 2 + paths.var[n] - 1 - np.log(paths.var[n]))
    assert_mean(kl, gaussian.expected_kl(n, m))


@pytest.mark.parametrize("workflow", [Replace(), Accumulate(), FreshData(0.2)], ids=repr)
def test_maximum_likelihood_conserves_within_plus_between(workflow):
    paths = gaussian.simulate(
        workflow,
        n_samples=25,
        n_generations=12,
        n_replicates=30_000,
        ddof=0,
        rng=np.random.default_rng(5),
    )
    n = [1, 4, 12]
    assert_mean(paths.var[n] + paths.mean[n] ** 2, 1.0)


def test_the_conservation_law_is_an_identity_of_the_closed_forms():
    n = np.arange(200)
    total = gaussian.expected_var(n, 9, 0) + gaussian.expected_mean_square(n, 9, 0)
    # Two powers of a base that may differ in its last digit: n (8/9)^n is at most 3.2.
    limit = bound(2 * (CALL + 4))
    np.testing.assert_allclose(total, 1, rtol=limit)
    law = 2 - 2 * gaussian.expected_sd(n, 9, 0)
    assert_within(gaussian.expected_w2(n, 9, 0), law, limit + bound(2 * 4))


def test_variance_of_a_sample_with_constant_and_growing_sizes():
    sizes = [20, 40, 60, 80, 100]
    n = np.array([1, 3, 5])
    for m in (20, sizes):
        paths = gaussian.simulate(
            n_samples=m, n_generations=5, n_replicates=40_000, rng=np.random.default_rng(6)
        )
        assert_mean(paths.var[n] + paths.mean[n] ** 2, gaussian.sample_variance(n, m))
    two = gaussian.sample_variance(2, sizes)
    np.testing.assert_allclose(two, 1 + 1 / 20 + 1 / 40, rtol=bound(2 * 4))
    assert gaussian.sample_variance(0, sizes) == 1


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
@both_ddof
def test_log_det_drifts_by_a_sum_of_digammas(dim, ddof):
    m, n = 10, np.array([1, 4])
    log_det = gaussian.simulate_nd(
        dim=dim,
        n_samples=m,
        n_generations=4,
        n_replicates=20_000,
        ddof=ddof,
        rng=np.random.default_rng(9),
    ).log_det()
    half = (m - np.arange(1, dim + 1)) / 2
    drift = n * (digamma(half) - np.log((m - ddof) / 2)).sum()
    assert_mean(log_det[n], drift)
    assert_mean((log_det[n] - drift[:, None]) ** 2, n * polygamma(1, half).sum())


def test_c4_is_the_mean_of_a_chi():
    m = np.array([2, 3, 10, 100])
    law = stats.chi(m - 1).mean() / np.sqrt(m - 1)
    # Up to nu/2 = 10^4 scipy's poch is the exponential of a difference of two log-gammas.
    assert_within(gaussian.c4(m), law, bound(4 * CALL) * m * np.log(m))
    # Next terms: log c4 = -1/(4 nu) + 1/(24 nu^3) - 1/(20 nu^5) + ..., nu = m - 1.
    for m in (10**3, 10**4, 10**5, 10**6):
        nu = m - 1
        log_c4 = -1 / (4 * nu) + 1 / (24 * nu**3)
        exponent = 1 if nu > 2 * 10**4 else m * np.log(m)
        limit = 1 / (20 * nu**5) + bound(2 * CALL) * exponent
        assert_within(1 - gaussian.c4(m), -np.expm1(log_c4), limit)


def test_log_var_forms_are_moments_of_a_log_chi_square():
    for m in (3, 30):
        log_gamma = stats.loggamma((m - 1) / 2)
        law = log_gamma.mean() - np.log((m - 1) / 2)
        assert_within(gaussian.log_var_drift(m, 1), law, bound(2 * CALL) * 2 * np.log(m))
        spread = gaussian.log_var_spread(m)
        np.testing.assert_allclose(spread, log_gamma.var(), rtol=bound(2 * CALL))


# ------------------------------------------------------------------ shapes, edges, reproducibility


@cases
@pytest.mark.parametrize("every_sample", [False, True])
def test_truth_scales_and_shifts_the_paths(workflow, every_sample):
    common = {
        "n_samples": 10,
        "n_generations": 6,
        "n_replicates": 50,
        "every_sample": every_sample,
    }
    unit = gaussian.simulate(workflow, **common, rng=np.random.default_rng(0))
    moved = gaussian.simulate(workflow, **common, rng=np.random.default_rng(0), mean=-3.0, var=4.0)
    assert unit.mean.shape == unit.var.shape == (7, 50)
    assert (unit.mean[0] == 0).all() and (unit.var[0] == 1).all()
    # A generation rounds a mean, and what it adds to it, about ten times. Pools feel it where they
    # subtract two means, which are larger than the spread they tell apart.
    size = 3 + np.abs(2 * unit.mean)
    assert_within(moved.mean, -3 + 2 * unit.mean, bound(6 * 10) * size.max())
    off = np.abs(moved.var - 4 * unit.var) / moved.var
    assert_within(off, 0, bound(6 * 10) * (1 + size.max() / moved.sd))
    np.testing.assert_allclose(moved.sd**2, moved.var, rtol=bound(3))
    law = (moved.mean + 3) ** 2 + (moved.sd - 2) ** 2
    np.testing.assert_array_equal(moved.w2(), law)


@cases
@pytest.mark.parametrize("every_sample", [False, True])
def test_same_seed_same_paths(workflow, every_sample):
    first, second, other = (
        gaussian.simulate(
            workflow,
            n_samples=10,
            n_generations=4,
            n_replicates=30,
            rng=np.random.default_rng(seed),
            every_sample=every_sample,
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.var, second.var)
    np.testing.assert_array_equal(first.mean, second.mean)
    assert (first.var[1:] != other.var[1:]).all()


@pytest.mark.parametrize("every_sample", [False, True])
@pytest.mark.parametrize(("m", "g", "r"), [(7, 3, 25_001), (2, 1000, 50), (50_000, 2, 3)])
def test_blocks_fill_every_lineage_with_its_own_draws(every_sample, m, g, r):
    if every_sample and g * m * r > 10**6:
        g = 1
    paths = gaussian.simulate(
        n_samples=m,
        n_generations=g,
        n_replicates=r,
        rng=np.random.default_rng(0),
        every_sample=every_sample,
    )
    for values in (paths.mean[1], paths.var[1]):
        assert np.isfinite(values).all()
        assert len(np.unique(values)) == r
    half = stats.ks_2samp(paths.var[1, : r // 2], paths.var[1, r // 2 :]).pvalue
    assert half > ALARM


def test_one_row_leaves_no_spread():
    for workflow in (Replace(), FreshData(0.0), Accumulate()):
        for every_sample in (False, True):
            paths = gaussian.simulate(
                workflow,
                n_samples=1,
                n_generations=3,
                n_replicates=5,
                ddof=0,
                rng=np.random.default_rng(0),
                every_sample=every_sample,
            )
            assert (paths.var[1:] == 0).all()
            np.testing.assert_array_equal(paths.mean[3], paths.mean[1])


def test_an_original_subset_that_fills_the_set_never_changes():
    paths = gaussian.simulate(
        Mix(0.0, gamma=1.0, redraw=False),
        n_samples=6,
        n_generations=4,
        n_replicates=8,
        rng=np.random.default_rng(0),
    )
    np.testing.assert_array_equal(paths.var[1], paths.var[4])
    assert (paths.var[1] != 1).all()


def test_eigenvalues_stay_positive_where_the_covariance_has_none():
    paths = gaussian.simulate_nd(
        dim=5, n_samples=50, n_generations=600, n_replicates=20, rng=np.random.default_rng(0)
    )
    values = paths.eigenvalues()
    assert values.shape == (601, 20, 5)
    assert (values > 0).all()
    assert (np.diff(values, axis=-1) <= 0).all()
    assert (np.linalg.eigvalsh(paths.cov[-1]) <= 0).any()  # the reason for the singular values
    # A singular value is off by 5^2 roundings of the largest one (LAPACK Users' Guide, 4.9).
    early = values[:50]
    conditions = np.sqrt(early[..., :1] / early).sum(axis=-1)
    limit = bound(2 * 5**2) * conditions + bound(2 * CALL) * 5
    assert_within(np.log(early).sum(axis=-1), paths.log_det()[:50], limit)


finite = st.floats(-1e3, 1e3)


@given(
    arrays(float, st.integers(0, 6), elements=finite),
    arrays(float, st.integers(0, 6), elements=finite),
)
def test_merged_statistics_are_those_of_the_joined_rows(a, b):
    def of(rows):
        mean = rows.mean() if len(rows) else 0.0
        return gaussian.Stats(len(rows), np.array([mean]), np.array([((rows - mean) ** 2).sum()]))

    joined, merged = of(np.concatenate([a, b])), of(a).merge(of(b))
    assert merged.n == joined.n
    # Twelve rows at most, summed twice; a deviation has the error of the mean it is taken from.
    limit, tiny = bound(2 * (12 + 3)), np.finfo(float).tiny
    off = limit * np.abs([*a, *b, 0]).max() + tiny
    assert_within(merged.mean, joined.mean, off)
    n, ss = joined.n, joined.ss
    assert_within(merged.ss, ss, limit * ss + 2 * off * np.sqrt(n * ss) + n * off**2 + tiny)


# ------------------------------------------------------------------ the model


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
@both_ddof
def test_gaussian_fits_like_numpy_and_keeps_the_shape(shape, ddof):
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    model = gaussian.Gaussian(ddof).fit(X)
    flat = X.reshape(50, -1)
    # Sums of 50 terms, of either sign.
    limit = bound(2 * (50 + 2))
    assert_within(model.mean_, flat.mean(axis=0), limit * np.abs(flat).max())
    cov = np.cov(flat.T, ddof=ddof).reshape(model.cov_.shape)
    assert_within(model.cov_, cov, limit * cov.max())
    assert model.sample(7, rng).shape == (7, *shape[1:])


def test_gaussian_samples_have_the_fitted_moments():
    rng = np.random.default_rng(1)
    model = gaussian.Gaussian().fit(rng.standard_normal((30, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + 3)
    rows = model.sample(50_000, rng)
    assert_mean(rows.T, model.mean_)
    centred = rows - model.mean_
    products = [centred[:, i] * centred[:, j] for i, j in ((0, 0), (0, 1), (1, 1))]
    assert_mean(np.array(products), [model.cov_[0, 0], model.cov_[0, 1], model.cov_[1, 1]])


def test_gaussian_samples_from_a_covariance_without_full_rank():
    x = np.linspace(-1, 1, 9)
    rng = np.random.default_rng(0)
    rows = gaussian.Gaussian().fit(np.column_stack([x, 2 * x])).sample(20, rng)
    # The zero eigenvalue comes out as a rounding error of the other, the trace; its square root is
    # the size of a normal variable (below 4 in 20 draws) along (-2, 1) / sqrt(5).
    trace = 5 * x.var(ddof=1)
    limit = np.sqrt(bound(2 * 2**2) * trace) * 4 * np.sqrt(5) + bound(8) * np.abs(rows).max()
    assert_within(rows[:, 1], 2 * rows[:, 0], limit)


# ------------------------------------------------------------------ errors

GOOD = {"n_samples": 10, "n_generations": 3, "n_replicates": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_samples": 1}, "n_samples must be an integer >= 2, got 1"),
        ({"n_samples": -5}, "n_samples must be an integer >= 2, got -5"),
        ({"n_samples": 10.0}, "n_samples must be an integer >= 2, got 10.0"),
        ({"n_samples": "ten"}, "n_samples must be an integer >= 2, got 'ten'"),
        ({"n_samples": True}, "n_samples must be an integer >= 2, got True"),
        ({"n_samples": [10, 10]}, "one size for each of the 3 generations, got 2 sizes"),
        ({"n_samples": [10, 0, 10]}, r"n_samples\[2\] must be an integer >= 2, got 0"),
        ({"n_samples": lambda g: 10 - 5 * g}, r"n_samples\[2\] must be an integer >= 2, got 0"),
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": 0}, "n_replicates must be an integer >= 1, got 0"),
        ({"ddof": 2}, "ddof must be an integer between 0 and 1, got 2"),
        ({"var": 0.0}, r"var must be a finite number in \(0, inf\], got 0.0"),
        ({"mean": float("nan")}, "mean must be a finite number .*, got nan"),
        ({"rng": 7}, r"rng must be a numpy.random.Generator .*, got 7"),
        ({"workflow": AccumulateSubsample()}, "workflow must be Replace, .*use .*recurse"),
        ({"workflow": Mix(0.5, 0.5)}, r"Mix\(alpha=0.5, beta=0.5, .* needs the raw rows"),
        ({"workflow": Mix(0.5, gamma=0.5)}, "workflow must be .*redraw=False"),
        (
            {"workflow": Mix(0.5, gamma=0.5, redraw=False), "n_samples": [10, 10, 20]},
            r"n_samples must keep the same number of original rows .* got sizes \[10, 10, 20\]",
        ),
        (
            {"workflow": Mix(0.5, gamma=0.5, redraw=False), "n_samples": [4, 10, 10]},
            "at most the first 4",
        ),
    ],
)
def test_simulate_refuses_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        gaussian.simulate(**{"rng": np.random.default_rng(0), **GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim must be an integer >= 1, got 0"),
        ({"dim": 10}, "n_samples must be an integer >= 11, got 10"),
        ({"dim": 2, "ddof": 3}, "ddof must be an integer between 0 and 1, got 3"),
        ({"dim": 2, "rng": None}, "rng must be a numpy.random.Generator .*, got None"),
    ],
)
def test_simulate_nd_refuses_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        gaussian.simulate_nd(**{"rng": np.random.default_rng(0), **GOOD, **change})


def test_other_errors_name_the_parameter():
    with pytest.raises(ValueError, match="X must have more than ddof=1 rows, got 1"):
        gaussian.Gaussian().fit([1.0])
    with pytest.raises(ValueError, match="ddof must be an integer between 0 and 1, got 2"):
        gaussian.Gaussian(2)


# ------------------------------------------------------------------ time to collapse


def test_first_passage_has_the_law_of_the_paths():
    rng = np.random.default_rng(6)
    plan = {"n_samples": 20, "n_generations": 400, "n_replicates": 3000, "rng": rng}
    _, var = lineages.record(lineages.generations(lineages.Normal(), (0.0, 1.0), **plan))
    from_paths = np.where((var < 0.5).any(axis=0), (var < 0.5).argmax(axis=0), 401)
    time, overshoot = gaussian.first_passage(20, 0.5, n_replicates=3000, rng=rng)
    assert stats.ks_2samp(np.minimum(time, 401), from_paths).pvalue > ALARM
    assert time.min() >= 1 and (overshoot > 0).all()


@pytest.mark.parametrize(("m", "level", "ddof"), [(20, 0.1, 1), (50, 0.3, 0), (200, 0.5, 1)])
def test_first_passage_obeys_the_identity_of_wald(m, level, ddof):
    time, overshoot = gaussian.first_passage(
        m, level, n_replicates=8000, rng=np.random.default_rng(4), ddof=ddof
    )
    drift = -gaussian.log_var_drift(m, ddof)
    assert_mean(drift * time - overshoot, np.log(1 / level))
