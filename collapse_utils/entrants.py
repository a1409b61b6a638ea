"""Early and late entrants: what a model is worth that learns from a web that models write into.

The measure is the excess risk of a mean, the simplest thing that can be estimated: rows have the
truth (zero) or the mean of the model that wrote them as their mean, and variance one. Its
variance V_n equals the excess risk of linear regression in units of one fit; T V_n is the excess
risk relative to the first entrant, and 1 / V_n the number of clean rows that would do as well.

Taught in the chapter on first movers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlog1py

from . import categorical, checks
from .provenance import Rate, rate
from .workflows import Sources, TrainingSet

Array = NDArray[np.float64]
Volume = int | Callable[[int], int]

_TOGETHER = 2**22  # rows of all webs that are simulated at once: bounds the memory


class Mean:
    """The mean of rows with variance one, in the loop's convention.

    Attributes
    ----------
    mean_ : float
        Mean of the training set.
    """

    def fit(self, X: ArrayLike) -> Mean:
        """Average the rows, shape (n,)."""
        self.mean_ = float(np.mean(X))
        return self

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` rows from the normal distribution with this mean and variance one."""
        return self.mean_ + rng.standard_normal(n)


def _volume(name: str, value: Volume, generation: int) -> int:
    return checks.integer(name, value(generation) if callable(value) else value, 0)


@dataclass(frozen=True)
class Crawl:
    """A web that keeps everything, and of which each generation reads what it can afford.

    Parameters
    ----------
    written : int or callable ``generation -> int``
        Rows that the latest model adds to the web before generation 2, 3, ... is trained.
    human : int or callable ``generation -> int``
        New real rows that are added at the same time.
    everything : bool
        Train on the whole web, or on ``n_samples`` rows drawn from it without replacement.

    Raises
    ------
    ValueError
        If a volume is negative.
    """

    written: Volume
    human: Volume = 0
    everything: bool = False

    def __post_init__(self) -> None:
        for name in ("written", "human"):
            if not callable(getattr(self, name)):
                checks.integer(name, getattr(self, name), 0)

    def compose(self, sources: Sources, n_samples: int) -> tuple[TrainingSet, TrainingSet]:
        """See :class:`collapse_utils.workflows.Workflow`."""
        n_written = _volume("written", self.written, sources.generation)
        n_human = _volume("human", self.human, sources.generation)
        web = sources.pool + sources.model(n_written) + sources.fresh(n_human)
        return (web if self.everything else web.choose(n_samples, sources.rng)), web


# --------------------------------------------------------------------------- excess risk


def crawl_risk(crawl: Crawl, *, n_samples: int, n_generations: int) -> Array:
    """V_n of each entrant to a :class:`Crawl`, exactly.

    Let the web of N rows have the mean m and the mean square q. A mean w of T rows drawn from it
    without replacement has w = m + s with E[s] = 0 and E[s^2] = (N - T) / (N - 1) (q - m^2) / T.
    Then S rows of w and H real rows join: m' = (N m + S w + noise) / (N + S + H), where the noise
    of the new rows has variance S + H, and q' = (N q + S (1 + w^2) + H) / (N + S + H). Taking
    expectations closes the recursion in E[m^2], E[q] and V = E[m^2] + E[s^2].

    Parameters
    ----------
    crawl : Crawl
    n_samples : int
        T, the rows of the first web and of each training set.
    n_generations : int

    Returns
    -------
    ndarray, shape (G,)
        V_1 = 1/T, V_2, ..., V_G.
    """
    t = checks.integer("n_samples", n_samples, 2)
    n_generations = checks.integer("n_generations", n_generations, 1)
    size, square, mean_square = float(t), 1.0, 1 / t
    risk = []
    for generation in range(1, n_generations + 1):
        read = size if crawl.everything else t
        chance = (size - read) / (size - 1) * (square - mean_square) / read
        risk.append(mean_square + chance)
        s = _volume("written", crawl.written, generation + 1)
        h = _volume("human", crawl.human, generation + 1)
        total = size + s + h
        # N m + S w = (N + S) m + S s, and s has no correlation with m.
        mean_square = ((size + s) ** 2 * mean_square + s**2 * chance + s + h) / total**2
        square = (size * square + s * (1 + risk[-1]) + h) / total
        size = total
    return np.array(risk)


