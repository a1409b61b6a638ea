"""The released convolutional VAE: its size, its bound, and what it refuses."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from rounding import CALL, assert_within, bound

from collapse_utils import Replace, recurse
from collapse_utils.models import vae
from collapse_utils.models.vae import LIKELIHOODS, ConvVAE, _adam


@pytest.fixture(scope="module")
def images():
    """Blurred bars at random places, 64 images of 28 x 28 pixels."""
    rng = np.random.default_rng(0)
    place, width = rng.uniform(6, 22, (2, 64, 1, 1)) * [[[[1]]], [[[0.2]]]]
    bar = np.exp(-(((np.arange(28) - place) / width) ** 2))
    return np.broadcast_to(bar, (64, 28, 28)).reshape(64, 784).astype(np.float32)


def small(**kw):
    return ConvVAE(**{"latent": 3, "capacity": 4, "n_steps": 3, "batch_size": 16} | kw)


def test_released_architecture(images):
    model = ConvVAE(n_steps=1, batch_size=2).fit(images[:2], np.random.default_rng(0))
    assert sum(w.numel() for w in model.network_.parameters()) == 647_081
    assert model.encode(images[:3]).shape == (3, 20)
    written = model.sample(5, np.random.default_rng(0))
    assert written.shape == (5, 784) and written.dtype == np.float32
    assert written.min() > 0 and written.max() < 1


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_first_loss_is_the_negative_bound(images, likelihood, monkeypatch):
    """All images in one step, without noise in the code, against the distributions of torch."""
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    model = small(likelihood=likelihood, n_steps=1, batch_size=64, sigma2=0.1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rates = []
    monkeypatch.setattr(vae, "_adam", lambda weights, **_: rates.append)  # weights stay
    model.fit(images, np.random.default_rng(1))
    x = torch.from_numpy(images)
    mean, log_variance = model.network_["encode"](x.view(-1, 1, 28, 28)).chunk(2, 1)
    y = model.network_["decode"](mean).flatten(1).sigmoid()
    x, y, mean, log_variance = (part.double() for part in (x, y, mean, log_variance))
    residual = (x - y).square().mean().detach()
    noise = {"gaussian": 0.1, "learned": residual, "bernoulli": math.nan}[likelihood]
    law = (
        torch.distributions.Bernoulli(y, validate_args=False)
        if likelihood == "bernoulli"
        else torch.distributions.Normal(y, torch.as_tensor(noise).sqrt())
    )
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    elbo = law.log_prob(x).sum(1).mean() - divergence.sum(1).mean()
    assert rates == [1e-3]
    # In single precision torch adds 64 x 784 terms in a cascade: four levels of at most 16 terms
    # and 64 lanes. A log-density's terms are at most twice as large together as their sum.
    limit = bound(4 * 16 + 64 + 2 * CALL, 2, np.float32)
    np.testing.assert_allclose(model.loss_, [-elbo.item()], rtol=limit)
    np.testing.assert_allclose(model.sigma2_, float(noise), rtol=limit)


def test_adam_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.linspace(-1, 1, 12).view(3, 4).requires_grad_() for _ in range(2))
    descend = _adam([mine], weight_decay=0.1)
    optimiser = torch.optim.Adam([theirs], weight_decay=0.1)
    for rate in (0.1, 0.2, 0.05, 0.01):
        mine.grad = torch.randn(3, 4, generator=generator)
        theirs.grad = mine.grad.clone()
        descend(rate)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    # Four steps round a weight of size 1 and, 20 times, an update of at most three rates.
    limit = bound(2 * (4 + 20 * 3 * 0.36), dtype=np.float32)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=limit)


def test_training_improves_the_bound(images):
    model = small(n_steps=60, batch_size=32, capacity=8).fit(images, np.random.default_rng(0))
    early, late = model.loss_[:10], model.loss_[-10:]
    assert early.mean() - late.mean() > 10 * math.sqrt(early.var() / 10 + late.var() / 10)
    assert np.isnan(model.sigma2_)


def test_fit_and_sample_are_settled_by_the_rng_alone(images):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two = (small().fit(images, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(one.loss_, two.loss_)
    draws = [model.sample(4, np.random.default_rng(0)) for model in (one, two)]
    assert np.array_equal(*draws)
    assert not np.array_equal(small().fit(images, np.random.default_rng(4)).loss_, one.loss_)


def test_every_image_is_seen_once_in_a_pass():
    images = torch.arange(10.0).view(10, 1)
    batches = small(batch_size=4)._batches(images)
    for _ in range(2):
        seen = torch.cat([next(batches) for _ in range(3)]).flatten()
        assert sorted(seen.tolist()) == list(range(10))


def test_noise_is_that_of_the_likelihood(images):
    rng = np.random.default_rng
    binary = small(sampling="noisy").fit(images, rng(0)).sample(20, rng(1))
    assert set(np.unique(binary)) == {0.0, 1.0}
    model = small(likelihood="gaussian", sigma2=0.04).fit(images, rng(0))
    mean = model.sample(400, rng(1))
    model.sampling = "noisy"
    noise = model.sample(400, rng(1)) - mean
    # Standard error of a variance from n Gaussians: sigma2 sqrt(2 / n); 4.4 of them, 1 in 10^5.
    assert abs(noise.var() - 0.04) < 4.4 * 0.04 * math.sqrt(2 / noise.size)


def test_decoding_many_rows_is_decoding_each(images, monkeypatch):
    model = small().fit(images, np.random.default_rng(0))
    whole = model.decode(model.encode(images))
    # The longest sum has 2 x 4 x 49 products; their roundings do what a change of the weights does.
    shaken, step, signs = copy.deepcopy(model), 2.0**-12, torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in shaken.network_.parameters():
            weight *= 1 + step * torch.randn(weight.shape, generator=signs).sign()
    moves = np.abs(shaken.decode(shaken.encode(images)) - whole).max() / step
    monkeypatch.setattr(vae, "_ROWS_AT_ONCE", 5)
    limit = bound(2 * 392, moves, np.float32) + bound(2 * CALL, dtype=np.float32)
    assert_within(model.decode(model.encode(images)), whole, limit)


def test_plugs_into_the_loop_and_pickles(images):
    history = recurse(
        small(n_steps=1),
        images,
        workflow={"replace": Replace()},
        n_generations=2,
        n_samples=20,
        n_replicates=2,
        metrics={"codes": lambda s: s.first_model.encode(s.sample).std() if s.model else 1.0},
        rng=np.random.default_rng(0),
    )
    assert np.isfinite(history.array("codes")).all() and history.array("codes").shape == (3, 2)
    model = history.models["replace", 1]
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.encode(images), model.encode(images))


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"latent": 0}, "latent must be an integer >= 1, got 0"),
        ({"capacity": 1.5}, "capacity must be an integer >= 1, got 1.5"),
        ({"likelihood": "normal"}, "likelihood must be one of gaussian, learned, bernoulli"),
        ({"sampling": "max"}, "sampling must be one of mean, noisy, got 'max'"),
        ({"sigma2": 0}, "sigma2 must be a finite number"),
        ({"n_steps": 0}, "n_steps must be an integer >= 1, got 0"),
        ({"batch_size": True}, "batch_size must be an integer >= 1, got True"),
    ],
)
def test_bad_settings_are_refused(kw, message):
    with pytest.raises(ValueError, match=message):
        ConvVAE(**kw)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X: X.reshape(-1, 28, 28), r"shape \(n, pixels\), got shape \(64, 28, 28\)"),
        (lambda X: X[:, :64], "images of 784 pixels, got 64"),
        (lambda X: X[:0], r"got shape \(0, 784\)"),
        (lambda X: X * 255, r"pixels in \[0, 1\], got \["),
        (lambda X: np.where(X > 0.9, np.nan, X), "X must be finite"),
    ],
)
def test_bad_images_are_refused(images, spoil, message):
    with pytest.raises(ValueError, match=message):
        small().fit(spoil(images))
    with pytest.raises(ValueError, match=message):
        small().encode(spoil(images))
