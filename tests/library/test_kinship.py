"""The exact law of workflows against raw rows, closed forms and first orders.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always. Exact laws agree to the rounding of G
steps of a recursion that multiplies numbers below one: about G units in the last place.
"""

import time
from dataclasses import dataclass

import numpy as np
import pytest
from intervals import assert_mean
from rounding import CALL, assert_within, bound

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    kinship,
    lineages,
    recurse,
)
from collapse_utils.models.gaussian import Gaussian
from collapse_utils.workflows import Web


@dataclass(frozen=True)
class Crawl:
    "A web that keeps everything, that humans write into as well, and that is read in part."

    human: int

    def compose(self, sources, n_samples):
        web = sources.pool + sources.model(7) + sources.fresh(self.human)
        return web.choose(n_samples, sources.rng), web


@dataclass(frozen=True)
class Edited:
    "Each row of the previous training set is rewritten at random."

    share: float

    def compose(self, sources, n_samples):
        n_new = sources.rng.binomial(n_samples, self.share, sources.n_lineages)
        kept = sources.previous.choose(n_samples - n_new, sources.rng)
        return kept + sources.model(n_new), None


WORDS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
H0 = 1 - WORDS @ WORDS
#: Roundings of one generation: the terms of the recursion are positive and their errors add up.
STEP = 8
WORKFLOWS = {
    "replace": Replace(),
    "accumulate": Accumulate(),
    "subsample": AccumulateSubsample(),
    "fresh": FreshData(0.3),
    "archive": Mix(0.7, gamma=0.3),
    "replay": Mix(0.6, gamma=0.4, redraw=False),
    "previous": Mix(0.5, 0.3, 0.2),
    "crawl": Crawl(0),
    "crawl of human rows too": Crawl(2),
}
# Mix(0.6, gamma=0.4) keeps 4 original rows at sizes 9, 10 and 11.
SIZES = {"constant": [10] * 6, "schedule": [11, 9, 9, 10, 11, 10]}
cases = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
all_sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def known_noise(mean, var):
    return mean, np.ones_like(var)


# ------------------------------------------------------------------ against rows


@cases
@all_sizes
def test_kinship_is_the_law_of_raw_rows(workflow, sizes):
    how = {"n_samples": sizes, "n_generations": len(sizes)}
    raw = {"n_replicates": 8000, "rng": np.random.default_rng(1)} | how
    kin = kinship.of(workflow, **how)
    n = [1, 2, 3, len(sizes)]
    rows = lineages.Normal(ddof=0, rows=True)
    mean, var = lineages.record(lineages.generations(rows, (0.0, 1.0), workflow, **raw))
    assert_mean(mean[n] ** 2, kin[n])
    assert_mean(var[n], 1 - kin[n])
    known = lineages.generations(rows, (0.0, 1.0), workflow, **raw, write=known_noise)
    mean, _ = lineages.record(known)
    law, _ = kinship.moments(workflow, **how, write=known_noise)
    assert_mean(mean[n] ** 2, law[n])


def word_rows(n_lineages):
    "Words row by row: the fit is the training set and writing copies its rows."

    def draw(law, n, rng):
        if law.dtype.kind == "f":
            return rng.choice(len(WORDS), (n_lineages, n), p=WORDS)
        return np.take_along_axis(law, rng.integers(0, law.shape[1], (n_lineages, n)), axis=1)

    return lineages.RawRows(draw, lambda rows: rows)


@cases
@all_sizes
def test_words_lose_the_diversity_that_kinship_says(workflow, sizes):
    how = {"n_samples": sizes, "n_generations": len(sizes)}
    lost = kinship.of(workflow, **how)
    runs = lineages.generations(
        word_rows(8000), WORDS, workflow, n_replicates=8000, rng=np.random.default_rng(2), **how
    )
    next(runs)
    for n, rows in enumerate(runs, start=1):
        share = (rows[:, :, None] == np.arange(len(WORDS))).mean(axis=1)
        assert_mean(1 - (share**2).sum(axis=1), H0 * (1 - lost[n]))


@pytest.mark.parametrize(
    "workflow",
    [Web(0.2), Web(lambda g: 1 / g), Edited(0.3)],
    ids=["a fixed share", "a falling share", "edits"],
)
def test_numbers_of_rows_may_be_chance(workflow):
    how = {"n_samples": 12, "n_generations": 6, "rng": np.random.default_rng(3)}
    lost = kinship.of(workflow, n_samples=12, n_generations=6)
    var = recurse(
        Gaussian(0),
        lambda n, rng: rng.standard_normal(n),
        workflow=workflow,
        n_replicates=2000,
        n_eval=1,
        metrics={"var": lambda s: s.model.cov_[0, 0] if s.model else 1.0},
        **how,
    ).array("var")
    assert_mean(var[[2, 6]], 1 - lost[[2, 6]])
    words = lineages.generations(lineages.Words(), WORDS, workflow, n_replicates=8000, **how)
    assert_mean([w.diversity for w in words][6], H0 * (1 - lost[6]))


@dataclass(frozen=True)
class Weighted:
    "Fresh rows with weight w as a whole, rows of the model with 1 - w."

    n_real: int
    n_model: int
    weight: float

    def compose(self, sources, n_samples):
        real = sources.fresh(self.n_real) * (self.weight / self.n_real)
        model = sources.model(self.n_model) * ((1 - self.weight) / self.n_model)
        return real + model, None


