"""Models of words, one at a time or after another, and the exact laws of what survives.

Both "train" by counting and "write" by drawing, so they have no error but the sampling.
:class:`Categorical`: drawing M symbols from the frequencies of M symbols is drawing M rows with
replacement, the haploid Wright-Fisher model without mutation (Wright 1931; Ewens 2004). Many
lineages at once: :class:`collapse_utils.lineages.Words`. :class:`Bigram`: each word is drawn given
the one before; a text enters the laws through the counts of its pairs alone.

Index 0 of an array over generations is the truth and index n the n-th fit. Taught in the chapters
``words`` and ``two_words``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import xlog1py

from .. import _checks
from .._checks import checked, number, whole
from ..lineages import Counts, Words

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Random = np.random.Generator

END = 0
"""Number of the end of a sentence, shown as a full stop."""

_STRENGTH = 10.0  # weight of the frequencies of the words, in observations
# Words written in step: enough to make the cost of a step small, few enough for the cache.
_TOGETHER = 400_000


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
    left = np.arange(n_replicates if np.count_nonzero(p) > 1 else 0)
    family, generation = Words(), 0
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


# --------------------------------------------------------------------------- pairs of words


def encode(
    sentences: Iterable[Sequence[str]], vocabulary: Sequence[str] | None = None
) -> tuple[NDArray[np.object_], tuple[str, ...]]:
    """Replace words by numbers: one array of int per sentence, without the end, and the vocabulary.

    - `vocabulary`: Words by number, starting with the full stop. Default: the words of the
      sentences, the frequent ones first. Words that are not in it get the number
      ``len(vocabulary)``.
    """
    sentences = list(sentences)
    if not sentences or not min(map(len, sentences)):
        got = sorted(map(len, sentences))[:3]
        raise ValueError(f"sentences must be one or more, of one word or more, got lengths {got}")
    if vocabulary is None:
        counts = Counter(word for sentence in sentences for word in sentence)
        vocabulary = [".", *(word for word, _ in counts.most_common() if word != ".")]
    if not len(vocabulary) or vocabulary[0] != ".":
        raise ValueError(f"vocabulary must start with '.', got {list(vocabulary[:1])}")
    known = {word: i for i, word in enumerate(vocabulary)}
    numbers = [np.array([known.get(w, len(known)) for w in s], dtype=np.int64) for s in sentences]
    return _rows(numbers), tuple(vocabulary)


def flatten(rows: Sequence[Ints]) -> Ints:
    """All sentences as one text, each followed by :data:`END`."""
    if len(rows) == 0:
        raise ValueError("rows must hold at least one sentence, got an empty text")
    ends = np.cumsum([len(row) for row in rows])
    return np.insert(np.concatenate(list(rows)), ends, END).astype(np.int64)


@checked(n_types=whole(2), temperature=number(0, above=True), max_words=whole(1))
class Bigram:
    """Each word drawn given the one before; rows are sentences, arrays of word numbers.

    Every sentence is a round trip from the end of the last sentence to its own end, so each word
    is left as often as it is entered, and expected counts of the next text equal the counts.

    - `n_types`: Number of types K, the end included; default one more than the largest number.
    - `temperature`: Exponent ``1 / temperature`` on the frequencies of the next word.
    - `max_words`: A sentence is cut off after so many words.

    - `tail_`, `head_` (ndarray of int, shape (E,)): Each different pair once, sorted; a sentence
      starts at tail END and ends at head END.
    - `counts_` (ndarray of int, shape (E,)): How often each pair occurs.
    """

    def __init__(
        self, n_types: int | None = None, temperature: float = 1.0, max_words: int = 1000
    ) -> None:
        self.n_types, self.temperature, self.max_words = n_types, temperature, max_words

    def fit(self, X: Sequence[Ints]) -> Bigram:
        """Count the pairs of a text."""
        heads = flatten(X)
        top = int(heads.max())
        self._k = _checks.whole(top + 1)("n_types", self.n_types or top + 1)
        if heads.min() < 0 or (heads == END).sum() != len(X):
            raise ValueError("rows must hold word numbers >= 1: 0 ends a sentence")
        self._codes, self.counts_ = np.unique(
            np.roll(heads, 1) * self._k + heads, return_counts=True
        )
        self.tail_, self.head_ = np.divmod(self._codes, self._k)
        self._first = np.searchsorted(self.tail_, np.arange(self._k + 1))
        return self

    def index(self, rows: Sequence[Ints]) -> Ints:
        """Numbers of the pairs of a text in reading order; -1 for a pair that is not here."""
        heads = flatten(rows)
        tails = np.roll(heads, 1)
        codes = np.where((heads < self._k) & (tails < self._k), tails * self._k + heads, -1)
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, at, -1)

    def word_counts(self, counts: ArrayLike) -> NDArray:
        """Counts of the words, the end included, (R, K), from counts of the pairs, (R, E)."""
        return self._sums(self.head_, np.atleast_2d(counts))

    def entropy_rate(self, counts: ArrayLike) -> Array:
        """Entropy per word, in nats, of the models fitted to texts with counts (R, E)."""
        counts = np.atleast_2d(np.asarray(counts, dtype=float))
        words, pairs = (
            (x * np.log(x, out=np.zeros_like(x), where=x > 0)).sum(axis=1)
            for x in (self._sums(self.tail_, counts), counts)
        )
        return (words - pairs) / counts.sum(axis=1)

    def rewrite(self, counts: ArrayLike, rng: Random) -> Ints:
        """Counts of the texts that models write after counting texts with counts (R, E).

        Every text gets as many sentences as the one before. All sentences of all texts are
        written in step, one word at a time.
        """
        counts = self._checked(counts)
        starts = counts[:, : self._first[1]].sum(axis=1)
        n_parts = min(len(counts), -(-int(counts.sum()) // _TOGETHER))
        parts = []
        for some in np.array_split(np.arange(len(counts)), n_parts):
            steps = self._walk(counts[some], starts[some], rng)
            edges = np.concatenate([edge for _, edge in steps])
            new = np.bincount(edges, minlength=len(some) * counts.shape[1])
            parts.append(new.reshape(len(some), -1))
        return np.concatenate(parts)

    @checked(n=whole(1))
    def sample(self, n: int, rng: Random, counts: ArrayLike | None = None) -> NDArray[np.object_]:
        """Write `n` sentences, after the text itself or one with other counts (E,) of its pairs."""
        counts = self._checked(np.atleast_2d(self.counts_ if counts is None else counts))
        steps = self._walk(counts, np.array([n]), rng)
        sentence, edges = (np.concatenate(part) for part in zip(*steps, strict=True))
        words = self.head_[edges[np.argsort(sentence, kind="stable")]]
        lengths = np.bincount(sentence)
        starts = np.cumsum(lengths) - lengths
        stops = starts + lengths - (words[starts + lengths - 1] == END)
        return _rows([words[a:b] for a, b in zip(starts, stops, strict=True)])

    def log_probability(self, counts: ArrayLike, rows: Sequence[Ints]) -> Array:
        """Log-probability in nats, (R, N), of each word of a text of N under smoothed models.

        The model backs off from pairs to words to a flat guess over the K known types and one
        unknown: ``P(w) = (N(w) + 1) / (N + K + 1)`` and
        ``P(w | v) = (N(v, w) + 10 P(w)) / (N(v) + 10)``, a Dirichlet prior around the word
        frequencies (MacKay and Peto 1995).

        - `counts` (array, shape (R, E)): Of the texts that the models are fitted to. Scale them to
          one size to compare texts of different lengths: the weight of the prior is fixed.
        - `rows`: Sentences of the text to judge; numbers from K on are unknown words.
        """
        counts = np.atleast_2d(np.asarray(counts, dtype=float))
        heads = np.minimum(flatten(rows), self._k)
        tails = np.roll(heads, 1)
        pair = self.index(rows)
        words = np.pad(self.word_counts(counts), ((0, 0), (0, 1)))
        flat = (words + 1) / (words.sum(axis=1, keepdims=True) + self._k + 1)
        left = np.pad(self._sums(self.tail_, counts), ((0, 0), (0, 1)))
        seen = np.where(pair >= 0, counts[:, pair], 0.0)
        return np.log((seen + _STRENGTH * flat[:, heads]) / (left[:, tails] + _STRENGTH))

    def _sums(self, words: Ints, counts: NDArray) -> NDArray:
        """Counts of the pairs by one of their words, (R, K)."""
        sums = [np.bincount(words, c, minlength=self._k) for c in counts]
        return np.stack(sums).astype(counts.dtype)

    def _checked(self, counts: ArrayLike) -> Ints:
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.dtype.kind not in "iu" or counts.shape[1] != len(self.tail_):
            raise ValueError(
                "counts must be whole numbers >= 0, one text per row and one column for each of "
                f"the {len(self.tail_)} pairs, got shape {counts.shape} of type {counts.dtype}"
            )
        if counts.min() < 0 or not counts[:, : self._first[1]].any(axis=1).all():
            raise ValueError("counts must be >= 0 and hold the start of a sentence in every row")
        return counts

    def _walk(self, counts: Ints, n_sentences: Ints, rng: Random) -> list[tuple[Ints, Ints]]:
        """Write all sentences in step.

        One pair of arrays per step: the sentences that go on, and ``replicate * E + pair``.
        """
        _checks.rng("rng", rng)
        n_replicates, n_pairs = counts.shape
        bounds = (np.arange(n_replicates)[:, None] * n_pairs + self._first).astype(np.intp)
        choose = _sampler(
            counts.ravel(), bounds[:, :-1].ravel(), bounds[:, 1:].ravel(), self.temperature
        )
        # The state after each pair: replicate * K + word, or -1 when the sentence has ended.
        shift = np.arange(n_replicates)[:, None] * self._k
        after = np.where(self.head_ == END, -1, self.head_ + shift).ravel().astype(np.int32)
        leads_on = (self._sums(self.tail_, counts) > 0).ravel()
        state = np.repeat(np.arange(n_replicates, dtype=np.int32) * self._k, n_sentences)
        sentence = np.arange(len(state), dtype=np.int32)
        steps = []
        for _ in range(self.max_words + 1):
            edge = choose(state, rng)
            steps.append((sentence, edge))
            state = after[edge]
            # A word that was last in a cut-off sentence and nowhere else has no successor.
            on = (state >= 0) & leads_on[state]
            state, sentence = state[on], sentence[on]
            if len(state) == 0:
                break
        return steps


def _sampler(counts, first, last, temperature):
    """A function ``(groups, rng) -> index`` that draws within ``first[group]:last[group]``."""
    if temperature == 1:
        # One slot per observation: a uniform slot is a draw in proportion to the counts.
        times = counts.astype(np.intp)  # a browser counts in 32 bits
        slots = np.repeat(np.arange(len(counts), dtype=np.int32), times)
        edges = np.concatenate([[0], np.cumsum(counts)])
        start, size = edges[first], (edges[last] - edges[first]).astype(float)

        def choose(group, rng):
            return slots[start[group] + (rng.random(len(group)) * size[group]).astype(np.int64)]

        return choose

    filled = np.flatnonzero(last > first)
    top = np.ones(len(first))
    top[filled] = np.maximum(np.maximum.reduceat(counts, first[filled]), 1)
    scale = np.repeat(top, last - first)
    with np.errstate(divide="ignore"):
        weights = np.exp(np.log(counts / scale) / temperature)
    # Pairs that never occur take no part, so that rounding cannot choose one of them.
    used = np.flatnonzero(counts)
    edges = np.concatenate([[0.0], np.cumsum(weights[used])])
    low, high = np.searchsorted(used, first), np.searchsorted(used, last)
    base, total = edges[low], edges[high] - edges[low]

    def choose_tempered(group, rng):
        target = base[group] + rng.random(len(group)) * total[group]
        at = np.searchsorted(edges, target, side="right") - 1
        return used[np.clip(at, low[group], high[group] - 1)].astype(np.int32)

    return choose_tempered


def _rows(arrays: list[NDArray]) -> NDArray[np.object_]:
    rows = np.empty(len(arrays), dtype=object)
    rows[:] = arrays
    return rows
