"""Variational autoencoders for small images.

`VAE` is a multilayer perceptron trained with torch, many at a time if asked; once fitted it
samples and encodes in numpy. `ConvVAE` is the convolutional network that Shumailov et al. released;
it is made for a GPU and uses one when torch finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone

from .._checks import checked, number, one_of, whole

LIKELIHOODS = ("gaussian", "learned", "bernoulli")
_STEPS_AT_ONCE = 50  # minibatches drawn ahead, to call the generators rarely
_SMALLEST_SIGMA2 = 1e-6
_SIDE = 28  # pixels along an edge of what the convolutions read
_ROWS_AT_ONCE = 2000  # images that pass fitted convolutions together
_SETTINGS = {
    "latent": whole(1),
    "likelihood": one_of(*LIKELIHOODS),
    "sigma2": number(_SMALLEST_SIGMA2),
    "sampling": one_of("mean", "noisy"),
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

    @checked(n=whole(1))
    def sample(self, n: int, rng: np.random.Generator | None = None) -> NDArray[np.float32]:
        """Write `n` images: shape (n, pixels). Noise may leave [0, 1]: clipping changes the law."""
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
            "learned": np.maximum(late, _SMALLEST_SIGMA2),
            "bernoulli": np.full(late.shape, math.nan),
        }[self.likelihood]

    def _check_images(self, X: ArrayLike, pixels: int | None = None) -> NDArray[np.float32]:
        """Images as float32 rows; ten sigma of this decoder's noise are let pass."""
        margins = {"gaussian": 10 * math.sqrt(self.sigma2), "learned": 5.0, "bernoulli": 0.0}
        margin = margins[self.likelihood]
        X = np.asarray(X, dtype=np.float32)
        if X.ndim != 2 or X.size == 0:
            raise ValueError(f"X must hold images as rows, shape (n, pixels), got shape {X.shape}")
        if not np.isfinite(X).all():
            raise ValueError("X must be finite, got NaN or infinity")
        if pixels not in (None, X.shape[1]):
            raise ValueError(f"X must hold images of {pixels} pixels, got {X.shape[1]}")
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
        vars(self).update(vars(self.fit_many([X], rng=rng)[0]))
        return self

    def fit_many(
        self, Xs: Sequence[ArrayLike], rng: np.random.Generator | None = None
    ) -> list[VAE]:
        """Train one VAE on each data set: what one `fit` after the other gives, batched."""
        import torch

        rng = np.random.default_rng(rng)
        data = [self._check_images(X) for X in Xs]
        widths = sorted({X.shape[1] for X in data})
        if len(widths) != 1:
            raise ValueError(f"Xs must hold images of one size, got {widths} pixels")
        # Each model has a generator of its own: it is the same in whatever company it is trained.
        generators = [torch.Generator().manual_seed(int(rng.integers(2**63))) for _ in data]
        with torch.no_grad():
            weights, losses, residuals = _train(self, data, generators)
        sigma2, fitted = self._noise(residuals), [clone(self) for _ in data]
        for b, model in enumerate(fitted):
            model.weights_ = {k: (w[b, 0] if k[0] == "b" else w[b]) for k, w in weights.items()}
            model.sigma2_, model.loss_ = float(sigma2[b]), losses[:, b]
        return fitted

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean latent code of each image, shape (n, latent)."""
        w = self.weights_
        hidden = np.maximum(self._check_images(X, len(w["W1"])) @ w["W1"] + w["b1"], 0)
        return (hidden @ w["W2"] + w["b2"])[:, : self.latent]

    def decode(self, z: ArrayLike) -> NDArray[np.float32]:
        """Pixel means for latent codes of shape (n, latent)."""
        w = self.weights_
        hidden = np.maximum(self._check_codes(z) @ w["W3"] + w["b3"], 0)
        return expit(hidden @ w["W4"] + w["b4"])


def _train(
    config: VAE, data: list[NDArray[np.float32]], generators: list[Any]
) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Train B models at once: weights (B, ...), losses and squared residuals (n_steps, B)."""
    import torch

    w = _start(config, data, generators)
    for weight in w.values():
        weight.grad = torch.empty_like(weight)
    descend = _adam(list(w.values()))
    images = [torch.from_numpy(X) for X in data]
    batch = torch.empty(len(data), config.batch_size, images[0].shape[1])
    losses, residuals = torch.empty(2, config.n_steps, len(data))
    for first in range(0, config.n_steps, _STEPS_AT_ONCE):
        shape = (min(_STEPS_AT_ONCE, config.n_steps - first), config.batch_size)
        chosen = [
            torch.randint(len(X), shape, generator=g) for X, g in zip(data, generators, strict=True)
        ]
        noise = [torch.randn(*shape, config.latent, generator=g) for g in generators]
        for step, draws in enumerate(torch.stack(noise, 1), first):
            for X, rows, out in zip(images, chosen, batch, strict=True):
                torch.index_select(X, 0, rows[step - first], out=out)
            losses[step], residuals[step] = _gradients(config, w, batch, draws)
            descend(config.learning_rate * _rate(step, config.n_steps))
    return {name: v.numpy() for name, v in w.items()}, losses.numpy(), residuals.numpy()


