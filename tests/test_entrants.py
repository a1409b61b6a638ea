"""Entrants: exact laws against loops over rows. Each statistical test: false-alarm rate 1e-5."""

import numpy as np
import pytest
from rounding import CALL, bound
from scipy import stats

from collapse_utils import AccumulateSubsample, Replace, categorical, kinship, provenance, recurse
from collapse_utils import entrants as en
from collapse_utils.workflows import Web

Z = stats.norm.isf(0.5e-5)


def close(values, law):
    """Mean of independent values against a law, by Student's t."""
    se = values.std(ddof=1) / np.sqrt(len(values))
    width = stats.t.isf(0.5e-5, len(values) - 1) * se
    assert abs(values.mean() - law) < width, (values.mean(), law, se)
    return width


def doubling(t):
    return lambda generation: t * 2 ** (generation - 2)


CRAWLS = {
    "budget": en.Crawl(12),
    "everything": en.Crawl(12, everything=True),
    "humans too": en.Crawl(20, human=7),
    "doubling": en.Crawl(doubling(12)),
}


@pytest.mark.parametrize("name", CRAWLS)
def test_the_risk_of_a_crawl_through_the_loop(name):
    crawl, size, generations = CRAWLS[name], 12, 5
    means = recurse(
        en.Mean(),
        lambda n, rng: rng.standard_normal(n),
        workflow=crawl,
        n_samples=size,
        n_generations=generations,
        n_replicates=1200,
        metrics={"mean": lambda s: s.model.mean_ if s.model else 0.0},
        n_eval=1,
        rng=np.random.default_rng(1),
    ).array("mean")
    law = en.crawl_risk(crawl, n_samples=size, n_generations=generations)
    for g in (1, 2, generations):
        close(means[g] ** 2, law[g - 1])


@pytest.mark.parametrize("name", CRAWLS)
def test_the_risk_of_a_crawl_by_the_simulator(name):
    plan = {"n_samples": 12, "n_generations": 7}
    means = en.simulate_crawl(CRAWLS[name], **plan, n_replicates=6000, rng=np.random.default_rng(2))
    law = en.crawl_risk(CRAWLS[name], **plan)
    for g in (0, 1, 3, 6):
        width = close(means[g] ** 2, law[g])
    assert abs(law[-1] - law[0]) > width  # the test could tell the entrants apart


def test_known_limits():
    t, g = 400, 400
    budget = t * en.crawl_risk(en.Crawl(t), n_samples=t, n_generations=g)
    whole = t * en.crawl_risk(en.Crawl(t, everything=True), n_samples=t, n_generations=g)
    n = np.arange(1, g + 1)
    # A generation takes twelve roundings, and every term is positive.
    np.testing.assert_allclose(whole, np.cumsum(1 / n**2), rtol=bound(g * (12 + 2)))
    assert budget[-1] == pytest.approx(np.pi**2 / 2 - 2, rel=0.01)
    np.testing.assert_allclose(
        budget,
        t
        * kinship.moments(
            AccumulateSubsample(),
            n_samples=t,
            n_generations=g,
            write=lambda mean, var: (mean, 1.0),
        )[0][1:],
        rtol=bound(2 * 12 * g),
    )
    # a web that doubles: a quarter of a fit for each entrant
    grown = t * en.crawl_risk(en.Crawl(doubling(t)), n_samples=t, n_generations=40)
    assert np.diff(grown)[-5:] == pytest.approx([0.25] * 5, rel=0.02)
    # and with a constant human share of what is added, a plateau
    share = 0.1
    crawl = en.Crawl(
        lambda k: round((1 - share) * t * 2 ** (k - 2)),
        human=lambda k: round(share * t * 2 ** (k - 2)),
    )
    level = t * en.crawl_risk(crawl, n_samples=t, n_generations=120)[-1]
    pull = share / 2
    assert level == pytest.approx(1 + ((1 - share) / 2) ** 2 / (1 - (1 - pull) ** 2), rel=0.02)


