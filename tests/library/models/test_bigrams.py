"""Unigram and bigram loops against exact laws and against writing word by word.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points. Seeds are fixed, so a check that passes once passes always.
"""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import Accumulate, Mix, Replace, recurse
from collapse_utils.models import bigrams
from collapse_utils.models import words as one_word

ALARM = 1e-4
TEXT = [
    "the cat sat on the mat",
    "the dog saw the cat",
    "a cat saw a dog and the dog sat",
    "the mat",
    "dogs",
    "on and on and on",
]


@pytest.fixture(scope="module")
def corpus():
    """Sentences of six words on average out of 300 word types with a long tail."""
    rng = np.random.default_rng(3)
    p = 1 / np.arange(1, 301)
    rows = [rng.choice(300, size=rng.integers(2, 11), p=p / p.sum()) + 1 for _ in range(400)]
    return bigrams.encode([[f"w{i}" for i in row] for row in rows])[0]


@pytest.fixture
def small():
    return bigrams.Bigram().fit(bigrams.encode([s.split() for s in TEXT])[0])


def assert_mean(samples, law, error=0.0):
    """The mean over the first axis lies within the interval of its own standard error.

    Means of counts are exact, so a count that does not vary has to be met.
    """
    samples = np.asarray(samples, dtype=float).reshape(len(samples), -1)
    law, error = np.broadcast_to(law, samples.shape[1]), np.broadcast_to(error, samples.shape[1])
    se = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    strain = np.abs(samples.mean(axis=0) - law) - error
    assert (strain <= stats.norm.isf(ALARM / (2 * len(law))) * se).all(), (
        samples.mean(axis=0), law, se,
    )  # fmt: skip


def word_by_word(sentences, n, rng):
    """A reader's bigram loop: dictionaries and ``random.choices``."""
    following = defaultdict(Counter)
    for row in sentences:
        for a, b in zip([0, *row], [*row, 0], strict=True):
            following[a][b] += 1
    pairs = Counter()
    for _ in range(n):
        a = 0
        while True:
            b = rng.choices(list(following[a]), following[a].values())[0]
            pairs[a, b] += 1
            a = b
            if a == 0:
                break
    return pairs


def test_encode_round_trip():
    sentences = [s.split() for s in TEXT]
    rows, vocabulary = bigrams.encode(sentences)
    assert vocabulary[:2] == (".", "the")
    assert [[vocabulary[i] for i in row] for row in rows] == sentences
    again, same = bigrams.encode([["the", "unicorn"]], vocabulary)
    assert same == vocabulary
    assert again[0].tolist() == [1, len(vocabulary)]


def test_bigrams_count_what_a_dictionary_counts(small):
    rows, _ = bigrams.encode([s.split() for s in TEXT])
    want = Counter()
    for row in rows:
        want.update(zip([0, *row], [*row, 0], strict=True))
    got = dict(zip(zip(small.tail_, small.head_, strict=True), small.counts_, strict=True))
    assert got == want
    pairs = small.index(rows)
    assert (np.bincount(pairs) == small.counts_).all()
    assert small.index([np.array([1, 99])]).tolist()[1:] == [-1, -1]


def test_each_word_is_left_as_often_as_entered(small):
    counts = np.tile(small.counts_, (20, 1))
    rng = np.random.default_rng(1)
    for _ in range(5):
        counts = small.rewrite(counts, rng)
        assert (small._sums(small.tail_, counts) == small.word_counts(counts)).all()
        assert (small.word_counts(counts)[:, bigrams.END] == len(TEXT)).all()


def test_expected_pair_counts_are_the_counts(small):
    """The martingale: 2,000 texts of one generation, every pair tested."""
    written = small.rewrite(np.tile(small.counts_, (2000, 1)), np.random.default_rng(2))
    assert_mean(written, small.counts_)


