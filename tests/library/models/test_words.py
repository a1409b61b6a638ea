"""The categorical simulator and its laws against the whole Wright-Fisher chain of a small world.

The oracle enumerates every way to share M rows among K symbols and multiplies matrices; it knows
nothing of the shortcuts under test. Statistical checks raise a false alarm with probability ALARM
each, at a fixed seed.
"""

from itertools import pairwise, product
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import assert_mean
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import (
    Accumulate,
    FreshData,
    Mix,
    Replace,
    recurse,
)
from collapse_utils.models import words
from collapse_utils.models.zipf import zipf

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


def binomial(m):
    """Roundings of m + 1 binomial probabilities: an exponential of at most m ln m in size, which
    three log-gammas of the same size add up to, and what makes the sum one."""
    return CALL * (1 + 4 * m * np.log(m)) + m + 1


def lineages(m):
    """Roundings of the law of the ancestors on one page: three for each of m balls, in l1."""
    return 3 * (m + 1)


def test_the_oracle_is_a_chain(oracle):
    assert len(oracle.states) == 28
    np.testing.assert_allclose(oracle.step.sum(axis=1), 1, rtol=bound(oracle.roundings))


# ------------------------------------------------------------------ laws, exactly


def test_heterozygosity_is_that_of_the_whole_chain(oracle):
    h = 1 - ((oracle.states / 6) ** 2).sum(axis=1)
    law = words.expected_heterozygosity(oracle.p, **SMALL)
    # 1 - (sum of squares) is at least 10/36, so six squares cost it (1 + 26/36) / (10/36) < 7 times
    # their roundings; the short cut costs three a page.
    limit = bound(G * (oracle.roundings + 3) + 2 * 7 * 6)
    np.testing.assert_allclose(law[1:], oracle.laws(G) @ h, rtol=limit)
    np.testing.assert_allclose(law[0], 1 - 0.38, rtol=bound(2 * 6, 1.38 / 0.62))


def test_survival_and_symbols_left_are_those_of_the_whole_chain(oracle):
    alive = (oracle.laws(G) @ (oracle.states > 0)).T
    law = words.survival(oracle.p, **SMALL)
    # Absolute: the short cut takes the chance of death from one.
    limit = bound(G * (oracle.roundings + lineages(6)) + 2 * CALL + 6)
    assert_within(law[1:].T, alive, limit)
    np.testing.assert_array_equal(law[0], 1)
    total = words.expected_alive(oracle.p, **SMALL)
    assert_within(total[1:], alive.sum(axis=0), 3 * limit)
    assert total[0] == 3


def test_collapse_is_that_of_the_whole_chain(oracle):
    done = oracle.states.max(axis=1) == 6
    cdf = words.collapse_cdf(oracle.p, **SMALL)
    limit = bound(G * (oracle.roundings + binomial(6)))
    np.testing.assert_allclose(cdf[1:], oracle.laws(G)[:, done].sum(axis=1), rtol=limit)
    assert cdf[0] == 0
    # (I - Q) times = 1 for the whole chain, plus the first page.
    q = oracle.step[~done][:, ~done]
    times = np.linalg.solve(np.eye(len(q)) - q, np.ones(len(q)))
    mean = 1 + oracle.draw(oracle.p)[~done] @ times
    # Elimination costs 3 n (Higham, theorem 9.4) on n = 25 states or fewer, times the condition.
    limit = bound(oracle.roundings + binomial(6) + 2 * 3 * 25, np.linalg.cond(np.eye(len(q)) - q))
    time = words.mean_collapse_time(oracle.p, n_samples=6)
    np.testing.assert_allclose(time, mean, rtol=limit)


def test_the_winner_has_the_original_probabilities(oracle):
    late = oracle.laws(400)[-1]
    wins = [late[(oracle.states[:, k] == 6)].sum() for k in range(3)]
    np.testing.assert_allclose(wins, oracle.p, rtol=bound(400 * oracle.roundings))


