"""The exact law of any workflow: the chance that two rows have one ancestor.

A word model writes a row by copying a random row of its training set, so two rows are akin if
their lines of parents end at the same real row. A Gaussian fitted by maximum likelihood copies
nothing, but keeps the first two moments of its training set, and the products of its rows have
the expectations of the same family tree. So the loop is run once more, by the same workflows, on
*expected* samples: each knows the mean of its rows, the mean square of a row, and the mean product
of two random rows, its own and of any other sample that is still in use. All four operations,
draw, join, choose and fit, are linear in them, and nothing is approximated.

Index 0 of an array over generations is the truth and index n the n-th fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks
from ._checks import checked, function, whole
from .lineages import _generations
from .workflows import Replace, Workflow

Array = NDArray[np.float64]


@checked(n_generations=whole(1))
def of(
    workflow: Workflow | None = None, *, n_samples: _checks.Schedule, n_generations: int
) -> Array:
    """C_n, the probability that two rows, drawn with replacement from a training set, are akin.

    Words have E[H_n] = H_0 (1 - C_n); Gaussians fitted with ddof = 0 have E[mean_n^2] = C_n and
    E[v_n] = 1 - C_n, in units of the true variance.

    - `workflow` (Workflow): Any that asks for rows, joins and chooses; default
      :class:`~collapse_utils.workflows.Replace`.
    - `n_samples` (int, sequence, or callable ``generation -> int``)
    - `n_generations`: G.

    Returns ndarray, shape (G + 1,).
    """
    # Infinitely many words: real rows never agree.
    law = expected(np.zeros(1), workflow, n_samples=n_samples, n_generations=n_generations)
    return np.array([0.0, *(sample.both for sample in law)])


@checked(n_generations=whole(1), write=function, ddof=whole(0, 1))
def moments(
    workflow: Workflow | None = None,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    write: Callable[[Any, float], tuple[Any, float]] | None = None,
    ddof: int = 0,
) -> tuple[Array, Array]:
    """E[mean_n^2] and E[v_n] of a family that keeps the moments of its rows; truth: mean 0, var 1.

    - `workflow, n_samples, n_generations`: As in :func:`of`.
    - `write`: As in :func:`collapse_utils.lineages.generations`, affine: ``lambda mean, var: (mean,
      0.9 * var)`` is a biased sampler and ``lambda mean, var: (mean, 1.0)`` has the noise of the
      truth in every row, like a regression or a mean that is fitted alone.
    - `ddof`: 0 or 1.

    Returns tuple of ndarray, shape (G + 1,).
    """
    square, var = [0.0], [1.0]
    for sample in expected(
        (np.zeros(1), 1.0),
        workflow,
        n_samples=n_samples,
        n_generations=n_generations,
        write=write,
        ddof=ddof,
    ):
        square.append(sample.both)
        var.append(sample.var(ddof))
    return np.array(square), np.array(var)


def expected(
    truth: Any,
    workflow: Workflow | None = None,
    *,
    n_samples: _checks.Schedule,
    n_generations: int,
    write: Callable[..., Any] | None = None,
    ddof: int = 0,
) -> Iterator[Expected]:
    """Expected training sets of generations 1, ..., G.

    - `truth` (array, shape (K,), or tuple): Probabilities of K words, or ``(mean, var)`` of
      numbers, the mean an array.
    - `workflow, n_samples, n_generations`: As in :func:`of`.
    - `write`: As in :func:`collapse_utils.lineages.generations`, linear: ``lambda words: (1 - u) *
      words.p + u * q`` is smoothing, or mutation; q an array.
    - `ddof`: Of the variance of numbers.
    """
    sizes = _checks.schedule(n_samples, n_generations, ddof + 1)
    workflow = _checks.workflow("workflow", Replace() if workflow is None else workflow, sizes)
    family = _Expectation(isinstance(truth, tuple), ddof)
    fits = _generations(family, truth, workflow, sizes, None, _Chance(), write)
    next(fits)  # the truth
    return (family.sample for _ in fits)


class _Expectation:
    """Expected samples as a family of :mod:`collapse_utils.lineages`; `sample` is the latest."""

    sample: Expected

    def __init__(self, numbers: bool, ddof: int):
        self._numbers, self._ddof = numbers, ddof

    def draw(self, law: Any, n: Any, rng: Any) -> Expected:
        centre, var = law if self._numbers else (law, None)
        return _drawn(_law(centre), n, var)

    def fit(self, sample: Expected) -> Any:
        self.sample = sample
        return (sample.p, sample.var(self._ddof)) if self._numbers else sample


@dataclass(frozen=True)
class _Share:
    """A number of rows that is binomial: each of n with a probability."""

    n: int
    of: float

    def __rsub__(self, n: int) -> _Share:
        if n != self.n:
            raise ValueError(f"a share of {self.n} rows cannot be taken from {n}")
        return _Share(n, 1 - self.of)


class _Chance:
    """Stands in for a generator: numbers of rows stay symbols."""

    def binomial(self, n: int, share: float, size: None = None) -> _Share:
        return _Share(n, float(share))


class _Law:
    """A law that is sampled, in expectation; multiples of laws and arrays can be added.

    - `mean` (ndarray, shape (K,)): E[x] of a row x: probabilities of words, or the mean of numbers.
    - `both`: E[x . y] of two rows drawn from it independently; words: the chance that they agree.
    """

    __array_ufunc__ = None  # so that an array on the left asks __radd__

    def __init__(self, mean: Array, both: float, akin: dict[_Law, float]):
        self.mean, self.both = mean, both
        #: E[x . y] of a row of this and one of another law that is still in use.
        self.akin: WeakKeyDictionary[_Law, float] = WeakKeyDictionary(akin)
        for other, product in akin.items():
            other.akin[self] = product

    def product(self, other: _Law) -> float:
        """E[x . y] of a row of each; the means' where they have no ancestor in common."""
        if other is self:
            return self.both
        product = self.akin.get(other)
        return float(self.mean @ other.mean) if product is None else product

    def __mul__(self, factor: float) -> _Law:
        return _combined([(factor, self)])

    __rmul__ = __mul__

    def __add__(self, other: _Law | ArrayLike) -> _Law:
        return _combined([(1.0, self), (1.0, _law(other))])

    __radd__ = __add__


