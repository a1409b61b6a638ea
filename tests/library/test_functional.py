"""Fits as maps: quadrature against closed forms, projections, and the laws of the finite sample."""

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import integrate, stats
from sklearn.neighbors import KernelDensity

from collapse_utils import functional, recurse
from collapse_utils.models.gaussian import Gaussian

Z = 4.5  # two-sided false-alarm rate 7e-6 per comparison

TWO = functional.two_gaussians(4, 1)
UNEVEN = functional.NormalMixture([-1, 0.5, 6], [0.3, 2, 0.05], [0.2, 0.5, 0.3])
TARGETS = {
    "two": TWO,
    "uneven": UNEVEN,
    "far and narrow": functional.two_gaussians(50, 0.05),
    "laplace": functional.laplace(),
    "t5": functional.student_t(5),
    "t3": functional.student_t(3),
}


@pytest.fixture(params=TARGETS, scope="module")
def target(request):
    return TARGETS[request.param]


# --------------------------------------------------------------------------- distributions


def test_mixture_agrees_with_scipy_components():
    x = np.linspace(-5, 8, 301)
    parts = [stats.norm(m, s) for m, s in zip(UNEVEN.means, UNEVEN.sds, strict=True)]
    # The wide component holds exponents and logarithmic slopes below z^2 + 1 = 9, z = 5.5 / 2.
    limit = bound(2 * (2 * CALL + 3 * 9))
    for method in ("pdf", "cdf", "sf"):
        expected = sum(
            w * getattr(c, method)(x) for w, c in zip(UNEVEN.weights, parts, strict=True)
        )
        np.testing.assert_allclose(getattr(UNEVEN, method)(x), expected, rtol=limit)
    np.testing.assert_array_equal(np.exp(UNEVEN.logpdf(x)), UNEVEN.pdf(x))


def test_quantiles_invert_both_tails():
    u = np.array([1e-30, 1e-9, 0.01, 0.3, 0.5, 0.9])
    # 64 halvings leave x to its last digit, which the density turns into a probability; a tail
    # has z^2 + 1 < 133 times the relative error of z.
    for inverse, tail in ((UNEVEN.ppf, UNEVEN.cdf), (UNEVEN.isf, UNEVEN.sf)):
        x = inverse(u)
        last_digit = bound(2) * np.abs(x) * UNEVEN.pdf(x)
        assert_within(tail(x), u, last_digit + bound(2 * (CALL + 2 * 133)) * u)


