"""Scaling laws with generated data: missing mass of Zipf's law, wrong labels, and model size.

The test error of the first part is the *missing mass*: the probability that a new draw from the
truth is a rank that the training data never showed (Hutter 2021). The truth is Zipf's law over
all ranks, p_i = c i^-b with c = 1/zeta(b). The second part is linear regression on its own labels
at any number of features; wrong labels are in :mod:`collapse_utils.regression`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma

from . import _checks
from .models import words
from .models.zipf import Zipf

Array = NDArray[np.float64]

LAST_RANK = 1e18  # beyond it the sums take the limit of p -> 0


# --------------------------------------------------------------------------- missing mass


@lru_cache(maxsize=8)
def _nodes(exponent: float, exact: int) -> tuple[Array, Array, Array]:
    """Ranks, probabilities and weights such that sum_i f(p_i) is about sum(weights * f(p)).

    The first `exact` ranks have weight 1. Beyond, the midpoint rule turns the sum into an
    integral over the logarithm of the rank (relative error of order 1/exact^2), which is taken by
    Simpson's rule.
    """
    law = Zipf(exponent)
    head = np.arange(1, exact + 1, dtype=float)
    log_rank = np.linspace(np.log(exact + 0.5), np.log(LAST_RANK), 2001)
    simpson = np.full(2001, 2.0)
    simpson[1::2] = 4.0
    simpson[[0, -1]] = 1.0
    tail = np.exp(log_rank)
    ranks = np.concatenate([head, tail])
    weights = np.concatenate([np.ones(exact), simpson * (log_rank[1] - log_rank[0]) / 3 * tail])
    return ranks, law.constant * ranks**-exponent, weights


def missing_mass(
    exponent: float,
    unseen: Callable[[Array], Array],
    *,
    cut: int | None = None,
    exact: int = 20_000,
) -> float:
    """Sum over all ranks of p_i * unseen(p_i).

    Parameters
    ----------
    exponent : float
        b > 1.
    unseen : callable
        Probability that the training data miss a rank, as a function of its p; 1 as p -> 0.
    cut : int
        Leave out the ranks up to `cut` (at most `exact`); default none.
    exact : int
        Ranks summed one by one; the rest by quadrature.

    Returns
    -------
    float
    """
    law = Zipf(exponent)
    ranks, p, weights = _nodes(exponent, _checks.integer("exact", exact, 10))
    terms = weights * p * unseen(p)
    # Beyond the last node nothing has been seen.
    rest = law.constant * LAST_RANK ** (1 - exponent) / (exponent - 1)
    return float(terms[ranks > _cut(cut, exact)].sum() + rest)


def clean_error(exponent: float, n_samples: float) -> float:
    """Expected missing mass of T real draws, the sum of p_i (1 - p_i)^T."""
    t = _checks.real("n_samples", n_samples, 0)
    return missing_mass(exponent, lambda p: np.exp(t * np.log1p(-p)))


def clean_error_limit(exponent: float, n_samples: ArrayLike) -> Array:
    """C T^-(1 - 1/b) with C = c^(1/b) Gamma(1 - 1/b) / b, the limit of :func:`clean_error`.

    Hutter (2021); the sum becomes an integral, in which x = T p is the variable.
    """
    b = Zipf(exponent).exponent
    constant = Zipf(b).constant ** (1 / b) * gamma(1 - 1 / b) / b
    return constant * np.asarray(n_samples, dtype=float) ** -(1 - 1 / b)


def cut_floor(exponent: float, cut: int) -> float:
    """Mass beyond rank k, about c k^(1-b) / (b-1): the floor that a cut tail leaves.

    The second term of Theorem 2.1 of Dohmatob et al. (2024, A Tale of Tails).
    """
    return Zipf(exponent).tail(_checks.integer("cut", cut, 1))


def mixed_error(exponent: float, *, n_real: float, n_model: float, cut: int) -> float:
    """Expected missing mass of real draws beside draws from a model that knows k ranks only.

    The model writes rank i <= k with probability q_i = p_i / (p_1 + ... + p_k). The expected
    error is the sum over i <= k of p_i (1-p_i)^n_real (1-q_i)^n_model and over i > k of
    p_i (1-p_i)^n_real (the setting of Theorems 2.1 and 3.2 of Dohmatob et al. 2024, A Tale of
    Tails).

    Parameters
    ----------
    exponent : float
        b > 1.
    n_real, n_model : float
        Numbers of draws, >= 0.
    cut : int
        k, from 1 to 20,000.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    m = _checks.real("n_real", n_real, 0)
    t = _checks.real("n_model", n_model, 0)
    cut = _cut(_checks.integer("cut", cut, 1), 20_000)
    p = Zipf(exponent).constant * np.arange(1, cut + 1, dtype=float) ** -exponent
    # With k = 1 the model writes rank 1 always: log1p(-1) is -inf, and 0 * -inf is no number.
    with np.errstate(divide="ignore"):
        log_miss = t * np.log1p(-p / p.sum()) if t else np.zeros(cut)
    head = (p * np.exp(m * np.log1p(-p) + log_miss)).sum()
    return float(head) + missing_mass(exponent, lambda q: np.exp(m * np.log1p(-q)), cut=cut)


