"""The categorical simulator and its laws against the whole Wright-Fisher chain of a small world.

The oracle enumerates every way to share M rows among K symbols and multiplies matrices; it knows
nothing of the shortcuts under test. Pairs of words are held against exact laws and against writing
word by word. Statistical checks raise a false alarm with probability ALARM
each, at a fixed seed.
"""

import random
from collections import Counter, defaultdict
from itertools import pairwise, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import Accumulate, Mix, Replace, recurse
from collapse_utils.lineages import Words, generations
from collapse_utils.models import words
from collapse_utils.models.words import zipf

ALARM = 1e-4


# ------------------------------------------------------------------ the oracle


class Oracle:
    """States (counts of K symbols among M rows) and the law of the state, page after page."""

    def __init__(self, p, m):
        self.p, self.m = np.array(p), m
        counts = product(range(m + 1), repeat=len(p))
        self.states = np.array([c for c in counts if sum(c) == m])
        orders = [factorial(m) / np.prod([factorial(x) for x in c]) for c in self.states]
        self.orders = np.array(orders)
        self.step = np.array([self.draw(c / m) for c in self.states])
        # Roundings of one page: m quotients multiplied up, powers, and a sum over the states.
        self.roundings = m + (CALL + 1) * len(p) + len(self.states)

    def draw(self, p):
        """Law of the state when M rows are drawn from `p`."""
        return self.orders * np.prod(p**self.states, axis=1)

    def laws(self, n_generations):
        """Laws of the state on pages 1..n_generations."""
        law = [self.draw(self.p)]
        for _ in range(n_generations - 1):
            law.append(law[-1] @ self.step)
        return np.array(law)


@pytest.fixture(scope="module")
def oracle():
    return Oracle([0.5, 0.3, 0.2], 6)


G = 12
SMALL = {"n_samples": 6, "n_generations": G}


def lineages(m):
    """Roundings of the law of the ancestors on one page: three for each of m balls, in l1."""
    return 3 * (m + 1)


def test_the_oracle_is_a_chain(oracle):
    assert len(oracle.states) == 28
    np.testing.assert_allclose(oracle.step.sum(axis=1), 1, rtol=bound(oracle.roundings))


# ------------------------------------------------------------------ laws, exactly


def test_survival_is_that_of_the_whole_chain(oracle):
    alive = (oracle.laws(G) @ (oracle.states > 0)).T
    law = words.survival(oracle.p, **SMALL)
    # Absolute: the short cut takes the chance of death from one.
    limit = bound(G * (oracle.roundings + lineages(6)) + 2 * CALL + 6)
    assert_within(law[1:].T, alive, limit)
    np.testing.assert_array_equal(law[0], 1)


def test_the_winner_has_the_original_probabilities(oracle):
    late = oracle.laws(400)[-1]
    wins = [late[(oracle.states[:, k] == 6)].sum() for k in range(3)]
    np.testing.assert_allclose(wins, oracle.p, rtol=bound(400 * oracle.roundings))


def test_ancestors_are_occupied_boxes():
    law = words.ancestors(4, 3)  # quarters: nothing is rounded
    np.testing.assert_array_equal(law.sum(axis=1), [0, 1, 1, 1])
    assert law[1, 4] == 1
    # Four balls into four boxes: 4, 84, 144 and 24 of the 256 ways occupy 1, 2, 3, 4 boxes.
    np.testing.assert_array_equal(law[2], np.array([0, 4, 84, 144, 24]) / 256)
    one = np.array([1, 0, 0, 0]) * 1.0
    two = np.array([4, 12, 0, 0]) / 16
    three = np.array([4, 36, 24, 0]) / 64
    four = law[2, 1:]
    np.testing.assert_array_equal(law[3, 1:], law[2, 1:] @ [one, two, three, four])


def test_bounds_of_suresh_hold_for_every_small_world():
    p = np.concatenate([[0.0], np.geomspace(1e-6, 1, 40)])
    for m in (1, 2, 10, 100):
        exact = words.survival(p, n_samples=m, n_generations=50)
        low, high = words.survival_bounds(p, n_samples=m, n_generations=50)
        # Both are one minus a mean of powers: of the law of the ancestors, and of g_n.
        rounded = bound(50 * (lineages(m) + CALL) + 4 * CALL + m)
        assert (low <= exact + rounded).all()
        assert (exact <= high + rounded).all()
    # For a rare symbol the lower one is close while n is well below M.
    n = np.arange(1, 51)
    assert (low[1:, 5] > (1 - n / 100) * exact[1:, 5]).all()


