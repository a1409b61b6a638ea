"""What does the loop cost beside the model? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_loop.py

The same fits and samples by `recurse`, copies and checks included, and by a bare loop that a reader
would write. Both take the least of several runs. Looking at the columns of a table costs about a
millisecond a generation, whatever its length.
"""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
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


class Copula:
    """Every column of a table by its own quantiles, tied by the correlations of normal scores."""

    def fit(self, X, rng):
        self.columns = X.apply(lambda column: column.sort_values(ignore_index=True))
        ranks = X.sample(frac=1, random_state=rng).rank(method="first", na_option="bottom")
        self.ties = np.corrcoef(norm.ppf(ranks.to_numpy() / (len(X) + 1)).T)
        return self

    def sample(self, n, rng):
        scores = rng.multivariate_normal(np.zeros(len(self.ties)), self.ties, n)
        places = (norm.cdf(scores) * len(self.columns)).astype(int).T
        found = zip(self.columns.items(), places, strict=True)
        return pd.DataFrame({name: one.array.take(place) for (name, one), place in found})


def array(shape):
    return np.random.default_rng(0).normal(size=shape)


def table(shape):
    """Half numbers, one in ten of them missing; half categories."""
    rows = pd.DataFrame(array(shape)).rename(columns=str)
    for name in rows.columns[::2]:
        rows[name] = rows[name].where(rows[name] > -1.28)
        rows[f"kind {name}"] = pd.Categorical(np.where(rows[name] > 0, "high", "low"))
    return rows


def bare(model, rows, accumulate, seed):
    rng = np.random.default_rng(seed)
    join = np.concatenate if isinstance(rows, np.ndarray) else pd.concat
    for _ in range(LINEAGES):
        training = rows
        for _ in range(GENERATIONS):
            fitted = model().fit(training, rng)
            written = fitted.sample(len(rows), rng)
            fitted.sample(len(rows), rng)  # what a metric looks at
            training = join([training, written]) if accumulate else written


def looped(model, rows, accumulate, seed):
    workflow = Accumulate() if accumulate else Replace()
    recurse(
        model, rows, n_generations=GENERATIONS, n_replicates=LINEAGES, workflow=workflow,
        metrics={"rows": lambda s: len(s.sample)}, rng=np.random.default_rng(seed),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("workflow", ["replace", "accumulate"])
@pytest.mark.parametrize(
    ("model", "rows"),
    [(Slow, array((2000, 4))), (Slow, array((1000, 40))), (Copula, table((6000, 6)))],
    ids=["2000x4", "1000x40", "table"],
)
def test_loop(benchmark, workflow, model, rows):
    accumulate, best = workflow == "accumulate", {}
    for _ in range(5):  # in turn, so that a busy machine treats both alike
        for run in (bare, looped):
            start = time.process_time()
            run(model, rows, accumulate, 1)
            best[run] = min(best.get(run, np.inf), time.process_time() - start)
    fits = GENERATIONS * LINEAGES
    ratio = best[looped] / best[bare]
    benchmark.extra_info.update(ms_per_fit=1e3 * best[bare] / fits, recurse_over_bare=ratio)
    benchmark.pedantic(looped, (model, rows, accumulate, 1), rounds=1)
    print(
        f"\n{workflow}, {rows.shape}: {1e3 * best[bare] / fits:.1f} ms, recurse {ratio:.3f} of it"
    )
    assert ratio <= ALLOWED
