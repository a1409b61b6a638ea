"""Four recipes against their exact laws, remedies, and a workflow of the same kind.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points. Seeds are fixed, so a check that passes once passes always.
"""

from functools import partial

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import Replace, metrics, neighbours, recurse
from collapse_utils.lineages import Words, generations
from collapse_utils.models import words
from collapse_utils.models.gaussian import Gaussian
from collapse_utils.neighbours import COLLAPSE, FORGETTING, HEALTHY, NewTask, Recipe
from collapse_utils.workflows import Poisoned

WORLD = neighbours.zipf_world(4)
ATTACKED = Recipe(real=0.9, planted=0.1)
RUN = {"n_samples": 40, "n_generations": 12, "n_replicates": 2000, "rate": 0.4}

# A mean of up to 8000 numbers below one, which a point that does not vary must meet.
first_axis = partial(assert_mean, axis=0, rounding=bound(8000))


def error(path, world=WORLD):
    return ((path - world.truth) ** 2).sum(axis=-1)


RECIPES = {
    "healthy": HEALTHY,
    "forgetting": FORGETTING,
    "poisoning": ATTACKED,
    "collapse": COLLAPSE,
    "everything": Recipe(real=0.1, task=0.3, planted=0.2, own=0.4),
    "collapse, 20 % real": COLLAPSE.with_real(0.2),
}


@pytest.mark.parametrize("name", RECIPES)
def test_mean_and_error_follow_the_exact_law(name):
    path = neighbours.simulate(WORLD, RECIPES[name], rng=np.random.default_rng(1), **RUN)
    mean, squared = neighbours.expected(
        WORLD, RECIPES[name], n_samples=40, n_generations=12, rate=0.4
    )
    for g in (1, 2, 12):
        first_axis(path[g], mean[g])
        first_axis(error(path[g]), squared[g])


def test_closed_forms_of_the_law():
    run = {"n_samples": 50, "n_generations": 30, "rate": 0.3}
    h, n = 1 - WORLD.truth @ WORLD.truth, np.arange(1, 31)
    # A dozen roundings and two sums over the symbols a generation, in units of one.
    error = bound((12 + 2 * len(WORLD.truth)) * n + CALL)
    lost = neighbours.expected(WORLD, COLLAPSE, **run)[1][1:]
    assert_within(lost, h * (1 - (1 - 1 / 50) * (1 - 0.09 / 50) ** (n - 1)), error)
    mean = neighbours.expected(WORLD, FORGETTING, **run)[0][1:]
    assert_within(mean[:, ~WORLD.task].sum(axis=1), 0.5 * 0.7 ** (n - 1), error)
    target = WORLD.truth[WORLD.target]
    fresh = neighbours.expected(WORLD, ATTACKED, **run)[0][1:, WORLD.target]
    assert_within(fresh, target + 0.1 * (1 - target) * (1 - 0.7 ** (n - 1)), error)
    closed = neighbours.expected(WORLD, Recipe(own=0.9, planted=0.1), **run)[0][1:, WORLD.target]
    assert_within(closed, 1 - (1 - target) * (1 - 0.3 * 0.1) ** (n - 1), error)


def test_rate_one_is_the_wright_fisher_loop():
    ours = neighbours.simulate(
        WORLD, COLLAPSE, n_samples=30, n_generations=10, n_replicates=500,
        rng=np.random.default_rng(2),
    )  # fmt: skip
    *_, theirs = generations(
        Words(), WORLD.truth, n_samples=30, n_generations=10, n_replicates=500,
        rng=np.random.default_rng(3),
    )  # fmt: skip
    h = 1 - (ours[10] ** 2).sum(axis=1)
    assert stats.ks_2samp(h, theirs.diversity).pvalue > ALARM


def far(recipe, **remedy):
    """Mean distance from the truth at generation 200, and its standard error."""
    path = neighbours.simulate(
        WORLD, recipe, n_samples=200, n_generations=200, n_replicates=40, rate=0.5,
        rng=np.random.default_rng(4), **remedy,
    )  # fmt: skip
    tv = metrics.total_variation(path[-1], WORLD.truth)
    return tv.mean(), tv.std(ddof=1) / np.sqrt(len(tv))


def assert_nearer(a, b):
    """Two-sample z-test at the level ALARM that a is smaller."""
    assert (b[0] - a[0]) / np.hypot(a[1], b[1]) > stats.norm.isf(ALARM), (a, b)


def test_each_remedy_helps_its_own_illness():
    assert_nearer(far(FORGETTING, replay=True), far(FORGETTING))
    assert_nearer(far(ATTACKED, n_sources=10), far(ATTACKED))
    assert_nearer(far(COLLAPSE.with_real(0.1)), far(COLLAPSE))
    assert_nearer(far(COLLAPSE), far(COLLAPSE, n_sources=10))  # trimming makes collapse worse
    assert_nearer(far(FORGETTING, replay=True), far(FORGETTING, replay=5))


