"""Four errors in one loop: sample, family, procedure and rounding, each with a switch.

The loop refits a Gaussian by maximum likelihood. The sample is finite or not, the truth is normal
or not, the model writes all of its variance or a share of it, and the data are stored in a narrow
format or not. The mean variance obeys a linear recursion whatever is switched on. Taught in the
chapter ``together``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from . import _checks, precision
from .models.density import NormalMixture
from .models.gaussian import Paths, log_var_drift

Array = NDArray[np.float64]


def simulate(
    truth: NormalMixture,
    *,
    n_samples: int | None,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    bias: float = 1.0,
    dtype: str = "float64",
    offset: float = 0.0,
) -> Paths:
    """Refit a Gaussian with any of the errors; fits are by maximum likelihood.

    Generation n draws M rows from N(mean, bias * variance) of fit n - 1 (from the truth for
    n = 1), stores them in the format and fits them. The same `rng` state gives the same random
    numbers whatever is switched on.

    Parameters
    ----------
    truth : NormalMixture
        The real law, before `offset` is added. Its mean must be 0.
    n_samples : int or None
        M; None for unlimited data, where nothing is left to chance.
    n_generations, n_replicates : int
        G and R.
    rng : numpy.random.Generator
    bias : float
        Share of its variance that a model writes, in (0, 1].
    dtype : str
        Storage format of the rows, see :mod:`collapse_utils.precision`.
    offset : float
        Where the data lie, a number of the format.

    Returns
    -------
    Paths
        Mean minus offset, and variance; shape (G + 1, R).

    Raises
    ------
    ValueError
        If an argument is out of range, `offset` is not a number of the format, or the data are
        unlimited and narrower than one spacing of the format (Sheppard's correction fails).
    """
    g = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    bias = _checks.real("bias", bias, 0, 1, open_low=True)
    offset = _checks.real("offset", offset)
    _checks.generator(rng)
    if abs(truth.mean()) > 1e-12:
        raise ValueError(f"truth must have mean 0, got {truth.mean()}")
    if precision.round_to(offset, dtype) != offset:
        raise ValueError(f"offset must be a number of {dtype}, got {offset!r}")
    mean, var = np.zeros((g + 1, r)), np.empty((g + 1, r))
    var[0] = truth.var()
    if n_samples is None:
        return Paths(mean, _unlimited(truth, var, bias, float(precision.ulp(offset, dtype))))
    m = _checks.integer("n_samples", n_samples, 2)
    cuts = np.cumsum(truth.weights)[:-1]
    for n in range(1, g + 1):
        rows = rng.standard_normal((r, m))
        if n == 1:
            component = np.searchsorted(cuts, rng.random((r, m)))
            rows *= truth.sds[component]
            rows += truth.means[component]
        else:
            rows *= np.sqrt(bias * var[n - 1])[:, None]
            rows += mean[n - 1][:, None]
        if dtype != "float64":
            rows = precision.round_to(rows + offset, dtype) - offset
        mean[n] = rows.mean(axis=1)
        rows -= mean[n][:, None]
        var[n] = np.einsum("ij,ij->i", rows, rows) / m
    return Paths(mean, var)


def _unlimited(truth: NormalMixture, var: Array, bias: float, step: float) -> Array:
    noise = step**2 / 12
    for n in range(1, len(var)):
        before = truth.sds.min() if n == 1 else np.sqrt(bias * var[n - 1].min())
        if before < step:
            raise ValueError(
                f"dtype must store the data of generation {n} with a spacing below their standard "
                f"deviation {before:g}, got {step:g}"
            )
        var[n] = (var[0] if n == 1 else bias * var[n - 1]) + noise
    return var


# --------------------------------------------------------------------------- laws


def mean_variance(
    n: ArrayLike, m: float = np.inf, *, bias: float = 1.0, noise: float = 0.0, var: float = 1.0
) -> Array:
    """E[v_n]: v_1 = r (var + noise), v_n = r (bias v_{n-1} + noise) on average, r = 1 - 1/m.

    Parameters
    ----------
    n : array of int
        Generations, at least 1.
    m : float
        Rows per generation; infinite by default.
    bias, noise : float
        Share of the variance that is written, and variance added to every stored or smoothed row.
    var : float
        Variance of the truth.

    Returns
    -------
    ndarray, shape of `n`
    """
    keep = 1 - 1 / m
    ratio = keep * bias
    k = np.asarray(n, dtype=float) - 1
    first = keep * (var + noise)
    series = k if ratio == 1 else (1 - ratio**k) / (1 - ratio)
    return first * ratio**k + keep * noise * series


def excess_kl(paths: Paths) -> Array:
    """KL(g* || g_n), g* the Gaussian with the true mean and variance; shape (G + 1, R).

    Add the error of the family to it to get KL(truth || g_n): the two parts add exactly
    (chapter ``one_for_two``).
    """
    x = np.log(paths.var / paths.var[0])
    return drift_kl(x) + 0.5 * np.exp(-x) * (paths.mean - paths.mean[0]) ** 2 / paths.var[0]


def drift_kl(x: ArrayLike) -> Array:
    """KL from a Gaussian to one with exp(x) times its variance: (x + e^-x - 1)/2, about x^2/4."""
    x = np.asarray(x, dtype=float)
    return 0.5 * (x + np.expm1(-x))


def expected_kl(n: ArrayLike, m: int, bias: float = 1.0) -> Array:
    """E[KL(g* || g_n)] for a normal truth, finite sample and biased writing, exact.

    With rho = m/(m-3) = E[m / chi^2_{m-1}], the mean of log(v_n) is n times the drift (ddof = 0)
    plus (n-1) log bias; E[v_0/v_n] = rho^n bias^-(n-1); and step i + 1 of the mean contributes
    E[s_i / (m v_n)] = rho^(n-i) bias^-(n-i-1) / m, with s_i the variance that is written.

    Parameters
    ----------
    n : array of int
        Generations, at least 1.
    m : int
        Rows per generation, at least 4.
    bias : float

    Raises
    ------
    ValueError
        If m < 4 or `bias` is not in (0, 1].
    """
    m = _checks.integer("m", m, 4)
    bias = _checks.real("bias", bias, 0, 1, open_low=True)
    n = np.asarray(n, dtype=float)
    rho = m / (m - 3)
    log_mean = n * log_var_drift(m, ddof=0) + (n - 1) * np.log(bias)
    inverse = rho**n * bias ** (1 - n)
    drift = rho / m * ((rho / bias) ** n - 1) / (rho / bias - 1)
    return 0.5 * (log_mean + inverse + drift - 1)


def resting_variance(m: int, noise: float) -> stats.rv_continuous:
    """Law of v_n for large n and m when each generation adds `noise` to what it stores.

    v' = (v + noise) chi^2_{m-1} / m tends, as m grows with m * noise fixed, to a diffusion with
    drift noise - v/m and variance 2 v^2/m per generation. Its stationary density is proportional
    to v^-3 exp(-m noise / v): an inverse gamma with shape 2, mean m * noise, infinite variance.

    Returns
    -------
    scipy.stats frozen distribution
    """
    m = _checks.integer("m", m, 2)
    return stats.invgamma(2, scale=m * _checks.real("noise", noise, 0, open_low=True))


def interactions(cells: dict[frozenset[str], Array]) -> dict[frozenset[str], Array]:
    """Split the outcome of a factorial experiment into single effects and interactions.

    I(T) is the sum over U in T of (-1)^{|T| - |U|} D(U), so that D(T) is the sum of I over the
    subsets of T.

    Parameters
    ----------
    cells : dict of frozenset -> array
        D for every set of switches, the empty one included.

    Returns
    -------
    dict of frozenset -> array
        I for every set of switches that is not empty.

    Raises
    ------
    ValueError
        If a subset of one of the sets is missing.
    """
    parts: dict[frozenset[str], Array] = {}
    for switches in sorted(cells, key=len):
        inside = [u for u in cells if u < switches]
        if len(inside) != 2 ** len(switches) - 1:
            raise ValueError(f"cells must hold all subsets of {sorted(switches)}")
        parts[switches] = cells[switches] - sum(parts[u] for u in inside)
    del parts[frozenset()]
    return parts


# --------------------------------------------------------------------------- a smoother's rows


@dataclass(frozen=True)
class Inheritance:
    """Rows of a smoother's loop, split into what is inherited and what was added.

    Attributes
    ----------
    mean, var, inherited : ndarray, shape (G + 1, R)
        Mean and variance (of the rows, divided by M) at each generation, and the variance of the
        part of each row that comes from its real ancestor. Row 0 is the truth.
    """

    mean: Array
    var: Array
    inherited: Array


def simulate_smoother(
    truth: NormalMixture,
    *,
    bandwidth: float,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    bias: float = 1.0,
) -> Inheritance:
    """The loop of a kernel density estimate: pick a row, add noise, shrink towards the mean.

    Parameters
    ----------
    truth : NormalMixture
        Its mean must be 0.
    bandwidth : float
        Standard deviation h of the kernel.
    n_samples, n_generations, n_replicates : int
        M, G and R. Generation 1 holds M real rows.
    rng : numpy.random.Generator
    bias : float
        Rows are written with this share of the variance, around the mean of the model.

    Returns
    -------
    Inheritance

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    h = _checks.real("bandwidth", bandwidth, 0)
    bias = _checks.real("bias", bias, 0, open_low=True)
    m = _checks.integer("n_samples", n_samples, 2)
    g = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    _checks.generator(rng)
    old = truth.rvs((r, m), rng)  # what each row has from its ancestor
    rows = old.copy()
    shape = (g + 1, r)
    mean, var, inherited = np.zeros(shape), np.empty(shape), np.empty(shape)
    var[0] = inherited[0] = truth.var()
    for n in range(1, g + 1):
        if n > 1:
            pick = rng.integers(m, size=(r, m))
            pick += m * np.arange(r)[:, None]
            old = np.sqrt(bias) * old.ravel()[pick]
            centre = mean[n - 1][:, None]
            moved = rows.ravel()[pick] + h * rng.standard_normal((r, m)) - centre
            rows = centre + np.sqrt(bias) * moved
        mean[n], var[n], inherited[n] = rows.mean(axis=1), rows.var(axis=1), old.var(axis=1)
    return Inheritance(mean, var, inherited)
