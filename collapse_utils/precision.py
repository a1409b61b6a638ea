"""Numbers with few digits: rounding to a storage format, and what it does to a recursive fit.

Values are kept in double precision and *stored* in a narrower format by a round trip through the
torch data type of the same name, so that only the storage is at fault and never the arithmetic in
between. torch is imported when something is rounded, not before. Taught in the chapter
``rounding``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from . import _checks
from .models.gaussian import Paths

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Format:
    """A binary floating-point format, as in IEEE 754.

    Attributes
    ----------
    digits : int
        Significant binary digits t, with the leading one that is not stored.
    emin, emax : int
        Exponents of the smallest and the largest normal numbers.
    """

    digits: int
    emin: int
    emax: int

    @property
    def eps(self) -> float:
        """Distance from 1 to the next larger number, 2^(1 - t)."""
        return math.ldexp(1.0, 1 - self.digits)

    @property
    def unit(self) -> float:
        """Unit roundoff u = eps / 2: the largest relative error of rounding a normal number."""
        return math.ldexp(1.0, -self.digits)

    @property
    def smallest_normal(self) -> float:
        """2^emin: below it the spacing no longer shrinks."""
        return math.ldexp(1.0, self.emin)

    @property
    def smallest(self) -> float:
        """The smallest positive (subnormal) number; half of it, and less, is rounded to zero."""
        return math.ldexp(1.0, self.emin - self.digits + 1)

    @property
    def largest(self) -> float:
        """The largest finite number, (2 - eps) 2^emax."""
        return math.ldexp(2.0 - self.eps, self.emax)


FORMATS = {
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
    "float32": Format(24, -126, 127),
    "float64": Format(53, -1022, 1023),
}


def get(dtype: str) -> Format:
    """The :class:`Format` of that name, or a ``ValueError`` that lists the names."""
    return FORMATS[_checks.choice("dtype", dtype, tuple(FORMATS))]


def round_to(x: ArrayLike, dtype: str) -> Array:
    """Round to the nearest number of a format (ties to even).

    Parameters
    ----------
    x : array
        Numbers in double precision. Beyond the range of the format they become infinite.
    dtype : {"float16", "bfloat16", "float32", "float64"}
        A torch data type.

    Returns
    -------
    ndarray of float64, shape of `x`
        The rounded values.

    Raises
    ------
    ValueError
        If `dtype` is none of these.

    Notes
    -----
    torch rounds doubles to the two 16-bit formats by way of float32. A number within a relative
    2^-24 of the middle between two neighbours may therefore go to the one that is farther by
    that much.
    """
    get(dtype)
    values = np.array(x, dtype=float, order="C")
    if dtype == "float64":
        return values
    import torch

    return torch.from_numpy(values).to(getattr(torch, dtype)).to(torch.float64).numpy()


def ulp(x: ArrayLike, dtype: str) -> Array:
    """Spacing of the numbers of a format at `x` (unit in the last place).

    Parameters
    ----------
    x : array
        Finite numbers. At a power of two this is the spacing above it.
    dtype : str
        See :func:`round_to`.

    Returns
    -------
    ndarray, shape of `x`
        ``2^(max(floor(log2 |x|), emin) - t + 1)``.

    Raises
    ------
    ValueError
        If a number is not finite or `dtype` is unknown.
    """
    form = get(dtype)
    values = np.asarray(x, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"x must hold finite numbers only, got {x!r}")
    _, exponent = np.frexp(values)
    exponent = np.where(values == 0, form.emin, np.maximum(exponent - 1, form.emin))
    return np.ldexp(1.0, exponent - form.digits + 1)


# --------------------------------------------------------------------------- variances


def one_pass_variance(x: ArrayLike, dtype: str) -> Array:
    """The variance as E[x^2] - E[x]^2, every intermediate result stored in the format.

    Sums are exact (``math.fsum``), so this is the formula at its best. See Higham (2002, section
    1.9) for what goes wrong: two nearly equal numbers of size ``mean^2`` are subtracted.

    Parameters
    ----------
    x : array, shape (..., N)
        Samples along the last axis; they are stored in the format first.
    dtype : str
        See :func:`round_to`.

    Returns
    -------
    ndarray, shape (...)
        Not positive when cancellation has eaten the result; infinite or nan when a square
        overflows.
    """
    stored = _samples(x, dtype)
    square = round_to(stored**2, dtype)
    with np.errstate(invalid="ignore"):  # inf - inf, after an overflow
        return round_to(_mean(square, dtype) - round_to(_mean(stored, dtype) ** 2, dtype), dtype)


def two_pass_variance(x: ArrayLike, dtype: str) -> Array:
    """The variance as E[(x - E[x])^2], every intermediate result stored in the format.

    Parameters, shapes and exact sums as in :func:`one_pass_variance`.
    """
    stored = _samples(x, dtype)
    deviation = round_to(stored - _mean(stored, dtype)[..., None], dtype)
    return _mean(round_to(deviation**2, dtype), dtype)


def one_pass_error(mean: ArrayLike, n_samples: int, dtype: str) -> Array:
    """Root-mean-square error of :func:`one_pass_variance` on data far from zero.

    The stored mean m, the stored mean of squares and the stored square of m each carry an error
    that is uniform over one spacing; the N rounded squares average out. Hence

        error^2 = [ (2 + 1/N) ulp(mean^2)^2 + 4 mean^2 ulp(mean)^2 ] / 12,

    which is about (u mean^2)^2. Derived here; it holds while the samples lie well inside one
    power of two and their standard error is wide compared with the spacing at the mean. In
    float64 N must be a power of two, because the division is then exact.

    Parameters
    ----------
    mean : array
        True mean, not 0.
    n_samples : int
        N.
    dtype : str
        See :func:`round_to`.
    """
    n_samples = _checks.integer("n_samples", n_samples, 2)
    mean = np.asarray(mean, dtype=float)
    of_squares = (2 + 1 / n_samples) * ulp(mean**2, dtype) ** 2
    return np.sqrt((of_squares + 4 * mean**2 * ulp(mean, dtype) ** 2) / 12)


def _samples(x: ArrayLike, dtype: str) -> Array:
    stored = round_to(x, dtype)
    if stored.ndim == 0 or stored.shape[-1] < 2:
        raise ValueError(f"x must have 2 or more samples on its last axis, got {stored.shape}")
    return stored


def _mean(x: Array, dtype: str) -> Array:
    """Mean over the last axis: exact sum, then stored."""
    if not np.isfinite(x).all():
        return round_to(x.mean(axis=-1), dtype)
    return round_to(np.apply_along_axis(math.fsum, -1, x) / x.shape[-1], dtype)


# --------------------------------------------------------------------------- recursion


def rounded_variance(sd: ArrayLike, step: ArrayLike) -> Array:
    """Variance of a normal variable rounded to a grid that holds its mean.

    With a standard deviation of half a step or more it is ``sd^2 + step^2 / 12`` (Sheppard's
    correction) up to a few percent, from one step on up to 1e-6. For small `sd` nearly everything
    is rounded to the mean, and the variance all but vanishes.

    Parameters
    ----------
    sd, step : array, broadcastable
        Standard deviation (>= 0) before rounding and spacing (> 0) of the grid.

    Returns
    -------
    ndarray
        ``2 sum_k k^2 step^2 [Phi((k + 1/2) step / sd) - Phi((k - 1/2) step / sd)]``, summed as
        ``2 step^2 sum_k (2 k - 1) Phi(-(k - 1/2) step / sd)``.

    Raises
    ------
    ValueError
        If `sd` is negative or `step` is not positive.
    """
    sd, step = np.broadcast_arrays(np.asarray(sd, dtype=float), np.asarray(step, dtype=float))
    if not (np.isfinite(sd) & (sd >= 0)).all():
        raise ValueError(f"sd must be finite and >= 0, got {sd}")
    if not (np.isfinite(step) & (step > 0)).all():
        raise ValueError(f"step must be finite and > 0, got {step}")
    ratio = np.where(sd > 0, step / np.where(sd > 0, sd, 1), np.inf)
    # cells whose edge lies within 9 standard deviations; 1e-19 of the probability is beyond
    k = np.arange(1, 2 + math.ceil(9 / ratio.min()) if ratio.size else 1)
    return 2 * step**2 * ((2 * k - 1) * ndtr(-(k - 0.5) * ratio[..., None])).sum(axis=-1)


def simulate(
    dtype: str,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    mean: float = 0.0,
    sd: float = 1.0,
    ddof: int = 1,
) -> Paths:
    """Refit a Gaussian whose samples, mean and standard deviation are stored in a format.

    One generation draws M samples from the stored fit, rounds them, computes their mean and
    standard deviation and rounds those. The statistics are computed from the deviations from the
    previous mean, which are exact, so that even in float64 nothing but the storage is rounded.
    The same `rng` state gives the same normal numbers in every format.

    Parameters
    ----------
    dtype : str
        See :func:`round_to`.
    n_samples, n_generations, n_replicates : int
        M, G and R.
    rng : numpy.random.Generator
    mean, sd : float
        The real data are normal with this mean and standard deviation.
    ddof : int
        0 or 1, as in :class:`collapse_utils.models.gaussian.Gaussian`.

    Returns
    -------
    collapse_utils.models.gaussian.Paths
        Arrays of shape (G + 1, R); row 0 is the truth, row n the n-th stored fit.

    Raises
    ------
    ValueError
        If an argument is out of range, or the truth lies outside the range of the format.
    """
    means, variances = _start(dtype, n_samples, n_generations, n_replicates, rng, mean, sd, ddof)
    centre, spread = means[0].copy(), np.sqrt(variances[0])
    z = np.empty((n_replicates, n_samples))
    for g in range(1, n_generations + 1):
        rng.standard_normal(out=z)
        deviation = round_to(centre[:, None] + spread[:, None] * z, dtype) - centre[:, None]
        shift = deviation.mean(axis=1)
        deviation -= shift[:, None]
        ss = np.einsum("ij,ij->i", deviation, deviation)
        spread = round_to(np.sqrt(ss / (n_samples - ddof)), dtype)
        centre = round_to(centre + shift, dtype)
        means[g], variances[g] = centre, spread**2
    return Paths(means, variances)


def simulate_noise(
    dtype: str,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    mean: float = 0.0,
    sd: float = 1.0,
    ddof: int = 1,
) -> Paths:
    """Predict :func:`simulate` by noise: each stored sample has an error uniform over one ulp.

    Such an error adds ``ulp(mean)^2 / 12`` to the variance that a generation passes on:

        v' = (v + ulp(mean)^2 / 12) chi^2_{M-1} / (M - ddof).

    Two numbers are drawn per generation and replicate, whatever M is. Derived here. It holds while
    the standard deviation is at least about half an ulp; it knows nothing of absorption at zero.

    Parameters, returns and errors as in :func:`simulate`.
    """
    means, variances = _start(dtype, n_samples, n_generations, n_replicates, rng, mean, sd, ddof)
    for g in range(1, n_generations + 1):
        noisy = variances[g - 1] + ulp(means[g - 1], dtype) ** 2 / 12
        normal = rng.standard_normal(n_replicates)
        means[g] = means[g - 1] + np.sqrt(noisy / n_samples) * normal
        variances[g] = noisy * rng.chisquare(n_samples - 1, n_replicates) / (n_samples - ddof)
    return Paths(means, variances)


def _start(dtype, n_samples, n_generations, n_replicates, rng, mean, sd, ddof):
    form = get(dtype)
    _checks.generator(rng)
    _checks.integer("ddof", ddof, 0, 1)
    _checks.integer("n_samples", n_samples, 2)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    sd = _checks.real("sd", sd, 0, open_low=True)
    mean = _checks.real("mean", mean)
    if abs(mean) + 10 * sd > form.largest:
        raise ValueError(
            f"mean and sd must keep ten standard deviations within {form.largest:g}, the largest "
            f"number of {dtype}, got mean={mean:g}, sd={sd:g}"
        )
    means = np.empty((n_generations + 1, n_replicates))
    variances = np.empty_like(means)
    means[0], variances[0] = mean, sd**2
    return means, variances
