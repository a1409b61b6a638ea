"""The language model: reading, fitting, writing and measuring, on networks made here."""

import copy
import gzip
import itertools
import math
import pickle

import numpy as np
import pytest
from rounding import CALL, assert_within, bound

from collapse_utils import (
    Accumulate,
    Mix,
    Replace,
    compat,
    language,
    language_base,
    language_data,
    language_metrics,
)
from collapse_utils.language import LanguageModel
from collapse_utils.language_cache import fits
from collapse_utils.language_decoding import Decoding, write
from collapse_utils.language_experiment import Condition, Setting, run

torch = pytest.importorskip("torch")
compat.mend_torchvision()
transformers = pytest.importorskip("transformers")

# Small enough to be pre-trained in a second.
TINY = language_base.Recipe(vocabulary=400, hidden=16, layers=1, heads=2, context=32, steps=3)
TOKENS = 400
#: Roundings in a row in the network of these tests, in single precision: the products of a layer
#: with 16 features, 2 heads, 32 inner features and blocks of 8, its two norms and its softmax; a
#: last norm, the logits, and the sum over all tokens.
DEPTH = 2 * (4 * 16 + 8 + 2 * 8 + 16 + 32 + 2 * (2 * 16 + CALL) + CALL) + 3 * 16 + TOKENS + 2 * CALL


def swayed(network, step=2.0**-12):
    """The network with weights that are off by a relative `step`, by random signs.

    What that moves, over `step`, is the condition of a result that has no formula for it.
    """
    network, signs = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p *= 1 + step * torch.randn(p.shape, generator=signs).sign()
    return network


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own, so that a test never reads what another version made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLLAPSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base():
    """The embedded network and its tokenizer, tiny."""
    return language_base.base(recipe=TINY)


@pytest.fixture(scope="module")
def network():
    """A network with random weights large enough that its next token is not uniform."""
    torch.manual_seed(1)
    config = transformers.OPTConfig(
        vocab_size=TOKENS, hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=2,
        num_attention_heads=2, ffn_dim=32, max_position_embeddings=32, dropout=0.0, init_std=0.5,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config).eval()


@pytest.fixture
def prompts():
    return np.random.default_rng(0).integers(4, TOKENS, size=(6, 8))


