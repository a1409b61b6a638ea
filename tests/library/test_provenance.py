"""Detectors between the web and the training set: exact laws against loops over rows.

Statistical tests: two-sided normal intervals at a false-alarm rate of 1e-5 each (Z), fixed seeds.
"""

import numpy as np
import pytest
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import kinship, recurse
from collapse_utils import provenance as pv
from collapse_utils.models.words import Categorical
from collapse_utils.workflows import Detected, NoisyDetector, Sources, TrainingSet, Web

Z = stats.norm.isf(0.5e-5)


def close(measured, law, se):
    assert se > 0
    assert abs(measured - law) < Z * se, (measured, law, se)


def mean_se(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def sources(seed=0, generation=5, pool=None):
    rng = np.random.default_rng(seed)
    real = TrainingSet.of(np.zeros(100), 0)
    return Sources(
        generation=generation,
        model=lambda n: TrainingSet.of(np.ones(n), generation - 1),
        fresh=lambda n: TrainingSet.of(np.zeros(n), 0),
        original=real,
        previous=real,
        pool=real if pool is None else pool,
        rng=rng,
    )


# ------------------------------------------------------------------- filtering


@pytest.mark.parametrize(("m", "t", "f"), [(0.02, 0.9, 0.05), (0.3, 0.5, 0.4), (0.1, 0.0, 0.5)])
def test_the_share_that_passes_is_bayes_rule(m, t, f):
    workflow = Detected(Web(m), NoisyDetector(t, f))
    n = 40_000
    rows, _ = workflow.compose(sources(), n)
    law = float(pv.filtered_share(m, t, f))
    assert len(rows) == n
    close((rows.origin == 0).mean(), law, np.sqrt(law * (1 - law) / n))
    np.testing.assert_array_equal(rows.X, rows.origin > 0)  # rows and provenance stay together


def test_filtered_share_at_its_ends():
    assert_within(pv.filtered_share(0.2, 0.0, 0.0), 0.2, bound(8, 0.2))
    assert pv.filtered_share(0.2, 1.0, 0.3) == 1
    assert_within(pv.filtered_share(0.2, 0.5, 0.5), 0.2, bound(8, 0.2))  # a coin
    assert pv.filtered_share(0.02, 0.0, 0.05) < 0.02  # errs on humans only: it does harm
    by_hand = np.array([0.019 / (0.019 + 0.49), 0.019 / (0.019 + 0.098)])
    assert_within(pv.filtered_share(0.02, [0.5, 0.9], 0.05), by_hand, bound(10) * by_hand)
    with pytest.raises(ValueError, match="must let some rows pass"):
        pv.filtered_share(0.0, 1.0)
    with pytest.raises(ValueError, match=r"true_positive must lie in \[0, 1\]"):
        pv.filtered_share(0.1, 1.2)


@pytest.mark.parametrize("ages", [False, True])
def test_diversity_of_the_filtered_loop_over_rows(ages):
    p, size, generations, replicates = np.array([0.4, 0.3, 0.2, 0.1]), 10, 10, 400
    m, f = 0.05, 0.1

    def hit(generation):
        return 0.9 * 0.97 ** (generation - 2) if ages else 0.9

    detector = NoisyDetector(hit, f)
    history = recurse(
        Categorical(4),
        lambda n, rng: rng.choice(4, n, p=p),
        workflow=Detected(Web(m), detector),
        n_samples=size,
        n_generations=generations,
        n_replicates=replicates,
        metrics={"h": lambda s: 1 - ((s.model.p_ if s.model else p) ** 2).sum()},
        rng=np.random.default_rng(3),
    ).array("h")
    how = {"n_samples": size, "n_generations": generations}
    web = Web(lambda g: float(pv.filtered_share(m, hit(g), f)))
    law = (1 - kinship.of(web, **how)) * (1 - p @ p)
    for g in (1, 3, generations):
        mean, se = mean_se(history[g])
        close(mean, law[g], se)
    unfiltered = (1 - kinship.of(Web(m), **how)) * (1 - p @ p)
    mean, se = mean_se(history[generations])
    assert abs(mean - unfiltered[-1]) > Z * se  # the test could tell


# ------------------------------------------------------------------- weighting

NONE = ([1.0], [1.0])
ORACLE = ([1.0, 0.0], [0.0, 1.0])


def symmetric(eps):
    return [1 - eps, eps], [eps, 1 - eps]


def test_effective_size_at_known_values():
    n, alpha = 10_000, 0.1
    for rates, law in (
        (NONE, 100),
        (ORACLE, 1000),
        (symmetric(0.01), 10_000 * (0.099**2 / 0.108 + 0.001**2 / 0.892)),
        (symmetric(0.5), 100),  # a coin
    ):
        assert_within(pv.effective_size(n, alpha, *rates), law, bound(20, law))
    gain = pv.effective_size(10**6, 0.01, *symmetric(0.1)) / 100
    law = 10**4 * (0.009**2 / 0.108 + 0.001**2 / 0.892)
    assert_within(gain, law, bound(20, law))
    for alpha in (0.001, 0.01, 0.1, 0.5):  # Kanabar and Gastpar: at most 1 / max(alpha, eps)
        for eps in (0.001, 0.01, 0.1):
            gain = pv.effective_size(10**6, alpha, *symmetric(eps)) / (10**6 * alpha**2)
            assert 1 <= gain <= 1 / max(alpha, eps)


@pytest.mark.parametrize("rates", [NONE, symmetric(0.1), ORACLE])
def test_the_error_of_the_estimate_over_rows(rates):
    """Row by row: origin, then symbol, then the detector's output; the model writes the rest."""
    rng = np.random.default_rng(11)
    p, n, alpha, replicates = np.array([0.5, 0.3, 0.2]), 2000, 0.3, 1500
    previous = rng.multinomial(500, p, size=replicates) / 500
    errors, bias = [], []
    for q in previous:
        real = rng.random(n) < alpha
        symbol = np.where(real, rng.choice(3, n, p=p), rng.choice(3, n, p=q))
        output = np.where(
            real, rng.choice(len(rates[0]), n, p=rates[0]), rng.choice(len(rates[0]), n, p=rates[1])
        )
        counts = np.zeros((1, len(rates[0]), 3))
        np.add.at(counts, (0, output, symbol), 1)
        estimate = pv.weighted_estimate(counts, q[None], alpha, *rates)[0]
        errors.append(((estimate - p) ** 2).sum())
        bias.append(estimate[0] - p[0])
    # the law's recursion, started from the 500 rows of `previous`
    q1, q0 = np.array(rates)
    mixed = alpha * q1 + (1 - alpha) * q0
    a = alpha * q1 / mixed
    weight = n * mixed * a**2
    before = (1 - p @ p) / 500
    law = weight @ (1 - p @ p - (1 - a) ** 2 * before) / weight.sum() ** 2
    mean, se = mean_se(np.array(errors))
    close(mean, law, se)
    mean, se = mean_se(np.array(bias))
    close(mean, 0.0, se)


@pytest.mark.parametrize("rates", [NONE, symmetric(0.05), ORACLE])
def test_errors_do_not_grow_along_the_generations(rates):
    p = np.full(4, 0.25)
    plan = {
        "n_samples": 20_000, "n_generations": 6, "real_share": 0.1,
        "real": rates[0], "generated": rates[1],
    }  # fmt: skip
    law = pv.expected_error(p, **plan)
    found = pv.simulate_estimates(p, **plan, n_replicates=4000, rng=np.random.default_rng(2))
    for g in range(6):
        mean, se = mean_se(found[g])
        close(mean, law[g], se)
    # Less what the generation before knew already, at most 1/n of it.
    once = (1 - p @ p) / pv.effective_size(20_000, 0.1, *rates)
    assert once * (1 - 1 / 20_000 - bound(30)) <= law[1] <= once * (1 + bound(30))


def test_weighting_says_what_it_needs():
    with pytest.raises(ValueError, match=r"counts must have shape \(R, 2, K\)"):
        pv.weighted_estimate(np.ones((1, 1, 3)), np.ones((1, 3)), 0.1, *ORACLE)
    with pytest.raises(ValueError, match="must list the same outputs, got 1 and 2"):
        pv.effective_size(10, 0.1, [1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"real_share must be a finite number in \(0, 1\]"):
        pv.effective_size(10, 0.0, *NONE)
