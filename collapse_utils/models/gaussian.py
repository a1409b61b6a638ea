"""Refitted Gaussians: the model, and what is known of its loop under Replace.

For normal data the mean and the sum of squared deviations are independent, the one normal and the
other a scaled chi-square with M - 1 degrees of freedom, so the variance of the n-th fit is a
product of n independent chi-squares. Many lineages at once, under any workflow:
:class:`collapse_utils.lineages.Normal`. Taught in the chapters ``gaussian``, ``dimensions`` and
``sample_size``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from .._checks import checked, whole

Array = NDArray[np.float64]


@checked(ddof=whole(0, 1))
class Gaussian:
    """A Gaussian with fitted mean and covariance, in the loop's convention.

    - `ddof`: The sum of squares is divided by ``n - ddof``: 1 is the unbiased estimator of Theorem
      3.1 of Shumailov et al. (2024), 0 the maximum-likelihood one of their released notebook.

    - `mean_` (ndarray, shape (d,))
    - `cov_` (ndarray, shape (d, d))
    """

    def __init__(self, ddof: int = 1):
        self.ddof = ddof

    def fit(self, X: ArrayLike) -> Gaussian:
        """Fit mean and covariance to more than ddof rows of shape (n,) or (n, d)."""
        X = np.asarray(X, dtype=float)
        self._flat = X.ndim == 1
        rows = X[:, None] if self._flat else X
        if len(rows) <= self.ddof:
            raise ValueError(f"X must have more than ddof={self.ddof} rows, got {len(rows)}")
        self.mean_ = rows.mean(axis=0)
        centred = rows - self.mean_
        self.cov_ = centred.T @ centred / (len(rows) - self.ddof)
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` rows in the shape that ``fit`` was given."""
        # A square root by eigenvectors also serves a covariance that has lost rank.
        values, vectors = np.linalg.eigh(self.cov_)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        rows = self.mean_ + rng.standard_normal((n, len(self.mean_))) @ root.T
        return rows[:, 0] if self._flat else rows


@dataclass(frozen=True)
class _Scatter:
    """Of n rows of each lineage: mean, and a triangular factor of the sum of squares."""

    n: int
    mean: Array
    factor: Array


@cache
def _triangle(dim: int) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Places below the diagonal of a matrix, and on it."""
    return np.tril_indices(dim, -1), np.arange(dim)


@checked(ddof=whole(0, 1))
@dataclass(frozen=True)
class MultivariateNormal:
    """Gaussians in d dimensions for :func:`collapse_utils.lineages.generations`, without rows.

    A law is the mean, shape (R, d), and a lower-triangular factor L of the covariance L L^T, shape
    (R, d, d). The scatter matrix of n rows is L A A^T L^T with A lower triangular, A_jj^2 ~
    chi-square with n - j degrees of freedom and standard normal entries below (Bartlett 1933).
    Eigenvalues are the squared singular values of L: ``eigvalsh(L L^T)`` turns negative beyond a
    condition of 1e16. For Replace: the scatter of mixed rows has no such factor.
    """

    ddof: int = 1

    def draw(self, law: tuple[Array, Array], n: int, rng: np.random.Generator) -> _Scatter:
        """See :class:`collapse_utils.lineages.Family`."""
        mean, factor = law
        r, dim = mean.shape
        if n <= dim:
            raise ValueError(f"n_samples must be more than the {dim} dimensions, got {n}")
        below, diag = _triangle(dim)
        mean = mean + (factor @ rng.standard_normal((r, dim, 1)))[..., 0] / np.sqrt(n)
        spread = np.zeros((r, dim, dim))
        spread[:, diag, diag] = np.sqrt(rng.chisquare(n - 1 - diag, (r, dim)))
        spread[:, *below] = rng.standard_normal((r, len(below[0])))
        return _Scatter(n, mean, factor @ spread)

    def fit(self, sample: _Scatter) -> tuple[Array, Array]:
        """See :class:`collapse_utils.lineages.Family`."""
        return sample.mean, sample.factor / np.sqrt(sample.n - self.ddof)


# --------------------------------------------------------------------------- closed forms


def log_var_drift(m: ArrayLike, ddof: int = 1) -> Array:
    """E[log(v_n / v_{n-1})], the drift of the log-variance per generation.

    psi((m-1)/2) - log((m-ddof)/2), because v_n / v_{n-1} is chi-square(m-1) / (m-ddof).
    """
    m = np.asarray(m, dtype=float)
    return digamma((m - 1) / 2) - np.log((m - ddof) / 2)
