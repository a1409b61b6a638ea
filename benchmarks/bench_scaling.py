"""How does the time grow with samples, replicates and generations? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_scaling.py --benchmark-disable-gc

One simulator of each kind, with one of its three sizes made larger by a factor of ten and the
others held. A column of 1.0 means that the size costs nothing, 10 that the time is proportional to
it; less than 10 means that overhead is shared.
"""

import time

import numpy as np
import pytest

from collapse_utils.models import gaussian, mixture, words

pytest.importorskip("pytest_benchmark")

PAIR = mixture.Params.of([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], np.eye(2))
WORDS = 1 / np.arange(1, 201)
SIMULATORS = {
    "Gaussian, sufficient statistics": (
        gaussian.simulate,
        (),
        {"n_samples": 100, "n_replicates": 1000, "n_generations": 100},
    ),
    "Gaussian, every sample": (
        lambda **sizes: gaussian.simulate(every_sample=True, **sizes),
        (),
        {"n_samples": 100, "n_replicates": 100, "n_generations": 20},
    ),
    "words, 200 symbols": (
        words.simulate,
        (WORDS / WORDS.sum(),),
        {"n_samples": 100, "n_replicates": 100, "n_generations": 20},
    ),
    "mixtures, 10 EM steps": (
        mixture.simulate,
        (PAIR,),
        {"n_samples": 100, "n_replicates": 8, "n_generations": 4},
    ),
}
SIZES = ("n_samples", "n_replicates", "n_generations")
SECONDS = {}


@pytest.mark.parametrize("size", ["base", *SIZES])
@pytest.mark.parametrize("name", SIMULATORS)
def test_scaling(benchmark, name, size):
    simulate, arguments, sizes = SIMULATORS[name]
    if size != "base":
        sizes = sizes | {size: 10 * sizes[size]}
    benchmark._timer = time.process_time
    benchmark.pedantic(
        simulate,
        arguments,
        sizes | {"rng": np.random.default_rng(0)},
        rounds=5,
        warmup_rounds=1,
    )
    if benchmark.stats is not None:  # absent with --benchmark-disable
        SECONDS[name, size] = benchmark.stats.stats.min


def test_table():
    """Milliseconds of the base case, and the factor for ten times each size."""
    if len(SECONDS) < len(SIMULATORS) * (1 + len(SIZES)):
        pytest.skip("needs the benchmarks above, without --benchmark-disable")
    columns = f"{'base, ms':>10}{'samples':>10}{'lineages':>10}{'generations':>13}"
    print(f"\n{'ten times the ...':34}{columns}")
    for name in SIMULATORS:
        base = SECONDS[name, "base"]
        factors = [SECONDS[name, size] / base for size in SIZES]
        print(f"{name:34}{1e3 * base:10.2f}{factors[0]:10.1f}{factors[1]:10.1f}{factors[2]:13.1f}")
    # Sufficient statistics cost the same for any number of samples.
    exact = "Gaussian, sufficient statistics"
    assert SECONDS[exact, "n_samples"] < 2 * SECONDS[exact, "base"]
