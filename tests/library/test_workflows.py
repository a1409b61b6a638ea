"""Workflows: sizes, shares, and the provenance of every training row.

The scribe is a fake model whose rows say who wrote them: (generation, lineage, serial number).
So the provenance that a workflow reports is checked against the content of the rows themselves.
"""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collapse_utils import Accumulate, AccumulateSubsample, FreshData, Mix, Replace, recurse
from collapse_utils.workflows import TrainingSet


class Scribe:
    """Writes rows (generation, lineage, serial number); real rows are (0, -1, number)."""

    def __init__(self):
        self.generation = 0

    def fit(self, X):
        raise AssertionError("fit_many trains all lineages at once")

    def fit_many(self, Xs, rng):
        self.generation += 1
        return [_Hand(self.generation, lineage) for lineage in range(len(Xs))]

    def sample(self, n):
        raise AssertionError("only a fitted model writes")


class _Hand(Scribe):
    def __init__(self, generation, lineage):
        self.generation, self.lineage, self.serial = generation, lineage, 0

    def sample(self, n):
        numbers = np.arange(self.serial, self.serial + n)
        self.serial += n
        return np.column_stack([np.full(n, self.generation), np.full(n, self.lineage), numbers])


def real_rows(n):
    return np.column_stack([np.zeros(n, int), np.full(n, -1), np.arange(n)])


def write(workflows, sizes, *, n_real=None, n_replicates=2, seed=0):
    """Training sets and evaluation samples: ``[name, replicate][generation - 1]``."""
    training, samples = {}, {}

    def look(s):
        if s.generation:
            np.testing.assert_array_equal(s.origin, s.training[:, 0])  # content does not lie
            training.setdefault((s.workflow, s.replicate), []).append(s.training.copy())
            samples.setdefault((s.workflow, s.replicate), []).append(s.sample.copy())
        return 0.0

    scribe = Scribe()  # one clock: the factory hands out the same object in every generation
    recurse(
        lambda: scribe,
        real_rows(sum(sizes) if n_real is None else n_real),
        workflow=workflows,
        n_samples=list(sizes),
        n_generations=len(sizes),
        n_replicates=n_replicates,
        n_eval=3,
        metrics={"look": look},
        rng=np.random.default_rng(seed),
    )
    return training, samples


def as_set(rows):
    return {tuple(row) for row in rows.tolist()}


sizes_strategy = st.lists(st.integers(1, 9), min_size=1, max_size=5)
equal_sizes = st.tuples(st.integers(1, 12), st.integers(1, 5)).map(lambda t: [t[0]] * t[1])
shares = st.tuples(*[st.integers(0, 10)] * 3).filter(any).map(lambda t: np.array(t) / sum(t))
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)


# ------------------------------------------------------------------ every training row


@few
@given(sizes_strategy, seeds)
def test_replace_trains_on_the_latest_model_alone(sizes, seed):
    training, _ = write(Replace(), sizes, seed=seed)
    for sets in training.values():
        assert [len(X) for X in sets] == sizes
        for g, X in enumerate(sets):
            assert (X[:, 0] == g).all()
            assert len(as_set(X)) == len(X)


@few
@given(sizes_strategy, seeds)
def test_accumulate_keeps_every_row(sizes, seed):
    training, _ = write(Accumulate(), sizes, seed=seed)
    for sets in training.values():
        for g, X in enumerate(sets):
            assert np.bincount(X[:, 0]).tolist() == sizes[: g + 1]
            assert len(as_set(X)) == len(X)
            if g:
                np.testing.assert_array_equal(X[: len(sets[g - 1])], sets[g - 1])


@few
@given(sizes_strategy, seeds)
def test_subsample_draws_from_everything_kept(sizes, seed):
    names = {"all": Accumulate(), "some": AccumulateSubsample()}
    training, _ = write(names, sizes, seed=seed)
    for (name, _), sets in training.items():
        for g, X in enumerate(sets):
            if name == "some":
                assert len(X) == sizes[g]
                assert len(as_set(X)) == len(X)
                assert X[:, 0].max() <= g
    # It chooses among the same real rows that Accumulate keeps.
    for r in range(2):
        real = as_set(training["all", r][0])
        for X in training["some", r]:
            assert as_set(X[X[:, 0] == 0]) <= real


