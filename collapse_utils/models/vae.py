"""Variational autoencoders for small images.

`VAE` is a multilayer perceptron trained with torch, many at a time if asked; once fitted it
samples and encodes in numpy. `ConvVAE` is the convolutional network that Shumailov et al. released;
it is made for a GPU and uses one when torch finds it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone

from .. import _checks
from .._checks import checked, number, one_of, whole

LIKELIHOODS = ("gaussian", "learned", "bernoulli")
SAMPLINGS = ("mean", "noisy")
_STEPS_AT_ONCE = 50  # minibatches drawn ahead, to call the generators rarely
SMALLEST_SIGMA2 = 1e-6
_SIDE = 28  # pixels along an edge of what the convolutions read
_ROWS_AT_ONCE = 2000  # images that pass fitted convolutions together
_SETTINGS = {
    "latent": whole(1),
    "likelihood": one_of(*LIKELIHOODS),
    "sigma2": number(SMALLEST_SIGMA2),
    "sampling": one_of(*SAMPLINGS),
    "n_steps": whole(1),
    "batch_size": whole(1),
}


@dataclass(kw_only=True, eq=False, repr=False)
class _ImageVAE(BaseEstimator):
    """What autoencoders share: a subclass has ``fit(X)``, ``sigma2_`` and ``decode(z)``."""

    latent: int = 10
    likelihood: str = "gaussian"
    sigma2: float = 0.03
    sampling: str = "mean"
    n_steps: int = 600
    batch_size: int = 100

    def sample(self, n: int, rng: np.random.Generator | None = None) -> NDArray[np.float32]:
        """Write `n` images: shape (n, pixels). Noise may leave [0, 1]: clipping changes the law."""
        n = _checks.whole(1)("n", n)
        rng = np.random.default_rng(rng)
        mean = self.decode(rng.standard_normal((n, self.latent), dtype=np.float32))
        if self.sampling == "mean":
            return mean
        if self.likelihood == "bernoulli":
            return (rng.random(mean.shape, dtype=np.float32) < mean).astype(np.float32)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        return mean + np.float32(math.sqrt(self.sigma2_)) * noise

    def _noise(self, residuals: NDArray[np.float32]) -> NDArray:
        """Decoder variance, shape (...), from mean squared residuals, shape (n_steps, ...)."""
        late = residuals[-max(1, self.n_steps // 20) :].mean(axis=0)
        return {
            "gaussian": np.full(late.shape, self.sigma2),
            "learned": np.maximum(late, SMALLEST_SIGMA2),
            "bernoulli": np.full(late.shape, math.nan),
        }[self.likelihood]

    def _check_images(self, X: ArrayLike) -> NDArray[np.float32]:
        """Images as float32 rows; ten sigma of this decoder's noise are let pass."""
        margins = {"gaussian": 10 * math.sqrt(self.sigma2), "learned": 5.0, "bernoulli": 0.0}
        margin = margins[self.likelihood]
        X = np.asarray(X, dtype=np.float32)
        if X.ndim != 2 or X.size == 0:
            raise ValueError(f"X must hold images as rows, shape (n, pixels), got shape {X.shape}")
        if not np.isfinite(X).all():
            raise ValueError("X must be finite, got NaN or infinity")
        low, high = X.min(), X.max()
        if low < -margin or high > 1 + margin:
            allowed = "[0, 1]" if margin == 0 else f"[0, 1] give or take noise of {margin:.2g}"
            raise ValueError(f"X must hold pixels in {allowed}, got [{low:.4g}, {high:.4g}]")
        return X

    def _check_codes(self, z: ArrayLike) -> NDArray[np.float32]:
        z = np.asarray(z, dtype=np.float32)
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise ValueError(f"z must have shape (n, {self.latent}), got {z.shape}")
        return z


