"""How does the time grow? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_growth.py

Five loops of the book and the loop that a reader writes first, at 100 samples, 50 generations and
100 replicates, and with one of the three 4, 16 and 64 times as large. The exponent is the slope of
log time over the last step: 1 means that twice as much takes twice as long, 0 that it is free.
"""

import time

import numpy as np
import pytest
from scipy import stats

from collapse_utils.lineages import Normal, Words, generations
from collapse_utils.models import density, mixture
from collapse_utils.models.words import zipf

pytest.importorskip("pytest_benchmark")

START = {"n_samples": 100, "n_generations": 50, "n_replicates": 100}
FACTORS = (1, 4, 16, 64)
BLOBS = mixture.Params(np.full((1, 2), 0.5), np.array([[[-2.0], [2.0]]]), np.ones((1, 2, 1, 1)))
CURVES = {}  # seconds by loop and by what grows, filled by the benchmarks, read by the last test


def naive(*, n_samples, n_generations, n_replicates, rng):
    """What a reader writes first: one replicate after the other."""
    for _ in range(n_replicates):
        mean, sd = 0.0, 1.0
        for _ in range(n_generations):
            rows = rng.normal(mean, sd, n_samples)
            mean, sd = rows.mean(), rows.std(ddof=1)


def engine(family, truth):
    def run(**size):
        for _ in generations(family, truth, **size):
            pass

    return run


LOOPS = {
    "NumPy loop, Gaussian": naive,
    "Gaussian, moments": engine(Normal(), (0.0, 1.0)),
    "Gaussian, every sample": engine(Normal(rows=True), (0.0, 1.0)),
    "words, K = 1000": engine(Words(), zipf(1000)),
    "kernels": engine(density.smoother(0.3), stats.norm()),
    "mixture, 10 EM steps": engine(mixture.EM(), BLOBS),
}
SLOW = {"NumPy loop, Gaussian", "mixture, 10 EM steps"}  # the last factor would take minutes


@pytest.mark.parametrize("grows", START)
@pytest.mark.parametrize("loop", LOOPS)
def test_growth(benchmark, loop, grows):
    factors = FACTORS[:-1] if loop in SLOW else FACTORS

    def seconds(factor):
        size = START | {grows: START[grows] * factor}
        before = time.process_time()
        LOOPS[loop](rng=np.random.default_rng(0), **size)
        return time.process_time() - before

    def curve():
        return [min(seconds(factor) for _ in range(3)) for factor in factors]

    seconds(1)
    CURVES[loop, grows] = benchmark.pedantic(curve, rounds=1)


def exponent(times):
    """Slope of log time over the last step, which is a factor of four."""
    return np.log(times[-1] / times[-2]) / np.log(4)


def test_table(record_property):
    """The table, and the curves for the page."""
    if len(CURVES) < len(LOOPS) * len(START):
        pytest.skip("needs the benchmarks above, without --benchmark-disable")
    names = [name.removeprefix("n_") for name in START]
    print(f"\n{'':26}{'start, ms':>10}" + "".join(f"{name:>13}" for name in names) + "   exponents")
    for loop in LOOPS:
        slopes = "".join(f"{exponent(CURVES[loop, grows]):13.2f}" for grows in START)
        print(f"{loop:26}{1e3 * CURVES[loop, 'n_samples'][0]:10.2f}{slopes}")
    record_property(
        "curves",
        [
            {
                "loop": loop,
                "grows": grows,
                "sizes": [START[grows] * factor for factor in FACTORS[: len(times)]],
                "seconds": times,
            }
            for (loop, grows), times in CURVES.items()
        ],
    )
    samples = exponent(CURVES["Gaussian, moments", "n_samples"])
    assert samples < 0.2, f"the time of moments grows with the samples, exponent {samples:.2f}"
