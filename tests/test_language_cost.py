"""The count of operations, against the profiler of torch."""

import pytest

from collapse_utils import language_base, language_cost

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 300, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 128,
    "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64,
}  # fmt: skip


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    language_base.ready()
    from transformers import OPTConfig, OPTForCausalLM

    network = OPTForCausalLM(OPTConfig(**SMALL, dropout=0.0, attn_implementation="eager"))
    rows = torch.ones(2, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        network(rows, use_cache=False)
    # Without a cache every token is multiplied with the whole block; the mask discards half.
    assert counted.get_total_flops() == 32 * language_cost.operations_per_token(network, 16)
    with FlopCounterMode(display=False) as trained:
        network(rows, use_cache=False).logits.sum().backward()
    assert trained.get_total_flops() == pytest.approx(3 * counted.get_total_flops(), rel=0.05)


def test_opt_125m_has_its_name():
    network = language_cost.shape(**language_cost.OPT_125M)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(125e6, rel=0.01)
    assert next(network.parameters()).device.type == "meta"


def test_cost_of_a_generation_by_hand():
    network = language_cost.shape(**SMALL)
    weights = 3 * 12 * 32**2 + 300 * 32
    assert language_cost.operations_per_token(network, 0) == 2 * weights
    cost = language_cost.generation(network, n_blocks=10, block=4, epochs=2, n_beams=5)
    read = 4 * 2 * (weights + 2 * 3 * 32 * 2.5)
    write = 3 * 2 * (weights + 2 * 3 * 32 * 6)
    # Whole numbers below 2^53 are exact.
    assert cost.training == 3 * 2 * 10 * read
    assert cost.sampling == 10 * (read + write)
    assert cost.beams == 10 * (read + 5 * write)
    with pytest.raises(ValueError, match="n_blocks must be"):
        language_cost.generation(network, n_blocks=0)