@checked(hidden=whole(1), learning_rate=number(0, 1, above=True), **_SETTINGS)
@dataclass(kw_only=True, eq=False, repr=False)
class VAE(_ImageVAE):
    """A variational autoencoder with one hidden layer on each side.

    ReLU inside, sigmoid at the end. Trained by Adam on the negative evidence lower bound with one
    latent draw per image (Kingma and Welling 2014, eq. 10).

    - `hidden`, `latent`: Width of the hidden layers and of the latent code.
    - `likelihood` ({"gaussian", "learned", "bernoulli"}): Noise of the decoder: Gaussian with
      variance `sigma2`; Gaussian with one variance learned from the data (the mean squared
      residual, as in the sigma-VAE of Rybkin et al. 2021); or Bernoulli pixels (binary
      cross-entropy).
    - `sigma2`: Decoder variance for ``likelihood="gaussian"``.
    - `sampling` ({"mean", "noisy"}): `sample` returns the decoder's mean, as the published
      experiment does, or a draw from the model, noise and all.
    - `n_steps`, `batch_size`: Adam steps and images per step (drawn with replacement).
    - `learning_rate`: Peak rate: warm-up over 5 % of the steps, then linear decay to zero.

    - `weights_` (dict of str to ndarray)
    - `sigma2_`: Decoder variance (NaN for Bernoulli).
    - `loss_` (ndarray, shape (n_steps,)): Negative evidence lower bound per image, nats, on each
      minibatch.
    """

    hidden: int = 128
    learning_rate: float = 1e-2

    def fit(self, X: ArrayLike, rng: np.random.Generator | None = None) -> VAE:
        """Train on images, shape (n, pixels), in [0, 1] give or take the decoder's own noise.

        One integer is drawn from `rng`; it settles the start, the minibatches and the noise.
        """
        (fitted,) = self.fit_many([X], rng=rng)
        vars(self).update(vars(fitted))
        return self

    def fit_many(
        self, Xs: Sequence[ArrayLike], rng: np.random.Generator | None = None
    ) -> list[VAE]:
        """Train one VAE on each data set: what one `fit` after the other gives, batched."""
        rng = np.random.default_rng(rng)
        data = [self._check_images(X) for X in Xs]
        if len({X.shape[1] for X in data}) != 1:
            widths = sorted({X.shape[1] for X in data})
            raise ValueError(f"Xs must hold images of one size, got {widths} pixels")
        seeds = [int(rng.integers(2**63)) for _ in data]
        stacked, sigma2, losses = _train(self, data, seeds)
        fitted = []
        for b in range(len(data)):
            model = clone(self)
            model.weights_ = {name: w[b] for name, w in stacked.items()}
            model.sigma2_ = float(sigma2[b])
            model.loss_ = losses[:, b]
            fitted.append(model)
        return fitted

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean latent code of each image, shape (n, latent)."""
        X = self._check_images(X)
        w = self.weights_
        if X.shape[1] != len(w["W1"]):
            raise ValueError(f"X must hold images of {len(w['W1'])} pixels, got {X.shape[1]}")
        hidden = np.maximum(X @ w["W1"] + w["b1"], 0)
        return (hidden @ w["W2"] + w["b2"])[:, : self.latent]

    def decode(self, z: ArrayLike) -> NDArray[np.float32]:
        """Pixel means for latent codes of shape (n, latent)."""
        w = self.weights_
        hidden = np.maximum(self._check_codes(z) @ w["W3"] + w["b3"], 0)
        return expit(hidden @ w["W4"] + w["b4"])


def _train(
    config: VAE, data: list[NDArray[np.float32]], seeds: list[int]
) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Train B models at once: weights (B, ...), sigma2 (B,), losses (n_steps, B).

    Each model has a generator of its own, and so is the same whatever company it is trained in.
    """
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    # Lineages often share their data (generation 1 does): keep one copy of each array.
    unique = list({id(X): X for X in data}.values())
    starts = dict(zip(map(id, unique), np.cumsum([0, *map(len, unique)]), strict=False))
    rows = torch.from_numpy(np.concatenate(unique))
    stack = _Stack(config, _start(config, data, generators))
    descend = _adam(list(stack.weights.values()))
    losses, residuals = torch.empty(2, config.n_steps, len(data))

    def minibatches() -> Iterator[tuple[Any, Any]]:
        for first in range(0, config.n_steps, _STEPS_AT_ONCE):
            shape = (min(_STEPS_AT_ONCE, config.n_steps - first), config.batch_size)
            chosen = [
                torch.randint(len(X), shape, generator=g) + int(starts[id(X)])
                for X, g in zip(data, generators, strict=True)
            ]
            noise = [torch.randn(*shape, config.latent, generator=g) for g in generators]
            yield from zip(torch.stack(chosen, 1), torch.stack(noise, 1), strict=True)

    with _one_thread(), torch.no_grad():
        for step, (chosen, noise) in enumerate(minibatches()):
            torch.index_select(rows, 0, chosen.flatten(), out=stack.x.flatten(0, 1))
            losses[step], residuals[step] = stack.gradients(noise)
            descend(config.learning_rate * _rate(step, config.n_steps))
    weights = {
        name: (w.squeeze(1) if name.startswith("b") else w).detach().numpy()
        for name, w in stack.weights.items()
    }
    return weights, config._noise(residuals.numpy()), losses.numpy()


