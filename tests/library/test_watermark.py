"""Watermarks: the same scores as transformers, exact null laws, writing, and the filtered loop.

Statistical tests at a false-alarm rate of 1e-5 each, fixed seeds. The network is a random OPT of
two narrow layers: nothing is trained but in the test of the loop.
"""

import math

import numpy as np
import pytest
from rounding import assert_within, bound
from scipy import stats
from scipy.special import softmax

from collapse_utils import compat, text
from collapse_utils import watermark as wm
from collapse_utils.models.writing import Decoding, write

torch = pytest.importorskip("torch")
compat.mend_torchvision()
transformers = pytest.importorskip("transformers")

Z = stats.norm.isf(0.5e-5)
VOCABULARY = 128


@pytest.fixture(scope="module")
def network():
    config = transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=2,
        num_attention_heads=2, ffn_dim=64, max_position_embeddings=64, dropout=0.0,
        bos_token_id=2, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.OPTForCausalLM(config).eval()


@pytest.fixture(scope="module")
def human():
    """The language reference as word numbers, in blocks of 64; rare words share a number."""
    words = " ".join(text.paragraphs()).lower().split()
    kinds, numbers = np.unique(words, return_inverse=True)
    rank = np.empty(len(kinds), dtype=np.int64)
    rank[np.argsort(-np.bincount(numbers), kind="stable")] = np.arange(len(kinds))
    tokens = 4 + np.minimum(rank[numbers], 500)
    return tokens[: len(tokens) // 64 * 64].reshape(-1, 64)


def prompts(n, length=16, seed=0):
    return np.random.default_rng(seed).integers(4, VOCABULARY, (n, length))


# ------------------------------------------------------------------- scores


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.3])
def test_scores_are_those_of_transformers(network, repeats, ratio):
    rng = np.random.default_rng(1)
    X = rng.integers(4, 24, (30, 40))  # few tokens, so that pairs repeat
    config = transformers.WatermarkingConfig(greenlist_ratio=ratio, hashing_key=99)
    official = transformers.WatermarkDetector(
        network.config, "cpu", config, ignore_repeated_ngrams=not repeats
    )
    # Before it hashed windows by their tokens, the detector ignored no repeats at all.
    same = official(torch.full((1, 40), 5), return_dict=True).num_tokens_scored[0]
    if not repeats and same != 1:
        pytest.skip(f"the detector of transformers {transformers.__version__} counts repeats")
    official = official(torch.from_numpy(X), return_dict=True)
    mine = wm.GreenList(VOCABULARY, config).z_scores(X, repeats=repeats)
    # A count of at most 39 pairs less its mean, over a standard deviation.
    error = bound(10, 2 * np.sqrt(39 / (ratio * (1 - ratio))))
    assert_within(mine, official.z_score, error)


def test_first_pairs_counts_each_pair_once_per_text():
    X = np.array([[5, 6, 5, 6, 5, 7], [1, 1, 1, 1, 1, 1]])
    assert wm._first_pairs(X).tolist() == [
        [True, True, False, False, True],
        [True, False, False, False, False],
    ]


def test_the_tail_is_exact():
    normal = stats.norm.sf(4)
    # Sums of products of chances, all positive: two roundings a coin and one a term.
    assert_within(wm.green_tail(np.ones(16), 0.5, 3.999), 0.5**16, bound(3 * 16, 0.5**16))
    binomial = wm.green_tail(np.ones(16), 0.25, 4.0)
    more = range(math.floor(4 + 4 * math.sqrt(3)) + 1, 17)
    exact = sum(math.comb(16, k) * 3 ** (16 - k) for k in more) / 4**16
    assert_within(binomial, exact, bound(3 * 16, exact))
    assert binomial > 9 * normal  # a nominal rate means little for short texts
    # by brute force, where pairs repeat
    times = np.array([3, 2, 2, 1, 1, 1])
    greens = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1)
    chance = (0.3**greens * 0.7 ** (1 - greens)).prod(axis=0)
    z = (times @ greens - 0.3 * 10) / np.sqrt(10 * 0.3 * 0.7)
    for threshold in (-1, 0.5, 2):
        law = chance[z > threshold].sum()
        assert_within(wm.green_tail(times, 0.3, threshold), law, bound(64 + 4 * 6, law))


