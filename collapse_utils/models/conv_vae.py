"""The convolutional VAE that Shumailov et al. released, in the loop's convention.

647,081 parameters for 28 x 28 images: two strided convolutions down, a Gaussian code, two
transposed convolutions up. It is made for a GPU and uses one when torch finds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from .. import _checks
from .vae import (
    LIKELIHOODS,
    SAMPLINGS,
    SMALLEST_SIGMA2,
    VAE,
    ImageVAE,
    adam,
)

SIDE = 28
ARCHITECTURES = ("mlp", "conv")
DEVICES = ("auto", "cpu", "cuda")
_ROWS_AT_ONCE = 2000  # images that pass a fitted network together


class ConvVAE(ImageVAE):
    """Convolutional variational autoencoder for images of 28 x 28 pixels.

    Architecture, loss and optimiser of the released experiment (Shumailov and Shumaylov 2024,
    code): Adam with rate 1e-3 and weight decay 1e-5, summed binary cross-entropy plus beta
    times the Kullback-Leibler term, passes over the images in random order. The other
    likelihoods are those of `VAE`.

    Parameters
    ----------
    latent, capacity : int
        Length of the code and channels of the first convolution.
    likelihood : {"bernoulli", "gaussian", "learned"}
    sigma2 : float
        Decoder variance for ``likelihood="gaussian"``; not used otherwise.
    sampling : {"mean", "noisy"}
        `sample` returns the decoder's mean, as the released code does, or a draw from the model.
    beta : float
        Weight of the Kullback-Leibler term.
    n_steps, batch_size : int
        Adam steps and images per step. Published: 30 passes over 60,000 images.
    device : {"auto", "cpu", "cuda"}
        Where to train; "auto" takes the GPU when there is one.

    Attributes
    ----------
    network_ : torch.nn.ModuleDict
        ``encode`` and ``decode`` (logits).
    n_parameters_ : int
    sigma2_ : float
        Decoder variance (NaN for Bernoulli).
    loss_ : ndarray, shape (n_steps,)
        Loss per image, nats, on each minibatch.

    Raises
    ------
    ValueError
        If a parameter is outside what is allowed, or the device is not there.
    """

    def __init__(
        self,
        *,
        latent: int = 20,
        capacity: int = 64,
        likelihood: str = "bernoulli",
        sigma2: float = 0.03,
        sampling: str = "mean",
        beta: float = 1.0,
        n_steps: int = 7050,
        batch_size: int = 256,
        device: str = "auto",
    ) -> None:
        self.latent = _checks.integer("latent", latent, 1)
        self.capacity = _checks.integer("capacity", capacity, 1)
        self.likelihood = _checks.choice("likelihood", likelihood, LIKELIHOODS)
        self.sigma2 = _checks.real("sigma2", sigma2, SMALLEST_SIGMA2)
        self.sampling = _checks.choice("sampling", sampling, SAMPLINGS)
        self.beta = _checks.real("beta", beta, 0)
        self.n_steps = _checks.integer("n_steps", n_steps, 1)
        self.batch_size = _checks.integer("batch_size", batch_size, 1)
        self.device = _checks.choice("device", device, DEVICES)

    def fit(self, X: ArrayLike, rng: np.random.Generator | None = None) -> ConvVAE:
        """Train a fresh network.

        Parameters
        ----------
        X : array, shape (n, 784)
            Pixels in [0, 1]; a Gaussian decoder also accepts what its own noise can add.
        rng : numpy.random.Generator, optional
            One integer is drawn from it; it settles the start, the order and the noise.

        Raises
        ------
        ValueError
            If X has another shape, is not finite or is out of range, or there is no such device.
        """
        import torch

        X = self._check_images(X)
        device = self._torch_device()
        rng = np.random.default_rng() if rng is None else _checks.generator(rng)
        seed = int(rng.integers(2**63))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.network_ = _network(self.latent, self.capacity).to(device)
            self.n_parameters_ = sum(w.numel() for w in self.network_.parameters())
            self._train(torch.from_numpy(X).to(device).view(-1, 1, SIDE, SIDE))
        return self

    def _train(self, images: Any) -> None:
        import torch

        weights = list(self.network_.parameters())
        descend = adam(weights, weight_decay=1e-5)
        losses, residuals = torch.empty(2, self.n_steps, device=images.device)
        for step, batch in zip(range(self.n_steps), self._batches(images), strict=False):
            mean, log_variance = self.network_["encode"](batch).chunk(2, dim=1)
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            logits = self.network_["decode"](code)
            residual = (logits.sigmoid() - batch).square().mean()
            divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
            loss = self._misfit(logits, batch, residual) + self.beta * divergence / len(batch)
            for weight in weights:
                weight.grad = None
            loss.backward()
            descend(1e-3)
            losses[step], residuals[step] = loss.detach(), residual.detach()
        self.loss_ = losses.cpu().numpy()
        late = residuals[-max(1, self.n_steps // 20) :].mean().item()
        self.sigma2_ = {
            "bernoulli": math.nan,
            "gaussian": self.sigma2,
            "learned": max(late, SMALLEST_SIGMA2),
        }[self.likelihood]

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
        return SIDE**2 * ((2 * math.pi * sigma2).log() + residual / sigma2) / 2

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Mean latent code of each image, shape (n, latent)."""
        rows = self._check_images(X).reshape(-1, 1, SIDE, SIDE)
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
        if X.shape[1] != SIDE**2:
            raise ValueError(f"X must hold images of {SIDE} x {SIDE} pixels, shape (n, "
                             f"{SIDE**2}), got shape {X.shape}")  # fmt: skip
        return X

    def _torch_device(self) -> Any:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError('device must be "cpu" or "auto", torch finds no GPU; got "cuda"')
        use_gpu = self.device != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if use_gpu else "cpu")


def autoencoder(name: str, images: NDArray) -> type[VAE] | type[ConvVAE]:
    """The class of autoencoder called `name`, if it can read such images.

    Parameters
    ----------
    name : {"mlp", "conv"}
        `VAE`, which reads images of any size, or `ConvVAE`.
    images : array, shape (n, pixels)

    Raises
    ------
    ValueError
        If there is no such architecture, or it is made for other images.
    """
    _checks.choice("architecture", name, ARCHITECTURES)
    if name == "mlp":
        return VAE
    if images.shape[1] != SIDE**2:
        raise ValueError(
            f'architecture must be "mlp" for images of {images.shape[1]} pixels (dataset="digits"'
            f' has 64), got "conv", which reads {SIDE} x {SIDE} (dataset="mnist", "mnist10k")'
        )
    return ConvVAE


def _network(latent: int, capacity: int) -> Any:
    from torch import nn

    small = SIDE // 4
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