def test_subsample_may_choose_any_kept_row():
    """Rows that one generation leaves out can come back: the pool is kept whole."""
    training, _ = write(AccumulateSubsample(), [4] * 40, n_replicates=1)
    sets = [as_set(X) for X in training["AccumulateSubsample", 0]]
    came_back = [row for g in range(1, 40) for row in sets[g] & sets[0] - sets[g - 1]]
    assert came_back


@few
@given(equal_sizes, shares, st.booleans(), seeds)
def test_mix_takes_its_shares_from_the_right_place(sizes, shares, redraw, seed):
    mix = Mix(*shares, redraw=redraw)
    training, _ = write(mix, sizes, seed=seed)
    n_model, n_previous, n_original = mix.counts(sizes[0])
    assert n_model + n_previous + n_original == sizes[0]
    for sets in training.values():
        original = as_set(sets[0])
        assert len(original) == sizes[0]
        for g, X in enumerate(sets[1:], start=1):
            new, old, kept = np.split(X, [n_model, n_model + n_previous])
            assert (new[:, 0] == g).all()
            assert len(as_set(new)) == n_model
            assert as_set(old) <= as_set(sets[g - 1])
            assert as_set(kept) <= original
            assert len(as_set(kept)) == n_original
            if not redraw:
                np.testing.assert_array_equal(kept, sets[0][:n_original])


@few
@given(sizes_strategy, st.floats(0, 1), seeds)
def test_fresh_data_never_shows_a_real_row_twice(sizes, fraction, seed):
    training, _ = write(FreshData(fraction), sizes, seed=seed)
    for sets in training.values():
        seen = set()
        for g, X in enumerate(sets):
            n_model, n_fresh = FreshData(fraction).counts(sizes[g]) if g else (0, sizes[0])
            assert np.isin(X[:, 0], [0, g]).all()
            real = as_set(X[X[:, 0] == 0])
            assert len(real) == n_fresh
            assert len(X) == n_model + n_fresh == sizes[g]
            assert abs(n_fresh - (fraction * sizes[g] if g else sizes[0])) <= 0.5
            assert not real & seen
            seen |= real


@few
@given(sizes_strategy, seeds)
def test_lineages_neither_share_rows_nor_train_on_what_measures_them(sizes, seed):
    names = {"r": Replace(), "a": Accumulate(), "s": AccumulateSubsample(), "f": FreshData(0.5)}
    training, samples = write(names, sizes, seed=seed)
    for lineage, key in enumerate(training):
        for g, X in enumerate(training[key]):
            assert (X[X[:, 0] > 0, 1] == lineage).all()
            assert not as_set(X) & set().union(*(as_set(s) for s in samples[key][: g + 1]))
    # Workflows start from the same real rows; replicates do not have to.
    for r in range(2):
        for name in names:
            np.testing.assert_array_equal(training[name, r][0], training["r", r][0])


def test_replicates_draw_their_own_real_rows():
    training, _ = write(Replace(), [20], n_real=1000)
    assert as_set(training["Replace", 0][0]) != as_set(training["Replace", 1][0])


# ------------------------------------------------------------------ counts


@given(shares, st.integers(1, 10**6))
@example(np.array([0.1, 0.2, 0.7]), 10)
@example(np.array([1 / 3, 1 / 3, 1 / 3]), 100)
@example(np.array([0.29, 0.0, 0.71]), 100)
def test_mix_counts_add_up_and_round_fairly(shares, n):
    counts = np.array(Mix(*shares).counts(n))
    assert counts.sum() == n
    assert (np.abs(counts - shares * n) < 1).all()
    assert (counts[shares == 0] == 0).all()


def test_mix_counts_use_largest_remainders():
    assert Mix(0.5, 0.25, 0.25).counts(5) == (3, 1, 1)
    assert Mix(0.1, 0.2, 0.7).counts(10) == (1, 2, 7)
    assert Mix(0.9, gamma=0.1).counts(100) == (90, 0, 10)
    assert Mix(0.5, gamma=0.5).counts(3) == (2, 0, 1)


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_fresh_counts_add_up(fraction, n):
    n_model, n_fresh = FreshData(fraction).counts(n)
    assert n_model + n_fresh == n
    assert abs(n_fresh - fraction * n) <= 0.5