def test_surviving_share_is_two_over_n():
    g = words.surviving_share(10**5)
    assert np.isinf(g[0]) and g[1] == 1
    np.testing.assert_allclose(g[2], 1 - np.exp(-1), rtol=bound(2 * CALL + 1))
    n = np.arange(1, len(g))
    assert ((n * g[1:] >= 1) & (n * g[1:] <= 2)).all()  # inside the published 1/n .. 3/n
    # The next term: 1/g_n = n/2 + (ln n)/6 + constant + ...
    rest = 1 / g[1:] - n / 2 - np.log(n) / 6
    assert abs(rest[-1] - rest[9999]) < 1e-4
    # For large M it is the mean share of ancestors.
    share = words.ancestors(3000, 6) @ np.arange(3001) / 3000
    np.testing.assert_allclose(share[1:], g[1:7], rtol=2e-3)


def test_poisson_form_is_a_lower_bound_close_while_many_lines_live():
    p = zipf(300)
    size = {"n_samples": 500, "n_generations": 2000}
    exact = words.survival(p, **size).sum(axis=1)
    poisson = words.survival_bounds(p, **size)[0].sum(axis=1)
    assert (poisson <= exact).all()
    np.testing.assert_allclose(poisson[:11], exact[:11], rtol=5e-3)
    assert poisson[-1] < 1 <= exact[-1]  # late in the chain it forgets that one symbol always lives


def test_finite_zipf():
    law = np.array([6, 3, 2]) / 11
    assert_within(zipf(3), law, bound(4 * CALL + 4) * law)
    np.testing.assert_allclose(zipf(4, 0.0), 0.25, rtol=bound(2 * CALL))


# ------------------------------------------------------------------ the engine has the law


def state_numbers(counts, states):
    """Index of each row of `counts` among the states."""
    base = states.max() + 1
    code = base ** np.arange(states.shape[1])
    order = np.argsort(states @ code)
    return order[np.searchsorted((states @ code)[order], counts @ code)]


def goodness_of_fit(observed, law):
    """P-value of a chi-square test; rare states share one cell."""
    expected = law * observed.sum()
    rare = expected < 5
    cells = [np.append(x[~rare], x[rare].sum()) for x in (observed, expected)]
    keep = cells[1] > 0
    return stats.chisquare(cells[0][keep], cells[1][keep]).pvalue


# Few symbols on a long page (binomials), on a short page (picked rows), more symbols than rows.
WORLDS = {"long page": (zipf(3), 20), "short page": (zipf(4), 6), "many symbols": (zipf(7), 4)}


@pytest.mark.parametrize(("p", "m"), WORLDS.values(), ids=WORLDS)
def test_simulated_models_have_the_law_of_the_chain(p, m):
    world = Oracle(p, m)
    pages = generations(
        Words(), p, n_samples=m, n_generations=5, n_replicates=40_000, rng=np.random.default_rng(1)
    )
    laws = world.laws(5)
    for n, page in enumerate(pages):
        if n in (1, 2, 5):
            counts = np.rint(page.p * m).astype(int)
            seen = np.bincount(state_numbers(counts, world.states), minlength=len(world.states))
            assert goodness_of_fit(seen, laws[n - 1]) > ALARM / 3
    # Power: one more row on the page is noticed.
    assert goodness_of_fit(seen, Oracle(p, m).laws(6)[5]) < ALARM


def test_the_loop_has_the_law_of_the_chain(oracle):
    history = recurse(
        words.Categorical(3),
        lambda n, rng: rng.choice(3, n, p=oracle.p),
        n_samples=6,
        n_generations=4,
        n_replicates=2000,
        n_eval=1,
        metrics={
            "code": lambda s: s.model.p_ @ [6, 42, 294] if s.model else 0.0,
        },
        rng=np.random.default_rng(2),
    )
    codes = np.rint(history.array("code")[-1]).astype(int)
    known = oracle.states @ [1, 7, 49]
    seen = np.array([(codes == code).sum() for code in known])
    assert seen.sum() == 2000
    assert goodness_of_fit(seen, oracle.laws(4)[-1]) > ALARM


def test_collapse_times_and_winners():
    p, m, r = zipf(4), 12, 20_000
    time, winner = words.collapse(p, n_samples=m, n_replicates=r, rng=np.random.default_rng(6))
    assert stats.chisquare(np.bincount(winner, minlength=4), r * p).pvalue > ALARM
    assert stats.chisquare(np.bincount(winner, minlength=4)).pvalue < ALARM  # not any winner
    # Each symbol against the rest is a chain of two, and only one of them can win.
    step = stats.binom.pmf(np.arange(m + 1), m, np.arange(m + 1)[:, None] / m)
    state, cdf = stats.binom.pmf(np.arange(m + 1), m, p[:, None]).sum(axis=0), [0.0]
    for _ in range(time.max() + 500):
        cdf.append(state[-1])
        state = state @ step
    law = np.diff(cdf)
    seen = np.bincount(time, minlength=len(law) + 1)[1:]
    assert goodness_of_fit(seen, law) > ALARM


