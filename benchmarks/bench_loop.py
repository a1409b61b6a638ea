"""What does the loop cost beside the model? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_loop.py

The same fits and samples by `recurse`, copies and checks included, and by a bare loop that a reader
would write. Both take the least of several runs.
"""

import time

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from collapse_utils import Accumulate, Replace, recurse

pytest.importorskip("pytest_benchmark")

ALLOWED = 1.05
GENERATIONS, LINEAGES = 6, 3


class Slow:
    """A mixture of three Gaussians with a fixed number of steps: some tens of ms a fit."""

    def fit(self, X, rng):
        seed = int(rng.integers(2**31))
        self.fitted = GaussianMixture(3, tol=0, max_iter=9, init_params="random", random_state=seed)
        self.fitted.fit(X.reshape(len(X), -1))
        return self

    def sample(self, n, rng):
        self.fitted.set_params(random_state=int(rng.integers(2**31)))
        return self.fitted.sample(n)[0]


def bare(rows, accumulate, seed):
    rng = np.random.default_rng(seed)
    for _ in range(LINEAGES):
        training = rows
        for _ in range(GENERATIONS):
            model = Slow().fit(training, rng)
            written = model.sample(len(rows), rng)
            model.sample(len(rows), rng)  # what a metric looks at
            training = np.concatenate([training, written]) if accumulate else written


def looped(rows, accumulate, seed):
    workflow = Accumulate() if accumulate else Replace()
    recurse(
        Slow(), rows, n_generations=GENERATIONS, n_replicates=LINEAGES, workflow=workflow,
        metrics={"spread": lambda s: s.sample.std()}, rng=np.random.default_rng(seed),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
@pytest.mark.parametrize("shape", [(2000, 4), (1000, 40)], ids=["2000x4", "1000x40"])
def test_loop(benchmark, workflow, shape):
    rows, accumulate = np.random.default_rng(0).normal(size=shape), workflow == "accumulate"
    best = {}
    for _ in range(5):  # in turn, so that a busy machine treats both alike
        for run in (bare, looped):
            start = time.process_time()
            run(rows, accumulate, 1)
            best[run] = min(best.get(run, np.inf), time.process_time() - start)
    fits = GENERATIONS * LINEAGES
    ratio = best[looped] / best[bare]
    benchmark.extra_info.update(ms_per_fit=1e3 * best[bare] / fits, recurse_over_bare=ratio)
    benchmark.pedantic(looped, (rows, accumulate, 1), rounds=1)
    print(f"\n{workflow}, {shape}: {1e3 * best[bare] / fits:.1f} ms, recurse {ratio:.3f} of it")
    assert ratio <= ALLOWED