def _start(config: VAE, data: list[NDArray[np.float32]], generators: list[Any]) -> dict[str, Any]:
    """Starting weights, uniform in +-1/sqrt(inputs); the output bias gives the mean image."""
    import torch

    pixels = data[0].shape[1]
    layers = {
        "1": (pixels, config.hidden),
        "2": (config.hidden, 2 * config.latent),
        "3": (config.latent, config.hidden),
        "4": (config.hidden, pixels),
    }
    weights = {}
    for layer, (n_in, n_out) in layers.items():
        draws = [torch.rand(n_in + 1, n_out, generator=g) for g in generators]
        uniform = (torch.stack(draws) * 2 - 1) / math.sqrt(n_in)
        weights["W" + layer] = uniform[:, 1:].contiguous()
        weights["b" + layer] = uniform[:, :1].contiguous()
    mean_images = np.stack([X.mean(0) for X in data])
    weights["b4"] = torch.from_numpy(logit(mean_images.clip(0.01, 0.99))[:, None])
    return weights


class _Stack:
    """B autoencoders that are trained as one, with their gradients and their scratch memory.

    The gradient is written out by hand into memory that is used again at every step: at this size
    a step costs less than half of what automatic differentiation takes. Put the images of a step
    into ``x``, shape (B, batch, pixels), then call `gradients`.
    """

    def __init__(self, config: VAE, weights: dict[str, Any]) -> None:
        import torch

        self.config, self.weights = config, weights
        for w in weights.values():
            w.grad = torch.zeros_like(w)
        n_models, pixels, hidden = weights["W1"].shape
        new = [torch.empty(n_models, config.batch_size, size) for size in (pixels, hidden)]
        self.x, self.pixels, self.errors = new[0], new[0].clone(), new[0].clone()
        self.encoded, self.decoded, self.back = new[1], new[1].clone(), new[1].clone()

    def gradients(self, noise: Any) -> tuple[Any, Any]:
        """Fill ``grad`` of every weight; ``noise`` is standard normal, (B, batch, latent).

        Returns negative bound per image (nats) and mean squared residual per pixel, shape (B,).
        """
        import torch

        w, x, n, latent = self.weights, self.x, self.config.batch_size, self.config.latent
        pixels = x.shape[-1]

        def back_into(layer: str, inputs: Any, delta: Any) -> None:
            torch.bmm(inputs.mT, delta, out=w["W" + layer].grad)
            torch.sum(delta, 1, keepdim=True, out=w["b" + layer].grad)

        # Forward.
        h = torch.baddbmm(w["b1"], x, w["W1"], out=self.encoded).clamp_(min=0)
        mean, log_variance = torch.baddbmm(w["b2"], h, w["W2"]).split(latent, dim=-1)
        sd = (log_variance / 2).exp()
        z = torch.addcmul(mean, noise, sd)
        g = torch.baddbmm(w["b3"], z, w["W3"], out=self.decoded).clamp_(min=0)
        y = torch.baddbmm(w["b4"], g, w["W4"], out=self.pixels)
        if self.config.likelihood == "bernoulli":
            entropy = torch.nn.functional.softplus(y).addcmul_(x, y, value=-1).mean((1, 2))
        y.sigmoid_()
        error = torch.sub(y, x, out=self.errors)
        residual = torch.linalg.vector_norm(error, dim=(1, 2)).square() / (n * pixels)
        divergence = (mean.square() + sd.square() - 1 - log_variance).sum((1, 2)) / (2 * n)

        # Loss per pixel, and its derivative by the decoder's output before the sigmoid.
        if self.config.likelihood == "bernoulli":
            loss = entropy
            error /= n
        else:
            sigma2 = residual.clamp(min=SMALLEST_SIGMA2)
            if self.config.likelihood == "gaussian":
                sigma2.fill_(self.config.sigma2)
            loss = ((2 * math.pi * sigma2).log() + residual / sigma2) / 2
            error.mul_(y.addcmul_(y, y, value=-1)).mul_(1 / (n * sigma2[:, None, None]))

        # Backward. After its weights have theirs, a hidden layer becomes its own ReLU mask.
        back_into("4", g, error)
        delta = torch.bmm(error, w["W4"].mT, out=self.back).mul_(g.sign_())
        back_into("3", z, delta)
        dz = torch.bmm(delta, w["W3"].mT)
        by_mean = dz + mean / n
        by_log_variance = (dz * noise * sd + (sd.square() - 1) / n) / 2
        code = torch.cat([by_mean, by_log_variance], dim=-1)
        back_into("2", h, code)
        delta = torch.bmm(code, w["W2"].mT, out=self.back).mul_(h.sign_())
        back_into("1", x, delta)
        return pixels * loss + divergence, residual