def recursive_error(exponent: float, *, n_samples: int, n_generations: int) -> Array:
    """Expected missing mass of the n-th generation under Replace, exactly.

    The sum of p_i (1 - S_n(p_i)), with S_n(p) the probability that a symbol is alive
    (:func:`collapse_utils.models.words.survival`, by duality).

    Parameters
    ----------
    exponent : float
        b > 1.
    n_samples : int
        T per generation, at most 4000 (a matrix of that size).
    n_generations : int
        G.

    Returns
    -------
    ndarray, shape (G + 1,)
    """
    _, p, weights = _nodes(exponent, 200)
    alive = words.survival(p, n_samples=n_samples, n_generations=n_generations)
    rest = Zipf(exponent).constant * LAST_RANK ** (1 - exponent) / (exponent - 1)
    lost = (1 - alive) @ (weights * p) + rest
    lost[0] = 0.0
    return lost


def recursive_error_limit(exponent: float, *, n_samples: float, n_generations: int) -> Array:
    """The error of the n-th generation for large T: that of T g_n real draws, g_n about 2/n.

    Since S_n(p) tends to 1 - exp(-T p g_n) (Suresh et al. 2025), n generations multiply the error
    by g_n^-(1 - 1/b), about (n/2)^(1 - 1/b).

    Returns
    -------
    ndarray, shape (G + 1,)
        Index 0 is 0.
    """
    share = words.surviving_share(n_generations)[1:]
    return np.concatenate([[0.0], clean_error_limit(exponent, n_samples * share)])


def _cut(cut: int | None, exact: int) -> int:
    return 0 if cut is None else _checks.integer("cut", cut, 0, exact)