def test_a_certain_symbol_has_collapsed_already():
    time, winner = words.collapse(
        [0, 1, 0], n_samples=5, n_replicates=3, rng=np.random.default_rng(0)
    )
    assert (time == 0).all() and (winner == 1).all()


def test_one_row_collapses_at_once():
    time, _ = words.collapse(zipf(3), n_samples=1, n_replicates=9, rng=np.random.default_rng(0))
    assert (time == 1).all()
    alive = words.survival([0.3], n_samples=1, n_generations=3)[:, 0]
    np.testing.assert_allclose(alive, [1, 0.3, 0.3, 0.3], rtol=bound(2 * CALL + 2, 1.7 / 0.3))


# ------------------------------------------------------------------ properties


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 2**32))
def test_extinct_symbols_never_return_in_the_loop(symbols, seed):
    history = recurse(
        words.Categorical(5),
        np.array(symbols),
        n_generations=4,
        n_eval=1,
        metrics={"alive": lambda s: sum(2**k for k in set(s.training.tolist()))},
        rng=np.random.default_rng(seed),
    )
    alive = history.array("alive")[:, 0].astype(int)
    for before, after in pairwise(alive):
        assert after & ~before == 0


# ------------------------------------------------------------------ the model


def test_categorical_counts():
    model = words.Categorical(5).fit([0, 0, 3, 1])
    np.testing.assert_array_equal(model.p_, [0.5, 0.25, 0, 0.25, 0])
    drawn = model.sample(4000, np.random.default_rng(0))
    assert set(drawn) == {0, 1, 3}
    seen = np.bincount(drawn)[[0, 1, 3]]
    assert stats.chisquare(seen, [2000, 1000, 1000]).pvalue > ALARM
    assert len(words.Categorical().fit([2]).p_) == 3


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: words.Categorical(0), "n_symbols must be an integer >= 1, got 0"),
        (lambda: words.Categorical().fit([]), r"X must be a non-empty list .* shape \(0,\)"),
        (lambda: words.Categorical().fit([0.5]), "integer symbols, got an array of float64"),
        (lambda: words.Categorical().fit([0, -2]), "X must hold symbols >= 0, got -2"),
        (lambda: words.Categorical(3).fit([0, 7]), ">= 0 and < n_symbols=3, got 7"),
        (
            lambda: words.collapse(
                [1.5, -0.5], n_samples=5, n_replicates=1, rng=np.random.default_rng(0)
            ),
            "p must not be negative, got -0.5 at index 1",
        ),
        (
            lambda: words.collapse(
                [0.5, 0.5], n_samples=0, n_replicates=1, rng=np.random.default_rng(0)
            ),
            "n_samples must be an integer >= 1, got 0",
        ),
        (
            lambda: words.survival([1.2], n_samples=5, n_generations=2),
            "p must be numbers between 0 and 1, got 1.2",
        ),
        (
            lambda: words.survival([np.nan], n_samples=5, n_generations=2),
            "between 0 and 1, got nan",
        ),
        (lambda: words.ancestors(0, 5), "n_samples must be an integer >= 1, got 0"),
        (lambda: words.surviving_share(0), "n_generations must be an integer >= 1, got 0"),
        (lambda: words.zipf(0), "n_symbols must be an integer >= 1, got 0"),
        (lambda: words.zipf(3, -1.0), "exponent must be a finite number"),
        (lambda: words.rare_survival(-1.0, [5]), "count must be numbers between 0 and inf, got -1"),
    ],
)
def test_other_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------ rare words in growing samples


def test_survival_with_constant_sizes_is_the_published_recursion():
    g = words.surviving_share(50)
    for n in (1, 2, 10, 50):
        law, error = -np.expm1(-5.0 * g[n]), bound(2 * n * (CALL + 1))
        assert_within(words.rare_survival(5.0, [1000] * n), law, error)


@pytest.mark.parametrize("exponent", [0, 1, 2])
def test_survival_of_a_rare_item_in_growing_samples(exponent):
    rng = np.random.default_rng(8)
    sizes = 10**9 * np.arange(1, 31) ** exponent
    for count in (0.5, 3.0):
        copies = rng.binomial(sizes[0], count / sizes[0], 20_000)
        for before, size in pairwise(sizes):
            copies = rng.binomial(size, copies / before)
        assert_mean((copies > 0).astype(float), words.rare_survival(count, sizes))


