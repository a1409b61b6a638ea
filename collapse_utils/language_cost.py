"""What a generation of the language-model experiment costs, counted in operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import checks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Weights of the published checkpoint facebook/opt-125m (Zhang et al. 2022, Table 1).
OPT_125M = {
    "vocab_size": 50272, "hidden_size": 768, "word_embed_proj_dim": 768, "ffn_dim": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 2048,
}  # fmt: skip


def shape(**settings: int) -> PreTrainedModel:
    """OPT of a given shape without weights: it can be counted, not run."""
    from . import language_base

    language_base.ready()
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    with torch.device("meta"):
        return OPTForCausalLM(OPTConfig(**settings))


def operations_per_token(network: PreTrainedModel, context: float) -> float:
    """Floating-point operations to read one token.

    Parameters
    ----------
    network : transformers.PreTrainedModel
        Weights are not needed (see :func:`shape`).
    context : float
        Earlier tokens that attention looks at, on average.

    Returns
    -------
    float
        A multiplication and an addition for each weight of a linear layer, the output layer
        included, and for each number of the keys and values of the context (Kaplan et al. 2020,
        Table 1). Training takes three times as many: a gradient for the weights and one for the
        inputs.
    """
    import torch

    context = checks.real("context", context, 0)
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    weights = sum(layer.weight.numel() for layer in linear)
    config = network.config
    attention = 2 * config.num_hidden_layers * config.hidden_size * context
    return float(2 * (weights + attention))


@dataclass(frozen=True)
class Cost:
    """Operations of one generation.

    Attributes
    ----------
    training, sampling, beams : float
        To fine-tune on ``n_blocks`` blocks, to continue each of them by one block at random, and
        to do so by a beam search.
    """

    training: float
    sampling: float
    beams: float


def generation(
    network: PreTrainedModel, *, n_blocks: int, block: int = 64, epochs: int = 5, n_beams: int = 5
) -> Cost:
    """Operations of one generation of the experiment.

    Parameters
    ----------
    network : transformers.PreTrainedModel
    n_blocks, block, epochs, n_beams : int

    Returns
    -------
    Cost
        A prompt is read once; each of its continuations is read token by token, and one token of
        a block less than it has.
    """
    n_blocks = checks.integer("n_blocks", n_blocks, 1)
    block = checks.integer("block", block, 2)
    read = block * operations_per_token(network, (block + 1) / 2)
    write = (block - 1) * operations_per_token(network, 1.5 * block)
    return Cost(
        training=3 * checks.integer("epochs", epochs, 1) * n_blocks * read,
        sampling=n_blocks * (read + write),
        beams=n_blocks * (read + checks.integer("n_beams", n_beams, 1) * write),
    )
