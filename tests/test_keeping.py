"""Kinship recursions, mixtures and the abstaining family: exact laws against raw simulation.

Every statistical check may raise a false alarm with probability ALARM, split over its points;
seeds are fixed, so a check that passes once passes always.
"""

import numpy as np
import pytest
from intervals import ALARM, assert_mean
from rounding import CALL, assert_within, bound
from scipy import special, stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    categorical,
    gaussian,
    keeping,
    recurse,
)

WORDS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
WORKFLOWS = {
    "replace": Replace(),
    "accumulate": Accumulate(),
    "subsample": AccumulateSubsample(),
    "fresh": FreshData(0.3),
    "archive": Mix(0.7, gamma=0.3),
    "replay": Mix(0.6, gamma=0.4, redraw=False),
}
# Mix(0.6, gamma=0.4) keeps 4 original rows at sizes 9, 10 and 11.
SIZES = {"constant": [10] * 6, "schedule": [11, 9, 9, 10, 11, 10]}
cases = pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
#: Roundings of one generation of a recursion: its terms are positive, so their errors only add up.
STEP, STEP_OF_A_POOL = 6, 12
all_sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


# ------------------------------------------------------------------ kinship


@cases
@all_sizes
def test_kinship_is_the_law_of_raw_rows(workflow, sizes):
    how = {"n_samples": sizes, "n_generations": len(sizes)}
    raw = {"n_replicates": 8000, "rng": np.random.default_rng(1)} | how
    kin = keeping.kinship(workflow, **how)
    bells = keeping.simulate_gaussian(workflow, **raw)
    texts = keeping.simulate_words(WORDS, workflow, **raw)
    n = [1, 2, 3, len(sizes)]
    assert_mean(bells.mean[n] ** 2, kin[n])
    assert_mean(bells.var[n], 1 - kin[n])
    assert_mean(texts.heterozygosity[n] / (1 - WORDS @ WORDS), 1 - kin[n])
    known = keeping.simulate_gaussian(workflow, **raw, refit=False)
    assert_mean(known.mean[n] ** 2, keeping.kinship(workflow, **how, refit=False)[n])


@cases
def test_raw_rows_have_the_law_of_the_loop(workflow):
    how = {"n_samples": 10, "n_generations": 5}
    rng = np.random.default_rng(2)
    fast = keeping.simulate_gaussian(workflow, **how, n_replicates=4000, rng=rng)
    loop = recurse(
        gaussian.Gaussian(0),
        lambda n, rng: rng.standard_normal(n),
        workflow=workflow,
        n_replicates=800,
        n_eval=1,
        metrics={"var": lambda s: s.model.cov_[0, 0] if s.model else 1.0},
        rng=rng,
        **how,
    ).array("var")
    assert stats.ks_2samp(fast.var[-1], loop[-1]).pvalue > ALARM


def test_kinship_agrees_with_the_older_laws():
    n = np.arange(31)
    how = {"n_samples": 20, "n_generations": 30}
    error = bound((STEP + 3) * n + CALL + 2)  # absolute, as laws up to one are taken from one
    for workflow, law in (
        (Replace(), gaussian.expected_mean_square(n, 20, ddof=0)),
        (Accumulate(), 1 - gaussian.accumulate_var(n, 20)),
    ):
        assert_within(keeping.kinship(workflow, **how), law, error)
    sizes = [20, 30, 25, 10]
    for workflow in (Replace(), Accumulate(), FreshData(0.4)):
        law = categorical.expected_heterozygosity(
            WORDS, n_samples=sizes, n_generations=4, workflow=workflow
        )
        kin = keeping.kinship(workflow, n_samples=sizes, n_generations=4)
        assert_within((1 - WORDS @ WORDS) * (1 - kin), law, bound(2 * STEP * 4 + 2 * len(WORDS)))