def test_same_law_as_writing_word_by_word(small):
    rows, _ = bigrams.encode([s.split() for s in TEXT])
    rng = random.Random(4)
    brute = [word_by_word(rows, len(rows), rng) for _ in range(3000)]
    fast = small.rewrite(np.tile(small.counts_, (3000, 1)), np.random.default_rng(4))
    pairs = list(zip(small.tail_.tolist(), small.head_.tolist(), strict=True))
    slow = np.array([[text[pair] for pair in pairs] for text in brute])
    for statistic in (lambda c: c.sum(axis=1), lambda c: (c > 0).sum(axis=1)):
        assert stats.ks_2samp(statistic(fast), statistic(slow)).pvalue > ALARM
    difference = fast.mean(axis=0) - slow.mean(axis=0)
    se = np.sqrt((fast.var(axis=0) + slow.var(axis=0)) / 3000)
    z = stats.norm.isf(ALARM / (2 * len(pairs)))
    assert (np.abs(difference) <= z * se).all()


def test_written_sentences_follow_the_pairs(small):
    rows = small.sample(4000, np.random.default_rng(5))
    assert len(rows) == 4000
    assert min(map(len, rows)) >= 1
    pairs = small.index(rows)
    assert (pairs >= 0).all()
    share = np.bincount(pairs, minlength=len(small.counts_))
    for word in range(small._k):
        mine = small.tail_ == word
        p = small.counts_[mine] / small.counts_[mine].sum()
        if len(p) > 1:
            level = ALARM / small._k
            assert stats.chisquare(share[mine], share[mine].sum() * p).pvalue > level


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_of_the_next_word(small, temperature):
    small.temperature = temperature
    many = np.tile(small.counts_, (2000, 1))
    written = small.rewrite(many, np.random.default_rng(6)).sum(axis=0)
    for word in range(small._k):
        mine = small.tail_ == word
        p = small.counts_[mine] ** (1 / temperature)
        p /= p.sum()
        if len(p) > 1:
            level = ALARM / small._k
            assert stats.chisquare(written[mine], written[mine].sum() * p).pvalue > level


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_extinct_pairs_never_return(small, temperature):
    counts, rng = np.tile(small.counts_, (50, 1)), np.random.default_rng(7)
    small.temperature = temperature
    for _ in range(30):
        new = small.rewrite(counts, rng)
        assert not (new[counts == 0] > 0).any()
        counts = new


def test_long_sentences_are_cut(small):
    small.max_words = 2
    rows = small.sample(500, np.random.default_rng(8))
    lengths = np.array([len(row) for row in rows])
    assert lengths.max() == 3
    # A text of cut sentences still fits and still writes, though its last words lead nowhere.
    cut = small.rewrite(small.counts_[None], np.random.default_rng(9))
    small.max_words = 1000
    assert small.rewrite(cut, np.random.default_rng(10)).sum() > 0


def test_blocks_of_replicates_agree_in_shape(small, monkeypatch):
    monkeypatch.setattr(bigrams, "_TOGETHER", 50)
    new = small.rewrite(np.tile(small.counts_, (7, 1)), np.random.default_rng(1))
    assert new.shape == (7, len(small.counts_))
    assert (small.word_counts(new)[:, bigrams.END] == len(TEXT)).all()


@pytest.mark.parametrize("generation", [1, 3, 10])
def test_words_and_pairs_live_by_the_categorical_law(corpus, generation):
    """Within Suresh's bounds: a claim for pairs and for words in context, not a theorem."""
    pairs, rng = bigrams.Bigram().fit(corpus), np.random.default_rng(11)
    words = pairs.word_counts(pairs.counts_)
    two = np.tile(pairs.counts_, (400, 1))
    for _ in range(generation):
        two = pairs.rewrite(two, rng)
    for now, counts in ((two, pairs.counts_), (pairs.word_counts(two), words[0])):
        low, high = one_word.survival_bounds(
            counts / counts.sum(), n_samples=int(counts.sum()), n_generations=generation
        )
        law = low[generation].sum()
        assert_mean((now > 0).sum(axis=1), law, high[generation].sum() - law)


