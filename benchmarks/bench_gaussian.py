"""How fast are many Gaussian lineages at once? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_gaussian.py --benchmark-disable-gc

Three ways to refit a Gaussian under Replace, all of the same law: one replicate at a time in a
Python loop, every sample of all replicates in one array, and the two sufficient statistics alone;
and Bartlett's factors against raw rows in d dimensions.
The last test prints time per generation x replicate, the ratios, and the goals of the book.
"""

import subprocess
import sys

import numpy as np
import pytest

from collapse_utils import Accumulate, FreshData, Mix
from collapse_utils.lineages import Normal, generations
from collapse_utils.models import gaussian

pytest.importorskip("pytest_benchmark")

M, G = 100, 100
EXACT_GOAL, DRAWN_GOAL = 150, 6  # times as fast as the naive loop; least: 269, 9.1
FACTOR_GOAL = 50  # times as fast as raw rows at d = 2, M = 1000; least: 178
IMPORT_GOAL = 0.25  # of the time of ``import numpy``; most: 0.03
SECONDS = {}  # per generation x replicate, filled by the benchmarks and read by the last test


def naive(n_samples, n_generations, n_replicates, rng):
    """What a reader writes first: one replicate after the other."""
    final = np.empty(n_replicates)
    for r in range(n_replicates):
        mean, sd = 0.0, 1.0
        for _ in range(n_generations):
            rows = rng.normal(mean, sd, n_samples)
            mean, sd = rows.mean(), rows.std(ddof=1)
        final[r] = sd
    return final


def simulate(n_replicates, rng, n_samples=M, rows=False, workflow=None):
    plan = {"n_samples": n_samples, "n_generations": G, "n_replicates": n_replicates}
    for _ in generations(Normal(rows=rows), (0.0, 1.0), workflow, rng=rng, **plan):
        pass


def naive_rows(dim, n_samples, n_generations, n_replicates, rng):
    """The same in d dimensions."""
    for _ in range(n_replicates):
        mean, cov = np.zeros(dim), np.eye(dim)
        for _ in range(n_generations):
            rows = mean + rng.standard_normal((n_samples, dim)) @ np.linalg.cholesky(cov).T
            mean, cov = rows.mean(axis=0), np.cov(rows.T)


def bartlett(dim, n_samples, n_generations, n_replicates, rng):
    plan = {"n_samples": n_samples, "n_generations": n_generations, "n_replicates": n_replicates}
    truth = np.zeros(dim), np.eye(dim)
    for _ in generations(gaussian.MultivariateNormal(), truth, rng=rng, **plan):
        pass


def test_naive_loop(clock):
    clock("naive loop", G * 50, naive, M, G, 50, np.random.default_rng(0))


def test_every_sample(clock):
    rng = np.random.default_rng(0)
    clock("every sample, vectorised", G * 2000, simulate, 2000, rng, rows=True)


@pytest.mark.parametrize("m", [10, M, 10**6])
def test_exact(clock, m):
    rng = np.random.default_rng(0)
    clock(f"exact, M = {m:,}", G * 10_000, simulate, 10_000, rng, n_samples=m)


@pytest.mark.parametrize(
    "workflow",
    [FreshData(0.1), Accumulate(), Mix(0.9, gamma=0.1, redraw=False)],
    ids=lambda workflow: type(workflow).__name__,
)
def test_exact_workflows(clock, workflow):
    rng = np.random.default_rng(0)
    name = f"exact, {type(workflow).__name__}"
    clock(name, G * 10_000, simulate, 10_000, rng, workflow=workflow)


@pytest.mark.parametrize("how", ["rows", "factors"])
@pytest.mark.parametrize(("dim", "m"), [(2, 1000), (10, 100), (10, 1000), (50, 200)])
def test_d_dimensions(clock, dim, m, how):
    # The fits of every generation cost the same, and in ten none is singular yet.
    function, g, r = {"rows": (naive_rows, 10, 5), "factors": (bartlett, 50, 50)}[how]
    clock(f"{how}, d = {dim}, M = {m:,}", g * r, function, dim, m, g, r, np.random.default_rng(0))


def test_import(benchmark):
    """``import collapse_utils`` in a fresh interpreter against ``import numpy``, in CPU time."""

    def seconds(statement):
        code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
        run = [sys.executable, "-c", code]
        return float(subprocess.run(run, capture_output=True, text=True, check=True).stdout)

    benchmark.pedantic(seconds, ("import collapse_utils",), rounds=3)
    names = "import numpy", "import collapse_utils", "from collapse_utils.models import gaussian"
    numpy, light, loop = (min(seconds(name) for _ in range(3)) for name in names)
    benchmark.extra_info["of import numpy"] = light / numpy
    print(
        f"\nimport collapse_utils: {light / numpy:.2f} times import numpy; with models."
        f"gaussian (scipy, pandas): {loop / numpy:.1f} times; goal {IMPORT_GOAL}"
    )
    assert light / numpy <= IMPORT_GOAL


def test_goals_and_ratios():
    """The table, and the goals."""
    needed = {"naive loop", "every sample, vectorised", f"exact, M = {M:,}"}
    if not needed <= set(SECONDS):
        pytest.skip("needs the benchmarks above, without --benchmark-disable")
    print(f"\n{'G = ' + str(G) + ', M = ' + str(M):34}{'us/(gen x rep)':>16}{'naive / this':>14}")
    for name, seconds in SECONDS.items():
        slow = SECONDS[name.replace("factors", "rows")] if "d =" in name else SECONDS["naive loop"]
        ratio = f"{slow / seconds:.0f}x"
        print(f"{name:34}{1e6 * seconds:16.4f}{ratio:>14}")
    exact, drawn = SECONDS[f"exact, M = {M:,}"], SECONDS["every sample, vectorised"]
    print(f"every sample / exact: {drawn / exact:.0f}x")
    print(f"goals: exact at any M {EXACT_GOAL}x, every sample {DRAWN_GOAL}x")
    at_any_m = max(seconds for name, seconds in SECONDS.items() if name.startswith("exact, M ="))
    assert SECONDS["naive loop"] / at_any_m >= EXACT_GOAL
    assert SECONDS["naive loop"] / drawn >= DRAWN_GOAL
    case = "d = 2, M = 1,000"
    assert SECONDS[f"rows, {case}"] / SECONDS[f"factors, {case}"] >= FACTOR_GOAL
