"""Enriching generated data: smoothing, inflation, temperature, editing; and what is known of each.

Vectorised simulators of words and Gaussians and the exact recursions that they obey (of edited
data: `collapse_utils.editing`).

Throughout, index 0 of an array over generations is the truth and index n the n-th model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from . import checks
from .categorical import probabilities
from .gaussian import Paths, log_var_drift

Array = NDArray[np.float64]
# --------------------------------------------------------------------------- words


def tempered(p: ArrayLike, temperature: float, n: int = 1) -> Array:
    """Distribution after n generations at a temperature with unlimited data, p ** (T ** -n).

    Each generation writes in proportion to ``p ** (1 / T)`` and the next one fits that exactly.
    T < 1 ends at the most probable symbols, T > 1 at the uniform law on the support, the two
    "heat deaths" of Marchi et al. (2024).

    Parameters
    ----------
    p : array, shape (..., K)
        Probabilities; zeros stay zero.
    temperature : float
        T > 0.
    n : int
        Number of generations.

    Returns
    -------
    ndarray, shape (..., K)
    """
    t = checks.real("temperature", temperature, 0, open_low=True)
    n = checks.integer("n", n, 0)
    p = np.asarray(p, dtype=float)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logs = np.log(p)
        top = logs.max(axis=-1, keepdims=True)
        weights = np.where(p > 0, np.exp(np.where(p > 0, logs - top, 0) * t ** float(-n)), 0.0)
    return weights / weights.sum(axis=-1, keepdims=True)


def smoothed(p: ArrayLike, share: float, q: ArrayLike) -> Array:
    """(1 - share) p + share q."""
    return (1 - share) * np.asarray(p) + share * np.asarray(q)


def smoothing_share(pseudo_count: float, n_symbols: int, n_samples: int) -> float:
    """u = a K / (M + a K): the share that a pseudo-count of a for each symbol takes."""
    extra = checks.real("pseudo_count", pseudo_count, 0) * checks.integer("n_symbols", n_symbols, 1)
    return extra / (checks.integer("n_samples", n_samples, 1) + extra)


@dataclass(frozen=True)
class Words:
    """What was recorded of word frequencies, each of shape (G + 1, R).

    Attributes
    ----------
    diversity : ndarray
        Heterozygosity 1 - sum p^2 of the model.
    distance : ndarray
        Squared distance sum (p_n - p_0)^2 from the truth.
    variation : ndarray
        Total variation distance from the truth.
    entropy : ndarray
        In nats.
    """

    diversity: Array
    distance: Array
    variation: Array
    entropy: Array


def word_loop(
    p: ArrayLike,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    write: Callable[[Array], Array] | None = None,
    n_fresh: int = 0,
    edit: float = 1.0,
) -> Words:
    """Word frequencies under any of the remedies of this module, R lineages at once.

    The model of generation n is ``write(counts / M)``. Generation n + 1 keeps each row of its
    parent's training set with probability ``1 - edit``; of the other rows, `n_fresh` are real and
    the rest are written by the model.

    Parameters
    ----------
    p : array, shape (K,)
        The truth.
    n_samples, n_generations, n_replicates, rng
        M, G, R and the generator.
    write : callable, optional
        (R, K) frequencies -> (R, K) probabilities that the model writes with; default the same.
    n_fresh : int
        New real rows in every generation from 2 on, at most M; only with ``edit=1``.
    edit : float
        Share of rows that is rewritten.

    Returns
    -------
    Words
    """
    p = probabilities(p)
    m = checks.integer("n_samples", n_samples, 1)
    g = checks.integer("n_generations", n_generations, 1)
    r = checks.integer("n_replicates", n_replicates, 1)
    n_fresh = checks.integer("n_fresh", n_fresh, 0, m)
    edit = checks.real("edit", edit, 0, 1)
    if n_fresh and edit < 1:
        raise ValueError(f"n_fresh={n_fresh} needs edit=1, got edit={edit:g}")
    checks.generator(rng)
    write = (lambda frequencies: frequencies) if write is None else write
    words = Words(*(np.empty((g + 1, r)) for _ in range(4)))
    _record(words, 0, p[None], p)
    counts = rng.multinomial(m, p, size=r)
    for n in range(1, g + 1):
        model = write(counts / m)
        _record(words, n, model, p)
        if n == g:
            break
        kept = counts if edit == 0 else 0 * counts
        if 0 < edit < 1:
            kept = rng.binomial(counts, 1 - edit)
        n_new = m - n_fresh - kept.sum(axis=1)
        counts = kept + _draw(n_new, model, rng) + rng.multinomial(n_fresh, p, size=r)
    return words


def _draw(n: NDArray[np.int64], model: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    # A row whose last column is zero may sum to a little less than one: the binomial steps of
    # numpy give what is left over to the last column, so the most probable one is put there.
    order = np.argsort(model, axis=1, kind="stable")
    drawn = rng.multinomial(n, np.take_along_axis(model, order, axis=1))
    counts = np.empty_like(drawn)
    np.put_along_axis(counts, order, drawn, axis=1)
    return counts


def _record(words: Words, n: int, model: Array, p: Array) -> None:
    words.diversity[n] = 1 - (model**2).sum(axis=1)
    words.distance[n] = ((model - p) ** 2).sum(axis=1)
    words.variation[n] = np.abs(model - p).sum(axis=1) / 2
    words.entropy[n] = -xlogy(model, model).sum(axis=1)


@dataclass(frozen=True)
class Moments:
    """Exact expectations of a smoothed loop.

    Attributes
    ----------
    mean : ndarray, shape (G + 1, K)
        E[p_n].
    diversity, distance : ndarray, shape (G + 1,)
        E[1 - sum p_n^2] and E[sum (p_n - p_0)^2].
    """

    mean: Array
    diversity: Array
    distance: Array


def smoothed_moments(
    p: ArrayLike, q: ArrayLike, share: float, *, n_samples: int, n_generations: int
) -> Moments:
    """Expectations of a loop whose models write ``(1 - u) f + u q``, f the frequencies of M rows.

    E[p_n] = q + (p_0 - q)(1 - u)^n. With S = E sum p_n^2 and r = E[p_n] . q,
    S_n = (1 - u)^2 [1/M + (1 - 1/M) S_{n-1}] + 2 u (1 - u) r_{n-1} + u^2 q.q, because f is
    multinomial given p_{n-1}. Population genetics knows this as drift with parent-independent
    mutation (Ewens 2004).

    Parameters
    ----------
    p, q : array, shape (K,)
        The truth and the source of the smoothing.
    share : float
        u in [0, 1]; see :func:`smoothing_share`.
    n_samples, n_generations : int
        M and G.

    Returns
    -------
    Moments
    """
    p, q = probabilities(p), probabilities(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"q must have as many symbols as p ({len(p)}), got {len(q)}")
    u = checks.real("share", share, 0, 1)
    m = checks.integer("n_samples", n_samples, 1)
    n = np.arange(checks.integer("n_generations", n_generations, 1) + 1)
    mean = q + (p - q) * ((1 - u) ** n)[:, None]
    square = np.full(len(n), p @ p)
    for k in n[1:]:
        drawn = 1 / m + (1 - 1 / m) * square[k - 1]
        square[k] = (1 - u) ** 2 * drawn + 2 * u * (1 - u) * (mean[k - 1] @ q) + u**2 * (q @ q)
    return Moments(mean, 1 - square, square - 2 * mean @ p + p @ p)


def stationary_diversity(q: ArrayLike, share: float, *, n_samples: int) -> float:
    """Where the diversity of :func:`smoothed_moments` ends: it depends on q, not on the truth."""
    q = probabilities(q, "q")
    u = checks.real("share", share, 0, 1, open_low=True)
    m = checks.integer("n_samples", n_samples, 1)
    own = q @ q
    square = ((1 - u) ** 2 / m + (2 * u * (1 - u) + u**2) * own) / (1 - (1 - u) ** 2 * (1 - 1 / m))
    return float(1 - square)


# --------------------------------------------------------------------------- Gaussians


def level_inflation(n_samples: int, ddof: int = 1) -> float:
    """exp(-delta_M): the factor on the variance that removes the drift of the log-variance."""
    return math.exp(-float(log_var_drift(n_samples, ddof)))


def inflated_loop(
    factor: float,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Paths:
    """Gaussians refitted (ddof = 1) to rows that were spread about their mean, exactly.

    The law of ``recurse`` with ``Inflated(Replace(), factor)``: the fitted variance is multiplied
    by `factor` from generation 2 on, the fitted mean is untouched. E[v_n] = factor ** (n - 1),
    and the mean of log v_n is ``n delta_M + (n - 1) log factor``.

    Returns
    -------
    Paths
        Arrays of shape (G + 1, R).
    """
    factor = checks.real("factor", factor, 0, open_low=True)
    m = checks.integer("n_samples", n_samples, 2)
    g = checks.integer("n_generations", n_generations, 1)
    r = checks.integer("n_replicates", n_replicates, 1)
    ratio = rng.chisquare(m - 1, (g, r)) / (m - 1)
    ratio[1:] *= factor
    var = np.concatenate([np.ones((1, r)), np.cumprod(ratio, axis=0)])
    steps = np.sqrt(var[:-1] / m) * rng.standard_normal((g, r))
    return Paths(np.concatenate([np.zeros((1, r)), np.cumsum(steps, axis=0)]), var)
