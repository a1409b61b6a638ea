"""The report on a reader's model: its measures, its false alarms, its verdicts, three models."""

from __future__ import annotations

import html
import math
import re
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from rounding import CALL as FUNCTION
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import Accumulate, FreshData, History, Replace, recurse
from collapse_utils.command import CommandModel
from collapse_utils.publishing import plus_minus
from collapse_utils.report import MEASURES, diagnose
from collapse_utils.yardstick import Yardstick


def rows(n: int, d: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1)


def yardstick(real: np.ndarray, **options) -> Yardstick:
    return Yardstick(real, np.random.default_rng(1), **options)


# ---------------------------------------------------------------- measures


def summed(real: np.ndarray) -> float:
    """Rounding of two means over the rows, of numbers whose mean size is below one."""
    return bound(2 * len(real))


def test_real_rows_measure_as_real():
    real = rows(500)
    found = yardstick(real)(real)
    assert found["coverage"] == 1 and found["rows"] == 500
    assert set(found) == {*MEASURES, "rows"}
    measures = [found[name] for name in ("distance", "centre", "spread", "tails")]
    assert_within(measures, [0, 0, 1, 1], summed(real))


def test_each_measure_sees_its_own_change():
    real = rows(800)
    measure = yardstick(real)
    sd = real.std(0)
    shifted = measure(real + 0.5 * sd)
    shifted = [shifted[name] for name in ("centre", "spread", "tails")]
    assert_within(shifted, [0.5, 1, 1], summed(real))
    shrunk = measure(real.mean(0) + (real - real.mean(0)) / 3)
    shrunk = [shrunk[name] for name in ("centre", "spread", "tails")]
    assert_within(shrunk, [0, 1 / 3, 1], summed(real))
    z = (real - real.mean(0)) / sd
    clipped = measure(real[np.linalg.norm(z, axis=1) < 1.5])
    assert clipped["tails"] < 0.8
    assert measure(np.sign(z) * z**2)["tails"] > 1.2
    assert measure(real + 100)["coverage"] == 0
    half = measure(real[real[:, 0] < real[:, 0].mean()])
    assert 0.4 < half["coverage"] < 0.65


def test_distance_on_the_line_is_wasserstein_in_standard_deviations():
    rng = np.random.default_rng(2)
    real, fake = rng.gumbel(size=300), rng.normal(size=211)
    expected = stats.wasserstein_distance(real, fake) / real.std()
    # Shares that are sums of up to 511 steps, over the whole range.
    error = bound(2 * 511, np.ptp([*real, *fake]) / real.std())
    assert_within(yardstick(real)(fake)["distance"], expected, error)


def test_features_turn_anything_into_numbers():
    words = np.array(["a", "bb", "ccc", "dddd"] * 10)
    measure = yardstick(words, features=lambda texts: np.char.str_len(texts))
    assert_within(measure(words)["distance"], 0, summed(words))
    assert measure(np.array(["dddd"] * 10))["spread"] == 0
    boxes = np.array([{"a": one} for one in range(40)])
    with pytest.raises(ValueError, match=r"must be numbers, got object: give features\(rows\)"):
        yardstick(boxes)
    with pytest.raises(ValueError, match="features must be callable, got 5"):
        yardstick(words, features=5)
    with pytest.raises(ValueError, match=r"features must return a row for each of .*, got 3"):
        yardstick(words, features=lambda texts: np.ones((3, 1)))
    assert set(yardstick(boxes, features=lambda rows: [[row["a"]] for row in rows])(boxes))


@pytest.mark.parametrize(
    ("real", "message"),
    [
        (rows(19), "real must hold at least 20 rows, got 19"),
        (np.ones((30, 2)), "real must hold rows that differ"),
        (np.full((30, 2), np.nan), "real must be finite, got NaN or infinity"),
        (np.ones((30, 0)), "real rows must be two or more and finite"),
    ],
)
def test_bad_real_rows_are_refused(real, message):
    with pytest.raises(ValueError, match=message):
        yardstick(real)


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (np.full((30, 2), np.inf), "generated must be finite, got NaN or infinity"),
        (rows(30, 3), "rows must have 2 numbers, got 3"),
        (rows(1), "generated rows must be two or more"),
    ],
)
def test_bad_generated_rows_are_refused(fake, message):
    with pytest.raises(ValueError, match=message):
        yardstick(rows(50))(fake)