@pytest.fixture
def folder(base, tmp_path):
    """A checkpoint and a corpus on disk."""
    network, tokenizer = base
    network.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    text = tmp_path / "text"
    text.mkdir()
    human = language_data.corpus().train
    with gzip.open(text / "train.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join(human[:40]))
    (text / "test.txt").write_text("\n".join(human[40:60]), encoding="utf-8")
    return tmp_path


def setting(**changed):
    return Setting(
        **{"recipe": TINY, "block": 16, "n_blocks": 12, "n_test": 5, "epochs": 1} | changed
    )


# --- text and networks


def test_embedded_corpus_keeps_its_parts_apart():
    corpus = language_data.corpus()
    assert len(corpus.train) > 3 * len(corpus.test) > 100
    assert not set(corpus.train) & set(corpus.test)
    assert len(corpus.fingerprint) == 16


def test_blocks_hold_the_text_in_order(base):
    _, tokenizer = base
    paragraphs = ["The first line, with ünïcode.", "And the second one."]
    found = language_data.blocks(paragraphs, tokenizer, 4)
    joined = tokenizer.decode(found.ravel())
    assert found.shape[1] == 4
    assert "\n".join(paragraphs).startswith(joined.rstrip("\n")[:40])


def test_base_is_read_from_the_cache_the_second_time(base, monkeypatch):
    monkeypatch.setattr(language_base, "_pretrain", lambda *_: pytest.fail("trained again"))
    network, _ = language_base.base(recipe=TINY)
    for a, b in zip(network.parameters(), base[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(language_base.cache_folder().glob("*.part"))


def test_a_failed_pretraining_leaves_nothing_behind(monkeypatch, tmp_path):
    def fail(*_):
        raise FloatingPointError("diverged")

    monkeypatch.setenv("COLLAPSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(language_base, "_pretrain", fail)
    with pytest.raises(FloatingPointError):
        language_base.base(recipe=TINY)
    assert list(tmp_path.iterdir()) == []


def test_pretraining_lowers_the_loss(base):
    _, tokenizer = base
    X = language_data.blocks(language_data.corpus().train[:200], tokenizer, TINY.context)
    losses = {
        steps: language_metrics.block_losses(
            language_base._pretrain(
                X, language_base.Recipe(**vars(TINY) | {"steps": steps}), False
            ),
            X,
        ).mean()
        for steps in (0, 60)
    }
    assert losses[0] == pytest.approx(math.log(TINY.vocabulary), rel=0.02)
    assert losses[60] < 0.95 * losses[0]


def test_local_folders_serve_as_model_and_corpus(folder, base):
    ready = setting(model=str(folder / "model"), corpus=str(folder / "text")).prepare()
    assert torch.equal(ready.network.lm_head.weight, base[0].lm_head.weight)
    assert ready.train.shape[1] == 16 and ready.test.shape == (5, 16)
    human = language_data.corpus().train
    assert ready.tokenizer.decode(ready.train[0]) in human[0] + "\n" + human[1]


def test_a_folder_without_train_trains_on_validation(tmp_path):
    (tmp_path / "valid.txt").write_text("to train on\n")
    (tmp_path / "test.txt").write_text("to test on\n")
    corpus = language_data.corpus(str(tmp_path))
    assert (corpus.train, corpus.test) == (("to train on",), ("to test on",))


def test_a_file_is_split(tmp_path):
    (tmp_path / "book.txt").write_text("\n".join(f"line number {i}" for i in range(100)))
    corpus = language_data.corpus(str(tmp_path / "book.txt"))
    assert len(corpus.train) + len(corpus.test) == 100
    assert len(corpus.test) > 5


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "must hold test.txt and train.txt"),
        ({"train.txt": "a", "test.txt": " \n\n"}, "the test part of corpus"),
        ({"train.txt": "", "test.txt": "a"}, "the training part of corpus"),
    ],
)
def test_empty_corpus_is_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        language_data.corpus(str(tmp_path))


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="must hold text"):
        language_data.corpus(str(tmp_path / "empty.txt"))


@pytest.mark.parametrize("name", ["wikitext-3", "", None])
def test_unknown_corpus_is_refused(name):
    with pytest.raises(ValueError, match="corpus must be"):
        language_data.corpus(name)


def test_too_little_text_for_a_block_is_refused(base):
    with pytest.raises(ValueError, match="at least one block of 64 tokens, got 0"):
        language_data.blocks([], base[1])


@pytest.mark.parametrize("name", ["opt-125m", "", None, "a/b/c", "../nothing here"])
def test_unknown_model_is_refused(name):
    with pytest.raises(ValueError, match='model must be "embedded"'):
        language_base.base(name)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and an empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_no_network_is_one_line_that_names_the_way_out(offline):
    for read in (
        lambda: language_base.base("nobody/no-such-model"),
        lambda: language_data.corpus("wikitext-2"),
    ):
        with pytest.raises(
            FileNotFoundError, match=r'without a network choose .*"embedded"'
        ) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(folder, base):
    weights = folder / "model" / "model.safetensors"
    weights.unlink()
    torch.save(base[0].state_dict(), folder / "model" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors") as caught:
        language_base.base(str(folder / "model"))
    assert "\n" not in str(caught.value)


def test_recipe_is_checked():
    with pytest.raises(ValueError, match="hidden must be a multiple of heads=3, got hidden=16"):
        language_base.Recipe(hidden=16, heads=3)
    with pytest.raises(ValueError, match="steps must be an integer >= 0, got -1"):
        language_base.Recipe(steps=-1)


# --- writing


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number in"),
        ({"temperature": 0}, "temperature must be a finite number in"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"beams": 0}, "beams must be an integer >= 1, got 0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram must be"),
        ({"beams": 5, "temperature": 0.9}, "temperature and top_p must be 1 with beams=5"),
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


