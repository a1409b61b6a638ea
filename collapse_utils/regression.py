"""Linear regression that labels its own next training set: exact errors beside simulation.

Inputs are standard normal in d dimensions and labels y = x . w + noise. Each generation fits least
squares, and the next one learns from the labels that this fit writes, with noise of the same
variance (Dohmatob, Feng and Kempe 2024; Gerstgrasser et al. 2024). For such inputs the expected
squared error on a new input, without its noise, is |w_n - w|^2.

Throughout, index 0 of an array over generations is the truth and index n the n-th fit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .keeping import square_sum, training_sets
from .workflows import Accumulate, Replace, Workflow

Array = NDArray[np.float64]


def fit_error(dim: int, n_samples: ArrayLike, noise: float = 1.0) -> Array:
    """Expected error of one least-squares fit, noise * d / (T - d - 1).

    The mean of noise * tr (X'X)^-1, an inverse Wishart matrix (Gerstgrasser et al. 2024,
    with one generation).

    Parameters
    ----------
    dim : int
        d.
    n_samples : array of int
        T, at least d + 2.
    noise : float
        Variance of the label noise.

    Raises
    ------
    ValueError
        If T < d + 2: the expectation is infinite.
    """
    dim = checks.integer("dim", dim, 1)
    t = np.asarray(n_samples)
    if (t < dim + 2).any():
        raise ValueError(f"n_samples must be at least dim + 2 = {dim + 2}, got {t.min()}")
    return checks.real("noise", noise, 0) * dim / (t - dim - 1.0)


def replace_error(n: ArrayLike, *, dim: int, n_samples: int, noise: float = 1.0) -> Array:
    """Expected error of the n-th fit under Replace: n times that of one fit.

    w_n = w_{n-1} + (X'X)^-1 X'e with independent noise, on the same or on new inputs (Dohmatob et
    al. 2024; Gerstgrasser et al. 2024).
    """
    return np.asarray(n, dtype=float) * fit_error(dim, n_samples, noise)


def accumulate_error(
    n: ArrayLike, *, dim: int, n_samples: int, noise: float = 1.0, new_inputs: bool = False
) -> Array:
    """Expected error of the n-th fit under Accumulate.

    The normal equations give w_n = w_{n-1} + S_n^-1 X_n'e_n with S_n the Gram matrix of all inputs
    so far. With the same inputs every time S_n = n X'X, and the error is
    (1 + 1/4 + ... + 1/n^2) times that of one fit (Gerstgrasser et al. 2024). With new
    inputs the n Gram matrices in S_n are exchangeable, so that each adds 1/n of
    E tr S_n^-1 = d / (nT - d - 1): the sum of noise * d / (i (iT - d - 1)), a little less.

    Returns
    -------
    ndarray
        The shape of `n`.
    """
    n = np.asarray(n, dtype=int)
    if not new_inputs:
        return square_sum(n) * fit_error(dim, n_samples, noise)
    i = np.arange(1, n.max(initial=1) + 1)
    return np.concatenate([[0.0], np.cumsum(fit_error(dim, i * n_samples, noise) / i)])[n]


def simulate(
    workflow: Workflow | None = None,
    *,
    dim: int,
    n_samples: checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    noise: float = 1.0,
    new_inputs: bool = False,
    every_row: bool = False,
) -> Array:
    """Error |w_n - w|^2 of R independent chains of least-squares fits.

    Parameters
    ----------
    workflow : Replace, Accumulate, AccumulateSubsample, FreshData, or Mix with ``beta=0``
        Default :class:`Replace`.
    dim : int
        d.
    n_samples : int, sequence, or callable ``generation -> int``
        T, at least d; constant unless `new_inputs`.
    n_generations, n_replicates : int
        G and R.
    rng : numpy.random.Generator
    noise : float
        Variance of the label noise.
    new_inputs : bool
        Draw new inputs each generation, or label the same ones again (as Gerstgrasser et al. 2024
        do).
    every_row : bool
        Use rows even where the Gram matrix is enough (Replace and Accumulate): the oracle.

    Returns
    -------
    ndarray, shape (G + 1, R)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    workflow = Replace() if workflow is None else workflow
    checks.generator(rng)
    dim = checks.integer("dim", dim, 1)
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    noise = checks.real("noise", noise, 0)
    sizes = checks.schedule(n_samples, n_generations, low=dim)
    if not new_inputs and len(set(sizes)) > 1:
        raise ValueError(f"n_samples must be constant with the same inputs, got {sizes.tolist()}")
    run = _rows if every_row or not isinstance(workflow, (Replace, Accumulate)) else _gram
    weights = run(workflow, sizes, dim, n_replicates, rng, np.sqrt(noise), new_inputs)
    errors = [np.einsum("ij,ij->i", w, w) for w in weights]
    return np.array([np.zeros(n_replicates), *errors])


def _gram(workflow, sizes, dim, r, rng, sd, new_inputs):
    """Weights minus the truth: X'e given X'X = L L' is L z, and X'X is a Wishart matrix."""
    w = np.zeros((r, dim))
    total = np.zeros((r, dim, dim))
    for g, m in enumerate(map(int, sizes)):
        if g == 0 or new_inputs:
            factor = _bartlett(dim, m, r, rng)
            gram = factor @ np.swapaxes(factor, 1, 2)
        total = total + gram if isinstance(workflow, Accumulate) else gram
        shock = factor @ rng.standard_normal((r, dim, 1))
        w = w + sd * np.linalg.solve(total, shock)[..., 0]
        yield w


def _bartlett(dim: int, m: int, r: int, rng: np.random.Generator) -> Array:
    """Cholesky factors of r Wishart matrices with m degrees of freedom (Bartlett 1933)."""
    factor = np.zeros((r, dim, dim))
    lower = np.tril_indices(dim, -1)
    factor[:, lower[0], lower[1]] = rng.standard_normal((r, len(lower[0])))
    diagonal = np.arange(dim)
    factor[:, diagonal, diagonal] = np.sqrt(rng.chisquare(m - diagonal, (r, dim)))
    return factor


def _rows(workflow, sizes, dim, r, rng, sd, new_inputs):
    """The same from rows: a row holds its input and, last, its label (the true weights are 0)."""
    fixed = rng.standard_normal((r, int(sizes[0]), dim))

    def label(n: int, w: Array) -> Array:
        x = rng.standard_normal((r, n, dim)) if new_inputs else fixed[:, :n]
        y = (x @ w[..., None])[..., 0] + sd * rng.standard_normal((r, n))
        return np.concatenate([x, y[..., None]], axis=2)

    def fit(rows: Array) -> Array:
        x, y = rows[..., :-1], rows[..., -1:]
        xt = np.swapaxes(x, 1, 2)
        return np.linalg.solve(xt @ x, xt @ y)[..., 0]

    def real(n: int) -> Array:
        return label(n, np.zeros((r, dim)))

    def write(training: Array, n: int) -> Array:
        return label(n, fit(training))

    for rows in training_sets(workflow, sizes, real, write, rng):
        yield fit(rows)


def simulate_mixed(
    *,
    dim: int,
    n_real: int,
    n_model: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    weight: float,
    noise: float = 1.0,
) -> Array:
    """Error of w_n = weight * (fit to fresh rows) + (1 - weight) * (fit to generated rows).

    Inputs are new each generation, so that the expected error follows V' = weight^2 b(n_real) +
    (1 - weight)^2 (V + b(n_model)) with b of :func:`fit_error`. Generation 1 fits the real rows.

    Returns
    -------
    ndarray, shape (G + 1, R)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    checks.generator(rng)
    dim = checks.integer("dim", dim, 1)
    n_real = checks.integer("n_real", n_real, dim)
    n_model = checks.integer("n_model", n_model, dim)
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    weight = checks.real("weight", weight, 0, 1, open_low=True)
    sd = np.sqrt(checks.real("noise", noise, 0))

    def fit(n: int) -> Array:
        "Error of one fit to n rows: (L L')^-1 L z = L'^-1 z."
        factor = _bartlett(dim, n, n_replicates, rng)
        z = rng.standard_normal((n_replicates, dim, 1))
        return sd * np.linalg.solve(np.swapaxes(factor, 1, 2), z)[..., 0]

    weights = [np.zeros((n_replicates, dim)), fit(n_real)]
    for _ in range(n_generations - 1):
        weights.append(weight * fit(n_real) + (1 - weight) * (weights[-1] + fit(n_model)))
    return np.array([np.einsum("ij,ij->i", w, w) for w in weights])


# --------------------------------------------------------------------------- wrong labels


def mislabelled_error(
    *, dim: int, n_real: int, n_model: int, shift: float, noise: float = 1.0
) -> float:
    """Expected error of least squares on real rows beside rows with a shifted law, exactly.

    Rows of the second kind have labels x . (w + delta) + noise, where delta is random with mean
    zero, independent coordinates and E|delta|^2 = shift. Then the error is that of one fit to all
    n = n_real + n_model rows plus shift/d * E tr(A_2 A^-2 A_2), with A_2 of A the Gram matrix of
    those rows. U = A^-1/2 A_2 A^-1/2 has the matrix Beta law and is independent of A, with
    E[U_ij U_kl] = s delta_ij delta_kl + t (delta_ik delta_jl + delta_il delta_jk), and
    E[tr A tr A^-1] = d (n d - 2) / (n - d - 1), so that the trace is
    (s + t) d + t d (n d - 2) / (n - d - 1).

    For n >> d it tends to share^2 * shift: Corollary 1 of Dohmatob et al. (2025), see
    :func:`mislabelled_error_limit`.

    Parameters
    ----------
    dim : int
        d.
    n_real, n_model : int
        Rows of the two kinds; together at least d + 2.
    shift : float
        c^2, the squared length of the error in the labels' law.
    noise : float
        Variance of the label noise.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    d = checks.integer("dim", dim, 1)
    n2 = checks.integer("n_model", n_model, 0)
    n = checks.integer("n_real", n_real, 0) + n2
    shift = checks.real("shift", shift, 0)
    base = float(fit_error(d, n, noise))
    # Means of zonal polynomials of U: (tr U)^2 + 2 tr U^2 and (tr U)^2 - tr U^2.
    two = n2 * (n2 + 2) / (n * (n + 2)) * (d**2 + 2 * d)
    ones = n2 * (n2 - 1) / (n * (n - 1)) * (d**2 - d)
    trace_square, square_trace = (two - ones) / 3, (two + 2 * ones) / 3
    t = (d * trace_square - square_trace) / (d * (d**2 + d - 2)) if d > 1 else 0.0
    s = (square_trace - 2 * t * d) / d**2
    return base + shift / d * ((s + t) * d + t * d * (n * d - 2) / (n - d - 1))


def mislabelled_error_limit(
    *, dim: int, n_real: int, n_model: int, shift: float, noise: float = 1.0
) -> float:
    """Corollary 1 of Dohmatob et al. (2025, Strong Model Collapse), isotropic inputs.

    With phi = d/n and the share p_2 of the second kind,
    noise phi/(1-phi) + (p_2^2 + p_2 (1-p_2) phi/(1-phi)) shift.
    """
    n = n_real + n_model
    phi, share = dim / n, n_model / n
    odds = phi / (1 - phi)
    return noise * odds + (share**2 + share * (1 - share) * odds) * shift


def simulate_mislabelled(
    *,
    dim: int,
    n_real: int,
    n_model: int,
    shift: float,
    n_replicates: int,
    rng: np.random.Generator,
    noise: float = 1.0,
) -> Array:
    """Error of R fits to raw rows in the setting of :func:`mislabelled_error`, shape (R,)."""
    checks.generator(rng)
    d = checks.integer("dim", dim, 1)
    n2 = checks.integer("n_model", n_model, 0)
    n = checks.integer("n_real", n_real, 0) + n2
    errors = []
    for _ in range(checks.integer("n_replicates", n_replicates, 1)):
        x = rng.standard_normal((n, d))
        y = np.sqrt(noise) * rng.standard_normal(n)
        y[:n2] += x[:n2] @ (np.sqrt(shift / d) * rng.standard_normal(d))
        w = np.linalg.solve(x.T @ x, x.T @ y)
        errors.append(w @ w)
    return np.array(errors)


def fresh_error(
    n_generations: int, *, dim: int, n_samples: int, n_real: int, noise: float = 1.0
) -> Array:
    """Expected error of each fit when n_real of T rows are fresh, with new inputs, exactly.

    The previous error is a shift in the labels of the other rows, so :func:`mislabelled_error`
    is the recursion.

    Returns
    -------
    ndarray, shape (G + 1,)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_samples = checks.integer("n_samples", n_samples, 1)
    n_real = checks.integer("n_real", n_real, 0, n_samples)
    how = {"dim": dim, "n_real": n_real, "n_model": n_samples - n_real, "noise": noise}
    errors = [0.0, float(fit_error(dim, n_samples, noise))]
    for _ in range(n_generations - 1):
        errors.append(mislabelled_error(**how, shift=errors[-1]))
    return np.array(errors)
