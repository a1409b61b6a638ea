"""Words resampled generation after generation: the Wright-Fisher model and its exact laws.

A categorical model "trains" by counting and "writes" by drawing, so it has no error but the
sampling. Drawing M symbols from the frequencies of M symbols is drawing M rows with replacement:
the haploid Wright-Fisher model without mutation (Wright 1931; Ewens 2004). Many lineages at once:
:class:`collapse_utils.lineages.Words`.

Index 0 of an array over generations is the truth and index n the n-th fit. Taught in the chapter
``words``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import xlog1py

from .. import _checks
from .._checks import checked, number, whole
from ..lineages import Counts, Words

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@checked(n_symbols=whole(1), exponent=number(0))
def zipf(n_symbols: int, exponent: float = 1.0) -> Array:
    """Probabilities proportional to rank^-exponent for ranks 1..n_symbols, shape (K,)."""
    return _checks.probabilities(
        "p", stats.zipfian.pmf(np.arange(1, n_symbols + 1), exponent, n_symbols)
    )


@checked(n_symbols=whole(1))
class Categorical:
    """Frequencies of the symbols 0, 1, ..., K - 1, in the loop's convention.

    - `n_symbols`: K; default one more than the largest symbol that ``fit`` sees.

    - `p_` (ndarray, shape (K,)): Fitted probabilities (maximum likelihood: the frequencies).
    """

    def __init__(self, n_symbols: int | None = None):
        self.n_symbols = n_symbols

    def fit(self, X: ArrayLike) -> Categorical:
        """Count the symbols of `X`, shape (n,)."""
        X = np.asarray(X)
        if X.ndim != 1 or len(X) == 0 or X.dtype.kind not in "iu":
            raise ValueError(
                "X must be a non-empty list of integer symbols, got an array of "
                f"{X.dtype} with shape {X.shape}"
            )
        low, high = int(X.min()), int(X.max())
        if low < 0 or (self.n_symbols is not None and high >= self.n_symbols):
            top = "" if self.n_symbols is None else f" and < n_symbols={self.n_symbols}"
            raise ValueError(f"X must hold symbols >= 0{top}, got {low if low < 0 else high}")
        self.p_ = np.bincount(X, minlength=self.n_symbols or 0) / len(X)
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """Draw `n` symbols."""
        return rng.choice(len(self.p_), n, p=self.p_)


# --------------------------------------------------------------------------- until one is left


@checked(p=_checks.probabilities, n_samples=whole(1), n_replicates=whole(1), rng=_checks.rng)
def collapse(
    p: ArrayLike, *, n_samples: int, n_replicates: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Follow R lineages under Replace until a single symbol is left in each.

    About 2M generations on average at most, and a few times that for the slowest; a lineage that
    has arrived is followed no longer.

    Returns the first generation whose model knows a single symbol, and that symbol, shape (R,).
    """
    time, winner = np.zeros(n_replicates, dtype=int), np.full(n_replicates, np.argmax(p))
    if np.count_nonzero(p) == 1:
        return time, winner
    family, left, generation = Words(), np.arange(n_replicates), 0
    page = family.truth(p, n_replicates)
    while len(left):
        page, generation = family.fit(family.draw(page, n_samples, rng)), generation + 1
        done = page.of.max(axis=1) == n_samples
        if done.any():
            time[left[done]] = generation
            winner[left[done]] = page.ids[done, page.of[done].argmax(axis=1)]
            left, page = left[~done], Counts(page.n, page.of[~done], len(p), page.ids[~done])
    return time, winner


# --------------------------------------------------------------------------- survival


def _between(low: float, high: float) -> _checks.Rule:
    def rule(name: str, value: ArrayLike) -> Array:
        values = np.asarray(value, dtype=float)
        wrong = values[~((values >= low) & (values <= high) & np.isfinite(values))]
        if values.ndim > 1 or wrong.size:
            got = f"shape {values.shape}" if values.ndim > 1 else f"{wrong[0]:g}"
            raise ValueError(f"{name} must be numbers between {low:g} and {high:g}, got {got}")
        return values

    return rule