# ---------------------------------------------------------------- diagnoses


def history(**workflows: dict[str, np.ndarray]) -> History:
    """A history with given curves of shape (G + 1, R); the other measures stand still."""
    frames = []
    for workflow, curves in workflows.items():
        shape = next(iter(curves.values())).shape
        still = np.broadcast_to(np.linspace(1, 2, shape[1]), shape)
        for measure in dict.fromkeys((*MEASURES, "rows", *curves)):
            curve = curves.get(measure, still if measure != "rows" else np.full(shape, 100.0))
            generation, replicate = np.indices(shape).reshape(2, -1)
            frames.append(
                pd.DataFrame(
                    {
                        "workflow": workflow,
                        "generation": generation,
                        "replicate": replicate,
                        "metric": measure,
                        "value": curve.ravel(),
                    }
                )
            )
    return History(pd.concat(frames, ignore_index=True))


def noisy(slope: float, generations: int = 6, replicates: int = 12, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(generations + 1)[:, None]
    return 5 + slope * time + 0.1 * rng.normal(size=(generations + 1, replicates))


def test_change_and_pace_are_those_of_the_curves():
    rates = np.linspace(-0.2, -0.1, 10)
    spread = np.exp(rates * np.arange(8)[:, None])
    report = diagnose(history(replace={"spread": spread, "distance": noisy(1, 7, 10)}))
    speed = report.speed.iloc[0]
    # The slope of logarithms up to 1.4 of exponentials, averaged over ten.
    error = bound(4 * FUNCTION + 2 * 10, 1.4)
    assert_within(speed["rate"], -0.15, error)
    assert_within(speed["se"], rates.std(ddof=1) / math.sqrt(10), error)
    assert_within(speed["half_life"], math.log(2) / 0.15, math.log(2) / 0.15**2 * 2 * error)
    row = report.changes[report.changes["measure"] == "spread"].iloc[0]
    differences = spread[7] - spread[1]
    error = bound(2 * 10 + 4)  # means of ten numbers below one
    assert_within(row["change"], differences.mean(), error)
    assert_within(row["se"], differences.std(ddof=1) / math.sqrt(10), error)
    assert_within(row["first_model"], (spread[1] - spread[0]).mean(), error)
    assert report.collapses()
    assert report.kinds() == ["loss of variance"]
    assert "Kind: loss of variance." in str(report)
    assert "the spread halves in 4.62 generations" in str(report)


def test_since_is_when_the_change_stays_seen():
    curve = np.array([0.0, 0, 5, 0, 5, 5, 5])[:, None] + noisy(0)
    report = diagnose(history(replace={"distance": curve}))
    assert report.changes["since"].iloc[0] == 4


def test_a_metric_of_ones_own_is_judged_beside_the_yardstick():
    curve = np.arange(7.0)[:, None] + noisy(0)
    curve[0] = np.nan  # there is no model yet
    part = np.where(np.arange(7)[:, None] == 6, np.nan, curve)
    own = {"mine": curve, "sometimes": part}
    report = diagnose(history(replace={"distance": noisy(0)} | own))
    assert list(report.changes["measure"]) == [*MEASURES, "mine"]
    row = report.changes.iloc[-1]
    assert row["verdict"] == "rises" and math.isnan(row["first_model"])
    assert "mine" in report._table()


def test_vanished_spread_has_a_pace_until_it_vanishes():
    spread = np.exp(-np.arange(8.0)[:, None] * np.linspace(0.4, 0.6, 5))
    spread[5:] = 0
    speed = diagnose(history(replace={"spread": spread})).speed.iloc[0]
    assert_within(speed["rate"], -0.5, bound(4 * FUNCTION + 2 * 5, 2.4))  # logarithms up to 2.4


def test_each_remedy_has_its_verdict():
    report = diagnose(
        history(
            replace={"distance": noisy(1)},
            stop={"distance": noisy(0, seed=4)},
            slow={"distance": noisy(0.5, seed=5)},
            same={"distance": noisy(1, seed=6)},
            worse={"distance": noisy(2, seed=7)},
        )
    )
    verdicts = report.remedies.set_index("workflow")["verdict"].to_dict()
    assert verdicts == {
        "stop": "stops it",
        "slow": "slows it",
        "same": "not told apart",
        "worse": "makes it worse",
    }
    left = report.remedies.set_index("workflow")["left"]
    assert left["slow"] == pytest.approx(0.5, abs=0.05)
    still = diagnose(history(replace={"distance": noisy(0)}, other={"distance": noisy(0, seed=8)}))
    assert list(still.remedies["verdict"]) == ["nothing to stop"]
    assert not still.collapses()
    assert "No collapse is seen under replace" in str(still)
    assert "other was not judged: no growth is seen under replace" in str(still)


def test_ratio_error_is_that_of_repetitions():
    """The jackknife error of the share left, against the scatter of repeated runs."""
    errors, shares = [], []
    for seed in range(60):
        rng = np.random.default_rng([9, seed])
        base = 1 + rng.normal(size=(4, 30)) * 0.2 + np.arange(4)[:, None]
        other = base.copy()
        other[1:] = base[1] + 0.4 * (base[1:] - base[1]) + 0.2 * rng.normal(size=(3, 30))
        found = diagnose(history(replace={"distance": base}, other={"distance": other}))
        errors.append(found.remedies["left_se"].iloc[0])
        shares.append(found.remedies["left"].iloc[0])
    ratio = np.mean(np.square(errors)) / np.var(shares, ddof=1)
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], 59) / 59  # false alarm 1e-4 for an exact error
    assert 1 / high < ratio < 1 / low