def _start(config: VAE, data: list[NDArray[np.float32]], generators: list[Any]) -> dict[str, Any]:
    """Starting weights, uniform in +-1/sqrt(inputs); the output bias gives the mean image."""
    import torch

    sizes = (data[0].shape[1], config.hidden, 2 * config.latent, config.hidden, data[0].shape[1])
    weights = {}
    for layer, n_out in enumerate(sizes[1:], 1):
        n_in = config.latent if layer == 3 else sizes[layer - 1]
        draws = torch.stack([torch.rand(n_in + 1, n_out, generator=g) for g in generators])
        uniform = (draws * 2 - 1) / math.sqrt(n_in)
        weights |= {f"W{layer}": uniform[:, 1:].contiguous()}
        weights |= {f"b{layer}": uniform[:, :1].contiguous()}
    mean_images = np.stack([X.mean(0) for X in data])
    return weights | {"b4": torch.from_numpy(logit(mean_images.clip(0.01, 0.99))[:, None])}


def _gradients(config: VAE, w: dict[str, Any], x: Any, noise: Any) -> tuple[Any, Any]:
    """Fill ``grad`` of every weight for images `x`, shape (B, batch, pixels).

    Written out by hand: at this size a step costs less than half of what automatic differentiation
    takes. `noise` is standard normal, (B, batch, latent). Returns the negative bound per image
    (nats) and the mean squared residual per pixel, shape (B,).
    """
    import torch

    n, pixels = x.shape[1:]

    def back_into(layer: int, inputs: Any, delta: Any) -> None:
        torch.bmm(inputs.mT, delta, out=w[f"W{layer}"].grad)
        torch.sum(delta, 1, keepdim=True, out=w[f"b{layer}"].grad)

    # Forward.
    h = torch.baddbmm(w["b1"], x, w["W1"]).clamp_(min=0)
    mean, log_variance = torch.baddbmm(w["b2"], h, w["W2"]).split(config.latent, dim=-1)
    sd = (log_variance / 2).exp()
    z = torch.addcmul(mean, noise, sd)
    g = torch.baddbmm(w["b3"], z, w["W3"]).clamp_(min=0)
    y = torch.baddbmm(w["b4"], g, w["W4"])
    if config.likelihood == "bernoulli":
        loss = torch.nn.functional.softplus(y).addcmul_(x, y, value=-1).mean((1, 2))
    error = y.sigmoid_() - x
    residual = torch.linalg.vector_norm(error, dim=(1, 2)).square() / (n * pixels)
    divergence = (mean.square() + sd.square() - 1 - log_variance).sum((1, 2)) / (2 * n)

    # Loss per pixel, and its derivative by the decoder's output before the sigmoid.
    if config.likelihood == "bernoulli":
        error /= n
    else:
        fixed = torch.full_like(residual, config.sigma2)
        sigma2 = fixed if config.likelihood == "gaussian" else residual.clamp(min=_SMALLEST_SIGMA2)
        loss = ((2 * math.pi * sigma2).log() + residual / sigma2) / 2
        error.mul_(y.addcmul_(y, y, value=-1)).mul_(1 / (n * sigma2[:, None, None]))

    # Backward. After its weights have theirs, a hidden layer becomes its own ReLU mask.
    back_into(4, g, error)
    delta = torch.bmm(error, w["W4"].mT).mul_(g.sign_())
    back_into(3, z, delta)
    dz = torch.bmm(delta, w["W3"].mT)
    by_log_variance = (dz * noise * sd + (sd.square() - 1) / n) / 2
    code = torch.cat([dz + mean / n, by_log_variance], dim=-1)
    back_into(2, h, code)
    back_into(1, x, torch.bmm(code, w["W2"].mT).mul_(h.sign_()))
    return pixels * loss + divergence, residual