def test_two_symbols_agree_with_the_transition_matrix():
    m, p = 40, 0.07
    step = words.transition_matrix(m)
    page = bound(2 * binomial(m))  # scipy's own binomial is granted as many roundings
    np.testing.assert_allclose(step[7], stats.binom(m, 7 / m).pmf(np.arange(m + 1)), rtol=page)
    state = stats.binom(m, p).pmf(np.arange(m + 1))
    survival = words.survival([p], n_samples=m, n_generations=60)[:, 0]
    for n in range(1, 61):
        assert_within(survival[n], 1 - state[0], n * (page + bound(lineages(m))))
        state = state @ step


def test_mean_is_the_sum_of_the_tail_of_the_cdf():
    p = zipf(5)
    cdf = words.collapse_cdf(p, n_samples=15, n_generations=1500)
    # An error of one page stays in all 1500 terms; the pages that can err are T on average.
    time = words.mean_collapse_time(p, n_samples=15)
    np.testing.assert_allclose(time, (1 - cdf).sum(), rtol=bound(1500 * binomial(15)))


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


def test_diffusion_time_is_too_long_by_a_logarithm():
    sizes = np.array([25, 50, 100, 200, 400, 800])
    for p in ([0.5, 0.5], zipf(10), zipf(30)):
        exact = np.array([words.mean_collapse_time(p, n_samples=m) for m in sizes])
        published = np.array([words.mean_collapse_time_diffusion(p, m) for m in sizes])
        assert (published > exact).all()
        # The gap grows like (ln M) / 3, so the relative error goes to zero.
        slope = np.diff(published - exact) / np.diff(np.log(sizes))
        np.testing.assert_allclose(slope, 1 / 3, rtol=0.03)
    time = words.mean_collapse_time_diffusion([0.5, 0.5], 100)
    np.testing.assert_allclose(time, 200 * np.log(2), rtol=bound(2 * CALL + 4))


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


def test_bounds_of_seddik_hold_for_two_symbols():
    m, n = 30, np.arange(1, 61)
    for p in (0.5, 0.1, 0.01):
        running = 1 - words.collapse_cdf([p, 1 - p], n_samples=m, n_generations=60)[1:]
        decay = p * (1 - p) * (1 - 1 / m) ** n
        assert (4 * decay <= running).all()
        assert (running <= 2 * m * decay).all()


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
    exact = words.expected_alive(p, n_samples=500, n_generations=2000)
    poisson = words.expected_alive_poisson(p, n_samples=500, n_generations=2000)
    assert (poisson <= exact).all()
    np.testing.assert_allclose(poisson[:11], exact[:11], rtol=5e-3)
    assert poisson[-1] < 1 <= exact[-1]  # late in the chain it forgets that one symbol always lives


def test_median_life():
    assert [words.median_life(c) for c in (0.1, 1, 5, 100)] == [1, 2, 13, 286]
    assert words.median_life(10**5) == pytest.approx(2e5 / np.log(2), rel=1e-3)


# ------------------------------------------------------------------ the simulator has the law


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
    keep = [1, 2, 5]
    paths = words.simulate(
        p,
        n_samples=m,
        n_generations=5,
        n_replicates=40_000,
        rng=np.random.default_rng(1),
        keep=keep,
    )
    laws = world.laws(5)
    for n in keep:
        counts = np.rint(paths.frequencies[n] * m).astype(int)
        seen = np.bincount(state_numbers(counts, world.states), minlength=len(world.states))
        assert goodness_of_fit(seen, laws[n - 1]) > ALARM / 3
        # What is reported along the way is what the kept models say.
        np.testing.assert_array_equal(paths.alive[n], (counts > 0).sum(axis=1))
        h = 1 - (paths.frequencies[n] ** 2).sum(axis=1)
        assert_within(paths.heterozygosity[n], h, bound(2 * (len(p) + 2)))  # sums of squares
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


