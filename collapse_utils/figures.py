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
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from . import _checks
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
#: Colours of curves in order, and the ways to draw replicates.
CYCLE = (MODEL, THIRD, FOURTH, TRUTH, INK)
HOWS = ("band", "dots", "ribbon", "lines")
#: Points between the names at the ends of two curves.
_GAP = 11
#: Names at the ends of curves, by axes: end, colour and text.
_NAMED: WeakKeyDictionary[Axes, dict[str, tuple]] = WeakKeyDictionary()

_GENERATIONS = ListedColormap(mpl.colormaps["viridis"](np.linspace(0.3, 0.75, 256)))


def use_theme() -> None:
    """Set the book's theme; call it once in the set-up cell of a chapter."""
    sns.set_theme(
        style="whitegrid",
        palette=[MODEL, TRUTH, THIRD, FOURTH],
        rc={
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "figure.figsize": (7.2, 3.8),
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "font.size": 10.5,
            "grid.color": GRID,
            "grid.linewidth": 0.7,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "svg.hashsalt": "collapse",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        },
    )


def generation_colours(n: int) -> list[str]:
    """`n` colours from early to late (viridis without what fades on dark or on light paper)."""
    n = _checks.integer("n", n, 1)
    return [to_hex(c) for c in _GENERATIONS(np.linspace(0, 1, n))]


