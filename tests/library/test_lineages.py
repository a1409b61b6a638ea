"""The engine for many lineages against the loop for one, and its data against plain rows.

Every statistical check may raise a false alarm with probability ALARM, split over its points.
"""

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    lineages,
    recurse,
)
from collapse_utils.lineages import Counts, Moments, Normal, RawRows, Rows, Words
from collapse_utils.models.gaussian import Gaussian
from collapse_utils.models.words import Categorical

WORKFLOWS = {
    "replace": Replace(),
    "accumulate": Accumulate(),
    "fresh": FreshData(0.3),
    "replay": Mix(0.6, gamma=0.4, redraw=False),
}
BY_ROW = {"subsample": AccumulateSubsample(), "archive": Mix(0.5, 0.2, 0.3)}
WORDS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


def run(family, truth, workflow=None, *, seed=1, **how):
    how = {"n_samples": 10, "n_generations": 5, "n_replicates": 4000} | how
    rng = np.random.default_rng(seed)
    return lineages.generations(family, truth, workflow, **how, rng=rng)


# ------------------------------------------------------------------ against the loop


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("name", [*WORKFLOWS, *BY_ROW])
def test_gaussians_have_the_law_of_the_loop(name, ddof):
    workflow = (WORKFLOWS | BY_ROW)[name]
    sizes = [11, 9, 9, 10, 11]
    history = recurse(
        Gaussian(ddof),
        lambda n, rng: 1 + 2 * rng.standard_normal(n),
        workflow=workflow,
        n_samples=sizes,
        n_generations=5,
        n_replicates=800,
        n_eval=1,
        metrics={
            "mean": lambda s: s.model.mean_[0] if s.model else 1.0,
            "var": lambda s: s.model.cov_[0, 0] if s.model else 4.0,
        },
        rng=np.random.default_rng(2),
    )
    for rows in (False, True)[name in BY_ROW :]:
        family = Normal(ddof, rows=rows)
        mean, var = lineages.record(run(family, (1.0, 4.0), workflow, n_samples=sizes))
        assert mean.shape == (6, 4000)
        assert (mean[0] == 1).all() and (var[0] == 4).all()
        for fast, slow in ((mean, "mean"), (var, "var")):
            for g in (2, 5):
                seen = history.array(slow)[g]
                assert stats.ks_2samp(fast[g], seen).pvalue > ALARM / 4


@pytest.mark.parametrize("n_symbols", [3, 5, 40])
@pytest.mark.parametrize("name", ["replace", "accumulate", "fresh", *BY_ROW])
def test_words_have_the_law_of_the_loop(name, n_symbols):
    workflow, p = (WORKFLOWS | BY_ROW)[name], np.full(n_symbols, 1 / n_symbols)
    how = {"n_generations": 5, "n_samples": 10}
    frequencies = recurse(
        Categorical(n_symbols),
        lambda n, rng: rng.choice(n_symbols, n, p=p),
        workflow=workflow,
        n_replicates=800,
        n_eval=1,
        metrics={
            "alive": lambda s: (s.model.p_ > 0).sum() if s.model else n_symbols,
            "first": lambda s: s.model.p_[0] if s.model else p[0],
        },
        rng=np.random.default_rng(3),
        **how,
    )
    words = list(run(Words(), p, workflow))
    assert (words[0].alive == n_symbols).all()
    error = bound(2 * n_symbols + 4)  # sums over the symbols, of shares
    assert_within(words[0].diversity, 1 - 1 / n_symbols, error)
    for g in (2, 5):
        assert_within(words[g].p.sum(axis=1), 1, error)
        assert_within(words[g].diversity, 1 - (words[g].p ** 2).sum(axis=1), error)
        seen = [frequencies.array(metric)[g] for metric in ("alive", "first")]
        for fast, slow in zip((words[g].alive, words[g].p[:, 0]), seen, strict=True):
            levels = np.unique(np.concatenate([fast, slow]))
            table = [[(x == level).sum() for level in levels] for x in (fast, slow)]
            # Levels that nobody reaches often say nothing about a difference.
            table = np.array(table)[:, np.sum(table, axis=0) >= 20]
            assert stats.chi2_contingency(table).pvalue > ALARM / 4


