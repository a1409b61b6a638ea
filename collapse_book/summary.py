"""The figure of a sweep: what was measured, and the verdicts, against what was varied."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
MOST_COLUMNS = 12  # of the verdict chart, up to which it has numbers in its fields
LEGEND = "purple reproduced, white unresolved, orange contradicted"
SCORES = {"reproduced": 1, "unresolved": 0, "contradicted": -1}


def draw(table: pd.DataFrame, chapter: str, varied: Sequence[str], shown: Sequence[str]) -> Figure:
    """Draw measured numbers and verdicts against the varied parameters.

    The first varied parameter is the horizontal axis and the second gives the colours; what else
    varies, seeds first of all, appears as repeated dots with a line through their means.

    Parameters
    ----------
    table : pandas.DataFrame
        Claims and numbers, at least one, as `sweep` makes it.
    chapter : str
        For the title.
    varied : sequence of str
        Parameters with more than one value, or what a single point is called by.
    shown : sequence of str
        Claims and glued numbers to draw; `choose` finds some when empty.

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib.pyplot as plt
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    from collapse_utils import figures

    figures.use_theme()
    x, hue = [*([name for name in varied if name != "seed"] or varied), None][:2]
    for name in filter(None, (x, hue)):
        if is_bool_dtype(table[name]) or not is_numeric_dtype(table[name]):
            table = table.assign(**{name: table[name].astype(str)})
    names = list(shown) or choose(table)
    claims = table[table["kind"] == "claim"]
    n_claims = claims["name"].nunique()
    heights = [2.5] * len(names) + [0.8 + 0.3 * n_claims] * (n_claims > 0)
    fig, axes = plt.subplots(
        len(heights), height_ratios=heights, figsize=(7.2, sum(heights) + 0.6), squeeze=False
    )
    for name, ax in zip(names, axes.flat, strict=False):
        _draw_result(ax, table[table["name"] == name], x, hue)
    if n_claims:
        _draw_verdicts(axes.flat[-1], claims, x)
    points = table.drop_duplicates("point")
    what = f"{len(points):,} points over {', '.join(varied)}"
    if len(points) == 1:
        what = "1 point, " + ", ".join(f"{name}={points[name].iloc[0]}" for name in varied)
    fig.suptitle(textwrap.fill(f"{chapter}: {what}", 64))
    return fig


def choose(table: pd.DataFrame) -> list[str]:
    """Results worth a panel: claims measured at one place and numbers, if any vary only those."""
    results = table[(table["kind"] == "number") | (table["points"] == 1)]
    values = results.groupby("name", sort=False)["value"].nunique()
    numbers = results.loc[results["kind"] == "number", "name"].unique()
    return list(values.index[values > 1] if (values > 1).any() else numbers)[:MOST_PANELS]


def encode(fig: Figure) -> bytes:
    """The figure as a PNG on white paper; closes it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    plt.close(fig)
    return buffer.getvalue()


def _draw_result(ax: Axes, results: pd.DataFrame, x: str, hue: str | None) -> None:
    """Points as dots, the line of their means, dashed what is expected; words as they are."""
    import seaborn as sns

    y = "value" if results["value"].notna().any() else "text"
    colours = {"hue": hue, "palette": "flare"} if hue else {}
    sns.scatterplot(results, x=x, y=y, alpha=0.6, ax=ax, **colours)
    for column, dash in {"value": "-", "law": "--"}.items():
        if not (rows := results.dropna(subset=column)).empty:
            style = {"linestyle": dash, "errorbar": None, "legend": False}
            sns.lineplot(rows, x=x, y=column, ax=ax, **colours, **style)
    for axis, column in (("x", x), ("y", y)):
        low, high = results[column].min(), results[column].max()
        if not isinstance(low, str) and 0 < 10 * low <= high:
            ax.set(**{f"{axis}scale": "log"})
    name, statement = results[["name", "statement"]].iloc[0]
    title = f"{name}: {statement}" if statement else name
    ax.set_title(textwrap.shorten(title, 80, placeholder="…"), fontsize=9)
    ax.set_ylabel("")


def _draw_verdicts(ax: Axes, claims: pd.DataFrame, x: str) -> None:
    """Claims against the varied parameter: how many of the points reproduce each."""
    import seaborn as sns

    def cells(values: pd.Series, of: Callable[[pd.Series], float | str]) -> pd.DataFrame:
        rows = claims.assign(cell=values)
        return rows.pivot_table(index="name", columns=x, values="cell", aggfunc=of)

    score = cells(claims["verdict"].map(SCORES), "mean")
    share = cells(claims["verdict"] == "reproduced", lambda good: f"{good.sum()}/{len(good)}")
    few = score.shape[1] <= MOST_COLUMNS
    style = {"cmap": "PuOr", "vmin": -1, "vmax": 1, "linewidths": 1, "cbar": False}
    sns.heatmap(score, annot=share if few else None, fmt="", ax=ax, **style)
    ax.set_title(f"claims: {LEGEND}{'; reproduced / points' * few}", fontsize=9)
    ax.set_ylabel("")