def test_entropies(small):
    counts = small.counts_[None]
    left = small.word_counts(counts)[0][small.tail_]
    by_hand = small.counts_ @ np.log(left / small.counts_) / small.counts_.sum()
    # Logarithms of counts, weighted, less each other: at most log(all) before they cancel.
    error = bound(2 * (len(small.counts_) + CALL), 2 * np.log(small.counts_.sum()))
    assert_within(small.entropy_rate(counts), by_hand, error)


def test_smoothed_probabilities_sum_to_one(small):
    """Over all that may follow a word, known or unknown, for a seen word and for an unknown one."""
    written = small.rewrite(small.counts_[None], np.random.default_rng(1))
    counts = np.concatenate([small.counts_[None], written])
    words = np.arange(1, small._k + 1)  # the last one is unknown
    for word in words:
        rows = [np.array([word])] + [np.array([word, following]) for following in words]
        log_p = small.log_probability(counts, rows)
        second = np.cumsum([0] + [len(row) + 1 for row in rows[:-1]]) + 1
        p = np.exp(log_p[:, second])
        assert_within(p.sum(axis=1), 1, bound(2 * len(words) + 2 * CALL, 1 - log_p.min()))


def test_smoothing_by_hand():
    # Text "a b . a ." with a = 1, b = 2: counts . 2, a 2, b 1; three known types.
    model = bigrams.Bigram().fit([np.array([1, 2]), np.array([1])])
    log_p = model.log_probability(model.counts_, [np.array([1, 7])], strength=2)
    p_a, p_unknown, p_end = 3 / 9, 1 / 9, 3 / 9
    by_hand = np.array([(2 + 2 * p_a) / (2 + 2), (0 + 2 * p_unknown) / (2 + 2), p_end])
    error = bound(3 * CALL, 1 - np.log(by_hand.min()))
    assert_within(np.exp(log_p[0]), by_hand, error * by_hand)


@pytest.mark.parametrize("workflow", [Replace(), Accumulate(), Mix(0.9, gamma=0.1)], ids=repr)
def test_models_in_the_one_loop(corpus, workflow):
    types = recurse(
        bigrams.Bigram(302),
        corpus,
        workflow=workflow,
        n_samples=100,
        n_generations=3,
        n_replicates=2,
        n_eval=5,
        metrics={"types": lambda s: len(s.model.counts_) if s.model else np.nan},
        rng=np.random.default_rng(1),
    ).array("types")
    change = np.diff(types[1:], axis=0)
    assert (change < 0).all() if workflow == Replace() else (types[1:] > 0).all()
    assert (change == 0).all() if workflow == Accumulate() else True


WRONG = {
    "no sentence": (lambda: bigrams.encode([]), "sentences must be one or more"),
    "empty sentence": (
        lambda: bigrams.encode([["a"], []]),
        r"of one word or more, got lengths .0, 1",
    ),
    "vocabulary": (lambda: bigrams.encode([["a"]], ["a"]), "vocabulary must start with"),
    "no rows": (lambda: bigrams.Bigram().fit([]), "rows must hold at least one sentence"),
    "end inside": (lambda: bigrams.Bigram().fit([np.array([1, 0])]), "0 ends a sentence"),
    "few types": (lambda: bigrams.Bigram(3).fit([np.array([5])]), "n_types must be"),
    "negative": (lambda: bigrams.Bigram(temperature=-0.5), r"temperature must be .* got -0.5"),
    "cut": (lambda: bigrams.Bigram(max_words=0), "max_words must be .* got 0"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_counts_for_a_graph(small):
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="one column for each of the"):
        small.rewrite([[1, 2]], rng)
    with pytest.raises(ValueError, match="start of a sentence"):
        small.rewrite(np.where(small.tail_ == bigrams.END, 0, small.counts_)[None], rng)
    with pytest.raises(ValueError, match="strength must be"):
        small.log_probability(small.counts_[None], [np.array([1])], strength=0)