class Expected(_Law):
    """n rows in expectation.

    - `n` (int, float or _Share): Number of rows, or the sum of their weights.
    - `square`: E[x . x] of a row; words: 1.
    - `both`: E[x . y] of two rows drawn with replacement: of one fit's frequencies with themselves.
    """

    def __init__(self, mean, both, akin, n: Any, square: float, drawn: bool = False):
        super().__init__(mean, both, akin)
        self.n, self.square, self._drawn = n, square, drawn
        self._first: dict[int, Expected] = {}

    def var(self, ddof: int = 0) -> float:
        """E[v] of a fit."""
        spread = self.square - self.both
        return spread * self.n / (self.n - ddof) if ddof else spread

    @property
    def p(self) -> _Law:
        """The law of a random row."""
        return _combined([(1.0, self)])

    @property
    def diversity(self) -> float:
        """Chance that two rows, drawn with replacement, differ."""
        return 1 - self.both

    @property
    def pair(self) -> float:
        """E[x . y] of two different rows."""
        if isinstance(self.n, _Share) or self.n == 1:
            return self.both
        return (self.both - self.square / self.n) / (1 - 1 / self.n)

    def __add__(self, other: Expected) -> Expected:
        if isinstance(self.n, _Share) and isinstance(other.n, _Share):
            return self._shared(other)
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        parts = [(self.n / n, self), (other.n / n, other)]
        both, mean, akin = _mixture(parts)
        return Expected(mean, both, akin, n, sum(c * part.square for c, part in parts))

    def _shared(self, other: Expected) -> Expected:
        """Each of n rows is of one kind or of the other, by chance."""
        n, parts = self.n.n, [(self.n.of, self), (other.n.of, other)]
        pair, mean, akin = _mixture(parts)
        square = sum(c * part.square for c, part in parts)
        return Expected(mean, _with_replacement(n, square, pair), akin, n, square)

    def __mul__(self, weight: float) -> Expected:
        """The same rows, each with a weight."""
        akin = _mixture([(1.0, self)])[2]
        return Expected(self.mean, self.both, akin, self.n * weight, self.square)

    __rmul__ = __mul__

    def choose(self, n: int | _Share, rng: Any) -> Expected:
        """`n` rows without replacement."""
        if n == self.n:
            return self
        if n == 0:
            return Expected(self.mean, 0.0, {}, 0, 0.0)
        both = _with_replacement(n, self.square, self.pair)
        return Expected(self.mean, both, _mixture([(1.0, self)])[2], n, self.square, self._drawn)

    def __getitem__(self, rows: slice) -> Expected:
        """The first n rows of one draw: any of its rows, but the same whenever asked."""
        if not self._drawn:
            raise ValueError(f"the first {rows.stop} rows of several samples have no one law")
        n = rows.stop
        if n not in self._first:
            self._first[n] = self.choose(n, None)
        return self._first[n]


def _mixture(parts: list[tuple[float, _Law]]) -> tuple[float, Array, dict[_Law, float]]:
    """Products, mean, and products with all others, of c_1 x_1 + c_2 x_2 + ..."""
    both = sum(c * d * a.product(b) for c, a in parts for d, b in parts)
    mean = sum(c * part.mean for c, part in parts)
    alive = {other for _, part in parts for other in part.akin} | {part for _, part in parts}
    akin = {other: sum(c * part.product(other) for c, part in parts) for other in alive}
    return both, mean, akin


def _combined(parts: list[tuple[float, _Law]]) -> _Law:
    both, mean, akin = _mixture(parts)
    return _Law(mean, both, akin)


def _law(law: _Law | ArrayLike) -> _Law:
    """An array is a law that is known."""
    if isinstance(law, _Law):
        return law
    mean = np.asarray(law, dtype=float)
    return _Law(mean, float(mean @ mean), {})


def _drawn(law: _Law, n: Any, var: float | None) -> Expected:
    if n == 0:
        return Expected(law.mean, 0.0, {}, 0, 0.0)
    square = 1.0 if var is None else law.both + var
    both = _with_replacement(n, square, law.both)
    return Expected(law.mean, both, _mixture([(1.0, law)])[2], n, square, drawn=True)


def _with_replacement(n: Any, square: float, pair: float) -> float:
    return pair if isinstance(n, _Share) else square / n + (1 - 1 / n) * pair