# ------------------------------------------------------------------ values

ALL = [Replace(), Accumulate(), AccumulateSubsample(), Mix(0.5, 0.3, 0.2, False), FreshData(0.25)]


@pytest.mark.parametrize("workflow", ALL, ids=repr)
def test_workflows_are_frozen_values_that_print_as_they_are_made(workflow):
    assert eval(repr(workflow)) == workflow
    assert hash(eval(repr(workflow))) == hash(workflow)
    with pytest.raises(FrozenInstanceError):
        workflow.alpha = 0.1
    with pytest.raises(FrozenInstanceError):
        workflow.fraction = 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mix(-0.1, 0.6, 0.5), r"alpha must be a finite number in \[0, 1\], got -0.1"),
        (lambda: Mix(0.5, beta=1.5), r"beta must be a finite number in \[0, 1\], got 1.5"),
        (lambda: Mix(0.5, gamma="half"), r"gamma must be a finite number in \[0, 1\], got 'half'"),
        (lambda: Mix(float("nan")), "alpha must be a finite number .*, got nan"),
        (lambda: Mix(True), "alpha must be a finite number .*, got True"),
        (lambda: Mix(0.5), r"alpha \+ beta \+ gamma must be 1, got 0.5 \+ 0 \+ 0 = 0.5"),
        (lambda: Mix(0.5, 0.4, 0.3), "must be 1, got .* = 1.2"),
        (lambda: FreshData(1.01), r"fraction must be a finite number in \[0, 1\], got 1.01"),
        (lambda: FreshData(None), "fraction must be a finite number .*, got None"),
    ],
)
def test_bad_values_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("workflow", "sizes", "message"),
    [
        (
            Mix(0.5, gamma=0.5),
            [4, 4, 10],
            r"gamma=0.5 asks for 5 original rows in generation 3 \(n_samples=10\), "
            "but there are only 4",
        ),
        (
            Mix(0.2, beta=0.8),
            [10, 2, 10],
            r"beta=0.8 asks for 8 previous rows in generation 3 \(n_samples=10\), "
            "but there are only 2",
        ),
        (
            FreshData(0.5),
            [6, 6, 6],
            "fraction=0.5 needs 12 real rows over 3 generations, but data has 10; pass data as",
        ),
    ],
)
def test_impossible_plans_are_refused_before_any_fit(workflow, sizes, message):
    class NeverFits:
        def fit(self, X):
            raise AssertionError("must not be reached")

        sample = fit

    with pytest.raises(ValueError, match=message):
        recurse(
            NeverFits(),
            real_rows(10),
            workflow=workflow,
            n_samples=sizes,
            n_generations=3,
            rng=np.random.default_rng(0),
        )


def test_fresh_data_may_use_up_the_last_row():
    training, _ = write(FreshData(0.5), [6, 6, 6], n_real=12, n_replicates=1)
    real = np.concatenate([X[X[:, 0] == 0] for X in training["FreshData", 0]])
    assert as_set(real) == as_set(real_rows(12))


# ------------------------------------------------------------------ training sets


def test_training_sets_join_with_their_provenance():
    a, b = TrainingSet.of(np.arange(3), 0), TrainingSet.of(np.arange(2) + 10, 4)
    none = TrainingSet.of(np.arange(0), 2)
    joined = a + none + b
    assert joined.X.tolist() == [0, 1, 2, 10, 11]
    assert joined.origin.tolist() == [0, 0, 0, 4, 4]
    assert len(none + none) == 0
    assert joined[np.array([4, 0])].origin.tolist() == [4, 0]


def test_choosing_more_rows_than_there_are_is_refused():
    rows = TrainingSet.of(np.arange(3), 0)
    assert sorted(rows.choose(3, np.random.default_rng(0)).X) == [0, 1, 2]
    with pytest.raises(ValueError, match="cannot choose 4 rows out of 3 without replacement"):
        rows.choose(4, np.random.default_rng(0))
