"""Linear regression that labels its own next training set: the family, and its exact errors.

Inputs are standard normal in d dimensions and labels y = x . w + noise. Each generation fits least
squares, and the next one learns from the labels that this fit writes, with noise of the same
variance (Dohmatob, Feng and Kempe 2024; Gerstgrasser et al. 2024). For such inputs the expected
squared error on a new input, without its noise, is |w_n - w|^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._checks import checked, number, whole

Array = NDArray[np.float64]


@dataclass(slots=True)
class Gram:
    """What least squares needs of n rows: X'X and X'y, shapes (R, d, d) and (R, d)."""

    n: int
    xx: Array
    xy: Array

    def __add__(self, other: Gram) -> Gram:
        if not self.n or not other.n:
            return self if self.n else other
        return Gram(self.n + other.n, self.xx + other.xx, self.xy + other.xy)

    def choose(self, n: int, rng: np.random.Generator) -> Gram:
        """All rows or none; a random part of them needs the rows themselves."""
        if n not in (0, self.n):
            raise ValueError(f"{n} of {self.n} rows are chosen from rows only: use RawRows")
        return self if n else Gram(0, self.xx, self.xy)


@checked(dim=whole(1), noise=number(0))
@dataclass(frozen=True)
class LeastSquares:
    """Least squares for :func:`collapse_utils.lineages.generations`; a law is w, shape (R, d).

    X'X is a Wishart matrix L L', drawn by its triangular factor (Bartlett 1933), and X'noise given
    it is sd L z with standard normal z: exact, and as cheap for many rows as for few.

    Parameters
    ----------
    dim : int
        d.
    noise : float
        Variance of the label noise.
    same_inputs : bool
        Label the same inputs in every generation (as Gerstgrasser et al. 2024 do), or new ones.
    """

    dim: int
    noise: float = 1.0
    same_inputs: bool = False
    _seen: dict[int, Array] = field(default_factory=dict, repr=False, compare=False)

    @property
    def least(self) -> int:
        """Fewest rows that a fit needs."""
        return self.dim

    def draw(self, law: Array, n: int, rng: np.random.Generator) -> Gram:
        """See :class:`collapse_utils.lineages.Family`."""
        r, d = law.shape
        if n == 0:
            return Gram(0, np.zeros((r, d, d)), np.zeros((r, d)))
        factor = self._seen.get(n)
        if factor is None:
            if self._seen:
                raise ValueError(
                    f"n_samples must be constant with the same inputs, got {[*self._seen, n]}"
                )
            factor = _factor(r, n, d, rng)
            if self.same_inputs:
                self._seen[n] = factor
        xx = factor @ np.swapaxes(factor, 1, 2)
        shock = factor @ rng.standard_normal((r, factor.shape[2], 1))
        return Gram(n, xx, (xx @ law[..., None] + np.sqrt(self.noise) * shock)[..., 0])

    def fit(self, sample: Gram) -> Array:
        """See :class:`collapse_utils.lineages.Family`."""
        return np.linalg.solve(sample.xx, sample.xy[..., None])[..., 0]


def _factor(r: int, n: int, d: int, rng: np.random.Generator) -> Array:
    """L with the law of X'X = L L', shape (R, d, min(n, d))."""
    if n < d:
        return rng.standard_normal((r, d, n))
    factor = np.zeros((r, d, d))
    lower, diagonal = np.tril_indices(d, -1), np.arange(d)
    factor[:, lower[0], lower[1]] = rng.standard_normal((r, len(lower[0])))
    factor[:, diagonal, diagonal] = np.sqrt(rng.chisquare(n - diagonal, (r, d)))
    return factor


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
    dim = _checks.integer("dim", dim, 1)
    t = np.asarray(n_samples)
    if (t < dim + 2).any():
        raise ValueError(f"n_samples must be at least dim + 2 = {dim + 2}, got {t.min()}")
    return _checks.real("noise", noise, 0) * dim / (t - dim - 1.0)


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
    d = _checks.integer("dim", dim, 1)
    n2 = _checks.integer("n_model", n_model, 0)
    n = _checks.integer("n_real", n_real, 0) + n2
    shift = _checks.real("shift", shift, 0)
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
    _checks.generator(rng)
    d = _checks.integer("dim", dim, 1)
    n2 = _checks.integer("n_model", n_model, 0)
    n = _checks.integer("n_real", n_real, 0) + n2
    errors = []
    for _ in range(_checks.integer("n_replicates", n_replicates, 1)):
        x = rng.standard_normal((n, d))
        y = np.sqrt(noise) * rng.standard_normal(n)
        y[:n2] += x[:n2] @ (np.sqrt(shift / d) * rng.standard_normal(d))
        w = np.linalg.solve(x.T @ x, x.T @ y)
        errors.append(w @ w)
    return np.array(errors)
