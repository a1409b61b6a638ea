"""How a language model writes: sampling and beam search, with penalties and watermarks.

An OPT network reads through buffers of fixed size, in which all beams of a prompt share its keys
and values: nothing is copied when beams are exchanged, and writing is two to four times as fast
as ``generate`` of transformers, which serves every other network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._checks import checked, number, whole

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Tokens of prompt that are continued at once: bounds the memory of the cache of keys and values
# (OPT-125m in single precision: 1.2 GB by sampling, 1.8 GB by five beams).
_TOGETHER = 128 * 64
_BEAMS_TOGETHER = 64 * 64


@checked(
    beams=whole(1),
    temperature=number(0, above=True),
    repetition_penalty=number(0, above=True),
    no_repeat_ngram=whole(),
)
@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    - `beams`: 1 draws each token at random; more searches that many continuations for the likeliest
      one, without chance (the published experiment: 5).
    - `temperature`: Exponent ``1 / temperature`` on the probabilities; 1 is plain (ancestral)
      sampling.
    - `repetition_penalty`: Divides the positive, multiplies the negative logits of tokens that
      occurred before.
    - `no_repeat_ngram`: Forbids to repeat an n-gram of this length; 0 forbids none.
    - `watermark` (WatermarkingConfig or SynthIDTextWatermarkingConfig of transformers, optional)
    """

    beams: int = 1
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    watermark: Any = None

    def __post_init__(self) -> None:
        if self.beams > 1 and (self.temperature, self.watermark) != (1, None):
            raise ValueError(
                f"temperature must be 1 and watermark None with beams={self.beams}, which draws "
                f"nothing at random, got {self.temperature:g}, {self.watermark}"
            )

    def filters(self, network: PreTrainedModel) -> list[Any]:
        """What changes the logits, in the order in which ``generate`` applies it."""
        from transformers.generation import logits_process as process

        chosen: list[Any] = []
        if self.repetition_penalty != 1:
            chosen.append(process.RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if self.no_repeat_ngram:
            chosen.append(process.NoRepeatNGramLogitsProcessor(self.no_repeat_ngram))
        if self.temperature != 1:
            chosen.append(process.TemperatureLogitsWarper(self.temperature))
        if self.watermark is not None:
            size = network.config.vocab_size
            chosen.append(self.watermark.construct_processor(size, network.device))
        return chosen


@checked(length=whole(1))
def write(
    network: PreTrainedModel,
    prompts: NDArray[np.int64],
    *,
    decoding: Decoding,
    rng: np.random.Generator,
    length: int | None = None,
) -> NDArray[np.int64]:
    """Continue prompts, shape (n, L), by `length` tokens (default L), shape (n, length).

    The network is used on the device where it lies; the end-of-text token is never written. An
    OPT network draws one uniform number per token, prompt by prompt, so that a text does not
    depend on how many prompts are continued at once. A beam search draws none.
    """
    import torch

    prompts = block_rows("prompts", prompts)
    length = length or prompts.shape[1]
    context = reach(network)
    if prompts.shape[1] + length > context:
        raise ValueError(
            f"length must be at most {context - prompts.shape[1]} after prompts of "
            f"{prompts.shape[1]} tokens in a context of {context}, got {length}"
        )
    beams = decoding.beams > 1
    together = max(1, (_BEAMS_TOGETHER if beams else _TOGETHER) // prompts.shape[1])
    go_on = _generate if not _Reader.fits(network) else _search if beams else _draw
    with torch.inference_mode():
        parts = [
            go_on(network, ids.to(network.device), length, decoding, rng).cpu()
            for ids in torch.from_numpy(prompts).split(together)
        ]
    return torch.cat(parts).numpy()


def reach(network: PreTrainedModel) -> float:
    """Tokens that the network can see at once; infinite where nothing limits them."""
    return getattr(network.config, "max_position_embeddings", None) or math.inf


def block_rows(name: str, X: NDArray, length: int | None = None) -> NDArray[np.int64]:
    """Return X as blocks of token numbers, shape (n, L), or say what `name` must be."""
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be blocks of token numbers, shape (n, L) with n >= 1, got shape "
            f"{X.shape} of {X.dtype}"
        )
    if length is not None and X.shape[1] != length:
        raise ValueError(f"{name} must have blocks of {length} tokens, got {X.shape[1]}")
    return np.ascontiguousarray(X, dtype=np.int64)


class _Reader:
    """An OPT network (Zhang et al. 2022) with a cache for `rows` rows of `size` tokens.

    The tokens of all beams of a prompt are counted in its row.
    """

    @staticmethod
    def fits(network: PreTrainedModel) -> bool:
        """OPT with the normalisation before each block: all published sizes but OPT-350m."""
        config = network.config
        return (
            config.model_type == "opt"
            and config.do_layer_norm_before
            and not config._remove_final_layer_norm
            and config.word_embed_proj_dim == config.hidden_size
        )

    def __init__(self, network: PreTrainedModel, rows: int, size: int) -> None:
        import torch

        config, weight = network.config, network.lm_head.weight
        self.decoder, self.head = network.model.decoder, network.lm_head
        self.heads, self.used = config.num_attention_heads, 0
        self.joint = []
        for layer in self.decoder.layers:
            parts = [getattr(layer.self_attn, f"{one}_proj") for one in "qkv"]
            bias = None if parts[0].bias is None else torch.cat([p.bias for p in parts])
            self.joint.append((torch.cat([p.weight for p in parts]), bias))
        shape = (2, len(self.joint), rows, self.heads, size, config.hidden_size // self.heads)
        self.keys, self.values = torch.empty(shape, dtype=weight.dtype, device=weight.device)

    def read(
        self, ids: torch.Tensor, position: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logits of the token after, shape (rows, q or 1, vocabulary), having read on by q tokens.

        `position` (q,) counts from 0. `mask` (rows, q, tokens read so far + q) says which tokens
        of its row each new token sees; without one it sees all earlier ones, and the logits of
        the last token only are returned.
        """
        from torch.nn.functional import linear, scaled_dot_product_attention

        decoder, (rows, q) = self.decoder, ids.shape
        end = self.used + q
        # OPT numbers its positions from 2.
        places = decoder.embed_positions.weight[position + decoder.embed_positions.offset]
        h = decoder.embed_tokens(ids) + places
        allowed = None if mask is None else mask[:, None]
        for i, layer in enumerate(decoder.layers):
            normed = layer.self_attn_layer_norm(h)
            joint = linear(normed, *self.joint[i]).view(rows, q, 3, self.heads, -1)
            query, key, value = joint.permute(2, 0, 3, 1, 4)
            self.keys[i, :, :, self.used : end] = key
            self.values[i, :, :, self.used : end] = value
            seen = scaled_dot_product_attention(
                query, self.keys[i, :, :, :end], self.values[i, :, :, :end],
                attn_mask=allowed, is_causal=mask is None and q > 1,
            )  # fmt: skip
            h = h + layer.self_attn.out_proj(seen.transpose(1, 2).reshape(rows, q, -1))
            normed = layer.final_layer_norm(h)
            h = h + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        self.used = end
        return self.head(decoder.final_layer_norm(h if mask is not None else h[:, -1:]))


def _draw(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding, rng):
    """Random continuation: token t is the inverse distribution at ``chance[:, t]``."""
    import torch

    n, done = ids.shape
    chance = torch.from_numpy(rng.random((n, length))).to(ids.device)
    filters = decoding.filters(network)
    reader = _Reader(network, n, done + length - 1)  # the last token is not read again
    text = torch.empty(n, done + length, dtype=torch.long, device=ids.device)
    text[:, :done] = ids
    places = torch.arange(done + length, device=ids.device)
    for t in range(done, done + length):
        new = slice(reader.used, t)
        logits = reader.read(text[:, new], places[new])[:, -1].float()
        logits[:, network.config.eos_token_id] = -math.inf
        for one in filters:
            logits = one(text[:, :t], logits)
        cumulative = torch.softmax(logits, dim=-1).cumsum(dim=-1, dtype=torch.double)
        point = chance[:, t - done, None] * cumulative[:, -1:]
        text[:, t] = torch.searchsorted(cumulative, point, right=True)[:, 0]
    return text[:, done:]


def _search(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding, rng):
    """Beam search for continuations of one length, token by token as ``generate`` does it.

    The score of a continuation is the sum of its log-probabilities after the filters, which come
    after the normalisation.
    """
    import torch

    (n, done), beams = ids.shape, decoding.beams
    filters = decoding.filters(network)
    reader = _Reader(network, n, done + beams * (length - 1))
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


def _generate(network: PreTrainedModel, ids: torch.Tensor, length: int, decoding: Decoding, rng):
    """The same with transformers' ``generate``, for a network that :class:`_Reader` cannot read."""
    import torch

    with torch.random.fork_rng(devices=[ids.device] if ids.is_cuda else []):
        torch.manual_seed(int(rng.integers(2**63)))
        found = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=decoding.beams == 1,
            num_beams=decoding.beams,
            top_k=None if decoding.beams > 1 else 0,
            max_new_tokens=length,
            min_new_tokens=length,
            logits_processor=decoding.filters(network),
            pad_token_id=network.config.pad_token_id or 0,  # all texts have one length
        )
    return found[:, ids.shape[1] :]
