"""A word model of two words, refitted to what it writes: each word is drawn given the one before.

It fits its text perfectly, so the only error of the loop is the finite sample. A text enters the
laws through its counts alone, so :meth:`Bigram.rewrite` maps counts to counts, for many lineages at
once: one row of a count matrix is one lineage. How long a pair lives is a law of
:mod:`collapse_utils.models.words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks
from .._checks import checked, number, whole

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Random = np.random.Generator

END = 0
"""Number of the end of a sentence, shown as a full stop."""

# Words written in step: enough to make the cost of a step small, few enough for the cache.
_TOGETHER = 400_000


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
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    flat = np.full(lengths.sum() + len(rows), END, dtype=np.int64)
    word = np.ones(len(flat), dtype=bool)
    word[np.cumsum(lengths + 1) - 1] = False
    flat[word] = np.concatenate(list(rows))
    return flat


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
        left = self._sums(self.tail_, counts)
        log = lambda x: np.log(x, out=np.zeros_like(x), where=x > 0)  # noqa: E731
        inside = (left * log(left)).sum(axis=1) - (counts * log(counts)).sum(axis=1)
        return inside / counts.sum(axis=1)

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
        lengths = np.bincount(np.concatenate([sentence for sentence, _ in steps]), minlength=n)
        starts = np.cumsum(lengths) - lengths
        words = np.empty(lengths.sum(), dtype=np.int64)
        for step, (sentence, edges) in enumerate(steps):
            words[starts[sentence] + step] = self.head_[edges]
        stops = starts + lengths - (words[starts + lengths - 1] == END)
        return _rows([words[a:b] for a, b in zip(starts, stops, strict=True)])

    @checked(strength=number(0, above=True))
    def log_probability(
        self, counts: ArrayLike, rows: Sequence[Ints], *, strength: float = 10.0
    ) -> Array:
        """Log-probability in nats, (R, N), of each word of a text of N under smoothed models.

        The model backs off from pairs to words to a flat guess over the K known types and one
        unknown: ``P(w) = (N(w) + 1) / (N + K + 1)`` and
        ``P(w | v) = (N(v, w) + strength P(w)) / (N(v) + strength)``, a Dirichlet prior around the
        word frequencies (MacKay and Peto 1995).

        - `counts` (array, shape (R, E)): Of the texts that the models are fitted to. Scale them to
          one size to compare texts of different lengths: the weight of the prior is fixed.
        - `rows`: Sentences of the text to judge; numbers from K on are unknown words.
        - `strength`: Weight of the word frequencies, in observations.
        """
        counts = np.atleast_2d(np.asarray(counts, dtype=float))
        heads = np.minimum(flatten(rows), self._k)
        tails = np.roll(heads, 1)
        pair = self.index(rows)
        words = np.pad(self.word_counts(counts), ((0, 0), (0, 1)))
        flat = (words + 1) / (words.sum(axis=1, keepdims=True) + self._k + 1)
        left = np.pad(self._sums(self.tail_, counts), ((0, 0), (0, 1)))
        seen = np.where(pair >= 0, counts[:, pair], 0.0)
        return np.log((seen + strength * flat[:, heads]) / (left[:, tails] + strength))

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
