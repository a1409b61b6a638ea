"""Watermarks of transformers on the book's language model: writing, scoring, exact null laws.

Two published watermarks. The *green list* (Kirchenbauer et al. 2023) hashes the token before into
a random part of the vocabulary and adds a bias to its logits; its detector counts green tokens.
*SynthID* (Dathathri et al. 2024) draws the token by a tournament on pseudo-random bits, which
leaves the distribution of each token unchanged on average over the keys. Both come from
transformers itself (``WatermarkingConfig``, ``SynthIDTextWatermarkingConfig``).

Taught in the chapter on provenance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from . import checks
from .language_decoding import Decoding, block_rows, some, write
from .workflows import TrainingSet

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        SynthIDTextWatermarkingConfig,
        WatermarkingConfig,
    )

    from .language import LanguageModel

Array = NDArray[np.float64]

_TOGETHER = 128  # prompts that are continued at once


# --------------------------------------------------------------------------- writing


def write_marked(
    network: PreTrainedModel,
    prompts: NDArray[np.int64],
    watermark: WatermarkingConfig | SynthIDTextWatermarkingConfig,
    *,
    rng: np.random.Generator,
    length: int | None = None,
) -> NDArray[np.int64]:
    """Continue prompts by plain sampling with a watermark of transformers.

    Parameters
    ----------
    network : transformers.PreTrainedModel
    prompts : array of int, shape (n, L)
    watermark : WatermarkingConfig or SynthIDTextWatermarkingConfig
        Handed to ``network.generate``.
    rng : numpy.random.Generator
    length : int, optional
        Tokens to write, default L. The end-of-text token is never written.

    Returns
    -------
    ndarray of int, shape (n, length)
    """
    import torch

    prompts = block_rows("prompts", prompts)
    length = checks.integer("length", prompts.shape[1] if length is None else length, 1)
    checks.generator(rng)
    parts = []
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(int(rng.integers(2**63)))
        for start in range(0, len(prompts), _TOGETHER):
            ids = torch.from_numpy(prompts[start : start + _TOGETHER]).to(network.device)
            text = network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                max_new_tokens=length,
                min_new_tokens=length,
                pad_token_id=network.config.pad_token_id,
                watermarking_config=watermark,
            )
            parts.append(text[:, ids.shape[1] :].cpu().numpy())
    return np.concatenate(parts)


class Marked:
    """Writers who share a language model, and of whom a part uses a watermark.

    Parameters
    ----------
    model : LanguageModel
        Its decoding must be plain sampling, like that of the watermark.
    watermark : WatermarkingConfig or SynthIDTextWatermarkingConfig
    adoption : float
        Share of the prompts, chosen anew by each generation, that are continued with the
        watermark.

    Attributes
    ----------
    marked : ndarray of bool, shape (N,)
        Which of the texts carry the watermark, once the model has written.

    Raises
    ------
    ValueError
        If `adoption` lies outside [0, 1] or the model does not sample plainly.
    """

    def __init__(self, model: LanguageModel, watermark: Any, adoption: float = 1.0) -> None:
        self.adoption = checks.real("adoption", adoption, 0, 1)
        if model.decoding != Decoding():
            raise ValueError(f"model must sample plainly, got {model.decoding}")
        self.model, self.watermark = model, watermark
        self._written: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return f"Marked({self.model!r}, {self.watermark.to_json_string()}, {self.adoption:g})"

    @property
    def network(self) -> PreTrainedModel | None:
        """The fitted network."""
        return self.model.network

    def fit(self, X: NDArray[np.int64], rng: np.random.Generator) -> Marked:
        """Fine-tune the model; see ``LanguageModel.fit``."""
        self.model.fit(X, rng)
        self._written = None
        return self

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Continuations of n of the prompts, the same text again when asked again.

        Parameters
        ----------
        n : int
            At most the number of prompts.
        rng : numpy.random.Generator

        Returns
        -------
        ndarray of int, shape (n, L)
        """
        prompts = self.model.prompts
        n = checks.integer("n", n, 1, len(prompts))
        if self.network is None:
            raise ValueError("the model must be fitted before it can write")
        if self._written is None:
            self.marked = np.zeros(len(prompts), dtype=bool)
            chosen = rng.choice(len(prompts), round(self.adoption * len(prompts)), replace=False)
            self.marked[chosen] = True
            text = np.empty_like(prompts)
            if self.marked.any():
                text[self.marked] = write_marked(
                    self.network, prompts[self.marked], self.watermark, rng=rng
                )
            if not self.marked.all():
                plain = prompts[~self.marked]
                text[~self.marked] = write(self.network, plain, decoding=Decoding(), rng=rng)
            self._written = text
        return some(self._written, n, rng)