@pytest.mark.parametrize("bias", [1.0, 0.8])
def test_weights_and_biased_writing(bias):
    workflow = Weighted(8, 20, 0.3)
    how = {"n_samples": 8, "n_generations": 6}
    square, var = kinship.moments(workflow, **how, write=lambda mean, var: (mean, bias * var))
    raw = {"n_replicates": 20_000, "rng": np.random.default_rng(5)} | how
    runs = lineages.generations(
        lineages.Normal(0), (0.0, 1.0), workflow, **raw, write=lambda m, v: (m, bias * v)
    )
    mean, fitted = lineages.record(runs)
    n = [1, 2, 6]
    assert_mean(mean[n] ** 2, square[n])
    assert_mean(fitted[n], var[n])
    if bias == 1:
        assert_within(square + var, 1, bound(2 * STEP * 6))
        words = list(lineages.generations(lineages.Words(), WORDS, workflow, **raw))
        assert_mean([words[g].diversity for g in n], H0 * (1 - square[n]))


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_mutation(share):
    other = np.array([0.1, 0.1, 0.1, 0.2, 0.5])

    def smoothed(words):
        return (1 - share) * words.p + share * other

    how = {"n_samples": 15, "n_generations": 8, "write": smoothed}
    law = list(kinship.expected(WORDS, FreshData(0.2), **how))
    raw = {"n_replicates": 20_000, "rng": np.random.default_rng(6)}
    words = list(lineages.generations(lineages.Words(), WORDS, FreshData(0.2), **how, **raw))
    for n in (2, 8):
        assert_mean(words[n].diversity, law[n - 1].diversity)
        assert_mean(words[n].p, law[n - 1].mean, axis=0)


# ------------------------------------------------------------------ closed forms


def test_closed_forms():
    m, g = 20, 60
    n = np.arange(g + 1)
    how = {"n_samples": m, "n_generations": g}
    error = bound(STEP * n + CALL)  # absolute, of numbers up to one
    square, var = kinship.moments(**how)
    assert_within(var, (1 - 1 / m) ** n, error)
    assert_within(square + var, 1, error)
    square, var = kinship.moments(**how, ddof=1)
    assert_within(var, 1, (1 + n / m) * error)
    assert_within(square, n / m, (1 + n / m) * error)
    sizes = [20, 30, 25, 10]
    clock, _ = kinship.moments(n_samples=sizes, n_generations=4, ddof=1)
    assert_within(clock, [0, *np.cumsum(1 / np.array(sizes))], bound(STEP * 4))
    pooled = np.concatenate([[1.0], np.cumprod(1 - 1 / (m * n[1:] ** 2.0))])
    assert_within(1 - kinship.of(Accumulate(), **how), pooled, error)
    # Without refitted noise, replace and accumulate have no higher order.
    for workflow, law in ((Replace(), n), (Accumulate(), np.cumsum(1 / np.maximum(n, 1) ** 2) - 1)):
        square, _ = kinship.moments(workflow, **how, write=lambda mean, var: (mean, 1.0))
        assert_within(m * square[1:], law[1:], bound(2 * STEP * n[1:]) * law[1:])


def test_limits_are_fixed_points():
    m, k = 40, 6
    a = m - k
    how = {"n_samples": m, "n_generations": 2000}

    def archive(n):
        return (m + 2 * a * k / n) / (m**2 - a * (a - 1))

    # A generation hands on at most a/m of the error before it; a replay carries two numbers.
    settled = bound(2 * STEP / (1 - a / m))
    for workflow, limit in (
        (FreshData(k / m), 1 / (1 + 2 * k - k * (k + 1) / m)),
        (Mix(1 - k / m, gamma=k / m, redraw=False), archive(k)),
        (Mix(1 - k / m, gamma=k / m), archive(m)),
    ):
        assert_within(kinship.of(workflow, **how)[-1], limit, settled * limit)


def test_first_order_of_a_fixed_budget():
    n = np.arange(1, 51)
    kin = kinship.of(AccumulateSubsample(), n_samples=10**7, n_generations=50)[1:]
    law = 3 * np.cumsum(1.0 / n**2) - 2
    # Chances of meeting that add up to x leave 1 - exp(-x) > x - x^2 / 2.
    assert_within(1e7 * kin, law, law**2 / 2e7 + bound(2 * STEP * n) * law)


def test_a_long_run_costs_no_more_per_generation():
    def seconds(n_generations):
        before = time.process_time()
        kinship.of(AccumulateSubsample(), n_samples=10, n_generations=n_generations)
        return time.process_time() - before

    seconds(10)
    # Samples that nobody asks about any more are forgotten; otherwise the factor would be 64.
    assert min(seconds(1600) for _ in range(3)) < 24 * min(seconds(200) for _ in range(3))


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kinship.of(n_samples=0, n_generations=2), "n_samples must be"),
        (lambda: kinship.of(n_samples=5, n_generations=0), "n_generations must be"),
        (lambda: kinship.of(object(), n_samples=5, n_generations=2), "workflow must have compose"),
        (lambda: kinship.moments(n_samples=5, n_generations=2, ddof=2), "ddof must be"),
        (
            lambda: kinship.moments(n_samples=1, n_generations=2, ddof=1),
            "n_samples must be an integer >= 2",
        ),
        (
            lambda: kinship.of(Mix(0.5, 0.5), n_samples=[2, 8], n_generations=2),
            "beta=0.5 asks for 4 previous rows",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