def test_first_order_laws():
    n = np.array([0, 1, 2, 5, 50])
    m = 10**7
    how = {"n_samples": m, "n_generations": 50}
    for workflow, law in (
        (Replace(), n),
        (Accumulate(), keeping.square_sum(n)),
        (AccumulateSubsample(), keeping.subsample_growth(n)),
    ):
        # Chances of meeting that add up to x leave 1 - exp(-x) > x - x^2 / 2.
        next_order = law**2 / (2 * m)
        kin = m * keeping.kinship(workflow, **how)[n]
        assert_within(kin, law, next_order + bound(STEP_OF_A_POOL * n) * law)
    # Without refit, replace and accumulate have no higher order.
    how["n_samples"] = 3
    for workflow, law in ((Replace(), n), (Accumulate(), keeping.square_sum(n))):
        kin = 3 * keeping.kinship(workflow, **how, refit=False)[n]
        assert_within(kin, law, bound(2 * STEP * n) * law)
    far = 1000
    rest = special.polygamma(1, far + 1)  # the terms beyond
    error = bound(far + CALL, np.pi**2 / 6)
    assert_within(keeping.square_sum(far) + rest, np.pi**2 / 6, error)
    assert_within(keeping.subsample_growth(far) + 3 * rest, np.pi**2 / 2 - 2, 3 * error)
    # The table of the variance ratio by its other form, 2 - 1/n + sum (2 - 1/(i-1)) / i^2.
    i = np.arange(2, 51)
    other = 2 - 1 / 50 + ((2 - 1 / (i - 1)) / i**2).sum()
    assert_within(keeping.subsample_growth(50), other, bound(2 * 50 + STEP, 3 * np.pi**2 / 6))


def test_limits_are_fixed_points():
    m, k = 40, 6
    how = {"n_samples": m, "n_generations": 2000}
    share, a = k / m, m - k
    # A generation hands on at most a/m of the error of the one before, so errors end at
    # STEP / (1 - a/m); a replay carries two quantities.
    settled = bound(2 * STEP / share)
    fresh, replayed = keeping.fresh_limit(m, k), keeping.archive_limit(m, k)
    for workflow, limit in (
        (FreshData(share), fresh),
        (Mix(1 - share, gamma=share, redraw=False), replayed),
        (Mix(1 - share, gamma=share), keeping.archive_limit(m, k, m)),
    ):
        assert_within(keeping.kinship(workflow, **how)[-1], limit, settled * limit)
    large = 10**12
    law = fresh * (1 + 2 * a * k / (m * large))
    assert_within(keeping.archive_limit(m, k, large), law, bound(2 * STEP) * law)
    assert keeping.archive_limit(m, m) == keeping.fresh_limit(m, m) == 1 / m
    assert_within(keeping.fresh_limit(large, 1), (1 + 2 / (3 * large)) / 3, bound(2 * STEP) / 3)
    v, drift = gaussian.fresh_data_equilibrium(m, share)
    condition = (1 + (a / m) ** 2 + a / m**2) / (1 - (a / m) ** 2 + a / m**2)
    assert_within([1 - v, drift], fresh, bound(2 * STEP, condition) * fresh + bound(2))


def test_choose_takes_rows_without_replacement_and_evenly():
    rng = np.random.default_rng(3)
    rows = np.tile(np.arange(6), (20_000, 1))
    picked = keeping.choose(rows, 2, rng)
    assert (picked[:, 0] != picked[:, 1]).all()
    counts = np.bincount(picked.ravel(), minlength=6)
    assert stats.chisquare(counts).pvalue > ALARM
    assert keeping.choose(rows, 6, rng) is rows
    pairs = keeping.choose(np.stack([rows, -rows], axis=2), 3, rng)
    assert pairs.shape == (20_000, 3, 2)
    np.testing.assert_array_equal(pairs[..., 0], -pairs[..., 1])


def test_accumulation_keeps_every_word_of_the_first_sample():
    run = keeping.simulate_words(
        WORDS,
        Accumulate(),
        n_samples=8,
        n_generations=10,
        n_replicates=200,
        rng=np.random.default_rng(4),
    )
    assert (run.alive[1:] == run.alive[1]).all()
    assert (run.alive[1] < len(WORDS)).any()