def test_false_alarms_stay_below_the_level():
    """Generations that do not differ, with skewed measures: at most 5 % of reports say a change."""
    alarms, n = 0, 150
    for seed in range(n):
        rng = np.random.default_rng([11, seed])
        curves = {m: rng.gamma(4, size=(5, 12)) for m in MEASURES}
        alarms += (diagnose(history(replace=curves)).changes["verdict"] != "no change seen").any()
    assert alarms <= stats.binom.ppf(1 - 1e-4, n, 0.05)


COMMANDS = ["train", "{data}", "{model}"], ["write", "{model}", "{n}", "{rows}"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: diagnose(history(replace={"distance": noisy(1, 1)})), "at least 2 generations"),
        (lambda: diagnose(history(replace={"distance": noisy(1, 6, 2)})), "and 3 replicates"),
        (lambda: diagnose(history(a={"distance": noisy(1)}), baseline="b"), "baseline must be one"),
        (lambda: diagnose(history(a={"distance": noisy(1)}), level=1.0), "level must be"),
        (lambda: diagnose({}), "history must be a History of recurse, or a dict .*, got {}"),
        (lambda: diagnose(5), "history must be a History .*, got 5"),
        (lambda: diagnose({"a": 5}), "history must be a History .*, got {'a': 5}"),
        (lambda: diagnose(history(a={"distance": noisy(1)})).kinds("b"), "workflow must be one"),
        (lambda: CommandModel([1], [2]), r"fit must be a list of texts, got \(1,\)"),
        (lambda: CommandModel(*COMMANDS, timeout=0), r"timeout must be .* in \(0, inf\], got 0"),
        (
            lambda: diagnose(
                {"x": history(a={"distance": noisy(1)}), "y": history(a={"distance": noisy(1, 7)})}
            ),
            "must have one shape",
        ),
        (
            lambda: diagnose(
                {"": history(a={"distance": noisy(1)}), "a": history(b={"distance": noisy(1)})}
            ),
            "must name each workflow once, got 'a' twice",
        ),
    ],
)
def test_bad_histories_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_history_without_a_yardstick_is_refused():
    one = history(replace={"distance": noisy(1)})
    one.frame = one.frame[one.frame["metric"] != "tails"]
    with pytest.raises(ValueError, match="history lacks 'tails': give recurse metrics="):
        diagnose(one)


