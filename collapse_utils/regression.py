"""Linear regression that labels its own next training set.

Inputs are standard normal in d dimensions, labels y = x . w + noise. Each generation fits least
squares, and the next one learns from the labels that this fit writes (Dohmatob, Feng and Kempe
2024; Gerstgrasser et al. 2024). The error |w_n - w|^2 is the expected squared error on a new input.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    it is sd L z with standard normal z: exact, and as cheap for many rows as for few. `noise` is
    the variance of the label noise. With `same_inputs` every generation labels the same inputs (as
    Gerstgrasser et al. 2024 do), so that `n_samples` has to be constant.
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
        if self._seen and n not in self._seen:
            raise ValueError(
                f"n_samples must be constant with the same inputs, got {[*self._seen, n]}"
            )
        factor = self._seen[n] if self._seen else _factor(r, n, d, rng)
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


@checked(dim=whole(1), noise=number(0))
def fit_error(dim: int, n_samples: ArrayLike, noise: float = 1.0) -> Array:
    """Expected error of one fit to T rows, noise * d / (T - d - 1), for T of at least d + 2.

    The mean of noise * tr (X'X)^-1, an inverse Wishart matrix (Gerstgrasser et al. 2024).
    """
    t = np.asarray(n_samples)
    if (t < dim + 2).any():
        raise ValueError(f"n_samples must be at least dim + 2 = {dim + 2}, got {t.min()}")
    return noise * dim / (t - dim - 1.0)


@checked(dim=whole(1), n_real=whole(), n_model=whole(), shift=number(0), noise=number(0))
def mislabelled_error(
    *, dim: int, n_real: int, n_model: int, shift: float, noise: float = 1.0
) -> float:
    """Expected error of a fit to real rows beside `n_model` rows whose labels follow w + delta.

    delta is random with mean zero, independent coordinates and E|delta|^2 = `shift`. Exact for any
    number of rows from d + 2 on; derived in the chapter on scaling, where Corollary 1 of Dohmatob
    et al. (2025) is the limit.
    """
    d, n2, n = dim, n_model, n_real + n_model
    base = float(fit_error(d, n, noise))
    # Means of zonal polynomials of U: (tr U)^2 + 2 tr U^2 and (tr U)^2 - tr U^2.
    two = n2 * (n2 + 2) / (n * (n + 2)) * (d**2 + 2 * d)
    ones = n2 * (n2 - 1) / (n * (n - 1)) * (d**2 - d)
    trace_square, square_trace = (two - ones) / 3, (two + 2 * ones) / 3
    t = (d * trace_square - square_trace) / (d * (d**2 + d - 2)) if d > 1 else 0.0
    s = (square_trace - 2 * t * d) / d**2
    return base + shift / d * ((s + t) * d + t * d * (n * d - 2) / (n - d - 1))
