"""Flow matching: the linear velocity against its law, the network against the linear one."""

import copy
import pickle

import numpy as np
import pytest

from collapse_utils import Accumulate, Replace, recurse
from collapse_utils.models.diffusion import Flow, integrate, slope


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def factor(variance, n_steps, solver="euler"):
    "What a standard deviation of one becomes, on the way by `integrate`."
    return integrate(lambda x, t: slope(t, variance)[0] * x, 1.0, n_steps, solver)


def small(**kw):
    return Flow(**{"hidden": 8, "n_train": 3, "batch_size": 16, "n_steps": 3} | kw)


@pytest.mark.parametrize("variance", [0.04, 1.0, 9.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slope_is_the_regression_of_the_velocity_on_the_point(variance, t):
    # x - z and x_t have covariance t v - (1 - t), and the latter has variance s.
    weights = np.array([[1.0, -1.0], [t, 1 - t]])
    cov = weights @ np.diag([variance, 1.0]) @ weights.T
    a, path = slope(t, variance)
    assert path == pytest.approx(cov[1, 1], rel=1e-12)
    assert a == pytest.approx(cov[0, 1] / cov[1, 1], rel=1e-12)


def test_one_step_writes_the_mean_and_two_the_known_factor():
    assert factor(0.7, 1) == 0
    assert factor(0.7, 2) ** 2 == pytest.approx((0.7 / 1.7) ** 2, rel=1e-12)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("heun", 2)])
def test_the_solvers_have_their_order(solver, order):
    errors = [abs(factor(0.5, k, solver) ** 2 - 0.5) for k in (200, 400)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.02)


def test_an_untrained_network_has_the_linear_velocity(rng):
    X = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 3)) + [1.0, 2.0, 3.0]
    network = small(learning_rate=1e-12, solver="euler").fit(X, rng)
    rows = network.sample(5000, np.random.default_rng(5))
    z = np.random.default_rng(5)
    z.choice(1, 5000, p=[1.0])  # the classes, of which there is one
    z = z.standard_normal((5000, 3), dtype=np.float32)
    variances, axes = network.parts_["variances"], network.parts_["axes"]
    assert np.allclose(axes * variances @ axes.T, np.cov(X.T, ddof=0))
    scales = [factor(v, 3) for v in variances]
    assert np.allclose(rows, X.mean(axis=0) + z * scales @ axes.T, atol=1e-5)


def test_data_without_spread_are_written_as_they_are(rng):
    rows = small(solver="euler").fit(np.full((4, 2), 5.0), rng).sample(3, rng)
    assert np.allclose(rows, 5, atol=1e-4)


@pytest.fixture(scope="module")
def two_classes():
    rng = np.random.default_rng(8)
    label = np.repeat([0.0, 1.0], 400)
    return np.column_stack([rng.standard_normal((800, 2)) + 3 * label[:, None], label])


@pytest.fixture(scope="module")
def trained(two_classes):
    model = Flow(hidden=32, n_classes=2, n_train=300, batch_size=64, n_steps=20)
    return model.fit(two_classes, np.random.default_rng(1))


def means(rows):
    return [rows[rows[:, -1] == c, :-1].mean() for c in (0, 1)]


def test_the_network_learns_classes_and_writes_their_labels(two_classes, trained):
    rows = trained.sample(4000, np.random.default_rng(2))
    assert set(np.unique(rows[:, -1])) == {0.0, 1.0}
    assert means(rows) == pytest.approx(means(two_classes), abs=0.4)


def test_guidance_drives_classes_apart(trained):
    pushed = copy.deepcopy(trained).set_params(guidance=1.0)
    plain, apart = (means(m.sample(4000, np.random.default_rng(2))) for m in (trained, pushed))
    assert apart[0] < plain[0] < plain[1] < apart[1]


def test_side_by_side_is_the_same_as_alone_and_leaves_the_prototype(rng):
    X = rng.standard_normal((30, 2))
    model = small()
    (one,) = model.fit_many([X], np.random.default_rng(4))
    alone = small().fit(X, np.random.default_rng(4))
    assert not hasattr(model, "parts_")
    for name, weight in one.parts_.items():
        assert np.array_equal(weight, alone.parts_[name])


def test_sets_of_several_sizes_train_on_their_own_rows(rng):
    near, far = rng.standard_normal((40, 2)), 50 + rng.standard_normal((25, 2))
    fitted = small().fit_many([near, far], rng)
    assert [round(m.sample(500, rng).mean() / 50) for m in fitted] == [0, 1]


def test_it_runs_in_the_loop_and_survives_pickling(rng):
    X = np.column_stack([rng.standard_normal((40, 2)), np.resize([0.0, 1.0, 2.0], 40)])
    workflows = {"replace": Replace(), "accumulate": Accumulate()}
    plan = dict(workflow=workflows, n_generations=2, n_samples=20, keep_samples=5, rng=rng)
    run = recurse(small(n_classes=3), X, **plan)
    assert run.samples["accumulate", 0][2].shape == (5, 3)
    model = pickle.loads(pickle.dumps(run.models["replace", 0]))
    assert np.isfinite(model.sample(4, rng)).all()


@pytest.mark.parametrize("X", [[1.0, 2.0], [[1.0]], [[1.0], [np.nan]], np.empty((3, 0))])
def test_rows_that_cannot_be_learned(X):
    with pytest.raises(ValueError, match=r"X must be finite, of shape \(n >= 2, d\), got shape"):
        small().fit(X)


@pytest.mark.parametrize("label", [-1.0, 0.5, 2.0])
def test_labels_that_are_none(label):
    with pytest.raises(ValueError, match="X must have labels 0 to 1 in its last column, got"):
        small(n_classes=2).fit([[0.3, 1.0], [0.1, label]])


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"n_steps": 0}, "n_steps must be an integer >= 1, got 0"),
        ({"solver": "rk4"}, "solver must be one of euler, heun, got 'rk4'"),
        ({"n_classes": -1}, "n_classes must be an integer >= 0, got -1"),
        ({"guidance": np.inf}, "guidance must be a finite number"),
        ({"learning_rate": 0}, "learning_rate must be a finite number"),
    ],
)
def test_settings_that_make_no_sense(bad, message):
    with pytest.raises(ValueError, match=message):
        Flow(**bad)
