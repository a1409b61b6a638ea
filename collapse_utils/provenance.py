"""Whose rows are these? A detector between the web and the training set, and its exact laws.

A detector flags rows as generated. It is right about a generated row with probability t (true
positive rate) and wrong about a real row with probability f (false positive rate). Two uses are
taught in the chapter on provenance: *filtering*, which raises the real share of what is trained on
(:func:`filtered_share`), and *weighting*, which treats the flag as evidence
(:func:`weighted_estimate`, :func:`effective_size`; Kanabar and Gastpar 2026).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from .models.words import probabilities

Array = NDArray[np.float64]


# --------------------------------------------------------------------------- filtering


def filtered_share(
    real_share: ArrayLike, true_positive: ArrayLike, false_positive: ArrayLike = 0.0
) -> Array:
    """Real share of the rows that a detector lets pass (Bayes' rule).

    Parameters
    ----------
    real_share, true_positive, false_positive : array, broadcastable
        Of the stream: share m of real rows; of the detector: rates t and f.

    Returns
    -------
    ndarray
        m (1 - f) / (m (1 - f) + (1 - m)(1 - t)).

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1] or no row passes.
    """
    m, t, f = (
        _unit(name, x)
        for name, x in (
            ("real_share", real_share),
            ("true_positive", true_positive),
            ("false_positive", false_positive),
        )
    )
    passed = m * (1 - f) + (1 - m) * (1 - t)
    if (passed == 0).any():
        raise ValueError("real_share, true_positive, false_positive must let some rows pass")
    return m * (1 - f) / passed


def _unit(name: str, x: ArrayLike) -> Array:
    values = np.asarray(x, dtype=float)
    if not ((values >= 0) & (values <= 1)).all():  # also refuses NaN
        raise ValueError(f"{name} must lie in [0, 1], got {x!r}")
    return values


# --------------------------------------------------------------------------- weighting


def effective_size(
    n_samples: int, real_share: float, real: ArrayLike, generated: ArrayLike
) -> float:
    """Number of clean rows that are worth n rows of a stream with a detector.

    n alpha^2 sum_w Q_1(w)^2 / (alpha Q_1(w) + (1 - alpha) Q_0(w)) = n alpha^2 (1 + chi^2(Q_1 ||
    Q_alpha)) (Kanabar and Gastpar 2026; derived in the chapter).

    Parameters
    ----------
    n_samples : int
        Rows of the stream, n.
    real_share : float
        alpha, above 0.
    real, generated : array, shape (W,)
        Q_1 and Q_0: probabilities of the detector's outputs for a real and a generated row.
        ``[1.0]`` for both is no detector; ``[1, 0]`` and ``[0, 1]`` one that never errs.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a share or a distribution is not valid.
    """
    n_samples = _checks.integer("n_samples", n_samples, 1)
    alpha = _checks.real("real_share", real_share, 0, 1, open_low=True)
    q1, _, mixed = _outputs(alpha, real, generated)
    seen = mixed > 0
    return float(n_samples * alpha**2 * (q1[seen] ** 2 / mixed[seen]).sum())


def _outputs(alpha: float, real: ArrayLike, generated: ArrayLike) -> tuple[Array, Array, Array]:
    q1, q0 = probabilities(real, "real"), probabilities(generated, "generated")
    if q1.shape != q0.shape:
        raise ValueError(
            f"real and generated must list the same outputs, got {len(q1)} and {len(q0)}"
        )
    return q1, q0, alpha * q1 + (1 - alpha) * q0


def weighted_estimate(
    counts: ArrayLike, previous: ArrayLike, real_share: float, real: ArrayLike, generated: ArrayLike
) -> Array:
    """Least-squares estimate of the real probabilities from a stream with a detector.

    Among the n_w rows with output w, a_w = alpha Q_1(w) / Q_alpha(w) are expected to be real, so
    their frequencies have the mean Q + a_w (P - Q), where Q is the model that wrote the others.
    Weighting each output by its count gives
    P = Q + sum_w n_w a_w (freq_w - Q) / sum_w n_w a_w^2.

    Parameters
    ----------
    counts : array, shape (R, W, K)
        Rows by output of the detector and symbol.
    previous : array, shape (R, K)
        Q of each replicate: the model that wrote the generated rows.
    real_share, real, generated
        See :func:`effective_size`.

    Returns
    -------
    ndarray, shape (R, K)
        Unbiased, so an entry may be negative.

    Raises
    ------
    ValueError
        If the shapes do not agree.
    """
    counts, previous = np.asarray(counts, dtype=float), np.asarray(previous, dtype=float)
    alpha = _checks.real("real_share", real_share, 0, 1, open_low=True)
    q1, _, mixed = _outputs(alpha, real, generated)
    if counts.ndim != 3 or counts.shape[1] != len(q1) or previous.shape != counts[:, 0].shape:
        raise ValueError(
            f"counts must have shape (R, {len(q1)}, K) and previous (R, K), got {counts.shape} "
            f"and {previous.shape}"
        )
    a = np.divide(alpha * q1, mixed, out=np.zeros_like(mixed), where=mixed > 0)
    n_w = counts.sum(axis=2)
    excess = counts - n_w[..., None] * previous[:, None, :]
    return previous + np.einsum("w,rwk->rk", a, excess) / (n_w @ a**2)[:, None]


def expected_error(
    p: ArrayLike,
    *,
    n_samples: int,
    n_generations: int,
    real_share: float,
    real: ArrayLike,
    generated: ArrayLike,
) -> Array:
    """Mean squared error of :func:`weighted_estimate` along the generations.

    Among the n_w rows with output w the law of a symbol is P + (1 - a_w)(Q - P), whose mean square
    is |P|^2 + (1 - a_w)^2 D_{n-1}, because the previous estimate Q is unbiased with mean squared
    error D_{n-1}. So D_n = sum_w n_w a_w^2 (1 - |P|^2 - (1 - a_w)^2 D_{n-1}) / (sum_w n_w a_w^2)^2:
    (1 - |P|^2) / n_eff but for a term of the order of 1 / n_eff^2.

    Parameters
    ----------
    p, n_samples, n_generations, real_share, real, generated
        See :func:`simulate_estimates`.

    Returns
    -------
    ndarray, shape (G,)
        With n_w at its mean, which errs by the order of 1/n, and as long as no estimate is
        negative.
    """
    p = probabilities(p)
    n_samples = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    alpha = _checks.real("real_share", real_share, 0, 1, open_low=True)
    q1, _, mixed = _outputs(alpha, real, generated)
    a = np.divide(alpha * q1, mixed, out=np.zeros_like(mixed), where=mixed > 0)
    weight = n_samples * mixed * a**2
    spread = 1 - p @ p
    error = [spread / n_samples]
    for _ in range(2, n_generations + 1):
        error.append(float(weight @ (spread - (1 - a) ** 2 * error[-1]) / weight.sum() ** 2))
    return np.array(error)


def simulate_estimates(
    p: ArrayLike,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    real_share: float,
    real: ArrayLike,
    generated: ArrayLike,
    rng: np.random.Generator,
) -> Array:
    """Squared error of :func:`weighted_estimate` along generations that each write for the next.

    Parameters
    ----------
    p : array, shape (K,)
        Real probabilities; generation 1 is the frequencies of n clean rows.
    n_samples, n_generations, n_replicates : int
    real_share, real, generated
        See :func:`effective_size`.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (G, R)
        Sum over symbols of (estimate - p)^2 at generations 1, ..., G. An estimate with a negative
        entry writes with that entry at zero.
    """
    p = probabilities(p)
    n_samples = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    _checks.generator(rng)
    alpha = _checks.real("real_share", real_share, 0, 1, open_low=True)
    q1, q0, _ = _outputs(alpha, real, generated)
    joint = np.stack([alpha * q1, (1 - alpha) * q0])  # origin by output
    model = rng.multinomial(n_samples, p, size=n_replicates) / n_samples
    error = [((model - p) ** 2).sum(axis=1)]
    for _ in range(2, n_generations + 1):
        law = joint[0][:, None] * p + joint[1][:, None] * model[:, None, :]
        law /= law.sum(axis=(1, 2), keepdims=True)
        drawn = rng.multinomial(n_samples, law.reshape(n_replicates, -1))
        estimate = weighted_estimate(drawn.reshape(law.shape), model, alpha, q1, q0)
        error.append(((estimate - p) ** 2).sum(axis=1))
        model = np.maximum(estimate, 0)
        model /= model.sum(axis=1, keepdims=True)
    return np.array(error)
