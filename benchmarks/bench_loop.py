"""What does the loop cost beside a model that takes ten milliseconds? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_loop.py

The model repeats its rows and computes for ten milliseconds of process time in each generation. The
same generations by `recurse`, copies and checks included, and by a bare loop that a reader would
write, in turn; of both, the least of many short runs. What a run costs once is in it, too.
"""

import time

import numpy as np
import pandas as pd
import pytest

from collapse_utils import Accumulate, Replace, recurse

pytest.importorskip("pytest_benchmark")

ALLOWED = 1.05
GENERATIONS, LINEAGES, RUNS, SECONDS_OF_FIT = 5, 4, 8, 0.010
NOISE = np.random.default_rng(0).normal(size=20_000)


class Bootstrap:
    """Repeats its rows, after work that leaves nothing of them in the processor's caches."""

    def fit(self, X, rng):
        self.rows, end = X, time.process_time() + SECONDS_OF_FIT
        while time.process_time() < end:
            np.sort(NOISE)

    def sample(self, n, rng):
        which = rng.integers(len(self.rows), size=n)
        return self.rows.iloc[which] if hasattr(self.rows, "iloc") else self.rows[which]


def table(n):
    """Half numbers, one in ten of half of these missing; categories; dates and whole numbers."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(n, 4))).rename(columns=str)
    for name in "01":
        rows[name] = rows[name].where(rows[name] > -1.28)
        rows[f"kind {name}"] = pd.Categorical(np.where(rows[name] > 0, "high", "low"))
    rows["since"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D")
    return rows.assign(count=rng.poisson(3, n))


ROWS = {
    "2,000 x 4 numbers": np.random.default_rng(0).normal(size=(2000, 4)),
    "1,000 x 40 numbers": np.random.default_rng(0).normal(size=(1000, 40)),
    "1,000 strings": np.array([f"This is text {i}, and no other." for i in range(1000)]),
    "table of 6,000 x 8": table(6000),
}


def bare(rows, accumulate):
    rng = np.random.default_rng(1)
    join = pd.concat if isinstance(rows, pd.DataFrame) else np.concatenate
    for _ in range(LINEAGES):
        training = rows
        for _ in range(GENERATIONS):
            model = Bootstrap()
            model.fit(training, rng)
            len(model.sample(len(rows), rng))  # what a metric looks at
            written = model.sample(len(rows), rng)
            training = join([training, written]) if accumulate else written


def looped(rows, accumulate):
    recurse(
        Bootstrap(), rows, n_generations=GENERATIONS, n_replicates=LINEAGES,
        workflow=Accumulate() if accumulate else Replace(),
        metrics={"rows": lambda s: len(s.sample)}, rng=np.random.default_rng(1),
    )  # fmt: skip


@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
@pytest.mark.parametrize("name", ROWS)
def test_loop(name, workflow):
    best = {}
    for _ in range(RUNS):
        for run in (bare, looped):
            start = time.process_time()
            run(ROWS[name], workflow == "accumulate")
            best[run] = min(best.get(run, np.inf), time.process_time() - start)
    each = 1e3 * best[bare] / GENERATIONS / LINEAGES
    ratio = best[looped] / best[bare]
    print(f"{name}, {workflow}: {each:.1f} ms, recurse {ratio:.3f} times that")
    assert ratio <= ALLOWED
