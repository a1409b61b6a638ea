"""The figure of a sweep: what was measured, and the verdicts, against what was varied."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
MOST_COLUMNS = 12  # of the verdict chart, up to which it has numbers in its fields
TITLE_WIDTH = 64  # characters
SCORES = {"reproduced": 1.0, "unresolved": 0.0, "contradicted": -1.0}


def draw(table: pd.DataFrame, chapter: str, varied: Sequence[str], shown: Sequence[str]) -> Figure:
    """Draw measured numbers and verdicts against the varied parameters.

    The first varied parameter is the horizontal axis and the second gives the colours; what
    else varies, seeds first of all, appears as repeated dots with a line through their means.

    Parameters
    ----------
    table : pandas.DataFrame
        As `sweep.Sweep.table` makes it.
    chapter : str
        For the title.
    varied : sequence of str
        Parameters with more than one value, or what a single point is called by.
    shown : sequence of str
        Claims and glued numbers to draw; `choose` finds some when empty.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    import matplotlib.pyplot as plt

    from collapse_utils import figures

    names = list(shown) or choose(table)
    claims = table[table["kind"] == "claim"]
    if not names and claims.empty:
        raise ValueError("the points have neither claims nor numbers")
    figures.use_theme()
    real = [name for name in varied if name != "seed"] or list(varied)
    x, hue = real[0], next((name for name in real[1:] if len(set(table[name])) > 1), None)
    columns = min(3, max(1, len(names)))
    rows = -(-len(names) // columns)
    n_claims = claims["name"].nunique()
    heights = [2.7] * rows + ([0.7 + 0.3 * n_claims] if n_claims else [])
    fig = plt.figure(figsize=(max(7.2, 3.6 * columns), sum(heights) + 0.5), facecolor="white")
    spec = fig.add_gridspec(len(heights), columns, height_ratios=heights)
    for i, name in enumerate(names):
        ax = fig.add_subplot(spec[i // columns, i % columns])
        _panel(ax, table[(table["name"] == name) & (table["kind"] != "run")], x, hue, name)
    if n_claims:
        _verdicts(fig.add_subplot(spec[-1, :]), claims, x)
    fig.suptitle(_title(table, chapter, varied))
    if names:
        fig.supxlabel("dots: points; lines: their means; dashed: what is expected", fontsize=9)
    return fig


def _title(table: pd.DataFrame, chapter: str, varied: Sequence[str]) -> str:
    points = table["point"].nunique()
    if points == 1:
        what = "1 point, " + ", ".join(f"{name}={table[name].iloc[0]}" for name in varied)
    else:
        what = f"{points:,} points over {', '.join(varied)}"
    return textwrap.fill(f"{chapter}: {what}", TITLE_WIDTH)


def encode(fig: Figure) -> bytes:
    """The figure as a PNG on white paper; closes it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()


def choose(table: pd.DataFrame) -> list[str]:
    """Results worth a panel: claims measured at one place, then numbers that vary."""
    chosen: list[str] = []
    for kind in ("claim", "number"):
        rows = table[table["kind"] == kind]
        for name, group in rows.groupby("name", sort=False):
            one_place = kind == "number" or (group["points"] == 1).all()
            values = group["value"]
            if one_place and values.notna().all() and (values != values.iloc[0]).any():
                chosen.append(str(name))
    return chosen[:MOST_PANELS]


def _panel(ax: Axes, rows: pd.DataFrame, x: str, hue: str | None, name: str) -> None:
    from collapse_utils import figures

    ax.set(xlabel=x, title=name)
    text = "".join(rows["text"].iloc[:1])
    rows = rows[rows["value"].notna()]
    if rows.empty:
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, f"no number: {_short(text, 30)}", ha="center", transform=ax.transAxes)
        return
    places, ticks = _axis(rows[x])
    rows = rows.assign(_x=rows[x].map(places))
    groups = [("", rows)] if hue is None else list(rows.groupby(hue))
    few = [figures.MODEL, figures.TRUTH, figures.THIRD, figures.FOURTH]
    colours = few if len(groups) <= len(few) else figures.generation_colours(len(groups))
    for (value, group), colour in zip(groups, colours, strict=False):
        label = None if hue is None else f"{hue} = {value}"
        alone = group["_x"].is_unique
        ax.errorbar(
            group["_x"], group["value"], yerr=group["se"].fillna(0) if alone else None,
            fmt="o", markersize=4 if alone else 3, alpha=1 if alone else 0.4, color=colour,
            linewidth=1, markeredgewidth=0,
        )  # fmt: skip
        means = group.groupby("_x")["value"].mean()
        ax.plot(means.index, means, color=colour, label=label)
        law = group.groupby("_x")["law"].mean().dropna()
        if not law.empty:
            ax.plot(law.index, law, **figures.THEORY)
    statement = rows["statement"].iloc[0]
    if statement:
        ax.set_title(f"{name}: {_short(statement, 36)}", fontsize=9)
    _set_axis(ax, ticks)
    if hue is not None:
        ax.legend(fontsize=8)


def _verdicts(ax: Axes, claims: pd.DataFrame, x: str) -> None:
    """Claims against the varied parameter: how many of the points reproduce each."""
    from matplotlib.colors import LinearSegmentedColormap

    from collapse_utils import figures

    names = list(dict.fromkeys(claims["name"]))
    values = sorted(claims[x].unique())
    score = np.full((len(names), len(values)), np.nan)
    text = np.full(score.shape, "", dtype=object)
    for (name, value), group in claims.groupby(["name", x]):
        cell = names.index(name), values.index(value)
        score[cell] = group["verdict"].map(SCORES).mean()
        text[cell] = f"{(group['verdict'] == 'reproduced').sum()}/{len(group)}"
    scale = LinearSegmentedColormap.from_list(
        "verdicts", [figures.MODEL, figures.GRID, figures.THIRD]
    )
    ax.imshow(score, cmap=scale, vmin=-1, vmax=1, aspect="auto")
    ax.grid(False)
    ax.set_yticks(range(len(names)), names)
    for edge in range(1, len(names)):
        ax.axhline(edge - 0.5, color="white", linewidth=1)
    for edge in range(1, len(values)):
        ax.axvline(edge - 0.5, color="white", linewidth=1)
    step = -(-len(values) // MOST_COLUMNS)
    ax.set_xticks(range(0, len(values), step), [f"{value}" for value in values[::step]])
    ax.set(xlabel=x)
    ax.set_title(
        "claims: green reproduced, grey unresolved, orange contradicted"
        + ("; reproduced / points" if len(values) <= MOST_COLUMNS else ""),
        fontsize=9,
    )
    if len(values) <= MOST_COLUMNS:
        for (i, j), label in np.ndenumerate(text):
            ax.text(j, i, label, ha="center", va="center", fontsize=8, color=figures.INK)


def _axis(column: pd.Series) -> tuple[dict[Any, float], list[str] | None]:
    """Where each value goes on the axis; names of the ticks if the values are not numbers."""
    values = sorted(column.unique())
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, (bool, np.bool_))
           for v in values):  # fmt: skip
        return {value: float(value) for value in values}, None
    return {value: float(i) for i, value in enumerate(values)}, [str(value) for value in values]


def _set_axis(ax: Axes, ticks: list[str] | None) -> None:
    if ticks is not None:
        ax.set_xticks(range(len(ticks)), ticks)
        return
    low, high = ax.dataLim.intervalx
    if low == high:
        ax.set_xticks([low], [f"{low:g}"])
    elif low > 0 and high / low >= 10:
        ax.set_xscale("log")
        values = sorted({x for line in ax.lines for x in line.get_xdata()})
        step = -(-len(values) // 6)
        ax.set_xticks(values[::step], [f"{value:g}" for value in values[::step]])
        ax.minorticks_off()
    low, high = ax.dataLim.intervaly
    if low > 0 and high / low > 100:
        ax.set_yscale("log")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
