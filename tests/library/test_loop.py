"""The loop: models that plug in, reproducible and resumable runs, and errors before work."""

import functools
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from rounding import assert_within, bound
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    Mix,
    Replace,
    _checkpoint,
    recurse,
)
from collapse_utils.models.gaussian import Gaussian


class Readers:
    def fit(self, X):
        self.low, self.high = X.min(axis=0), X.max(axis=0)

    def sample(self, n, rng):
        return rng.uniform(self.low, self.high, (n, *self.low.shape))


def rows_2d(n=60, seed=5):
    return np.random.default_rng(seed).standard_normal((n, 2))


def normal(n, rng):
    return rng.standard_normal(n)


METRICS = {
    "spread": lambda s: s.training.std(),
    "sampled": lambda s: {"mean": s.sample.mean(), "real": (s.origin == 0).mean()},
}


def run(model=None, data=None, **change):
    arguments = {
        "n_samples": 20,
        "n_generations": 3,
        "n_replicates": 2,
        "metrics": METRICS,
        "rng": np.random.default_rng(0),
        **change,
    }
    return recurse(
        Gaussian() if model is None else model, normal if data is None else data, **arguments
    )


def assert_same(a, b):
    """Bit for bit the same history."""
    pd.testing.assert_frame_equal(a.frame, b.frame, check_exact=True)
    assert a.samples.keys() == b.samples.keys()
    for key, kept in a.samples.items():
        assert len(kept) == len(b.samples[key])
        for x, y in zip(kept, b.samples[key], strict=True):
            np.testing.assert_array_equal(x, y)
    assert a.models.keys() == b.models.keys()


# ------------------------------------------------------------------ models plug in unchanged


QUICK = {"init_params": "random_from_data", "max_iter": 500}  # k-means is slow on small data


@pytest.mark.parametrize(
    ("model", "workflow"),
    [
        (KernelDensity(bandwidth=0.3), Replace()),
        (KernelDensity(bandwidth=0.3), AccumulateSubsample()),
        (KernelDensity, Mix(0.5, 0.25, 0.25)),
        (GaussianMixture(n_components=2), Replace()),
        (GaussianMixture(n_components=2, random_state=3, **QUICK), Accumulate()),
        (lambda: GaussianMixture(2, **QUICK), Replace()),
        (Readers(), Replace()),
        (Readers, Accumulate()),
        (Gaussian(), Mix(0.5, 0.25, 0.25)),
    ],
    ids=lambda value: getattr(value, "__qualname__", type(value).__name__),
)
def test_models_run_unchanged_and_reproducibly(model, workflow):
    first, again, other = (
        run(
            model,
            rows_2d(),
            workflow=workflow,
            n_samples=40,
            keep_samples=5,
            rng=np.random.default_rng(seed),
        )
        for seed in (1, 1, 2)
    )
    assert_same(first, again)
    assert first.array("mean").shape == (4, 2)
    assert np.isfinite(first.array("mean")).all()
    assert len(np.unique(first.array("mean")[1:])) == 6  # no two draws share a seed
    assert (first.array("mean")[1:] != other.array("mean")[1:]).all()
    assert [x.shape for x in first.samples[type(workflow).__name__, 1]] == [(5, 2)] * 4


def test_the_prototype_is_never_fitted():
    mixture, reader = GaussianMixture(2, random_state=0), Readers()
    for model in (mixture, reader):
        before = repr(vars(model))
        run(model, rows_2d(), n_samples=30)
        assert repr(vars(model)) == before


def test_a_mixture_trains_on_other_rows_than_it_is_measured_on():
    """GaussianMixture.sample with an integer seed would write the same rows at every call."""
    shown, trained = {}, {}

    def look(s):
        shown[s.generation], trained[s.generation] = s.sample, s.training
        return 0.0

    run(GaussianMixture(2, random_state=0), rows_2d(), n_replicates=1, metrics={"look": look})
    for g in (1, 2):
        assert not (np.isin(trained[g + 1], shown[g])).any()


