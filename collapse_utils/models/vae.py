"""Variational autoencoders for small images, and the linear one that can be solved by hand.

`VAE` is a multilayer perceptron trained with torch, many at a time if asked; once fitted it
samples and encodes in numpy. `PPCA` is the linear VAE with fixed decoder variance, in closed form.
Both follow the convention ``fit(X)`` / ``sample(n)`` of `collapse_utils.recurse`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone

from .. import _checks

LIKELIHOODS = ("gaussian", "learned", "bernoulli")
SAMPLINGS = ("mean", "noisy")
_STEPS_AT_ONCE = 50  # minibatches drawn ahead, to call the generators rarely
SMALLEST_SIGMA2 = 1e-6


class ImageVAE(BaseEstimator):
    """What the autoencoders of this package share: how they write images, and what they accept.

    A subclass holds ``latent``, ``likelihood``, ``sigma2``, ``sampling`` and, once fitted,
    ``sigma2_``; it can ``decode(z)``.
    """

    def sample(self, n: int, rng: np.random.Generator | None = None) -> NDArray[np.float32]:
        """Write `n` images: shape (n, pixels).

        With Gaussian noise the pixels may leave [0, 1]; they are not clipped, because clipping
        would change the law that the model was fitted with.
        """
        n = _checks.integer("n", n, 1)
        rng = np.random.default_rng() if rng is None else _checks.generator(rng)
        mean = self.decode(rng.standard_normal((n, self.latent), dtype=np.float32))
        if self.sampling == "mean":
            return mean
        if self.likelihood == "bernoulli":
            return (rng.random(mean.shape, dtype=np.float32) < mean).astype(np.float32)
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        return mean + np.float32(math.sqrt(self.sigma2_)) * noise

    def _check_images(self, X: ArrayLike) -> NDArray[np.float32]:
        """Images as float32 rows, or a clear error.

        Noise of this decoder may carry a pixel out of [0, 1]: ten sigma are let pass.
        """
        margin = {"gaussian": 10 * math.sqrt(self.sigma2), "learned": 5.0, "bernoulli": 0.0}[
            self.likelihood
        ]
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


class VAE(ImageVAE):
    """A variational autoencoder with one hidden layer on each side.

    Encoder: pixels -> hidden (ReLU) -> mean and log-variance of the latent code. Decoder: latent
    code -> hidden (ReLU) -> pixel means (sigmoid). Trained by Adam on the negative evidence lower
    bound with one latent draw per image (Kingma and Welling 2014, eq. 10).

    Parameters
    ----------
    hidden, latent : int
        Width of the hidden layers and of the latent code.
    likelihood : {"gaussian", "learned", "bernoulli"}
        Noise of the decoder: Gaussian with fixed variance `sigma2`; Gaussian with one variance
        learned from the data (its optimum, the mean squared residual, is put into the bound, as
        in the sigma-VAE of Rybkin et al. 2021); or Bernoulli pixels (binary cross-entropy).
    sigma2 : float
        Decoder variance for ``likelihood="gaussian"``; not used otherwise.
    sampling : {"mean", "noisy"}
        What `sample` returns: the decoder's mean, as the published experiment does, or a draw
        from the fitted model, that is the mean plus the decoder's noise.
    n_steps, batch_size : int
        Adam steps and images per step (drawn with replacement).
    learning_rate : float
        Peak rate: warm-up over the first 5 % of the steps, then linear decay to zero.

    Attributes
    ----------
    weights_ : dict of str to ndarray
        Fitted weights and biases.
    sigma2_ : float
        Decoder variance (NaN for Bernoulli).
    loss_ : ndarray, shape (n_steps,)
        Negative evidence lower bound per image, nats, on each minibatch.

    Raises
    ------
    ValueError
        If a parameter is outside what is allowed.
    """

    def __init__(
        self,
        *,
        hidden: int = 128,
        latent: int = 10,
        likelihood: str = "gaussian",
        sigma2: float = 0.03,
        sampling: str = "mean",
        n_steps: int = 600,
        batch_size: int = 100,
        learning_rate: float = 1e-2,
    ) -> None:
        self.hidden = _checks.integer("hidden", hidden, 1)
        self.latent = _checks.integer("latent", latent, 1)
        self.likelihood = _checks.choice("likelihood", likelihood, LIKELIHOODS)
        self.sigma2 = _checks.real("sigma2", sigma2, SMALLEST_SIGMA2)
        self.sampling = _checks.choice("sampling", sampling, SAMPLINGS)
        self.n_steps = _checks.integer("n_steps", n_steps, 1)
        self.batch_size = _checks.integer("batch_size", batch_size, 1)
        self.learning_rate = _checks.real("learning_rate", learning_rate, 0, 1, open_low=True)

    def fit(self, X: ArrayLike, rng: np.random.Generator | None = None) -> VAE:
        """Train on images.

        Parameters
        ----------
        X : array, shape (n, pixels)
            Pixels in [0, 1]; a Gaussian VAE also accepts what its own noise can add.
        rng : numpy.random.Generator, optional
            One integer is drawn from it; it settles the start, the minibatches and the noise.

        Raises
        ------
        ValueError
            If `X` has the wrong shape, is not finite or is out of range.
        """
        (fitted,) = self.fit_many([X], rng=rng)
        vars(self).update(vars(fitted))
        return self

    def fit_many(
        self, Xs: Sequence[ArrayLike], rng: np.random.Generator | None = None
    ) -> list[VAE]:
        """Train one VAE on each data set, all of them in one batched computation.

        The models do not touch each other: with the same `rng` the result is that of calling
        `fit` on one data set after the other, up to floating-point rounding.

        Parameters
        ----------
        Xs : sequence of arrays, shape (n_b, pixels)
            The numbers of images may differ.
        rng : numpy.random.Generator, optional
            One integer per model is drawn from it.

        Returns
        -------
        list of VAE
            Fitted copies of this model.
        """
        rng = np.random.default_rng() if rng is None else _checks.generator(rng)
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


class PPCA(BaseEstimator):
    """The linear VAE with fixed decoder variance, at its optimum: probabilistic PCA.

    With ``x = mean + W z + sigma e``, z and e standard normal, the maximum-likelihood weights for
    fixed ``sigma2`` are ``W W' = U (Lambda - sigma2 I)_+ U'``, where ``U Lambda U'`` is the sample
    covariance (Tipping and Bishop 1999, with sigma2 fixed; Lucas et al. 2019 show that the
    linear VAE has the same optimum). Writing decoder means drops ``sigma2`` from every variance
    (`faded`); noisy samples keep the variances above ``sigma2`` and lift the others to it.

    Parameters
    ----------
    sigma2 : float
        Decoder variance.
    n_components : int, optional
        Latent dimensions; default as many as variables.
    sampling : {"mean", "noisy"}
        As in `VAE`.

    Attributes
    ----------
    mean_ : ndarray, shape (d,)
    weights_ : ndarray, shape (d, n_components)
    """

    def __init__(
        self, *, sigma2: float = 0.03, n_components: int | None = None, sampling: str = "mean"
    ) -> None:
        self.sigma2 = _checks.real("sigma2", sigma2, 0)
        self.n_components = (
            None if n_components is None else _checks.integer("n_components", n_components, 1)
        )
        self.sampling = _checks.choice("sampling", sampling, SAMPLINGS)

    def fit(self, X: ArrayLike) -> PPCA:
        """Fit to rows `X` of shape (n, d), n >= 2; the covariance divides by n."""
        X = np.asarray(X, dtype=float)
        if X.ndim != 2 or len(X) < 2 or not np.isfinite(X).all():
            raise ValueError(f"X must be finite, of shape (n >= 2, d), got shape {X.shape}")
        self.mean_ = X.mean(0)
        variances, axes = np.linalg.eigh(np.cov(X.T, ddof=0).reshape(X.shape[1], -1))
        kept = (
            slice(None, None, -1)
            if self.n_components is None
            else slice(None, -self.n_components - 1, -1)
        )
        self.weights_ = axes[:, kept] * np.sqrt(np.maximum(variances[kept] - self.sigma2, 0.0))
        return self

    def sample(self, n: int, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
        """Write `n` rows: decoder means, or means plus noise."""
        n = _checks.integer("n", n, 1)
        rng = np.random.default_rng() if rng is None else _checks.generator(rng)
        rows = self.mean_ + rng.standard_normal((n, self.weights_.shape[1])) @ self.weights_.T
        if self.sampling == "noisy":
            rows += math.sqrt(self.sigma2) * rng.standard_normal(rows.shape)
        return rows


def faded(
    variances: ArrayLike,
    sigma2: float,
    n_generations: int,
    *,
    gamma: float = 0.0,
    accumulate: bool = False,
) -> NDArray[np.float64]:
    """Variances that linear VAEs write, generation after generation, with infinite data.

    Along a principal axis the training data of generation n have variance ``a_n`` and the decoder
    means have ``max(a_n - sigma2, 0)`` (Tipping and Bishop 1999, with sigma2 fixed). Axes
    and means stay the same, so each axis follows its own recursion. While it is positive the
    written variance is

    - replace: ``v - n sigma2``;
    - a share gamma of original data: tends to ``v - sigma2 / gamma``;
    - accumulate: ``v - sigma2 H_n`` with the harmonic number ``H_n = 1 + 1/2 + ... + 1/n``.

    Parameters
    ----------
    variances : array, shape (d,)
        Eigenvalues of the real covariance.
    sigma2 : float
        Decoder variance.
    n_generations : int
        Number of generations G.
    gamma : float
        Share of original data in every training set.
    accumulate : bool
        Train on everything so far, the real data included, instead.

    Returns
    -------
    ndarray, shape (G + 1, d)
        Row 0 holds the real variances.
    """
    gamma = _checks.real("gamma", gamma, 0, 1)
    written = [np.asarray(variances, float)]
    for _ in range(_checks.integer("n_generations", n_generations, 0)):
        if accumulate:
            training = np.mean(written, axis=0)
        else:
            training = (1 - gamma) * written[-1] + gamma * written[0]
        written.append(np.maximum(training - sigma2, 0.0))
    return np.array(written)


def _train(
    config: VAE, data: list[NDArray[np.float32]], seeds: list[int]
) -> tuple[dict[str, NDArray], NDArray, NDArray]:
    """Train ``B = len(data)`` models at once: weights (B, ...), sigma2 (B,), losses (n_steps, B).

    Everything random comes from one torch generator per model, so that a model is the same
    whatever company it is trained in.
    """
    import torch

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    # Lineages often share their data (generation 1 does): keep one copy of each array.
    unique = list({id(X): X for X in data}.values())
    starts = dict(zip(map(id, unique), np.cumsum([0, *map(len, unique)]), strict=False))
    rows = torch.from_numpy(np.concatenate(unique))
    stack = _Stack(config, _start(config, data, generators))
    descend = adam(list(stack.weights.values()))
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
    late = residuals[-max(1, config.n_steps // 20) :].mean(0).clamp(min=SMALLEST_SIGMA2)
    sigma2 = {
        "gaussian": np.full(len(data), config.sigma2),
        "learned": late.numpy(),
        "bernoulli": np.full(len(data), math.nan),
    }[config.likelihood]
    return weights, sigma2, losses.numpy()


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
    a step costs less than half of what automatic differentiation takes.

    Parameters
    ----------
    config : VAE
    weights : dict of str to tensor
        ``W1`` (B, pixels, hidden), ``b1`` (B, 1, hidden), ... as `_start` makes them.

    Attributes
    ----------
    x : tensor, shape (B, batch, pixels)
        Put the images of a step here, then call `gradients`.
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

        Returns
        -------
        loss : tensor, shape (B,)
            Negative evidence lower bound per image, nats.
        residual : tensor, shape (B,)
            Mean squared residual per pixel.
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
            fixed = self.config.likelihood == "gaussian"
            sigma2 = (
                torch.full_like(residual, self.config.sigma2)
                if fixed
                else residual.clamp(min=SMALLEST_SIGMA2)
            )
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


def adam(weights: list[Any], weight_decay: float = 0.0) -> Callable[[float], None]:
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
