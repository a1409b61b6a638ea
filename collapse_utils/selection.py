"""Exact laws and fast simulators of loops with a quality check.

Four small worlds. *Labels*: a linear classifier learns from labels that a verifier passed, once
or generation after generation. *Likelihood*: a Gaussian keeps its own most probable rows.
*Window*: a mean is refitted to the rows near a verifier's centre. *Soft*: a whole Gaussian is
refitted to rows that pass a soft verifier. The simulators draw what the fits depend on instead of
whole data sets; index 0 of an array over generations is the real data and index n the n-th fit.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from . import checks
from .gaussian import Paths

Array = NDArray[np.float64]


# --------------------------------------------------------------------------- labels


def breakdown(keep_right: float, keep_wrong: float) -> float:
    """Share of wrong labels up to which a verifier saves a learner, p* = 1 / (1 + psi/phi).

    Feng et al. (2025); phi and psi are the rates at which it keeps right and wrong
    labels. At p* half of the labels that pass are wrong.
    """
    phi, psi = _rates(keep_right, keep_wrong)
    return phi / (phi + psi)


def share_wrong(p: ArrayLike, keep_right: float, keep_wrong: float) -> Array:
    """Share of wrong labels among those that pass, p psi / (p psi + (1 - p) phi)."""
    phi, psi = _rates(keep_right, keep_wrong)
    p = np.asarray(p, dtype=float)
    return p * psi / (p * psi + (1 - p) * phi)


def one_round(
    wrong: float, *, n_samples: int, dim: int, n_replicates: int, rng: np.random.Generator
) -> Array:
    """Accuracy of the classifier mean(y x) on rows with a share of random wrong labels, exactly.

    Inputs are standard normal in d dimensions and the truth is the sign of one coordinate. On the
    true axis the mean is that of half-normals, minus for wrong labels; across it, a label is
    independent of the coordinates, so their means are normal with variance 1/n.

    Parameters
    ----------
    wrong : float
        Probability that a training label is wrong.
    n_samples, dim : int
        Training rows n and dimension d >= 2.
    n_replicates : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (R,)
        Share of new inputs that it labels as the truth does, 1 - angle / pi.
    """
    wrong = checks.real("wrong", wrong, 0, 1)
    n = checks.integer("n_samples", n_samples, 1)
    d = checks.integer("dim", dim, 2)
    r = checks.integer("n_replicates", n_replicates, 1)
    checks.generator(rng)
    n_wrong = rng.binomial(n, wrong, r)
    along = np.empty(r)
    for i, k in enumerate(n_wrong):
        size = np.abs(rng.standard_normal(n))
        along[i] = (size[k:].sum() - size[:k].sum()) / n
    across = np.sqrt(rng.chisquare(d - 1, r) / n)
    return 1 - np.arctan2(across, along) / math.pi


def expected_accuracy(wrong: float, *, n_samples: int, dim: int) -> float:
    """Mean of :func:`one_round`, with the mean on the true axis taken as normal.

    It is a mean of n bounded-moment variables, so the error of that is O(1/n). Integrated by
    Gauss-Hermite nodes and quantiles of the chi distribution.
    """
    wrong = checks.real("wrong", wrong, 0, 1)
    n = checks.integer("n_samples", n_samples, 1)
    d = checks.integer("dim", dim, 2)
    signal = (1 - 2 * wrong) * math.sqrt(2 / math.pi)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    along = signal + np.sqrt((1 - signal**2) / n) * nodes
    across = _chi_quantiles(d - 1) / math.sqrt(n)
    right = 1 - np.arctan2(across[:, None], along).mean(axis=0) / math.pi
    return float(weights @ right / weights.sum())


@functools.cache
def _chi_quantiles(df: int) -> Array:
    return stats.chi.ppf((np.arange(300) + 0.5) / 300, df)


def label_loop(
    wrong: float,
    keep_right: float,
    keep_wrong: float,
    *,
    n_samples: int,
    dim: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """Classifiers that label the next training set, with a verifier in between: error rates.

    Generation 1 learns mean(y x) from M rows with a share of random wrong labels. Each later one
    learns from M rows with fresh inputs that its parent labelled and the verifier passed. Only
    the plane of the truth and the parent's direction is drawn row by row; across it the mean of M
    rows is normal with variance 1/M, whatever the labels.

    Parameters
    ----------
    wrong : float
        Share of wrong labels in the data of generation 1.
    keep_right, keep_wrong : float
        phi and psi of the verifier.
    n_samples, dim : int
        M, and the dimension d >= 3 of the inputs.
    n_generations, n_replicates, rng
        G, R and the generator.

    Returns
    -------
    ndarray, shape (G + 1, R)
        Share of inputs that the classifier labels wrongly, angle / pi; row 0 is the truth's, 0.
    """
    phi, psi = _rates(keep_right, keep_wrong)
    m = checks.integer("n_samples", n_samples, 1)
    d = checks.integer("dim", dim, 3)
    g = checks.integer("n_generations", n_generations, 1)
    error = np.zeros((g + 1, checks.integer("n_replicates", n_replicates, 1)))
    error[1] = 1 - one_round(wrong, n_samples=m, dim=d, n_replicates=error.shape[1], rng=rng)
    for k in range(2, g + 1):
        angle = math.pi * error[k - 1]
        n_wrong = rng.binomial(m, share_wrong(error[k - 1], phi, psi))
        # y x lies on the parent's side; it is right where it lies on the truth's side as well.
        wrong_row = np.arange(m) < n_wrong[:, None]
        low = np.where(wrong_row, -math.pi / 2, angle[:, None] - math.pi / 2)
        width = np.where(wrong_row, angle[:, None], math.pi - angle[:, None])
        turn = low + width * rng.random(wrong_row.shape)
        radius = np.sqrt(2 * rng.standard_exponential(wrong_row.shape))
        forward = (radius * np.cos(turn)).mean(axis=1)  # along the parent
        sideways = (radius * np.sin(turn)).mean(axis=1)  # towards the truth
        along = forward * np.cos(angle) + sideways * np.sin(angle)
        within = forward * np.sin(angle) - sideways * np.cos(angle)
        across = np.hypot(within, np.sqrt(rng.chisquare(d - 2, len(angle)) / m))
        error[k] = np.arctan2(across, along) / math.pi
    return error


def label_floor(keep_right: float, keep_wrong: float, *, n_samples: int, dim: int) -> float:
    """Mean squared angle at which :func:`label_loop` settles, for small angles.

    On average a verified generation learns the direction ``w + k u`` (parent w, truth u) with
    ``k = (phi - psi) / (phi + psi)``, so an angle shrinks to its (1 + k)-th part, and the noise of
    M rows adds ``c = (d - 1) pi / 2M``, the squared angle that M real labels leave. The balance is
    ``c / (1 - (1 + k)^-2)``. Wrong rows are passed less often and those near the boundary are
    missed: terms of relative order of the angle, kept in the signal and neglected elsewhere.

    Raises
    ------
    ValueError
        If the verifier is not better than chance (phi <= psi): there is no floor.
    """
    phi, psi = _rates(keep_right, keep_wrong)
    if phi <= psi:
        raise ValueError(f"keep_right must exceed keep_wrong, got {phi:g} and {psi:g}")
    m = checks.integer("n_samples", n_samples, 1)
    d = checks.integer("dim", dim, 2)
    k = (phi - psi) / (phi + psi)
    real = (d - 1) * math.pi / (2 * m)
    floor = 0.0
    for _ in range(50):  # a contraction: the signal depends on the floor only weakly
        passed = phi - (phi - psi) * math.sqrt(floor) / math.pi
        floor = real * (passed / phi) ** 2 / (1 - (1 + k) ** -2)
    return floor


# --------------------------------------------------------------------------- likelihood


def central_factor(keep: ArrayLike) -> Array:
    """Variance left by the most probable share of a Gaussian, 1 - 2 c phi(c) / keep.

    c is the quantile with 2 Phi(c) - 1 = keep; the variance of a normal law cut at +-c.
    """
    keep = np.asarray(keep, dtype=float)
    c = ndtri((1 + keep) / 2)
    with np.errstate(invalid="ignore"):
        lost = np.where(keep < 1, 2 * c * stats.norm.pdf(c) / keep, 0.0)
    return 1 - lost


def central_loop(
    keep: float,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Paths:
    """Gaussians refitted (ddof = 1) to the most probable share of what the last one writes.

    Generation 1 sees real data, unfiltered. The mean variance of generation n is exactly
    ``central_factor(keep) ** (n - 1)``.

    Parameters
    ----------
    keep : float
        Share of its own density that a model's filter lets pass, in (0, 1].
    n_samples, n_generations, n_replicates, rng
        M rows that pass, G, R and the generator.

    Returns
    -------
    Paths
    """
    keep = checks.real("keep", keep, 0, 1, open_low=True)
    m = checks.integer("n_samples", n_samples, 2)
    g = checks.integer("n_generations", n_generations, 1)
    mean = np.zeros((g + 1, checks.integer("n_replicates", n_replicates, 1)))
    var = np.ones_like(mean)
    for n in range(1, g + 1):
        share = keep if n > 1 else 1.0
        rows = ndtri(0.5 + share * (rng.random((mean.shape[1], m)) - 0.5))
        sd = np.sqrt(var[n - 1])
        mean[n] = mean[n - 1] + sd * rows.mean(axis=1)
        var[n] = var[n - 1] * rows.var(axis=1, ddof=1)
    return Paths(mean, var)


# --------------------------------------------------------------------------- window


def window_map(theta: ArrayLike, centre: float, radius: float) -> Array:
    """Mean of N(theta, 1) within `radius` of `centre`: one generation with unlimited data."""
    theta = np.asarray(theta, dtype=float)
    low, high = centre - radius - theta, centre + radius - theta
    mass = ndtr(high) - ndtr(low)
    return theta + (stats.norm.pdf(low) - stats.norm.pdf(high)) / mass


def window_slope(theta: ArrayLike, centre: float, radius: float) -> Array:
    """Derivative of :func:`window_map`: the variance of the rows that pass, between 0 and 1."""
    theta = np.asarray(theta, dtype=float)
    low, high = centre - radius - theta, centre + radius - theta
    mass = ndtr(high) - ndtr(low)
    below, above = stats.norm.pdf(low), stats.norm.pdf(high)
    return 1 + (low * below - high * above) / mass - ((below - above) / mass) ** 2


def window_moments(
    start: float, centre: float, radius: float, *, n_samples: int, n_generations: int
) -> tuple[Array, Array]:
    """Mean and variance of theta_n in :func:`window_loop`, to order 1/M, each of shape (G + 1,).

    With g the map: ``mean <- g(mean) + g''(mean) var / 2`` and
    ``var <- g'(mean)^2 var + g'(mean) / M``; g'' by central differences.
    """
    m = checks.integer("n_samples", n_samples, 1)
    g = checks.integer("n_generations", n_generations, 1)
    mean, var, step = np.full(g + 1, float(start)), np.zeros(g + 1), 1e-4
    for n in range(1, g + 1):
        at = mean[n - 1]
        slope = window_slope(at, centre, radius)
        ahead, behind = window_slope(np.array([at + step, at - step]), centre, radius)
        mean[n] = window_map(at, centre, radius) + (ahead - behind) / (4 * step) * var[n - 1]
        var[n] = slope**2 * var[n - 1] + slope / m
    return mean, var


def window_loop(
    start: float,
    centre: float,
    radius: float,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """theta <- mean of M rows of N(theta, 1) that pass a :class:`~collapse_utils.curation.Window`.

    The setting of Yi et al. (2026) reduced to one number: the noise is known and not refitted.

    Parameters
    ----------
    start : float
        theta of the first model (index 0).
    centre, radius : float
        The verifier's window.
    n_samples, n_generations, n_replicates, rng
        M rows that pass, G, R and the generator.

    Returns
    -------
    ndarray, shape (G + 1, R)
    """
    m = checks.integer("n_samples", n_samples, 1)
    g = checks.integer("n_generations", n_generations, 1)
    checks.real("radius", radius, 0, open_low=True)
    theta = np.full((g + 1, checks.integer("n_replicates", n_replicates, 1)), float(start))
    for n in range(1, g + 1):
        before = theta[n - 1]
        # Mirrored so that the window lies in the lower tail, where the normal law keeps digits.
        sign = np.where(before > centre, 1.0, -1.0)[:, None]
        gap = np.abs(before - centre)[:, None]
        low, high = ndtr(-gap - radius), ndtr(-gap + radius)
        rows = ndtri(low + (high - low) * rng.random((theta.shape[1], m)))
        theta[n] = before + (sign * rows).mean(axis=1)
    return theta


# --------------------------------------------------------------------------- soft verifier


def soft_path(
    n_checks: ArrayLike, *, mean: float, var: float, centre: float, tau: float
) -> tuple[Array, Array]:
    """Mean and variance of a Gaussian after n soft checks, with unlimited data.

    A check multiplies the density by exp(-(x - centre)^2 / (2 tau^2)), so precisions add:
    ``1/v_n = 1/v + n/tau^2`` and ``m_n / v_n = m/v + n centre/tau^2``.

    Parameters
    ----------
    n_checks : array
        Number of checks n.
    mean, var : float
        The Gaussian before the first check.
    centre, tau : float
        The verifier, :class:`~collapse_utils.curation.Soft`.

    Returns
    -------
    mean, var : ndarray
    """
    n = np.asarray(n_checks, dtype=float)
    precision = 1 / var + n / tau**2
    return (mean / var + n * centre / tau**2) / precision, 1 / precision


def best_stop(*, mean: float, var: float, centre: float, tau: float, most: int = 10_000) -> int:
    """Number of soft checks, at most `most`, that brings a Gaussian closest to N(0, 1) in W2."""
    n = np.arange(checks.integer("most", most, 1) + 1)
    m, v = soft_path(n, mean=mean, var=var, centre=centre, tau=tau)
    return int(np.argmin(m**2 + (np.sqrt(v) - 1) ** 2))


def soft_loop(
    *,
    mean: float,
    var: float,
    centre: float,
    tau: float,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Paths:
    """Gaussians refitted (ddof = 1) to M rows that pass a soft verifier, exactly.

    Rows that pass are Gaussian (:func:`soft_path`), so a fit needs one normal and one chi-square
    variable. Generation 1 is fitted to M unchecked rows of N(mean, var).

    Parameters
    ----------
    mean, var : float
        The data at hand (index 0); they need not be the truth.
    centre, tau : float
        The verifier.
    n_samples, n_generations, n_replicates, rng
        M >= 2, G, R and the generator.

    Returns
    -------
    Paths
    """
    m = checks.integer("n_samples", n_samples, 2)
    g = checks.integer("n_generations", n_generations, 1)
    checks.real("tau", tau, 0, open_low=True)
    shape = g + 1, checks.integer("n_replicates", n_replicates, 1)
    means = np.full(shape, checks.real("mean", mean))
    variances = np.full(shape, checks.real("var", var, 0, open_low=True))
    for n in range(1, g + 1):
        passed = 0 if n == 1 else 1
        weight = passed / tau**2
        v = 1 / (1 / variances[n - 1] + weight)
        centre_passed = v * (means[n - 1] / variances[n - 1] + weight * centre)
        means[n] = centre_passed + np.sqrt(v / m) * rng.standard_normal(shape[1])
        variances[n] = v * rng.chisquare(m - 1, shape[1]) / (m - 1)
    return Paths(means, variances)


def expected_precision(n: ArrayLike, *, var: float, tau: float, n_samples: int) -> Array:
    """E[1/v_n] in :func:`soft_loop`, exactly (M > 3).

    With rho = E[(M - 1)/chi2] = (M - 1)/(M - 3): ``q_1 = rho/v`` and
    ``q_n = rho (q_{n-1} + 1/tau^2)``.
    """
    n = np.asarray(n, dtype=float)
    m = checks.integer("n_samples", n_samples, 4)
    rho = (m - 1) / (m - 3)
    return rho**n / var + rho * (rho ** (n - 1) - 1) / (rho - 1) / tau**2


def _rates(keep_right: float, keep_wrong: float) -> tuple[float, float]:
    phi = checks.real("keep_right", keep_right, 0, 1, open_low=True)
    return phi, checks.real("keep_wrong", keep_wrong, 0, 1)
