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
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from . import checks
from .categorical import probabilities
from .workflows import winners

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


def replicator(
    p: ArrayLike,
    reward: ArrayLike,
    *,
    n_candidates: float,
    n_generations: int,
    sharpness: float = 1.0,
    real_share: float = 0.0,
) -> Array:
    """Models of all generations when every sample is unlimited.

    ``p_{n+1} = real_share p_0 + (1 - real_share) p_n H_n`` with the factor H_n of
    :func:`winner_factor`: the loop of Ferbach et al. (2024), section 2, whose lambda is
    ``(1 - real_share) / real_share``. Index 0 is the truth; generation 1 is fitted to the truth
    and therefore equal to it; from generation 2 on, training rows have won a choice.

    Returns
    -------
    ndarray, shape (G + 1, S)
    """
    p = probabilities(p)
    share = checks.real("real_share", real_share, 0, 1)
    n_generations = checks.integer("n_generations", n_generations, 1)
    path = [p, p]
    for _ in range(n_generations - 1):
        won = path[-1] * winner_factor(path[-1], reward, n_candidates, sharpness=sharpness)
        path.append(share * p + (1 - share) * won / won.sum())
    return np.array(path)


def simulate(
    p: ArrayLike,
    reward: ArrayLike,
    *,
    n_candidates: float,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    sharpness: float = 1.0,
    real_share: float = 0.0,
) -> Array:
    """The same loop with finite training sets, for R lineages at once.

    The law is that of :func:`collapse_utils.recurse` with ``Categorical`` and
    ``Preferred(FreshData(real_share), ...)``: M independent winners are M draws from ``p H``.

    Parameters
    ----------
    p, reward, n_candidates, sharpness, real_share
        As in :func:`replicator`.
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (G + 1, R, S)
        Fitted frequencies; index 0 is the truth.
    """
    p = probabilities(p)
    m = checks.integer("n_samples", n_samples, 1)
    n_generations = checks.integer("n_generations", n_generations, 1)
    r = checks.integer("n_replicates", n_replicates, 1)
    checks.generator(rng)
    n_real = round(checks.real("real_share", real_share, 0, 1) * m)
    path = np.empty((n_generations + 1, r, len(p)))
    path[0], path[1] = p, rng.multinomial(m, p, size=r) / m
    for g in range(2, n_generations + 1):
        won = path[g - 1] * winner_factor(path[g - 1], reward, n_candidates, sharpness=sharpness)
        won /= won.sum(axis=1, keepdims=True)
        path[g] = (rng.multinomial(m - n_real, won) + rng.multinomial(n_real, p, size=r)) / m
    return path


# --------------------------------------------------------------------------- laws


def gain_bound(p: ArrayLike, reward: ArrayLike, n_candidates: float) -> Array:
    """Least gain of ``E e^r`` in one round: ``(K - 1)/K Var(e^r) / e^{max r}``.

    Ferbach et al. (2024), Lemma 2.2. `p` has shape (..., S); the maximum is over its support.
    """
    p, w = np.asarray(p, dtype=float), np.exp(np.asarray(reward, dtype=float))
    k = _candidates(n_candidates)
    spread = p @ w**2 - (p @ w) ** 2
    top = np.where(p > 0, w, 0.0).max(axis=-1)
    return (1 - 1 / k) * spread / top


def ratio_bound(real_share: float, n_candidates: float) -> float:
    """Largest ``p_n / p_0`` that any reward can reach when a share of every set is real.

    ``gamma / (1 - (1 - gamma) K)`` if the share gamma exceeds ``1 - 1/K``, and infinite
    otherwise; its logarithm bounds KL(p_n || p_0) (Ferbach et al. 2024, Theorem 2.4).
    """
    share = checks.real("real_share", real_share, 0, 1)
    k = _candidates(n_candidates)
    left = 1 - (1 - share) * k if share < 1 else 1.0
    return share / left if left > 0 else math.inf


def reproduction(real_share: float, n_candidates: float, advantage: float = math.inf) -> float:
    """Copies that one row of a very rare favourite leaves per generation.

    ``(1 - gamma) K e^a / (e^a + K - 1)`` where all other rows have the same reward and the
    favourite's is higher by a; ``(1 - gamma) K`` for a choice of the best.
    """
    share = checks.real("real_share", real_share, 0, 1)
    k = _candidates(n_candidates)
    if advantage == math.inf:
        return (1 - share) * k
    a = checks.real("advantage", advantage)
    return (1 - share) * (math.exp(a) if math.isinf(k) else k / (1 + (k - 1) * math.exp(-a)))


