"""The language model: reading, fitting and measuring, on networks made here."""

import copy
import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
from rounding import assert_within, bound
from small_network import DEPTH, swayed

from collapse_utils import data
from collapse_utils.models import language
from collapse_utils.models.language import LanguageModel, block_losses

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("cache")

# Small enough to be pre-trained in a second.
TINY = language.Recipe(vocabulary=400, hidden=16, layers=1, heads=2, context=32, steps=3)


@pytest.fixture(scope="module")
def base():
    """The embedded network and its tokenizer, tiny."""
    return language.base(recipe=TINY)


@pytest.fixture
def folder(base, tmp_path):
    """A checkpoint and a corpus on disk."""
    network, tokenizer = base
    network.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    place = tmp_path / "text"
    place.mkdir()
    human = data.corpus()[0]
    with gzip.open(place / "train.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n\n".join(human[:40]))
    (place / "test.txt").write_text("\n".join(human[40:60]), encoding="utf-8")
    return tmp_path


def test_blocks_hold_the_text_in_order(base):
    _, tokenizer = base
    paragraphs = ["The first line, with ünïcode.", "And the second one."]
    found = language.blocks(paragraphs, tokenizer, 4)
    joined = tokenizer.decode(found.ravel())
    assert found.shape[1] == 4
    assert "\n".join(paragraphs).startswith(joined.rstrip("\n")[:40])