def test_fit_many_sees_all_lineages_at_once():
    calls = []

    class Stack(Gaussian):
        def fit_many(self, Xs, rng):
            calls.append([X.copy() for X in Xs])
            assert isinstance(rng, np.random.Generator)
            return [Gaussian().fit(X) for X in Xs]

    workflows = {"r": Replace(), "a": Accumulate()}
    stacked = run(Stack(), workflow=workflows, n_replicates=3)
    assert [len(Xs) for Xs in calls] == [6] * 3
    assert sorted({len(X) for X in calls[2]}) == [20, 60]
    # Gaussian draws nothing in fit, so one model at a time gives the same history.
    assert_same(stacked, run(Gaussian(), workflow=workflows, n_replicates=3))


def test_fit_many_must_return_one_model_per_lineage():
    class Short(Gaussian):
        def fit_many(self, Xs, rng):
            return [Gaussian().fit(Xs[0])]

    with pytest.raises(ValueError, match="zip"):
        run(Short())


def test_fit_and_sample_get_the_seed_they_ask_for():
    seen = []

    class Seeded:
        def fit(self, X, random_state):
            seen.append(random_state)

        def sample(self, n, random_state):
            seen.append(random_state)
            return np.random.default_rng(random_state).standard_normal(n)

    run(Seeded(), n_replicates=1)
    assert len(seen) == 3 + 3 + 2  # fits, evaluation samples, training samples
    assert len(set(seen)) == len(seen)
    assert all(type(s) is int for s in seen)


# ------------------------------------------------------------------ what is recorded


def test_history_is_tidy():
    workflows = {"r": Replace(), "f": FreshData(0.5)}
    history = run(workflow=workflows, n_generations=4, n_replicates=3)
    frame = history.frame
    assert list(frame.columns) == ["workflow", "generation", "replicate", "metric", "value"]
    assert len(frame) == 2 * 5 * 3 * 3
    assert not frame.duplicated(["workflow", "generation", "replicate", "metric"]).any()
    real = history.array("real", workflow="f")
    np.testing.assert_array_equal(real, np.repeat([[1], [1], [0.5], [0.5], [0.5]], 3, axis=1))
    one = frame[(frame.workflow == "r") & (frame.metric == "mean") & (frame.generation == 2)]
    np.testing.assert_array_equal(history.array("mean", "r")[2], one.sort_values("replicate").value)


