"""What a detector of a watermark sees: scores, and their exact law on text without one.

The marks themselves are those of transformers: the *green list* (``WatermarkingConfig``,
Kirchenbauer et al. 2023) hashes the token before into a random part of the vocabulary and adds a
bias to its logits; *SynthID* (``SynthIDTextWatermarkingConfig``, Dathathri et al. 2024) draws the
token by a tournament on pseudo-random bits. ``Decoding(watermark=...)`` writes with either.

Taught in the chapter on provenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .models.writing import block_rows

if TYPE_CHECKING:
    from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig

Array = NDArray[np.float64]


class GreenList:
    """The green lists of a ``WatermarkingConfig``, for many texts at once.

    Gives the z-scores of transformers' ``WatermarkDetector``, which looks at pair after pair.

    Parameters
    ----------
    vocabulary : int
        Size of the vocabulary of the model that wrote (``network.config.vocab_size``).
    watermark : WatermarkingConfig
        With ``seeding_scheme="lefthash"`` and ``context_width=1``, the defaults.

    Attributes
    ----------
    table : array of bool, shape (vocabulary, vocabulary)
        Which tokens are green after each token.
    share : float
        Of the vocabulary that is green; 2,047 tokens at a quarter have 511, not 511.75.
    """

    def __init__(self, vocabulary: int, watermark: WatermarkingConfig) -> None:
        import torch

        kind = (watermark.seeding_scheme, watermark.context_width)
        if kind != ("lefthash", 1):
            raise ValueError(
                f'watermark must have seeding_scheme="lefthash" and context_width=1, got {kind}'
            )
        self.ratio = watermark.greenlist_ratio
        self.share = int(vocabulary * self.ratio) / vocabulary
        processor = watermark.construct_processor(vocabulary, "cpu")
        before = torch.arange(vocabulary)[:, None]
        self.table = (processor(before, torch.zeros(vocabulary, vocabulary)) != 0).numpy()

    def green(self, X: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each token of X (n, L) but the first is green, shape (n, L - 1)."""
        X = block_rows("X", X)
        return self.table[X[:, :-1], X[:, 1:]]

    def z_scores(self, X: NDArray[np.int64], *, repeats: bool = False) -> Array:
        """z = (green - gamma T) / sqrt(gamma (1 - gamma) T) of each text, shape (n,).

        With `repeats` a pair of tokens counts each time that it occurs in a text (the default of
        ``WatermarkDetector``), else once (its ``ignore_repeated_ngrams=True``).
        """
        green = self.green(X)
        counted = np.ones_like(green) if repeats else _first_pairs(X)
        total = counted.sum(axis=1)
        spread = np.sqrt(total * self.ratio * (1 - self.ratio))
        return ((green & counted).sum(axis=1) - self.ratio * total) / spread


def green_tail(times: ArrayLike, share: float, threshold: float) -> float:
    """P(z > threshold) of text without a watermark, exactly.

    Each pair of tokens that is new to a text is green with probability gamma (`share`),
    independently (over the keys), and a pair that is counted c times, one entry of `times`, is
    green c times or never: the count is a sum of c * Bernoulli(gamma), multiplied out.
    """
    chance = np.ones(1)
    for count, number in zip(*np.unique(times, return_counts=True), strict=True):
        part = np.zeros(int(count) * int(number) + 1)
        part[:: int(count)] = stats.binom.pmf(np.arange(number + 1), number, share)
        chance = np.convolve(chance, part)
    total = len(chance) - 1
    z = (np.arange(total + 1) - share * total) / np.sqrt(total * share * (1 - share))
    return float(chance[z > threshold].sum())


def false_positive_rates(
    X: NDArray[np.int64], share: float, threshold: float, *, repeats: bool = False
) -> Array:
    """:func:`green_tail` of each text of X (n, L), shape (n,): its chance over the keys."""
    known: dict[tuple[int, ...], float] = {}
    rates = []
    for row in _pairs(X):
        times = np.sort(np.unique(row, return_counts=True)[1])
        key = tuple(times if repeats else np.ones_like(times))
        if key not in known:
            known[key] = green_tail(key, share, threshold)
        rates.append(known[key])
    return np.array(rates)


def spike_entropy_bound(probabilities: ArrayLike, share: float, bias: float) -> Array:
    """Least expected share of green tokens in watermarked text (Kirchenbauer et al. 2023).

    Over the keys, a step whose probabilities are p, shape (..., K), has a green token with
    probability at least gamma a S / (1 + (a - 1) gamma). Here a = exp(bias), and the spike entropy
    is S = sum_k p_k / (1 + z p_k) with z = (1 - gamma)(a - 1) / (1 + (a - 1) gamma).
    """
    p = np.asarray(probabilities, dtype=float)
    a = np.exp(bias)
    z = (1 - share) * (a - 1) / (1 + (a - 1) * share)
    return share * a / (1 + (a - 1) * share) * (p / (1 + z * p)).sum(axis=-1)


def synthid_scores(X: NDArray[np.int64], watermark: SynthIDTextWatermarkingConfig) -> Array:
    """z-score of the mean g-value of each text of X (n, L) under a SynthID watermark, shape (n,).

    The bits g of text without the watermark are fair coins, so with n of them
    z = (2 mean(g) - 1) sqrt(n). Repeated contexts are left out, as the writer leaves them out. (The
    mean score of Dathathri et al. 2024; their weighted and Bayesian scores detect more.)
    """
    import torch

    rows = torch.from_numpy(block_rows("X", X))
    processor = watermark.construct_processor(int(rows.max()) + 1, "cpu")
    g = processor.compute_g_values(rows).numpy().astype(float)
    new = processor.compute_context_repetition_mask(rows).numpy()
    n = new.sum(axis=1) * g.shape[2]
    return (2 * (g * new[..., None]).sum(axis=(1, 2)) / n - 1) * np.sqrt(n)


def _pairs(X: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each pair of neighbours, shape (n, L - 1)."""
    X = block_rows("X", X)
    return X[:, :-1] * (int(X.max()) + 1) + X[:, 1:]


def _first_pairs(X: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each pair of neighbours is the first of its kind in its text, shape (n, L - 1)."""
    first = np.zeros((len(X), X.shape[1] - 1), dtype=bool)
    for row, pairs in zip(first, _pairs(X), strict=True):
        row[np.unique(pairs, return_index=True)[1]] = True
    return first