def test_a_short_memory_ends_with_the_old_task_gone():
    path = neighbours.simulate(
        WORLD, FORGETTING, n_samples=100, n_generations=6, n_replicates=5, replay=3,
        rng=np.random.default_rng(5),
    )  # fmt: skip
    old = path[:, :, ~WORLD.task].sum(axis=2)
    assert (old[2:4] > 0.3).all()
    assert (old[4:] == 0).all()
    assert_within(path.sum(axis=2), 1, bound(2 * path.shape[2]))


def test_trimming_throws_an_attacker_out():
    """One source in ten, all of its rows planted, and no honest row is the target."""
    world = neighbours.World(np.array([0.3, 0.3, 0.4, 0.0]), np.arange(4) < 2, 3)
    run = {"n_samples": 100, "n_generations": 5, "n_replicates": 20}
    rng = np.random.default_rng(6)
    assert (neighbours.simulate(world, ATTACKED, rng=rng, **run)[2:, :, 3] == 0.1).all()
    cured = neighbours.simulate(world, ATTACKED, rng=rng, n_sources=10, trim=0.1, **run)
    assert (cured[2:, :, 3] == 0).all()
    assert_within(cured.sum(axis=2), 1, bound(2 * cured.shape[2]))


@pytest.mark.parametrize("n", [2, 5, 9])
def test_regressions_forget_by_the_exact_law(n):
    errors = neighbours.forget_regression(10, n, 8000, np.random.default_rng(n))
    first_axis(errors, neighbours.forgetting_law(n / 10, 10))


def test_regressions_that_replay_forget_nothing():
    d, r = 10, 200
    errors = neighbours.forget_regression(d, d // 2, r, np.random.default_rng(0), replay=True)
    # What a solver leaves of the labels X w is d roundings of X X' times its solution, at most
    # |w| = 1 over the smallest singular value: some of ten rows in ten dimensions nearly agree.
    rows = np.concatenate(np.random.default_rng(0).standard_normal((2, r, d // 2, d)), axis=1)
    left = bound(4 * d, np.linalg.cond(rows)) * np.linalg.norm(rows, 2, axis=(1, 2))
    assert_within(errors, 0, left**2)


def test_forgetting_is_seen_by_least_squares_too():
    """The same two fits by numpy's own least-norm solver."""
    rng = np.random.default_rng(8)
    d, n = 6, 3
    first, second = rng.standard_normal((2, n, d))
    target = rng.standard_normal(d)
    target /= np.linalg.norm(target)
    w = np.linalg.lstsq(first, first @ target, rcond=None)[0]
    w = w + np.linalg.lstsq(second, second @ (target - w), rcond=None)[0]
    ours = neighbours.fit_in_turn([first, second], target[:, None])
    condition = np.linalg.cond(first) ** 2 + np.linalg.cond(second) ** 2  # we solve with X X'
    assert_within(ours[:, 0], w, bound(4 * d, condition))  # of weights of length one


def test_a_new_task_composes_what_it_promises():
    seen = []
    task = NewTask(lambda n, rng: np.full(n, 5.0) + rng.random(n), memory=0.5, replay=0.2)
    recurse(
        Gaussian(),
        np.linspace(0, 1, 100),
        workflow=task,
        n_generations=3,
        metrics={"m": lambda s: seen.append((s.training, s.origin)) or 0.0},
        rng=np.random.default_rng(9),
    )
    rows, origin = seen[-1]
    assert len(rows) == 100
    assert (origin == 0).all()
    assert 30 <= (rows >= 5).sum() <= 60


def test_poisoned_loop_has_the_law_of_the_recipe():
    """Rate one: `recurse` with Categorical against the exact mean."""
    history = recurse(
        words.Categorical(8),
        lambda n, rng: rng.choice(8, n, p=WORLD.truth),
        workflow=Poisoned(Replace(), lambda n, rng: np.full(n, WORLD.target), 0.2),
        n_samples=50, n_generations=6, n_replicates=200, n_eval=1, rng=np.random.default_rng(10),
        metrics={"target": lambda s: np.mean(s.training == WORLD.target)},
    )  # fmt: skip
    law = neighbours.expected(WORLD, Recipe(own=0.8, planted=0.2), n_samples=50, n_generations=6)[
        0
    ][1:, WORLD.target]
    first_axis(history.array("target")[1:].T, law)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Recipe(real=0.5), "must be 1, got 0.5"),
        (lambda: Recipe(real=-0.5, own=1.5), "real must be"),
        (lambda: neighbours.World(np.ones(2) / 2, np.array([1, 0]), 0), "task must be true"),
        (lambda: neighbours.World(np.ones(2) / 2, np.array([True, True]), 0), "some of the mass"),
        (lambda: neighbours.World(np.ones(2) / 2, np.array([True, False]), 2), "target must be"),
        (lambda: neighbours.zipf_world(1), "n_symbols must be an integer >= 2"),
        (lambda: NewTask(len, memory=0.7, replay=0.7), "at most 1, got 0.7"),
        (lambda: neighbours.forget_regression(4, 4, 1, np.random.default_rng(0)), "n_rows must"),
        (lambda: far(COLLAPSE, n_sources=7), "n_sources must divide"),
        (lambda: far(COLLAPSE, n_sources=10, replay=True), "replay must be off"),
        (lambda: far(COLLAPSE, replay=0), "replay must be an integer >= 1"),
    ],
)
def test_errors_name_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call()