def simulate_crawl(
    crawl: Crawl,
    *,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """Means of the entrants to a :class:`Crawl`, row by row for R webs at once.

    Parameters
    ----------
    crawl, n_samples, n_generations
        See :func:`crawl_risk`.
    n_replicates : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (G, R)
    """
    t = checks.integer("n_samples", n_samples, 2)
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    checks.generator(rng)
    volumes = [
        (_volume("written", crawl.written, g), _volume("human", crawl.human, g))
        for g in range(2, n_generations + 1)
    ]
    rows = t + sum(map(sum, volumes))
    block = max(1, _TOGETHER // rows)
    return np.concatenate(
        [
            _simulate(crawl, t, volumes, min(block, n_replicates - start), rng)
            for start in range(0, n_replicates, block)
        ],
        axis=1,
    )


def _simulate(
    crawl: Crawl, t: int, volumes: list[tuple[int, int]], r: int, rng: np.random.Generator
) -> Array:
    web = rng.standard_normal((r, t + sum(map(sum, volumes))))
    size, means = t, [web[:, :t].mean(axis=1)]
    for s, h in volumes:
        web[:, size : size + s] += means[-1][:, None]
        size += s + h
        rows = web[:, :size]
        if not crawl.everything:
            rows = np.take_along_axis(rows, _choose(size, t, r, rng), axis=1)
        means.append(rows.mean(axis=1))
    return np.array(means)


def _choose(n: int, k: int, r: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """R choices of k out of n without replacement, shape (r, k): the start of a random order."""
    order = np.tile(np.arange(n, dtype=np.int32), (r, 1))
    lines = np.arange(r)
    for i in range(k):
        j = rng.integers(i, n, r)
        order[lines, i], order[lines, j] = order[lines, j], order[lines, i]
    return order[:, :k]


def page_risk(real_share: Rate, *, n_samples: int, n_generations: int) -> Array:
    """V_n of entrants that read only the page of the day, ``provenance.Web``, exactly.

    Given the model w that wrote the generated rows, a row has mean (1 - m) w and variance
    1 + m (1 - m) w^2, so V_n = (1 - m_n)^2 V_{n-1} + (1 + m_n (1 - m_n) V_{n-1}) / T.

    Parameters
    ----------
    real_share : float or callable ``generation -> float``
        m_2, m_3, ...
    n_samples : int
    n_generations : int

    Returns
    -------
    ndarray, shape (G,)
        V_1 = 1/T, V_2, ..., V_G.
    """
    t = checks.integer("n_samples", n_samples, 1)
    n_generations = checks.integer("n_generations", n_generations, 1)
    risk = [1 / t]
    for generation in range(2, n_generations + 1):
        m = rate("real_share", real_share, generation)
        risk.append((1 - m) ** 2 * risk[-1] + (1 + m * (1 - m) * risk[-1]) / t)
    return np.array(risk)


# --------------------------------------------------------------------------- archives


def weighted_risk(archive: ArrayLike, risk: ArrayLike) -> Array:
    """Excess risk of the best mixture of an archive of A real rows and a web mean: 1/(A + 1/V)."""
    archive, risk = np.asarray(archive, dtype=float), np.asarray(risk, dtype=float)
    return 1 / (archive + 1 / risk)


def pooled_risk(archive: ArrayLike, n_samples: ArrayLike, risk: ArrayLike) -> Array:
    """Excess risk of A archived real rows and T web rows, all of them weighted alike.

    The mean is (A a + T w) / (A + T), with Var a = 1/A and Var w = V: (A + T^2 V) / (A + T)^2.
    """
    archive, t = np.asarray(archive, dtype=float), np.asarray(n_samples, dtype=float)
    return (archive + t**2 * np.asarray(risk, dtype=float)) / (archive + t) ** 2


def harmful_archive(n_samples: float, risk: float) -> float:
    """Size of the archive above which web rows, weighted alike, do harm: T / (T V - 2).

    ``pooled_risk(A, T, V) > 1/A`` says A (T V - 2) > T; never if T V <= 2.
    """
    relative = n_samples * risk
    return float(n_samples / (relative - 2)) if relative > 2 else float("inf")


def archive_diversity(
    p: ArrayLike,
    *,
    archive: int,
    real_share: float,
    n_samples: int,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
) -> Array:
    """H_n of word frequencies where the real rows come from one archive of A rows, again and again.

    Each of the M rows of generation 2, 3, ... is a row of the archive with probability m (drawn
    with replacement), else written by the model; generation 1 reads the archive only. Two rows of
    the archive differ with probability (1 - 1/A) H_0 on average, and so do a row of the archive
    and one of the model, all of whose ancestors lie there. Hence H_n has the law of
    ``provenance.expected_diversity`` times 1 - 1/A.

    Parameters
    ----------
    p : array, shape (K,)
        Real probabilities.
    archive : int
        A.
    real_share : float
        m.
    n_samples, n_generations, n_replicates : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (G + 1, R)
        Row 0 is the truth.
    """
    p = categorical.probabilities(p)
    archive = checks.integer("archive", archive, 1)
    m = checks.real("real_share", real_share, 0, 1)
    t = checks.integer("n_samples", n_samples, 1)
    n_generations = checks.integer("n_generations", n_generations, 1)
    n_replicates = checks.integer("n_replicates", n_replicates, 1)
    checks.generator(rng)
    held = rng.multinomial(archive, p, size=n_replicates) / archive
    model = held
    diversity = [np.full(n_replicates, 1 - p @ p)]
    for generation in range(1, n_generations + 1):
        share = 1.0 if generation == 1 else m
        model = rng.multinomial(t, share * held + (1 - share) * model) / t
        diversity.append(1 - (model**2).sum(axis=1))
    return np.array(diversity)


# --------------------------------------------------------------------------- tails


def missing_mass(p: ArrayLike, n_rows: ArrayLike) -> Array:
    """Expected probability of all that a clean sample does not contain: sum_i p_i (1 - p_i)^a.

    Parameters
    ----------
    p : array, shape (K,)
    n_rows : array, shape (N,)
        a; need not be whole.

    Returns
    -------
    ndarray, shape (N,)
    """
    p = categorical.probabilities(p)
    rows = np.atleast_1d(np.asarray(n_rows, dtype=float))
    block = max(1, 2**21 // len(p))
    parts = [np.exp(xlog1py(rows[i : i + block, None], -p)) @ p for i in range(0, len(rows), block)]
    return np.concatenate(parts)


def entrant_missing_mass(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """Expected missing mass of the n-th entrant where each page replaces the last, exactly.

    Entrant n knows the words of the A_n rows of page 1 that have copies on its page
    (``categorical.ancestors``), and these are independent draws from `p`: E[m(A_n)] with m the
    :func:`missing_mass` of a clean sample.

    Parameters
    ----------
    p : array, shape (K,)
    n_samples, n_generations : int

    Returns
    -------
    ndarray, shape (G,)
        For n = 1, ..., G.
    """
    law = categorical.ancestors(n_samples, n_generations)[1:]
    used = np.flatnonzero(law.max(axis=0) > 1e-16)
    return law[:, used] @ missing_mass(p, used)