# ------------------------------------------------------------------ weighted mixtures


@pytest.mark.parametrize("weight", [None, 0.3, 1.0])
@pytest.mark.parametrize("bias", [1.0, 0.8])
def test_moments_of_mixtures(weight, bias):
    how = {"n_real": 8, "n_model": 20, "n_generations": 6, "weight": weight}
    v, s = keeping.mixed_moments(**how, bias=bias)
    raw = {"n_replicates": 20_000, "rng": np.random.default_rng(5)} | how
    paths = keeping.mixed_gaussian(**raw, bias=bias)
    n = [1, 2, 6]
    assert_mean(paths.mean[n] ** 2, v[n])
    assert_mean(paths.var[n], s[n])
    if bias == 1:
        assert_within(v + s, 1, bound(2 * STEP * 6))
        assert_mean(keeping.mixed_words(WORDS, **raw)[n], (1 - WORDS @ WORDS) * (1 - v[n]))


def test_pooling_is_the_fresh_data_workflow():
    v, s = keeping.mixed_moments(n_real=6, n_model=14, n_generations=10)
    sizes = [6, *[20] * 9]
    kin = keeping.kinship(FreshData(0.3), n_samples=sizes, n_generations=10)
    assert_within(v, kin, bound(2 * STEP * 10) * kin)
    assert_within(s, 1 - v, bound(2 * STEP * 10))


@pytest.mark.parametrize("ratio", [0.5, 1, 10])
def test_golden_weight_is_the_minimum_and_equals_it(ratio):
    best = keeping.golden_weight(ratio)

    def loss(w):
        return (w**2 + (1 - w) ** 2 / ratio) / (1 - (1 - w) ** 2)

    def error(w):
        "Taking (1 - w)^2 from one loses digits."
        return bound(2 * STEP, 2 / (1 - (1 - w) ** 2)) * loss(w)

    assert_within(loss(best), best, error(best))
    w = np.linspace(0.01, 1, 100_000)
    assert (loss(w) >= best - error(w)).all()
    n = 10**6
    how = {"n_real": n, "n_model": round(ratio * n), "n_generations": 500, "weight": best}
    settled = bound(STEP / (1 - (1 - best) ** 2))
    # The model's variance is 1 - best / n, not one.
    assert_within(n * keeping.mixed_moments(**how)[0][-1], best, best * (best / n + 2 * settled))


def test_golden_weight_of_one_is_the_golden_section():
    assert_within(keeping.golden_weight(1), (np.sqrt(5) - 1) / 2, bound(2 * STEP))


@pytest.mark.parametrize("bias", [1.0, 0.9])
@pytest.mark.parametrize("n_model", [0, 30, 1000])
def test_first_order_risk_is_close_for_large_samples(bias, n_model):
    how = {"n_real": 500, "n_model": n_model, "n_generations": 40, "bias": bias}
    paths = keeping.mixed_gaussian(**how, n_replicates=20_000, rng=np.random.default_rng(6))
    risk = paths.w2()[-1]
    law = keeping.mixed_risk(**how)[-1]
    # The delta method leaves relative errors of the order of 1/n_real.
    width = stats.norm.isf(ALARM / 2) * risk.std() / np.sqrt(len(risk)) + law * 2 / 500
    assert abs(risk.mean() - law) < width


def test_first_order_risk_holds_far_from_the_true_variance():
    how = {"n_real": 500, "n_model": 500, "n_generations": 8, "bias": 0.5}
    paths = keeping.mixed_gaussian(**how, n_replicates=400_000, rng=np.random.default_rng(9))
    risk = paths.w2()[-1]
    law = keeping.mixed_risk(**how)[-1]
    spread = keeping.mixed_moments(**how)[1][-1]
    assert spread < 0.7
    # What the finite sample adds is of order 1/n_real; the next order is smaller by as much.
    next_order = (law - (1 - np.sqrt(spread)) ** 2) * 2 / 500
    width = stats.norm.isf(ALARM / 2) * risk.std() / np.sqrt(len(risk)) + next_order
    assert abs(risk.mean() - law) < width