@pytest.mark.parametrize("repeats", [False, True])
def test_false_positives_on_human_text_lie_in_their_binomial_interval(human, repeats):
    """A key for each text makes the texts independent; then the count is a sum of coins."""
    X = human[:120]
    threshold = 1.2
    rates = wm.false_positive_rates(X, 0.25, threshold, repeats=repeats)
    flagged = 0
    for k, row in enumerate(X):
        config = transformers.WatermarkingConfig(hashing_key=15485863 + 2 * k)
        z = wm.GreenList(512, config).z_scores(row[None], repeats=repeats)
        flagged += int(z[0] > threshold)
    sd = np.sqrt((rates * (1 - rates)).sum())
    assert abs(flagged - rates.sum()) < Z * sd
    assert 5 < rates.sum() < 100


def test_repeats_raise_the_rate_of_false_alarms(human):
    once = wm.false_positive_rates(human, 0.25, 4.0).mean()
    every = wm.false_positive_rates(human, 0.25, 4.0, repeats=True).mean()
    assert stats.norm.sf(4) < once < every


def test_only_left_hashes_of_one_token():
    for other in ({"seeding_scheme": "selfhash"}, {"context_width": 2}):
        with pytest.raises(ValueError, match="watermark must have seeding_scheme"):
            wm.GreenList(VOCABULARY, transformers.WatermarkingConfig(**other))


# ------------------------------------------------------------------- writing


def test_marked_text_is_green_at_the_rate_of_the_tilted_softmax(network):
    config = transformers.WatermarkingConfig(bias=2.0)
    greenlist = wm.GreenList(VOCABULARY, config)
    P = prompts(60)
    X = write(network, P, decoding=Decoding(watermark=config), rng=np.random.default_rng(3))
    whole = np.concatenate([P, X], axis=1)
    with torch.inference_mode():
        logits = network(torch.from_numpy(whole)).logits[:, 15:-1].double()
    logits = logits.numpy().copy()
    logits[..., 2] = -np.inf  # the end of the text is not written
    p = softmax(logits, axis=-1)
    before = whole[:, 15:-1]
    mass = (p * greenlist.table[before]).sum(axis=-1)
    law = mass * np.exp(2) / (1 + mass * (np.exp(2) - 1))
    green = greenlist.green(whole)[:, 15:]
    se = np.sqrt((law * (1 - law)).sum())
    assert abs(green.sum() - law.sum()) < Z * se
    assert abs(green.sum() - mass.sum()) > Z * se  # text without a mark would be seen


def test_the_bound_of_the_spike_entropy_holds_on_average_over_keys():
    rng = np.random.default_rng(4)
    for concentration in (0.05, 1.0):
        p = rng.dirichlet(np.full(40, concentration))
        mass = np.array([p[rng.permutation(40)[:10]].sum() for _ in range(20_000)])
        green = mass * np.exp(2) / (1 + mass * (np.exp(2) - 1))
        assert wm.spike_entropy_bound(p, 0.25, 2.0) <= green.mean() + Z * green.std() / 141
        assert wm.spike_entropy_bound(p, 0.25, 2.0) > 0.25 * green.mean()


def test_synthid_scores_tell_marked_text_from_other(network):
    config = transformers.SynthIDTextWatermarkingConfig(ngram_len=5, keys=[1, 22, 333, 4444])
    P = prompts(40)
    marked = write(
        network, P, decoding=Decoding(watermark=config), rng=np.random.default_rng(5), length=32
    )
    other = write(network, P, decoding=Decoding(), rng=np.random.default_rng(5), length=32)
    z = wm.synthid_scores(other, config)
    assert abs(z.mean()) < Z / np.sqrt(len(z))  # fair coins
    assert z.std(ddof=1) == pytest.approx(1, abs=0.5)
    assert wm.synthid_scores(marked, config).mean() > 3