def simulate_recursive(
    exponent: float,
    *,
    sizes: ArrayLike,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """Missing mass along generations that copy rows of the one before (Replace), R times.

    Parameters
    ----------
    exponent : float
        b > 1.
    sizes : sequence of int
        Rows of generations 1, 2, ...
    n_replicates : int
        R.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (G + 1, R)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    law = Zipf(exponent)
    _checks.generator(rng)
    r = _checks.integer("n_replicates", n_replicates, 1)
    sizes = _checks.schedule(list(sizes), len(sizes))
    rows = rng.zipf(exponent, (r, int(sizes[0])))
    errors = [np.zeros(r), _missing(rows, law)]
    for m in map(int, sizes[1:]):
        rows = np.take_along_axis(rows, rng.integers(0, rows.shape[1], (r, m)), axis=1)
        errors.append(_missing(rows, law))
    return np.array(errors)


def simulate_mixed(
    exponent: float,
    *,
    n_real: int,
    n_model: int,
    cut: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """Missing mass of the mixture of :func:`mixed_error`, shape (R,)."""
    law = Zipf(exponent)
    _checks.generator(rng)
    r = _checks.integer("n_replicates", n_replicates, 1)
    n_real = _checks.integer("n_real", n_real, 0)
    n_model = _checks.integer("n_model", n_model, 0)
    cut = _checks.integer("cut", cut, 1)
    q = np.arange(1, cut + 1, dtype=float) ** -exponent
    # Which of the first k ranks occur is all that matters of the model's rows.
    seen = rng.multinomial(n_model, q / q.sum(), r) > 0
    p = law.constant * q
    if not n_real:
        return 1 - seen @ p
    rows = rng.zipf(exponent, (r, n_real))
    line = np.broadcast_to(np.arange(r)[:, None], rows.shape)
    seen[line[rows <= cut], rows[rows <= cut] - 1] = True
    beyond = law.tail(cut) - (1 - _missing(np.where(rows > cut, rows, 0), law))
    return 1 - law.tail(cut) - seen @ p + beyond


def _missing(rows: NDArray, law: Zipf) -> Array:
    """1 - the mass of the different ranks in each line; rank 0 stands for nothing."""
    ordered = np.sort(rows, axis=1)
    first = np.diff(ordered, axis=1, prepend=0) != 0
    ranks = np.where(first, ordered, 1).astype(float)
    return 1 - np.where(first, law.constant * ranks**-law.exponent, 0.0).sum(axis=1)


# --------------------------------------------------------------------------- model size


def size_error(
    n_generations: int, *, size: int, n_samples: int, signal: ArrayLike, noise: float = 1.0
) -> Array:
    """Expected error of the n-th generation of a model that uses the first `size` features.

    Least squares of minimum norm on T new rows each generation (Replace). The truth has
    independent standard normal inputs and weights with squares `signal`, largest first; the next
    generation's labels are the model's, with noise of the same variance. What the model does not
    use is noise to its first generation: tau = noise + rest, rest = the sum of signal beyond
    `size`. With s features:

    * T > s + 1: rest + tau s/(T-s-1) + (n-1) noise s/(T-s-1).
    * T < s - 1: each fit projects on T of s directions, so that the squared norm follows
      N_1 = (T/s) f + tau T/(s-T-1), N_n = (T/s) N_{n-1} + noise T/(s-T-1) with f the signal
      within, and the error is rest + N_n - 2 (T/s)^n f + f.

    The case of one generation is Belkin, Hsu and Xu (2020); recursion with fixed features is in
    Dohmatob, Feng and Kempe (2024).

    Parameters
    ----------
    n_generations : int
        G.
    size : int
        Features used, s; |T - s| >= 2.
    n_samples : int
        T.
    signal : array, shape (d,)
        Squared weights.
    noise : float

    Returns
    -------
    ndarray, shape (G + 1,)
        Index 0 is the error of knowing the truth, 0.

    Raises
    ------
    ValueError
        If an argument is out of range, or T is within 1 of the size (infinite expectation).
    """
    n_generations = _checks.integer("n_generations", n_generations, 1)
    signal = np.asarray(signal, dtype=float)
    s = _checks.integer("size", size, 1, len(signal))
    t = _checks.integer("n_samples", n_samples, 1)
    if abs(t - s) < 2:
        raise ValueError(f"size must differ from n_samples={t} by at least 2, got {s}")
    within, rest = signal[:s].sum(), signal[s:].sum()
    n = np.arange(1, n_generations + 1)
    if t > s:
        unit = s / (t - s - 1)
        return np.concatenate([[0.0], rest + (noise + rest + (n - 1) * noise) * unit])
    kept, unit = t / s, t / (s - t - 1)
    norm = [kept * within + (noise + rest) * unit]
    for _ in n[1:]:
        norm.append(kept * norm[-1] + noise * unit)
    return np.concatenate([[0.0], rest + np.array(norm) + (1 - 2 * kept**n) * within])


def simulate_size(
    n_generations: int,
    *,
    size: int,
    n_samples: int,
    signal: ArrayLike,
    n_replicates: int,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Array:
    """The chains of :func:`size_error` from raw rows, shape (G + 1, R)."""
    _checks.generator(rng)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    r = _checks.integer("n_replicates", n_replicates, 1)
    truth = np.sqrt(np.asarray(signal, dtype=float))
    s = _checks.integer("size", size, 1, len(truth))
    t = _checks.integer("n_samples", n_samples, 1)
    errors = [np.zeros(r)]
    w = np.broadcast_to(truth, (r, len(truth)))
    for _ in range(n_generations):
        # Inputs that the labels do not depend on need not be drawn.
        x = rng.standard_normal((r, t, w.shape[1]))
        y = x @ w[..., None] + np.sqrt(noise) * rng.standard_normal((r, t, 1))
        x = x[..., :s]
        xt = np.swapaxes(x, 1, 2)
        # Both are the fit of minimum norm; the smaller system is the one that can be solved.
        w = np.linalg.solve(xt @ x, xt @ y) if t >= s else xt @ np.linalg.solve(x @ xt, y)
        w = w[..., 0]
        errors.append(((w - truth[:s]) ** 2).sum(axis=1) + (truth[s:] ** 2).sum())
    return np.array(errors)
