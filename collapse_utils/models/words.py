"""Words resampled generation after generation: the Wright-Fisher model and its exact laws.

A categorical model "trains" by counting and "writes" by drawing, so it has no error but the
sampling. Drawing M symbols from the frequencies of M symbols is drawing M rows with replacement:
the haploid Wright-Fisher model without mutation (Wright 1931; Ewens 2004). Counts are all that
matters, a symbol whose count is zero stays away for ever under Replace, and therefore the
simulator carries only the symbols that are still alive.

Throughout, index 0 of an array over generations is the truth and index n the n-th fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlog1py, xlogy

from .. import _checks
from ..workflows import Accumulate, FreshData, Replace, Workflow

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_MATRIX = 4000  # M for the (M + 1) x (M + 1) matrices of the two-symbol chain


def probabilities(p: ArrayLike, name: str = "p") -> Array:
    """Return `p` as an array that sums to one, or say what is wrong with it.

    Parameters
    ----------
    p : array, shape (K,)
        Probabilities; a sum within 1e-9 of one is accepted and rounded off.
    name : str
        Parameter name for the message.

    Returns
    -------
    ndarray, shape (K,)

    Raises
    ------
    ValueError
        If `p` is not a non-empty list of numbers, or a value is negative or not finite, or the
        sum is not one.
    """
    return _checks.probabilities(name, p)


# --------------------------------------------------------------------------- the model


class Categorical:
    """Frequencies of the symbols 0, 1, ..., K - 1, in the loop's convention.

    Parameters
    ----------
    n_symbols : int, optional
        K; default one more than the largest symbol that ``fit`` sees.

    Attributes
    ----------
    p_ : ndarray, shape (K,)
        Fitted probabilities (maximum likelihood: the frequencies).
    """

    def __init__(self, n_symbols: int | None = None):
        self.n_symbols = None if n_symbols is None else _checks.integer("n_symbols", n_symbols, 1)

    def fit(self, X: ArrayLike) -> Categorical:
        """Count the symbols of `X`, shape (n,).

        Raises
        ------
        ValueError
            If `X` is empty, not one-dimensional, or holds something else than the integers
            0, ..., n_symbols - 1.
        """
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


# --------------------------------------------------------------------------- simulators


@dataclass(frozen=True)
class Paths:
    """What was recorded along the generations.

    Attributes
    ----------
    heterozygosity : ndarray, shape (G + 1, R)
        1 - sum of squared frequencies: the chance that two draws from a model differ.
    alive : ndarray of int, shape (G + 1, R)
        Number of symbols with positive probability.
    frequencies : dict of int -> ndarray, shape (R, K)
        Whole models, at the generations that were asked for.
    """

    heterozygosity: Array
    alive: Ints
    frequencies: dict[int, Array] = field(default_factory=dict)


def simulate(
    p: ArrayLike,
    workflow: Workflow | None = None,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: np.random.Generator,
    keep: Sequence[int] = (),
) -> Paths:
    """Refit a categorical distribution generation after generation, R times at once.

    The law is that of :func:`collapse_utils.recurse` with :class:`Categorical` and data drawn
    from `p`.

    Parameters
    ----------
    p : array, shape (K,)
        The truth.
    workflow : Replace, Accumulate or FreshData
        Default :class:`Replace`.
    n_samples : int, sequence, or callable ``generation -> int``
        M, the (new) rows of each generation.
    n_generations, n_replicates : int
        G and R.
    rng : numpy.random.Generator
    keep : sequence of int
        Generations whose whole models are kept, R x K numbers each.

    Returns
    -------
    Paths

    Raises
    ------
    ValueError
        If an argument is out of range, `p` is no distribution, or the workflow needs more than
        the counts (use ``recurse``).
    """
    workflow = Replace() if workflow is None else workflow
    p = probabilities(p)
    _checks.generator(rng)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    sizes = _checks.schedule(n_samples, n_generations)
    wanted = {_checks.integer("keep", g, 0, n_generations) for g in keep}
    shape = n_generations + 1, n_replicates
    paths = Paths(
        np.full(shape, 1 - p @ p),
        np.full(shape, np.count_nonzero(p)),
        {g: np.zeros((n_replicates, len(p))) for g in sorted(wanted)},
    )
    if 0 in wanted:
        paths.frequencies[0][:] = p
    steps = _stepper(workflow)
    widest = max(int(sizes.max()), len(p) if isinstance(workflow, FreshData) else 1)
    block = max(1, 2**18 // widest)  # lineages whose rows fit in the cache
    for start in range(0, n_replicates, block):
        lines = slice(start, min(start + block, n_replicates))
        width = lines.stop - lines.start
        for g, (ids, counts, total) in enumerate(steps(p, sizes, width, rng), start=1):
            share = counts / total
            paths.heterozygosity[g, lines] = 1 - np.einsum("ij,ij->i", share, share)
            paths.alive[g, lines] = np.count_nonzero(counts, axis=1)
            if g in wanted:
                # Padding has count 0 and may name a symbol that stands elsewhere in the row.
                row, column = np.nonzero(counts)
                paths.frequencies[g][start + row, ids[row, column]] = share[row, column]
    return paths


@dataclass(frozen=True)
class End:
    """Total collapse of R lineages.

    Attributes
    ----------
    time : ndarray of int, shape (R,)
        First generation whose model knows a single symbol.
    winner : ndarray of int, shape (R,)
        That symbol.
    """

    time: Ints
    winner: Ints


def collapse(p: ArrayLike, *, n_samples: int, n_replicates: int, rng: np.random.Generator) -> End:
    """Follow R lineages under Replace until a single symbol is left in each.

    Takes about 2M generations on average at most, and a few times that for the slowest lineage.

    Parameters
    ----------
    p, n_samples, n_replicates, rng
        As in :func:`simulate`, with constant M.

    Returns
    -------
    End

    Raises
    ------
    ValueError
        If an argument is out of range or `p` is no distribution.
    """
    p = probabilities(p)
    m = _checks.integer("n_samples", n_samples, 1)
    n_replicates = _checks.integer("n_replicates", n_replicates, 1)
    _checks.generator(rng)
    if np.count_nonzero(p) == 1:
        return End(np.zeros(n_replicates, dtype=int), np.full(n_replicates, p.argmax()))
    time, winner = np.zeros(n_replicates, dtype=int), np.zeros(n_replicates, dtype=int)
    running = np.arange(n_replicates)
    ids, counts = _first(p, m, n_replicates, rng)
    generation = 1
    while True:
        done = counts.max(axis=1) == m
        if done.any():
            time[running[done]] = generation
            winner[running[done]] = ids[done, counts[done].argmax(axis=1)]
            running, ids, counts = running[~done], ids[~done], counts[~done]
            if len(running) == 0:
                return End(time, winner)
        ids, counts = _compact(ids, _resample(counts, m, m, rng))
        generation += 1


def _stepper(workflow: Workflow):
    """(p, sizes, r, rng) -> iterator over (ids, counts, number of rows) of generations 1, 2, ..."""
    # `ids` and `counts` have shape (r, width): which symbols may be alive, and how often each is.

    def replace(p, sizes, r, rng) -> Iterator[tuple[Ints, Ints, int]]:
        ids, counts = _first(p, int(sizes[0]), r, rng)
        yield ids, counts, int(sizes[0])
        for parent, m in pairwise(map(int, sizes)):
            ids, counts = _compact(ids, _resample(counts, parent, m, rng))
            yield ids, counts, m

    def accumulate(p, sizes, r, rng) -> Iterator[tuple[Ints, Ints, int]]:
        ids, pool = _first(p, int(sizes[0]), r, rng)
        rows = int(sizes[0])
        yield ids, pool, rows
        for m in map(int, sizes[1:]):
            pool = pool + _draw(pool, rows, m, rng)
            rows += m
            yield ids, pool, rows

    def fresh(p, sizes, r, rng) -> Iterator[tuple[Ints, Ints, int]]:
        ids = np.broadcast_to(np.arange(len(p)), (r, len(p)))
        counts = rng.multinomial(int(sizes[0]), p, size=r)
        yield ids, counts, int(sizes[0])
        for parent, m in pairwise(map(int, sizes)):
            n_model, n_fresh = workflow.counts(m)
            real = rng.multinomial(n_fresh, p, size=r)
            counts = _resample(counts, parent, n_model, rng) + real
            yield ids, counts, m

    if isinstance(workflow, Replace):
        return replace
    if isinstance(workflow, Accumulate):
        return accumulate
    if isinstance(workflow, FreshData):
        return fresh
    raise ValueError(
        f"workflow must be Replace, Accumulate or FreshData; {workflow!r} needs the raw rows: "
        "use collapse_utils.recurse with Categorical"
    )


def _first(p: Array, m: int, r: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """The first page of each lineage: m rows drawn from `p`, as symbols and counts."""
    support = np.flatnonzero(p)
    if len(support) <= m:
        counts = rng.multinomial(m, p[support], size=r)
        return _compact(np.broadcast_to(support, counts.shape), counts)
    # More symbols than rows: draw the rows, and let equal symbols stand side by side.
    rows = np.sort(rng.choice(support, (r, m), p=p[support]), axis=1)
    starts = np.diff(rows, axis=1, prepend=-1) != 0
    column = np.cumsum(starts, axis=1) - 1
    width = int(column[:, -1].max()) + 1
    place = column + width * np.arange(r)[:, None]
    counts = np.bincount(place.ravel(), minlength=r * width).reshape(r, width)
    ids = np.zeros(r * width, dtype=np.int64)
    ids[place[starts]] = rows[starts]
    return ids.reshape(r, width), counts


def _resample(counts: Ints, parent: int, m: int, rng: np.random.Generator) -> Ints:
    """Counts of m rows drawn with replacement from `parent` rows with these counts."""
    r, width = counts.shape
    if 4 * width < m:
        return _draw(counts, parent, m, rng)
    # Many symbols for few rows: picking rows is faster than a binomial for each symbol.
    dtype = np.int32 if r * max(parent, m) < 2**31 else np.int64
    times = counts.ravel().astype(np.intp)  # a browser counts in 32 bits
    owner = np.repeat(np.arange(r * width, dtype=dtype), times)
    picked = rng.integers(0, parent, (r, m), dtype=dtype)
    picked += (parent * np.arange(r, dtype=dtype))[:, None]
    return np.bincount(owner[picked.ravel()], minlength=r * width).reshape(r, width)


def _draw(counts: Ints, parent: int, m: int, rng: np.random.Generator) -> Ints:
    """The same law by one multinomial for each lineage."""
    new = rng.multinomial(m, counts / parent)
    # numpy gives what rounding leaves over to the last column, even if its probability is zero.
    stray = np.where(counts[:, -1] == 0, new[:, -1], 0)
    new[:, -1] -= stray
    new[np.arange(len(new)), counts.argmax(axis=1)] += stray
    return new


def _compact(ids: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Drop columns once a quarter of them is not needed by any lineage."""
    width = int(np.count_nonzero(counts, axis=1).max())
    if 4 * width > 3 * counts.shape[1]:
        return ids, counts
    order = np.argsort(counts == 0, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(counts, order, axis=1)


# --------------------------------------------------------------------------- diversity


def expected_heterozygosity(
    p: ArrayLike,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    workflow: Workflow | None = None,
) -> Array:
    """E[H_n], the expected chance that two draws from the n-th model differ.

    Two draws with replacement from M rows hit the same row with probability 1/M, else two rows
    that were written independently. Replace: H_n = H_{n-1} (1 - 1/M_n) (Wright 1931; the "fully
    synthetic" case of Seddik et al. 2024). Accumulate: two draws from N_n = M_1 + ... + M_n rows
    hit the same new row with probability M_n / N_n^2, so H_n = H_{n-1} (1 - M_n / N_n^2).
    FreshData: with a of the M_n rows from the model, 1 - H_n = 1/M_n + [a (a-1) (1 - H_{n-1}) +
    (M_n (M_n - 1) - a (a-1)) (1 - H_0)] / M_n^2, because E[p_n] = p.

    Parameters
    ----------
    p, n_samples, n_generations, workflow
        As in :func:`simulate`.

    Returns
    -------
    ndarray, shape (G + 1,)

    Raises
    ------
    ValueError
        As :func:`simulate`.
    """
    workflow = Replace() if workflow is None else workflow
    p = probabilities(p)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    sizes = _checks.schedule(n_samples, n_generations).astype(float)
    start = 1 - p @ p
    if isinstance(workflow, Replace):
        factors = 1 - 1 / sizes
    elif isinstance(workflow, Accumulate):
        factors = 1 - sizes / np.cumsum(sizes) ** 2
    elif isinstance(workflow, FreshData):
        h = [start, start * (1 - 1 / sizes[0])]
        for m in sizes[1:]:
            a = workflow.counts(int(m))[0]
            same = a * (a - 1) * (1 - h[-1]) + (m * (m - 1) - a * (a - 1)) * (1 - start)
            h.append(1 - 1 / m - same / m**2)
        return np.array(h)
    else:
        raise ValueError(f"workflow must be Replace, Accumulate or FreshData, got {workflow!r}")
    return start * np.concatenate([[1.0], np.cumprod(factors)])


# --------------------------------------------------------------------------- two symbols, exactly


def transition_matrix(n_samples: int) -> Array:
    """Chances that a symbol with x of M rows has y rows in the next generation (Replace).

    Binomial(M, x/M), Wright 1931.

    Parameters
    ----------
    n_samples : int
        M, at most 4000 (the matrix has (M + 1)^2 entries).

    Returns
    -------
    ndarray, shape (M + 1, M + 1)
        Row x, column y.

    Raises
    ------
    ValueError
        If M is out of range.
    """
    m = _checks.integer("n_samples", n_samples, 1, LARGEST_MATRIX)
    return _binomial(m, np.arange(m + 1) / m)


def _binomial(m: int, q: Array) -> Array:
    """Probability of y = 0..m successes, shape (len(q), m + 1)."""
    y = np.arange(m + 1)
    choose = gammaln(m + 1) - gammaln(y + 1) - gammaln(m - y + 1)
    pmf = np.exp(choose + xlogy(y, q[:, None]) + xlog1py(m - y, -q[:, None]))
    return pmf / pmf.sum(axis=1, keepdims=True)


def collapse_cdf(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """P(total collapse by generation n), exactly, for any number of symbols (Replace).

    The symbols exclude each other as winners, and each alone against the rest is a two-symbol
    chain, so the probability is a sum over the symbols of "this one holds all M rows".

    Parameters
    ----------
    p, n_generations
        As in :func:`simulate`.
    n_samples : int
        M, at most 4000.

    Returns
    -------
    ndarray, shape (G + 1,)

    Raises
    ------
    ValueError
        If an argument is out of range or `p` is no distribution.
    """
    p = probabilities(p)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    step = transition_matrix(n_samples)
    state = _binomial(len(step) - 1, p).sum(axis=0)  # expected number of symbols with y rows
    cdf = [float((p == 1).any()), state[-1]]
    for _ in range(n_generations - 1):
        state = state @ step
        cdf.append(state[-1])
    return np.array(cdf)


def mean_collapse_time(p: ArrayLike, *, n_samples: int) -> float:
    """E[T], the mean generation of total collapse, exactly, for any number of symbols (Replace).

    E[T] sums P(T > n) over n. A symbol with x rows wins in the end with probability x/M, so
    P(T > n) is the sum over symbols of x/M - P(it has won by n), and the sum over n of that
    solves (1 - Q) h = x/M, with Q the transition matrix between 0 < x < M.

    Parameters
    ----------
    p : array, shape (K,)
    n_samples : int
        M, at most 4000.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of range or `p` is no distribution.
    """
    p = probabilities(p)
    step = transition_matrix(n_samples)
    m = len(step) - 1
    if np.count_nonzero(p) == 1:
        return 0.0
    h = np.zeros(m + 1)
    inner = slice(1, m)
    h[inner] = np.linalg.solve(np.eye(m - 1) - step[inner, inner], np.arange(1, m) / m)
    return float(1 + (_binomial(m, p) @ h).sum())


def mean_collapse_time_diffusion(p: ArrayLike, n_samples: int) -> float:
    """-2M sum (1 - p) ln(1 - p): the diffusion approximation of :func:`mean_collapse_time`.

    Ewens 2004 for two symbols; too long by about (ln M)/3, one to three percent at M = 50 to 100.
    Tends to 2M for many rare symbols.
    """
    p = probabilities(p)
    m = _checks.integer("n_samples", n_samples, 1)
    return float(-2 * m * xlogy(1 - p, 1 - p).sum())


# --------------------------------------------------------------------------- survival


def surviving_share(n_generations: int) -> Array:
    """g_n: the share of the first page's rows that have copies on page n, for large M.

    g_1 = 1 and g_{n+1} = 1 - exp(-g_n), because a row that has Poisson(1) copies survives if
    one copy does; g_n is about 2/n (Suresh, Thangaraj and Khandavally 2025, where g_n is the n-th
    iterate of 1 - exp(-x) from infinity).

    Returns
    -------
    ndarray, shape (G + 1,)
        Index n; g_0 is infinity.
    """
    n_generations = _checks.integer("n_generations", n_generations, 1)
    g = np.full(n_generations + 1, np.inf)
    for n in range(1, n_generations + 1):
        g[n] = -math.expm1(-g[n - 1])
    return g


def ancestors(n_samples: int, n_generations: int) -> Array:
    """Law of A_n, the number of rows of page 1 that have copies on page n (Replace), exactly.

    Backwards in time, the a ancestors on a page pick their parents at random among the M rows of
    the page before, so their number moves like the number of occupied boxes when a balls are
    thrown into M boxes. A_1 = M.

    Parameters
    ----------
    n_samples : int
        M.
    n_generations : int
        G.

    Returns
    -------
    ndarray, shape (G + 1, M + 1)
        Row n, column a: P(A_n = a); row 0 is zero (no page).

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    m = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    law = np.zeros((n_generations + 1, m + 1))
    for n, row in enumerate(_ancestors(m, n_generations), start=1):
        law[n, : len(row)] = row
    return law


def _ancestors(m: int, n_generations: int) -> Iterator[Array]:
    """The rows 1, 2, ... of :func:`ancestors`, without trailing zeros."""
    law = np.zeros(m + 1)
    law[m] = 1
    yield law
    stay = np.arange(m + 1) / m  # the ball falls into a box that is occupied already
    for _ in range(n_generations - 1):
        most = int(np.flatnonzero(law > 1e-20)[-1])
        boxes = np.zeros(most + 1)
        # Horner's scheme for the sum over a of P(A = a) x (law of the boxes after a balls).
        for balls in range(most, -1, -1):
            top = most - balls + 1
            new = boxes[: top - 1] * (1 - stay[: top - 1])
            boxes[:top] *= stay[:top]
            boxes[1:top] += new
            boxes[0] += law[balls]
        law = boxes
        yield law


def survival(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """P(symbol i is alive at generation n) under Replace, exactly: E[1 - (1 - p_i)^A_n].

    A symbol is alive if one of the A_n rows of page 1 that have copies on page n shows it
    (:func:`ancestors`), and those rows are independent draws from `p`.

    Parameters
    ----------
    p : array, shape (K,)
        Probabilities of single symbols, each in [0, 1]; they need not sum to one.
    n_samples, n_generations : int
        M and G.

    Returns
    -------
    ndarray, shape (G + 1, K)

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    p = _each_probability(p)
    law = ancestors(n_samples, n_generations)
    a = np.arange(law.shape[1])
    alive = 1 - law @ np.exp(xlog1py(a[:, None], -p))
    alive[0] = p > 0
    return alive


def expected_alive(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """Expected number of symbols alive at generation n under Replace, exactly, shape (G + 1,).

    The sum of :func:`survival` over the symbols, without its (G + 1) x K array.
    """
    p = probabilities(p)
    m = _checks.integer("n_samples", n_samples, 1)
    n_generations = _checks.integer("n_generations", n_generations, 1)
    unique, times = np.unique(p[p > 0], return_counts=True)
    a = np.arange(m + 1)
    missing = np.zeros(m + 1)
    block = max(1, 2**22 // len(a))
    for start in range(0, len(unique), block):
        part = slice(start, start + block)
        missing += np.exp(xlog1py(a[:, None], -unique[part])) @ times[part]
    seen = times.sum() - missing  # expected number of symbols among a rows of page 1
    alive = [float(times.sum())]
    alive += [float(law @ seen[: len(law)]) for law in _ancestors(m, n_generations)]
    return np.array(alive)


def expected_alive_poisson(p: ArrayLike, *, n_samples: int, n_generations: int) -> Array:
    """Sum of 1 - exp(-M p_i g_n): the lower bound of Suresh et al. 2025, summed, shape (G + 1,).

    Very close to :func:`expected_alive` unless M is small, and cheap for any M.
    """
    p = probabilities(p)
    m = _checks.integer("n_samples", n_samples, 1)
    g = surviving_share(n_generations)
    alive = [float(np.count_nonzero(p))]
    alive += [float(-np.expm1(-m * p * share).sum()) for share in g[1:]]
    return np.array(alive)


def rare_survival(count: ArrayLike, sizes: Sequence[int] | NDArray[np.int64]) -> Array:
    """P(a rare item is still alive at generation G) when generation n draws M_n items.

    Each copy at generation n has Poisson(M_{n+1}/M_n) copies at generation n + 1, so with s_n the
    probability that one copy at generation n has descendants at generation G, s_G = 1,
    ``s_n = 1 - exp(-s_{n+1} M_{n+1}/M_n)`` and the answer is ``1 - exp(-count * s_1)``. With
    constant sizes s_1 is g_G of Suresh et al. (2025), about 2/G; in general 1/(1 - exp(-x)) is
    close to 1/x + 1/2, so s_1 is about 2 / (M_1 (tau_G + 1/M_G)).

    Parameters
    ----------
    count : array
        Expected number of occurrences in the first sample, M_1 times the probability; small
        against M_1.
    sizes : sequence of int
        M_1, ..., M_G.

    Returns
    -------
    ndarray
        The shape of `count`.

    Raises
    ------
    ValueError
        If a count is negative or not finite, or a size is less than 1.
    """
    count = np.asarray(count, dtype=float)
    if not (np.isfinite(count) & (count >= 0)).all():
        raise ValueError(f"count must be finite and >= 0, got {count}")
    m = np.asarray(sizes, dtype=float)
    alive = 1.0
    for growth in (m[1:] / m[:-1])[::-1]:
        alive = -np.expm1(-growth * alive)
    return -np.expm1(-count * alive)


def survival_bounds(p: ArrayLike, *, n_samples: int, n_generations: int) -> tuple[Array, Array]:
    """Published bounds around :func:`survival`, each of shape (G + 1, K).

    1 - exp(-M p g_n) from below and 1 - (1 - 3 M p^2 - 3 n p) exp(-M p g_n) from above (Suresh,
    Thangaraj and Khandavally 2025, Theorem 1, for Bernoulli data), the latter cut at one.
    """
    p = _each_probability(p)
    m = _checks.integer("n_samples", n_samples, 1)
    g = surviving_share(n_generations)[:, None]
    n = np.arange(len(g))[:, None]
    dead = np.where(p > 0, np.exp(-m * np.where(p > 0, p, 1) * g), 1.0)
    return 1 - dead, np.minimum(1, 1 - (1 - 3 * m * p**2 - 3 * n * p) * dead)


def median_life(expected_count: float) -> int:
    """First generation at which a symbol with M p = `expected_count` is gone more often than not.

    The smallest n with 1 - exp(-M p g_n) <= 1/2, for large M; about 2 M p / ln 2.

    Raises
    ------
    ValueError
        If `expected_count` is not positive.
    """
    count = _checks.real("expected_count", expected_count, 0, open_low=True)
    n, g = 1, 1.0
    while count * g > math.log(2):
        n, g = n + 1, -math.expm1(-g)
    return n


def _each_probability(p: ArrayLike) -> Array:
    values = np.atleast_1d(np.asarray(p, dtype=float))
    bad = ~((values >= 0) & (values <= 1))
    if values.ndim != 1 or bad.any():
        got = f"{values[bad][0]:g}" if bad.any() else f"shape {values.shape}"
        raise ValueError(f"p must be a list of numbers between 0 and 1, got {got}")
    return values