# ------------------------------------------------------------------ the abstaining family


def test_hesitant_chooses_the_more_likely_model():
    rng = np.random.default_rng(7)
    real = rng.random(100)
    model = keeping.Hesitant().fit(real)
    assert not model.bad_
    assert model.top_ == real.max()
    assert keeping.Hesitant().fit(np.append(real, np.nan)).bad_
    # An abstention in three from a model whose answers reach only to 1/4: half is more likely.
    low = np.append(np.full(2, 0.25), np.nan)
    likelihood = {False: 0.25**-1.0 * (1 - 0.25**0.5), True: 0.5}
    assert keeping.Hesitant().fit(low).bad_ == (likelihood[True] > likelihood[False])


def test_hesitant_writes_what_it_says():
    rng = np.random.default_rng(8)
    good = keeping.Hesitant().fit(np.array([0.1, 0.49]))
    rows = good.sample(20_000, rng)
    answers = rows[~np.isnan(rows)]
    assert stats.binomtest(len(answers), len(rows), 0.7).pvalue > ALARM
    assert stats.kstest(answers, stats.uniform(0, 0.49).cdf).pvalue > ALARM
    points = np.append(rng.random(7), np.nan)
    bad = keeping.Hesitant().fit(points)
    assert bad.bad_
    rows = bad.sample(40_000, rng)
    answers = rows[~np.isnan(rows)]
    assert stats.binomtest(len(answers), len(rows), 0.5).pvalue > ALARM
    cells = np.unique((answers * 28).astype(int))
    assert len(cells) == 14  # a set of total length one half ...
    assert set((points[:7] * 28).astype(int)) <= set(cells)  # ... that holds the data


def test_accumulation_does_not_save_the_hesitant():
    n_replicates = 500
    bad = recurse(
        keeping.Hesitant(),
        lambda n, rng: rng.random(n),
        workflow=Accumulate(),
        n_samples=300,
        n_generations=4,
        n_replicates=n_replicates,
        n_eval=1,
        metrics={"bad": lambda s: float(s.model.bad_) if s.model else 0.0},
        rng=np.random.default_rng(9),
    ).array("bad")
    assert (bad[1] == 0).all()
    for n in (2, 4):
        law = keeping.hesitant_collapse(n)
        assert stats.binomtest(int(bad[n].sum()), n_replicates, float(law)).pvalue > ALARM / 2


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keeping.kinship(n_samples=0, n_generations=2), "n_samples must be"),
        (lambda: keeping.kinship(n_samples=5, n_generations=0), "n_generations must be"),
        (lambda: keeping.kinship(object(), n_samples=5, n_generations=2), "workflow must be"),
        (
            lambda: keeping.kinship(Mix(0.5, 0.5), n_samples=5, n_generations=2),
            "workflow must be .* beta=0",
        ),
        (
            lambda: keeping.kinship(
                Mix(0.5, gamma=0.5, redraw=False), n_samples=[20, 10, 20], n_generations=3
            ),
            "n_samples must keep the same number",
        ),
        (
            lambda: keeping.simulate_gaussian(
                Mix(0.2, 0.8),
                n_samples=5,
                n_generations=2,
                n_replicates=2,
                rng=np.random.default_rng(0),
            ),
            "workflow must be",
        ),
        (
            lambda: keeping.simulate_gaussian(
                n_samples=5, n_generations=2, n_replicates=2, rng=np.random
            ),
            "rng must be",
        ),
        (lambda: keeping.fresh_limit(10, 0), "n_real must be"),
        (lambda: keeping.fresh_limit(10, 11), "n_real must be"),
        (lambda: keeping.archive_limit(10, 5, 4), "archive must be"),
        (lambda: keeping.golden_weight(0), "ratio must be"),
        (
            lambda: keeping.mixed_moments(n_real=5, n_model=5, n_generations=2, weight=0.0),
            "weight must be",
        ),
        (
            lambda: keeping.mixed_moments(n_real=5, n_model=5, n_generations=2, bias=1.5),
            "bias must be",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