def test_histories_of_one_workflow_go_by_their_name():
    report = diagnose(
        {
            "": history(replace={"distance": noisy(1)}, keep={"distance": noisy(0)}),
            "more": history(replace={"distance": noisy(1)}),
            "two": history(replace={"distance": noisy(1)}, keep={"distance": noisy(0)}),
        }
    )
    assert list(report.speed["workflow"]) == [
        "replace",
        "keep",
        "more",
        "two: replace",
        "two: keep",
    ]


# ---------------------------------------------------------------- models

PROGRAM = """
import random, statistics, sys
task, model, data, number = sys.argv[1:]
if task == "fit":
    values = [float(line) for line in open(data)]
    open(model, "w").write(f"{statistics.fmean(values)} {statistics.pstdev(values)}")
else:
    mean, sd = map(float, open(model).read().split())
    seed, n = number.split("/")
    random.seed(int(seed))
    open(data, "w").writelines(f"{random.gauss(mean, sd)}\\n" for _ in range(int(n)))
"""
CALL = (sys.executable, "-S", "-c", PROGRAM)


def command() -> CommandModel:
    return CommandModel(
        fit=(*CALL, "fit", "{model}", "{data}", "0"),
        sample=(*CALL, "sample", "{model}", "{rows}", "{seed}/{n}"),
    )


def loop(model, data: np.ndarray, n_samples: int = 20, **options) -> History:
    rng = np.random.default_rng(5)
    half = len(data) // 2
    return recurse(
        model,
        data[:half],
        n_generations=options.pop("n_generations", 8),
        n_samples=n_samples,
        n_replicates=options.pop("n_replicates", 12),
        metrics={"yardstick": Yardstick(data[half:], rng)},
        rng=rng,
        **options,
    )


def test_a_gaussian_mixture_loses_variance_and_fresh_data_stop_it():
    from sklearn.mixture import GaussianMixture

    def data(n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(n, 1))

    rng = np.random.default_rng(6)
    metrics = {"yardstick": Yardstick(data(1000, rng), rng)}
    flows = {"replace": Replace(), "fresh": FreshData(1.0)}
    found = recurse(
        GaussianMixture(1), data, workflow=flows, n_generations=10, n_samples=10, n_replicates=30,
        metrics=metrics, rng=rng,
    )  # fmt: skip
    report = diagnose(found)
    assert report.collapses()
    assert "loss of variance" in report.kinds()
    assert report.kinds("fresh") == []
    assert list(report.remedies["verdict"]) == ["stops it"]
    # E log sd falls by (digamma((M-1)/2) - log(M/2)) / 2 a generation for a refitted Gaussian
    from scipy.special import digamma

    speed = report.speed.iloc[0]
    law = (digamma(4.5) - math.log(5)) / 2
    assert abs(speed["rate"] - law) < stats.t.isf(5e-5, 29) * speed["se"]


def test_a_kernel_estimate_grows():
    from sklearn.neighbors import KernelDensity

    found = loop(KernelDensity(bandwidth=0.6), rows(2000, 1), n_samples=200)
    report = diagnose(found)
    assert report.collapses()
    assert "growth" in report.kinds()
    assert "doubles" in str(report)


def test_a_program_goes_through_the_loop_and_can_be_repeated():
    flows = {"replace": Replace(), "accumulate": Accumulate()}
    options = {"workflow": flows, "n_generations": 3, "n_replicates": 4}
    one = loop(command(), rows(400, 1), **options)
    two = loop(command(), rows(400, 1), **options)
    pd.testing.assert_frame_equal(one.frame, two.frame)
    report = diagnose(one)
    assert set(report.remedies["verdict"]) <= {"nothing to stop", "not told apart"}


