import math

import numpy as np
import pytest
from rounding import CALL, assert_within, bound, sum_condition

from collapse_utils import Accumulate, Replace, recurse
from collapse_utils.definitions import DEFINITIONS, Ground, Pairs, judge
from collapse_utils.loop import Snapshot


def snapshot(training, generation=1):
    training = np.asarray(training, dtype=float)
    return Snapshot(generation, 0, "w", None, None, training, np.zeros(len(training)), training)


def test_the_world_is_a_distribution_with_modes_a_tail_and_nothing_else():
    ground = Ground(modes=(0.5, 0.3), n_rare=4, n_alien=3, n_numbers=2)
    # One minus the modes, in four parts: (1 + 0.8) / 0.2 = 9 times two roundings in both routes.
    law = [0.5, 0.3, 0.05, 0.05, 0.05, 0.05, 0, 0, 0]
    np.testing.assert_allclose(ground.p, law, rtol=bound(4, 9))
    rows = ground.draw(1000, np.random.default_rng(0))
    assert rows.shape == (1000, 3)
    assert rows[:, 0].max() == 5
    wrong = ground.wrong(1000, np.random.default_rng(0), shift=3)
    assert set(wrong[:, 0]) == {6, 7, 8}
    # 5 standard errors of a mean of 2000 standard normal numbers
    assert abs(wrong[:, 1:].mean() - 3) < 5 / math.sqrt(2000)
    np.testing.assert_array_equal(ground.likelihood(rows[:3]), ground.p[rows[:3, 0].astype(int)])


def test_measures_by_hand():
    ground = Ground(modes=(0.5, 0.3), n_rare=2, n_alien=2, n_numbers=2)
    rows = [[0, 1, 0], [0, 1, 2], [2, 1, 0], [4, 1, 2]]
    # Four rows: all shares are quarters, which nothing rounds.
    assert ground.measure(snapshot(rows)) == {
        "risk": 1.0, "diversity": 1 - 6 / 16, "modes": 1, "tail": 1, "alien": 0.25,
    }  # fmt: skip
    assert ground.measure(snapshot(rows, generation=0)) == {}


def test_the_model_writes_its_own_words_and_means():
    model = Pairs().fit(np.array([[3.0, 1.0, 5.0], [7.0, 3.0, 5.0]]))
    rows = model.sample(4000, np.random.default_rng(1))
    assert set(rows[:, 0]) == {3, 7}
    # 5 standard errors, each way
    assert rows[:, 1:].mean(axis=0) == pytest.approx([2, 5], abs=5 / math.sqrt(4000))


@pytest.fixture(scope="module")
def runs():
    ground = Ground()
    return [
        recurse(
            Pairs(),
            ground.draw,
            workflow={"replace": Replace(), "accumulate": Accumulate()},
            n_samples=rows,
            n_generations=30,
            n_replicates=60,
            n_eval=1,
            metrics={"ground": ground.measure},
            rng=np.random.default_rng(5),
        )
        for rows in (10, 40)
    ]


def test_definitions_and_workflows_disagree(runs):
    # Laws: risk G/M = 3 against less than 1.65/M; diversity (1 - 1/M)^(G - 1) = 0.047 of that of
    # generation 1 against more than 0.9. Each lies more than 5 standard errors from its threshold.
    replace = judge(*runs, "replace", n_samples=10, factor=4)
    accumulate = judge(*runs, "accumulate", n_samples=10, factor=4)
    assert list(replace) == list(accumulate) == list(DEFINITIONS)
    said = {name: (replace[name].verdict, accumulate[name].verdict) for name in DEFINITIONS}
    assert said["catastrophic increase of risk"] == ("yes", "no")
    assert said["diverging risk"] == ("yes", "no")
    assert said["collapsing variance"] == ("yes", "no")
    assert said["disappearing modes"] == ("yes", "no")
    assert said["disappearing tails"] == ("yes", "no")
    assert said["hallucinated data"] == ("no", "no")
    for answer in (*replace.values(), *accumulate.values()):
        assert math.isfinite(answer.value)
        assert answer.se >= 0


def test_values_are_those_of_the_runs(runs):
    answers = judge(*runs, "replace", n_samples=10, factor=4)
    risk, big = (run.array("risk", "replace") for run in runs)
    mean = bound(2 * (60 + 4))  # of 60 lineages, with a few factors, in both routes
    last = risk[30].mean()
    np.testing.assert_allclose(answers["catastrophic increase of risk"].value, last, rtol=mean)
    slope = 10 * (risk[30] - risk[15]).mean() / 15
    condition = sum_condition([risk[30], -risk[15]])
    np.testing.assert_allclose(answers["diverging risk"].value, slope, rtol=mean * condition)
    exponent = math.log(last / big[30].mean()) / math.log(4)
    rounded = 2 * mean + bound(2 * 3 * CALL) * abs(exponent)
    assert_within(answers["change in the scaling law"].value, exponent, rounded)
    diversity = runs[0].array("diversity", "replace")
    lost = 1 - diversity[30].mean() / diversity[1].mean()
    assert_within(answers["collapsing variance"].value, lost, 2 * mean + bound(2))


def test_an_answer_near_its_threshold_is_open():
    ground = Ground()
    few = [
        recurse(
            Pairs(), ground.draw, n_samples=rows, n_generations=4, n_replicates=3, n_eval=1,
            metrics={"ground": ground.measure}, rng=np.random.default_rng(2),
        )
        for rows in (10, 20)
    ]  # fmt: skip
    assert judge(*few, "Replace", n_samples=10, factor=2)["any increase of risk"].verdict == "open"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modes": (0.6, 0.4)}, "modes must be one or more probabilities with a sum below 1"),
        ({"modes": ()}, "modes must be one or more probabilities"),
        ({"modes": (-0.1,)}, "modes"),
        ({"n_rare": 0}, "n_rare"),
        ({"n_alien": -1}, "n_alien"),
        ({"n_numbers": 0}, "n_numbers"),
    ],
)
def test_ground_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ground(**arguments)


def test_a_ground_without_inventions_has_no_wrong_source():
    with pytest.raises(ValueError, match="n_alien must be an integer >= 1, got 0"):
        Ground(n_alien=0).wrong(1, np.random.default_rng(0))


def test_judge_refuses(runs):
    with pytest.raises(ValueError, match="factor"):
        judge(*runs, "replace", n_samples=10, factor=1)
    with pytest.raises(ValueError, match="workflow"):
        judge(*runs, "nobody", n_samples=10, factor=4)
    ground = Ground()
    short = recurse(
        Pairs(), ground.draw, workflow={"replace": Replace()}, n_samples=10, n_generations=3,
        n_replicates=2, n_eval=1, metrics={"ground": ground.measure}, rng=np.random.default_rng(0),
    )  # fmt: skip
    with pytest.raises(ValueError, match="same number of generations, at least 4, got 30 and 3"):
        judge(runs[0], short, "replace", n_samples=10, factor=4)
