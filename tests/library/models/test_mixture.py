"""Batched EM against scikit-learn, the recursion against its conservation law."""

import warnings

import numpy as np
import pytest
from rounding import CALL, assert_within, bound, moved
from scipy import integrate, stats
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from collapse_utils import Accumulate, Mix
from collapse_utils.lineages import Normal, generations, record
from collapse_utils.models.mixture import EM, Params, _kmeans, _start_from, _Written, l2_distance

BLOB = Params.of([1.0], [[0.0, 0.0]], np.eye(2))
NAMES = ("weights", "means", "covs")
PAIR = Params.of([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], np.eye(2))


def many(params, n):
    return params[np.zeros(n, dtype=int)]


def em(X, start, **settings):
    """Steps from these parents."""
    return EM(start.weights.shape[1], **settings).fit(_Written(X, start, np.random.default_rng()))


def run(truth, *, n_samples, n_generations, n_replicates, seed, **settings):
    """Generations 1, 2, ... of many lineages under Replace."""
    size = {"n_samples": n_samples, "n_generations": n_generations, "n_replicates": n_replicates}
    family = EM(truth.weights.shape[1], **settings)
    return record(generations(family, truth, rng=np.random.default_rng(seed), **size))[1:]


def _problem(k, dim, n_replicates=3, n=120, seed=0):
    rng = np.random.default_rng([seed, k, dim])
    centres = rng.normal(0, 3, (k, dim))
    X = np.stack(
        [centres[rng.integers(0, k, n)] + rng.normal(size=(n, dim)) for _ in range(n_replicates)]
    )
    return X, _start_from(X, k, rng)


