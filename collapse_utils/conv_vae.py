"""The convolutional VAE that Shumailov et al. released, in the loop's convention.

647,081 parameters for 28 x 28 images: two strided convolutions down, a Gaussian code, two
transposed convolutions up. It is made for a GPU and uses one when torch finds it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from . import checks

SIDE = 28
SAMPLINGS = ("mean", "noisy")


class ConvVAE(BaseEstimator):
    """Convolutional variational autoencoder with a Bernoulli likelihood.

    Architecture, loss and optimiser of the released experiment (Shumailov and Shumaylov 2024,
    code): Adam with rate 1e-3 and weight decay 1e-5, summed binary cross-entropy plus beta
    times the Kullback-Leibler term.

    Parameters
    ----------
    latent, capacity : int
        Length of the code and channels of the first convolution.
    beta : float
        Weight of the Kullback-Leibler term.
    epochs, batch_size : int
        Passes over the data and images per step.
    sampling : {"mean", "noisy"}
        `sample` returns the decoder's mean, as the released code does, or Bernoulli draws.
    device : {"auto", "cpu", "cuda"}
        Where to train; "auto" takes the GPU when there is one.

    Attributes
    ----------
    network_ : torch.nn.Module
    loss_ : float
        Mean loss per image, nats, in the last epoch.
    n_parameters_ : int

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
        beta: float = 1.0,
        epochs: int = 30,
        batch_size: int = 256,
        sampling: str = "mean",
        device: str = "auto",
    ) -> None:
        self.latent = checks.integer("latent", latent, 1)
        self.capacity = checks.integer("capacity", capacity, 1)
        self.beta = checks.real("beta", beta, 0)
        self.epochs = checks.integer("epochs", epochs, 1)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.sampling = checks.choice("sampling", sampling, SAMPLINGS)
        self.device = checks.choice("device", device, ("auto", "cpu", "cuda"))

    def fit(self, X: ArrayLike, rng: np.random.Generator) -> ConvVAE:
        """Train a fresh network on images of shape (n, 784) with pixels in [0, 1].

        Raises
        ------
        ValueError
            If X has another shape or range.
        """
        import torch

        X = np.asarray(X, dtype=np.float32)
        if X.ndim != 2 or X.shape[1] != SIDE * SIDE or len(X) == 0:
            raise ValueError(f"X must have shape (n, {SIDE * SIDE}), got {X.shape}")
        if not (np.isfinite(X).all() and X.min() >= 0 and X.max() <= 1):
            raise ValueError(f"X must hold pixels in [0, 1], got [{X.min():g}, {X.max():g}]")
        device = self._torch_device()
        seed = int(rng.integers(2**63))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.network_ = _network(self.latent, self.capacity).to(device)
            self.n_parameters_ = sum(p.numel() for p in self.network_.parameters())
            self.loss_ = self._train(torch.from_numpy(X).to(device).view(-1, 1, SIDE, SIDE))
        self.network_.eval()
        return self

    def _train(self, images: Any) -> float:
        import torch

        optimiser = torch.optim.Adam(self.network_.parameters(), lr=1e-3, weight_decay=1e-5)
        functional = torch.nn.functional
        for _ in range(self.epochs):
            total = torch.zeros((), device=images.device)
            order = torch.randperm(len(images), device=images.device)
            for batch in order.split(self.batch_size):
                x = images[batch]
                mean, log_var = self.network_["encode"](x).chunk(2, dim=1)
                code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
                logits = self.network_["decode"](code)
                loss = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
                divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()
                loss = loss + self.beta * divergence
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                total += loss.detach()
        return float(total) / len(images)

    def encode(self, X: ArrayLike) -> NDArray[np.float32]:
        """Latent means, shape (n, latent)."""
        rows = np.asarray(X, dtype=np.float32).reshape(-1, 1, SIDE, SIDE)
        return self._apply("encode", rows)[:, : self.latent]

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """`n` images, shape (n, 784)."""
        codes = rng.standard_normal((n, self.latent), dtype=np.float32)
        logits = self._apply("decode", codes).reshape(n, -1)
        means = 1 / (1 + np.exp(-logits))
        if self.sampling == "mean":
            return means
        return (rng.random(means.shape, dtype=np.float32) < means).astype(np.float32)

    def _apply(self, part: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        device = next(self.network_.parameters()).device
        with torch.no_grad():
            pieces = [
                self.network_[part](torch.from_numpy(piece).to(device)).cpu().numpy()
                for piece in np.array_split(rows, max(1, len(rows) // 2000))
            ]
        return np.concatenate(pieces)

    def _torch_device(self) -> Any:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError('device must be "cpu" or "auto": torch finds no GPU here, got "cuda"')
        use_gpu = self.device != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if use_gpu else "cpu")


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
