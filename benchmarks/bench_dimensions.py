"""How fast is the d-dimensional simulator? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_dimensions.py

The naive loop draws M rows and fits them, one lineage after the other; Bartlett's decomposition
draws the d x d factor of the same law. The last test prints the ratios and checks the goal of the
book: 50 times at d = 2, M = 1000.
"""

import time

import numpy as np
import pytest

from collapse_utils.models import gaussian

pytest.importorskip("pytest_benchmark")

GOAL = 50  # times as fast at d = 2, M = 1000; least: 178
CASES = [(2, 1000), (10, 100), (10, 1000), (50, 200)]
G, R = 50, 50
SECONDS = {}  # per generation x replicate, filled by the benchmarks and read by the last test


def naive(dim, n_samples, n_generations, n_replicates, rng):
    """What a reader writes first: raw rows, one replicate after the other."""
    final = np.empty((n_replicates, dim, dim))
    for r in range(n_replicates):
        mean, cov = np.zeros(dim), np.eye(dim)
        for _ in range(n_generations):
            rows = mean + rng.standard_normal((n_samples, dim)) @ np.linalg.cholesky(cov).T
            mean, cov = rows.mean(axis=0), np.cov(rows.T)
        final[r] = cov
    return final


def measure(benchmark, key, steps, function, *arguments, **keywords):
    benchmark._timer = time.process_time
    benchmark.pedantic(function, arguments, keywords, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:  # absent with --benchmark-disable
        SECONDS[key] = benchmark.stats.stats.min / steps
        benchmark.extra_info["microseconds per generation x replicate"] = 1e6 * SECONDS[key]


@pytest.mark.parametrize(("dim", "m"), CASES)
def test_naive_loop(benchmark, dim, m):
    generations = 10  # the fits of every generation cost the same, and none is singular yet
    rng = np.random.default_rng(0)
    measure(benchmark, ("naive", dim, m), generations * 5, naive, dim, m, generations, 5, rng)


@pytest.mark.parametrize(("dim", "m"), CASES)
def test_bartlett(benchmark, dim, m):
    measure(
        benchmark, ("bartlett", dim, m), G * R, gaussian.simulate_nd,
        dim=dim, n_samples=m, n_generations=G, n_replicates=R, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_goal_and_ratios():
    """The table, and the goal."""
    if not all((how, *case) in SECONDS for case in CASES for how in ("naive", "bartlett")):
        pytest.skip("needs the benchmarks above, without --benchmark-disable")
    print(f"\n{'d':>4}{'M':>7}{'naive us':>12}{'Bartlett us':>13}{'ratio':>8}")
    ratios = {}
    for dim, m in CASES:
        slow, fast = SECONDS["naive", dim, m], SECONDS["bartlett", dim, m]
        ratios[dim, m] = slow / fast
        print(f"{dim:4}{m:7}{1e6 * slow:12.2f}{1e6 * fast:13.3f}{slow / fast:7.0f}x")
    assert ratios[2, 1000] >= GOAL
