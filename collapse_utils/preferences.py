"""Human feedback as a loop: each row that is kept has won a choice among K rows of the model.

A reader who compares rows by Bradley and Terry's rule takes row i among K with probability
``e^{r_i} / (e^{r_1} + ... + e^{r_K})``. Retraining on the winners multiplies each probability by
a factor that depends on the reward alone: a replicator equation (Ferbach et al. 2024). The factor
is computed here exactly for any K, from a race of exponential clocks: give row i an alarm clock
of rate ``e^{r_i}``; the first to ring wins with just that probability.

A `sharpness` multiplies the rewards: 0 is no choice, infinity takes the best row always. For any
finite sharpness `n_candidates` may be infinite: then the factor is ``e^r / E e^r``.

Taught in the chapter ``feedback``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks

Array = NDArray[np.float64]

_STEP = 0.2  # of the quadrature in log-time: its error is of the order exp(-pi^2 / step)
_EARLY, _LATE = -40.0, 4.0  # log-times at which a clock of rate one has not yet rung, and has


# --------------------------------------------------------------------------- the choice


def winner_factor(
    p: ArrayLike, reward: ArrayLike, n_candidates: float, *, sharpness: float = 1.0
) -> Array:
    """How much more probable each symbol is among the winners than in the model.

    With ``w = e^{sharpness r}`` and ``phi(u) = E_p e^{-u w}``, the share of rows whose clock has
    not rung at time u, symbol x wins against K - 1 rows of the model with factor
    ``K int_0^inf w(x) e^{-u w(x)} phi(u)^{K-1} du``. The integral is a trapezoidal sum in log u,
    accurate to rounding. K = inf gives ``w / E_p w`` (Ferbach et al. 2024, Lemma 2.1). With
    infinite sharpness a level of reward wins with the increment of ``F^K``, where F is the
    distribution function of the reward.

    Parameters
    ----------
    p : array, shape (..., S)
        Probabilities of S symbols, one model per row.
    reward : array, shape (S,)
    n_candidates : int or inf
        K, at least 1.
    sharpness : float
        At least 0.

    Returns
    -------
    ndarray, shape (..., S)
        At most K, with mean one under p.

    Raises
    ------
    ValueError
        If shapes disagree, or both `n_candidates` and `sharpness` are infinite.
    """
    p, reward = np.asarray(p, dtype=float), np.asarray(reward, dtype=float)
    if reward.ndim != 1 or p.shape[-1:] != reward.shape or not np.isfinite(reward).all():
        raise ValueError(
            f"reward must give one finite number to each of the {p.shape[-1:]} symbols, got shape "
            f"{reward.shape}"
        )
    k, sharpness = _candidates(n_candidates), _sharpness(sharpness)
    if math.isinf(sharpness):
        if math.isinf(k):
            raise ValueError("n_candidates must be finite when sharpness is infinite, got inf")
        levels, level = np.unique(reward, return_inverse=True)
        mass = np.zeros((*p.shape[:-1], len(levels)))
        np.add.at(mass, (..., level), p)
        reach = np.minimum(np.cumsum(mass, axis=-1), 1.0)
        won = np.diff(reach**k, axis=-1, prepend=0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            # a level without mass would win, if a single row had it, with this factor
            return np.where(mass > 0, won / mass, k * reach ** (k - 1))[..., level]
    log_w = sharpness * (reward - reward.max())
    if math.isinf(k):
        w = np.exp(log_w)
        return w / (p @ w)[..., None]
    # arange would add the step to the start and lose digits of it
    log_u = _STEP * np.arange(_EARLY / _STEP, (_LATE - log_w.min()) / _STEP)
    rate = np.exp(np.minimum(log_w[:, None] + log_u, _LATE + 1))
    silent = np.exp(-rate)
    rings = rate * silent * _STEP
    return k * (np.maximum(p @ silent, 0.0) ** (k - 1)) @ rings.T


# --------------------------------------------------------------------------- the workflow


def _candidates(value: float) -> float:
    return math.inf if value == math.inf else _checks.integer("n_candidates", value, 1)


def _sharpness(value: float) -> float:
    return math.inf if value == math.inf else _checks.real("sharpness", value, 0)
