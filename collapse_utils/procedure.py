"""Training and writing procedures that err although the data are unlimited.

A model is trained by steps and writes by a rule. Steps that stop early (gradient descent, EM) and
rules that do not draw from the fitted model (less variance, another temperature) are maps on
distributions or on parameters; the loop applies them once per generation. Taught in the chapter
``training``. The rule that leaves out a decoder's noise is in :mod:`collapse_utils.models.vae`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from . import _checks
from .models.density import NormalMixture
from .models.gaussian import Paths

Array = NDArray[np.float64]

_REACH = 14  # quadrature ends 14 standard deviations out; 1e-44 of the probability is beyond


# --------------------------------------------------------------------------- gradient descent


def gradient_filter(eigenvalues: ArrayLike, rate: float, n_steps: int) -> Array:
    """Share of each eigen-direction that `n_steps` of gradient descent learn from a zero start.

    On a quadratic loss with Hessian eigenvalue l the error of a direction shrinks by 1 - rate l
    in each step, so what is learned is 1 - (1 - rate l)^n_steps.

    Parameters
    ----------
    eigenvalues : array
        Of the Hessian, >= 0.
    rate : float
        Step size; ``rate * eigenvalue`` must be below 2, or the descent diverges.
    n_steps : int

    Returns
    -------
    ndarray, shape of `eigenvalues`

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    values = np.asarray(eigenvalues, dtype=float)
    rate = _checks.real("rate", rate, 0, open_low=True)
    n_steps = _checks.integer("n_steps", n_steps, 1)
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise ValueError(f"eigenvalues must be finite and >= 0, got {values}")
    if rate * values.max(initial=0) >= 2:
        raise ValueError(
            f"rate must be below 2 / the largest eigenvalue = {2 / values.max():g}, got {rate:g}"
        )
    return 1 - (1 - rate * values) ** n_steps