def test_writing_changes_what_is_sampled_and_not_what_is_fitted():
    rows = run(Normal(), (0.0, 1.0), write=lambda mean, var: (mean + 1, 0 * var), n_samples=50)
    mean, var = lineages.record(rows)
    assert_within(mean[2:] - mean[1:-1], 1, bound(4, np.abs(mean).max()))
    assert (var[2:] == 0).all() and (var[1] > 0).all()
    words = list(run(Words(), WORDS, write=lambda words: np.eye(5)[[3]].repeat(4000, axis=0)))
    assert (words[1].alive > 1).any()
    assert (words[2].p == np.eye(5)[3]).all()


def test_nothing_is_computed_before_it_is_asked_for_and_bad_arguments_at_once():
    def draw(law, n, rng):
        raise AssertionError("must not be reached")

    lineages.generations(
        RawRows(draw, np.mean),
        0.0,
        n_samples=1,
        n_generations=1,
        n_replicates=1,
        rng=np.random.default_rng(0),
    )
    for change, message in (
        ({"n_samples": 1}, r"n_samples must be an integer >= 2, got 1"),
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": 0}, "n_replicates must be an integer >= 1, got 0"),
        ({"workflow": Replace}, "workflow must have compose"),
        ({"workflow": Mix(0.5, 0.5), "n_samples": [2, 9], "n_generations": 2}, "beta=0.5 asks"),
        ({"write": 3}, "write must be callable, got 3"),
        ({"seed": 2, "truth": (0.0, 1.0)}, None),
    ):
        truth = change.pop("truth", (0.0, 1.0))
        if message is None:
            assert len(list(run(Normal(), truth, **change))) == 6
            continue
        with pytest.raises(ValueError, match=message):
            run(Normal(), truth, change.pop("workflow", None), **change)
    with pytest.raises(ValueError, match="rng must be a numpy"):
        lineages.generations(
            Words(), WORDS, n_samples=2, n_generations=2, n_replicates=2, rng=np.random
        )
    with pytest.raises(ValueError, match=r"truth must sum to 1, got a sum of 0\.5"):
        run(Words(), [0.5])


# ------------------------------------------------------------------ rows


def test_choose_takes_rows_without_replacement_and_evenly():
    rng = np.random.default_rng(3)
    for size in (6, 60):  # most of them, or a few of many: two ways
        rows = Rows(np.tile(np.arange(size), (20_000, 1)))
        picked = rows.choose(2, rng).X
        assert (picked[:, 0] != picked[:, 1]).all()
        counts = np.bincount(picked.ravel(), minlength=size)
        assert stats.chisquare(counts).pvalue > ALARM / 2
    rows = Rows(np.tile(np.arange(6), (20_000, 1)))
    assert rows.choose(6, rng) is rows
    pairs = Rows(np.stack([rows.X, -rows.X], axis=2)).choose(3, rng).X
    assert pairs.shape == (20_000, 3, 2)
    np.testing.assert_array_equal(pairs[..., 0], -pairs[..., 1])
    joined = rows[:2] + rows[:0] + rows[4:]
    np.testing.assert_array_equal(joined.X[0], [0, 1, 4, 5])


# ------------------------------------------------------------------ moments


def moments_of(rows):
    mean = rows.mean(axis=1)
    return Moments(rows.shape[1], mean, ((rows - mean[:, None]) ** 2).sum(axis=1))


def test_moments_join_like_rows():
    rng = np.random.default_rng(4)
    parts = [rng.standard_normal((5, n)) * n for n in (3, 1, 4)]
    empty = Moments(0, np.full(5, 7.0), np.zeros(5))
    joined = moments_of(parts[0]) + empty + moments_of(parts[1]) + moments_of(parts[2])
    plain = moments_of(np.concatenate(parts, axis=1))
    assert joined.n == 8
    # Sums of eight numbers, in two orders; a sum of squares takes the mean from each row.
    size = np.abs(np.concatenate(parts, axis=1)).max()
    assert_within(joined.mean, plain.mean, bound(2 * 8 + 6, size))
    assert_within(joined.ss, plain.ss, bound(4 * 8 + 6, 8 * size**2))
    weighted = moments_of(parts[0]) * 2 + moments_of(parts[2]) * 0.5
    rows, w = np.concatenate([parts[0], parts[2]], axis=1), np.array([2] * 3 + [0.5] * 4)
    mean, var = Normal(0).fit(weighted)
    assert_within(mean, rows @ w / w.sum(), bound(2 * 8 + 6, size))
    assert_within(var, ((rows - mean[:, None]) ** 2) @ w / w.sum(), bound(4 * 8 + 6, size**2))


