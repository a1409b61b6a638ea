"""Data that are edited instead of replaced: a share q of the rows is rewritten in each pass.

One number governs all of it, q (2 - q). A pass of words costs that share of a generation of
diversity, a pass of regression labels that share of one fit's error. So editing slows the clock
of collapse, and stops it only if the shares sum to something finite.

Index 0 of an array is the truth, index 1 the fit to real data, index 1 + k the fit after k passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .categorical import probabilities

Array = NDArray[np.float64]


def pass_cost(share: ArrayLike) -> Array:
    """q (2 - q): cost of one pass in units of a generation that is replaced as a whole."""
    q = np.asarray(share, dtype=float)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"share must lie in [0, 1], got {share!r}")
    return q * (2 - q)


def edited_diversity(p: ArrayLike, shares: Sequence[float], *, n_samples: int) -> Array:
    """E[1 - sum p_n^2] of word frequencies, exactly, shape (len(shares) + 2,).

    Two rows that no pass touched stay as they were; if one or both were rewritten, with
    probability q (2 - q), they are copies of one row with probability 1/M. So the chance that two
    *different* rows differ is multiplied by 1 - q (2 - q) / M in each pass, and that of two draws
    with replacement is smaller by 1 - 1/M.
    """
    p = probabilities(p)
    m = checks.integer("n_samples", n_samples, 1)
    factors = 1 - pass_cost(np.asarray(shares, dtype=float)) / m
    start = 1 - p @ p
    return start * np.concatenate([[1.0], (1 - 1 / m) * np.cumprod([1.0, *factors])])


def regression_error(X: ArrayLike, shares: Sequence[float], *, noise: float = 1.0) -> Array:
    """E|w_n - w|^2 of least squares on labels of which a share is rewritten in each pass, exactly.

    With P the projection on the columns of X and R = I - P, a pass with a random diagonal mask Q
    turns the label errors e into (I - Q R) e + Q (new noise). With C = E[e e'], and because the
    entries of the mask are independent,

    C <- C - q (R C + C R) + q^2 R C R + q (1 - q) diag(R C R) + q noise I.

    Parameters
    ----------
    X : array, shape (T, d)
        Inputs, the same in every pass.
    shares : sequence of float
        q of each pass.
    noise : float
        Variance of the labels' noise.

    Returns
    -------
    ndarray, shape (len(shares) + 2,)
    """
    X, noise = _inputs(X), checks.real("noise", noise, 0)
    pass_cost(np.asarray(shares, dtype=float))
    fit = np.linalg.pinv(X)
    rest = np.eye(len(X)) - X @ fit
    C = noise * np.eye(len(X))
    errors = [0.0, _trace(fit, C)]
    for q in shares:
        missed = rest @ C
        both = missed @ rest
        C = C - q * (missed + missed.T) + q**2 * both
        C += np.diag(q * (1 - q) * np.diagonal(both) + q * noise)
        errors.append(_trace(fit, C))
    return np.array(errors)


def regression_error_approximate(shares: Sequence[float], one_fit: float) -> Array:
    """b (1 + sum of q (2 - q)): :func:`regression_error` for many more rows than inputs."""
    cost = np.cumsum([0.0, *pass_cost(np.asarray(shares, dtype=float))])
    return one_fit * np.concatenate([[0.0], 1 + cost])


def regression_loop(
    X: ArrayLike,
    shares: Sequence[float],
    *,
    n_replicates: int,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Array:
    """Squared errors |w_n - w|^2 of R lineages that edit labels on the inputs X.

    Returns
    -------
    ndarray, shape (len(shares) + 2, R)
    """
    X, noise = _inputs(X), checks.real("noise", noise, 0)
    r = checks.integer("n_replicates", n_replicates, 1)
    pass_cost(np.asarray(shares, dtype=float))
    fit, sd = np.linalg.pinv(X), np.sqrt(noise)
    labels = sd * rng.standard_normal((r, len(X)))  # errors of the labels: the truth is w = 0
    weights = labels @ fit.T
    errors = [np.zeros(r), (weights**2).sum(axis=1)]
    for q in shares:
        rewritten = rng.random(labels.shape) < q
        written = weights @ X.T + sd * rng.standard_normal(labels.shape)
        labels = np.where(rewritten, written, labels)
        weights = labels @ fit.T
        errors.append((weights**2).sum(axis=1))
    return np.array(errors)


def _trace(fit: Array, C: Array) -> float:
    return float(np.einsum("ij,jk,ik->", fit, C, fit, optimize=True))


def _inputs(X: ArrayLike) -> Array:
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or X.shape[0] <= X.shape[1] or np.linalg.matrix_rank(X) < X.shape[1]:
        raise ValueError(f"X must have more rows than columns and full rank, got shape {X.shape}")
    return X