def test_program_sees_the_rows_to_the_last_digit_and_any_shape():
    copy = "import sys, shutil; shutil.copy(*sys.argv[1:3])"
    model = CommandModel(
        fit=(sys.executable, "-S", "-c", copy, "{data}", "{model}"),
        sample=(sys.executable, "-S", "-c", copy, "{model}", "{rows}", "{n}"),
    )
    rng = np.random.default_rng(0)
    for shape in ((5,), (5, 1), (5, 3)):
        X = rng.normal(size=shape)
        np.testing.assert_array_equal(model.fit(X, rng).sample(5, rng), X)
    with pytest.raises(RuntimeError, match=r"must return .* \(4, 3\), got \(5, 3\)"):
        model.sample(4, rng)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('no disk')", "ended with code 1: no disk"),
        ("pass", "wrote no model"),
        ("import time; time.sleep(9)", "took longer than 0.5 s"),
    ],
)
def test_program_that_fails_says_why(program, message):
    call = (sys.executable, "-S", "-c", program, "{data}", "{model}")
    model = CommandModel(fit=call, sample=(*call, "{n}", "{rows}"), timeout=0.5)
    with pytest.raises(RuntimeError, match=message):
        model.fit(np.ones(3), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("program", "message"),
    [("pass", "wrote no rows"), ("open(sys.argv[-1], 'w').write('a,b')", "not convert string 'a'")],
)
def test_rows_that_are_none_are_refused(program, message):
    write = "import sys; open(sys.argv[1], 'w').close()"
    model = CommandModel(
        fit=(sys.executable, "-S", "-c", write, "{model}", "{data}"),
        sample=(sys.executable, "-S", "-c", f"import sys; {program}", "{model}{n}", "{rows}"),
    )
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="fit must come before sample"):
        model.sample(3, rng)
    model.fit(np.ones(3), rng)
    with pytest.raises(RuntimeError, match=message):
        model.sample(3, rng)


def test_command_without_its_placeholders_is_refused():
    with pytest.raises(ValueError, match=r"fit must be a list of words that name \{data\}"):
        CommandModel(fit=["train"], sample=["write", "{model}", "{n}", "{rows}"])
    with pytest.raises(ValueError, match="sample must be a list of texts, got 'write"):
        CommandModel(fit=["train", "{data}", "{model}"], sample="write {model} {n} {rows}")
    model = CommandModel(fit=["no-such-program", "{data}{model}"], sample=["{model}{n}{rows}"])
    with pytest.raises(RuntimeError, match="there is no program 'no-such-program'"):
        model.fit(np.ones(3), np.random.default_rng(0))


def test_table_and_figure(capsys):
    import matplotlib.pyplot as plt

    one = history(replace={"distance": noisy(1)}, keep={"distance": noisy(0)})
    report = diagnose(one)
    figure = report.figure()
    assert [ax.get_title() for ax in figure.axes[:5]] == list(MEASURES.values())
    assert len(figure.axes[0].lines) == 2
    plt.close(figure)
    report.show()
    assert "Under replace the model collapses" in capsys.readouterr().out


# ---------------------------------------------------------------- ties, constants, copies


def test_one_hot_rows_cover_themselves():
    real = np.eye(3)[np.random.default_rng(0).integers(0, 3, 300)]
    found = yardstick(real)(real)
    assert found["coverage"] == 1
    assert_within(found["distance"], 0, bound(2 * 300, 4))
    without = yardstick(real)(real[real[:, 0] == 0])
    assert without["coverage"] == pytest.approx(1 - real[:, 0].mean(), abs=0.06)