def bumps(n_points: int, width: float) -> Array:
    """Features on a circle of length 1: a bump exp(-distance / width) at each of `n_points` places.

    Returns
    -------
    ndarray, shape (n_points, n_points)
        Row j: all features at place j / n_points. Each frequency is an eigen-direction.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n = _checks.integer("n_points", n_points, 2)
    width = _checks.real("width", width, 0, open_low=True)
    gap = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / n
    return np.exp(-np.minimum(gap, 1 - gap) / width)


def relearn(
    features: ArrayLike,
    truth: ArrayLike,
    *,
    n_steps: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    noise: float = 0.0,
    warm: bool = False,
) -> Array:
    """Learn a function by gradient descent from labels that the previous model writes.

    The model is linear in its features, the loss half the mean squared error over the N
    positions, and the rate 1 / (largest eigenvalue of the Hessian). Generation 1 starts at zero
    weights; later ones do so too, or (`warm`) at the weights of the model that wrote the labels.

    Parameters
    ----------
    features : array, shape (N, K)
    truth : array, shape (N,)
        Values of the real function.
    n_steps, n_generations, n_replicates : int
    rng : numpy.random.Generator
    noise : float
        Standard deviation of the labels around the model's values; 0 stands for unlimited data.
    warm : bool

    Returns
    -------
    ndarray, shape (G + 1, R, N)
        Values of the truth and of the fitted functions.

    Raises
    ------
    ValueError
        If an argument is out of range or the shapes do not fit.
    """
    phi, truth = np.asarray(features, dtype=float), np.asarray(truth, dtype=float)
    if phi.ndim != 2 or truth.shape != phi.shape[:1]:
        raise ValueError(
            f"features and truth must have shapes (N, K) and (N,), got {phi.shape}, {truth.shape}"
        )
    n_steps = _checks.integer("n_steps", n_steps, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    noise = _checks.real("noise", noise, 0)
    _checks.generator(rng)
    rate = len(phi) / np.linalg.norm(phi, 2) ** 2
    values = np.empty((n_generations + 1, n_replicates, len(phi)))
    values[0] = truth
    weights = np.zeros((n_replicates, phi.shape[1]))
    for g in range(1, n_generations + 1):
        labels = values[g - 1] + noise * rng.standard_normal(values[g].shape)
        if not warm:
            weights = np.zeros_like(weights)
        for _ in range(n_steps):
            weights = weights - (rate / len(phi)) * (weights @ phi.T - labels) @ phi
        values[g] = weights @ phi.T
    return values


def relearned(
    n: ArrayLike, learned: ArrayLike, noise: float = 0.0, *, warm: bool = False
) -> tuple[Array, Array]:
    """What :func:`relearn` makes of a direction: E[c_n] / c_0 and Var[c_n].

    From zero, c_n = f (c_{n-1} + noise), with f the share that is learned; from the last model,
    c_n = c_{n-1} + f noise after the first generation.

    Parameters
    ----------
    n : array of int
        Generations, at least 1.
    learned : array, broadcastable with `n`
        f, from :func:`gradient_filter`.
    noise : float
        Standard deviation of the label noise along the direction.
    warm : bool

    Returns
    -------
    factor, variance : ndarray
        Fresh: f^n and noise^2 (f^2 + f^4 + ... + f^{2n}); warm: f and n f^2 noise^2.
    """
    n, f = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(learned, dtype=float))
    if warm:
        return f.copy(), n * f**2 * noise**2
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(f == 1, n, f**2 * (1 - f ** (2 * n)) / (1 - f**2))
    return f**n, noise**2 * total


# --------------------------------------------------------------------------- EM, unlimited data


def _grid(p: NormalMixture) -> tuple[Array, Array]:
    """Nodes and probabilities; the trapezoid rule converges exponentially for normal densities."""
    step = p.sds.min() / 8
    half = int(np.ceil(_REACH * np.sqrt(p.var()) / step))
    x = p.mean() + step * np.arange(-half, half + 1)
    return x, p.pdf(x) * step


def _shares(x: Array, q: NormalMixture) -> Array:
    joint = np.log(q.weights) - 0.5 * ((x[:, None] - q.means) / q.sds) ** 2 - np.log(q.sds)
    joint = np.exp(joint - joint.max(axis=1, keepdims=True))
    return joint / joint.sum(axis=1, keepdims=True)


def em_unlimited(p: NormalMixture, start: NormalMixture, n_steps: int) -> NormalMixture:
    """EM steps on unlimited data from `p`, all sums replaced by integrals.

    Parameters
    ----------
    p, start : NormalMixture
        What writes the data, and where EM starts.
    n_steps : int

    Returns
    -------
    NormalMixture

    Raises
    ------
    ValueError
        If `n_steps` is not an integer >= 1.
    """
    x, mass = _grid(p)
    q = start
    for _ in range(_checks.integer("n_steps", n_steps, 1)):
        shares = _shares(x, q) * mass[:, None]
        count = shares.sum(axis=0)
        means = x @ shares / count
        sds = np.sqrt(((x[:, None] - means) ** 2 * shares).sum(axis=0) / count)
        q = NormalMixture(means, sds, count / count.sum())
    return q


def two_means(p: NormalMixture) -> NormalMixture:
    """The start that k-means gives EM on unlimited data from `p`: two halves, hard split.

    Lloyd's iteration from the mean of `p`; the moments of a normal cut at c are closed forms.

    Raises
    ------
    ValueError
        If the iteration has not settled after 1,000 steps.
    """
    cut = p.mean()
    for _ in range(1000):
        a = (cut - p.means) / p.sds
        density = np.exp(-0.5 * a**2) / np.sqrt(2 * np.pi)
        below = p.weights @ ndtr(a)
        first = p.weights @ (p.means * ndtr(a) - p.sds * density)
        low, high = first / below, (p.mean() - first) / (1 - below)
        previous, cut = cut, (low + high) / 2
        if abs(cut - previous) <= 1e-13 * np.sqrt(p.var()):
            break
    else:
        raise ValueError(f"p must let k-means settle within 1,000 steps, got {p}")
    square = p.means**2 + p.sds**2
    second = p.weights @ (square * ndtr(a) - p.sds * (p.means + cut) * density)
    whole = p.weights @ square
    sds = np.sqrt([second / below - low**2, (whole - second) / (1 - below) - high**2])
    return NormalMixture([low, high], sds, [below, 1 - below])


def em_spread(p: NormalMixture, n_steps: int) -> tuple[Array, Array]:
    """How far EM moves from the truth on a sample of N rows, to first order in 1/N.

    A step is theta' = theta + J (theta - theta_0) + (mean of psi over the rows), with psi the
    change that one row asks for and J the share of missing information, both at the truth
    theta_0 (Dempster, Laird and Rubin 1977). From theta_0, t steps give
    (1 + J + ... + J^(t-1)) (mean of psi) = (1 - J^t) (maximum-likelihood error).

    Parameters
    ----------
    p : NormalMixture
        The truth, K components; the start of EM as well.
    n_steps : int
        t.

    Returns
    -------
    covariance : ndarray, shape (3K, 3K)
        N times the covariance of (weights, means, variances) after t steps.
    rates : ndarray, shape (3K,)
        Eigenvalues of J, largest first: what is left of an error after one step.
    """
    n_steps = _checks.integer("n_steps", n_steps, 1)
    x, mass = _grid(p)
    r = _shares(x, p)
    d = x[:, None] - p.means
    psi = np.hstack([r - p.weights, r * d / p.weights, r * (d**2 - p.sds**2) / p.weights])
    k = len(p.means)
    # gradient of each component's log-density, and through it of the responsibilities
    gradient = np.stack(
        [1 / p.weights + 0 * d, d / p.sds**2, (d**2 / p.sds**2 - 1) / (2 * p.sds**2)]
    )
    value = np.stack([1 + 0 * d, d / p.weights, (d**2 - p.sds**2) / p.weights])
    jacobian = np.empty((3 * k, 3 * k))
    for column in range(3 * k):
        kind, j = divmod(column, k)
        change = -r * (r * gradient[kind])[:, [j]]
        change[:, j] += (r * gradient[kind])[:, j]
        jacobian[:, column] = (mass[:, None] * value * change).sum(axis=1).ravel()
    power, series = np.eye(3 * k), np.zeros((3 * k, 3 * k))
    for _ in range(n_steps):
        series, power = series + power, power @ jacobian
    rates = np.sort(np.linalg.eigvals(jacobian).real)[::-1]
    return series @ (psi.T @ (psi * mass[:, None])) @ series.T, rates


# --------------------------------------------------------------------------- biased writing


def simulate_biased(
    bias: float,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Paths:
    """Refit a Gaussian (ddof = 1) that writes with `bias` times its variance.

    The sampling bias of Alemohammad et al. (2024, section 3): N(mean, bias * variance) instead of
    the fit. For a Gaussian it equals the temperature `bias`. Real data are not biased.

    Parameters
    ----------
    bias : float
        Above 0; 1 is no bias.
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator

    Returns
    -------
    collapse_utils.models.gaussian.Paths
        Means of the fits, and variances *written*: row 0 is the truth, row n has bias * v_n.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    bias = _checks.real("bias", bias, 0, open_low=True)
    m = _checks.integer("n_samples", n_samples, 2)
    shape = (
        _checks.integer("n_generations", n_generations, 1),
        _checks.integer("n_replicates", n_replicates, 1),
    )
    _checks.generator(rng)
    start = np.ones((1, shape[1]))
    factors = bias * rng.chisquare(m - 1, shape) / (m - 1)
    var = np.cumprod(np.vstack([start, factors]), axis=0)
    steps = np.sqrt(var[:-1] / m) * rng.standard_normal(shape)
    return Paths(np.cumsum(np.vstack([0 * start, steps]), axis=0), var)


def biased_moments(n: ArrayLike, bias: float, m: int) -> tuple[Array, Array]:
    """E[written variance] = bias^n and E[mean_n^2] = (1 + bias + ... + bias^(n-1)) / m.

    Exact for every m (`simulate_biased`); the first is eq. 2 of Alemohammad et al. (2024).
    """
    n = np.asarray(n, dtype=float)
    total = n if bias == 1 else (1 - bias**n) / (1 - bias)
    return bias**n, total / m


def temper(log_p: ArrayLike, temperature: float) -> Array:
    """Log-probabilities of p^(1/T), normalised over the last axis.

    Parameters
    ----------
    log_p : array, shape (..., K)
    temperature : float
        T > 0. Below 1 the probable becomes more probable.

    Raises
    ------
    ValueError
        If the temperature is not positive.
    """
    scaled = np.asarray(log_p, dtype=float) / _checks.real(
        "temperature", temperature, 0, open_low=True
    )
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