def _sklearn(X, start, n_steps, tol=0.0):
    model = GaussianMixture(
        len(start.weights[0]),
        tol=tol,
        max_iter=n_steps,
        weights_init=start.weights[0],
        means_init=start.means[0],
        precisions_init=np.linalg.inv(start.covs[0]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)


def _allowed(X, start, **settings):
    """What rounding may put between em and an oracle: weights, means, covariances.

    Both sum over n rows, and err relative to the size of the terms; what one step errs, the later
    ones treat as they treat a change of the data.
    """

    def route(X, *start):
        fit = em(X, Params(*start), **settings)
        return fit.weights, fit.means, fit.covs

    moves = moved(route, X, start.weights, start.means, start.covs)
    spread = np.abs(X - X.mean(axis=1, keepdims=True)).max()
    sizes = np.array([1, np.abs(X).max(), 2 * spread**2])
    return bound(2 * (X.shape[1] + CALL)) * (sizes + moves)


@pytest.mark.parametrize("n_steps", [1, 5, 50])
@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_em_equals_scikit_learn_after_the_same_steps(k, dim, n_steps):
    X, start = _problem(k, dim)
    fit = em(X, start, n_steps=n_steps)
    for r in range(len(X)):
        oracle = _sklearn(X[r], start[[r]], n_steps)
        allowed = _allowed(X[[r]], start[[r]], n_steps=n_steps)
        assert_within(fit.weights[r], oracle.weights_, allowed[0])
        assert_within(fit.means[r], oracle.means_, allowed[1])
        assert_within(fit.covs[r], oracle.covariances_, allowed[2])


def test_tolerance_stops_as_in_scikit_learn():
    X, start = _problem(3, 2)
    settings = {"n_steps": 200, "tol": 1e-4}
    fit, steps = em(X, start, **settings), set()
    for r in range(len(X)):
        oracle = _sklearn(X[r], start[[r]], 200, tol=1e-4)
        limit = _allowed(X[[r]], start[[r]], **settings)[2]
        assert_within(fit.covs[r], oracle.covariances_, limit)
        one_more = em(X[[r]], start[[r]], n_steps=oracle.n_iter_ + 1)
        assert np.abs(one_more.covs[0] - oracle.covariances_).max() > limit
        steps.add(oracle.n_iter_)
    assert len(steps) > 1  # replicates stop at their own time


def _within(X, labels, k):
    """Sum of squared distances from the cluster's mean."""
    members = [X[labels == c] for c in range(k)]
    return sum(((m - m.mean(axis=0)) ** 2).sum() for m in members if len(m))


@pytest.mark.parametrize("k", [2, 5])
def test_kmeans_has_the_law_of_scikit_learn(k):
    """Inertia on the same data: unlike data sets, paired, each run with chances of its own."""
    X = np.random.default_rng(k).standard_t(4, size=(300, 60, 2))
    labels = _kmeans(X, k, np.random.default_rng(0))
    ours = np.log([_within(x, of, k) for x, of in zip(X, labels, strict=True)])
    runs = [KMeans(k, n_init=1, random_state=i).fit(x) for i, x in enumerate(X)]
    theirs = np.log([run.inertia_ for run in runs])
    assert stats.ttest_rel(ours, theirs).pvalue > 1e-5
    first = X[:, 0, :1] > 0  # a poor division is told apart
    poor = np.log([_within(x, of * np.ones(60), k) for x, of in zip(X, first, strict=True)])
    assert stats.ttest_rel(poor, theirs).pvalue < 1e-5


def test_kmeans_stops_where_no_row_is_nearer_to_another_mean():
    X, _ = _problem(3, 2)
    labels = _kmeans(X, 3, np.random.default_rng(1), tol=0.0)
    for x, of in zip(X, labels, strict=True):
        means = np.array([x[of == c].mean(axis=0) for c in range(3)])
        gaps = ((x[:, None] - means) ** 2).sum(axis=2)
        assert (gaps.argmin(axis=1) == of).all()


def test_fits_from_kmeans_have_the_law_of_scikit_learn():
    """One generation of the released protocol: smaller weight and covariances on the same data."""
    X = np.random.default_rng(2).normal(size=(150, 100, 2))
    fit = em(X, _start_from(X, 2, np.random.default_rng(3)), n_steps=2000, tol=1e-5)
    models = [GaussianMixture(2, tol=1e-5, max_iter=2000, random_state=i) for i in range(150)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = [model.fit(x) for model, x in zip(models, X, strict=True)]
    sizes = (np.linalg.slogdet(f)[1] for f in (fit.covs, [m.covariances_ for m in theirs]))
    weights = fit.weights, np.array([m.weights_ for m in theirs])
    for ours, others in ([v.min(axis=1) for v in pair] for pair in (sizes, weights)):
        assert stats.ttest_rel(ours, others).pvalue > 1e-5


@pytest.mark.parametrize("tol", [0.0, 1e-300])  # two components without their likelihood, and with
def test_narrow_components_far_apart_equal_scikit_learn(tol):
    """Log-odds beyond what an exponential can hold."""
    X = np.random.default_rng(3).normal(size=(1, 200, 2)) * 0.01
    X[:, 100:] += 5
    start = Params.of([0.5, 0.5], [[0.0, 0.0], [5.0, 5.0]], 1e-4 * np.eye(2))
    fit = em(X, start, n_steps=2, tol=tol)
    assert_within(
        fit.covs[0], _sklearn(X[0], start, 2).covariances_, _allowed(X, start, n_steps=2)[2]
    )


def _sample_moments(X):
    """Means and covariances, and what a sum over n rows may round off, twice."""
    limit = bound(2 * (X.shape[1] + CALL))
    spread = np.abs(X - X.mean(axis=1, keepdims=True)).max()
    covs = [np.cov(x.T, bias=True) for x in X]
    return X.mean(axis=1), covs, limit * np.abs(X).max(), limit * 2 * spread**2


def test_one_component_is_the_maximum_likelihood_gaussian():
    X, start = _problem(1, 3)
    fit = em(X, start, n_steps=1, reg_covar=0.0)
    mean, cov, off_mean, off_cov = _sample_moments(X)
    assert_within(fit.means[:, 0], mean, off_mean)
    assert_within(fit.covs[:, 0], cov, off_cov)


def test_em_keeps_the_sample_moments():
    """Every M-step with reg_covar = 0 reproduces mean and covariance of the data."""
    X, start = _problem(3, 2)
    mean, cov, off_mean, off_cov = _sample_moments(X)
    for n_steps in (1, 4):
        fit = em(X, start, n_steps=n_steps, reg_covar=0.0)
        of_mixture = fit.moments()
        assert_within(of_mixture[0], mean, off_mean)
        assert_within(of_mixture[1], cov, off_cov)


def test_recursion_conserves_total_variance():
    """E[within] = V0 (1 - 1/N)^n and E[drift^2] = V0 (1 - (1 - 1/N)^n) for any K and EM steps."""
    n, generations, replicates = 100, 40, 600
    paths = run(
        PAIR, n_samples=n, n_generations=generations, n_replicates=replicates,
        n_steps=5, reg_covar=1e-9, seed=1,
    )  # fmt: skip
    mean, cov = paths.moments()
    truth_mean, truth_cov = (a[0] for a in PAIR.moments())
    within = np.trace(cov[-1], axis1=1, axis2=2)
    drift = ((mean[-1] - truth_mean) ** 2).sum(axis=1)
    v0, keep = np.trace(truth_cov), (1 - 1 / n) ** generations
    for values, law in ((within, v0 * keep), (drift, v0 * (1 - keep))):
        se = values.std(ddof=1) / np.sqrt(replicates)
        assert abs(values.mean() - law) < stats.norm.isf(5e-6) * se  # false alarm 1e-5 each


@pytest.mark.parametrize("workflow", [Accumulate(), Mix(alpha=0.7, gamma=0.3)])
def test_any_workflow_has_the_law_of_one_gaussian_in_the_engine(workflow):
    """K = 1 in one dimension is the Gaussian that the engine refits by moments or by rows."""
    size = {"n_samples": 40, "n_generations": 6, "n_replicates": 400}
    truth = Params.of([1.0], [[0.0]], [[1.0]])
    *_, fits = generations(EM(1, n_steps=1), truth, workflow, rng=np.random.default_rng(0), **size)
    family = Normal(ddof=0, rows=True)
    *_, (_, var) = generations(family, (0.0, 1.0), workflow, rng=np.random.default_rng(1), **size)
    assert stats.ks_2samp(fits.covs.ravel(), var).pvalue > 1e-5
    assert stats.ttest_ind(np.log(fits.covs.ravel()), np.log(var)).pvalue > 1e-5


def test_l2_distance_against_quadrature():
    p = Params.of([0.3, 0.7], [[-1.0], [1.5]], [[[0.4]], [[1.2]]])
    q = Params.of([1.0], [[0.2]], [[[0.8]]])

    def density(of, x):
        return stats.norm.pdf(x, of.means[0, :, 0], np.sqrt(of.covs[0, :, 0, 0])) @ of.weights[0]

    def gap(x):
        return (density(p, x) - density(q, x)) ** 2

    value, error = integrate.quad(gap, -12, 12, epsabs=0, epsrel=1e-12)
    # Three overlaps, each a density of at most 1 / sqrt(4 pi v) with v >= 0.4: a call and a sum.
    rounded = bound(4 * CALL) * 4 / np.sqrt(4 * np.pi * 0.4)
    assert_within(l2_distance(p, q)[0], value, error + rounded)
    assert_within(l2_distance(p, p)[0], 0, rounded)


def test_sample_has_the_mixture_moments():
    """Correlated components of unequal weight, a different mixture in each half."""
    root = np.random.default_rng(0).normal(size=(2, 3, 3))
    one = Params.of([0.3, 0.7], [[0, 0, 9], [1, 2, 3]], root @ root.swapaxes(1, 2))
    other = Params.of([1.0, 0.0], [[5, 0, 0], [0, 0, 0]], np.eye(3))
    half = 300
    parts = many(one, half), many(other, half)
    both = Params(*(np.concatenate([getattr(p, name) for p in parts]) for name in NAMES))
    rows = both.sample(50, np.random.default_rng(6))
    assert rows.shape == (2 * half, 50, 3)
    for truth, part in ((one, rows[:half]), (other, rows[half:])):
        mean, cov = (a[0] for a in truth.moments())
        second = np.einsum("rni,rnj->rij", part, part) / 50
        for values, law in ((part.mean(axis=1), mean), (second, cov + np.outer(mean, mean))):
            t = stats.ttest_1samp(values.reshape(half, -1), law.ravel())
            assert t.pvalue.min() > 1e-5 / t.pvalue.size  # false alarm 1e-5 each


def test_rows_of_a_sample_are_independent():
    """The mean of n rows has a variance of 1/n of a row's."""
    means = many(BLOB, 2000).sample(25, np.random.default_rng(7)).mean(axis=1).ravel()
    assert stats.kstest(5 * means, "norm").pvalue > 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: em(np.zeros((1, 1, 2)), PAIR), "X must have a row for each of the 2 components"),
        (lambda: em(np.full((1, 9, 2), np.nan), PAIR), "X must be finite"),
        (lambda: em(np.zeros((1, 9, 2)), PAIR, reg_covar=0.0, n_steps=2), "raise reg_covar"),
        (lambda: em(np.zeros((1, 9, 2)), PAIR, tol=-1), "tol must be"),
        (lambda: Params.of([0.5, 0.6], [[0.0], [1.0]], [[1.0]]), "weights must be"),
        (lambda: Params.of([1.0], [[0.0]], [[-1.0]]), "positive definite"),
        (lambda: EM(0), "n_components must be an integer >= 1, got 0"),
        (lambda: EM(2, start="guess"), "start must be one of parent, kmeans"),
        (
            lambda: run(PAIR, n_samples=1, n_generations=2, n_replicates=1, seed=0),
            "n_samples must be an integer >= 2, got 1",
        ),
    ],
)
def test_bad_input_says_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_floor_of_the_variances_is_the_regulariser():
    """EM with a floor is the recursion v' = v chi2(n - 1)/n + reg, and it stops falling."""
    n, reg, generations, replicates = 50, 1e-4, 900, 400
    paths = run(
        Params.of([1.0], [[0.0]], [[1.0]]), n_samples=n, n_generations=generations,
        n_replicates=replicates, n_steps=1, reg_covar=reg, seed=8,
    )  # fmt: skip
    rng, v = np.random.default_rng(9), np.ones(20 * replicates)
    for _ in range(generations):
        v = v * rng.chisquare(n - 1, len(v)) / n + reg
    assert stats.ks_2samp(paths.covs[-1, :, 0, 0, 0], v).pvalue > 1e-5
    assert np.median(v) > reg  # the floor, not a slow decay: without reg it would be e^-18