@pytest.mark.parametrize("level", [14.62, 100.0, 0.1, 0.0, -1e9])
def test_a_constant_column_is_no_yardstick(level):
    """The same rows with and without it; another value there counts in its own units."""
    real = rows(300, 1)
    both = np.column_stack([real, np.full(300, level)])
    fake = rows(300, 1, seed=3) * 0.5
    alone, beside = yardstick(real)(fake), yardstick(both)(np.column_stack([fake, both[:, 1]]))
    for name in ("spread", "tails", "coverage"):
        assert_within(beside[name], alone[name], bound(600, 4))
    assert beside["distance"] <= alone["distance"]
    noisy = np.column_stack([fake, np.nextafter(both[:, 1], np.inf)])
    assert abs(yardstick(both)(noisy)["distance"] - beside["distance"]) <= np.spacing(abs(level))


def test_rows_that_differ_by_rounding_only_are_one_row():
    real = np.full((40, 2), 14.62)
    real[::2] = np.nextafter(real[::2], 20)
    with pytest.raises(ValueError, match="got one row many times"):
        yardstick(real)


class Deaf:
    """A Gaussian that takes its random numbers from a generator of its own."""

    def __init__(self, seed=0):
        self.own = np.random.default_rng(seed)

    def fit(self, X):
        self.mean, self.sd = X.mean(), X.std(ddof=1)

    def sample(self, n):
        return self.own.normal(self.mean, self.sd, n)


class Global(Deaf):
    def sample(self, n):
        return np.random.RandomState(5).normal(self.mean, self.sd, n)


@pytest.mark.parametrize(
    "model", [Deaf(), lambda: Deaf(3), Global()], ids=["own", "made", "global"]
)
@pytest.mark.parametrize("source", ["array", "law"])
def test_replicates_that_are_copies_are_refused(model, source):
    real = np.random.default_rng(0).normal(size=200)
    data = real if source == "array" else lambda n, rng: rng.normal(size=n)
    history = recurse(
        model, data, n_samples=100, n_generations=4, n_replicates=5,
        metrics={"y": yardstick(real)}, rng=np.random.default_rng(1),
    )  # fmt: skip
    with pytest.raises(ValueError, match="must hold independent replicates, but the model"):
        diagnose(history)


class Wide(Deaf):
    """In several dimensions the spreads of copies differ, as their shapes do."""

    def fit(self, X):
        self.mean, self.root = X.mean(0), np.linalg.cholesky(np.cov(X.T))

    def sample(self, n):
        return self.mean + self.own.normal(size=(n, len(self.mean))) @ self.root.T


class Torch(Wide):
    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def sample(self, n):
        noise = torch.randn(n, len(self.mean), generator=self.generator, dtype=torch.float64)
        return self.mean + noise.numpy() @ self.root.T


class Seeded(Wide):
    """Sampling seeds a global generator, or makes one."""

    def __init__(self, normal):
        self.normal = normal

    def sample(self, n):
        return self.mean + self.normal((n, len(self.mean))) @ self.root.T


def numpy_seed(size):
    np.random.seed(42)  # noqa: NPY002
    return np.random.normal(size=size)  # noqa: NPY002


def torch_seed(size):
    torch.manual_seed(42)
    return torch.randn(size, dtype=torch.float64).numpy()


def new_generator(size):
    return np.random.default_rng(42).normal(size=size)


class SeededOnce(Wide):
    """Sampling starts from one seed after each fit, as SDV's synthesizers do."""

    def fit(self, X):
        super().fit(X)
        self.own = np.random.default_rng(73251)


COPIES = {
    "kept": Wide(), "kept by torch": Torch(), "numpy's seed": Seeded(numpy_seed),
    "torch's seed": Seeded(torch_seed), "new each time": Seeded(new_generator),
    "after each fit": SeededOnce(),
}  # fmt: skip


def three(model, n=50):
    return recurse(
        model, rows(300, 3), n_samples=n, n_generations=3, n_replicates=4,
        metrics={"y": yardstick(rows(300, 3, seed=1))}, rng=np.random.default_rng(1),
    )  # fmt: skip


@pytest.mark.parametrize("model", COPIES.values(), ids=COPIES)
def test_a_generator_that_every_replicate_copies_is_found_in_any_dimension(model):
    history = three(model)
    for _ in range(2):  # to ask changes nothing
        with pytest.raises(ValueError, match="draws the same random numbers in each"):
            diagnose(history)