def test_the_first_rows_of_a_sample_have_the_law_of_rows():
    r, n, first = 20_000, 7, 3
    rng = np.random.default_rng(5)
    drawn = Normal().draw((np.ones(r), np.full(r, 4.0)), n, rng)
    part = drawn[:first]
    assert part is drawn[:first]
    rows = 1 + 2 * rng.standard_normal((r, n))
    raw, raw_part = moments_of(rows), moments_of(rows[:, :first])
    for measure in (
        lambda whole, some: some.mean,
        lambda whole, some: some.ss,
        lambda whole, some: some.mean - whole.mean,
        lambda whole, some: some.ss / whole.ss,
        lambda whole, some: (some.mean - whole.mean) ** 2 / some.ss,
    ):
        seen, expected = measure(drawn, part), measure(raw, raw_part)
        assert stats.ks_2samp(seen, expected).pvalue > ALARM / 5
    assert (part.ss <= drawn.ss).all()
    with pytest.raises(ValueError, match="the first 3 of 14 mixed rows need"):
        (drawn + drawn)[:3]
    with pytest.raises(ValueError, match="3 of 7 rows are chosen from rows only"):
        drawn.choose(3, rng)


# ------------------------------------------------------------------ counts


@pytest.mark.parametrize("times", [1, 10])  # fewer rows than twice the symbols, or more
def test_counts_choose_like_rows(times):
    rng = np.random.default_rng(6)
    has = np.array([3, 0, 2, 1]) * times
    n, some = has.sum(), 2 * times
    counts = Counts(n, np.tile(has, (20_000, 1)), 4)
    chosen = counts.choose(some, rng)
    assert (chosen.of.sum(axis=1) == some).all() and (chosen.of <= counts.of).all()
    law = stats.multivariate_hypergeom(has, some)
    assert_mean(chosen.of[:, [0, 2, 3]], law.mean()[[0, 2, 3]], axis=0)
    assert_mean(chosen.of[:, 0] * chosen.of[:, 2], law.cov()[0, 2] + np.prod(law.mean()[[0, 2]]))
    sizes = np.arange(20_000) % (n + 1)
    many = counts.choose(sizes, rng)
    assert (many.of.sum(axis=1) == sizes).all()
    both = many + counts.choose(n - sizes, rng)
    assert both.n == n and isinstance(both.n, int)


def test_symbols_that_died_have_no_column_and_never_come_back():
    p = np.zeros(300)
    p[::3] = 0.01
    seen = None
    for words in run(Words(), p, n_samples=40, n_generations=60, n_replicates=30):
        assert words.p.shape == (30, 300)
        assert (words.p[:, p == 0] == 0).all()
        if seen is not None:
            assert ((words.p > 0) <= seen).all()
        seen = words.p > 0
    assert words.of.shape[1] < 20
    np.testing.assert_array_equal(words.alive, seen.sum(axis=1))


def test_counts_with_and_without_dead_columns_join():
    rng = np.random.default_rng(7)
    truth = Words().truth(np.full(50, 0.02), 6)
    narrow = Words().draw(truth, 5, rng)
    assert narrow.of.shape[1] <= 5
    wide = Words().draw(np.full((6, 50), 0.02), 30, rng)
    joined = narrow + wide
    np.testing.assert_array_equal(joined.of, narrow.dense().of + wide.of)
    assert joined.n == 35
    np.testing.assert_array_equal((narrow * 0.5).p, narrow.p)  # halves are exact


def test_a_symbol_without_mass_is_never_written():
    # Ten shares of 0.1 sum to a little less than one, and numpy gives the rest to the last column.
    p = np.append(np.full(10, 0.1), 0.0)[None].repeat(200, axis=0)
    drawn = lineages._multinomial(10**9, p, np.random.default_rng(8))
    assert (drawn[:, -1] == 0).all()
    assert (drawn.sum(axis=1) == 10**9).all()
