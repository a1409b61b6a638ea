"""An OPT network that reads on: keys and values in buffers of fixed size, beams as one row.

``network(...)`` of transformers appends to its cache by copying the whole of it at every token,
and a beam search copies it once more when it changes beams. Here the buffers are laid out once.
All beams of a prompt share its keys and values, and write theirs side by side; which of them a
beam descends from is said by a mask, so that nothing is copied when beams are exchanged.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def fits(network: PreTrainedModel) -> bool:
    """Whether :class:`Reader` can read with this network.

    It can for OPT with the normalisation before each block and embeddings as wide as the blocks:
    the networks made here and the published ones but for OPT-350m.
    """
    config = network.config
    return (
        config.model_type == "opt"
        and config.do_layer_norm_before
        and not config._remove_final_layer_norm
        and config.word_embed_proj_dim == config.hidden_size
    )


class Reader:
    """An OPT network (Zhang et al. 2022) with a cache for a fixed number of rows and tokens.

    Parameters
    ----------
    network : transformers.OPTForCausalLM
        For which :func:`fits`; in evaluation mode. Read on its device and in its precision.
    rows : int
        Prompts that are read together.
    size : int
        Tokens that will be read in each row, those of all beams counted.
    """

    def __init__(self, network: PreTrainedModel, rows: int, size: int) -> None:
        import torch

        config, weight = network.config, network.lm_head.weight
        self.decoder, self.head = network.model.decoder, network.lm_head
        self.heads, self.used = config.num_attention_heads, 0
        attentions = [layer.self_attn for layer in self.decoder.layers]
        parts = [(a.q_proj, a.k_proj, a.v_proj) for a in attentions]
        self.joint = [
            (
                torch.cat([p.weight for p in part]),
                torch.cat([p.bias for p in part]) if part[0].bias is not None else None,
            )
            for part in parts
        ]
        shape = (2, len(parts), rows, self.heads, size, config.hidden_size // self.heads)
        self.keys, self.values = torch.empty(shape, dtype=weight.dtype, device=weight.device)

    def read(
        self, ids: torch.Tensor, position: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Read on by q tokens in each row.

        Parameters
        ----------
        ids : tensor of int, shape (rows, q)
        position : tensor of int, shape (q,)
            Where in the text the tokens stand, counted from 0.
        mask : tensor of bool, shape (rows, q, tokens read so far + q), optional
            Which tokens of its row each new token sees. Without a mask: all earlier ones, and
            the logits of the last token only are returned.

        Returns
        -------
        tensor, shape (rows, q or 1, vocabulary)
            Logits of the token after.
        """
        from torch.nn.functional import linear, scaled_dot_product_attention

        decoder, (rows, q) = self.decoder, ids.shape
        end = self.used + q
        # OPT numbers its positions from 2.
        places = decoder.embed_positions.weight[position + decoder.embed_positions.offset]
        h = decoder.embed_tokens(ids) + places
        allowed = None if mask is None else mask[:, None]
        causal = mask is None and q > 1
        for i, layer in enumerate(decoder.layers):
            normed = layer.self_attn_layer_norm(h)
            joint = linear(normed, *self.joint[i]).view(rows, q, 3, self.heads, -1)
            query, key, value = joint.permute(2, 0, 3, 1, 4)
            self.keys[i, :, :, self.used : end] = key
            self.values[i, :, :, self.used : end] = value
            seen = scaled_dot_product_attention(
                query, self.keys[i, :, :, :end], self.values[i, :, :, :end],
                attn_mask=allowed, is_causal=causal,
            )  # fmt: skip
            h = h + layer.self_attn.out_proj(seen.transpose(1, 2).reshape(rows, q, -1))
            normed = layer.final_layer_norm(h)
            h = h + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        self.used = end
        return self.head(decoder.final_layer_norm(h if mask is not None else h[:, -1:]))


class AnyReader:
    """Any causal network of transformers, with the cache that it brings along."""

    def __init__(self, network: PreTrainedModel) -> None:
        self.network, self.cache = network, None
        # Not every network can leave out the logits of tokens that are only read.
        last_only = "logits_to_keep" in inspect.signature(network.forward).parameters
        self.options = {"logits_to_keep": 1} if last_only else {}

    def read(self, ids: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """See :meth:`Reader.read`; the network counts the positions itself."""
        found = self.network(ids, past_key_values=self.cache, use_cache=True, **self.options)
        self.cache = found.past_key_values
        return found.logits[:, -1:]