def test_the_page_of_the_day_through_the_loop():
    def share(generation):
        return 1 / (1 + np.exp(generation - 4))

    means = recurse(
        en.Mean(),
        lambda n, rng: rng.standard_normal(n),
        workflow=Web(share),
        n_samples=10,
        n_generations=8,
        n_replicates=1500,
        metrics={"mean": lambda s: s.model.mean_ if s.model else 0.0},
        n_eval=1,
        rng=np.random.default_rng(3),
    ).array("mean")
    law = en.page_risk(share, n_samples=10, n_generations=8)
    for g in (1, 4, 8):
        close(means[g] ** 2, law[g - 1])
    only = en.page_risk(0.0, n_samples=10, n_generations=8)
    np.testing.assert_allclose(only, np.arange(1, 9) / 10, rtol=bound(2 * 8))
    np.testing.assert_array_equal(en.page_risk(1.0, n_samples=10, n_generations=4), 0.1)


def test_archives_over_rows():
    """An entrant with A archived rows and the T rows of page n, row by row."""
    rng = np.random.default_rng(4)
    t, n, archive, r = 10, 6, 15, 20_000
    web = np.zeros(r)
    for _ in range(n):
        web = web + rng.standard_normal((r, t)).mean(axis=1)
    held = rng.standard_normal((r, archive)).mean(axis=1)
    risk = n / t
    pooled = (archive * held + t * web) / (archive + t)
    close(pooled**2, float(en.pooled_risk(archive, t, risk)))
    weight = archive / (archive + 1 / risk)
    close((weight * held + (1 - weight) * web) ** 2, float(en.weighted_risk(archive, risk)))


def test_when_the_web_harms():
    t, risk = 100, 0.06
    edge = en.harmful_archive(t, risk)
    np.testing.assert_allclose(edge, 25, rtol=bound(4, 6 / (6 - 2)))
    for archive in (24, 26):
        harmful = en.pooled_risk(archive, t, risk) > 1 / archive
        assert harmful == (archive > edge)
    assert en.harmful_archive(100, 0.02) == np.inf
    for archive in (1, 50, 1000):  # the best mixture is better than either
        best = en.weighted_risk(archive, risk)
        assert best < min(1 / archive, risk)
        assert best <= en.pooled_risk(archive, t, risk)


@pytest.mark.parametrize("m", [0.05, 0.3])
def test_a_replayed_archive(m):
    p, t, archive, g = np.full(6, 1 / 6), 20, 15, 80
    h = en.archive_diversity(
        p, archive=archive, real_share=m, n_samples=t, n_generations=g, n_replicates=4000,
        rng=np.random.default_rng(5),
    )  # fmt: skip
    law = (1 - 1 / archive) * provenance.expected_diversity(m, t, g)
    for k in (1, 2, 20, g):
        width = close(h[k] / h[0, 0], law[k])
    assert abs(law[g] / (1 - 1 / archive) - law[g]) > width  # fresh rows would be told apart


def test_late_entrants_know_what_a_small_clean_sample_knows():
    p, t, g = np.arange(1, 401) ** -1.5, 60, 8
    p = p / p.sum()
    law = en.entrant_missing_mass(p, n_samples=t, n_generations=g)
    paths = categorical.simulate(
        p, Replace(), n_samples=t, n_generations=g, n_replicates=3000,
        rng=np.random.default_rng(6), keep=(1, 3, 8),
    )  # fmt: skip
    for n in (1, 3, 8):
        missing = ((paths.frequencies[n] == 0) * p).sum(axis=1)
        close(missing, law[n - 1])
    clean = en.missing_mass(p, t * categorical.surviving_share(g)[1:])
    np.testing.assert_allclose(law, clean, rtol=0.02)
    np.testing.assert_allclose(law[0], clean[0], rtol=bound(2 * (400 + 2 * CALL)))
    np.testing.assert_allclose(en.missing_mass(p, [0]), [1], rtol=bound(2 * 400))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="written must be an integer >= 0, got -1"):
        en.Crawl(-1)
    with pytest.raises(ValueError, match=r"human must be an integer >= 0, got 0\.5"):
        en.Crawl(1, human=0.5)
    late = en.Crawl(lambda generation: -3)
    with pytest.raises(ValueError, match="written must be an integer >= 0, got -3"):
        en.crawl_risk(late, n_samples=5, n_generations=2)
    with pytest.raises(ValueError, match="n_samples"):
        en.crawl_risk(en.Crawl(1), n_samples=1, n_generations=2)
    with pytest.raises(ValueError, match="archive"):
        en.archive_diversity(
            [1.0], archive=0, real_share=0.1, n_samples=5, n_generations=2, n_replicates=2,
            rng=np.random.default_rng(0),
        )  # fmt: skip