def test_missing_values_keep_their_place():
    """A metric that is undefined at generation 0, or reported only now and then, is NaN there."""
    history = run(
        metrics={
            "undefined": lambda s: np.nan if s.model is None else s.generation,
            "rare": lambda s: {"seldom": 1.0} if s.generation == 2 and s.replicate == 1 else {},
        }
    )
    nan = np.nan
    np.testing.assert_array_equal(history.array("undefined"), [[nan, nan], [1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(
        history.array("seldom"), [[nan, nan], [nan, nan], [nan, 1], [nan, nan]]
    )


def test_history_names_what_it_holds():
    history = run(workflow={"r": Replace(), "a": Accumulate()})
    with pytest.raises(ValueError, match="workflow must be one of r, a, got None"):
        history.array("mean")
    with pytest.raises(ValueError, match="workflow must be one of r, a, got 'x'"):
        history.array("mean", "x")
    with pytest.raises(ValueError, match="metric must be one of spread, mean, real, got 'max'"):
        history.array("max", "r")
    with pytest.raises(ValueError, match="'mean' was not recorded: pass metrics to recurse"):
        run(metrics=None).array("mean")


def test_snapshots_hold_the_generations():
    seen = []
    history = run(metrics={"look": lambda s: seen.append(s) or 0.0}, n_replicates=1, n_eval=7)
    assert [s.generation for s in seen] == [0, 1, 2, 3]
    assert seen[0].model is None and seen[0].first_model is None
    assert all(s.first_model is seen[1].model for s in seen[1:])
    assert seen[3].model is history.models["Replace", 0]
    np.testing.assert_array_equal(seen[0].training, seen[1].training)
    assert all(len(s.sample) == 7 for s in seen)
    for s in seen[1:]:
        # Two means of the same rows, in any order of summation.
        error = bound(2 * len(s.training), np.abs(s.training).mean())
        assert_within(s.model.mean_, s.training.mean(), error)


def test_workflows_of_a_dict_share_real_rows_and_nothing_else():
    workflows = {
        "r": Replace(),
        "a": Accumulate(),
        "s": AccumulateSubsample(),
        "f": FreshData(0.5),
        "g": FreshData(0.5),
    }
    for data in (normal, np.random.default_rng(1).standard_normal(500)):
        training = {}

        def keep(s, training=training):
            training[s.workflow, s.replicate, s.generation] = s
            return 0.0

        run(data=data, workflow=workflows, metrics={"keep": keep})
        for r in range(2):
            for name in workflows:
                np.testing.assert_array_equal(
                    training[name, r, 1].training, training["r", r, 1].training
                )
            # Two workflows that ask for the same fresh rows get the same ones.
            f, g = training["f", r, 2], training["g", r, 2]
            np.testing.assert_array_equal(f.training[f.origin == 0], g.training[g.origin == 0])
            assert not np.isin(f.training[f.origin == 1], g.training[g.origin == 1]).any()
        assert not np.isin(training["r", 0, 1].training, training["r", 1, 1].training).all()


def test_sizes_follow_the_schedule():
    sizes = {}
    for name, n_samples in {
        "list": [5, 9, 3],
        "array": np.array([5, 9, 3]),
        "callable": lambda g: [5, 9, 3][g - 1],
    }.items():
        sizes[name] = run(
            n_samples=n_samples, metrics={"n": lambda s: len(s.training)}, n_replicates=1
        ).array("n")[:, 0]
        assert sizes[name].tolist() == [5, 5, 9, 3]
    whole = run(data=rows_2d(17), n_samples=None, metrics={"n": lambda s: len(s.training)})
    assert (whole.array("n") == 17).all()


def test_metrics_draw_nothing_from_the_run():
    plain = run(metrics={"spread": METRICS["spread"]})
    both = run(metrics={**METRICS, "noise": lambda s: np.random.default_rng().random()})
    np.testing.assert_array_equal(plain.array("spread"), both.array("spread"))


def test_two_runs_from_one_generator_are_different_draws():
    rng = np.random.default_rng(0)
    first, second = run(rng=rng), run(rng=rng)
    assert_same(first, run(rng=np.random.default_rng(0)))
    assert (first.array("mean") != second.array("mean")).all()


def test_progress_is_silent_by_default(capsys):
    run()
    assert capsys.readouterr() == ("", "")
    run(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "fits" in err and "6/6" in err and "<00:00" in err  # 3 generations, 2 replicates


# ------------------------------------------------------------------ resuming

LONG = {
    "workflow": {
        "r": Replace(),
        "a": Accumulate(),
        "s": AccumulateSubsample(),
        "m": Mix(0.5, 0.25, 0.25),
        "f": FreshData(0.5),
    },
    "n_generations": 6,
    "keep_samples": 4,
}


class Interrupted(Exception):
    pass


def spread(s):
    """Fails at one generation, by order of the environment: the run itself stays the same."""
    if (str(s.generation), s.workflow, s.replicate) == (os.environ.get("FAILING"), "m", 1):
        raise Interrupted
    return s.training.std()


FRAGILE = {**METRICS, "spread": spread}


def normal_column(n, rng):
    return rng.standard_normal((n, 1))


@pytest.mark.parametrize(
    ("model", "data", "generation"),
    [
        (Gaussian(), normal_column, 1),
        (Gaussian(), rows_2d(200), 3),
        (Gaussian(), normal_column, 6),
        (KernelDensity(bandwidth=0.4), normal_column, 3),
        (KernelDensity(bandwidth=0.4), rows_2d(200), 6),
        (GaussianMixture(1, **QUICK), rows_2d(200), 3),
    ],
    ids=["first", "rows", "last", "kde", "kde-rows", "gmm-rows"],
)
def test_an_interrupted_run_resumes_bit_for_bit(tmp_path, monkeypatch, model, data, generation):
    path = tmp_path / "deep" / "run.pickle"
    monkeypatch.setenv("FAILING", str(generation))
    with pytest.raises(Interrupted) as stopped:
        run(model, data, **LONG, metrics=FRAGILE, checkpoint=path)
    assert f"in generation {generation}, replicate 1, workflow 'm'" in stopped.value.__notes__
    monkeypatch.delenv("FAILING")
    assert path.exists() == (generation > 1)
    resumed = run(model, data, **LONG, metrics=FRAGILE, checkpoint=path)
    assert_same(resumed, run(model, data, **LONG, metrics=FRAGILE))
    again = run(model, data, **LONG, metrics=FRAGILE, checkpoint=path)
    assert_same(resumed, again)  # finished: only loads
    assert [p.name for p in path.parent.iterdir()] == ["run.pickle"]


class Counting(Readers):
    def fit(self, X):  # a counter of the class would make it another class
        os.environ["FITS"] = str(int(os.environ["FITS"]) + 1)
        super().fit(X)


def test_only_unfinished_generations_are_fitted_again(tmp_path, monkeypatch):
    def fits():
        monkeypatch.setenv("FITS", "0")
        run(Counting(), **LONG, metrics=FRAGILE, checkpoint=tmp_path / "c")
        return int(os.environ["FITS"])

    monkeypatch.setenv("FAILING", "4")
    with pytest.raises(Interrupted):
        fits()
    assert os.environ["FITS"] == str(4 * 10)
    monkeypatch.delenv("FAILING")
    assert fits() == 3 * 10
    assert fits() == 0


@pytest.mark.parametrize("n_samples", [20, [20, 15, 10, 15, 20, 25]], ids=["constant", "schedule"])
def test_a_run_can_be_extended(tmp_path, n_samples):
    path = tmp_path / "c"
    whole = run(**LONG, n_samples=n_samples)
    for n_generations in (1, 2, 5, 6):
        sizes = n_samples if isinstance(n_samples, int) else n_samples[:n_generations]
        part = run(**{**LONG, "n_generations": n_generations}, n_samples=sizes, checkpoint=path)
        frame = whole.frame[whole.frame.generation <= n_generations]
        pd.testing.assert_frame_equal(part.frame, frame.reset_index(drop=True), check_exact=True)
    assert_same(part, whole)


def test_what_follows_a_run_does_not_depend_on_resuming(tmp_path):
    def two_runs(path):
        rng = np.random.default_rng(4)
        first = run(rng=rng, checkpoint=path)
        return first, run(rng=rng), rng.random()

    fresh, resumed = two_runs(tmp_path / "c"), two_runs(tmp_path / "c")
    assert_same(fresh[0], resumed[0])
    assert_same(fresh[1], resumed[1])
    assert fresh[2] == resumed[2]
    assert (fresh[0].array("mean") != fresh[1].array("mean")).all()


def other_law(n, rng):
    return rng.standard_normal(n) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": Gaussian(ddof=0)},
        {"model": Readers()},
        {"data": other_law},
        {"data": np.zeros(50)},
        {"workflow": Accumulate()},
        {"workflow": {"other name": Replace()}},
        {"n_samples": 21},
        {"n_samples": [20, 20, 21]},
        {"n_replicates": 3},
        {"n_generations": 2},
        {"n_eval": 19},
        {"keep_samples": 1},
        {"metrics": {"spread": METRICS["spread"]}},
        {"rng": np.random.default_rng(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change):
    path = tmp_path / "c"
    run(checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint .* belongs to another run"):
        run(**change, checkpoint=path)
    assert path.read_bytes() == before


def test_other_rows_are_another_run_even_with_the_same_bytes(tmp_path):
    path = tmp_path / "c"
    rows = rows_2d(20)
    run(data=rows, checkpoint=path)
    for other in (rows + 1e-9, rows.reshape(-1)[:40].reshape(40, 1), rows.view(np.int64)):
        with pytest.raises(ValueError, match="belongs to another run"):
            run(data=other, checkpoint=path)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps([1, 2]), pickle.dumps(3)])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a checkpoint"):
        run(checkpoint=path)
    assert path.read_bytes() == content


SCRIPT = """
import os, sys, time
import numpy as np
from collapse_utils import AccumulateSubsample, FreshData, Replace, recurse


class Slow:  # no repr of its own: its address must not matter
    def __init__(self, width=1.5):
        self.width = width

    def fit(self, X):
        time.sleep(float(os.environ["PAUSE"]))
        self.mean, self.sd = X.mean(), X.std()

    def sample(self, n, rng):
        return self.mean + self.width * self.sd * rng.uniform(-1, 1, n)


def report(s):
    print(s.generation, flush=True)
    return s.sample.std()


history = recurse(
    Slow(), lambda n, rng: rng.standard_normal(n), n_samples=10, n_generations=12,
    workflow={{"r": Replace(), "s": AccumulateSubsample(), "f": FreshData(0.3)}},
    metrics={{"sd": report}}, keep_samples=3, rng=np.random.default_rng(0), checkpoint={path!r},
)
history.frame.to_json(sys.argv[1], double_precision=15)
"""


def test_kill_9_loses_at_most_one_generation(tmp_path):
    def start(name, path, pause):
        script = tmp_path / "script.py"
        script.write_text(SCRIPT.format(path=path))
        # Other hashes each time.
        environment = {**os.environ, "PYTHONHASHSEED": str(len(name)), "PAUSE": str(pause)}
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / name)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    path = str(tmp_path / "c")
    with start("killed", path, 0.02) as process:
        for line in process.stdout:
            if int(line) == 5:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    with start("resumed", path, 0) as process:
        shown = [int(line) for line in process.stdout]
    assert process.returncode == 0
    assert shown[0] in (5, 6) and shown[-1] == 12
    with start("whole", None, 0) as process:
        assert int(process.stdout.readline()) == 0
        process.stdout.read()
    assert process.returncode == 0
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


# ------------------------------------------------------------------ errors


class NoSample:
    def fit(self, X):
        return self


class Shapes(Readers):
    """Writes an array of another shape than it was asked for."""

    def __init__(self, *shape):
        self.shape = shape

    def sample(self, n, rng):
        return np.zeros(self.shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_generations": 0}, "n_generations must be an integer >= 1, got 0"),
        ({"n_replicates": 1.5}, "n_replicates must be an integer >= 1, got 1.5"),
        ({"n_samples": -5}, "n_samples must be an integer >= 1, got -5"),
        ({"n_samples": [5, 5]}, "n_samples must give one size for each of the 3 generations"),
        ({"n_samples": None}, "n_samples must be given when data is a callable, got None"),
        ({"n_samples": 11, "data": rows_2d(10)}, "n_samples must be at most the 10 rows .* got 11"),
        ({"n_eval": 0}, "n_eval must be an integer >= 1, got 0"),
        ({"keep_samples": -1}, "keep_samples must be an integer >= 0, got -1"),
        ({"rng": 0}, "rng must be a numpy.random.Generator .*, got 0"),
        ({"workflow": {}}, "workflow must name at least one workflow"),
        ({"workflow": "replace"}, r"workflow must have compose\(.* got 'replace'"),
        ({"workflow": Replace}, r"workflow must have compose\(.* got <class .*Replace"),
        ({"model": NoSample()}, r"model must have fit\(X\) and sample\(n\), .*NoSample"),
        ({"model": 7}, r"model must have fit\(X\) and sample\(n\), .*got 7"),
        ({"model": NoSample}, r"model\(\) must return an object with fit and sample, .*NoSample"),
        ({"model": Shapes(19)}, r"sample\(20\) must return an array of shape \(20,\), got \(19,\)"),
        ({"model": Shapes(20, 1)}, r"must return an array of shape \(20,\), got \(20, 1\)"),
        ({"data": []}, r"data must hold at least one row, got shape \(0,\)"),
        ({"data": 3.0}, "data must be rows: an array or a DataFrame, got 3.0"),
        ({"data": "rows.csv"}, "data must be rows: .*, got 'rows.csv'"),
        ({"data": {"a": 1, "b": 2}}, "data must have columns of one length"),
        ({"metrics": [max]}, "metrics must be a dict of name -> callable, got .<built-in"),
        ({"metrics": {"a": 5}}, "metrics must be a dict of name -> callable, got {'a': 5}"),
        ({"metrics": {"a": lambda s: "x"}}, r"metrics\['a'\] must return a number .*, got 'x'"),
        ({"workflow": {1: Replace()}}, "workflow must have names that are texts, got 1"),
        ({"checkpoint": 5}, "checkpoint must be a path, got 5"),
        ({"data": [1.0, np.inf] * 20}, "data must be finite, got NaN or infinity"),
        (
            {"data": lambda n, rng: rng.standard_normal((2, n))},
            r"data\(n, rng\) must return n rows, got shape \(2, 20\) for n=20",
        ),
        (
            {"metrics": {"a": lambda s: {"x": 1}, "x": lambda s: 2}},
            "metrics must report each name once, got 'x' twice",
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        run(**change)


def test_finite_data_runs_out_with_a_clear_error():
    with pytest.raises(
        ValueError, match=r"fraction=0\.5 needs 40 real rows over 3 generations, but data has 39"
    ):
        run(data=rows_2d(39), workflow=FreshData(0.5))
    run(data=rows_2d(40), workflow=FreshData(0.5))


def test_a_readers_workflow_plugs_in_and_may_run_out():
    class Greedy:
        """Asks for fresh rows without saying beforehand how many."""

        def compose(self, sources, n_samples):
            new = sources.fresh(n_samples)
            return new, new

    history = run(workflow=Greedy(), metrics={"real": lambda s: (s.origin == 0).mean()})
    assert (history.array("real", "Greedy") == 1).all()
    with pytest.raises(ValueError, match="needs 20 more real rows, but only 10 of 50 are unseen"):
        run(data=rows_2d(50), workflow=Greedy())


# ------------------------------------------------------------------ what counts as the same run


def shifted(mean):
    return lambda n, rng: rng.normal(mean, 1, n)


def first_word():
    def metric(s):
        return float(s.sample.mean())

    return metric


def other_constant():
    def metric(s):
        return float(s.sample.mean()) + 0.0

    return metric


SHIFT = 1.0


def by_a_global(n, rng):
    return rng.normal(SHIFT, 1, n)


class Scaled(Gaussian):
    factor = 1.0

    def fit(self, X):
        return super().fit(np.asarray(X) * self.factor)


@pytest.mark.parametrize(
    ("first", "second", "part"),
    [
        ({"data": shifted(0.0)}, {"data": shifted(100.0)}, "data"),
        ({"metrics": {"m": first_word()}}, {"metrics": {"m": other_constant()}}, "metrics"),
        ({"model": lambda: Gaussian(ddof=0)}, {"model": lambda: Gaussian(ddof=1)}, "model"),
        (
            {"data": functools.partial(np.random.Generator.normal, np.random.default_rng(0))},
            {"data": functools.partial(np.random.Generator.normal, np.random.default_rng(1))},
            "data",
        ),
    ],
    ids=["closure", "code", "constant", "partial"],
)
def test_code_and_closures_are_part_of_a_run(first, second, part):
    one, other = (_checkpoint.identity(run[part], part) for run in (first, second))
    assert one != other
    assert one == _checkpoint.identity(first[part], part)


def test_globals_and_attributes_of_classes_are_part_of_a_run(monkeypatch):
    before = [_checkpoint.identity(thing, "it") for thing in (by_a_global, Scaled())]
    monkeypatch.setattr(sys.modules[__name__], "SHIFT", 2.0)
    monkeypatch.setattr(Scaled, "factor", 2.0)
    after = [_checkpoint.identity(thing, "it") for thing in (by_a_global, Scaled())]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_middle_of_a_long_array_is_part_of_a_run():
    law = np.zeros(100_000)
    other = law.copy()
    other[50_000] = 1
    mine, yours = (
        _checkpoint.identity(lambda n, rng, p=p: rng.choice(p, n), "data") for p in (law, other)
    )
    assert mine != yours


@pytest.mark.parametrize(
    ("place", "version"), [("user/site-packages", "1.5"), ("target", "1.5"), ("project", None)]
)
def test_a_package_counts_as_its_version_wherever_it_was_put(place, version, tmp_path, monkeypatch):
    """In a user's own folder, or in any on the path; what no installer put there is read whole."""
    folder, name = tmp_path / place, f"package_in_{place[:4]}"
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    if version:
        records = folder / f"{name}-1.5.dist-info"
        records.mkdir()
        (records / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        if place == "target":
            (records / "RECORD").write_text(f"{name}/__init__.py,,\n")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module(name)
    assert _checkpoint._version(name) == version


def test_the_message_says_what_is_not_the_same(tmp_path):
    path = tmp_path / "c"
    run(data=shifted(0.0), checkpoint=path)
    with pytest.raises(ValueError, match=r"another run \(not the same: data;"):
        run(data=shifted(100.0), checkpoint=path)


def test_things_of_installed_packages_are_the_same_in_another_process():
    things = "[norm(3, 1), gaussian_kde([1.0, 2, 4]), np.exp, KernelDensity(), len, 'x'.upper]"
    code = (
        "import numpy as np; from scipy.stats import norm, gaussian_kde\n"
        "from sklearn.neighbors import KernelDensity; from collapse_utils import _checkpoint\n"
        f"print(_checkpoint.identity({things}, 'data'))"
    )
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(shown) == 1


def test_what_cannot_be_identified_is_refused_before_the_run(tmp_path):
    lock = threading.Lock()

    def data(n, rng):
        with lock:
            return rng.normal(size=n)

    with pytest.raises(ValueError, match="checkpoint cannot tell whether lock, which data uses"):
        run(data=data, checkpoint=tmp_path / "c")


# ------------------------------------------------------------------ nothing is shared


class InPlace(Gaussian):
    """Standardises the rows it is given, where they are."""

    def fit(self, X):
        self.mean, self.sd = X.mean(), X.std()
        X -= self.mean
        X /= self.sd
        self.rows = X
        return self

    def sample(self, n, rng):
        return rng.normal(self.mean, self.sd, n)


class Plain(InPlace):
    def fit(self, X):
        self.mean, self.sd = X.mean(), X.std()
        return self


@pytest.mark.parametrize("workflow", [Accumulate(), Mix(0.5, 0.25, 0.25), Replace()])
def test_a_model_may_change_the_rows_it_is_given(workflow):
    rows = np.random.default_rng(5).normal(3, 2, 60)
    kept = rows.copy()
    both = {"a": workflow, "b": workflow}
    history, clean = (
        run(model, rows, workflow=both, n_samples=30, n_generations=4, metrics=METRICS)
        for model in (InPlace(), Plain())
    )
    assert_same(history, clean)
    np.testing.assert_array_equal(rows, kept)


def test_a_buffer_that_a_model_writes_again_is_copied():
    class Buffered(Plain):
        def sample(self, n, rng):
            if not hasattr(self, "out") or len(self.out) != n:
                self.out = np.empty(n)
            self.out[:] = super().sample(n, rng)
            return self.out

    plan = {"workflow": Accumulate(), "n_samples": 20, "n_generations": 4, "metrics": METRICS}
    assert_same(run(Buffered(), **plan), run(Plain(), **plan))


def test_a_metric_cannot_change_the_run():
    def shuffles(s):
        for rows in (s.training, s.sample, s.origin):
            rows[:] = 7
        return 0.0

    plan = {"workflow": Accumulate(), "n_generations": 4}
    spoilt = run(metrics={"m": shuffles, **METRICS}, **plan)
    for name in ("spread", "mean"):
        clean = run(metrics=METRICS, **plan).array(name)
        np.testing.assert_array_equal(spoilt.array(name), clean)


@pytest.mark.parametrize("shared", [2, 1], ids=["lineages", "all"])
def test_one_object_for_every_lineage_is_refused(shared):
    pool = [Gaussian() for _ in range(shared)]
    calls = iter(range(1000))
    with pytest.raises(ValueError, match="a new object at each call"):
        run(lambda: pool[next(calls) % shared], n_replicates=3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), "data must not be masked, got 1"),
        (np.array([1, None, 3], dtype=object), "data must have no missing values, got 1"),
        (np.array(["2020-01-01", "NaT"], dtype="M8[D]"), "data must be finite, got NaT"),
        ([[1, 2], [3]], "data must have rows of one length, got a ragged list"),
        (scipy.sparse.eye_array(3), "data must be dense, got"),
    ],
)
def test_rows_that_are_not_whole_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        run(data=rows, n_samples=None)


class Tensors(Plain):
    """A model of torch that forgets to detach."""

    def __init__(self, kind):
        self.kind = kind

    def sample(self, n, rng):
        noise = torch.tensor(rng.normal(size=n), dtype=self.kind)
        return torch.nn.Parameter(noise * self.sd + self.mean)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_tensors_come_in_whatever_they_require(kind):
    history = run(Tensors(kind), torch.linspace(0, 1, 50, requires_grad=True))
    assert (history.array("spread")[1:] > 0).all()


@pytest.mark.parametrize(
    "steps",
    [
        (StandardScaler(), PCA(1), GaussianMixture(1)),
        (StandardScaler(), KernelDensity(bandwidth=0.3)),
        ("passthrough", GaussianMixture(2)),
    ],
    ids=["reduced", "kernel", "plain"],
)
def test_pipelines_sample_in_the_space_of_the_data(steps):
    rows = 100 + rows_2d(200) * [1, 10]
    one, other = (
        run(make_pipeline(*steps), rows, n_samples=100, n_generations=2, keep_samples=100)
        for _ in range(2)
    )
    assert_same(one, other)  # every step is seeded
    for kept in one.samples.values():
        np.testing.assert_allclose(kept[-1].mean(0), 100, atol=5)
        assert kept[-1].std(0)[1] > 5 or len(steps) == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (KernelDensity(kernel="linear"), r"cannot sample as it is set up: .*\(kernel='linear'\)"),
        (
            make_pipeline(StandardScaler(), PCA(1)),
            r"must have fit\(X\) and sample\(n\), .*Pipeline",
        ),
        (
            make_pipeline(Normalizer(), KernelDensity()),
            r"steps with inverse_transform before its last one, got Normalizer\(\)",
        ),
    ],
)
def test_models_of_scikit_learn_that_cannot_sample_are_told(model, message):
    with pytest.raises(ValueError, match=message) as stopped:
        run(model, rows_2d())
    assert "\n" not in str(stopped.value).replace("\nin generation", "")


def test_a_model_that_cannot_be_copied_gets_a_hint():
    class Locked(Plain):
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(ValueError, match=r"cannot be copied \(TypeError: .*give a function"):
        run(Locked())
    run(Locked)


@pytest.mark.parametrize(
    ("place", "message"), [("", "Is a directory"), ("file/c", "File exists"), ("shut/c", "denied")]
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_run(
    tmp_path, monkeypatch, place, message
):
    monkeypatch.setenv("FITS", "0")
    (tmp_path / "file").touch()
    (tmp_path / "shut").mkdir(mode=0o500)
    if message == "denied" and os.access(tmp_path / "shut", os.W_OK):
        pytest.skip("whoever runs this may write everywhere")
    with pytest.raises(ValueError, match=rf"checkpoint must name a file that .*\({message}"):
        run(Counting, checkpoint=tmp_path / place)
    assert os.environ["FITS"] == "0"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.nan, "must be finite"),
        (np.inf, "must be finite"),
        (np.ma.masked, "must not be masked"),
    ],
)
def test_rows_that_a_model_did_not_finish_are_refused_with_their_place(bad, message):
    class Sick(Plain):
        def sample(self, n, rng):
            rows = np.ma.masked_array(super().sample(n, rng))
            rows[0] = bad
            return rows if bad is np.ma.masked else rows.data

    with pytest.raises(ValueError, match=message) as stopped:
        run(Sick())
    assert "in generation 1, replicate 0, workflow 'Replace'" in stopped.value.__notes__