@pytest.mark.parametrize(
    "workflow", [Replace(), Accumulate(), FreshData(0.3)], ids=lambda w: type(w).__name__
)
@pytest.mark.parametrize("sizes", [[5, 5, 5], [6, 3, 9]], ids=["constant", "schedule"])
def test_simulate_has_the_law_of_the_loop(workflow, sizes):
    p = np.array([0.6, 0.3, 0.1])
    history = recurse(
        words.Categorical(3),
        lambda n, rng: rng.choice(3, n, p=p),
        workflow=workflow,
        n_samples=sizes,
        n_generations=3,
        n_replicates=1500,
        n_eval=1,
        metrics={"code": lambda s: s.model.p_ @ [1, 1000, 10**6] if s.model else 0.0},
        rng=np.random.default_rng(3),
    )
    paths = words.simulate(
        p,
        workflow,
        n_samples=sizes,
        n_generations=3,
        n_replicates=20_000,
        rng=np.random.default_rng(4),
        keep=[3],
    )
    rows = sum(sizes) if isinstance(workflow, Accumulate) else sizes[-1]
    slow = np.rint(history.array("code")[-1] * rows)
    fast = np.rint(paths.frequencies[3] @ [1, 1000, 10**6] * rows)
    values = np.unique(np.concatenate([slow, fast]))
    table = np.array([[(x == v).sum() for v in values] for x in (slow, fast)])
    rare = table.sum(axis=0) < 100
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    assert stats.chi2_contingency(table).pvalue > ALARM


@pytest.mark.parametrize(
    "workflow", [Replace(), Accumulate(), FreshData(0.1)], ids=lambda w: type(w).__name__
)
@pytest.mark.parametrize("sizes", [[20] * 8, [30, 10, 10, 20, 5, 40, 8, 20]])
def test_mean_heterozygosity_follows_its_law(workflow, sizes):
    world = {"n_samples": sizes, "n_generations": 8, "workflow": workflow}
    p = zipf(12)
    h = words.simulate(p, **world, n_replicates=20_000, rng=np.random.default_rng(5)).heterozygosity
    law = words.expected_heterozygosity(p, **world)
    se = h[1:].std(axis=1, ddof=1) / np.sqrt(h.shape[1])
    assert (np.abs(h[1:].mean(axis=1) - law[1:]) < stats.norm.isf(ALARM / 16) * se).all()
    np.testing.assert_array_equal(h[0], law[0])


def test_accumulated_diversity_tends_to_the_sinc():
    law = words.expected_heterozygosity(
        zipf(9), n_samples=25, n_generations=20_000, workflow=Accumulate()
    )
    # The rest of the product, k > n, is 1 - 1/(25 n), but for the square of 1/n.
    rest = law[-1] / law[0] / np.sinc(1 / 5) - 1
    np.testing.assert_allclose(rest, 1 / (25 * 20_000), rtol=1 / 20_000)


def test_collapse_times_and_winners():
    p, m, r = zipf(4), 12, 20_000
    end = words.collapse(p, n_samples=m, n_replicates=r, rng=np.random.default_rng(6))
    assert stats.chisquare(np.bincount(end.winner, minlength=4), r * p).pvalue > ALARM
    assert stats.chisquare(np.bincount(end.winner, minlength=4)).pvalue < ALARM  # not any winner
    last = end.time.max() + 1
    law = np.diff(words.collapse_cdf(p, n_samples=m, n_generations=last + 500))
    seen = np.bincount(end.time, minlength=len(law) + 1)[1:]
    assert goodness_of_fit(seen, law) > ALARM


def test_a_certain_symbol_has_collapsed_already():
    end = words.collapse([0, 1, 0], n_samples=5, n_replicates=3, rng=np.random.default_rng(0))
    assert (end.time == 0).all() and (end.winner == 1).all()
    assert words.mean_collapse_time([0, 1, 0], n_samples=5) == 0
    cdf = words.collapse_cdf([0, 1, 0], n_samples=5, n_generations=4)
    np.testing.assert_array_equal(cdf, 1)


