"""Figures: one theme, colours with fixed meanings, and the verbs that a chapter draws with.

`panels` opens axes, `curves` and `over_generations` draw replicates beside their laws, `mark`,
`label` and `ticks` name what is to be seen. All else is matplotlib and seaborn as usual.
:func:`collapse_utils.publishing.show` puts a figure on the page.

In every array the last axis counts replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from ._checks import checked, one_of, whole
from .metrics import mean_se
from .publishing import GRID, INK, PAPER

if TYPE_CHECKING:
    from .loop import History

__all__ = ["FOURTH", "GRID", "INK", "MODEL", "PAPER", "THEORY", "THIRD", "TRUTH"]

# Data colours are mid-tones that stand out on light and dark paper (Okabe and Ito's palette, safe
# for colour-blind eyes): the real data always have the colour of the truth.
TRUTH = "#0a84c6"
MODEL = "#d55e00"
THIRD = "#109c74"
FOURTH = "#b5679d"
THEORY = {"color": INK, "linestyle": "--", "linewidth": 1.4}
#: Colours of curves in order.
CYCLE = (MODEL, THIRD, FOURTH, TRUTH, INK)
#: Points between the names at the ends of two curves.
_GAP = 11
#: Names at the ends of curves, by axes: end, colour and text.
_NAMED: WeakKeyDictionary[Axes, dict[str, tuple]] = WeakKeyDictionary()

_THEME = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 12,
    "axes.linewidth": 1.25,
    "axes.prop_cycle": mpl.cycler(color=[MODEL, TRUTH, THIRD, FOURTH]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "figure.figsize": (7.2, 3.8),
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "sans-serif"],
    "font.size": 10.5,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 11,
    "legend.title_fontsize": 12,
    "lines.linewidth": 1.8,
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "savefig.facecolor": "none",
    "svg.hashsalt": "collapse",
    "text.color": INK,
}
for _axis, _side in (("xtick", "bottom"), ("ytick", "left")):  # no ticks, but their room
    _THEME |= {f"{_axis}.{_side}": False, f"{_axis}.color": INK, f"{_axis}.labelsize": 11}
    _THEME |= {f"{_axis}.major.size": 6, f"{_axis}.minor.size": 4}


def use_theme() -> None:
    """Set the book's theme; call it once in the set-up cell of a chapter."""
    plt.style.use(["seaborn-v0_8-whitegrid", _THEME])


@checked(n=whole(1))
def generation_colours(n: int) -> list[str]:
    """`n` colours from early to late (viridis without what fades on dark or on light paper)."""
    return [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0.34, 0.68, n))]


