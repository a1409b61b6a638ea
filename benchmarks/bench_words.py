"""How fast are many lineages of words at once? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_words.py --benchmark-disable-gc

The rival is what a reader writes first: ``Generator.choice`` for each replicate and generation,
with the counts of the page before. The rival only counts; the simulator also records diversity and
the number of symbols alive at every generation. The last test prints time per generation x
replicate, the ratios, and the goal of the book.
"""

import numpy as np
import pytest

from collapse_utils import Accumulate, FreshData, Mix
from collapse_utils.lineages import Words, generations
from collapse_utils.models import words
from collapse_utils.models.words import zipf

pytest.importorskip("pytest_benchmark")

GOAL = 7  # times faster than the loop over Generator.choice at K = M = 1000; least: 10.7
G = 100
# name -> K, M, R, Zipf exponent
WORLDS = {
    "K = M = 1000, exponent 1": (1000, 1000, 50, 1.0),
    "K = M = 1000, uniform": (1000, 1000, 50, 0.0),
    "K = 100, M = 1000": (100, 1000, 50, 1.0),
    "K = 10,000, M = 1000": (10_000, 1000, 20, 1.0),
    "K = 1000, M = 10,000": (1000, 10_000, 10, 1.0),
}
SECONDS = {}  # per generation x replicate, filled by the benchmarks and read by the last test


def choice_loop(p, n_samples, n_replicates, rng):
    """One replicate after the other, one generation after the other."""
    for _ in range(n_replicates):
        q = p
        for _ in range(G):
            rows = rng.choice(len(q), n_samples, p=q)
            q = np.bincount(rows, minlength=len(p)) / n_samples


def simulate(p, workflow=None, **plan):
    """Diversity and living symbols of every generation."""
    texts = generations(Words(), p, workflow, rng=np.random.default_rng(0), **plan)
    return [(text.diversity, text.alive) for text in texts]


@pytest.mark.parametrize("world", WORLDS)
def test_choice_loop(clock, world):
    k, m, _, exponent = WORLDS[world]
    clock(("loop", world), G * 4, choice_loop, zipf(k, exponent), m, 4, np.random.default_rng(0))


@pytest.mark.parametrize("world", WORLDS)
def test_simulate(clock, world):
    k, m, r, exponent = WORLDS[world]
    clock(
        ("simulate", world), G * r, simulate, zipf(k, exponent),
        n_samples=m, n_generations=G, n_replicates=r,
    )  # fmt: skip


@pytest.mark.parametrize(
    "workflow", [Accumulate(), FreshData(0.1), Mix(0.9, gamma=0.1)], ids=lambda w: type(w).__name__
)
def test_workflows(clock, workflow):
    clock(
        ("simulate", type(workflow).__name__), G * 50, simulate, zipf(1000), workflow,
        n_samples=1000, n_generations=G, n_replicates=50,
    )  # fmt: skip


def test_collapse_to_the_end(clock):
    clock(
        ("collapse", "K = 10, M = 50"), 5000, words.collapse, zipf(10),
        n_samples=50, n_replicates=5000, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_exact_laws(clock):
    clock(
        ("exact", "survival, K = M = G = 1000"), 1, words.survival, zipf(1000),
        n_samples=1000, n_generations=1000,
    )  # fmt: skip


def test_goal_and_ratios():
    """The table, and the goal."""
    if any((kind, world) not in SECONDS for kind in ("loop", "simulate") for world in WORLDS):
        pytest.skip("needs the benchmarks above, without --benchmark-disable")
    print(f"\nG = {G}; us/(gen x rep){'choice loop':>22}{'simulate':>12}{'ratio':>8}")
    for world in WORLDS:
        loop, fast = SECONDS["loop", world], SECONDS["simulate", world]
        print(f"{world:28}{1e6 * loop:15.2f}{1e6 * fast:12.2f}{loop / fast:7.1f}x")
    for (kind, name), seconds in SECONDS.items():
        if name not in WORLDS:
            print(f"{kind} {name}: {1e6 * seconds:.3g} us")
    for world in ("K = M = 1000, exponent 1", "K = M = 1000, uniform"):
        assert SECONDS["loop", world] / SECONDS["simulate", world] >= GOAL