# --------------------------------------------------------------------------- green lists


class GreenList:
    """The green list of ``WatermarkingConfig``, for many texts at once.

    Gives the same z-scores as transformers' ``WatermarkDetector``, from a table that is looked up
    for all texts together.

    Parameters
    ----------
    vocabulary : int
        Size of the vocabulary of the model that wrote (``network.config.vocab_size``).
    watermark : WatermarkingConfig
        With ``seeding_scheme="lefthash"`` and ``context_width=1``, the defaults.

    Raises
    ------
    ValueError
        If the watermark is of another kind.
    """

    def __init__(self, vocabulary: int, watermark: WatermarkingConfig) -> None:
        kind = (watermark.seeding_scheme, watermark.context_width)
        if kind != ("lefthash", 1):
            raise ValueError(
                f'watermark must have seeding_scheme="lefthash" and context_width=1, got {kind}'
            )
        self.vocabulary = checks.integer("vocabulary", vocabulary, 2)
        self._processor = watermark.construct_processor(self.vocabulary, "cpu")
        self.bias = watermark.bias
        #: Share of the vocabulary that is green; 2,047 tokens at a quarter have 511, not 511.75.
        self.share = int(self.vocabulary * watermark.greenlist_ratio) / self.vocabulary
        self._ratio = watermark.greenlist_ratio
        self._rows: dict[int, NDArray[np.bool_]] = {}

    def lists(self, tokens: ArrayLike) -> NDArray[np.bool_]:
        """Green lists after each of `tokens`.

        Parameters
        ----------
        tokens : array of int, shape (k,)

        Returns
        -------
        ndarray of bool, shape (k, vocabulary)
        """
        import torch

        tokens = np.asarray(tokens)
        for start in range(0, len(tokens), 256):
            new = [t for t in tokens[start : start + 256].tolist() if t not in self._rows]
            if new:
                before = torch.tensor(new)[:, None]
                marked = self._processor(before, torch.zeros(len(new), self.vocabulary))
                self._rows |= dict(zip(new, (marked != 0).numpy(), strict=True))
        return np.array([self._rows[t] for t in tokens.tolist()])

    def green(self, X: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each token but the first is green.

        Parameters
        ----------
        X : array of int, shape (n, L)

        Returns
        -------
        ndarray of bool, shape (n, L - 1)
        """
        X = block_rows("X", X)
        before, where = np.unique(X[:, :-1], return_inverse=True)
        return self.lists(before)[where.reshape(X[:, :-1].shape), X[:, 1:]]

    def z_scores(self, X: NDArray[np.int64], *, repeats: bool = False) -> Array:
        """z = (green - gamma T) / sqrt(gamma (1 - gamma) T) of each text.

        Parameters
        ----------
        X : array of int, shape (n, L)
        repeats : bool
            Count a pair of tokens each time that it occurs in a text (the default of
            ``WatermarkDetector``), or once (its ``ignore_repeated_ngrams=True``).

        Returns
        -------
        ndarray, shape (n,)
        """
        green = self.green(X)
        counted = np.ones_like(green) if repeats else first_pairs(X)
        total = counted.sum(axis=1)
        spread = np.sqrt(total * self._ratio * (1 - self._ratio))
        return ((green & counted).sum(axis=1) - self._ratio * total) / spread


@dataclass(frozen=True)
class GreenDetector:
    """Flags texts with many green tokens; a detector for ``provenance.Detected``.

    Attributes
    ----------
    greenlist : GreenList
    threshold : float
        Texts with a z-score above it are flagged.
    """

    greenlist: GreenList = field(repr=False)
    threshold: float = 4.0

    def __post_init__(self) -> None:
        checks.real("threshold", self.threshold)

    def __call__(
        self, rows: TrainingSet, generation: int, rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Flags, shape (n,); where the rows come from is not looked at."""
        return self.greenlist.z_scores(rows.X) > self.threshold


def first_pairs(X: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each pair of neighbours is the first of its kind in its text, shape (n, L - 1)."""
    X = block_rows("X", X)
    pairs = X[:, :-1] * (int(X.max()) + 1) + X[:, 1:]
    order = np.argsort(pairs, axis=1, kind="stable")
    ordered = np.take_along_axis(pairs, order, axis=1)
    first = np.ones_like(pairs, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    back = np.empty_like(first)
    np.put_along_axis(back, order, first, axis=1)
    return back


def green_tail(times: ArrayLike, share: float, threshold: ArrayLike) -> Array:
    """Chance that text without a watermark exceeds a z-score, exactly.

    Each pair of tokens that is new to a text is green with probability gamma, independently (over
    the keys), and a pair that occurs c times is green c times or never: the count is a sum of
    c * Bernoulli(gamma), whose probabilities are multiplied out.

    Parameters
    ----------
    times : array of int, shape (U,)
        How often each different pair is counted; all ones for U different pairs.
    share : float
        gamma.
    threshold : array

    Returns
    -------
    ndarray
        P(z > threshold).
    """
    times = np.asarray(times)
    share = checks.real("share", share, 0, 1, open_low=True, open_high=True)
    chance = np.ones(1)
    for count, number in zip(*np.unique(times, return_counts=True), strict=True):
        part = np.zeros(int(count) * int(number) + 1)
        part[:: int(count)] = stats.binom.pmf(np.arange(number + 1), number, share)
        chance = np.convolve(chance, part)
    total = int(times.sum())
    z = (np.arange(total + 1) - share * total) / np.sqrt(total * share * (1 - share))
    return np.array([chance[z > t].sum() for t in np.ravel(threshold)]).reshape(np.shape(threshold))


def false_positive_rates(
    X: NDArray[np.int64], share: float, threshold: float, *, repeats: bool = False
) -> Array:
    """:func:`green_tail` of each text: its chance to be flagged, over the keys.

    Parameters
    ----------
    X : array of int, shape (n, L)
        Text without a watermark.
    share, threshold : float
    repeats : bool
        See :meth:`GreenList.z_scores`.

    Returns
    -------
    ndarray, shape (n,)
    """
    X = block_rows("X", X)
    known: dict[tuple[int, ...], float] = {}
    rates = []
    for row in X[:, :-1] * (int(X.max()) + 1) + X[:, 1:]:
        times = np.sort(np.unique(row, return_counts=True)[1])
        key = tuple(times.tolist() if repeats else np.ones_like(times).tolist())
        if key not in known:
            known[key] = float(green_tail(np.array(key), share, threshold))
        rates.append(known[key])
    return np.array(rates)


def spike_entropy_bound(probabilities: ArrayLike, share: float, bias: float) -> Array:
    """Least expected share of green tokens in watermarked text.

    The bound of Kirchenbauer et al. (2023) for the soft watermark: over the keys, a step whose
    probabilities are p has a green token with probability at least gamma a S / (1 + (a - 1) gamma).
    Here a = exp(bias), and the spike entropy is
    S = sum_k p_k / (1 + z p_k) with z = (1 - gamma)(a - 1) / (1 + (a - 1) gamma).

    Parameters
    ----------
    probabilities : array, shape (..., K)
    share, bias : float
        gamma and delta.

    Returns
    -------
    ndarray, shape (...)
    """
    p = np.asarray(probabilities, dtype=float)
    a = np.exp(bias)
    z = (1 - share) * (a - 1) / (1 + (a - 1) * share)
    return share * a / (1 + (a - 1) * share) * (p / (1 + z * p)).sum(axis=-1)


# --------------------------------------------------------------------------- SynthID


def synthid_scores(X: NDArray[np.int64], watermark: SynthIDTextWatermarkingConfig) -> Array:
    """z-score of the mean g-value of each text under a SynthID watermark.

    The bits g of text without the watermark are fair coins, so with n of them
    z = (2 mean(g) - 1) sqrt(n). Repeated contexts are left out, as the writer leaves them out. (The
    mean score of Dathathri et al. 2024; their weighted and Bayesian scores detect more.)

    Parameters
    ----------
    X : array of int, shape (n, L)
    watermark : SynthIDTextWatermarkingConfig

    Returns
    -------
    ndarray, shape (n,)
    """
    import torch

    rows = torch.from_numpy(block_rows("X", X))
    processor = watermark.construct_processor(int(rows.max()) + 1, "cpu")
    g = processor.compute_g_values(rows).numpy().astype(float)
    new = processor.compute_context_repetition_mask(rows).numpy()
    n = new.sum(axis=1) * g.shape[2]
    return (2 * (g * new[..., None]).sum(axis=(1, 2)) / n - 1) * np.sqrt(n)


# --------------------------------------------------------------------------- ROC


def roc(negative: ArrayLike, positive: ArrayLike) -> tuple[Array, Array]:
    """True and false positive rates over all thresholds.

    Parameters
    ----------
    negative, positive : array
        Scores of human and of marked text.

    Returns
    -------
    false, true : ndarray
        From (0, 0) to (1, 1).
    """
    negative, positive = np.sort(np.ravel(negative)), np.sort(np.ravel(positive))
    cuts = np.unique(np.concatenate([negative, positive]))[::-1]
    false = 1 - np.searchsorted(negative, cuts, side="left") / len(negative)
    true = 1 - np.searchsorted(positive, cuts, side="left") / len(positive)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])