def panels(
    *titles: str,
    rows: int = 1,
    size: tuple[float, float] | None = None,
    sharex: bool = False,
    sharey: bool = False,
    **axes: Any,
) -> tuple[Figure, Any]:
    """A figure with one panel per title, or with one panel that needs none.

    - `titles`
    - `rows`: Rows over which the panels are spread.
    - `size` (tuple of float): Inches; default one column of text for one panel or two, a little
      more for three.
    - `sharex`, `sharey`
    - `axes`: Given to every panel, such as ``xlabel="generation"`` or ``yscale="log"``. A shared
      label stands at the outer panels only.

    Returns Figure, and its axes (one, or an array in reading order).
    """
    titles = titles or ("",)
    columns = -(-len(titles) // _checks.integer("rows", rows, 1, len(titles)))
    size = size or (7.2 + 0.3 * (columns > 2), 3.6 if rows == 1 else 2.7 * rows)
    fig, grid = plt.subplots(
        rows, columns, figsize=size, sharex=sharex, sharey=sharey, squeeze=False
    )
    for ax, title in zip(grid.flat, titles, strict=False):
        ax.set(title=title, **axes)
    for ax in grid.flat[len(titles) :]:
        ax.set_axis_off()
    for k, ax in enumerate(grid.flat[: len(titles)]):
        if sharey and k % columns:
            ax.set_ylabel("")
        if sharex and k + columns < len(titles):
            ax.set_xlabel("")
        ax.tick_params(labelbottom=not sharex or k + columns >= len(titles))
    return fig, grid[0, 0] if len(titles) == 1 else grid.flat[: len(titles)]


def ribbon(
    ax: mpl.axes.Axes,
    generations: ArrayLike,
    values: ArrayLike,
    *,
    color: str = MODEL,
    label: str | None = None,
    quantiles: tuple[float, float] = (0.1, 0.9),
    centre: str = "median",
) -> None:
    """Draw the centre of the replicates and a band that holds most of them.

    `values` has shape (G, R), one column per replicate; `quantiles` are the edges of the band, and
    `centre` is "median" or "mean".
    """
    values = np.asarray(values, dtype=float)
    _checks.choice("centre", centre, ("median", "mean"))
    low, high = np.quantile(values, quantiles, axis=1)
    middle = np.median(values, axis=1) if centre == "median" else values.mean(axis=1)
    ax.fill_between(generations, low, high, color=color, alpha=0.22, linewidth=0)
    ax.plot(generations, middle, color=color, label=label)


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

    - `ax` (matplotlib axes)
    - `runs` (dict of name -> array, shape (points, replicates) or (points,)): A row of numbers is
      drawn as one line.
    - `laws` (dict of name -> array, shape (points,), or pair of arrays (x, law)): Expected values.
      A law without runs of that name has a colour of its own.
    - `x` (array, or dict of name -> array): Where the points are; default 0, 1, 2, ...
    - `how` ({"band", "dots", "ribbon", "lines"}): Mean ± 2 s.e. as a band or as dots with bars; the
      median with the middle 80 % of the replicates; or every replicate.
    - `colours` (sequence, or dict of name -> colour): Default: the book's colours; early to late
      where there are more curves than colours.
    - `names` ({"ends", "legend", "none"}): Where the curves are named.
    - `axes`: Given to ``ax.set`` before the names are placed.
    """
    _checks.choice("how", how, HOWS)
    _checks.choice("names", names, ("ends", "legend", "none"))
    laws = laws or {}
    every = list(dict.fromkeys([*runs, *laws]))
    if not every:
        raise ValueError("runs or laws must name at least one curve, got none")
    if colours is None:
        colours = CYCLE if len(every) <= len(CYCLE) else generation_colours(len(every))
    palette = colours if isinstance(colours, Mapping) else dict(zip(every, colours, strict=False))
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
        ribbon(ax, x, values, color=color, label=name)
        return float(np.median(values[-1]))
    middle, se = mean_se(values)
    if how == "dots":
        ax.errorbar(
            x, middle, 2 * se, fmt="o", color=color, markersize=4.5, linewidth=1.2, label=name
        )
    else:
        ax.fill_between(x, middle - 2 * se, middle + 2 * se, color=color, alpha=0.22, linewidth=0)
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

    - `ax` (matplotlib axes)
    - `history` (History)
    - `metric`
    - `law` (dict of workflow -> array, shape (generations + 1,))
    - `axes`: Given to ``ax.set``.
    """
    frame = history.frame[history.frame["metric"] == metric]
    if frame.empty:
        known = ", ".join(map(str, history.frame["metric"].unique()))
        raise ValueError(f"metric must be one of {known}, got {metric!r}")
    workflows = list(frame["workflow"].unique())
    palette = dict(zip(workflows, CYCLE, strict=False))
    if len(workflows) > len(CYCLE):
        palette = dict(zip(workflows, generation_colours(len(workflows)), strict=True))
    sns.lineplot(
        frame, x="generation", y="value", hue="workflow", palette=palette, ax=ax,
        estimator="median", errorbar=("pi", 80), err_kws={"linewidth": 0}, legend=False,
    )  # fmt: skip
    last = frame[frame["generation"] == frame["generation"].max()]
    medians = last.groupby("workflow")["value"].median()
    for values in (law or {}).values():
        ax.plot(np.arange(len(values)), values, **THEORY, zorder=2.5)
    ax.set(**{"ylabel": metric} | axes)
    end = frame["generation"].max()
    _name_ends(ax, {name: (end, medians[name]) for name in workflows}, palette)


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


def label(ax: Axes, text: str, x: float, y: float, *, color: str = INK, at: str = "right") -> None:
    """Write `text` beside the point (x, y): right, left, above or below it."""
    _checks.choice("at", at, ("right", "left", "above", "below"))
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
    z = np.linspace(-3.5, 3.5, 33)
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
    if not rows:
        raise ValueError("rows must name at least one row of images, got an empty dict")
    tiles = [montage(images, 1, n_columns, shape=shape) for images in rows.values()]
    height = 0.62 * len(tiles) + 0.1
    fig, axes = plt.subplots(len(tiles), 1, figsize=(7.2, height), squeeze=False)
    for ax, label, tile in zip(axes[:, 0], rows, tiles, strict=True):
        ax.imshow(tile, cmap="gray_r", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center")
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
    return fig


def montage(
    images: ArrayLike, n_rows: int, n_columns: int, *, shape: tuple[int, int] = (8, 8), gap: int = 1
) -> NDArray[np.float64]:
    """Tile images of shape (n, height * width) into one array, `gap` white pixels apart."""
    images = np.asarray(images, dtype=float)
    n_rows = _checks.integer("n_rows", n_rows, 1)
    n_columns = _checks.integer("n_columns", n_columns, 1)
    gap = _checks.integer("gap", gap, 0)
    need = n_rows * n_columns
    if len(images) < need or images[0].size != shape[0] * shape[1]:
        raise ValueError(
            f"images must hold at least {need} images of {shape[0]} x {shape[1]} pixels, "
            f"got shape {images.shape}"
        )
    h, w = shape
    tiles = np.zeros((n_rows, h + gap, n_columns, w + gap))
    tiles[:, :h, :, :w] = images[:need].reshape(n_rows, n_columns, h, w).transpose(0, 2, 1, 3)
    sheet = tiles.reshape(n_rows * (h + gap), n_columns * (w + gap))
    return sheet[: len(sheet) - gap, : sheet.shape[1] - gap]
