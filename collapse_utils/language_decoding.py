"""How a language model writes: the choice of the next token, and a sampler with a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Tokens of prompt that are continued at once: bounds the memory of the cache of keys and values.
_TOGETHER = 128 * 64
_BEAMS_TOGETHER = 32 * 64


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    Attributes
    ----------
    beams : int
        1 draws each token at random; more searches that many continuations for the likeliest
        one, without chance (the published experiment: 5).
    temperature : float
        Exponent ``1 / temperature`` on the probabilities; 1 is plain (ancestral) sampling.
    top_p : float
        Draw from the fewest tokens that hold this probability (Holtzman et al. 2020).
    repetition_penalty : float
        Divides the positive, multiplies the negative logits of tokens that occurred before.
    no_repeat_ngram : int
        Forbids to repeat an n-gram of this length; 0 forbids none.
    """

    beams: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        checks.integer("beams", self.beams, 1)
        checks.real("temperature", self.temperature, 0, open_low=True)
        checks.real("top_p", self.top_p, 0, 1, open_low=True)
        checks.real("repetition_penalty", self.repetition_penalty, 0, open_low=True)
        checks.integer("no_repeat_ngram", self.no_repeat_ngram, 0)
        if self.beams > 1 and (self.temperature, self.top_p) != (1.0, 1.0):
            raise ValueError(
                f"temperature and top_p must be 1 with beams={self.beams}, which draws nothing at "
                f"random, got temperature={self.temperature:g}, top_p={self.top_p:g}"
            )


def write(
    network: PreTrainedModel,
    prompts: NDArray[np.int64],
    *,
    decoding: Decoding,
    rng: np.random.Generator,
    length: int | None = None,
    progress: bool = False,
) -> NDArray[np.int64]:
    """Continue prompts.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        Used on the device where it lies.
    prompts : array of int, shape (n, L)
    decoding : Decoding
    rng : numpy.random.Generator
        One uniform number per token, prompt by prompt, so that a text does not depend on how
        many prompts are continued at once. Not used by a beam search.
    length : int, optional
        Tokens to write, default L. The end-of-text token is never written.
    progress : bool

    Returns
    -------
    ndarray of int, shape (n, length)

    Raises
    ------
    ValueError
        If prompt and continuation do not fit the context of the network.
    """
    import torch

    prompts = block_rows("prompts", prompts)
    length = checks.integer("length", prompts.shape[1] if length is None else length, 1)
    context = network.config.max_position_embeddings
    if prompts.shape[1] + length > context:
        raise ValueError(
            f"length must be at most {context - prompts.shape[1]} after prompts of "
            f"{prompts.shape[1]} tokens in a context of {context}, got {length}"
        )
    beams = decoding.beams > 1
    together = max(1, (_BEAMS_TOGETHER if beams else _TOGETHER) // prompts.shape[1])
    chance = None if beams else rng.random((len(prompts), length))
    parts = []
    with torch.inference_mode(), token_bar("writing", len(prompts) * length, progress) as bar:
        for start in range(0, len(prompts), together):
            rows = slice(start, start + together)
            ids = torch.from_numpy(prompts[rows]).to(network.device)
            if beams:
                new = _search(network, ids, length, decoding)
            else:
                new = _draw(network, ids, torch.from_numpy(chance[rows]).to(ids.device), decoding)
            parts.append(new.cpu().numpy())
            bar.update(new.numel())
    return np.concatenate(parts)


def _search(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding):
    import torch

    found = network.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        num_beams=decoding.beams,
        do_sample=False,
        max_new_tokens=length,
        min_new_tokens=length,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram,
        pad_token_id=network.config.pad_token_id,
    )
    return found[:, ids.shape[1] :]


def _draw(network: PreTrainedModel, ids: torch.Tensor, chance: torch.Tensor, decoding: Decoding):
    """Random continuation with a cache: token t is the inverse distribution at ``chance[:, t]``."""
    import torch

    n, done = ids.shape
    length = chance.shape[1]
    filters = _filters(decoding)
    text = torch.empty(n, done + length, dtype=torch.long, device=ids.device)
    text[:, :done] = ids
    step, cache = ids, None
    for t in range(done, done + length):
        out = network(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        logits = out.logits[:, -1].double()
        logits[:, network.config.eos_token_id] = -math.inf
        for one in filters:
            logits = one(text[:, :t], logits)
        cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1)
        point = chance[:, t - done, None] * cumulative[:, -1:]
        step = torch.searchsorted(cumulative, point, right=True)
        text[:, t] = step[:, 0]
    return text[:, done:]


def _filters(decoding: Decoding) -> list[Any]:
    """The filters of transformers, in the order in which ``generate`` applies them."""
    from transformers.generation import logits_process as filters

    chosen: list[Any] = []
    if decoding.repetition_penalty != 1:
        chosen.append(filters.RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.no_repeat_ngram:
        chosen.append(filters.NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram))
    if decoding.temperature != 1:
        chosen.append(filters.TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_p < 1:
        chosen.append(filters.TopPLogitsWarper(decoding.top_p))
    return chosen


def block_rows(name: str, X: NDArray, length: int | None = None) -> NDArray[np.int64]:
    """Return X as blocks of token numbers, or say what `name` must be."""
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be blocks of token numbers, shape (n, L) with n >= 1, got shape "
            f"{X.shape} of {X.dtype}"
        )
    if length is not None and X.shape[1] != length:
        raise ValueError(f"{name} must have blocks of {length} tokens, got {X.shape[1]}")
    return np.ascontiguousarray(X, dtype=np.int64)


def token_bar(what: str, total: int, progress: bool):
    """Bar with tokens per second and the time left, on standard error."""
    if progress:
        from tqdm.auto import tqdm
    else:  # tqdm.auto would warn where a notebook has no widgets
        from tqdm import tqdm
    return tqdm(total=total, desc=what, unit="token", unit_scale=True, disable=not progress)