def _adam(weights: list[Any], weight_decay: float = 0.0) -> Callable[[float], None]:
    """Adam (Kingma and Ba 2015): a function of the rate that moves `weights` by their ``grad``.

    The arithmetic of ``torch.optim.Adam``, whose construction loads torch's compiler first: that
    takes as long as training dozens of the small networks.
    """
    import torch
    from torch.optim.adam import adam

    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    counts = [torch.zeros((), device=w.device) for w in weights]

    @torch.no_grad()
    def descend(rate: float) -> None:
        adam(
            weights, [w.grad for w in weights], first, second, [], counts, lr=rate, beta1=0.9,
            beta2=0.999, eps=1e-8, weight_decay=weight_decay, fused=True, amsgrad=False,
            maximize=False,
        )  # fmt: skip

    return descend


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up over 5 % of the steps, then linear decay."""
    return min((step + 1) / max(1.0, 0.05 * n_steps), (n_steps - step) / n_steps)


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

        X = self._check_images(X, _SIDE**2).reshape(-1, 1, _SIDE, _SIDE)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        seed = int(np.random.default_rng(rng).integers(2**63))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.network_ = _network(self.latent, self.capacity).to(device)
            self._train(torch.from_numpy(X).to(device))
        return self

    def _train(self, images: Any) -> None:
        import torch

        learned = self.likelihood == "learned"
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        weights = list(self.network_.parameters())
        descend = _adam(weights, weight_decay=1e-5)
        losses, residuals = torch.empty(2, self.n_steps, device=images.device)
        for step, batch in zip(range(self.n_steps), self._batches(images), strict=False):
            mean, log_variance = self.network_["encode"](batch).chunk(2, dim=1)
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            logits = self.network_["decode"](code)
            residual = (logits.sigmoid() - batch).square().mean()
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
            if self.likelihood == "bernoulli":
                misfit = entropy(logits, batch, reduction="sum") / len(batch)
            else:
                sigma2 = torch.as_tensor(residual if learned else self.sigma2)
                sigma2 = sigma2.clamp(min=_SMALLEST_SIGMA2)
                misfit = _SIDE**2 * ((2 * math.pi * sigma2).log() + residual / sigma2) / 2
            loss = misfit + divergence / len(batch)
            self.network_.zero_grad()
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

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean latent code of each image, shape (n, latent)."""
        rows = self._check_images(X, _SIDE**2).reshape(-1, 1, _SIDE, _SIDE)
        return self._apply("encode", rows)[:, : self.latent]

    def decode(self, z: ArrayLike) -> NDArray[np.float32]:
        """Pixel means for latent codes of shape (n, latent)."""
        logits = self._apply("decode", self._check_codes(z))
        return expit(logits.reshape(len(logits), -1))

    def _apply(self, part: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        device, network = next(self.network_.parameters()).device, self.network_[part]
        with torch.no_grad():
            pieces = torch.from_numpy(rows).split(_ROWS_AT_ONCE)
            return torch.cat([network(x.to(device)).cpu() for x in pieces]).numpy()


def _network(latent: int, capacity: int) -> Any:
    from torch import nn

    halve, block = {"kernel_size": 4, "stride": 2, "padding": 1}, (2 * capacity, *2 * [_SIDE // 4])
    encode = nn.Sequential(
        nn.Conv2d(1, capacity, **halve), nn.ReLU(),
        nn.Conv2d(capacity, 2 * capacity, **halve), nn.ReLU(), nn.Flatten(),
        nn.Linear(math.prod(block), 2 * latent),  # means and log-variances side by side
    )  # fmt: skip
    decode = nn.Sequential(
        nn.Linear(latent, math.prod(block)), nn.Unflatten(1, block),
        nn.ConvTranspose2d(2 * capacity, capacity, **halve), nn.ReLU(),
        nn.ConvTranspose2d(capacity, 1, **halve),
    )  # fmt: skip
    return nn.ModuleDict({"encode": encode, "decode": decode})
