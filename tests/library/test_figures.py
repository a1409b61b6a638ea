"""Figures: the colours, and the verbs that draw curves, bands, names, marks, bells and grids."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from rounding import assert_within, bound
from scipy import stats

from collapse_utils import Accumulate, Replace, figures, mean_se, recurse

pytestmark = pytest.mark.usefixtures("theme")


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


RUNS = np.random.default_rng(0).normal(np.arange(6)[:, None], 1, (6, 41))


def luminance(colour):
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def words(ax):
    return {text.get_text(): text for text in ax.texts}


def edges(collection):
    heights = collection.get_paths()[0].vertices[:, 1]
    return heights.min(), heights.max()


# ------------------------------------------------------------------ curves


def test_a_band_is_the_mean_and_two_standard_errors(ax):
    figures.curves(ax, {"loop": RUNS}, x=[0, 2, 4, 6, 8, 10])
    mean, se = mean_se(RUNS)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), mean)
    assert edges(ax.collections[0]) == ((mean - 2 * se).min(), (mean + 2 * se).max())
    assert ax.lines[0].get_color() == figures.MODEL


def test_dots_have_bars_of_two_standard_errors(ax):
    figures.curves(ax, {"loop": RUNS}, how="dots")
    mean, se = mean_se(RUNS)
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars.lines[0].get_ydata(), mean)
    ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
    np.testing.assert_array_equal(ends, np.transpose([mean - 2 * se, mean + 2 * se]))


def test_a_ribbon_is_the_median_and_the_middle_eighty_percent(ax):
    figures.curves(ax, {"loop": RUNS}, how="ribbon")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.median(RUNS, axis=1))
    low, high = np.quantile(RUNS, (0.1, 0.9), axis=1)
    assert edges(ax.collections[0]) == (low.min(), high.max())


def test_lines_are_all_replicates(ax):
    figures.curves(ax, {"loop": RUNS}, how="lines")
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata())]
    np.testing.assert_array_equal(drawn, RUNS.T)


def test_a_row_of_numbers_is_one_line(ax):
    figures.curves(ax, {"one": RUNS[:, 0]})
    figures.curves(ax, {"dots": RUNS[:, 1]}, how="dots")
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], RUNS[:, :2].T)
    assert [line.get_linestyle() for line in ax.lines] == ["-", "None"]


def test_laws_are_dashed_ink_over_their_runs_and_coloured_without(ax):
    law = np.arange(6.0)
    figures.curves(ax, {"a": RUNS}, {"a": law, "b": ([0, 5], [1, 2])})
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(dashed[0].get_ydata(), law)
    np.testing.assert_array_equal(dashed[1].get_xydata(), [[0, 1], [5, 2]])
    assert [line.get_color() for line in dashed] == [figures.INK, figures.THIRD]
    assert set(words(ax)) == {"a", "b"}


def test_each_curve_may_have_places_and_a_colour_of_its_own(ax):
    x = {"a": [1, 2, 3], "b": [5, 6]}
    figures.curves(ax, {"a": RUNS[:3], "b": RUNS[:2]}, x=x, colours={"a": "red", "b": "blue"})
    assert [list(line.get_xdata()) for line in ax.lines] == list(x.values())
    assert [line.get_color() for line in ax.lines] == ["red", "blue"]
    assert {name: text.get_color() for name, text in words(ax).items()} == {"a": "red", "b": "blue"}


def test_many_curves_go_from_early_to_late(ax):
    figures.curves(ax, {str(k): RUNS + k for k in range(7)})
    assert [line.get_color() for line in ax.lines] == figures.generation_colours(7)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_names_stand_at_the_ends_and_apart(ax, scale):
    ends = {"a": 1.0, "b": 1.01, "c": 1.02, "d": 90.0}
    figures.curves(
        ax, {name: [1, end] for name, end in ends.items()}, yscale=scale, ylim=(0.5, 100)
    )
    heights = []
    for name, text in words(ax).items():
        assert text.xy == (1, ends[name])
        below = ax.transData.transform(text.xy)[1] * 72 / ax.figure.dpi
        heights.append(below + text.get_position()[1])
    assert heights == sorted(heights)
    assert np.diff(heights).min() > 10.5  # letters of nine points fit between them
    assert abs(words(ax)["d"].get_position()[1]) < 1e-6  # who has room stays


def test_names_of_two_calls_keep_apart(ax):
    figures.curves(ax, {"a": [1, 5]}, ylim=(0, 10))
    assert words(ax)["a"].get_position()[1] == pytest.approx(0)
    figures.curves(ax, {}, {"b": [2, 5.01]}, colours=[figures.THIRD])
    shift = {name: text.get_position()[1] for name, text in words(ax).items()}
    assert len(ax.texts) == 2 and shift["a"] < -5 < 5 < shift["b"]
    assert words(ax)["a"].get_color() == figures.MODEL


def test_names_may_be_a_legend_or_left_out(ax):
    figures.curves(ax, {"a": RUNS}, {"b": RUNS[:, 0]}, names="legend")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    figures.curves(ax, {"c": RUNS}, names="none", xlabel="x", yscale="log")
    assert words(ax) == {}
    assert (ax.get_xlabel(), ax.get_yscale()) == ("x", "log")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "runs or laws must name at least one curve, got none"),
        ({"how": "bars"}, "how must be one of band, dots, ribbon, lines, got 'bars'"),
        ({"names": "top"}, "names must be one of ends, legend, none, got 'top'"),
        ({"x": [1, 2]}, r"x must have one place for each of the 6 points of 'a', got \[1, 2\]"),
    ],
)
def test_curves_refuse_what_they_cannot_draw(ax, change, message):
    with pytest.raises(ValueError, match=message):
        figures.curves(ax, **{"runs": {"a": RUNS}, **change})


# ------------------------------------------------------------------ histories


class Shrinking:
    """A model that writes what it was fitted to, scaled."""

    def fit(self, rows):
        self.rows = rows

    def sample(self, n, rng):
        return 0.9 * rng.choice(self.rows, n)


def history(metric=lambda snapshot: float(np.std(snapshot.sample))):
    rng = np.random.default_rng(0)
    return recurse(
        Shrinking(),
        rng.normal(size=200),
        workflow={"replace": Replace(), "accumulate": Accumulate()},
        n_generations=4,
        n_replicates=5,
        metrics={"sd": metric},
        rng=rng,
    )


def test_a_history_is_drawn_by_workflow(ax):
    seen = history()
    law = 0.9 ** np.arange(5)
    figures.over_generations(ax, seen, "sd", law={"replace": law}, yscale="log")
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    for line, name in zip(solid, ("replace", "accumulate"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), np.median(seen.array("sd", name), axis=1))
        np.testing.assert_array_equal(words(ax)[name].xy, line.get_xydata()[-1])
        assert words(ax)[name].get_color() == line.get_color()
    (dashed,) = (line for line in ax.lines if line.get_linestyle() == "--")
    np.testing.assert_array_equal(dashed.get_ydata(), law)
    low, high = np.quantile(seen.array("sd", "replace"), (0.1, 0.9), axis=1)
    assert edges(ax.collections[0]) == (low.min(), high.max())
    assert (ax.get_ylabel(), ax.get_xlabel(), ax.get_yscale()) == ("sd", "generation", "log")
    with pytest.raises(ValueError, match="metric must be one of sd, got 'mean'"):
        figures.over_generations(ax, seen, "mean")


def test_a_metric_that_is_reported_now_and_then_is_drawn_where_it_is(ax):
    def seldom(snapshot):
        if snapshot.workflow == "accumulate":
            return {"sd": 1.0} if snapshot.generation < 3 else {}
        return {"sd": np.nan if snapshot.generation == 0 else 1.0 + snapshot.replicate % 2}

    figures.over_generations(ax, history(seldom), "sd")
    assert [list(line.get_xdata()) for line in ax.lines] == [[1, 2, 3, 4], [0, 1, 2]]
    assert {name: tuple(text.xy) for name, text in words(ax).items()} == {
        "replace": (4, 1), "accumulate": (2, 1),
    }  # fmt: skip


# ------------------------------------------------------------------ panels, marks, bells


def test_panels_have_titles_and_shared_labels_outside_only():
    fig, ax = figures.panels("one", xlabel="x")
    assert (ax.get_title(), ax.get_xlabel()) == ("one", "x")
    plt.close(fig)
    fig, axes = figures.panels(*"abc", rows=2, sharex=True, sharey=True, xlabel="x", ylabel="y")
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    assert [ax.get_xlabel() for ax in axes] == ["", "x", "x"]  # nothing stands below "b"
    assert [ax.get_ylabel() for ax in axes] == ["y", "", "y"]
    assert not fig.axes[3].axison
    plt.close(fig)
    fig, ax = figures.panels(xlabel="x")
    assert (ax.get_title(), ax.get_xlabel()) == ("", "x")
    plt.close(fig)
    with pytest.raises(ValueError, match="rows must be an integer between 1 and 2, got 3"):
        figures.panels("a", "b", rows=3)


def test_generations_are_whole_numbers_on_narrow_panels_too():
    fig, axes = figures.panels(*"abc", xlabel="generation")
    for ax in axes:
        ax.plot(range(9))
        fig.canvas.draw()
        assert all(tick == int(tick) for tick in ax.get_xticks())
    figures.panels(xlabel="generation", xscale="log")  # has ticks of its own
    plt.close("all")


def test_marks_name_places_on_both_axes(ax):
    ax.set(xlim=(0, 10), ylim=(0, 10))
    figures.mark(ax, x={"turn": 3}, y={"floor": 4, "roof": 8})
    assert [line.get_linestyle() for line in ax.lines] == [":"] * 3
    assert list(ax.lines[0].get_xdata()) == [3, 3]
    assert [list(line.get_ydata()) for line in ax.lines[1:]] == [[4, 4], [8, 8]]
    assert {name: text.xy for name, text in words(ax).items()} == {
        "turn": (3, 1), "floor": (1, 4), "roof": (1, 8),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("at", "place"), [("right", (1, 0)), ("left", (-1, 0)), ("above", (0, 1)), ("below", (0, -1))]
)
def test_a_label_stands_beside_its_point(ax, at, place):
    figures.label(ax, "here", 0.5, 0.5, at=at)
    ax.figure.draw_without_rendering()
    box = ax.texts[0].get_window_extent()
    point = ax.transData.transform((0.5, 0.5))
    middle = (box.p0 + box.p1) / 2 - point
    assert middle @ place > 0 and abs(middle @ place[::-1]) < 2
    with pytest.raises(ValueError, match="at must be one of right, left, above, below"):
        figures.label(ax, "here", 0.5, 0.5, at="inside")


def test_ticks_are_these_numbers_written_out(ax):
    ax.set(xscale="log", yscale="log", xlim=(1, 1e5), ylim=(1e-3, 1))
    figures.ticks(ax, x=[10, 2000], y=[0.01, 1])
    ax.figure.draw_without_rendering()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "2,000"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0.01", "1"]
    assert len(ax.get_xticks(minor=True)) == len(ax.get_yticks(minor=True)) == 0


def test_bells_have_their_means_spreads_and_unit_area(ax):
    for line, mean, sd in zip(figures.bells(ax, [0, 3], [1, 0.1]), (0, 3), (1, 0.1), strict=True):
        x, y = line.get_data()
        # Drawn from -z to z; the trapezoid rule adds h^2 / 12 times the difference of the slopes.
        z = (x[-1] - mean) / sd
        inside, slope = (
            1 - 2 * stats.norm.sf(z),
            (2 * z / (len(x) - 1)) ** 2 / 6 * stats.norm.pdf(z),
        )
        area = np.trapezoid(y, x)
        assert_within(area, inside, z * slope + bound(2 * len(x)))
        assert_within(np.trapezoid(x * y, x), mean * area, bound(4 * len(x), abs(mean) + sd))
        spread = inside - 2 * z * stats.norm.pdf(z)
        square = np.trapezoid((x - mean) ** 2 * y, x) / sd**2
        assert_within(
            square, spread, (z**3 - 2 * z) * slope + bound(4 * len(x), 1 + abs(mean) / sd)
        )
    assert len(figures.bells(ax, 0, 1)) == 1


# ------------------------------------------------------------------ colours, grids


def test_generation_colours_run_from_dark_to_light():
    colours = figures.generation_colours(7)
    assert len(set(colours)) == 7
    lights = [luminance(c) for c in colours]
    assert lights == sorted(lights)
    assert colours[0] == figures.generation_colours(1)[0]
    assert len(figures.generation_colours(1)) == 1
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        figures.generation_colours(0)


def test_montage_puts_every_image_in_its_place():
    images = 1 + np.arange(7 * 6, dtype=float).reshape(7, 6)
    sheet = figures.montage(images, 2, 3, shape=(2, 3))
    assert sheet.shape == (5, 11)
    for k in range(6):
        top, left = (k // 3) * 3, (k % 3) * 4
        np.testing.assert_array_equal(sheet[top : top + 2, left : left + 3].ravel(), images[k])
    assert (sheet == 0).sum() == sheet.size - 36  # the gap is white, and nothing else is


def test_digit_grid_has_one_labelled_row_per_entry():
    images = np.random.default_rng(0).random((12, 64))
    fig = figures.digit_grid({"real": images, "generation 5": images / 2})
    assert [ax.get_ylabel() for ax in fig.axes] == ["real", "generation 5"]
    for ax in fig.axes:
        (image,) = ax.images
        assert image.get_array().shape == (8, 12 * 9 - 1)
        assert image.get_clim() == (0, 1)
        assert image.get_cmap().name == "gray_r"
    plt.close(fig)
    fig = figures.digit_grid({"a": images[:, :6]}, n_columns=4, shape=(2, 3))
    assert fig.axes[0].images[0].get_array().shape == (2, 15)
    plt.close(fig)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: figures.montage(np.zeros((5, 64)), 2, 3),
            r"images must hold at least 6 images of 8 x 8 pixels, got shape \(5, 64\)",
        ),
        (lambda: figures.montage(np.zeros((6, 63)), 2, 3), r"8 x 8 pixels, got shape \(6, 63\)"),
        (lambda: figures.montage(np.zeros((0, 64)), 1, 1), "at least 1 images"),
        (lambda: figures.montage(np.zeros((6, 64)), 0, 3), "n_rows must be an integer >= 1, got 0"),
        (lambda: figures.digit_grid({"a": np.zeros((3, 64))}), "at least 12 images"),
    ],
)
def test_grids_refuse_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
