"""Gaussians: the model, the d-dimensional chain against raw rows, and what is known of it.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points when it has several. Seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from intervals import assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats
from scipy.special import digamma, polygamma

from collapse_utils import Accumulate, lineages, recurse
from collapse_utils.models import gaussian

ALARM = 1e-4

both_ddof = pytest.mark.parametrize("ddof", [0, 1])


def uniform(p_values):
    """P-value of the hypothesis that these p-values are uniform (KS of KS)."""
    return stats.kstest(p_values, "uniform").pvalue


def chain(*, dim, ddof=1, **plan):
    """Means and factors of the generations in d dimensions."""
    family, truth = gaussian.MultivariateNormal(ddof), (np.zeros(dim), np.eye(dim))
    return lineages.generations(family, truth, **plan)


def last(**plan):
    """Mean and covariance of the last generation of Bartlett's chain."""
    *_, (mean, factor) = chain(**plan)
    return mean, factor @ np.swapaxes(factor, -1, -2)


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


# ------------------------------------------------------------------ d dimensions


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
        exact = last(
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
            pair = look(*exact), look(mean, cov)
            p_values[name].append(stats.ks_2samp(*pair).pvalue)
    for name, values in p_values.items():
        assert uniform(values) > ALARM / len(looks), name


@both_ddof
def test_one_dimension_of_bartlett_is_the_chain_of_moments(ddof):
    p_mean, p_var = [], []
    for seed in range(30):
        first, second = np.random.default_rng(seed).spawn(2)
        common = {"n_samples": [5, 6, 9, 9], "n_generations": 4, "n_replicates": 2000, "ddof": ddof}
        family = lineages.Normal(common.pop("ddof"))
        *_, (mean, var) = lineages.generations(family, (0.0, 1.0), **common, rng=first)
        centre, cov = last(dim=1, ddof=ddof, **common, rng=second)
        p_mean.append(stats.ks_2samp(mean, centre[:, 0], method="asymp").pvalue)
        p_var.append(stats.ks_2samp(var, cov[:, 0, 0], method="asymp").pvalue)
    assert uniform(p_mean) > ALARM
    assert uniform(p_var) > ALARM


@pytest.mark.parametrize("dim", [1, 2, 3, 6])
@both_ddof
def test_log_det_drifts_by_a_sum_of_digammas(dim, ddof):
    m, plan = 10, {"n_generations": 4, "n_replicates": 20_000, "rng": np.random.default_rng(9)}
    half = (m - np.arange(1, dim + 1)) / 2
    drift = (digamma(half) - np.log((m - ddof) / 2)).sum()
    for n, (_, factor) in enumerate(chain(dim=dim, n_samples=m, ddof=ddof, **plan)):
        log_det = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        if n in (1, 4):
            assert_mean(log_det, n * drift)
            assert_mean((log_det - n * drift) ** 2, n * polygamma(1, half).sum())


def test_eigenvalues_stay_positive_where_the_covariance_has_none():
    plan = {"n_samples": 50, "n_generations": 600, "n_replicates": 20}
    for n, (_, factor) in enumerate(chain(dim=5, rng=np.random.default_rng(0), **plan)):
        values = np.linalg.svd(factor, compute_uv=False) ** 2
        assert (values > 0).all()
        if n < 50:
            # A singular value is off by 5^2 roundings of the largest (LAPACK Users' Guide, 4.9).
            conditions = np.sqrt(values[:, :1] / values).sum(axis=1)
            limit = bound(2 * 5**2) * conditions + bound(2 * CALL) * 5
            log_det = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
            assert_within(np.log(values).sum(axis=1), log_det, limit)
    cov = factor @ np.swapaxes(factor, -1, -2)
    assert (np.linalg.eigvalsh(cov) <= 0).any()  # the reason for the singular values


# ------------------------------------------------------------------ closed forms


def test_log_var_drift_is_the_mean_of_a_log_chi_square():
    for m in (3, 30):
        log_gamma = stats.loggamma((m - 1) / 2)
        law = log_gamma.mean() - np.log((m - 1) / 2)
        assert_within(gaussian.log_var_drift(m, 1), law, bound(2 * CALL) * 2 * np.log(m))


# ------------------------------------------------------------------ errors


def test_errors_name_the_parameter():
    plan = {"n_generations": 3, "n_replicates": 2, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match="n_samples must be more than the 10 dimensions, got 10"):
        last(dim=10, n_samples=10, **plan)
    with pytest.raises(ValueError, match="ddof must be an integer between 0 and 1, got 3"):
        gaussian.MultivariateNormal(3)
    with pytest.raises(TypeError, match="unsupported operand"):
        last(dim=2, n_samples=10, workflow=Accumulate(), **plan)
    with pytest.raises(ValueError, match="X must have more than ddof=1 rows, got 1"):
        gaussian.Gaussian().fit([1.0])
    with pytest.raises(ValueError, match="ddof must be an integer between 0 and 1, got 2"):
        gaussian.Gaussian(2)