@pytest.mark.parametrize("option", [{}, {"temperature": 0.7}, {"top_p": 0.8}])
def test_the_cache_of_fixed_size_changes_no_token(network, prompts, option, monkeypatch):
    """The same draws through the cache that transformers brings along."""
    from collapse_utils import language_cache

    def written():
        return write(
            network, np.repeat(prompts, 5, axis=0), decoding=Decoding(**option),
            rng=np.random.default_rng(7), length=24,
        )  # fmt: skip

    assert fits(network)
    ours = written()
    monkeypatch.setattr(language_cache, "fits", lambda _: False)
    np.testing.assert_array_equal(ours, written())


def test_another_architecture_writes_and_learns(prompts):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=TOKENS, n_positions=32, n_embd=16, n_layer=1, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=2, eos_token_id=2,
        pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    network = transformers.GPT2LMHeadModel(config).eval()
    assert not fits(network)
    model = LanguageModel(network, prompts, steps=2).fit(prompts, rng=np.random.default_rng(0))
    assert model.sample(6, rng=np.random.default_rng(1)).shape == prompts.shape
    for decoding in (Decoding(temperature=1e-5), Decoding(beams=3)):
        found = network.generate(
            torch.from_numpy(prompts), attention_mask=torch.ones(prompts.shape, dtype=torch.long),
            num_beams=decoding.beams, do_sample=False, max_new_tokens=8, min_new_tokens=8,
        )  # fmt: skip
        ours = write(network, prompts, decoding=decoding, rng=np.random.default_rng(0))
        np.testing.assert_array_equal(ours, found[:, prompts.shape[1] :].numpy())


def test_writing_depends_on_the_seed_alone(network, prompts, monkeypatch):
    from collapse_utils import language_decoding

    def written(seed):
        return write(network, prompts, decoding=Decoding(), rng=np.random.default_rng(seed))

    whole = written(5)
    assert not np.array_equal(whole, written(6))
    monkeypatch.setattr(language_decoding, "_TOGETHER", 2 * prompts.shape[1])
    np.testing.assert_array_equal(whole, written(5))


def test_beams_find_likelier_text_than_greedy_and_chance(network, prompts):
    """With as many beams as tokens, a search over two tokens is exhaustive."""

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
    error = bound(2 * DEPTH, moves, np.float32)
    assert_within(score(Decoding(beams=TOKENS)), best, error)
    assert (score(Decoding(temperature=1e-4)) <= best + error).all()
    assert (score(Decoding()) <= best + error).all()


def test_top_p_keeps_to_the_likely_tokens(network, prompts):
    written = write(
        network, np.repeat(prompts[:1], 300, axis=0), decoding=Decoding(top_p=0.5),
        rng=np.random.default_rng(0), length=1,
    )  # fmt: skip
    with torch.no_grad():
        logits = network(torch.from_numpy(prompts[:1])).logits[0, -1].double()
    logits[network.config.eos_token_id] = -math.inf
    p = torch.softmax(logits, 0).numpy()
    order = np.argsort(-p)
    allowed = order[: int(np.searchsorted(p[order].cumsum(), 0.5)) + 1]
    assert set(written.ravel()) <= set(allowed)
    assert len(set(written.ravel())) > 1


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


# --- fitting


