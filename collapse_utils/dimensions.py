"""Refitted Gaussians in d dimensions: the law of the spectrum, the volume and the resting place.

Truth N(0, I), workflow Replace, M samples per generation. A covariance fitted to M normal rows is
``L W L^T / (M - ddof)`` with W a Wishart matrix of M - 1 degrees of freedom, so the n-th fit is a
product of n independent random matrices, whose logarithmic growth rates (Lyapunov exponents) are
known exactly (Newman 1986). Paths: :func:`~collapse_utils.models.gaussian.simulate_nd`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, fdtr, polygamma

from . import _checks

Array = NDArray[np.float64]


def exponents(m: int, dim: int, ddof: int = 1) -> Array:
    """Growth per generation of the logarithms of the eigenvalues, largest first.

    The squared volume that W gives to a j-dimensional unit cube is a product of independent
    chi-squares with M - 1, ..., M - j degrees of freedom, and the largest j eigenvalues grow like
    the volume of a generic j-dimensional cube. So the j-th exponent is
    ``psi((M-j)/2) - log((M-ddof)/2)``, about -j/M with ddof = 1 (Newman 1986 for products of
    Gaussian matrices).

    Parameters
    ----------
    m : int
        M, samples per generation, more than `dim`.
    dim : int
        Dimension d.
    ddof : int
        1 for the unbiased covariance, 0 for maximum likelihood.

    Returns
    -------
    ndarray, shape (d,)

    Raises
    ------
    ValueError
        If `dim` < 1, ``m <= dim`` (the fitted covariance is singular) or `ddof` is not 0 or 1.
    """
    half = _half_degrees(m, dim)
    ddof = _checks.integer("ddof", ddof, 0, 1)
    return digamma(half) - np.log((m - ddof) / 2)


def offsets(dim: int) -> Array:
    """E[log eigenvalue j at generation n] - n * exponent j, in the limit of large n.

    ``psi((d-j+1)/2) - psi(j/2)``, for every M. A fixed frame of j directions meets the j leading
    eigenvectors, which are uniform over all frames, at angles whose squared cosines multiply to a
    product of independent Beta((j-i)/2, (d-j)/2) variables, i = 0..j-1. The j leading
    log-eigenvalues together exceed the log-volume of the fixed frame, whose mean is exact, by
    minus the logarithm of that product; the differences in j of its mean are the offsets. They
    sum to zero.

    Parameters
    ----------
    dim : int
        Dimension d.

    Returns
    -------
    ndarray, shape (d,)
        Largest eigenvalue first.
    """
    j = np.arange(1, _checks.integer("dim", dim, 1) + 1)
    return digamma((dim - j + 1) / 2) - digamma(j / 2)


def log_det_drift(m: int, dim: int, ddof: int = 1) -> float:
    """E[log det of a fit - log det of the fit before], the sum of the exponents.

    About ``-d(d+1)/(2M)`` for d much smaller than M and ddof = 1.
    """
    return float(exponents(m, dim, ddof).sum())


def log_det_spread(m: int, dim: int) -> float:
    """Variance of the same step: the sum of psi_1((M-j)/2) over j = 1..d, about 2d/M.

    The determinant is a product of independent chi-squares (Bartlett 1933), so nothing else
    enters.
    """
    return float(polygamma(1, _half_degrees(m, dim)).sum())


def radius_cdf(r: ArrayLike, dim: int, ddof: int = 1) -> Array:
    """P(distance of the resting mean from the true mean <= r), in the limit of large M.

    Every coordinate of the resting mean has the one-dimensional law, Student's t with 2 degrees of
    freedom (ddof = 1) or t with 4 divided by sqrt(2) (ddof = 0), and the joint law is invariant
    under rotations; one marginal determines such a law, so it is the multivariate t. With ddof = 1
    the probability is ``(r^2 / (r^2 + 2))^(d/2)``.

    Parameters
    ----------
    r : array
        Distances in original standard deviations, >= 0.
    dim, ddof : int
        As in :func:`exponents`.

    Returns
    -------
    ndarray
        Probabilities, the shape of `r`.
    """
    dim = _checks.integer("dim", dim, 1)
    freedom = 2 if _checks.integer("ddof", ddof, 0, 1) else 4
    # |mean|^2 is d * 2/freedom times an F variable with (d, freedom) degrees of freedom.
    return fdtr(dim, freedom, freedom * np.square(np.asarray(r, dtype=float)) / (2 * dim))


def _half_degrees(m: int, dim: int) -> Array:
    dim = _checks.integer("dim", dim, 1)
    m = _checks.integer("m", m, dim + 1)
    return (m - np.arange(1, dim + 1)) / 2
