"""Training and writing procedures against direct simulation, finite differences and sampling."""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats
from sklearn.cluster import KMeans

from collapse_utils import procedure
from collapse_utils.models import mixture
from collapse_utils.models.density import NormalMixture
from collapse_utils.procedure import em_spread, em_unlimited, two_means

TWO = NormalMixture([-1.5, 1.5], [1, 1])
UNEVEN = NormalMixture([-1, 2], [1, 0.5], [0.3, 0.7])
THREE = NormalMixture([-3, 0, 2.5], [1, 0.4, 0.8], [0.5, 0.2, 0.3])


def _vector(q):
    return np.concatenate([q.weights, q.means, q.sds**2])


def _step_error(p):
    """Rounding of one EM step: sums over the nodes of the quadrature, of terms up to x^2.

    The nodes reach 14 standard deviations out, in steps of an eighth of the narrowest component.
    """
    nodes = 2 * 14 * 8 * np.sqrt(p.var()) / p.sds.min()
    return bound(2 * nodes + 4 * CALL, 1 + p.var() + p.mean() ** 2)


# --------------------------------------------------------------------------- gradient descent


def test_descent_learns_each_frequency_by_its_filter():
    n, t = 48, 25
    phi = procedure.bumps(n, 0.05)
    truth = np.random.default_rng(0).normal(size=n)
    values = procedure.relearn(
        phi, truth, n_steps=t, n_generations=3, n_replicates=1, rng=np.random.default_rng(1)
    )[:, 0]
    hessian = np.abs(np.fft.rfft(phi[0])) ** 2 / n
    f = procedure.gradient_filter(hessian, 1 / hessian.max(), t)
    # Two products with n features a step. What the first one rounds is learned like a label; what
    # the second one rounds enters by the features' norm, at most sqrt(t) times, because of x per
    # step at most sqrt(t x) is learned in t steps. A coefficient is a sum of n values.
    size = np.linalg.norm(truth) * np.sqrt(n)
    for g in (1, 2, 3):
        error = g * bound(2 * n, np.sqrt(t)) * size
        assert_within(np.fft.rfft(values[g]), f**g * np.fft.rfft(truth), error)


@pytest.mark.parametrize("warm", [False, True])
def test_mean_and_variance_of_relearned_functions(warm):
    n, t, generations, replicates, noise = 32, 8, 6, 4000, 0.7
    phi = procedure.bumps(n, 0.06)
    truth = np.cos(2 * np.pi * 3 * np.arange(n) / n)
    values = procedure.relearn(
        phi, truth, n_steps=t, n_generations=generations, n_replicates=replicates,
        rng=np.random.default_rng(2), noise=noise, warm=warm,
    )  # fmt: skip
    hessian = np.abs(np.fft.rfft(phi[0])) ** 2 / n
    f = procedure.gradient_filter(hessian, 1 / hessian.max(), t)[3]
    basis = np.sqrt(2 / n) * truth
    start = truth @ basis
    for g in (1, 2, generations):
        c = values[g] @ basis
        factor, variance = procedure.relearned(g, f, noise, warm=warm)
        assert abs(c.mean() - factor * start) < 4.5 * c.std() / np.sqrt(replicates)
        assert abs(c.var(ddof=1) / variance - 1) < 4.5 * np.sqrt(2 / replicates)


def test_a_direction_learned_in_full_gathers_all_noise():
    factor, variance = procedure.relearned([1, 5], 1.0, 2.0)
    np.testing.assert_array_equal(factor, 1)
    np.testing.assert_array_equal(variance, [4, 20])


# --------------------------------------------------------------------------- EM


@pytest.mark.parametrize("p", [TWO, UNEVEN, THREE])
def test_a_warm_start_stays_where_it_is(p):
    # A step hands on at most the whole error of the one before.
    assert_within(_vector(em_unlimited(p, p, 3)), _vector(p), 3 * _step_error(p))


@pytest.mark.parametrize("p", [TWO, UNEVEN, THREE])
def test_unlimited_em_keeps_mean_and_variance(p):
    q = em_unlimited(p, two_means(p), 4)
    assert_within([q.mean(), q.var()], [p.mean(), p.var()], 2 * _step_error(p))


@pytest.mark.parametrize("p", [TWO, UNEVEN, THREE])
def test_start_and_steps_are_those_of_a_large_sample(p):
    x = p.rvs(400_000, np.random.default_rng(3))[:, None]
    labels = KMeans(2, n_init=1, random_state=0).fit(x).labels_
    low = labels == labels[x.argmin()]
    start = two_means(p)
    halves = x[low], x[~low]
    for k, half in enumerate(halves):
        se = half.std() / np.sqrt(len(half))
        assert abs(half.mean() - start.means[k]) < 12 * se  # the cut moves with the sample
        assert abs(half.std() - start.sds[k]) < 12 * se
    sample_start = mixture.Params.of(
        start.weights, start.means[:, None], start.sds[:, None, None] ** 2
    )
    fit, _, _ = mixture.em(x[None], sample_start, n_steps=3, reg_covar=0.0)
    q = em_unlimited(p, start, 3)
    np.testing.assert_allclose(fit.means[0, :, 0], q.means, atol=0.02)
    np.testing.assert_allclose(fit.weights[0], q.weights, atol=0.01)