def panels(
    *titles: str,
    rows: int = 1,
    size: tuple[float, float] | None = None,
    sharex: bool = False,
    sharey: bool = False,
    **axes: Any,
) -> tuple[Figure, Any]:
    """A figure with one panel per title, or with one panel that needs none.

    `rows` is the number of rows of panels, `size` is in inches. `axes` is given to every panel,
    such as ``xlabel="generation"``, which has whole numbers for ticks; a shared label stands at the
    outer panels only.

    Returns Figure, and its axes (one, or an array in reading order).
    """
    titles = titles or ("",)
    columns = -(-len(titles) // whole(1, len(titles))("rows", rows))
    size = size or (7.2 + 0.3 * (columns > 2), 3.6 if rows == 1 else 2.7 * rows)
    fig, grid = plt.subplots(
        rows, columns, figsize=size, sharex=sharex, sharey=sharey, squeeze=False
    )
    shown, rest = grid.flat[: len(titles)], grid.flat[len(titles) :]
    for k, (ax, title) in enumerate(zip(shown, titles, strict=True)):
        ax.set(title=title, **axes)
        if axes.get("xlabel") == "generation" and "xscale" not in axes:
            ax.xaxis.get_major_locator().set_params(integer=True)
        if sharey and k % columns:
            ax.set_ylabel("")
        lowest = not sharex or k + columns >= len(titles)
        if not lowest:
            ax.set_xlabel("")
        ax.tick_params(labelbottom=lowest)
    for ax in rest:
        ax.set_axis_off()
    return fig, shown if len(titles) > 1 else shown[0]


@checked(how=one_of("band", "dots", "ribbon", "lines"), names=one_of("ends", "legend", "none"))
def curves(
    ax: Axes,
    runs: Mapping[str, ArrayLike],
    laws: Mapping[str, ArrayLike] | None = None,
    *,
    x: ArrayLike | Mapping[str, ArrayLike] | None = None,
    how: str = "band",
    colours: Sequence[str] | Mapping[str, str] | None = None,
    names: str = "ends",
    **axes: Any,
) -> None:
    """Draw named curves: replicates in colour, laws dashed in ink.

    - `runs` (dict of name -> array, shape (points, replicates) or (points,)): A row of numbers is
      drawn as one line.
    - `laws` (dict of name -> array, shape (points,), or pair (x, law)): Expected values. A law
      without runs of that name has a colour of its own.
    - `x` (array, or dict of name -> array): Where the points are; default 0, 1, 2, ...
    - `how` ({"band", "dots", "ribbon", "lines"}): Mean ± 2 s.e. as a band or as dots with bars; the
      median with the middle 80 % of the replicates; or every replicate.
    - `colours` (sequence, or dict of name -> colour): Default: the book's colours; early to late
      where there are more curves than colours.
    - `names` ({"ends", "legend", "none"}): Where the curves are named.
    - `axes`: Given to ``ax.set`` before the names are placed.
    """
    laws = laws or {}
    every = list(dict.fromkeys([*runs, *laws]))
    if not every:
        raise ValueError("runs or laws must name at least one curve, got none")
    palette = colours if isinstance(colours, Mapping) else _palette(every, colours)
    ends = {}
    for name in every:
        places = x[name] if isinstance(x, Mapping) else x
        color = palette[name]
        if name in runs:
            values = np.asarray(runs[name], dtype=float)
            at = _places(name, places, len(values))
            ends[name] = at[-1], _draw(ax, at, values, how, color, name)
        if name in laws:
            law = laws[name]
            if isinstance(law, tuple):
                places, law = law
            law = np.asarray(law, dtype=float)
            at = _places(name, places, len(law))
            own = {} if name in runs else {"color": color, "label": name}
            ax.plot(at, law, **THEORY | own, zorder=2.5)
            if name not in runs or at[-1] > ends[name][0]:
                ends[name] = at[-1], law[-1]
    ax.set(**axes)
    if names == "legend":
        ax.legend()
    elif names == "ends":
        _name_ends(ax, ends, palette)


def _palette(names: Sequence[str], colours: Sequence[str] | None = None) -> dict[str, str]:
    """A colour for each name; early to late where the book's colours are too few."""
    few = len(names) <= len(CYCLE)
    colours = colours or (CYCLE if few else generation_colours(len(names)))
    return dict(zip(names, colours, strict=False))


def _places(name: str, x: ArrayLike | None, n: int) -> NDArray:
    at = np.arange(n) if x is None else np.asarray(x)
    if at.shape != (n,):
        raise ValueError(f"x must have one place for each of the {n} points of {name!r}, got {x}")
    return at


def _draw(ax: Axes, x: NDArray, values: NDArray, how: str, color: str, name: str) -> float:
    """Draw the replicates of one curve; returns the height at which it ends."""
    if values.ndim == 1:
        style = {"marker": "o", "linestyle": "none"} if how == "dots" else {}
        ax.plot(x, values, color=color, label=name, **style)
        return float(values[-1])
    if how == "lines":
        ax.plot(x, values, color=color, alpha=0.5, linewidth=0.9)
        ax.plot([], [], color=color, label=name)
        return float(np.median(values[-1]))
    if how == "ribbon":
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=1)
    else:
        middle, se = mean_se(values)
        low, high = middle - 2 * se, middle + 2 * se
    if how == "dots":
        dots = {"fmt": "o", "color": color, "markersize": 4.5, "linewidth": 1.2}
        ax.errorbar(x, middle, 2 * se, **dots, label=name)
    else:
        ax.fill_between(x, low, high, color=color, alpha=0.22, linewidth=0)
        ax.plot(x, middle, color=color, label=name)
    return float(middle[-1])


def _name_ends(
    ax: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str]
) -> None:
    """Write names beside the ends of curves, moved apart where they would overlap.

    Names that an earlier call gave to the same axes are placed anew with the others.
    """
    known = _NAMED.setdefault(ax, {})
    for *_, text in known.values():
        text.remove()
    ends = {name: end for name, (end, *_) in known.items()} | dict(ends)
    colours = {name: colour for name, (_, colour, _) in known.items()} | dict(colours)
    points = ax.bbox.height * 72 / ax.figure.dpi
    heights = {name: ax.transLimits.transform(ax.transScale.transform(end))[1] * points
               for name, end in ends.items()}  # fmt: skip
    order = sorted(heights, key=heights.__getitem__)
    placed = [heights[name] for name in order]
    for _ in range(20):  # push neighbours apart, half each, until all have room
        for i in range(1, len(placed)):
            need = _GAP - (placed[i] - placed[i - 1])
            if need > 0.01:
                placed[i - 1] -= need / 2
                placed[i] += need / 2
    for name, height in zip(order, placed, strict=True):
        text = ax.annotate(
            name, ends[name], xytext=(5, height - heights[name]), textcoords="offset points",
            va="center", color=colours[name], fontsize=9, annotation_clip=False,
        )  # fmt: skip
        known[name] = ends[name], colours[name], text


