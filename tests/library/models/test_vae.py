"""The VAE against automatic differentiation and itself."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from rounding import CALL, assert_within, bound, moved
from sklearn.base import clone

from collapse_utils import Accumulate, Replace, data, recurse
from collapse_utils.models.vae import (
    LIKELIHOODS,
    VAE,
    _gradients,
    _start,
)


@pytest.fixture(scope="module")
def images():
    return data.images("digits")[0]


#: Roundings in a row when `small` turns images into a gradient, in single precision: the products
#: of its layers, forward and back, the sum over a batch, and its functions.
STEP = 2 * (64 + 12 + 3 + 12) + 16 + 6 * CALL


def small(**kw):
    return VAE(**{"hidden": 12, "latent": 3, "n_steps": 40, "batch_size": 16} | kw)


def by_autograd(config, w, x, noise):
    """The negative evidence lower bound written the plain way, per model."""
    normal, bernoulli = torch.distributions.Normal, torch.distributions.Bernoulli
    h = torch.relu(x @ w["W1"] + w["b1"])
    mean, log_variance = (h @ w["W2"] + w["b2"]).chunk(2, -1)
    posterior = normal(mean, torch.exp(log_variance / 2))
    z = mean + noise * posterior.stddev
    y = torch.sigmoid(torch.relu(z @ w["W3"] + w["b3"]) @ w["W4"] + w["b4"])
    residual = (x - y).square().mean((1, 2), keepdim=True)
    if config.likelihood == "bernoulli":
        fit = bernoulli(y, validate_args=False).log_prob(x)
    else:
        sigma2 = residual if config.likelihood == "learned" else torch.tensor(config.sigma2)
        fit = normal(y, sigma2.sqrt()).log_prob(x)
    divergence = torch.distributions.kl_divergence(posterior, normal(0.0, 1.0))
    return (divergence.sum(-1) - fit.sum(-1)).mean(-1), residual.flatten()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_hand_written_gradient_is_that_of_the_bound(images, likelihood):
    config = small(likelihood=likelihood)
    generators = [torch.Generator().manual_seed(s) for s in (0, 1)]
    weights = _start(config, [images, images[:50]], generators)
    for w in weights.values():
        w.grad = torch.empty_like(w)
    batch = torch.from_numpy(images[:32]).reshape(2, 16, -1)
    noise = torch.randn(2, 16, 3, generator=generators[0])
    loss, residual = _gradients(config, weights, batch, noise)

    def route(x, noise, *values):
        "In double precision: loss, residual, and the gradient by each of the weights."
        x, noise, *values = map(torch.from_numpy, (x, noise, *values))
        w = dict(zip(weights, (v.requires_grad_() for v in values), strict=True))
        expected, expected_residual = by_autograd(config, w, x, noise)
        expected.sum().backward()
        return [part.detach().numpy() for part in (expected, expected_residual)] + [
            v.grad.numpy() for v in w.values()
        ]

    inputs = [part.double().numpy() for part in (batch, noise, *weights.values())]
    found = [loss, residual, *(w.grad for w in weights.values())]
    for mine, exact, moves in zip(found, route(*inputs), moved(route, *inputs), strict=True):
        assert_within(mine.double(), exact, bound(STEP, moves, np.float32))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_stacked_fits_are_the_single_fits(images, likelihood):
    sets = [images, images[:300], images[500:900]]
    config = small(likelihood=likelihood)
    stacked = config.fit_many(sets, rng=np.random.default_rng(7))
    rng = np.random.default_rng(7)
    for together, X in zip(stacked, sets, strict=True):
        same = copy.deepcopy(rng)
        alone = clone(config).fit(X, rng=rng)
        # What rounding adds to every step, a small change of the pixels in every step measures.
        small_change, dimmed = 2.0**-12, np.random.default_rng(0).random(X.shape) < 0.5
        other = clone(config).fit(X - small_change * np.where(dimmed, X, 0), rng=same)
        for mine, single, moves in (
            (together.loss_, alone.loss_, other.loss_),
            *[(together.sigma2_, alone.sigma2_, other.sigma2_)] * (likelihood != "bernoulli"),
            *((together.weights_[k], w, other.weights_[k]) for k, w in alone.weights_.items()),
        ):
            moves = np.abs(moves - single).max() / small_change
            assert_within(mine, single, bound(STEP, moves, np.float32))


def test_fit_and_sample_are_settled_by_the_rng(images):
    one, two = (small().fit(images, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one.weights_["W4"], two.weights_["W4"])
    draws = [m.sample(5, np.random.default_rng(0)) for m in (one, two)]
    assert np.array_equal(*draws)
    assert not np.array_equal(one.sample(5, np.random.default_rng(1)), draws[0])


def test_bound_improves_and_the_output_bias_is_the_mean_image(images):
    model = VAE(n_steps=200).fit(images, np.random.default_rng(0))
    early, late = model.loss_[:20], model.loss_[-20:]
    se = math.sqrt(early.var() / 20 + late.var() / 20)
    assert early.mean() - late.mean() > 10 * se
    bias = _start(model, [images], [torch.Generator()])["b4"].sigmoid().numpy().ravel()
    law = images.mean(0).clip(0.01, 0.99)
    assert_within(bias, law, bound(2 * CALL, 1 + math.log(99), np.float32) * law)


def test_sampling_modes_differ_by_the_decoder_noise(images):
    mean = small(n_steps=100).fit(images, np.random.default_rng(0))
    noisy = copy.deepcopy(mean)
    noisy.sampling = "noisy"
    n = 20_000
    a, b = (m.sample(n, np.random.default_rng(1)).var(0).mean() for m in (mean, noisy))
    # The mean of 64 variances of n Gaussians has relative error below sqrt(2 / n) each; 5 of them.
    assert abs(b - a - mean.sigma2) < 5 * b * math.sqrt(2 / n)
    binary = small(likelihood="bernoulli", sampling="noisy").fit(images, np.random.default_rng(0))
    assert set(np.unique(binary.sample(50))) == {0.0, 1.0}


def test_learned_variance_is_the_mean_squared_residual(images):
    model = VAE(likelihood="learned", n_steps=200).fit(images, np.random.default_rng(0))
    reconstructed = model.decode(model.encode(images))
    assert 0 < ((reconstructed - images) ** 2).mean() < model.sigma2_ < images.var(0).mean()


def test_shapes_and_widths_of_one(images):
    model = VAE(hidden=1, latent=1, n_steps=2, batch_size=3).fit(images[:4, :1])
    assert model.sample(5).shape == (5, 1) and model.encode(images[:3, :1]).shape == (3, 1)
    model = pickle.loads(pickle.dumps(small(n_steps=2).fit(images)))
    assert model.sample(2).shape == (2, 64) and model.encode(images).shape == (1797, 3)


def test_plugs_into_the_loop_with_all_lineages_at_once(images):
    history = recurse(
        small(n_steps=5),
        images[:200],
        workflow={"replace": Replace(), "accumulate": Accumulate()},
        n_generations=2,
        n_replicates=2,
        metrics={"variance": lambda s: s.sample.var(0).sum()},
        rng=np.random.default_rng(0),
    )
    assert history.array("variance", "accumulate").shape == (3, 2)
    assert np.isfinite(history.frame["value"]).all()


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"hidden": 0}, "hidden must be an integer >= 1, got 0"),
        ({"latent": 2.5}, "latent must be an integer >= 1, got 2.5"),
        ({"likelihood": "normal"}, "likelihood must be one of gaussian, learned, bernoulli"),
        ({"sampling": "max"}, "sampling must be one of mean, noisy, got 'max'"),
        ({"sigma2": 0.0}, "sigma2 must be a finite number"),
        ({"sigma2": math.nan}, "sigma2 must be a finite number"),
        ({"n_steps": True}, "n_steps must be an integer >= 1, got True"),
        ({"learning_rate": 0}, "learning_rate must be a finite number"),
    ],
)
def test_bad_settings_are_refused(kw, message):
    with pytest.raises(ValueError, match=message):
        VAE(**kw)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X: X.reshape(-1, 8, 8), r"shape \(n, pixels\), got shape \(1797, 8, 8\)"),
        (lambda X: X[:0], r"got shape \(0, 64\)"),
        (lambda X: X * 255, r"pixels in \[0, 1\] give or take noise of 1.7, got \[0, 255\]"),
        (lambda X: np.where(X > 0.9, np.nan, X), "X must be finite"),
    ],
)
def test_bad_images_are_refused(images, spoil, message):
    with pytest.raises(ValueError, match=message):
        VAE().fit(spoil(images))


def test_a_fitted_model_refuses_other_images_and_codes(images):
    model = small(n_steps=1).fit(images)
    with pytest.raises(ValueError, match="images of 64 pixels, got 63"):
        model.encode(images[:, 1:])
    with pytest.raises(ValueError, match=r"z must have shape \(n, 3\), got \(5, 4\)"):
        model.decode(np.zeros((5, 4)))


def test_bernoulli_takes_no_noise_and_sizes_must_agree(images):
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\], got"):
        VAE(likelihood="bernoulli").fit(images + 0.1)
    with pytest.raises(ValueError, match=r"one size, got \[63, 64\] pixels"):
        VAE().fit_many([images, images[:, 1:]])