@pytest.mark.parametrize("p", [TWO, UNEVEN, THREE])
def test_rate_of_em_by_finite_differences(p):
    """The eigenvalues of J, one weight being fixed by the others."""
    k, h = len(p.means), 1e-4

    def step(theta):
        weights = np.append(theta[: k - 1], 1 - theta[: k - 1].sum())
        start = NormalMixture(theta[k - 1 : 2 * k - 1], np.sqrt(theta[2 * k - 1 :]), weights)
        return np.delete(_vector(em_unlimited(p, start, 1)), k - 1)

    at = np.delete(_vector(p), k - 1)

    def differences(h):
        nudges = h * np.eye(3 * k - 1)
        return np.array([(step(at + e) - step(at - e)) / (2 * h) for e in nudges]).T

    numeric = differences(h)
    values, vectors = np.linalg.eig(numeric)
    _, rates = em_spread(p, 1)
    # Twice the step has four times the error of the formula, and half of what rounding adds;
    # eigenvalues move by at most the condition of their vectors times both (Bauer and Fike).
    off = np.linalg.norm(differences(2 * h) - numeric, 2) + _step_error(p) / h
    error = np.linalg.cond(vectors) * off
    assert_within(np.sort(np.append(values.real, 0))[::-1], rates, error)


@pytest.mark.parametrize("n_steps", [1, 3, 30])
def test_spread_of_em_on_samples(n_steps):
    n, replicates = 4000, 1500
    truth = mixture.Params.of(UNEVEN.weights, UNEVEN.means[:, None], UNEVEN.sds[:, None, None] ** 2)
    fits = mixture.simulate(
        truth, n_samples=n, n_generations=1, n_replicates=replicates, n_steps=n_steps,
        reg_covar=0.0, rng=np.random.default_rng(4),
    ).at(1)  # fmt: skip
    law = np.diag(em_spread(UNEVEN, n_steps)[0])
    seen = np.concatenate([fits.weights, fits.means[..., 0], fits.covs[..., 0, 0]], axis=1).var(
        axis=0, ddof=1
    )
    # relative standard error sqrt(2 / R) for nearly normal estimates; six comparisons
    assert (np.abs(n * seen / law - 1) < 4.5 * np.sqrt(2 / replicates)).all()


# --------------------------------------------------------------------------- writing


def test_biased_writing_has_its_moments():
    m, bias, replicates = 20, 0.8, 40_000
    paths = procedure.simulate_biased(
        bias, n_samples=m, n_generations=8, n_replicates=replicates, rng=np.random.default_rng(5)
    )
    for n in (1, 4, 8):
        var, square = procedure.biased_moments(n, bias, m)
        for values, law in ((paths.var[n], var), (paths.mean[n] ** 2, square)):
            assert abs(values.mean() - law) < 4.5 * values.std() / np.sqrt(replicates)


def test_bias_of_a_gaussian_is_its_temperature():
    x = np.linspace(-30, 30, 2001)
    cold = procedure.temper(stats.norm.logpdf(x, 0, 2), 0.7)
    # Sums over the nodes, logarithms up to 40 where there is mass; nothing is beyond 15 deviations.
    error = bound(2 * len(x) + 40 + 3 * CALL, 0.7 * 4)
    assert_within((np.exp(cold) * x**2).sum(), 0.7 * 4, error)


def test_temperature_multiplies_log_odds():
    log_p = np.log([0.7, 0.2, 0.1])
    twice = procedure.temper(procedure.temper(log_p, 0.5), 0.5)
    error = bound(3 * CALL, np.abs(twice).sum())
    assert_within(twice[0] - twice[2], 4 * np.log(7), error)
    assert_within(np.exp(twice).sum(), 1, error)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: procedure.gradient_filter([1.0, 2.0], 1.0, 3), "rate must be below 2 /"),
        (lambda: procedure.gradient_filter([-1.0], 1.0, 3), "eigenvalues must be finite and >= 0"),
        (lambda: procedure.gradient_filter([1.0], 1.0, 0), "n_steps must be an integer >= 1"),
        (lambda: procedure.bumps(8, 0.0), "width must be"),
        (lambda: em_unlimited(TWO, TWO, 0), "n_steps must be an integer >= 1, got 0"),
        (lambda: procedure.temper([0.0], 0.0), "temperature must be"),
        (
            lambda: procedure.simulate_biased(
                0.0, n_samples=9, n_generations=1, n_replicates=1, rng=np.random.default_rng(0)
            ),
            r"bias must be a finite number in \(0, inf\], got 0.0",
        ),
        (
            lambda: procedure.relearn(
                np.eye(3), np.zeros(2), n_steps=1, n_generations=1, n_replicates=1,
                rng=np.random.default_rng(0),
            ),
            r"features and truth must have shapes \(N, K\) and \(N,\), got \(3, 3\), \(2,\)",
        ),
    ],
)  # fmt: skip
def test_bad_input_says_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
