"""How fast are the kernel loops? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_density.py --benchmark-disable-gc

A generation of a kernel density loop is a fit and as many draws as there were rows. Three ways:
scikit-learn's KernelDensity and scipy's gaussian_kde, one replicate at a time, and all replicates
in one array. The last test prints time per generation x replicate, the ratios, and the goal.
"""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import KernelDensity

from collapse_utils.lineages import generations
from collapse_utils.models import density

pytest.importorskip("pytest_benchmark")

SIZES = (100, 500)
WIDTH = 0.1
GOAL = 25  # times as fast as scikit-learn; least: 43
SECONDS = {}  # per generation x replicate, filled by the benchmarks and read by the last test


def sklearn_loop(rows, n_generations):
    for seed in range(n_generations):
        fit = KernelDensity(bandwidth=WIDTH).fit(rows[:, None])
        rows = fit.sample(len(rows), random_state=seed)[:, 0]
    return rows


def scipy_loop(rows, n_generations):
    for seed in range(n_generations):
        fit = stats.gaussian_kde(rows, WIDTH / rows.std(ddof=1))
        rows = fit.resample(len(rows), seed=seed)[0]
    return rows


def vectorised_loop(m, n_generations, n_replicates):
    plan = {"n_samples": m, "n_generations": n_generations, "n_replicates": n_replicates}
    family = density.smoother(WIDTH)
    for _ in generations(family, stats.uniform(), **plan, rng=np.random.default_rng(0)):
        pass


@pytest.fixture
def clock(benchmark):
    """Benchmark a call of (generations x replicates) steps in process time."""

    def run(name, steps, function, *arguments):
        benchmark._timer = time.process_time
        benchmark.pedantic(function, arguments, rounds=7, warmup_rounds=1)
        if benchmark.stats is not None:  # absent with --benchmark-disable
            SECONDS[name] = benchmark.stats.stats.min / steps
            benchmark.extra_info["microseconds per generation x replicate"] = 1e6 * SECONDS[name]

    return run


@pytest.mark.parametrize("m", SIZES)
@pytest.mark.parametrize("loop", [sklearn_loop, scipy_loop], ids=["sklearn", "scipy"])
def test_one_replicate(clock, loop, m):
    clock((loop.__name__, m), 20, loop, np.random.default_rng(0).random(m), 20)


@pytest.mark.parametrize("m", SIZES)
def test_all_replicates(clock, m):
    clock(("vectorised", m), 20 * 100, vectorised_loop, m, 20, 100)


@pytest.mark.parametrize("criterion", ["likelihood", "least squares"])
def test_cross_validation(clock, criterion):
    rows = np.random.default_rng(0).random((50, SIZES[0]))
    clock((criterion, SIZES[0]), 50, density.cross_validated(criterion), rows)


def test_report():
    if not SECONDS:
        pytest.skip("run with the benchmarks to compare them")
    print()
    for (name, m), seconds in SECONDS.items():
        print(f"{name}, M = {m}: {1e6 * seconds:.1f} us per generation x replicate")
    for m in SIZES:
        ratio = SECONDS["sklearn_loop", m] / SECONDS["vectorised", m]
        print(f"M = {m}: {ratio:.0f} times as fast as scikit-learn (goal {GOAL})")
        assert ratio >= GOAL
