"""Flow matching: a velocity field carries noise to data in a few steps.

A point of the path is ``x_t = (1 - t) z + t x``, with standard normal z and data x, and the
velocity is the mean of ``x - z`` given x_t (Lipman et al. 2023). A step of Euler's method on this
path is one of DDIM (Song et al. 2021). The best linear velocity is exact for Gaussian data; `Flow`
is a small network on top of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from .. import _checks
from .._checks import checked, number, one_of, whole
from .vae import _adam, _rate

Floats = NDArray[Any]
_LEAST = 1e-12  # smallest variance of a direction
_N_CLOCK = 5  # numbers that tell the time
_DROP = 0.1  # share of the training rows whose class is withheld, for guidance


def slope(t: Any, variance: Any) -> tuple[Any, Any]:
    """Linear velocity ``a x_t`` of centred data, and the variance s of x_t: ``(a, s)``.

    ``s = (1 - t)^2 + t^2 v`` and ``a = (t v - (1 - t)) / s``; derived in the chapter ``diffusion``.
    """
    path = (1 - t) ** 2 + t**2 * variance
    return (t * variance - (1 - t)) / path, path


def integrate(velocity: Callable, x: Floats, n_steps: int, solver: str = "euler") -> Floats:
    """Carry `x` from time 0 to 1 along ``velocity(x, t)`` in equal steps."""
    h = 1 / n_steps
    for k in range(n_steps):
        step = velocity(x, k * h)
        if solver == "heun":
            step = (step + velocity(x + h * step, (k + 1) * h)) / 2
        x = x + h * step
    return x


@checked(
    hidden=whole(1), n_classes=whole(), guidance=number(), n_steps=whole(1), n_train=whole(1),
    solver=one_of("euler", "heun"), batch_size=whole(1), learning_rate=number(0, 1, above=True),
)  # fmt: skip
@dataclass(kw_only=True, eq=False, repr=False)
class Flow(BaseEstimator):
    """A network for the velocity: the linear one, and two hidden layers for what it misses.

    Inputs and outputs have unit variance where the linear velocity is right, as in Karras et al.
    (2022); the last layer starts at zero, which is the linear velocity.

    - `hidden`: Width of both hidden layers (ReLU).
    - `n_classes`: Above 0, the last column of the rows is a label 0, 1, ..., learned with the data
      and written with them, in the shares of the data.
    - `guidance`: w of classifier-free guidance (Ho and Salimans 2022): ``1 + w`` times the velocity
      of the class less ``w`` times the one without a class.
    - `n_steps`, `solver` ({"euler", "heun"}): Steps from noise to data.
    - `n_train`, `batch_size`, `learning_rate`: Adam steps, rows per step, peak rate.

    - `parts_` (dict of str to ndarray): Weights, moments, and shares of the classes.
    """

    hidden: int = 96
    n_classes: int = 0
    guidance: float = 0.0
    n_steps: int = 10
    solver: str = "heun"
    n_train: int = 400
    batch_size: int = 128
    learning_rate: float = 7e-3

    def fit(self, X: ArrayLike, rng: np.random.Generator | None = None) -> Flow:
        """Train on rows `X` of shape (n, d), or (n, d + 1) with labels."""
        self.parts_ = self.fit_many([X], rng)[0].parts_
        return self

    def fit_many(
        self, Xs: Sequence[ArrayLike], rng: np.random.Generator | None = None
    ) -> list[Flow]:
        """Train one network on each data set, side by side."""
        seed = int(np.random.default_rng(rng).integers(2**63))
        fitted = [clone(self) for _ in Xs]
        for model, parts in zip(fitted, self._train([*map(self._split, Xs)], seed), strict=True):
            model.parts_ = parts
        return fitted

    def sample(self, n: int, rng: np.random.Generator | None = None) -> Floats:
        """Write `n` rows, of the shape of those it was trained on."""
        n, rng = _checks.whole(1)("n", n), np.random.default_rng(rng)
        w, variance = self.parts_, self.parts_["variances"].astype(np.float32)
        of_point, of_time, of_kind = np.split(w["W1"], np.cumsum([len(variance), _N_CLOCK]))
        label = rng.choice(len(w["shares"]), n, p=w["shares"])
        kind = of_kind[label] if self.n_classes else np.float32(0)

        def rest(hidden: Floats) -> Floats:
            hidden = np.maximum(np.maximum(hidden, 0) @ w["W2"] + w["b2"], 0)
            return hidden @ w["W3"] + w["b3"]

        def velocity(x: Floats, t: float) -> Floats:
            a, path = slope(t, variance)
            of_all = w["b1"] + np.array(_clock(t, np), np.float32) @ of_time
            hidden = x / np.sqrt(path) @ of_point + of_all
            out = rest(hidden + kind)
            if self.guidance:
                out = (1 + self.guidance) * out - self.guidance * rest(hidden)
            return a * x + np.sqrt(variance / path) * out

        x = rng.standard_normal((n, len(variance)), dtype=np.float32)
        rows = w["mean"] + integrate(velocity, x, self.n_steps, self.solver) @ w["axes"].T
        return np.column_stack([rows, label]) if self.n_classes else rows

    def _split(self, X: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
        """Rows, and a label for each."""
        X = _rows(X)
        if not self.n_classes:
            return X, np.zeros(len(X), dtype=np.int64)
        if not np.isin(X[:, -1], range(self.n_classes)).all():
            raise ValueError(f"X must have labels 0 to {self.n_classes - 1} in its last column, "
                             f"got {X[:, -1].min():g} to {X[:, -1].max():g}")  # fmt: skip
        return X[:, :-1], X[:, -1].astype(np.int64)

    def _train(self, data: list[tuple[Floats, NDArray]], seed: int) -> list[dict[str, Floats]]:
        import torch

        rng = torch.Generator().manual_seed(seed)
        n, h, batch = len(data), self.hidden, self.batch_size
        moments = [_principal(X) for X, _ in data]
        centred = [(X - m) @ axes for (X, _), (m, _, axes) in zip(data, moments, strict=True)]
        pool = torch.from_numpy(np.concatenate(centred)).float()
        known = torch.from_numpy(np.concatenate([label for _, label in data]))
        sizes = torch.tensor([len(X) for X in centred])[:, None]
        variance = torch.tensor(np.stack([v for _, v, _ in moments])[:, None]).float()
        d, first, kinds = pool.shape[1], sizes.cumsum(0) - sizes, torch.eye(self.n_classes or 1)
        w = {"W1": torch.randn(n, d + _N_CLOCK + self.n_classes, h, generator=rng) / d**0.5}
        w |= {"b1": torch.zeros(n, 1, h), "W2": torch.randn(n, h, h, generator=rng) / h**0.5}
        w |= {"b2": torch.zeros(n, 1, h), "W3": torch.zeros(n, h, d), "b3": torch.zeros(n, 1, d)}
        every = [one.requires_grad_() for one in w.values()]
        descend = _adam(every)
        for step in range(self.n_train):
            pick, t, keep = torch.rand(3, n, batch, 1, generator=rng)
            rows = first + (pick[..., 0] * sizes).long()
            x, z = pool[rows], torch.randn(n, batch, d, generator=rng)
            point, (a, path) = torch.lerp(z, x, t), slope(t, variance)
            inputs = [point / path.sqrt(), *_clock(t, torch)]
            if self.n_classes:
                inputs.append(kinds[known[rows]] * (keep > _DROP))
            hidden = torch.baddbmm(w["b1"], torch.cat(inputs, -1), w["W1"]).relu()
            hidden = torch.baddbmm(w["b2"], hidden, w["W2"]).relu()
            target = (x - z - a * point) / (variance / path).sqrt()
            misses = torch.baddbmm(w["b3"], hidden, w["W3"]) - target
            grads = torch.autograd.grad(misses.square().mean((1, 2)).sum(), every)
            for one, grad in zip(every, grads, strict=True):
                one.grad = grad
            descend(self.learning_rate * _rate(step, self.n_train))
        fitted = [{k: one[b].detach().numpy() for k, one in w.items()} for b in range(n)]
        for parts, (_, label), moment in zip(fitted, data, moments, strict=True):
            parts |= zip(("mean", "variances", "axes"), moment, strict=True)
            parts["shares"] = np.bincount(label, minlength=max(1, self.n_classes)) / len(label)
        return fitted


def _rows(X: ArrayLike) -> Floats:
    X = np.asarray(X, dtype=float)
    if X.ndim != 2 or len(X) < 2 or X.shape[1] < 1 or not np.isfinite(X).all():
        raise ValueError(f"X must be finite, of shape (n >= 2, d), got shape {X.shape}")
    return X


def _principal(X: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, variances (ddof = 0) along the principal axes, and the axes."""
    mean = X.mean(axis=0)
    variances, axes = np.linalg.eigh((X - mean).T @ (X - mean) / len(X))
    return mean, np.maximum(variances, _LEAST), axes


def _clock(t: Any, library: Any) -> list:
    """What a network reads of the time."""
    return [t, *(f(k * np.pi * t) for k in (1, 2) for f in (library.sin, library.cos))]
