"""Writing: the sampler follows the network, the beam search is that of transformers."""

import copy
import itertools
import logging
import math

import numpy as np
import pytest
from rounding import assert_within, bound
from small_network import DEPTH, TOKENS, swayed

from collapse_utils.models import writing
from collapse_utils.models.language import LanguageModel
from collapse_utils.models.writing import Decoding, write

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number in"),
        ({"temperature": 0}, "temperature must be a finite number in"),
        ({"beams": 0}, "beams must be an integer >= 1, got 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram must be"),
        ({"beams": 5, "temperature": 0.9}, "temperature must be 1 and watermark None with beams=5"),
    ],
)
def test_decoding_is_checked(option, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**option)


def test_sampler_follows_the_distribution_of_the_network(network, prompts):
    """Pearson's test of 20,000 first and second tokens; false alarm 1e-4."""
    from scipy.stats import chi2

    n = 20_000
    rows = np.repeat(prompts[:1], n, axis=0)
    written = write(network, rows, decoding=Decoding(), rng=np.random.default_rng(3), length=2)
    with torch.no_grad():
        logits = network(torch.from_numpy(prompts[:1])).logits[0, -1].double()
        logits[network.config.eos_token_id] = -math.inf
        first = torch.softmax(logits, 0).numpy()
        likely = int(first.argmax())
        longer = np.append(prompts[0], likely)[None]
        logits = network(torch.from_numpy(longer)).logits[0, -1].double()
        logits[network.config.eos_token_id] = -math.inf
        second = torch.softmax(logits, 0).numpy()
    followed = written[written[:, 0] == likely, 1]
    assert len(followed) > 500
    for tokens, law in ((written[:, 0], first), (followed, second)):
        expected = len(tokens) * law
        common = expected >= 5
        seen = np.bincount(tokens, minlength=TOKENS)
        seen = np.append(seen[common], seen[~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
        statistic = ((seen - expected) ** 2 / expected).sum()
        assert chi2.sf(statistic, len(seen) - 1) > 5e-5


def test_cache_gives_what_reading_afresh_gives(network, prompts):
    """The most likely token at each step, with the cache and without."""
    cold = write(
        network, prompts, decoding=Decoding(temperature=1e-4), rng=np.random.default_rng(0)
    )
    text = prompts
    with torch.no_grad():
        for _ in range(prompts.shape[1]):
            logits = network(torch.from_numpy(text)).logits[:, -1].clone()
            logits[:, network.config.eos_token_id] = -math.inf
            text = np.column_stack([text, logits.argmax(dim=-1).numpy()])
    np.testing.assert_array_equal(cold, text[:, prompts.shape[1] :])


PUBLISHED = {
    "plain": Decoding(beams=5),
    "penalty": Decoding(beams=5, repetition_penalty=2.0),
    "no repeats": Decoding(beams=3, no_repeat_ngram=2),
    "both": Decoding(beams=2, repetition_penalty=1.3, no_repeat_ngram=1),
}


@pytest.mark.parametrize("decoding", PUBLISHED.values(), ids=PUBLISHED)
def test_beam_search_is_that_of_transformers(network, prompts, decoding):
    found = network.generate(
        torch.from_numpy(prompts), attention_mask=torch.ones(prompts.shape, dtype=torch.long),
        num_beams=decoding.beams, do_sample=False, max_new_tokens=24, min_new_tokens=24,
        repetition_penalty=decoding.repetition_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram, pad_token_id=1,
    )  # fmt: skip
    ours = write(network, prompts, decoding=decoding, rng=np.random.default_rng(0), length=24)
    np.testing.assert_array_equal(ours, found[:, prompts.shape[1] :].numpy())


COLD = {
    "plain": {},
    "penalty": {"repetition_penalty": 1.5},
    "no repeats": {"no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("option", COLD.values(), ids=COLD)
def test_cold_sampling_is_the_greedy_search_of_transformers(network, prompts, option):
    found = network.generate(
        torch.from_numpy(prompts), attention_mask=torch.ones(prompts.shape, dtype=torch.long),
        do_sample=False, max_new_tokens=24, min_new_tokens=24, pad_token_id=1, **option,
    )  # fmt: skip
    ours = write(
        network, prompts,
        decoding=Decoding(
            temperature=1e-5,
            repetition_penalty=option.get("repetition_penalty", 1.0),
            no_repeat_ngram=option.get("no_repeat_ngram_size", 0),
        ),
        rng=np.random.default_rng(0), length=24,
    )  # fmt: skip
    np.testing.assert_array_equal(ours, found[:, prompts.shape[1] :].numpy())


def test_another_architecture_writes_and_learns(prompts, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=TOKENS, n_positions=32, n_embd=16, n_layer=1, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=2, eos_token_id=2,
        pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    network = transformers.GPT2LMHeadModel(config).eval()
    assert not writing._Reader.fits(network)
    fits = {"epochs": 2, "batch": 6}
    model = LanguageModel(network, prompts, **fits).fit(prompts, rng=np.random.default_rng(0))
    text = model.sample(6, rng=np.random.default_rng(1))
    assert text.shape == prompts.shape
    for seed in (1, 2):
        again = copy.deepcopy(model).fit(prompts, rng=np.random.default_rng(0))
        same = np.array_equal(text, again.sample(6, rng=np.random.default_rng(seed)))
        assert same == (seed == 1)
    for decoding in (Decoding(temperature=1e-5), Decoding(beams=3)):
        found = network.generate(
            torch.from_numpy(prompts), attention_mask=torch.ones(prompts.shape, dtype=torch.long),
            num_beams=decoding.beams, do_sample=False, max_new_tokens=8, min_new_tokens=8,
        )  # fmt: skip
        ours = write(network, prompts, decoding=decoding, rng=np.random.default_rng(0))
        np.testing.assert_array_equal(ours, found[:, prompts.shape[1] :].numpy())
    assert "flags" not in caplog.text  # a page that warns is not built


def test_writing_depends_on_the_seed_alone(network, prompts, monkeypatch):
    def written(seed):
        return write(network, prompts, decoding=Decoding(), rng=np.random.default_rng(seed))

    whole = written(5)
    assert not np.array_equal(whole, written(6))
    monkeypatch.setattr(writing, "_TOGETHER", 2 * prompts.shape[1])
    np.testing.assert_array_equal(whole, written(5))


def test_beams_find_likelier_text_than_greedy_and_chance(network, prompts):
    """With as many beams as tokens, a search over two tokens is exhaustive; in double precision."""
    network = copy.deepcopy(network).double()

    def log_probability(continuation):
        whole = torch.from_numpy(np.column_stack([prompts, continuation]))
        with torch.no_grad():
            logits = network(whole).logits[:, prompts.shape[1] - 1 : -1].double()
        logits[..., network.config.eos_token_id] = -math.inf
        tokens = whole[:, prompts.shape[1] :, None]
        return torch.log_softmax(logits, -1).gather(2, tokens).sum(dim=(1, 2)).numpy()

    def score(decoding):
        rng = np.random.default_rng(0)
        return log_probability(write(network, prompts, decoding=decoding, rng=rng, length=2))

    def likeliest(network):
        best = np.full(len(prompts), -np.inf)
        with torch.no_grad():
            logits = network(torch.from_numpy(prompts)).logits[:, -1].double()
            logits[:, network.config.eos_token_id] = -math.inf
            first = torch.log_softmax(logits, -1)
            for token in range(TOKENS):
                longer = np.column_stack([prompts, np.full(len(prompts), token)])
                logits = network(torch.from_numpy(longer)).logits[:, -1].double()
                logits[:, network.config.eos_token_id] = -math.inf
                second = torch.log_softmax(logits, -1).amax(1)
                best = np.maximum(best, (first[:, token] + second).numpy())
        return best

    best = likeliest(network)
    moves = np.abs(likeliest(swayed(network)) - best).max() / 2.0**-12
    error = bound(2 * DEPTH, moves)
    assert_within(score(Decoding(beams=TOKENS)), best, error)
    assert (score(Decoding(temperature=1e-4)) <= best + error).all()
    assert (score(Decoding()) <= best + error).all()


@pytest.mark.parametrize("beams", [1, 3])
def test_no_ngram_is_repeated_when_forbidden(network, prompts, beams):
    plain = Decoding(beams=beams, temperature=0.2 if beams == 1 else 1.0)
    limited = Decoding(beams=beams, temperature=plain.temperature, no_repeat_ngram=2)
    repeats = {}
    for name, decoding in (("plain", plain), ("limited", limited)):
        written = write(
            network, prompts[:, :4], decoding=decoding, rng=np.random.default_rng(0), length=28
        )
        whole = np.column_stack([prompts[:, :4], written])
        repeats[name] = sum(
            len(row) - 1 - len({*itertools.pairwise(row)}) for row in whole.tolist()
        )
    assert repeats["limited"] == 0 < repeats["plain"]


def test_penalty_spreads_the_tokens(network, prompts):
    used = [
        len(
            np.unique(
                write(
                    network,
                    prompts,
                    decoding=Decoding(temperature=0.1, repetition_penalty=penalty),
                    rng=np.random.default_rng(0),
                    length=24,
                )
            )
        )
        for penalty in (1.0, 5.0)
    ]
    assert used[1] > used[0]


def test_end_of_text_is_never_written(network, prompts):
    for decoding in (Decoding(temperature=50.0), Decoding(beams=2)):
        rows = np.repeat(prompts, 20, axis=0)
        written = write(network, rows, decoding=decoding, rng=np.random.default_rng(0), length=24)
        assert written.shape == (120, 24)
        assert network.config.eos_token_id not in written


def test_text_beyond_the_context_is_refused(network, prompts):
    with pytest.raises(ValueError, match="length must be at most 24 after prompts of 8 tokens"):
        write(network, prompts, decoding=Decoding(), rng=np.random.default_rng(0), length=25)
    with pytest.raises(ValueError, match=r"block must be at most 16 tokens.*context of 32.*got 17"):
        LanguageModel(network, np.ones((3, 17), dtype=int))


def test_cold_marked_text_is_the_marked_greedy_search_of_transformers(network, prompts):
    """The mark comes after the temperature, so it is raised by as much as that is lowered."""
    found = network.generate(
        torch.from_numpy(prompts), attention_mask=torch.ones(prompts.shape, dtype=torch.long),
        do_sample=False, max_new_tokens=24, min_new_tokens=24, pad_token_id=1,
        watermarking_config=transformers.WatermarkingConfig(bias=2.0),
    )  # fmt: skip
    cold = Decoding(temperature=2.0**-14, watermark=transformers.WatermarkingConfig(bias=2.0**15))
    ours = write(network, prompts, decoding=cold, rng=np.random.default_rng(0), length=24)
    np.testing.assert_array_equal(ours, found[:, prompts.shape[1] :].numpy())
    plain = Decoding(temperature=2.0**-14)
    plain = write(network, prompts, decoding=plain, rng=np.random.default_rng(0), length=24)
    assert not np.array_equal(ours, plain)