def test_one_row_collapses_at_once():
    end = words.collapse(zipf(3), n_samples=1, n_replicates=9, rng=np.random.default_rng(0))
    assert (end.time == 1).all()
    assert words.mean_collapse_time(zipf(3), n_samples=1) == 1
    alive = words.survival([0.3], n_samples=1, n_generations=3)[:, 0]
    np.testing.assert_allclose(alive, [1, 0.3, 0.3, 0.3], rtol=bound(2 * CALL + 2, 1.7 / 0.3))


# ------------------------------------------------------------------ properties

worlds = st.fixed_dictionaries(
    {
        "weights": st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any),
        "sizes": st.lists(st.integers(1, 200), min_size=1, max_size=8),
        "r": st.integers(1, 5),
        "seed": st.integers(0, 2**32),
    }
)


def run(world, workflow):
    p = np.array(world["weights"]) / sum(world["weights"])
    n = len(world["sizes"])
    paths = words.simulate(
        p,
        workflow,
        n_samples=world["sizes"],
        n_generations=n,
        n_replicates=world["r"],
        rng=np.random.default_rng(world["seed"]),
        keep=range(n + 1),
    )
    return p, paths


@settings(max_examples=150, deadline=None)
@given(worlds, st.sampled_from([Replace(), Accumulate(), FreshData(0.2)]))
def test_models_stay_on_the_simplex(world, workflow):
    p, paths = run(world, workflow)
    rows = np.cumsum(world["sizes"]) if isinstance(workflow, Accumulate) else world["sizes"]
    for n, q in paths.frequencies.items():
        assert q.shape == (world["r"], len(p))
        assert (q >= 0).all()
        np.testing.assert_allclose(q.sum(axis=1), 1, rtol=bound(2 * (len(p) + 1)))
        assert (q[:, p == 0] == 0).all()  # what the world does not hold is never invented
        if n:
            counts = q * rows[n - 1]  # divided and multiplied
            np.testing.assert_allclose(
                counts, np.rint(counts), rtol=bound(2)
            )  # divided, multiplied
        np.testing.assert_array_equal(paths.alive[n], (q > 0).sum(axis=1))
        assert_within(paths.heterozygosity[n], 1 - (q**2).sum(axis=1), bound(2 * (len(p) + 2)))


@settings(max_examples=150, deadline=None)
@given(worlds)
def test_extinct_symbols_never_return_under_replace(world):
    _, paths = run(world, Replace())
    for n in range(1, len(world["sizes"]) + 1):
        dead = paths.frequencies[n - 1] == 0
        assert (paths.frequencies[n][dead] == 0).all()


@settings(max_examples=60, deadline=None)
@given(worlds)
def test_accumulated_pages_keep_exactly_the_symbols_of_page_one(world):
    _, paths = run(world, Accumulate())
    first = paths.frequencies[1] > 0
    np.testing.assert_array_equal(paths.frequencies[len(world["sizes"])] > 0, first)


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


def test_what_rounding_leaves_over_does_not_wake_the_dead():
    class Rounding:
        """Gives one row to the last column, as numpy may after a rounding error."""

        def multinomial(self, n, p):
            return np.array([[n - 4, 3, 1], [2, n - 3, 1]])

    counts = np.array([[7, 3, 0], [2, 7, 1]])
    new = words._draw(counts, 10, 10, Rounding())
    np.testing.assert_array_equal(new, [[7, 3, 0], [2, 7, 1]])


