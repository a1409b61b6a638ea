"""Speed of choice among K as a multinomial of exact factors, against raw candidates and choices.

One thread, process time, both sides in one run:
``OMP_NUM_THREADS=1 pytest benchmarks/bench_preferences.py``. Both sides have the same law (see
``tests/test_preferences.py``). The raw side is vectorised over the M rows of a lineage.
"""

import time

import numpy as np
import pytest

from collapse_utils import lineages, preferences
from collapse_utils.workflows import winners

REQUIRED = 30  # times as fast as raw choices; least: 53
SETTINGS = {"n_samples": 1000, "n_generations": 20, "n_replicates": 100}


def raw(p, reward, k, rng, n_samples, n_generations, n_replicates):
    """Draw every candidate of every lineage, and let a reader choose."""
    for _ in range(n_replicates):
        q = np.bincount(rng.choice(len(p), n_samples, p=p), minlength=len(p)) / n_samples
        for _ in range(n_generations - 1):
            rows = rng.choice(len(p), (n_samples, k), p=q)
            won = winners(reward[rows], rng)
            kept = rows[np.arange(n_samples), won]
            q = np.bincount(kept, minlength=len(p)) / n_samples
    return q


def timed(function, repeats=3):
    """Best of several runs."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.benchmark(group="preferences")
@pytest.mark.parametrize("k", [2, 10])
def test_simulate(benchmark, k):
    p, reward = np.full(10, 0.1), np.linspace(0, 1, 10)
    rng = np.random.default_rng(1)

    def write(words):
        p = words.p
        return p * preferences.winner_factor(p, reward, k)

    def exact():
        return list(lineages.generations(lineages.Words(), p, rng=rng, write=write, **SETTINGS))

    benchmark.pedantic(exact, rounds=5, warmup_rounds=1)
    ours = timed(exact)
    theirs = timed(lambda: raw(p, reward, k, rng, **SETTINGS), repeats=1)
    benchmark.extra_info["raw_over_ours"] = theirs / ours
    print(f"\nK = {k}: {ours * 1e3:.1f} ms, raw choices {theirs:.2f} s ({theirs / ours:.0f}x)")
    assert theirs / ours >= REQUIRED