def test_a_table_whose_rows_are_copies_is_found():
    real = pd.DataFrame(rows(300, 2)).rename(columns=str).assign(kind=["a", "b", "c"] * 100)

    class Repeated:
        def fit(self, X):
            self.rows = X

        def sample(self, n):
            rng = np.random.default_rng(3)
            noise = rng.normal(size=(n, 2)) * self.rows[["0", "1"]].std().to_numpy()
            return pd.DataFrame(noise, columns=["0", "1"]).assign(kind=rng.choice([*"abc"], n))

    history = recurse(
        Repeated(), real, n_samples=50, n_generations=2, n_replicates=3,
        metrics={"y": yardstick(real)}, rng=np.random.default_rng(1),
    )  # fmt: skip
    with pytest.raises(ValueError, match="draws the same random numbers in each"):
        diagnose(history)


class Ordered(Wide):
    """Rows in a fixed order, such as class by class or by size, with noise of their own."""

    def __init__(self, arrange):
        self.arrange = arrange

    def sample(self, n, rng):
        return self.arrange(self.mean + rng.normal(size=(n, len(self.mean))) @ self.root.T)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda rows: rows + 10 * (np.arange(len(rows)) % 5)[:, None],
        lambda rows: rows + 10 * (np.arange(len(rows)) > len(rows) / 2)[:, None],
        lambda rows: np.sort(rows, axis=0),
    ],
    ids=["in turn", "one after the other", "sorted"],
)
def test_rows_in_a_fixed_order_are_no_copies(arrange):
    diagnose(three(Ordered(arrange)))


def test_a_look_for_copies_asks_for_no_more_rows_than_the_loop():
    class Drawn:
        def fit(self, X):
            self.rows = X

        def sample(self, n, rng):
            return rng.choice(self.rows, n, replace=False)

    diagnose(three(Drawn()))


def test_rows_that_are_lists_are_looked_at_for_copies():
    real = np.empty(200, dtype=object)
    real[:] = [[i % 7] * (1 + i % 5) for i in range(200)]

    class Lists:
        def fit(self, X):
            self.rows = X

        def sample(self, n, rng):
            return self.rows[rng.integers(len(self.rows), size=n)]

    def features(rows):
        return np.array([[len(one), one[0]] for one in rows])

    history = recurse(
        Lists(), real, n_generations=2, n_replicates=3, rng=np.random.default_rng(1),
        metrics={"y": Yardstick(real, np.random.default_rng(0), features=features)},
    )  # fmt: skip
    assert diagnose(history).generations == 2


def test_a_model_that_never_changes_is_reported_without_warnings():
    class Same(Deaf):
        def fit(self, X):
            self.rows = X

        def sample(self, n):
            return self.rows[:n]

    seeds = iter(range(1000))
    flows = {"replace": Replace(), "accumulate": Accumulate(), "same": Replace()}
    history = recurse(
        lambda: Same(next(seeds)), rows(200), n_samples=50, n_generations=3, n_replicates=4,
        workflow=flows, metrics={"y": yardstick(rows(200, seed=1))}, rng=np.random.default_rng(1),
    )  # fmt: skip
    report = diagnose(history)
    assert not report.collapses() and report.remedies["left"].isna().all()


def test_replicates_with_one_generator_each_are_not_refused():
    seeds = iter(range(100))
    real = np.random.default_rng(0).normal(size=200)
    history = recurse(
        lambda: Deaf(next(seeds)), real, n_samples=100, n_generations=4, n_replicates=5,
        metrics={"y": yardstick(real)}, rng=np.random.default_rng(1),
    )  # fmt: skip
    diagnose(history)