def test_base_is_read_from_the_cache_the_second_time(base, monkeypatch):
    cache = Path(os.environ["COLLAPSE_CACHE_DIR"])
    monkeypatch.setattr(language, "_pretrain", lambda *_: pytest.fail("trained again"))
    network, _ = language.base(recipe=TINY)
    for a, b in zip(network.parameters(), base[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(cache.glob("*.part"))


def test_a_failed_pretraining_leaves_nothing_behind(monkeypatch, tmp_path):
    def fail(*_):
        raise FloatingPointError("diverged")

    monkeypatch.setenv("COLLAPSE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(language, "_pretrain", fail)
    with pytest.raises(FloatingPointError):
        language.base(recipe=TINY)
    assert list(tmp_path.iterdir()) == []


def test_pretraining_lowers_the_loss(base):
    _, tokenizer = base
    X = language.blocks(data.corpus()[0][:200], tokenizer, TINY.context)
    losses = {
        steps: block_losses(
            language._pretrain(X, language.Recipe(**vars(TINY) | {"steps": steps})), X
        ).mean()
        for steps in (0, 60)
    }
    assert losses[0] == pytest.approx(math.log(TINY.vocabulary), rel=0.02)
    assert losses[60] < 0.95 * losses[0]


def test_local_folders_serve_as_model_and_corpus(folder, base):
    network, tokenizer = language.base(str(folder / "model"))
    assert torch.equal(network.lm_head.weight, base[0].lm_head.weight)
    train, test = data.corpus(str(folder / "text"))
    human = data.corpus()[0]
    assert train + test == human[:60] and len(test) == 20
    assert tokenizer.decode(language.blocks(train, tokenizer, 16)[0]) in "\n".join(human[:2])


def test_too_little_text_for_a_block_is_refused(base):
    with pytest.raises(ValueError, match="at least one block of 64 tokens, got 0"):
        language.blocks([], base[1])


@pytest.mark.parametrize("name", ["opt-125m", "", None, "a/b/c", "../nothing here"])
def test_unknown_model_is_refused(name):
    with pytest.raises(ValueError, match='model must be "embedded"'):
        language.base(name)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and an empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_no_network_is_one_line_that_names_the_way_out(offline):
    for read in (
        lambda: language.base("nobody/no-such-model"),
        lambda: data.corpus("wikitext-2"),
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
        language.base(str(folder / "model"))
    assert "\n" not in str(caught.value)


def test_recipe_is_checked():
    with pytest.raises(ValueError, match="hidden must be a multiple of heads=3, got hidden=16"):
        language.Recipe(hidden=16, heads=3)
    with pytest.raises(ValueError, match="steps must be an integer >= 0, got -1"):
        language.Recipe(steps=-1)


def test_fit_learns_starts_afresh_and_repeats_itself(network, prompts):
    before = [p.clone() for p in network.parameters()]
    model = LanguageModel(network, prompts, epochs=30, batch=3, rate=1e-2)
    model.fit(prompts, rng=np.random.default_rng(1))
    for p, q in zip(network.parameters(), before, strict=True):
        assert torch.equal(p, q)
    gain = block_losses(network, prompts).mean() - block_losses(model.network, prompts).mean()
    assert gain > 1
    text = model.sample(6, rng=np.random.default_rng(2))
    model.fit(prompts[::-1], rng=np.random.default_rng(9))
    model.fit(prompts, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(text, model.sample(6, rng=np.random.default_rng(2)))


def test_fit_is_adamw_with_a_cosine_on_the_loss_of_the_network(network, prompts):
    """The same three steps in double precision, with the loss that transformers computes."""
    network = copy.deepcopy(network).double()
    model = LanguageModel(network, prompts, epochs=3, batch=6, rate=1e-3)
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
    other = LanguageModel(start, prompts, epochs=3, batch=6, rate=1e-3)
    other.fit(prompts, rng=np.random.default_rng(0))
    networks = (model.network, twin, other.network, network, start)
    names = dict(network.named_parameters())
    for name, *parameters in zip(names, *(n.parameters() for n in networks), strict=True):
        p, q, p_swayed, before, before_swayed = (w.detach().numpy() for w in parameters)
        if not name.endswith("k_proj.bias"):  # attention does not depend on it: only noise moves it
            moves = np.abs((p_swayed - before_swayed) - (p - before)).max() / 2.0**-12
            # The gradient, which goes through the network twice, and three sums for each weight.
            assert_within(p, q, bound(2 * DEPTH, moves) + bound(2 * 3, np.abs(p)))


def test_reduced_precision_trains_almost_the_same(network, prompts, monkeypatch):
    def fitted(start):
        model = LanguageModel(start, prompts, epochs=20, rate=1e-2)
        return model.fit(prompts, rng=np.random.default_rng(0)).network

    full = block_losses(fitted(network), prompts).mean()
    # What a change of the weights by a unit of bfloat16 moves, for each stored result in a row.
    moves = abs(block_losses(fitted(swayed(network, 2.0**-9)), prompts).mean() - full)
    monkeypatch.setattr(language, "_is_reduced", lambda device: True)
    reduced = fitted(network)
    loss = block_losses(reduced, prompts).mean()
    assert loss != full
    assert_within(loss, full, 2 * 8 * moves)
    assert {p.dtype for p in reduced.parameters()} == {torch.float32}


def test_a_copy_is_fitted_apart_and_shares_the_pretrained_network(network, prompts):
    model = LanguageModel(network, prompts, epochs=30, batch=3, rate=1e-2)
    model.fit(prompts, rng=np.random.default_rng(0))
    before = block_losses(model.network, prompts)
    text = model.sample(6, rng=np.random.default_rng(1))
    other = copy.deepcopy(model).fit(prompts[:3], rng=np.random.default_rng(2))
    assert other.base is model.base is network
    assert not np.array_equal(other.sample(6, rng=np.random.default_rng(1)), text)
    np.testing.assert_array_equal(block_losses(model.network, prompts), before)
    np.testing.assert_array_equal(model.sample(6, rng=np.random.default_rng(1)), text)


def test_sample_is_one_text_of_which_a_part_may_be_had(network, prompts):
    model = LanguageModel(network, prompts, epochs=1).fit(prompts, rng=np.random.default_rng(0))
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
        ("batch", 0),
        ("rate", -1.0),
    ):
        with pytest.raises(ValueError, match=f"{option} must be"):
            LanguageModel(network, prompts, **{option: value})


def test_divergence_is_reported(network, prompts):
    model = LanguageModel(network, prompts, rate=1e30, epochs=20)
    with pytest.raises(FloatingPointError, match="training diverged at step"):
        model.fit(prompts, rng=np.random.default_rng(0))


def test_block_losses_are_those_of_the_network(network, prompts, monkeypatch):
    with torch.no_grad():
        rows = torch.from_numpy(prompts)
        expected = [network(row[None], labels=row[None]).loss.item() for row in rows]
    monkeypatch.setattr(language, "_TOGETHER", 2 * prompts.shape[1])
    losses = block_losses(network, prompts)
    moves = block_losses(swayed(network), prompts) - losses
    error = bound(2 * DEPTH, np.abs(moves).max() / 2.0**-12, np.float32)
    assert_within(losses, expected, error)
