"""Tables and texts through the loop: types, missing values, categories, and what is measured."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from collapse_utils import (
    Accumulate,
    AccumulateSubsample,
    FreshData,
    History,
    Mix,
    Replace,
    _checkpoint,
    recurse,
)
from collapse_utils.command import CommandModel
from collapse_utils.report import MEASURES, diagnose
from collapse_utils.workflows import (
    Poisoned,
    Verified,
    Web,
)
from collapse_utils.yardstick import Yardstick, _Features


def mixed(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Every type of column that a table usually has, with missing values in some."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "height": rng.normal(170, 10, n),
            "count": rng.poisson(3, n),
            "age": pd.array(rng.integers(20, 80, n), dtype="Int64"),
            "member": rng.random(n) < 0.5,
            "agrees": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "colour": pd.Categorical(rng.choice(["red", "green", "blue"], n, p=[0.6, 0.3, 0.1])),
            "size": pd.Categorical(rng.choice(["S", "M"], n), ["S", "M", "L"], ordered=True),
            "city": rng.choice(["Bonn", "Lyon", "New York"], n),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
            "pause": pd.to_timedelta(rng.integers(0, 900, n), "min"),
            "note": [f"note {i} of {rng.integers(9)}" for i in range(n)],
        }
    )
    for name in ("height", "age", "agrees", "colour", "city", "since", "note"):
        table.loc[rng.random(n) < 0.1, name] = None
    return table


class Bootstrap:
    """Repeats its rows."""

    def fit(self, X, rng):
        self.rows = X

    def sample(self, n, rng):
        return self.rows.sample(n, replace=True, random_state=rng)


class Changed(Bootstrap):
    """Changes what it writes."""

    def __init__(self, change):
        self.change = change

    def sample(self, n, rng):
        return self.change(super().sample(n, rng).copy())


def run(model=None, data=None, **change):
    settings = {"n_generations": 3, "n_samples": 40, "n_replicates": 2, "keep_samples": 40}
    settings |= {"rng": np.random.default_rng(1), **change}
    return recurse(model or Bootstrap(), mixed() if data is None else data, **settings)


# ------------------------------------------------------------------ types stay

WORKFLOWS = [
    Replace(),
    Accumulate(),
    AccumulateSubsample(),
    Mix(0.4, 0.3, 0.3),
    Mix(0.5, gamma=0.5, redraw=False),
    FreshData(0.5),
    Web(0.5),
    Verified(Replace(), lambda rows, rng: rows["count"] > 0),
    Poisoned(Replace(), lambda n, rng: mixed(n, 3), 0.2),
]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: type(w).__name__)
def test_every_workflow_keeps_the_types(workflow):
    data, seen = mixed(), []

    class Watching(Bootstrap):
        def fit(self, X, rng):
            seen.append(X)
            super().fit(X, rng)

    history = run(
        Watching(), data, workflow=workflow, metrics={"n": lambda s: seen.append(s.training) or 1}
    )
    seen += [rows for kept in history.samples.values() for rows in kept]
    assert len(seen) == 6 + 8 + 8
    for table in seen:
        pd.testing.assert_series_equal(table.dtypes, data.dtypes)
        assert list(table.index) == list(range(len(table)))
    if isinstance(workflow, Replace):  # whole rows, that is with their own missing values
        known = set(map(repr, data.itertuples(index=False)))
        assert set(map(repr, seen[-1].itertuples(index=False))) <= known


def test_a_law_may_write_tables():
    history = run(data=lambda n, rng: mixed(n, int(rng.integers(99))), workflow=FreshData(0.5))
    pd.testing.assert_series_equal(history.samples["FreshData", 1][3].dtypes, mixed().dtypes)


def test_a_model_cannot_spoil_a_table():
    data = mixed()
    kept = data.copy()

    class InPlace(Bootstrap):
        def fit(self, X, rng):
            super().fit(X.copy(), rng)
            X["count"] = 0
            del X["note"]

    spoilt, clean = (run(model, data, workflow=Accumulate()) for model in (InPlace(), Bootstrap()))
    pd.testing.assert_frame_equal(data, kept)
    for one, other in zip(spoilt.samples.values(), clean.samples.values(), strict=True):
        pd.testing.assert_frame_equal(one[-1], other[-1])


def test_an_interrupted_run_on_tables_goes_on(tmp_path):
    metrics = {"y": Yardstick(mixed(100, 9), np.random.default_rng(0))}
    plan = {"checkpoint": tmp_path / "c", "metrics": metrics, "workflow": Accumulate()}
    run(n_generations=2, **plan)
    resumed, whole = run(**plan), run(**plan | {"checkpoint": None})
    pd.testing.assert_frame_equal(resumed.frame, whole.frame, check_exact=True)
    for key, kept in whole.samples.items():
        for one, other in zip(kept, resumed.samples[key], strict=True):
            pd.testing.assert_frame_equal(one, other)
    with pytest.raises(ValueError, match=r"another run \(not the same: data;"):
        run(data=mixed().astype({"count": float}), **plan)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(height=t["height"].where(t.index != 7, 1.0)),
        lambda t: t.astype({"count": float}),
        lambda t: t.assign(colour=t["colour"].cat.add_categories("pink")),
        lambda t: t.assign(size=t["size"].cat.as_unordered()),
        lambda t: t.rename(columns={"city": "town"}),
        lambda t: t[t.columns[::-1]],
    ],
    ids=["value", "type", "categories", "order", "name", "places"],
)
def test_every_part_of_a_table_is_part_of_a_run(change):
    same, other = (_checkpoint.identity(t, "data") for t in (mixed().copy(), change(mixed())))
    assert same == _checkpoint.identity(mixed(), "data")
    assert other != same


# ------------------------------------------------------------------ what models write


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[t.columns[::-1]],
        lambda t: t.assign(colour=t["colour"].astype(object), size=t["size"].astype(str)),
        lambda t: t.assign(age=t["age"].astype(float), count=t["count"].astype(float)),
        lambda t: t.assign(agrees=t["agrees"].astype(object), city=t["city"].astype(object)),
        lambda t: t.astype({"height": np.float32}),
        pa.Table.from_pandas,
        lambda t: t.to_dict("records"),
        lambda t: t.to_dict("list"),
        lambda t: list(t.itertuples(index=False, name=None)),
    ],
    ids=["order", "words", "whole", "objects", "short", "arrow", "dicts", "lists", "tuples"],
)
def test_order_and_types_are_restored(change):
    data = mixed().assign(height=lambda t: t["height"].round())  # exact in float32
    one, other = (run(m, data).samples["Replace", 1][-1] for m in (Bootstrap(), Changed(change)))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="age"), "lacks 'age' and adds none"),
        (lambda t: t.assign(x=1), "lacks none and adds 'x'"),
        (lambda t: t.rename(columns={"age": "Age"}), "lacks 'age' and adds 'Age'"),
        (lambda t: t[:-1], "must return 40 rows, got 39"),
        (
            lambda t: t.assign(colour="pink"),
            r"categories of data in column 'colour' \('blue', 'green', 'red'\), got 'pink'",
        ),
        (lambda t: t.assign(count=0.5), "int64 in column 'count', as in data, .* such as .*0.5"),
        (lambda t: t.assign(count="3"), "must return int64 in column 'count'"),
        (lambda t: t.assign(count=np.nan), "must return int64 in column 'count'"),
        (lambda t: t.assign(age=t["age"] + 0.5), "must return Int64 in column 'age'"),
        (lambda t: t.assign(city=3), "in column 'city', as in data, got int64 such as .*3"),
        (lambda t: t.assign(member=2), "must return bool in column 'member'"),
        (
            lambda t: t.assign(pause=t["pause"].where(t["count"] > 2)),
            "missing values in column 'pause', where data has none",
        ),
        (lambda t: t.assign(height=np.inf), "must be finite, got infinity in column 'height'"),
        (
            lambda t: t.to_numpy()[:, :3],
            r"a table with the columns 'height', .* ndarray of 3 columns",
        ),
        (lambda t: "text", "must be rows: an array or a DataFrame, got 'text'"),
        (lambda t: None, "must be rows: an array or a DataFrame, got None"),
    ],
)
def test_other_tables_are_refused_in_one_line_with_their_place(change, message):
    with pytest.raises(ValueError, match=message) as stopped:
        run(Changed(change))
    said = str(stopped.value)
    assert said.startswith("model.sample(40) must") and "\n" not in said
    assert "in generation 1, replicate 0, workflow 'Replace'" in stopped.value.__notes__


def test_intervals_come_back_as_they_are_or_are_named():
    data = pd.DataFrame({"bin": pd.cut(np.random.default_rng(0).normal(size=200), 4)})
    objects = Changed(lambda t: t.astype(object))
    assert run(objects, data).samples["Replace", 0][-1].dtypes.equals(data.dtypes)
    with pytest.raises(ValueError, match=r"categories of data in column 'bin' .*, got '\("):
        run(Changed(lambda t: t.astype(str)), data)


@pytest.mark.parametrize("kind", ["Float64", "double[pyarrow]", "Sparse[float]", "float32"])
def test_infinity_is_refused_in_every_type_of_float(kind):
    data = pd.DataFrame({"a": pd.Series(np.linspace(0, 1, 50), dtype=kind), "b": 1})
    assert run(data=data).samples["Replace", 0][-1].dtypes.equals(data.dtypes)
    spoilt = Changed(lambda t: t.assign(a=pd.Series(np.inf, t.index, dtype=kind)))
    with pytest.raises(ValueError, match="must be finite, got infinity in column 'a'"):
        run(spoilt, data)


def test_a_density_model_takes_a_table_of_numbers():
    from sklearn.neighbors import KernelDensity

    data = mixed()[["height"]].dropna().assign(other=1.5)
    kept = run(KernelDensity(bandwidth=0.1), data).samples["Replace", 0]
    assert list(kept[-1].columns) == ["height", "other"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame({"a": [1.0, np.inf]}), "data must be finite, got infinity in column 'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns of different names, got .'a', 'a'"),
        (pd.DataFrame(index=range(5)), r"columns of different names, got \[\]"),
        (pd.DataFrame({"a": []}), "data must hold at least one row"),
        (
            pd.Series([1, None, 3], dtype="Int64"),
            "must be finite, got NaN or infinity .a DataFrame may",
        ),
    ],
)
def test_tables_that_are_none_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        run(data=data, n_samples=None)


def test_nullable_numbers_without_missing_values_are_numbers():
    seen = []

    class Watching(Bootstrap):
        def fit(self, X, rng):
            seen.append(X.dtype)
            self.rows = pd.Series(X)

    run(Watching(), pd.Series(range(50), dtype="Int64"))
    assert set(seen) == {np.dtype("int64")}


def test_frames_of_other_libraries_come_in():
    data = mixed()[["height", "colour", "city"]]
    kept = run(data=pa.Table.from_pandas(data)).samples["Replace", 0][0]
    assert isinstance(kept["colour"].dtype, pd.CategoricalDtype)
    assert set(kept["city"].dropna()) <= set(data["city"].dropna())
    assert kept["height"].isna().any()


# ------------------------------------------------------------------ features and measures


def measured(real, rows, **options):
    return Yardstick(real, np.random.default_rng(1), **options)(rows)


def test_real_tables_measure_as_real():
    real = mixed()
    found = measured(real, real.sample(frac=1, random_state=1))
    assert set(found) == {*MEASURES, "rows", "categories", "pairs", "missing"}
    assert found["coverage"] == found["categories"] == found["pairs"] == 1
    assert found["distance"] < 1e-12 and abs(found["spread"] - 1) < 1e-12
    assert found["missing"] == real.isna().to_numpy().mean()


def test_each_measure_of_tables_sees_its_own_change():
    real = mixed(600)
    less = measured(real, real[real["colour"].ne("blue").fillna(True).astype(bool)])
    levels = sum(real[name].nunique() + real[name].isna().any() for name in
                 ("member", "agrees", "colour", "size", "city"))  # fmt: skip
    assert less["categories"] == pytest.approx(1 - 1 / levels)
    assert less["pairs"] < 1 and less["distance"] > 0
    full = measured(real, real.dropna())
    assert full["missing"] == 0
    apart = real.assign(colour=real["colour"].sample(frac=1, random_state=1).array)
    assert measured(real, apart)["categories"] == 1
    one = real["city"].eq("Bonn").fillna(False) & real["colour"].eq("green")
    without = measured(real, real[~one.astype(bool)])
    assert without["categories"] == 1 and without["pairs"] < 1


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_numbers_count_by_rank_and_ties_by_their_middle(scale):
    real = pd.DataFrame({"a": np.r_[np.zeros(50), np.arange(1.0, 51)] * scale})
    scores = _Features(real)(pd.DataFrame({"a": [0.0, -1e20, 1e20, scale]}))[:, 0]
    expected = stats.norm.ppf(np.array([25.5, 0.5, 100.5, 51.0]) / 101)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    exponents = real.assign(a=np.exp(real["a"] / scale))
    fake = real.sample(60, random_state=1)
    one = measured(real, fake)
    other = measured(exponents, fake.assign(a=np.exp(fake["a"] / scale)))
    assert one == other


def test_each_column_has_the_same_weight():
    """Beside a number, a category of twenty levels does not drown it."""
    rng = np.random.default_rng(0)
    real = pd.DataFrame({"a": rng.normal(size=4000), "b": rng.integers(0, 20, 4000).astype(str)})
    rows = Yardstick(real, np.random.default_rng(1))
    numbers = rows._standardised(rows._numbers(real, "real")).var(0)
    assert numbers[0] == pytest.approx(1, abs=0.01)
    assert numbers[1:].sum() == pytest.approx(1, abs=0.01)


def test_rare_missing_values_of_a_column_that_has_none_in_the_yardstick_count():
    real = mixed()[["height", "count"]].dropna()
    holes = real.astype(float).mask(real["count"] > 3)
    assert measured(real, holes)["distance"] > 0.1


def test_texts_have_features_of_their_own():
    rng = np.random.default_rng(3)
    words = ["the", "cat", "sat", "on", "mat", "and", "nine", "birds", "over", "old", "barn"]
    texts = np.array([" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(200)])
    real = measured(texts, texts)
    assert real["coverage"] == 1 and real["distance"] < 1e-12
    assert "categories" not in real
    shorter = np.array([text[: len(text) // 2] for text in texts])
    chance = measured(texts[:100], texts[100:])["distance"]
    assert measured(texts, shorter)["distance"] > 2 * chance
    repeats = np.array([" ".join([text.split()[0]] * 5) for text in texts])
    assert measured(texts, repeats)["distance"] > 2 * chance
    assert measured(list(texts), list(shorter)) == measured(texts, shorter)
    labels = np.array(["yes", "no"] * 50)  # few words that come often are categories
    assert measured(labels, labels[:1].repeat(30))["categories"] == 0.5


@pytest.mark.parametrize("bad", [[[1], [2]] * 20, [{"a": 1}] * 40, [1j] * 40])
def test_columns_that_have_no_features_are_named(bad):
    with pytest.raises(ValueError, match="column 'x' must hold numbers, dates, categories or text"):
        measured(pd.DataFrame({"x": bad}), None)


def test_rows_with_other_columns_than_the_yardstick_are_refused():
    real = mixed()[["height", "count"]]
    for rows in (mixed()[["height", "age"]], np.ones((30, 2))):
        with pytest.raises(ValueError, match=r"the columns of real, \['height', 'count'\]"):
            measured(real, rows)
    both = real.dropna()
    assert measured(real, both) == measured(real, both[["count", "height"]])


def test_a_users_own_features_may_be_sparse():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = np.array([f"word {i % 7} and {i % 5}" for i in range(60)])
    own = TfidfVectorizer(token_pattern=r"\w+").fit(texts)
    assert measured(texts, texts, features=own.transform)["distance"] < 1e-12


# ------------------------------------------------------------------ the report


@pytest.fixture(scope="module")
def report():
    data = mixed(600)[["height", "colour", "city", "count"]]
    flows = {"replace": Replace(), "real": FreshData(1.0)}
    history = recurse(
        Bootstrap(), lambda n, rng: data.sample(n, random_state=rng), workflow=flows,
        n_generations=12, n_samples=30, n_replicates=20, keep_samples=30,
        metrics={"y": Yardstick(mixed(600, 4)[list(data)], np.random.default_rng(2))},
        rng=np.random.default_rng(3),
    )  # fmt: skip
    return diagnose(history)


def test_the_report_names_what_died(report):
    assert report.collapses()
    assert {"loss of categories", "loss of combinations"} <= set(report.kinds())
    assert report.kinds("real") == []
    assert "Categories that died: " in str(report) and "Pairs of categories" in str(report)
    lost = report.losses.query("workflow == 'replace'").set_index("name")
    assert lost.loc["colour=blue", "lost"] > lost["lost"].get("colour=red", 0)
    assert {"categories", "pairs", "missing"} == set(lost["kind"])
    assert "colour=blue" in str(report)


def test_the_figure_and_the_file_show_all_measures(report, tmp_path):
    import matplotlib.pyplot as plt

    figure = report.figure()
    assert len(figure.axes) == 9 and figure.axes[7].get_title() == "missing values"
    plt.close(figure)
    report.save(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "real pairs of categories left" in page and "colour=blue" in page


def test_without_kept_rows_the_report_says_what_would_name_them():
    data = mixed(400)[["colour", "city", "height"]]
    history = run(
        data=data, n_generations=8, n_samples=12, n_replicates=16, keep_samples=0,
        metrics={"y": Yardstick(data, np.random.default_rng(2))},
    )  # fmt: skip
    assert "give recurse keep_samples= for their names" in str(diagnose(history))


@pytest.mark.parametrize("replicates", [3, 12])
def test_tables_of_one_law_raise_few_alarms(replicates):
    """Real tables in every generation: counts with many ties, and few replicates."""
    real = mixed(600)[["height", "colour", "city"]]
    measure = Yardstick(mixed(100, 4)[list(real)], np.random.default_rng(2))
    rng = np.random.default_rng(6)
    pool = pd.DataFrame([measure(real.sample(30, random_state=rng)) for _ in range(200)])
    index = pd.MultiIndex.from_product([range(4), range(replicates)])
    index = index.set_names(["generation", "replicate"]).to_frame(index=False)
    alarms, n = 0, 40
    for _ in range(n):
        drawn = pool.iloc[rng.integers(len(pool), size=len(index))].reset_index(drop=True)
        frame = drawn.join(index).melt(list(index), var_name="metric")
        found = diagnose(History(frame.assign(workflow="a")))
        alarms += (found.changes["verdict"] != "no change seen").any()
    assert alarms <= stats.binom.ppf(1 - 1e-4, n, 0.05)


# ------------------------------------------------------------------ programs


def test_a_program_gets_a_table_and_gives_it_back():
    copy = "import sys, shutil; shutil.copy(*sys.argv[1:3])"
    model = CommandModel(
        fit=[sys.executable, "-S", "-c", copy, "{data}", "{model}"],
        sample=[sys.executable, "-S", "-c", copy, "{model}", "{rows}", "{n}"],
    )
    rng = np.random.default_rng(0)
    data = mixed(50).drop(columns="pause").assign(code=pd.Categorical([1, 2] * 25), word="NA")
    pd.testing.assert_frame_equal(model.fit(data, rng).sample(50, rng), data)
    with pytest.raises(
        RuntimeError, match=r"wrote other rows than it must: \{rows\} must return 4"
    ):
        model.sample(4, rng)
    with pytest.raises(ValueError, match=r"X must hold numbers, .* got a table of shape \(0, 12\)"):
        model.fit(data[:0], rng)
    with pytest.raises(ValueError, match=r"X must hold numbers, .*, or be a table, got <U1"):
        model.fit(np.array(["a", "b"]), rng)
