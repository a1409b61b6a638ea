"""Word models of one and two words, refitted to what they write.

A unigram model draws words independently; a bigram model draws each word given the one before.
Both fit their text perfectly, so the only error of the loop is the finite sample. A text enters
the laws through its counts alone, so the simulators map counts to counts, for many replicates at
once: one row of a count matrix is one lineage. How long a word or a pair lives is a law of
:mod:`collapse_utils.models.words`.

Taught in the chapter ``two_words``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks

END = 0
"""Number of the end of a sentence, shown as a full stop."""

# Words written in step: enough to make the cost of a step small, few enough for the cache.
_TOGETHER = 400_000


def encode(
    sentences: Iterable[Sequence[str]], vocabulary: Sequence[str] | None = None
) -> tuple[NDArray[np.object_], tuple[str, ...]]:
    """Replace words by numbers.

    - `sentences` (iterable of sequences of str)
    - `vocabulary` (sequence of str, optional): Words by number, starting with the full stop.
      Default: the words of the sentences, the frequent ones first. Words that are not in it get the
      number ``len(vocabulary)``.

    Returns one array of int per sentence, without the end, and the vocabulary.
    """
    sentences = list(sentences)
    if not sentences:
        raise ValueError("sentences must hold at least one sentence, got an empty text")
    for i, sentence in enumerate(sentences):
        if len(sentence) == 0:
            raise ValueError(f"sentences[{i}] must hold at least one word, got none")
    if vocabulary is None:
        counts = Counter(word for sentence in sentences for word in sentence)
        vocabulary = [".", *(word for word, _ in counts.most_common() if word != ".")]
    if len(vocabulary) == 0 or vocabulary[0] != ".":
        raise ValueError(f"vocabulary must start with '.', got {list(vocabulary[:1])}")
    number = {word: i for i, word in enumerate(vocabulary)}
    unknown = len(vocabulary)
    return _rows(
        [np.array([number.get(w, unknown) for w in s], dtype=np.int64) for s in sentences]
    ), tuple(vocabulary)


def flatten(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """All sentences as one text, each followed by :data:`END`.

    - `rows` (sequence of arrays of int)

    Returns ndarray of int, shape (number of words + number of sentences,).
    """
    if len(rows) == 0:
        raise ValueError("rows must hold at least one sentence, got an empty text")
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    flat = np.full(lengths.sum() + len(rows), END, dtype=np.int64)
    word = np.ones(len(flat), dtype=bool)
    word[np.cumsum(lengths + 1) - 1] = False
    flat[word] = np.concatenate(list(rows))
    return flat


def surprisal(counts: ArrayLike) -> NDArray[np.float64]:
    """``-log(frequency)`` of each word in nats; infinite where the count is zero."""
    counts = np.asarray(counts, dtype=float)
    with np.errstate(divide="ignore"):
        return np.log(counts.sum(axis=-1, keepdims=True)) - np.log(counts)


class Bigrams:
    """The pairs of neighbouring words in a text, as a graph to walk on.

    Every sentence is a round trip from the end of the last sentence to its own end, so each word
    is left as often as it is entered, and expected counts of the next text equal the counts.

    - `rows` (sequence of arrays of int): Sentences as word numbers, without the end.
    - `n_types`: Number of types K, the end included; default one more than the largest number.

    - `tail`, `head` (ndarray of int, shape (E,)): Each different pair once, sorted; a sentence
      starts at tail END and ends at head END.
    - `counts` (ndarray of int, shape (E,)): How often each pair occurs.
    - `n_types`
    """

    def __init__(self, rows: Sequence[NDArray[np.int64]], n_types: int | None = None) -> None:
        heads = flatten(rows)
        top = int(heads.max())
        self.n_types = top + 1 if n_types is None else _checks.integer("n_types", n_types, top + 1)
        if heads.min() < 0 or (heads == END).sum() != len(rows):
            raise ValueError("rows must hold word numbers >= 1: 0 ends a sentence")
        pairs = np.roll(heads, 1) * self.n_types + heads
        self._codes, self.counts = np.unique(pairs, return_counts=True)
        self.tail, self.head = np.divmod(self._codes, self.n_types)
        self._first = np.searchsorted(self.tail, np.arange(self.n_types + 1))

    def index(self, rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Numbers of the pairs of a text in reading order; -1 for a pair that is not here."""
        heads = flatten(rows)
        tails = np.roll(heads, 1)
        codes = np.where(
            (heads < self.n_types) & (tails < self.n_types), tails * self.n_types + heads, -1
        )
        at = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        return np.where(self._codes[at] == codes, at, -1)

    def word_counts(self, counts: ArrayLike) -> NDArray[np.int64]:
        """Counts of the words, the end included, from counts of the pairs.

        - `counts` (array, shape (R, E))

        Returns ndarray, shape (R, K): Of the type of `counts`.
        """
        counts = np.atleast_2d(counts)
        return np.stack([np.bincount(self.head, c, minlength=self.n_types) for c in counts]).astype(
            counts.dtype
        )

    def surprisal(self) -> NDArray[np.float64]:
        """``-log P(head | tail)`` of each pair under the model fitted to this text, in nats."""
        left = np.bincount(self.tail, self.counts, minlength=self.n_types)
        return np.log(left[self.tail]) - np.log(self.counts)

    def entropy_rate(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Entropy per word of the models fitted to texts with these counts, in nats.

        - `counts` (array, shape (R, E))

        Returns ndarray, shape (R,).
        """
        counts = np.atleast_2d(np.asarray(counts, dtype=float))
        left = self._leaving(counts)
        log = lambda x: np.log(x, out=np.zeros_like(x), where=x > 0)  # noqa: E731
        inside = (left * log(left)).sum(axis=1) - (counts * log(counts)).sum(axis=1)
        return inside / counts.sum(axis=1)

    def rewrite(
        self,
        counts: ArrayLike,
        rng: np.random.Generator,
        *,
        temperature: float = 1.0,
        max_words: int = 1000,
    ) -> NDArray[np.int64]:
        """Counts of the texts that bigram models write after counting these texts.

        Every text gets as many sentences as the one before. All sentences of all texts are
        written in step, one word at a time.

        - `counts` (array of int, shape (R, E)): Counts of the pairs in R texts.
        - `temperature`: Exponent ``1 / temperature`` on the frequencies of the next word.
        - `max_words`: A sentence is cut off after so many words.

        Returns ndarray of int, shape (R, E).
        """
        counts = self._checked(counts)
        starts = counts[:, : self._first[1]].sum(axis=1)
        n_parts = min(len(counts), -(-int(counts.sum()) // _TOGETHER))
        parts = []
        for some in np.array_split(np.arange(len(counts)), n_parts):
            steps = self._walk(counts[some], starts[some], rng, temperature, max_words)
            edges = np.concatenate([edge for _, edge in steps])
            new = np.bincount(edges, minlength=len(some) * counts.shape[1])
            parts.append(new.reshape(len(some), -1))
        return np.concatenate(parts)

    def write(
        self,
        counts: ArrayLike,
        n: int,
        rng: np.random.Generator,
        *,
        temperature: float = 1.0,
        max_words: int = 1000,
    ) -> NDArray[np.object_]:
        """Sentences by the bigram model of one text.

        - `counts` (array of int, shape (E,)): Counts of the pairs in the text.
        - `n`: Number of sentences.
        - `rng, temperature, max_words`: As in :meth:`rewrite`.

        Returns ndarray of object, shape (n,): Word numbers of each sentence, without the end.
        """
        n = _checks.integer("n", n, 1)
        counts = self._checked(np.atleast_2d(counts))
        steps = self._walk(counts, np.array([n]), rng, temperature, max_words)
        lengths = np.bincount(np.concatenate([sentence for sentence, _ in steps]), minlength=n)
        starts = np.cumsum(lengths) - lengths
        words = np.empty(lengths.sum(), dtype=np.int64)
        for step, (sentence, edges) in enumerate(steps):
            words[starts[sentence] + step] = self.head[edges]
        stops = starts + lengths - (words[starts + lengths - 1] == END)
        return _rows([words[a:b] for a, b in zip(starts, stops, strict=True)])

    def log_probability(
        self, counts: ArrayLike, rows: Sequence[NDArray[np.int64]], *, strength: float = 10.0
    ) -> NDArray[np.float64]:
        """Log-probability of each word of a text under smoothed models.

        The model backs off from pairs to words to a flat guess over the K known types and one
        unknown: ``P(w) = (N(w) + 1) / (N + K + 1)`` and
        ``P(w | v) = (N(v, w) + strength P(w)) / (N(v) + strength)``, a Dirichlet prior around the
        word frequencies (MacKay and Peto 1995).

        - `counts` (array, shape (R, E)): Counts of the pairs in the texts that the models are
          fitted to. They need not be whole: scale them to one size to compare texts of different
          lengths, because the weight of the prior does not grow with the text.
        - `rows` (sequence of arrays of int): Sentences of the text to judge; numbers from K on are
          unknown words.
        - `strength`: Weight of the word frequencies, in observations; above 0.

        Returns ndarray, shape (R, N): In nats, in reading order, the ends of sentences included.
        """
        strength = _checks.real("strength", strength, 0, open_low=True)
        counts = np.atleast_2d(np.asarray(counts, dtype=float))
        heads = np.minimum(flatten(rows), self.n_types)
        tails = np.roll(heads, 1)
        pair = self.index(rows)
        words = np.pad(self.word_counts(counts), ((0, 0), (0, 1)))
        flat = (words + 1) / (words.sum(axis=1, keepdims=True) + self.n_types + 1)
        left = np.pad(self._leaving(counts), ((0, 0), (0, 1)))
        seen = np.where(pair >= 0, counts[:, pair], 0.0)
        return np.log((seen + strength * flat[:, heads]) / (left[:, tails] + strength))

    def perplexity(
        self, counts: ArrayLike, rows: Sequence[NDArray[np.int64]], *, strength: float = 10.0
    ) -> NDArray[np.float64]:
        """Perplexity per word under the smoothed models of :meth:`log_probability`.

        Returns ndarray, shape (R,).
        """
        return np.exp(-self.log_probability(counts, rows, strength=strength).mean(axis=1))

    def _leaving(self, counts: NDArray) -> NDArray:
        """How often each word is followed by anything, shape (R, K)."""
        return np.stack([np.bincount(self.tail, c, minlength=self.n_types) for c in counts])

    def _checked(self, counts: ArrayLike) -> NDArray[np.int64]:
        counts = _count_matrix(counts)
        if counts.shape[1] != len(self.tail):
            raise ValueError(
                f"counts must have one column for each of the {len(self.tail)} pairs, got shape "
                f"{counts.shape}"
            )
        if not counts[:, : self._first[1]].any(axis=1).all():
            raise ValueError("counts must hold the start of a sentence in every row, got none")
        return counts

    def _walk(self, counts, n_sentences, rng, temperature, max_words):
        """Write all sentences in step.

        One pair of arrays per step: the sentences that go on, and ``replicate * E + pair``.
        """
        _checks.generator(rng)
        temperature = _temperature(temperature)
        max_words = _checks.integer("max_words", max_words, 1)
        n_replicates, n_pairs = counts.shape
        bounds = (np.arange(n_replicates)[:, None] * n_pairs + self._first).astype(np.intp)
        choose = _sampler(
            counts.ravel(), bounds[:, :-1].ravel(), bounds[:, 1:].ravel(), temperature
        )
        # The state after each pair: replicate * K + word, or -1 when the sentence has ended.
        after = np.where(self.head == END, -1, self.head)
        shift = np.arange(n_replicates)[:, None] * self.n_types
        after = np.where(after < 0, -1, after + shift).ravel().astype(np.int32)
        leads_on = (self._leaving(counts) > 0).ravel()
        state = np.repeat(np.arange(n_replicates, dtype=np.int32) * self.n_types, n_sentences)
        sentence = np.arange(len(state), dtype=np.int32)
        steps: list[tuple[NDArray, NDArray]] = []
        for _ in range(max_words + 1):
            edge = choose(state, rng)
            steps.append((sentence, edge))
            state = after[edge]
            # A word that was last in a cut-off sentence and nowhere else has no successor.
            on = (state >= 0) & leads_on[state]
            state, sentence = state[on], sentence[on]
            if len(state) == 0:
                break
        return steps


class Bigram:
    """Each word drawn given the one before; rows are sentences.

    - `n_types`: Number of types K; default one more than the largest number in the training text.
    - `temperature`: Sampling temperature, above 0.
    - `max_words`: A sentence is cut off after so many words.

    - `bigrams_` (Bigrams): The pairs of the training text.
    """

    def __init__(
        self, n_types: int | None = None, temperature: float = 1.0, max_words: int = 1000
    ) -> None:
        self.n_types = None if n_types is None else _checks.integer("n_types", n_types, 2)
        self.temperature = _temperature(temperature)
        self.max_words = _checks.integer("max_words", max_words, 1)

    def fit(self, X: Sequence[NDArray[np.int64]]) -> Bigram:
        """Count the pairs of a text (sentences as arrays of word numbers)."""
        self.bigrams_ = Bigrams(X, self.n_types)
        return self

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.object_]:
        """Write `n` sentences."""
        return self.bigrams_.write(
            self.bigrams_.counts, n, rng, temperature=self.temperature, max_words=self.max_words
        )


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


def _temperature(value: object) -> float:
    return _checks.real("temperature", value, 0, open_low=True)


def _count_matrix(counts: ArrayLike) -> NDArray[np.int64]:
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or counts.size == 0 or counts.min() < 0:
        raise ValueError(
            "counts must be a matrix of whole numbers >= 0, one text per row, got shape "
            f"{counts.shape} of type {counts.dtype}"
        )
    if not counts.any(axis=1).all():
        raise ValueError("counts must have a positive entry in every row, got an empty text")
    return counts


def _rows(arrays: list[NDArray]) -> NDArray[np.object_]:
    rows = np.empty(len(arrays), dtype=object)
    rows[:] = arrays
    return rows