def test_a_collapse_to_one_point_is_no_copy():
    class Point(Deaf):
        def sample(self, n):
            return np.full(n, self.mean)

    real = np.random.default_rng(0).normal(size=200)
    history = recurse(
        Point(), lambda n, rng: rng.normal(size=n), n_samples=100, n_generations=4,
        n_replicates=5, metrics={"y": yardstick(real)}, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert "loss of variance" not in diagnose(history).kinds()  # gone in generation 1


def test_digits_end_where_rounding_begins():
    assert plus_minus(0.123456789012345678, 8e-17) == "0.123456789012 ± 8e-17"
    assert plus_minus(1.5, 0.013) == "1.500 ± 0.013"


# ---------------------------------------------------------------- programs that misbehave


def program(tmp_path, body):
    path = tmp_path / "program.py"
    path.write_text(body)
    return CommandModel(
        fit=[sys.executable, str(path), "fit", "{data}", "{model}"],
        sample=[sys.executable, str(path), "sample", "{model}", "{n}", "{rows}"],
        timeout=5,
    )


def test_a_time_limit_ends_what_the_program_started(tmp_path):
    """The child of the program writes a file after the limit, if it is still there."""
    late = tmp_path / "late"
    child = f"import time; time.sleep(3); open({str(late)!r}, 'w')"
    model = program(
        tmp_path,
        f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        "time.sleep(60)\n",
    )
    model.timeout = 1.0
    with pytest.raises(RuntimeError, match="took longer than 1 s"):
        model.fit(np.zeros(3), np.random.default_rng(0))
    time.sleep(4)
    assert not late.exists()


def test_a_program_may_print_any_bytes(tmp_path):
    body = (
        "import sys\nsys.stdout.buffer.write(b'caf\\xe9')\nsys.stderr.buffer.write(b'caf\\xe9')\n"
        "open(sys.argv[-1], 'w').write('1\\n2\\n')\n"
    )
    model = program(tmp_path, body).fit(np.zeros(3), np.random.default_rng(0))
    assert list(model.sample(2, np.random.default_rng(0))) == [1, 2]


@pytest.mark.parametrize("rows", ["1\nnan\n", "inf\n2\n"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, rows):
    model = program(tmp_path, f"import sys\nopen(sys.argv[-1], 'w').write({rows!r})\n")
    model.fit(np.zeros(3), np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="must be finite, got NaN or infinity"):
        model.sample(2, np.random.default_rng(0))


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    (tmp_path / "train").write_text("no program")
    words = [str(tmp_path / "train"), "{data}", "{model}"]
    model = CommandModel(fit=words, sample=["x", "{model}", "{n}", "{rows}"])
    with pytest.raises(RuntimeError, match=r"train' cannot be run: Permission denied"):
        model.fit(np.zeros(3), np.random.default_rng(0))


# ---------------------------------------------------------------- the report as a file


def test_a_saved_report_stands_alone(tmp_path):
    real = np.random.default_rng(0).normal(size=300)
    history = recurse(
        Deaf, lambda n, rng: rng.normal(size=n), n_samples=[40, 30, 40], n_generations=3,
        n_replicates=4, metrics={"y": yardstick(real)}, rng=np.random.default_rng(12),
    )  # fmt: skip
    histories = {"<small>": history, "other": history}
    with pytest.raises(ValueError, match="the same random numbers"):
        diagnose(histories)
    seeds = iter(range(100))
    history = recurse(
        lambda: Deaf(next(seeds)), lambda n, rng: rng.normal(size=n), n_samples=[40, 30, 40],
        n_generations=3, n_replicates=4, metrics={"y": yardstick(real)},
        rng=np.random.default_rng(12),
    )  # fmt: skip
    report = diagnose({"<small>": history, "other": history})
    report.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for sentence in report.sentences():
        assert html.escape(sentence) in page
    assert page.count("<svg") == 1 and "<dd>12</dd>" in page and "<dd>40, 30</dd>" in page
    assert "<small>" not in page and "&lt;small&gt;" in page
    assert f"<dd>{np.__version__}</dd>" in page
    links = re.findall(r"""(?:href|src)\s*=\s*["'](?!#)|url\((?!#)|@import|<script""", page)
    assert not links  # nothing is fetched
    with pytest.raises(ValueError, match=r"path must name a file that .*\(Is a directory\)"):
        report.save(tmp_path)