def best_of_normal(n_candidates: int) -> tuple[float, float]:
    """Mean and variance of the largest of K standard normals, by quadrature."""
    k = checks.integer("n_candidates", n_candidates, 1)
    from scipy.stats import norm

    x = 0.01 * np.arange(-1200, 1200)
    density = k * norm.pdf(x) * norm.cdf(x) ** (k - 1) * 0.01
    mean = float(density @ x)
    return mean, float(density @ (x - mean) ** 2)


def simulate_gaussian(
    reward: Callable[[Array], Array],
    *,
    n_candidates: float,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    sharpness: float = 1.0,
    top: float | None = None,
) -> tuple[Array, Array]:
    """A Gaussian refitted to the winners of its own rows, which are all drawn and compared.

    Starts from the standard normal as the model of generation 1; the variance is the unbiased one.

    Parameters
    ----------
    reward : callable
        Rewards of an array of numbers, elementwise.
    n_candidates : int or inf
        Infinite: a row is accepted with probability ``e^{sharpness (r - top)}``, which is what
        the choice among ever more rows tends to.
    n_samples, n_generations, n_replicates : int
        M (at least 2), G and R.
    rng : numpy.random.Generator
    sharpness : float
    top : float
        An upper bound of the reward, needed when `n_candidates` is infinite.

    Returns
    -------
    means, variances : ndarray, shape (G, R)
        Row g is the model of generation g + 1.

    Raises
    ------
    ValueError
        If an argument is out of range, or `top` is missing or exceeded.
    """
    k, sharpness = _candidates(n_candidates), _sharpness(sharpness)
    m = checks.integer("n_samples", n_samples, 2)
    n_generations = checks.integer("n_generations", n_generations, 1)
    r = checks.integer("n_replicates", n_replicates, 1)
    checks.generator(rng)
    if math.isinf(k) and (top is None or math.isinf(sharpness)):
        raise ValueError(
            "top, an upper bound of the reward, and a finite sharpness are needed when "
            f"n_candidates is infinite, got top={top!r} and sharpness={sharpness:g}"
        )
    means, variances = np.zeros((n_generations, r)), np.ones((n_generations, r))
    for g in range(1, n_generations):
        mean, sd = means[g - 1], np.sqrt(variances[g - 1])
        if math.isinf(k):
            rows = _accepted(reward, m, mean, sd, sharpness, top, rng)
        else:
            drawn = mean[:, None] + sd[:, None] * rng.standard_normal((r, m * int(k)))
            rewards = np.asarray(reward(drawn), dtype=float).reshape(r * m, int(k))
            won = winners(rewards, rng, sharpness=sharpness)
            rows = drawn.reshape(r * m, int(k))[np.arange(r * m), won].reshape(r, m)
        means[g], variances[g] = rows.mean(axis=1), rows.var(axis=1, ddof=1)
    return means, variances


def _accepted(reward, m, mean, sd, sharpness, top, rng) -> Array:
    """M rows per lineage by rejection, shape (R, M)."""
    rows, taken = np.empty((len(mean), m)), np.zeros(len(mean), dtype=np.int64)
    while (taken < m).any():
        short = np.flatnonzero(taken < m)
        drawn = mean[short, None] + sd[short, None] * rng.standard_normal((len(short), m))
        excess = np.asarray(reward(drawn), dtype=float) - top
        if (excess > 0).any():
            raise ValueError(f"top must be at least the largest reward, got {top!r}")
        kept = rng.random(drawn.shape) < np.exp(sharpness * excess)
        place = taken[short, None] + np.cumsum(kept, axis=1) - 1
        kept &= place < m
        line = np.broadcast_to(short[:, None], drawn.shape)
        rows[line[kept], place[kept]] = drawn[kept]
        taken[short] += kept.sum(axis=1)
    return rows


def divergence(p: ArrayLike, q: ArrayLike) -> Array:
    """KL(p || q) along the last axis, nats."""
    return rel_entr(p, q).sum(axis=-1)


# --------------------------------------------------------------------------- the workflow


def _candidates(value: float) -> float:
    return math.inf if value == math.inf else checks.integer("n_candidates", value, 1)


def _sharpness(value: float) -> float:
    return math.inf if value == math.inf else checks.real("sharpness", value, 0)
