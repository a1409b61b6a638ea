"""Formats against torch and numpy, rounding laws against simulation.

Every statistical check states how often it would raise a false alarm: ALARM per check, split over
its points when it has several. Seeds are fixed, so a check that passes once passes always.
"""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding import CALL, assert_within, bound
from scipy import stats

from collapse_utils import precision
from collapse_utils.models import gaussian
from collapse_utils.precision import FORMATS

ALARM = 1e-4
NATIVE = {"float16": np.float16, "float32": np.float32, "float64": np.float64}

each_format = pytest.mark.parametrize("dtype", FORMATS)
numbers = st.floats(-60000, 60000, allow_nan=False)
HOW = {"n_samples": 10, "n_generations": 5, "n_replicates": 3}


def assert_mean(samples, law):
    """The mean over the last axis lies within the interval of its own standard error."""
    samples = np.atleast_2d(samples)
    law = np.broadcast_to(law, samples.shape[0])
    se = samples.std(axis=1, ddof=1) / np.sqrt(samples.shape[1])
    z = stats.norm.isf(ALARM / (2 * len(law)))
    strain = np.abs(samples.mean(axis=1) - law) / se
    assert (strain < z).all(), (samples.mean(axis=1), law, se)


def refused(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


# ---------------------------------------------------------------------------- formats


@each_format
def test_formats_are_those_of_torch(dtype):
    form, info = FORMATS[dtype], torch.finfo(getattr(torch, dtype))
    assert form.eps == info.eps == 2 * form.unit
    assert form.smallest_normal == info.smallest_normal
    assert form.largest == info.max


@each_format
def test_the_smallest_number_and_what_lies_below_it(dtype):
    smallest = FORMATS[dtype].smallest
    assert precision.round_to(smallest, dtype) == smallest > 0
    if dtype != "float64":  # where half of it is no double
        assert precision.round_to(smallest / 2, dtype) == 0
        assert precision.round_to(smallest * 0.75, dtype) == smallest


@pytest.mark.parametrize("dtype", NATIVE)
@given(x=numbers)
def test_rounding_agrees_with_numpy(dtype, x):
    ours, theirs = float(precision.round_to(x, dtype)), float(NATIVE[dtype](x))
    if dtype == "float16":  # rounded twice: the other neighbour only if it is as near
        assert abs(ours - x) <= abs(theirs - x) * (1 + 2**-10)
    else:
        assert ours == theirs


@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bfloat16_is_the_upper_half_of_a_single(x):
    bits = int(np.float32(x).view(np.uint32))
    bits += 0x7FFF + (bits >> 16 & 1)  # to nearest, ties to even
    expected = np.uint32(bits & 0xFFFF0000).view(np.float32)
    assert float(precision.round_to(x, "bfloat16")) == float(expected)


@each_format
@given(x=numbers, y=numbers)
def test_rounding_is_idempotent_odd_monotone_and_near(dtype, x, y):
    a, b = precision.round_to([x, y], dtype)
    assert precision.round_to(a, dtype) == a
    assert precision.round_to(-x, dtype) == -a
    assert (a <= b) or x > y
    assert abs(a - x) <= precision.ulp(x, dtype) / 2 * (1 + 2**-12)


@pytest.mark.parametrize("dtype", NATIVE)
@given(x=numbers)
def test_ulp_agrees_with_numpy(dtype, x):
    stored = NATIVE[dtype](x)
    assert precision.ulp(float(stored), dtype) == abs(float(np.spacing(abs(stored))))


def test_ulp_of_bfloat16_and_of_zero():
    x = [0.0, 0.9, 1.0, -1000.0, 1e-45]
    expected = [2.0**-133, 2.0**-8, 2.0**-7, 4.0, 2.0**-133]
    assert precision.ulp(x, "bfloat16").tolist() == expected


def test_overflow_becomes_infinite_and_the_input_is_left_alone():
    x = np.array([70000.0, -1.0])
    x.flags.writeable = False
    assert precision.round_to(x, "float16").tolist() == [math.inf, -1.0]
    same = precision.round_to(x, "float64")
    assert (same == x).all() and not np.shares_memory(same, x)


def test_torch_is_imported_only_to_round():
    code = (
        "import sys, numpy as np\nfrom collapse_utils import precision\n"
        "precision.ulp(1.0, 'float16'); precision.round_to(1.0, 'float64')\n"
        "assert 'torch' not in sys.modules\nprecision.round_to(1.0, 'float16')\n"
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --------------------------------------------------------------------------- variances


@pytest.mark.parametrize("dtype, power", [("float16", 5), ("float32", 10), ("float64", 20)])
def test_one_pass_error_has_the_predicted_size(dtype, power):
    mean, n = 1.3 * 2.0**power, 64
    x = mean + np.random.default_rng(1).standard_normal((2000, n))
    error = precision.one_pass_variance(x, dtype) - precision.round_to(x, dtype).var(axis=-1)
    assert_mean(error**2 / precision.one_pass_error(mean, n, dtype) ** 2, 1)


@each_format
@pytest.mark.parametrize("ratio", [0, 3, 20])
def test_two_pass_variance_is_within_its_bound(dtype, ratio):
    x = ratio + np.random.default_rng(2).standard_normal((200, 50))
    true = precision.round_to(x, dtype).var(axis=-1)
    # The deviation, squared, its square and the mean are rounded: four units. Half a spacing of the
    # mean adds its square. The true variance itself is a double, of sums of 50 numbers.
    four = 4 * FORMATS[dtype].unit
    error = four / (1 - four) * true + precision.ulp(max(ratio, 1), dtype) ** 2 / 4
    error += bound(50 + 4, true) + (bound(50) * x.mean(axis=-1)) ** 2
    assert_within(precision.two_pass_variance(x, dtype), true, error)


def test_one_pass_variance_fails_where_it_should():
    x = 1e8 + np.random.default_rng(3).standard_normal((200, 64))
    assert (precision.one_pass_variance(x, "float64") <= 0).any()
    assert (precision.two_pass_variance(x, "float64") > 0.3).all()
    overflow = precision.one_pass_variance(300 + x[:, :10] - 1e8, "float16")
    assert not np.isfinite(overflow).any()


def test_one_pass_error_is_about_u_mean_squared():
    mean = np.logspace(1, 6, 500)
    ratio = precision.one_pass_error(mean, 10**6, "float32") / (2.0**-24 * mean**2)
    assert ratio.min() > math.sqrt(0.5) * 0.999 and ratio.max() < math.sqrt(2) * 1.001


# --------------------------------------------------------------------------- recursion


@pytest.mark.parametrize("sd", [0.15, 0.3, 0.7, 2.0])
def test_rounded_variance_is_that_of_rounded_numbers(sd):
    step = 0.25
    x = sd * step * np.random.default_rng(4).standard_normal(200_000)
    stored = np.rint(x / step) * step
    assert_mean(stored**2, float(precision.rounded_variance(sd * step, step)))


def test_rounded_variance_limits():
    assert precision.rounded_variance([0.0, 1e-3], 1.0).tolist() == [0.0, 0.0]
    sd = np.array([[1.0], [5.0], [40.0]])
    step = np.array([0.5, 1.0])
    exact = precision.rounded_variance(sd, step)
    # Sheppard's correction and the first term after it (Poisson's summation formula); the next one
    # is smaller than the fourth power of that, and the sum has 9 sd / step terms.
    wave = np.exp(-2 * (np.pi * sd / step) ** 2) * (4 * sd**2 + (step / np.pi) ** 2)
    law = sd**2 + step**2 / 12 - wave
    error = np.exp(-8 * (np.pi * sd / step) ** 2) * (4 * sd**2 + step**2)
    assert_within(exact, law, error + bound(9 * 80 + 2 * CALL) * law)


@each_format
def test_every_stored_number_is_one_of_the_format(dtype):
    run = precision.simulate(dtype, **HOW, rng=np.random.default_rng(5), mean=3.0, sd=0.1)
    assert (precision.round_to(run.mean[1:], dtype) == run.mean[1:]).all()
    assert (precision.round_to(run.sd[1:], dtype) == run.sd[1:]).all()
    assert (run.mean[0] == 3).all()
    assert_within(run.sd[0], 0.1, bound(2, 0.1))  # the root of a square


@pytest.mark.parametrize("ddof", [0, 1])
def test_double_precision_is_the_plain_loop(ddof):
    run = precision.simulate("float64", **HOW, rng=np.random.default_rng(6), ddof=ddof, mean=2.0)
    rng, mean, sd = np.random.default_rng(6), np.full((3, 1), 2.0), np.ones((3, 1))
    for n in range(1, 6):
        x = mean + sd * rng.standard_normal((3, 10))
        mean, sd = x.mean(axis=1, keepdims=True), x.std(axis=1, ddof=ddof, keepdims=True)
        # Means of ten rows and deviations from them, both routes: the size of a row, n times.
        error = bound(2 * (10 + 4) * n, np.abs(x).max())
        assert_within(run.mean[n], mean[:, 0], error)
        assert_within(run.sd[n], sd[:, 0], error)


def test_offset_data_gain_a_twelfth_of_a_squared_spacing_per_generation():
    how = {"n_samples": 200, "n_generations": 20, "mean": 1000.0}
    run = precision.simulate("float16", **how, n_replicates=500, rng=np.random.default_rng(7))
    noise = precision.simulate_noise(
        "float16", **how, n_replicates=500, rng=np.random.default_rng(8)
    )
    law = 1 + np.array([1, 5, 20]) * 0.5**2 / 12
    assert_mean(run.var[[1, 5, 20]], law)
    assert_mean(noise.var[[1, 5, 20]], law)


def test_a_standard_deviation_below_the_frontier_freezes():
    how = {"n_samples": 1000, "n_generations": 10, "n_replicates": 50, "mean": 1000.0}
    narrow = precision.simulate("bfloat16", **how, rng=np.random.default_rng(9))
    wide = precision.simulate("bfloat16", **how, rng=np.random.default_rng(9), sd=2.0)
    assert (narrow.var[-1] == 0).all() and (narrow.mean[-1] == 1000).all()
    assert (wide.var[-1] > 4).all()


def test_rounding_refills_on_the_floor_what_refitting_loses():
    m = 40
    how = {"n_samples": m, "n_generations": 20 * m, "n_replicates": 300, "mean": 1.0, "ddof": 0}
    for simulate in (precision.simulate, precision.simulate_noise):
        run = simulate("bfloat16", **how, rng=np.random.default_rng(10))
        alive = run.var[-1] > 0
        h = precision.ulp(run.mean[-1], "bfloat16")[alive]
        balance = np.log1p(h**2 / (12 * run.var[-1][alive]))
        assert_mean(balance, -gaussian.log_var_drift(m, 0))


def test_the_noise_model_follows_the_rounded_chain_to_its_floor():
    how = {"n_samples": 30, "n_generations": 250, "ddof": 0, "mean": 1.0}
    a = precision.simulate("bfloat16", **how, n_replicates=400, rng=np.random.default_rng(11))
    b = precision.simulate_noise(
        "bfloat16", **how, n_replicates=4000, rng=np.random.default_rng(12)
    )
    for n in (60, 120, 250):
        x, y = np.log(a.sd[n][a.sd[n] > 0]), np.log(b.sd[n])
        se = math.hypot(x.std() / math.sqrt(len(x)), y.std() / math.sqrt(len(y)))
        assert abs(x.mean() - y.mean()) < stats.norm.isf(ALARM / 6) * se


# --------------------------------------------------------------------------- bad input

UNKNOWN = "dtype must be one of float16, bfloat16, float32, float64, got 'float8'"


@pytest.mark.parametrize(
    "call",
    [
        lambda: precision.get("float8"),
        lambda: precision.round_to([1.0], "float8"),
        lambda: precision.ulp(1.0, "float8"),
        lambda: precision.one_pass_variance([1.0, 2.0], "float8"),
        lambda: precision.two_pass_variance([1.0, 2.0], "float8"),
        lambda: precision.one_pass_error(1.0, 10, "float8"),
        lambda: precision.simulate("float8", **HOW, rng=np.random.default_rng(0)),
        lambda: precision.simulate_noise("float8", **HOW, rng=np.random.default_rng(0)),
    ],
)
def test_an_unknown_format_is_refused_with_the_list(call):
    with refused(UNKNOWN):
        call()


@pytest.mark.parametrize("simulate", [precision.simulate, precision.simulate_noise])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_samples": 1}, "n_samples must be an integer >= 2, got 1"),
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": 2.0}, "n_replicates must be an integer >= 1, got 2.0"),
        ({"ddof": 2}, "ddof must be an integer between 0 and 1, got 2"),
        ({"sd": 0}, "sd must be a finite number in (0, inf], got 0"),
        ({"mean": math.nan}, "mean must be a finite number in [-inf, inf], got nan"),
        (
            {"mean": 1e5},
            "mean and sd must keep ten standard deviations within 65504, the largest number of "
            "float16, got mean=100000, sd=1",
        ),
    ],
)
def test_simulations_refuse_bad_input(simulate, change, message):
    with refused(message):
        simulate("float16", **(HOW | {"rng": np.random.default_rng(0)} | change))


def test_other_bad_input():
    with refused("x must hold finite numbers only, got inf"):
        precision.ulp(math.inf, "float32")
    with refused("x must have 2 or more samples on its last axis, got (3, 1)"):
        precision.one_pass_variance(np.ones((3, 1)), "float32")
    with refused("sd must be finite and >= 0, got -1.0"):
        precision.rounded_variance(-1.0, 1.0)
    with refused("step must be finite and > 0, got 0.0"):
        precision.rounded_variance(1.0, 0.0)
    with refused("n_samples must be an integer >= 2, got 1"):
        precision.one_pass_error(1.0, 1, "float32")