def test_fit_learns_starts_afresh_and_repeats_itself(network, prompts):
    before = [p.clone() for p in network.parameters()]
    model = LanguageModel(network, prompts, steps=60, batch=3, rate=1e-2)
    model.fit(prompts, rng=np.random.default_rng(1))
    for p, q in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, q)
    gain = (
        language_metrics.block_losses(network, prompts).mean()
        - language_metrics.block_losses(model.network, prompts).mean()
    )
    assert gain > 1
    text = model.sample(6, rng=np.random.default_rng(2))
    model.fit(prompts[::-1], rng=np.random.default_rng(9))
    model.fit(prompts, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(text, model.sample(6, rng=np.random.default_rng(2)))


def test_fit_is_adamw_with_a_cosine_on_the_loss_of_the_network(network, prompts):
    """The same three steps in double precision, with the loss that transformers computes."""
    network = copy.deepcopy(network).double()
    model = LanguageModel(network, prompts, steps=3, batch=6, rate=1e-3)
    model.fit(prompts, rng=np.random.default_rng(0))
    twin = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-3)
    rows = torch.from_numpy(prompts)  # one batch, in any order
    for step in range(3):
        low = 1e-3 / 20
        cosine = (1 + math.cos(math.pi * step / 3)) / 2
        optimizer.param_groups[0]["lr"] = low + (1e-3 - low) * cosine
        optimizer.zero_grad()
        twin(rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
    start = swayed(network)
    other = LanguageModel(start, prompts, steps=3, batch=6, rate=1e-3)
    other.fit(prompts, rng=np.random.default_rng(0))
    networks = (model.network, twin, other.network, network, start)
    names = dict(network.named_parameters())
    for name, *parameters in zip(names, *(n.parameters() for n in networks), strict=True):
        p, q, p_swayed, before, before_swayed = (w.detach().numpy() for w in parameters)
        if not name.endswith("k_proj.bias"):  # attention does not depend on it: only noise moves it
            moves = np.abs((p_swayed - before_swayed) - (p - before)).max() / 2.0**-12
            # The gradient, which goes through the network twice, and three sums for each weight.
            assert_within(p, q, bound(2 * DEPTH, moves) + bound(2 * 3, np.abs(p)))


def test_reduced_precision_trains_almost_the_same(network, prompts):
    fitted = {
        precision: LanguageModel(network, prompts, steps=20, rate=1e-2, precision=precision)
        .fit(prompts, rng=np.random.default_rng(0))
        .network
        for precision in ("auto", "float32", "bfloat16")
    }
    losses = {k: language_metrics.block_losses(v, prompts).mean() for k, v in fitted.items()}
    if not torch.cuda.is_available():
        assert losses["auto"] == losses["float32"]
    assert losses["bfloat16"] != losses["float32"]
    # What a change of the weights by a unit of bfloat16 moves, for each stored result in a row.
    start = swayed(network, 2.0**-9)
    other = LanguageModel(start, prompts, steps=20, rate=1e-2, precision="float32")
    other.fit(prompts, rng=np.random.default_rng(0))
    moves = abs(language_metrics.block_losses(other.network, prompts).mean() - losses["float32"])
    assert_within(losses["bfloat16"], losses["float32"], 2 * 8 * moves)
    assert {p.dtype for p in fitted["bfloat16"].parameters()} == {torch.float32}


def test_a_twin_takes_over_what_it_would_repeat(network, prompts, monkeypatch):
    first = LanguageModel(network, prompts, steps=2).fit(prompts, rng=np.random.default_rng(0))
    text = first.sample(6, rng=np.random.default_rng(1))
    first = pickle.loads(pickle.dumps(first))  # as another process gets it
    trained = []
    plain = LanguageModel._train
    monkeypatch.setattr(
        LanguageModel, "_train", lambda self, *a: trained.append(1) or plain(self, *a)
    )

    def twin(seed=0, X=prompts, decoding=None, **changed):
        model = LanguageModel(
            network, prompts, first=first, decoding=decoding, **({"steps": 2} | changed)
        )
        model = copy.deepcopy(model).fit(X, rng=np.random.default_rng(seed))
        return model.sample(6, rng=np.random.default_rng(1))

    np.testing.assert_array_equal(twin(), text)
    assert not trained
    assert not np.array_equal(twin(decoding=Decoding(beams=2)), text)
    assert not trained  # another text by the same network
    for changed in ({"seed": 1}, {"X": prompts[::-1]}, {"steps": 3}, {"rate": 1e-4}):
        trained.clear()
        twin(**changed)
        assert trained, changed


def test_sample_is_one_text_of_which_a_part_may_be_had(network, prompts):
    model = LanguageModel(network, prompts, steps=1).fit(prompts, rng=np.random.default_rng(0))
    text = model.sample(6, rng=np.random.default_rng(1))
    assert text.shape == prompts.shape
    np.testing.assert_array_equal(text, model.sample(6, rng=np.random.default_rng(2)))
    part = model.sample(4, rng=np.random.default_rng(3))
    assert {tuple(row) for row in part} < {tuple(row) for row in text}


def test_model_refuses_what_it_cannot_do(network, prompts):
    model, rng = LanguageModel(network, prompts), np.random.default_rng(0)
    with pytest.raises(ValueError, match="must be fitted before"):
        model.sample(2, rng=rng)
    with pytest.raises(ValueError, match="X must have blocks of 8 tokens, got 5"):
        model.fit(prompts[:, :5], rng=rng)
    with pytest.raises(ValueError, match="X must be blocks of token numbers"):
        model.fit(prompts[:0], rng=rng)
    with pytest.raises(ValueError, match="n must be an integer between 1 and 6, got 7"):
        model.sample(7, rng=rng)
    for option, value in (
        ("epochs", 0),
        ("steps", 0),
        ("batch", 0),
        ("rate", -1.0),
        ("device", "x"),
    ):
        with pytest.raises(ValueError, match=f"{option} must be"):
            LanguageModel(network, prompts, **{option: value})


def test_divergence_is_reported(network, prompts):
    model = LanguageModel(network, prompts, rate=1e30, steps=20)
    with pytest.raises(FloatingPointError, match="training diverged at step"):
        model.fit(prompts, rng=np.random.default_rng(0))


# --- measuring


def test_block_losses_are_those_of_the_network(network, prompts, monkeypatch):
    with torch.no_grad():
        rows = torch.from_numpy(prompts)
        expected = [network(row[None], labels=row[None]).loss.item() for row in rows]
    monkeypatch.setattr(language_metrics, "_TOGETHER", 2 * prompts.shape[1])
    losses = language_metrics.block_losses(network, prompts)
    moves = language_metrics.block_losses(swayed(network), prompts) - losses
    error = bound(2 * DEPTH, np.abs(moves).max() / 2.0**-12, np.float32)
    assert_within(losses, expected, error)
    perplexity = math.exp(np.mean(losses))
    error = bound(2 * (len(losses) + CALL), 1 + np.mean(losses)) * perplexity
    assert_within(language_metrics.perplexity(losses), perplexity, error)


def test_bootstrap_interval_has_the_width_of_the_normal_theory():
    losses = np.random.default_rng(0).normal(4, 0.5, 400)
    low, high = language_metrics.perplexity_interval(losses, np.random.default_rng(1))
    width = 2 * 1.96 * losses.std() / math.sqrt(400)
    assert math.log(high / low) == pytest.approx(width, rel=0.1)
    assert low < language_metrics.perplexity(losses) < high
    with pytest.raises(ValueError, match="two or more blocks"):
        language_metrics.perplexity_interval([1.0], np.random.default_rng(1))


def test_text_statistics_by_hand():
    found = language_metrics.text_statistics([[1, 2, 1, 2, 1, 2], [3, 4, 5, 6, 7, 8]])
    p = np.array([3, 3, 1, 1, 1, 1, 1, 1]) / 12
    assert found["vocabulary"] == 8
    entropy = -(p * np.log(p)).sum()
    assert_within(found["entropy"], entropy, bound(2 * (len(p) + CALL), entropy))
    assert found["distinct_2"] == 7 / 10  # 12, 21 and five more
    assert found["distinct_4"] == 5 / 6  # 1212 twice
    assert_within(found["repeated_4"], 1 / 6, bound(2))  # one less a quotient
    with pytest.raises(ValueError, match="four or more tokens"):
        language_metrics.text_statistics([[1, 2, 3]])


# --- the loop


CONDITIONS = {
    "replace": Condition(Replace(), Decoding(), 3),
    "ten percent": Condition(Mix(alpha=0.75, gamma=0.25), Decoding(beams=2), 2),
}


def test_run_reports_every_generation_and_shares_the_first():
    ready, found = run(setting(), CONDITIONS, seed=1, n_replicates=2)
    firsts = []
    for one in found:
        for name, history in one.runs.items():
            losses = language_metrics.losses_by_generation(history)
            assert losses.shape == (CONDITIONS[name].n_generations + 1, 5)
            perplexity = np.exp(losses[1:].mean(axis=1))
            error = bound(2 * (losses.shape[1] + CALL), 1 + np.log(perplexity)) * perplexity
            assert_within(history.array("perplexity")[1:, 0], perplexity, error)
            np.testing.assert_array_equal(
                losses[1], language_metrics.block_losses(one.first.network, ready.test)
            )
            assert {*map(bytes, history.samples["all", 0][0])} == {*map(bytes, one.train)}
        firsts.append(one.first)
    assert not np.array_equal(found[0].train, found[1].train)
    assert not any(
        torch.equal(p, q)
        for p, q in zip(*(one.network.parameters() for one in firsts), strict=True)
        if p.ndim > 1
    )


def test_conditions_share_one_fit_and_one_text(monkeypatch):
    trained, wrote = [], []
    train, plain = LanguageModel._train, write
    monkeypatch.setattr(
        LanguageModel, "_train", lambda self, *a: trained.append(1) or train(self, *a)
    )
    monkeypatch.setattr(language, "write", lambda *a, **k: wrote.append(1) or plain(*a, **k))
    conditions = {"a": CONDITIONS["replace"], "b": Condition(Accumulate(), Decoding(), 2)}
    run(setting(), conditions, seed=1)
    assert len(trained) == len(wrote) == 1 + 2 + 1


def test_interrupted_run_continues_to_the_same_numbers(tmp_path, monkeypatch):
    one = {"replace": CONDITIONS["replace"]}
    whole = run(setting(), one, seed=2)[1][0].runs["replace"]
    trained = []
    plain = LanguageModel._train

    def train(self, X, seed):
        trained.append(len(X))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return plain(self, X, seed)

    monkeypatch.setattr(LanguageModel, "_train", train)
    with pytest.raises(KeyboardInterrupt):
        run(setting(), one, seed=2, folder=tmp_path)
    resumed = run(setting(), one, seed=2, folder=tmp_path)[1][0].runs["replace"]
    assert len(trained) == 4  # the third again, and nothing else
    assert resumed.frame.equals(whole.frame)
    for a, b in zip(resumed.samples["all", 0], whole.samples["all", 0], strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="belongs to another run"):
        run(setting(rate=1e-4), one, seed=2, folder=tmp_path)


def test_a_block_too_long_is_refused_before_anything_is_trained(monkeypatch, folder):
    monkeypatch.setattr(language_base, "_pretrain", lambda *_: pytest.fail("trained"))
    new = language_base.Recipe(**vars(TINY) | {"seed": 99})
    for changed in ({"recipe": new}, {"model": str(folder / "model")}):
        with pytest.raises(ValueError, match=r"block must be at most 16 tokens.*got 17") as caught:
            run(setting(block=17, **changed), CONDITIONS, seed=0)
        assert "\n" not in str(caught.value)
