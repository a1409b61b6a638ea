"""What is measured of a language model and of what it writes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .loop import History, Snapshot

# Tokens that are read at once. Their logits take 4 MB in the network made here, which a processor
# keeps near by, and 0.2 GB in OPT-125m.
_TOGETHER = 1024


def block_losses(network: PreTrainedModel, X: ArrayLike) -> NDArray[np.float64]:
    """Negative log-probability per token of each block.

    Parameters
    ----------
    network : transformers.PreTrainedModel
    X : array of int, shape (n, L)
        Each block stands alone: its first token is given, the other L - 1 are predicted.

    Returns
    -------
    ndarray, shape (n,)
        In nats; the exponential is the block's perplexity.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rows = torch.from_numpy(np.ascontiguousarray(X, dtype=np.int64))
    together = max(1, _TOGETHER // rows.shape[1])
    losses = []
    with torch.inference_mode():
        for part in rows.split(together):
            part = part.to(network.device)
            logits = network(part, use_cache=False).logits[:, :-1].float()
            loss = cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
            losses.append(loss.view(len(part), -1).double().mean(dim=1).cpu())
    return torch.cat(losses).numpy()


def perplexity(losses: ArrayLike) -> float:
    """Exponential of the mean loss of blocks of equal length."""
    return math.exp(float(np.mean(losses)))


def perplexity_interval(
    losses: ArrayLike, rng: np.random.Generator, *, coverage: float = 0.95, n_resamples: int = 2000
) -> tuple[float, float]:
    """Bootstrap interval of the perplexity, resampling blocks (percentile method).

    Parameters
    ----------
    losses : array, shape (n,)
    rng : numpy.random.Generator
    coverage : float
    n_resamples : int

    Returns
    -------
    low, high : float
        They cover what other blocks of text would have changed, not another training run.

    Raises
    ------
    ValueError
        If there are fewer than two blocks or an argument is out of range.
    """
    losses = np.asarray(losses, dtype=float)
    if losses.ndim != 1 or len(losses) < 2:
        raise ValueError(f"losses must be those of two or more blocks, got shape {losses.shape}")
    coverage = checks.real("coverage", coverage, 0, 1, open_low=True, open_high=True)
    n_resamples = checks.integer("n_resamples", n_resamples, 1)
    drawn = checks.generator(rng).integers(len(losses), size=(n_resamples, len(losses)))
    low, high = np.quantile(losses[drawn].mean(axis=1), [(1 - coverage) / 2, (1 + coverage) / 2])
    return math.exp(low), math.exp(high)


def text_statistics(X: ArrayLike) -> dict[str, float]:
    """Variety and repetition of a text of blocks.

    Parameters
    ----------
    X : array of int, shape (n, L)

    Returns
    -------
    dict
        ``vocabulary`` (different tokens used), ``entropy`` (of the token frequencies, in nats),
        ``distinct_2`` and ``distinct_4`` (different n-grams per n-gram, n-grams within blocks; Li
        et al. 2016), ``repeated_4`` (share of the 4-grams that stood earlier in their own block).

    Raises
    ------
    ValueError
        If the blocks have fewer than four tokens.
    """
    X = np.asarray(X, dtype=np.int64)
    if X.ndim != 2 or len(X) == 0 or X.shape[1] < 4:
        raise ValueError(f"X must be blocks of four or more tokens, got shape {X.shape}")
    counts = np.bincount(X.ravel())
    shares = counts[counts > 0] / X.size
    fours = _ngrams(X, 4)
    own = np.sort(fours, axis=1)
    return {
        "vocabulary": float(len(shares)),
        "entropy": float(-(shares * np.log(shares)).sum()),
        "distinct_2": _distinct(_ngrams(X, 2)),
        "distinct_4": _distinct(fours),
        "repeated_4": float((own[:, 1:] == own[:, :-1]).sum() / own.size),
    }


class Measures:
    """Metric for :func:`collapse_utils.recurse`: the test text read, and the text written.

    Parameters
    ----------
    test : array of int, shape (n, L)
        Human text that no generation was trained on.

    Notes
    -----
    Reports ``perplexity`` of the test text and its loss block by block (``test_0``, ...; see
    :func:`losses_by_generation`), and :func:`text_statistics` of the sample. Generation 0 has no
    model, so it has the statistics of the human text only.
    """

    def __init__(self, test: NDArray[np.int64]) -> None:
        self.test = test

    def __call__(self, snapshot: Snapshot) -> dict[str, float]:
        found = text_statistics(snapshot.sample)
        if snapshot.model is not None:
            losses = block_losses(snapshot.model.network, self.test)
            found["perplexity"] = perplexity(losses)
            found |= {f"test_{i}": float(loss) for i, loss in enumerate(losses)}
        return found


def losses_by_generation(history: History) -> NDArray[np.float64]:
    """Losses of the test blocks by generation, shape (G + 1, n); generation 0 is NaN."""
    rows = history.frame[history.frame["metric"].str.fullmatch(r"test_\d+")]
    table = rows.pivot(index="generation", columns="metric", values="value")
    table = table[sorted(table.columns, key=lambda name: int(name.removeprefix("test_")))]
    return table.reindex(range(int(history.frame["generation"].max()) + 1)).to_numpy()


def _ngrams(X: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """A number for each n-gram within a block, equal where the n-grams are equal."""
    windows = np.lib.stride_tricks.sliding_window_view(X, n, axis=1)
    _, numbers = np.unique(windows.reshape(-1, n), axis=0, return_inverse=True)
    return numbers.reshape(windows.shape[:2])


def _distinct(numbers: NDArray[np.int64]) -> float:
    return float(numbers.max() + 1) / numbers.size