def test_draws_follow_the_cdf():
    rng = np.random.default_rng(1)
    assert stats.kstest(UNEVEN.rvs(20_000, random_state=rng), UNEVEN.cdf).pvalue > 1e-5
    assert stats.kstest(UNEVEN.rvs(20_000, random_state=rng), TWO.cdf).pvalue < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [1]), "one length"),
        (([0], [0.0]), "sds > 0"),
        (([0], [np.nan]), "sds > 0"),
        (([0, 1], [1, 1], [0.5, 0.6]), "sum to one"),
        (([0, 1], [1, 1], [1.5, -0.5]), "weights must be >= 0"),
    ],
)
def test_mixture_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        functional.NormalMixture(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.two_gaussians(-1, 1), "separation must be"),
        (lambda: functional.two_gaussians(4, 0), "width must be"),
        (lambda: functional.student_t(2.5), "df must be"),
        (lambda: functional.smooth(0.0), "bandwidth must be"),
        (lambda: functional.unlimited(TWO, functional.project, 0), "n_generations must be"),
        (lambda: functional.standard_cumulants(functional.student_t(5)), "sixth moment"),
        (lambda: functional.expected_kl(1, 3), "m must be"),
        (lambda: functional.expected_kl(0, 10), "n must be"),
        (
            lambda: functional.simulate_from(
                TWO, n_samples=1, n_generations=1, n_replicates=1, rng=np.random.default_rng(0)
            ),
            "n_samples must be",
        ),
    ],
)
def test_refusals_name_the_parameter(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --------------------------------------------------------------------------- quadrature


def test_density_and_moments_within_their_error(target):
    one = functional.expect(target, np.ones_like)
    # The density of a narrow component that lies far from zero feels the last digit of x.
    far = np.max(np.abs(target.means) / target.sds) if hasattr(target, "means") else 1
    limit = bound(4 * CALL + 2 * far)
    assert_within(one.value, 1, one.error + limit)
    mean, var = target.mean(), target.var()
    second = functional.expect(target, lambda x: (x - mean) ** 2)
    assert_within(second.value, var, second.error + limit * var)
    assert second.error < 1e-6 * var


def test_kl_to_the_projection_is_an_entropy_gap(target):
    estimate = functional.kl(target, functional.project(target))
    entropy, error = (
        (target.entropy(), 0)
        if hasattr(target, "entropy")
        else functional.expect(target, lambda x: -target.logpdf(x))
    )
    of_gaussian = 0.5 * np.log(2 * np.pi * np.e * target.var())
    rounded = bound(4 * CALL) * (of_gaussian + abs(entropy))
    assert_within(estimate.value, of_gaussian - entropy, estimate.error + error + rounded)
    assert estimate.error < 1e-9


def test_closed_forms():
    laplace = functional.kl(functional.laplace(), functional.gaussian(0, 1))
    rounded = bound(4 * CALL)  # times the size of the terms
    assert_within(laplace.value, 0.5 * np.log(np.pi * np.e) - 1, laplace.error + 2 * rounded)
    a, b = functional.gaussian(1, 2), functional.gaussian(-0.5, 0.5)
    kl = np.log(0.5 / 2) + (4 + 1.5**2) / (2 * 0.25) - 0.5
    for estimate, law in (
        (functional.kl(a, b), kl),
        (functional.w2(a, b), 1.5**2 + 1.5**2),
    ):
        assert_within(estimate.value, law, estimate.error + 2 * law * rounded)
    overlap = stats.norm.pdf(1.5, scale=np.hypot(2, 0.5))
    own = sum(stats.norm.pdf(0, scale=np.sqrt(2) * s) for s in (2, 0.5))
    estimate = functional.l2(a, b)
    assert_within(estimate.value, own - 2 * overlap, estimate.error + 2 * own * rounded)
    tail = np.exp(-4 * np.sqrt(2))  # an exponent of 5.7, in both routes
    np.testing.assert_allclose(functional.tail(functional.laplace(), 4), tail, rtol=2 * rounded)


def test_published_example_to_the_digits_of_the_notes():
    fit = functional.project(TWO)
    assert round(functional.kl(TWO, fit).value, 4) == 0.1720
    assert round(functional.l2(TWO, fit).value, 4) == 0.0364


def test_kl_agrees_with_adaptive_quadrature():
    p, q = UNEVEN, functional.gaussian(0.3, 3)
    parts = [
        integrate.quad(lambda x: float(p.pdf(x) * (p.logpdf(x) - q.logpdf(x))), low, high,
                       epsabs=1e-13, epsrel=1e-12)
        for low, high in ((-40, 0), (0, 5.5), (5.5, 6.5), (6.5, 40))
    ]  # fmt: skip
    expected, error = np.sum(parts, axis=0)
    estimate = functional.kl(p, q)
    # The logarithms are of size 3 where p has its mass.
    assert_within(estimate.value, expected, estimate.error + error + bound(4 * CALL) * 2 * 3)


def test_w2_is_symmetric_and_agrees_with_quantiles():
    blurred = functional.smooth(0.7)(TWO)
    there, back = functional.w2(TWO, blurred), functional.w2(blurred, TWO)
    # (x - T(x))^2 feels the rounding of the quantile T(x), which is of size 3.
    rounded = bound(4 * CALL) * 2 * 3
    assert_within(there.value, back.value, there.error + back.error + rounded)

    other = functional.student_t(5)

    def integrand(z):  # both halves in the variable z = z(u), with u = P(Z > z)
        u = stats.norm.sf(z)
        lower, upper = TWO.ppf(u) - other.ppf(u), TWO.isf(u) - other.isf(u)
        return float((lower**2 + upper**2) * stats.norm.pdf(z))

    expected, error = integrate.quad(integrand, 0, 12, epsabs=0, epsrel=1e-12, limit=200)
    estimate = functional.w2(TWO, other)
    assert_within(estimate.value, expected, estimate.error + error + rounded * expected)


def test_w2_to_a_gaussian_by_the_quantile_covariance(target):
    c = functional.quantile_covariance(target)
    s = 1.7
    expected = 0.3**2 + target.var() + s**2 - 2 * s * c.value
    measured = functional.w2(target, functional.gaussian(target.mean() + 0.3, s))
    rounded = bound(4 * CALL) * (expected + 4 * s * c.value)
    assert_within(measured.value, expected, measured.error + 2 * s * c.error + rounded)
    assert c.value < np.sqrt(target.var())


def test_the_error_estimate_notices_an_unresolved_integrand():
    rough = functional.integrate(lambda x: np.exp(-0.5 * (x / 0.03) ** 2), [-1.0, 1.3, 3.0])
    exact = 0.03 * np.sqrt(2 * np.pi)
    assert abs(rough.value - exact) > 1e-3 * exact
    assert rough.error >= abs(rough.value - exact)


# --------------------------------------------------------------------------- fits


def test_projection_is_the_nearest_gaussian(target):
    best = functional.project(target)
    jump = functional.kl(target, best)
    for shift, scale in ((0.05, 1), (0, 1.05), (0, 0.95)):
        sd = float(best.sds[0])
        other = functional.gaussian(best.means[0] + shift * sd, scale * sd)
        assert functional.kl(target, other).value > jump.value + jump.error


def test_projection_is_idempotent_and_smoothing_is_not():
    gaussians = functional.unlimited(TWO, functional.project, 10)
    jump = functional.kl(TWO, gaussians[1])
    # The projection is a minimum of KL, so that the errors of its moments count squared.
    for again in (functional.kl(TWO, g) for g in gaussians[2:]):
        assert_within(again.value, jump.value, again.error + jump.error)
    smoothed = functional.unlimited(TWO, functional.smooth(0.3), 10)
    errors = [functional.kl(TWO, p).value for p in smoothed[1:]]
    assert (np.diff(errors) > 1e-3).all()
    law = 5 + 0.09 * np.arange(11)
    np.testing.assert_allclose([p.var() for p in smoothed], law, rtol=bound(2 * CALL * 11))


def test_errors_add_under_kl():
    """Pythagoras: KL(p || g) = KL(p || g*) + KL(g* || g) for every Gaussian g."""
    for p in TARGETS.values():
        best = functional.project(p)
        other = functional.gaussian(best.means[0] + 0.4, 0.8 * best.sds[0])
        whole, jump, rest = (
            functional.kl(p, other),
            functional.kl(p, best),
            functional.kl(best, other),
        )
        # It holds for the true moments: their errors move the last part by (v/w - 1)/2 < 0.3.
        second = functional.expect(p, lambda x, m=best.means[0]: (x - m) ** 2)
        moments = 0.3 * second.error / second.value + bound(4 * CALL) * 2 * whole.value
        limit = whole.error + jump.error + rest.error + moments
        assert_within(whole.value, jump.value + rest.value, limit)


# --------------------------------------------------------------------------- finite samples


def paths(p, m, r, seed, g=12):
    return functional.simulate_from(
        p, n_samples=m, n_generations=g, n_replicates=r, rng=np.random.default_rng(seed)
    )


@pytest.mark.parametrize("name", ["two", "laplace"])
@pytest.mark.parametrize("m", [60, 400])
def test_laws_of_the_statistical_part(name, m):
    p = TARGETS[name]
    g, r = 12, 40_000
    run = paths(p, m, r, seed=m)
    kurtosis, sixth = functional.standard_cumulants(p)
    n = np.arange(1, g + 1)
    kl = functional.gaussian_kl(run)
    # At m = 60 and kurtosis 3 the terms beyond 1/m^2 count, and the stated error says so.
    law, error = functional.expected_kl(n, m, kurtosis, sixth)
    se = kl.std(axis=1, ddof=1) / np.sqrt(r)
    assert (np.abs(kl.mean(axis=1) - law) < Z * se + error).all()
    without_shape, _ = functional.expected_kl(n, m)
    assert abs(kl[0].mean() - without_shape[0]) > Z * se[0]
    sd, sd_error = functional.expected_sd(n, m, kurtosis, sixth)
    sds = run.sd[1:] / run.sd[0]
    se = sds.std(axis=1, ddof=1) / np.sqrt(r)
    assert (np.abs(sds.mean(axis=1) - sd) < Z * se + sd_error).all()


def test_gaussian_truth_agrees_with_the_exact_chain():
    """With kurtosis 0 the generation-1 expansion must agree with rho and the drift to 1/m^3."""
    m, n = 1000, np.array([1, 10, 100])
    rho = (m - 1) / (m - 3)
    inverse = rho**n + rho / m * (rho**n - 1) / (rho - 1)
    exact = 0.5 * (n * functional.log_var_drift(m) + inverse - 1)
    np.testing.assert_allclose(functional.expected_kl(n, m)[0], exact, atol=20 / m**3)


def test_shortcut_has_the_law_of_the_loop():
    m, r, g = 40, 300, 5
    history = recurse(
        Gaussian(),
        lambda n, rng: TWO.rvs(n, random_state=rng),
        n_samples=m,
        n_generations=g,
        n_replicates=r,
        metrics={"v": lambda s: 5.0 if s.model is None else s.model.cov_[0, 0]},
        n_eval=1,
        rng=np.random.default_rng(3),
    )
    run = paths(TWO, m, 3000, seed=4, g=g)
    brute = history.array("v")
    assert stats.ks_2samp(brute[1], run.var[1]).pvalue > 1e-5
    assert stats.ks_2samp(brute[g], run.var[g]).pvalue > 1e-5
    assert stats.ks_2samp(brute[1], run.var[g]).pvalue < 1e-5


def test_smoother_variance_against_scikit_learn():
    m, h, g, r = 60, 0.6, 8, 200
    history = recurse(
        KernelDensity(bandwidth=h),
        lambda n, rng: TWO.rvs((n, 1), random_state=rng),
        n_samples=m,
        n_generations=g,
        n_replicates=r,
        metrics={"v": lambda s: TWO.var() if s.model is None else s.training.var() + h**2},
        n_eval=1,
        rng=np.random.default_rng(5),
    )
    v = history.array("v")[1:]
    law = functional.smoother_variance(np.arange(1, g + 1), m, h, TWO.var())
    se = v.std(axis=1, ddof=1) / np.sqrt(r)
    assert (np.abs(v.mean(axis=1) - law) < Z * se).all()
    assert abs(v[-1].mean() - TWO.var()) > Z * se[-1]