@pytest.mark.parametrize("r", [1, 700])
def test_blocks_fill_every_lineage(r):
    paths = words.simulate(
        zipf(50),
        n_samples=1000,
        n_generations=2,
        n_replicates=r,
        rng=np.random.default_rng(0),
        keep=[0, 2],
    )
    assert (paths.heterozygosity > 0).all() and (paths.alive > 1).all()
    assert len(np.unique(paths.heterozygosity[2])) > 0.9 * r
    # Divided by their sum of 50 terms once more.
    np.testing.assert_allclose(
        paths.frequencies[0], np.tile(zipf(50), (r, 1)), rtol=bound(2 * (50 + 1))
    )


def test_same_seed_same_paths():
    first, again, other = (
        words.simulate(
            zipf(30), n_samples=20, n_generations=5, n_replicates=40, rng=np.random.default_rng(s)
        ).heterozygosity
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


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

GOOD = {"p": [0.5, 0.5], "n_samples": 10, "n_generations": 3, "n_replicates": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": [0.5, -0.1, 0.6]}, "p must not be negative, got -0.1 at index 1"),
        ({"p": [0.5, 0.4]}, "p must sum to 1, got a sum of 0.9"),
        ({"p": [0.5, float("nan")]}, "p must be finite, got nan at index 1"),
        ({"p": [float("inf"), 0.5]}, "p must be finite, got inf at index 0"),
        ({"p": []}, r"p must be a non-empty list of probabilities, got shape \(0,\)"),
        ({"p": [[0.5, 0.5]]}, r"got shape \(1, 2\)"),
        ({"p": "half"}, "p must be a list of numbers, got 'half'"),
        ({"p": [0.0, 0.0]}, "p must sum to 1, got a sum of 0"),
        ({"n_samples": 0}, "n_samples must be an integer >= 1, got 0"),
        ({"n_samples": -3}, "n_samples must be an integer >= 1, got -3"),
        ({"n_samples": 2.5}, "n_samples must be an integer >= 1, got 2.5"),
        ({"n_samples": [5, 5]}, "one size for each of the 3 generations, got 2 sizes"),
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": 0}, "n_replicates must be an integer >= 1, got 0"),
        ({"keep": [4]}, "keep must be an integer between 0 and 3, got 4"),
        ({"rng": 3}, "rng must be a numpy.random.Generator .*, got 3"),
        (
            {"workflow": Mix(0.5, gamma=0.5)},
            "workflow must be Replace, Accumulate or FreshData; Mix",
        ),
    ],
)
def test_simulate_refuses_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        words.simulate(**{"rng": np.random.default_rng(0), **GOOD, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: words.Categorical(0), "n_symbols must be an integer >= 1, got 0"),
        (lambda: words.Categorical().fit([]), r"X must be a non-empty list .* shape \(0,\)"),
        (lambda: words.Categorical().fit([0.5]), "integer symbols, got an array of float64"),
        (lambda: words.Categorical().fit([0, -2]), "X must hold symbols >= 0, got -2"),
        (lambda: words.Categorical(3).fit([0, 7]), ">= 0 and < n_symbols=3, got 7"),
        (
            lambda: words.transition_matrix(0),
            "n_samples must be .* between 1 and 4000, got 0",
        ),
        (lambda: words.transition_matrix(5000), "between 1 and 4000, got 5000"),
        (
            lambda: words.mean_collapse_time([0.5, 0.6], n_samples=5),
            "p must sum to 1, got a sum of 1.1",
        ),
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
            "p must be a list of numbers between 0 and 1, got 1.2",
        ),
        (
            lambda: words.survival([np.nan], n_samples=5, n_generations=2),
            "between 0 and 1, got nan",
        ),
        (lambda: words.ancestors(0, 5), "n_samples must be an integer >= 1, got 0"),
        (lambda: words.surviving_share(0), "n_generations must be an integer >= 1, got 0"),
        (lambda: words.median_life(0), r"expected_count must be .* \(0, inf\], got 0"),
        (
            lambda: words.expected_heterozygosity(
                [1.0], n_samples=5, n_generations=2, workflow=Mix(1.0)
            ),
            "workflow must be Replace, Accumulate or FreshData, got Mix",
        ),
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
