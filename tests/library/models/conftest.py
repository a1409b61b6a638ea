"""A language model small enough for tests: a random OPT, and prompts for it."""

import numpy as np
import pytest
from small_network import TOKENS

from collapse_utils import data


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of its own, so that a test never reads what another version made."""
    torch = pytest.importorskip("torch")
    data.mend_torchvision()  # also where a test makes its own network
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLAPSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    """A network with random weights large enough that its next token is not uniform."""
    torch = pytest.importorskip("torch")
    data.mend_torchvision()
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.OPTConfig(
        vocab_size=TOKENS, hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=2,
        num_attention_heads=2, ffn_dim=32, max_position_embeddings=32, dropout=0.0, init_std=0.5,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config).eval()


@pytest.fixture
def prompts():
    return np.random.default_rng(0).integers(4, TOKENS, size=(6, 8))