def over_generations(
    ax: Axes,
    history: History,
    metric: str,
    *,
    law: Mapping[str, ArrayLike] | None = None,
    **axes: Any,
) -> None:
    """Draw a metric of a history: for each workflow the median and the middle 80 %.

    `law` maps workflows to arrays of shape (generations + 1,); `axes` is given to ``ax.set``.
    """
    import seaborn as sns

    one_of(*history.frame["metric"].unique())("metric", metric)
    frame = history.frame[history.frame["metric"] == metric]
    palette = _palette(frame["workflow"].unique())
    sns.lineplot(
        frame, x="generation", y="value", hue="workflow", palette=palette, ax=ax,
        estimator="median", errorbar=("pi", 80), err_kws={"linewidth": 0}, legend=False,
    )  # fmt: skip
    medians = frame.groupby(["workflow", "generation"])["value"].median().dropna()
    ends = {name: (at, median) for (name, at), median in medians.items()}  # the last one stays
    for values in (law or {}).values():
        ax.plot(np.arange(len(values)), values, **THEORY, zorder=2.5)
    ax.set(**{"ylabel": metric} | axes)
    _name_ends(ax, ends, palette)


def mark(
    ax: Axes, *, x: Mapping[str, float] | None = None, y: Mapping[str, float] | None = None
) -> None:
    """Dotted lines at named places: upright at `x`, level at `y`."""
    dotted = {"color": INK, "linewidth": 0.9, "linestyle": ":", "zorder": 1.5}
    text = {"textcoords": "offset points", "fontsize": 9, "color": INK}
    for name, place in (x or {}).items():
        ax.axvline(place, **dotted)
        ax.annotate(name, (place, 1), xycoords=("data", "axes fraction"), xytext=(3, -2),
                    va="top", **text)  # fmt: skip
    for name, place in (y or {}).items():
        ax.axhline(place, **dotted)
        ax.annotate(name, (1, place), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                    ha="right", **text)  # fmt: skip


@checked(at=one_of("right", "left", "above", "below"))
def label(ax: Axes, text: str, x: float, y: float, *, color: str = INK, at: str = "right") -> None:
    """Write `text` beside the point (x, y): right, left, above or below it."""
    offset = {"right": (5, 0), "left": (-5, 0), "above": (0, 5), "below": (0, -5)}[at]
    ax.annotate(
        text, (x, y), xytext=offset, textcoords="offset points", color=color, fontsize=9,
        ha={"right": "left", "left": "right"}.get(at, "center"),
        va={"above": "bottom", "below": "top"}.get(at, "center"),
        annotation_clip=False,
    )  # fmt: skip


def ticks(ax: Axes, *, x: Sequence[float] | None = None, y: Sequence[float] | None = None) -> None:
    """Ticks at these numbers and no others, written out: for logarithmic axes."""
    for axis, places in ((ax.xaxis, x), (ax.yaxis, y)):
        if places is not None:
            axis.set_ticks(places, [f"{p:,}" if p >= 1 else f"{p:g}" for p in places])
            axis.set_ticks([], minor=True)


def bells(ax: Axes, mean: ArrayLike, sd: ArrayLike, color: str = MODEL) -> list[Line2D]:
    """Bell curves with these means and standard deviations, one line each.

    The frames of a film want one artist per curve: hand them to
    :func:`collapse_utils.publishing.film`.
    """
    z = np.linspace(-4.5, 4.5, 55)
    height = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    means, sds = np.atleast_1d(mean), np.atleast_1d(sd)
    return [
        ax.plot(m + z * s, height / s, color=color, linewidth=1.2)[0]
        for m, s in zip(means, sds, strict=True)
    ]


def digit_grid(
    rows: Mapping[str, ArrayLike], *, n_columns: int = 12, shape: tuple[int, int] = (8, 8)
) -> Figure:
    """A grid of small grey images, one labelled row per entry.

    `rows` maps labels to images of shape (n, height * width) with values in [0, 1], of which the
    first `n_columns` are shown; `shape` is (height, width) of one image.
    """
    tiles = [montage(images, 1, n_columns, shape=shape) for images in rows.values()]
    height = 0.62 * len(tiles) + 0.1
    fig, axes = plt.subplots(len(tiles), 1, figsize=(7.2, height), squeeze=False)
    for ax, label, tile in zip(axes[:, 0], rows, tiles, strict=True):
        ax.imshow(tile, cmap="gray_r", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    return fig


@checked(n_rows=whole(1), n_columns=whole(1))
def montage(
    images: ArrayLike, n_rows: int, n_columns: int, *, shape: tuple[int, int] = (8, 8)
) -> NDArray[np.float64]:
    """Tile images of shape (n, height * width) into one array, one white pixel apart."""
    images, (h, w) = np.asarray(images, dtype=float), shape
    need = n_rows * n_columns
    if len(images) < need or images[0].size != h * w:
        raise ValueError(
            f"images must hold at least {need} images of {h} x {w} pixels, got shape {images.shape}"
        )
    tiles = np.zeros((n_rows, h + 1, n_columns, w + 1))
    tiles[:, :h, :, :w] = images[:need].reshape(n_rows, n_columns, h, w).transpose(0, 2, 1, 3)
    return tiles.reshape(n_rows * (h + 1), n_columns * (w + 1))[:-1, :-1]
