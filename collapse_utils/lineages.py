"""The loop for R lineages at once, on what a fit needs of its rows.

A fit of a Gaussian needs the number, the mean and the sum of squares of its rows; a word model
needs the counts; other models need the rows themselves. All of them can be *drawn* from a law,
*joined* (``+``), *chosen* from and *fitted*. :func:`generations` is written against these four
operations, so it runs the book's own workflows, and it costs as little as the data allow:

    for mean, var in generations(Normal(), (0.0, 1.0), Accumulate(), n_samples=100, ...):
        ...

What a model does to its own law before it is sampled is one argument, ``write``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import _checks
from ._checks import checked, function, whole
from .workflows import Replace, Sources, Workflow

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Random = np.random.Generator
Law = Any  # an array, or a tuple of arrays, whose first axis runs over the lineages


class Family(Protocol):
    """A model, for R lineages at once.

    ``draw`` gives n rows of each lineage's law, ``fit`` the law of each lineage's rows. A fit may
    need more than one row: ``least``.
    """

    def draw(self, law: Law, n: int, rng: Random) -> Any: ...

    def fit(self, sample: Any) -> Law: ...


@checked(n_generations=whole(1), n_replicates=whole(1), rng=_checks.rng, write=function)
def generations(
    family: Family,
    truth: Law,
    workflow: Workflow | None = None,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    n_replicates: int,
    rng: Random,
    write: Callable[..., Law] | None = None,
) -> Iterator[Law]:
    """Fitted laws of generations 0 (the truth), 1, ..., G: one array over lineages after another.

    - `family` (Family): What is drawn and fitted: :class:`Normal`, :class:`Words`,
      :class:`RawRows`, ...
    - `truth` (float, array, or tuple of them): The real law; the same for all lineages.
    - `workflow` (Workflow): What each generation trains on; default
      :class:`~collapse_utils.workflows.Replace`.
    - `n_samples` (int, sequence, or callable ``generation -> int``): M, the size that the workflow
      is asked for.
    - `n_generations`, `n_replicates`: G and R.
    - `write`: What a model does to its own law before it is sampled, ``(*fitted law) -> law``;
      default nothing. ``lambda mean, var: (mean, 0.9 * var)`` is a biased sampler.

    Yields array, or tuple of arrays: As `family` fits them, with the lineages along the first axis.
    """
    sizes = _checks.schedule(n_samples, n_generations, getattr(family, "least", 1))
    workflow = _checks.workflow("workflow", Replace() if workflow is None else workflow, sizes)
    known = getattr(family, "truth", _over_lineages)
    truth = known(truth, n_replicates)
    return _generations(family, truth, workflow, sizes, n_replicates, rng, write)


def _generations(family, truth, workflow, sizes, n_lineages, rng, write) -> Iterator[Law]:
    original = training = pool = family.draw(truth, int(sizes[0]), rng)
    yield truth
    fitted = family.fit(training)
    yield fitted
    for generation, size in enumerate(map(int, sizes[1:]), start=2):
        law = fitted
        if write is not None:
            law = write(*fitted) if isinstance(fitted, tuple) else write(fitted)
        sources = Sources(
            generation=generation,
            model=lambda n, law=law: family.draw(law, n, rng),
            fresh=lambda n: family.draw(truth, n, rng),
            original=original,
            previous=training,
            pool=pool,
            rng=rng,
            n_lineages=n_lineages,
        )
        training, pool = workflow.compose(sources, size)
        fitted = family.fit(training)
        yield fitted


def record(laws: Iterable[Law]) -> Law:
    """What :func:`generations` yields, stacked: shape (G + 1, R, ...).

    A law of several arrays, a tuple or a dataclass, gives as many.
    """
    first, *rest = laws
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        parts = record(tuple(getattr(law, n) for n in names) for law in (first, *rest))
        return type(first)(*parts)
    if isinstance(first, tuple):
        return tuple(np.stack(parts) for parts in zip(first, *rest, strict=True))
    return np.stack([first, *rest])


def _over_lineages(law: Law, n: int) -> Law:
    if isinstance(law, tuple):
        return tuple(_over_lineages(part, n) for part in law)
    values = np.asarray(law, dtype=float)
    return np.broadcast_to(values, (n, *values.shape))


# --------------------------------------------------------------------------- rows


@dataclass(slots=True)
class Rows:
    """n rows of each of R lineages: ``X`` has shape (R, n, ...)."""

    X: NDArray

    def __len__(self) -> int:
        return self.X.shape[1]

    def __getitem__(self, rows: slice) -> Rows:
        return Rows(self.X[:, rows])

    def __add__(self, other: Rows) -> Rows:
        if not len(self) or not len(other):
            return self if len(self) else other
        return Rows(np.concatenate([self.X, other.X], axis=1))

    def choose(self, n: int, rng: Random) -> Rows:
        """`n` rows of each lineage without replacement."""
        if n == len(self):
            return self
        picked = _picked(*self.X.shape[:2], n, rng)
        picked = picked.reshape(*picked.shape, *[1] * (self.X.ndim - 2))
        return Rows(np.take_along_axis(self.X, picked, axis=1))


def _picked(r: int, size: int, n: int, rng: Random) -> Ints:
    """n of the numbers below `size` without replacement, r times, shape (r, n)."""
    if n * (2000 + 8 * r) > r * size:
        return np.argpartition(rng.random((r, size), dtype=np.float32), n, axis=1)[:, :n]
    # A few of many: the first steps of a shuffle.
    order = np.tile(np.arange(size, dtype=np.int32), (r, 1))
    lines = np.arange(r)
    for i in range(n):
        j = rng.integers(i, size, r)
        order[lines, i], order[lines, j] = order[lines, j], order[lines, i]
    return order[:, :n]


def _block(n: int) -> int:
    """Number of lineages with n rows that fit in the cache."""
    return max(1, 2**15 // max(1, n))


@dataclass(frozen=True)
class _Real:
    """A distribution as in scipy.stats, the same for some lineages."""

    law: Any
    n_lineages: int

    def rows(self, n: int, rng: Random) -> Array:
        return np.asarray(self.law.rvs(size=(self.n_lineages, n), random_state=rng), dtype=float)


class RawRows:
    """Any family by its rows, with X of shape (R, n, ...).

    The truth may also be a distribution as in scipy.stats, from which the real rows are drawn.

    - `draw`: ``(law, n, rng) -> X``.
    - `fit`: ``X -> law``.
    """

    @checked(draw=function, fit=function)
    def __init__(self, draw: Callable[[Law, int, Random], NDArray], fit: Callable[[NDArray], Law]):
        self._draw, self._fit = draw, fit

    def truth(self, law: Law, n: int) -> Law:
        """The real law of n lineages."""
        return _Real(law, n) if hasattr(law, "rvs") else _over_lineages(law, n)

    def draw(self, law: Law, n: int, rng: Random) -> Rows:
        """See :class:`Family`."""
        return Rows(law.rows(n, rng) if isinstance(law, _Real) else self._draw(law, n, rng))

    def fit(self, sample: Rows) -> Law:
        """See :class:`Family`."""
        return self._fit(sample.X)


# --------------------------------------------------------------------------- numbers


@dataclass(slots=True)
class Moments:
    """Number, mean and sum of squared deviations of n rows, for R lineages.

    - `n` (int or float): Number of rows, or the sum of their weights.
    - `mean`, `ss` (ndarray, shape (R,))
    """

    n: float
    mean: Array
    ss: Array
    #: Rows of one normal law can be split; the generator to do it with, and the parts made so far.
    rng: Random | None = None
    parts: dict[int, Moments] | None = None

    def __add__(self, other: Moments) -> Moments:
        """Moments of the rows of both (Chan, Golub and LeVeque 1983)."""
        if not self.n or not other.n:
            return self if self.n else other
        n, gap = self.n + other.n, other.mean - self.mean
        return Moments(
            n, self.mean + gap * (other.n / n), self.ss + other.ss + gap**2 * (self.n * other.n / n)
        )

    def __mul__(self, weight: float) -> Moments:
        """The same rows, each with a weight."""
        return Moments(self.n * weight, self.mean, self.ss * weight)

    def choose(self, n: int, rng: Random) -> Moments:
        """All rows or none; a random part of them needs the rows themselves."""
        if n == 0:
            return Moments(0, self.mean, np.zeros_like(self.mean))
        if n == self.n:
            return self
        raise ValueError(f"{n} of {self.n} rows are chosen from rows only: use Normal(rows=True)")

    def __getitem__(self, rows: slice) -> Moments:
        """The first n rows, the same whenever they are asked for.

        Given mean and sum of squares, normal rows lie uniformly on a sphere, so that the squares
        within the two parts and between them are a Dirichlet share of the sum.
        """
        n = rows.stop
        if n in (0, self.n):
            return self.choose(n, self.rng)
        if self.rng is None:
            raise ValueError(f"the first {n} of {self.n} mixed rows need Normal(rows=True)")
        self.parts = self.parts or {}
        if n not in self.parts:
            within, between, rest = (
                self.rng.standard_gamma(shape / 2, len(self.mean))
                for shape in (n - 1, 1, self.n - n - 1)
            )
            unit = self.ss / (within + between + rest)
            sign = self.rng.choice([-1.0, 1.0], len(self.mean))
            step = sign * np.sqrt(between * unit * (self.n - n) / (n * self.n))
            self.parts[n] = Moments(n, self.mean + step, within * unit)
        return self.parts[n]


@checked(ddof=whole(0, 1))
@dataclass(frozen=True)
class Normal:
    """Gaussians with fitted mean and variance; a law is ``(mean, var)``, each of shape (R,).

    For normal rows the mean is normal and the sum of squares an independent chi-square with n - 1
    degrees of freedom, so the cost does not depend on n.

    - `ddof`: The sum of squares is divided by n - ddof, 0 or 1.
    - `rows`: Draw all rows, for workflows that choose among them; also the oracle of the other way.
    """

    ddof: int = 1
    rows: bool = False

    @property
    def least(self) -> int:
        """Fewest rows that a fit needs."""
        return self.ddof + 1

    def draw(self, law: tuple[Array, Array], n: int, rng: Random) -> Moments | Rows:
        """See :class:`Family`."""
        mean, var = law
        if self.rows:
            rows, sd, block = np.empty((len(mean), n)), np.sqrt(var), _block(n)
            for start in range(0, len(mean), block):
                part = slice(start, start + block)
                z = rng.standard_normal(out=rows[part])
                z *= sd[part, None]
                z += mean[part, None]
            return Rows(rows)
        if n == 0:
            return Moments(0, mean, np.zeros_like(mean))
        centre = np.sqrt(var / n)
        centre *= rng.standard_normal(len(mean))
        centre += mean
        ss = rng.standard_gamma((n - 1) / 2, len(mean))  # zero for one row
        ss *= 2 * var
        return Moments(n, centre, ss, rng)

    def fit(self, sample: Moments | Rows) -> tuple[Array, Array]:
        """See :class:`Family`."""
        if self.rows:
            r, n = sample.X.shape
            mean, var, block = sample.X @ np.full(n, 1 / n), np.empty(r), _block(n)
            for start in range(0, r, block):
                part = slice(start, start + block)
                gap = sample.X[part] - mean[part, None]
                var[part] = np.vecdot(gap, gap) / (n - self.ddof)
            return mean, var
        return sample.mean, sample.ss / (sample.n - self.ddof)


# --------------------------------------------------------------------------- words


@dataclass(slots=True)
class Counts:
    """How often each symbol occurs among n rows, for R lineages; as a law, their frequencies.

    - `n` (int, float, or ndarray of shape (R,)): Number of rows, or the sum of their weights.
    - `of` (ndarray, shape (R, W)): Counts.
    - `n_symbols`: K.
    - `ids` (ndarray of int, shape (R, W), or None): Which symbol each column counts; None: column k
      counts symbol k. Symbols that are dead everywhere need no column; padding has count 0.
    - `joined`: Rows of several samples, which share columns with what may be joined again.
    """

    n: Any
    of: NDArray
    n_symbols: int
    ids: Ints | None = None
    joined: bool = False
    #: The rows one by one, as places in `of`: made once for those that are chosen from again.
    owner: Ints | None = None

    @property
    def p(self) -> Array:
        """Frequencies, shape (R, K)."""
        return self.dense().of / self.total

    @property
    def diversity(self) -> Array:
        """Chance that two rows, drawn with replacement, differ, shape (R,)."""
        return 1 - np.einsum("ij,ij->i", self.of, self.of) / self.n**2

    @property
    def alive(self) -> Ints:
        """Number of symbols that occur, shape (R,)."""
        return np.count_nonzero(self.of, axis=1)

    def __add__(self, other: Counts) -> Counts:
        if _none(self.n) or _none(other.n):
            return other if _none(self.n) else self
        if self.ids is not other.ids:
            return self.dense() + other.dense()
        n = self.n + other.n
        n = int(n[0]) if np.ndim(n) and (n == n[0]).all() else n
        return Counts(n, self.of + other.of, self.n_symbols, self.ids, joined=True)

    def __mul__(self, weight: float) -> Counts:
        """The same rows, each with a weight."""
        return Counts(self.n * weight, self.of * weight, self.n_symbols, self.ids, self.joined)

    def __getitem__(self, rows: slice) -> Counts:
        raise ValueError(f"counts have no first {rows.stop} rows: use rows")

    def choose(self, n: int | Ints, rng: Random) -> Counts:
        """`n` rows of each lineage without replacement."""
        r, width = self.of.shape
        columns = self.n_symbols, self.ids, self.joined
        if _none(n):
            return Counts(0, np.zeros_like(self.of), *columns)
        # Shuffling costs by the row, drawing symbol after symbol by the call and by the symbol.
        if np.ndim(self.n) == 0 and self.n * r < 5 * width * (r + 200):
            if self.owner is None:
                self.owner = np.repeat(np.arange(r * width), self.of.ravel()).reshape(r, -1)
            owner = self.owner
            if np.ndim(n) == 0:
                picked = np.take_along_axis(owner, _picked(r, self.n, n, rng), axis=1).ravel()
            else:
                order = np.argsort(rng.random(owner.shape, dtype=np.float32), axis=1)
                first = np.arange(self.n) < np.reshape(n, (-1, 1))
                picked = np.take_along_axis(owner, order, axis=1)[first]
            chosen = np.bincount(picked, minlength=r * width).reshape(r, width)
            return Counts(n, chosen, *columns)
        left, short = np.broadcast_to(self.n, r), np.broadcast_to(n, r)
        chosen = np.zeros_like(self.of)
        for column in range(width):
            count = self.of[:, column]
            chosen[:, column] = rng.hypergeometric(count, left - count, short)
            left, short = left - count, short - chosen[:, column]
        return Counts(n, chosen, *columns)

    def dense(self) -> Counts:
        """With a column for each symbol."""
        if self.ids is None:
            return self
        if self.of.shape[1] == self.n_symbols:  # no column has gone, so they are in order
            return Counts(self.n, self.of, self.n_symbols)
        counts, alive = np.zeros((len(self.of), self.n_symbols), self.of.dtype), self.of > 0
        place = self.ids + self.n_symbols * np.arange(len(self.of))[:, None]
        counts.reshape(-1)[place[alive]] = self.of[alive]
        return Counts(self.n, counts, self.n_symbols)

    def compact(self) -> None:
        """Give up the columns that no lineage needs, once they are a quarter of all."""
        enough = 3 * self.of.size
        if self.ids is None or self.joined or 4 * np.count_nonzero(self.of) > enough:
            return
        width = int(self.alive.max())
        if 4 * width * len(self.of) <= enough:
            order = np.argsort(self.of == 0, axis=1, kind="stable")[:, :width]
            self.of, self.ids = (np.take_along_axis(a, order, axis=1) for a in (self.of, self.ids))
            self.owner = None

    @property
    def total(self) -> Any:
        """Number of rows, beside counts."""
        return self.n[:, None] if isinstance(self.n, np.ndarray) else self.n


@dataclass(frozen=True)
class Words:
    """Word frequencies; a law is :class:`Counts`, or an array (R, K) of probabilities."""

    def truth(self, p: Array | Counts, n_lineages: int) -> Counts:
        """Probabilities, shape (K,), as a law; counts may differ from lineage to lineage."""
        if isinstance(p, Counts):
            return p
        p = _checks.probabilities("truth", p)
        return Counts(1.0, np.broadcast_to(p, (n_lineages, len(p))), len(p))

    def draw(self, law: Array | Counts, n: int | Ints, rng: Random) -> Counts:
        """See :class:`Family`."""
        if not isinstance(law, Counts):
            law = law / law.sum(axis=1, keepdims=True)
            return Counts(n, _multinomial(n, law, rng), law.shape[1])
        if isinstance(n, int) and n and law.of.strides[0] == 0:  # one law for all lineages
            return _first(law.of[0], n, len(law.of), rng)
        return _resampled(law, n, rng)

    def fit(self, sample: Counts) -> Counts:
        """See :class:`Family`."""
        sample.compact()
        return sample


def _none(n: Any) -> bool:
    return isinstance(n, int) and n == 0


def _multinomial(n: int | Ints, p: Array, rng: Random) -> Ints:
    """Counts of n rows drawn from each line of `p`, shape (R, K); nothing without mass is drawn."""
    drawn = rng.multinomial(n, p)
    # numpy gives what rounding leaves over to the last column, even if its probability is zero.
    stray = drawn[:, -1] * (p[:, -1] == 0)
    if stray.any():
        drawn[:, -1] -= stray
        drawn[np.arange(len(drawn)), p.argmax(axis=1)] += stray
    return drawn


def _first(p: Array, n: int, r: int, rng: Random) -> Counts:
    """n rows of each of r lineages from one law, with columns for the symbols that occur."""
    support = np.flatnonzero(p)
    if len(support) <= n:
        counts = rng.multinomial(n, p[support], size=r)
        return Counts(n, counts, len(p), np.broadcast_to(support, counts.shape))
    # More symbols than rows: draw the rows, and let equal symbols stand side by side.
    rows = np.sort(rng.choice(support, (r, n), p=p[support]), axis=1)
    starts = np.diff(rows, axis=1, prepend=-1) != 0
    column = np.cumsum(starts, axis=1) - 1
    width = int(column[:, -1].max()) + 1
    place = column + width * np.arange(r)[:, None]
    counts = np.bincount(place.ravel(), minlength=r * width).reshape(r, width)
    ids = np.zeros(r * width, dtype=np.int64)
    ids[place[starts]] = rows[starts]
    return Counts(n, counts, len(p), ids.reshape(r, width))


def _resampled(law: Counts, n: int | Ints, rng: Random) -> Counts:
    """n rows drawn with replacement from rows with these counts."""
    counts, parent = law.of, law.n
    r, width = counts.shape
    whole = isinstance(n, int) and isinstance(parent, int) and counts.dtype.kind == "i"
    if not whole or 8 * width < n + parent:
        return Counts(n, _multinomial(n, counts / law.total, rng), law.n_symbols, law.ids)
    # Many symbols for few rows: picking rows is faster than a binomial for each symbol.
    new, block = np.empty_like(counts), _block(max(width, parent, n))
    places = np.arange(min(block, r) * width, dtype=np.int32)
    for start in range(0, r, block):
        part = counts[start : start + block]
        times = part.ravel().astype(np.intp)  # a browser counts in 32 bits
        owner = np.repeat(places[: len(times)], times)
        picked = rng.integers(0, parent, (len(part), n), dtype=np.int32)
        picked += (parent * np.arange(len(part), dtype=np.int32))[:, None]
        drawn = np.bincount(owner.take(picked.ravel()), minlength=len(times))
        new[start : start + block] = drawn.reshape(part.shape)
    return Counts(n, new, law.n_symbols, law.ids)
