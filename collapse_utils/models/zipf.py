"""Zipf's law: probability falls as a power of the rank, and rank goes on for ever.

With p_i = c i^-b, the *effective head* of a page of M words ends at rank (c M)^(1/b), and the page
shows about Gamma(1 - 1/b) times as many different words; yet its rarest word has a rank of order
M^(1/(b-1)), far beyond that head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, zeta

from .. import _checks


def zipf(n_symbols: int, exponent: float = 1.0) -> NDArray[np.float64]:
    """Probabilities proportional to rank^-exponent for ranks 1..n_symbols.

    Parameters
    ----------
    n_symbols : int
        K.
    exponent : float
        b >= 0; 0 is the uniform distribution, 1 roughly that of English words.

    Returns
    -------
    ndarray, shape (K,)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    n_symbols = _checks.integer("n_symbols", n_symbols, 1)
    exponent = _checks.real("exponent", exponent, 0)
    p = np.arange(1, n_symbols + 1, dtype=float) ** -exponent
    return p / p.sum()


@dataclass(frozen=True)
class Zipf:
    """Zipf's law over all ranks 1, 2, 3, ...: p_i = c i^-b with c = 1 / zeta(b).

    Calling it with ``(n, rng)`` draws ranks, so that it can be the data of ``recurse``.

    Parameters
    ----------
    exponent : float
        b > 1.

    Raises
    ------
    ValueError
        If `exponent` is not above 1 (the probabilities would not add up).
    """

    exponent: float

    def __post_init__(self) -> None:
        _checks.real("exponent", self.exponent, 1, open_low=True)

    @property
    def constant(self) -> float:
        """c, the probability of rank 1."""
        return float(1 / zeta(self.exponent))

    def __call__(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw `n` ranks."""
        return rng.zipf(self.exponent, n)

    def tail(self, rank: float) -> float:
        """P(rank of a draw > `rank`), exactly (Hurwitz zeta function)."""
        return float(self.constant * zeta(self.exponent, rank + 1))

    def effective_head(self, n_samples: int) -> float:
        """(c M)^(1/b): the rank whose expected count in M draws is one.

        The cut-off "k about M^(1/b)" of Dohmatob et al. 2024 (A Tale of Tails, eq. 6).
        """
        m = _checks.integer("n_samples", n_samples, 1)
        return float((self.constant * m) ** (1 / self.exponent))

    def expected_distinct(self, n_samples: int) -> float:
        """Expected number of different ranks in M draws: sum of 1 - (1 - p_i)^M.

        Summed rank by rank while M p_i > 0.001, then as M P(tail) - M(M-1)/2 (sum of squares),
        whose relative error is below 1e-6.
        """
        m = _checks.integer("n_samples", n_samples, 1)
        c, b = self.constant, self.exponent
        last = int(np.ceil((1000 * c * m) ** (1 / b)))
        seen = 0.0
        for start in range(1, last + 1, 2**20):
            p = c * np.arange(start, min(start + 2**20, last + 1), dtype=float) ** -b
            seen += float(-np.expm1(m * np.log1p(-p)).sum())
        squares = c**2 * float(zeta(2 * b, last + 1))
        return seen + m * self.tail(last) - m * (m - 1) / 2 * squares

    def expected_distinct_limit(self, n_samples: int) -> float:
        """Gamma(1 - 1/b) (c M)^(1/b), the growth of :meth:`expected_distinct` for large M."""
        return float(gamma(1 - 1 / self.exponent)) * self.effective_head(n_samples)

    def median_largest(self, n_samples: int) -> float:
        """Median of the largest rank among M draws: (c M / ((b - 1) ln 2))^(1/(b-1)).

        P(largest <= r) = (1 - tail(r))^M and tail(r) is about c r^(1-b) / (b-1); good for large M.
        """
        m = _checks.integer("n_samples", n_samples, 1)
        b = self.exponent
        return float((self.constant * m / ((b - 1) * np.log(2))) ** (1 / (b - 1)))

    def mean_log_largest(self, n_samples: int) -> float:
        """E[log largest rank among M draws]: (log(c M / (b - 1)) + Euler's constant) / (b - 1).

        For large M, M tail(largest) is exponential with mean one, and the mean of its logarithm
        is minus Euler's constant.
        """
        m = _checks.integer("n_samples", n_samples, 1)
        b = self.exponent
        return float((np.log(self.constant * m / (b - 1)) + np.euler_gamma) / (b - 1))