@checked(n_generations=whole(1))
def surviving_share(n_generations: int) -> Array:
    """g_n: the share of the first page's rows that have copies on page n, for large M.

    g_0 is infinite, g_{n+1} = 1 - exp(-g_n), about 2/n (Suresh, Thangaraj and Khandavally 2025).

    Returns ndarray, shape (G + 1,).
    """
    g = np.full(n_generations + 1, np.inf)
    for n in range(1, n_generations + 1):
        g[n] = -math.expm1(-g[n - 1])
    return g


@checked(n_samples=whole(1), n_generations=whole(1))
def ancestors(n_samples: int, n_generations: int) -> Array:
    """Law of A_n, the number of rows of page 1 that have copies on page n (Replace), exactly.

    Backwards in time the ancestors on a page pick their parents at random among M rows, like balls
    thrown into M boxes.

    Returns ndarray, shape (G + 1, M + 1): Row n, column a: P(A_n = a); row 0 is zero (no page), and
    A_1 = M.
    """
    law = np.zeros((n_generations + 1, n_samples + 1))
    law[1, -1] = 1
    stay = np.arange(n_samples + 1) / n_samples  # the ball falls into a box that is occupied
    for n in range(2, n_generations + 1):
        most = int(np.flatnonzero(law[n - 1] > 1e-20)[-1])
        boxes = law[n, : most + 1]
        # Horner's scheme for the sum over a of P(A = a) x (law of the boxes after a balls).
        for balls in range(most, -1, -1):
            top = most - balls + 1
            new = boxes[: top - 1] * (1 - stay[: top - 1])
            boxes[:top] *= stay[:top]
            boxes[1:top] += new
            boxes[0] += law[n - 1, balls]
    return law


@checked(p=_between(0, 1))
def survival(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """P(symbol i is alive at generation n) under Replace, exactly: E[1 - (1 - p_i)^A_n].

    - `p` (array, shape (K,)): Probabilities of single symbols; they need not sum to one.
    - `n_samples`, `n_generations`: M and G.

    Returns ndarray, shape (G + 1, K).
    """
    law = ancestors(n_samples, n_generations)
    alive = 1 - law @ np.exp(xlog1py(np.arange(law.shape[1])[:, None], -p))
    alive[0] = p > 0
    return alive


@checked(p=_between(0, 1), n_samples=whole(1))
def survival_bounds(p: ArrayLike, *, n_samples: int, n_generations: int) -> tuple[Array, Array]:
    """Published bounds around :func:`survival`, each of shape (G + 1, K).

    1 - exp(-M p g_n) from below and 1 - (1 - 3 M p^2 - 3 n p) exp(-M p g_n) from above (Suresh,
    Thangaraj and Khandavally 2025, Theorem 1, for Bernoulli data), the latter cut at one.
    """
    g = surviving_share(n_generations)[:, None]
    n = np.arange(len(g))[:, None]
    dead = np.where(p > 0, np.exp(-n_samples * np.where(p > 0, p, 1) * g), 1.0)
    return 1 - dead, np.minimum(1, 1 - (1 - 3 * n_samples * p**2 - 3 * n * p) * dead)


@checked(count=_between(0, np.inf))
def rare_survival(count: ArrayLike, sizes: Sequence[int] | Ints) -> Array:
    """P(a rare item is still alive at generation G) when generation n draws M_n items.

    Each copy at generation n has Poisson(M_{n+1}/M_n) copies at generation n + 1; with constant
    sizes the answer is 1 - exp(-count g_G).

    - `count` (array): Expected number of occurrences in the first sample, small against M_1.
    - `sizes` (sequence of int): M_1, ..., M_G.

    Returns ndarray, the shape of `count`.
    """
    m = _checks.schedule(sizes, len(sizes)).astype(float)
    alive = 1.0
    for growth in (m[1:] / m[:-1])[::-1]:
        alive = -np.expm1(-growth * alive)
    return -np.expm1(-count * alive)
