"""How a language model writes: the choice of the next token, and a sampler with a cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import checks, language_cache

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Tokens of prompt that are continued at once: bounds the memory of the cache of keys and values
# (OPT-125m in single precision: 1.2 GB by sampling, 1.8 GB by five beams).
_TOGETHER = 128 * 64
_BEAMS_TOGETHER = 64 * 64


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
            if not beams:
                new = _draw(network, ids, torch.from_numpy(chance[rows]).to(ids.device), decoding)
            elif language_cache.fits(network):
                new = _search(network, ids, length, decoding)
            else:
                new = _search_any(network, ids, length, decoding)
            parts.append(new.cpu().numpy())
            bar.update(new.numel())
    return np.concatenate(parts)


def _draw(network: PreTrainedModel, ids: torch.Tensor, chance: torch.Tensor, decoding: Decoding):
    """Random continuation with a cache: token t is the inverse distribution at ``chance[:, t]``."""
    import torch

    n, done = ids.shape
    length = chance.shape[1]
    filters = _filters(decoding)
    fast = language_cache.fits(network)
    size = done + length - 1  # the last token is written, and not read again
    reader = language_cache.Reader(network, n, size) if fast else language_cache.AnyReader(network)
    text = torch.empty(n, done + length, dtype=torch.long, device=ids.device)
    text[:, :done] = ids
    places = torch.arange(done + length, device=ids.device)
    old = 0
    for t in range(done, done + length):
        logits = reader.read(text[:, old:t], places[old:t])[:, -1].float()
        logits[:, network.config.eos_token_id] = -math.inf
        for one in filters:
            logits = one(text[:, :t], logits)
        cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1, dtype=torch.double)
        point = chance[:, t - done, None] * cumulative[:, -1:]
        text[:, t] = torch.searchsorted(cumulative, point, right=True)[:, 0]
        old = t
    return text[:, done:]


def _search(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding):
    """Beam search for continuations of one length, token by token as ``generate`` does it.

    The score of a continuation is the sum of its log-probabilities after the filters, which come
    after the normalisation.
    """
    import torch

    (n, done), beams = ids.shape, decoding.beams
    filters = _filters(decoding)
    reader = language_cache.Reader(network, n, done + beams * (length - 1))
    text = torch.empty(n, 1, done + length, dtype=torch.long, device=ids.device)
    text[:, 0, :done] = ids
    places = torch.arange(done + length, device=ids.device)
    score = torch.zeros(n, 1, device=ids.device)
    # What each beam descends from: the prompt, and one of the beams at every later token.
    seen = torch.ones(n, 1, done, dtype=torch.bool, device=ids.device)
    itself = torch.eye(beams, dtype=torch.bool, device=ids.device).expand(n, -1, -1)
    logits = reader.read(ids, places[:done])
    for t in range(done, done + length):
        values = torch.log_softmax(logits.float(), dim=-1)
        values[..., network.config.eos_token_id] = -math.inf
        for one in filters:
            values = one(text[..., :t].flatten(0, 1), values.flatten(0, 1)).view(values.shape)
        # The best of all beams are among the best of each.
        values, tokens = values.topk(min(beams, values.shape[-1]), dim=-1)
        score, best = (score[..., None] + values).flatten(1).topk(beams)
        parent = (best // values.shape[-1])[..., None]
        text = text.gather(1, parent.expand(-1, -1, done + length))
        text[..., t] = tokens.flatten(1).gather(1, best)
        if t + 1 < done + length:
            seen = torch.cat([seen.gather(1, parent.expand(-1, -1, seen.shape[-1])), itself], -1)
            logits = reader.read(text[..., t], places[t].expand(beams), seen)
    return text[:, 0, done:]


def _search_any(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding):
    """The same with ``generate``, for a network that :mod:`language_cache` does not know."""
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


def _filters(decoding: Decoding) -> list[Any]:
    """What changes the logits, in the order in which ``generate`` applies it."""
    from transformers.generation import logits_process as filters

    chosen: list[Any] = []
    if decoding.repetition_penalty != 1:
        chosen.append(filters.RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.no_repeat_ngram:
        chosen.append(partial(_forbid_repeats, decoding.no_repeat_ngram))
    if decoding.temperature != 1:
        chosen.append(filters.TemperatureLogitsWarper(decoding.temperature))
    if decoding.top_p < 1:
        chosen.append(filters.TopPLogitsWarper(decoding.top_p))
    return chosen


def _forbid_repeats(n: int, text: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Forbid each token that would complete an n-gram that stands in its row already."""
    done = text.shape[1]
    if done >= n:
        grams = text.unfold(1, n, 1)
        repeats = (grams[..., :-1] == text[:, None, done - n + 1 :]).all(dim=-1)
        rows, places = repeats.nonzero(as_tuple=True)
        logits[rows, grams[rows, places, -1]] = -math.inf
    return logits


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


def some(text: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows of a text, shape (N, L), or n of them by chance, in their order."""
    return text if n == len(text) else text[np.sort(rng.choice(len(text), n, replace=False))]