def _adam(weights: list[Any], weight_decay: float = 0.0) -> Callable[[float], None]:
    """Adam (Kingma and Ba 2015): a function of the rate that moves `weights` by their ``grad``.

    The arithmetic of ``torch.optim.Adam``, whose construction loads torch's compiler first: that
    takes as long as training dozens of the small networks.
    """
    import torch
    from torch.optim.adam import adam as step

    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    counts = [torch.zeros((), device=w.device) for w in weights]
    settings = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": weight_decay}

    def descend(rate: float) -> None:
        with torch.no_grad():
            grads = [w.grad for w in weights]
            step(
                weights, grads, first, second, [], counts,
                lr=rate, fused=True, amsgrad=False, maximize=False, **settings,
            )  # fmt: skip

    return descend


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over 5 % of the steps, then linear decay."""
    return min((step + 1) / max(1.0, 0.05 * n_steps), (n_steps - step) / n_steps)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: these matrices are too small to share."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --------------------------------------------------------------------------- convolutions


@checked(capacity=whole(1), **_SETTINGS)
@dataclass(kw_only=True, eq=False, repr=False)
class ConvVAE(_ImageVAE):
    """Convolutional variational autoencoder for images of 28 x 28 pixels.

    Architecture, loss and optimiser of the released experiment (Shumailov and Shumaylov 2024,
    code), 647,081 parameters; images in random order, pass after pass (published: 30 passes over
    60,000 images). Parameters and attributes as in `VAE`, and:

    - `capacity`: Channels of the first convolution.

    - `network_` (torch.nn.ModuleDict): ``encode`` and ``decode`` (logits).
    """

    latent: int = 20
    likelihood: str = "bernoulli"
    n_steps: int = 7050
    batch_size: int = 256
    capacity: int = 64

    def fit(self, X: ArrayLike, rng: np.random.Generator | None = None) -> ConvVAE:
        """Train a fresh network on images, shape (n, 784); see `VAE.fit`."""
        import torch

        X = self._check_images(X)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        rng = np.random.default_rng(rng)
        seed = int(rng.integers(2**63))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.network_ = _network(self.latent, self.capacity).to(device)
            self._train(torch.from_numpy(X).to(device).view(-1, 1, _SIDE, _SIDE))
        return self

    def _train(self, images: Any) -> None:
        import torch

        weights = list(self.network_.parameters())
        descend = _adam(weights, weight_decay=1e-5)
        losses, residuals = torch.empty(2, self.n_steps, device=images.device)
        for step, batch in zip(range(self.n_steps), self._batches(images), strict=False):
            mean, log_variance = self.network_["encode"](batch).chunk(2, dim=1)
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            logits = self.network_["decode"](code)
            residual = (logits.sigmoid() - batch).square().mean()
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
            loss = self._misfit(logits, batch, residual) + divergence / len(batch)
            for weight in weights:
                weight.grad = None
            loss.backward()
            descend(1e-3)
            losses[step], residuals[step] = loss.detach(), residual.detach()
        self.loss_ = losses.cpu().numpy()
        self.sigma2_ = float(self._noise(residuals.cpu().numpy()))

    def _batches(self, images: Any) -> Iterator[Any]:
        """Pass after pass, each in a new random order."""
        import torch

        while True:
            order = torch.randperm(len(images), device=images.device)
            yield from (images[rows] for rows in order.split(self.batch_size))

    def _misfit(self, logits: Any, batch: Any, residual: Any) -> Any:
        """Negative log-likelihood per image, nats."""
        import torch

        if self.likelihood == "bernoulli":
            entropy = torch.nn.functional.binary_cross_entropy_with_logits
            return entropy(logits, batch, reduction="sum") / len(batch)
        learned = self.likelihood == "learned"
        sigma2 = residual.clamp(min=SMALLEST_SIGMA2) if learned else torch.tensor(self.sigma2)
        return _SIDE**2 * ((2 * math.pi * sigma2).log() + residual / sigma2) / 2

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean latent code of each image, shape (n, latent)."""
        rows = self._check_images(X).reshape(-1, 1, _SIDE, _SIDE)
        return self._apply("encode", rows)[:, : self.latent]

    def decode(self, z: ArrayLike) -> NDArray[np.float32]:
        """Pixel means for latent codes of shape (n, latent)."""
        logits = self._apply("decode", self._check_codes(z))
        return expit(logits.reshape(len(logits), -1))

    def _apply(self, part: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        device = next(self.network_.parameters()).device
        pieces = np.array_split(rows, math.ceil(len(rows) / _ROWS_AT_ONCE))
        with torch.no_grad():
            done = [self.network_[part](torch.from_numpy(x).to(device)).cpu() for x in pieces]
        return torch.cat(done).numpy()

    def _check_images(self, X: ArrayLike) -> NDArray[np.float32]:
        X = super()._check_images(X)
        if X.shape[1] != _SIDE**2:
            raise ValueError(f"X must hold images of {_SIDE} x {_SIDE} pixels, shape (n, "
                             f"{_SIDE**2}), got shape {X.shape}")  # fmt: skip
        return X


def _network(latent: int, capacity: int) -> Any:
    from torch import nn

    small = _SIDE // 4
    flat = 2 * capacity * small * small
    halve = {"kernel_size": 4, "stride": 2, "padding": 1}
    return nn.ModuleDict(
        {
            "encode": nn.Sequential(
                nn.Conv2d(1, capacity, **halve),
                nn.ReLU(),
                nn.Conv2d(capacity, 2 * capacity, **halve),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(flat, 2 * latent),  # means and log-variances side by side
            ),
            "decode": nn.Sequential(
                nn.Linear(latent, flat),
                nn.Unflatten(1, (2 * capacity, small, small)),
                nn.ConvTranspose2d(2 * capacity, capacity, **halve),
                nn.ReLU(),
                nn.ConvTranspose2d(capacity, 1, **halve),
            ),
        }
    )