# ------------------------------------------------------------------ pairs of words

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
    return words.encode([[f"w{i}" for i in row] for row in rows])[0]


@pytest.fixture
def small():
    return words.Bigram().fit(words.encode([s.split() for s in TEXT])[0])


def assert_means(samples, law, error=0.0):
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
    rows, vocabulary = words.encode(sentences)
    assert vocabulary[:2] == (".", "the")
    assert [[vocabulary[i] for i in row] for row in rows] == sentences
    again, same = words.encode([["the", "unicorn"]], vocabulary)
    assert same == vocabulary
    assert again[0].tolist() == [1, len(vocabulary)]


def test_bigrams_count_what_a_dictionary_counts(small):
    rows, _ = words.encode([s.split() for s in TEXT])
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
        assert (small.word_counts(counts)[:, words.END] == len(TEXT)).all()


def test_expected_pair_counts_are_the_counts(small):
    """The martingale: 2,000 texts of one generation, every pair tested."""
    written = small.rewrite(np.tile(small.counts_, (2000, 1)), np.random.default_rng(2))
    assert_means(written, small.counts_)


def test_same_law_as_writing_word_by_word(small):
    rows, _ = words.encode([s.split() for s in TEXT])
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
    monkeypatch.setattr(words, "_TOGETHER", 50)
    new = small.rewrite(np.tile(small.counts_, (7, 1)), np.random.default_rng(1))
    assert new.shape == (7, len(small.counts_))
    assert (small.word_counts(new)[:, words.END] == len(TEXT)).all()


@pytest.mark.parametrize("generation", [1, 3, 10])
def test_words_and_pairs_live_by_the_categorical_law(corpus, generation):
    """Within Suresh's bounds: a claim for pairs and for words in context, not a theorem."""
    pairs, rng = words.Bigram().fit(corpus), np.random.default_rng(11)
    singles = pairs.word_counts(pairs.counts_)
    two = np.tile(pairs.counts_, (400, 1))
    for _ in range(generation):
        two = pairs.rewrite(two, rng)
    for now, counts in ((two, pairs.counts_), (pairs.word_counts(two), singles[0])):
        low, high = words.survival_bounds(
            counts / counts.sum(), n_samples=int(counts.sum()), n_generations=generation
        )
        law = low[generation].sum()
        assert_means((now > 0).sum(axis=1), law, high[generation].sum() - law)


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
    known = np.arange(1, small._k + 1)  # the last one is unknown
    for word in known:
        rows = [np.array([word])] + [np.array([word, following]) for following in known]
        log_p = small.log_probability(counts, rows)
        second = np.cumsum([0] + [len(row) + 1 for row in rows[:-1]]) + 1
        p = np.exp(log_p[:, second])
        assert_within(p.sum(axis=1), 1, bound(2 * len(known) + 2 * CALL, 1 - log_p.min()))


def test_smoothing_by_hand():
    # Text "a b . a ." with a = 1, b = 2: counts . 2, a 2, b 1; three known types.
    model = words.Bigram().fit([np.array([1, 2]), np.array([1])])
    log_p = model.log_probability(model.counts_, [np.array([1, 7])])
    p_a, p_unknown, p_end = 3 / 9, 1 / 9, 3 / 9
    by_hand = np.array([(2 + 10 * p_a) / (2 + 10), (0 + 10 * p_unknown) / (2 + 10), p_end])
    error = bound(3 * CALL, 1 - np.log(by_hand.min()))
    assert_within(np.exp(log_p[0]), by_hand, error * by_hand)


@pytest.mark.parametrize("workflow", [Replace(), Accumulate(), Mix(0.9, gamma=0.1)], ids=repr)
def test_models_in_the_one_loop(corpus, workflow):
    types = recurse(
        words.Bigram(302),
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
    "no sentence": (lambda: words.encode([]), "sentences must be one or more"),
    "empty sentence": (
        lambda: words.encode([["a"], []]),
        r"of one word or more, got lengths .0, 1",
    ),
    "vocabulary": (lambda: words.encode([["a"]], ["a"]), "vocabulary must start with"),
    "no rows": (lambda: words.Bigram().fit([]), "rows must hold at least one sentence"),
    "end inside": (lambda: words.Bigram().fit([np.array([1, 0])]), "0 ends a sentence"),
    "few types": (lambda: words.Bigram(3).fit([np.array([5])]), "n_types must be"),
    "negative": (lambda: words.Bigram(temperature=-0.5), r"temperature must be .* got -0.5"),
    "cut": (lambda: words.Bigram(max_words=0), "max_words must be .* got 0"),
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
        small.rewrite(np.where(small.tail_ == words.END, 0, small.counts_)[None], rng)
