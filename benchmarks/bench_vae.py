"""What does training VAEs together save? Process time of one thread.

    OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_vae.py --benchmark-disable-gc

The same small VAE on the real 8x8 digits, trained with the same number of steps: by an ordinary
torch loop (module, automatic differentiation, Adam), one model at a time; and by `VAE.fit_many`
with 1, 8 and 18 models. The last test prints milliseconds per step and model, and the goal.
"""

import time

import numpy as np
import pytest
import torch

from collapse_utils import data
from collapse_utils.models.vae import VAE

pytest.importorskip("pytest_benchmark")

STEPS, BATCH, HIDDEN, LATENT, SIGMA2 = 100, 100, 128, 10, 0.03
GOAL = 3.0  # times faster per model at 8 models than the loop; least: 4.5
SECONDS = {}  # per step and model, filled by the benchmarks and read by the last test


class Ordinary(torch.nn.Module):
    """The VAE that a reader writes first."""

    def __init__(self, pixels):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Linear(pixels, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(LATENT, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, pixels),
            torch.nn.Sigmoid(),
        )  # fmt: skip

    def loss(self, x):
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        residual = (x - self.decoder(z)).square().sum() / (2 * SIGMA2)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (residual + divergence) / len(x)


def train_ordinary(X):
    rows = torch.from_numpy(X)
    model = Ordinary(X.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimiser.zero_grad()
        model.loss(rows[torch.randint(len(rows), (BATCH,))]).backward()
        optimiser.step()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clock(benchmark):
    """Benchmark a training of ``n_models`` in process time."""

    def run(name, n_models, function, *arguments):
        benchmark._timer = time.process_time
        benchmark.pedantic(function, arguments, rounds=5, warmup_rounds=1)
        if benchmark.stats is not None:  # absent with --benchmark-disable
            SECONDS[name] = benchmark.stats.stats.min / (STEPS * n_models)
            benchmark.extra_info["ms per step and model"] = 1e3 * SECONDS[name]

    return run


def test_ordinary_loop(clock):
    clock("ordinary loop", 1, train_ordinary, data.images("digits")[0])


@pytest.mark.parametrize("n_models", [1, 8, 18])
def test_stacked(clock, n_models):
    model = VAE(hidden=HIDDEN, latent=LATENT, sigma2=SIGMA2, n_steps=STEPS, batch_size=BATCH)
    sets = [data.images("digits")[0]] * n_models
    clock(f"stacked {n_models}", n_models, model.fit_many, sets, np.random.default_rng(0))


def test_goal():
    if "stacked 8" not in SECONDS:
        pytest.skip("needs the timings of the benchmarks above")
    print()
    for name, seconds in SECONDS.items():
        ratio = SECONDS["ordinary loop"] / seconds
        print(f"{name:14s} {1e3 * seconds:6.3f} ms per step and model, {ratio:4.1f}x")
    assert SECONDS["ordinary loop"] / SECONDS["stacked 8"] >= GOAL
