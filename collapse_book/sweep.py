"""Sweeps: one chapter over a grid of parameters; a table and a figure of what all points found."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from collapse_book.cache import Store
from collapse_book.execute import Options
from collapse_book.gate import claims_of, collapse_data, glue_key, glued_text, outputs_of
from collapse_book.messages import BadInput, BuildFailed, counted, say
from collapse_book.notebooks import Notebook, chapter_parameters
from collapse_book.press import Run, Runs
from collapse_book.project import Project
from collapse_book.scenarios import Grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns beside the parameters of the chapter, whose names must differ.
NUMBERS = ("value", "se", "law", "rival", "noticed", "points")
TEXTS = (
    *("kind", "name", "at", "text"),
    *("verdict", "expect", "status", "statement", "source", "test"),
)
MOST_PANELS = 6
MOST_COLUMNS = 12  # of the verdict chart, up to which it has numbers in its fields
LEGEND = "purple reproduced, white unresolved, orange contradicted"
SCORES = {"reproduced": 1, "unresolved": 0, "contradicted": -1}


def run_sweep(
    project: Project,
    chapter: str,
    grid: Grid,
    out: str,
    options: Options,
    shown: Sequence[str],
) -> None:
    """Run the points of a grid that have not finished; then write the table and the figure.

    Below ``out``: the executed notebooks as in every `Store`, and ``CHAPTER.parquet``,
    ``CHAPTER.csv`` and ``CHAPTER.png``.

    Raises
    ------
    BadInput
        Before any work: ``out`` cannot be used, or a parameter has the name of a column.
    BuildFailed
        After all points have run, if one failed; the message has a line for each.
    """
    for parameter in chapter_parameters(project, chapter):
        if parameter.name in ("point", *NUMBERS, *TEXTS):
            raise BadInput(
                f"parameter {parameter.name!r} of {chapter} has the name of a column of the "
                "table: rename it"
            )
    if find_spec("pyarrow") is None:
        raise BadInput("a sweep writes parquet and needs pyarrow: pip install pyarrow")
    store = Store(out)
    points = {f"{chapter} with {grid.label(point)}": point for point in grid.points}
    runs = Runs(project, store, [Run(name, chapter, point) for name, point in points.items()])
    looked = False

    def look(notebook: Notebook) -> None:
        """Stop at the first point, not at the last, if there is no such result to show."""
        nonlocal looked
        if not looked and (wrong := not_there(result_rows(notebook))):
            raise BuildFailed(f"{wrong} (what has finished is kept)")
        looked = True

    def not_there(rows: Iterable[Mapping[str, Any]]) -> str:
        there = list(dict.fromkeys(row["name"] for row in rows))
        wrong = [repr(name) for name in shown if name not in there]
        known = ", ".join(there) or "none"
        return f"--show {', '.join(wrong)}: no such result; {chapter} has {known}" * bool(wrong)

    with store.lock():
        failures = runs.execute(list(points), options, look)
        table = _table(runs, points, failures)
        store.write(f"{chapter}.parquet", table.to_parquet(index=False))
        store.write(f"{chapter}.csv", table.to_csv(index=False).encode())
        done = counted(len(points) - len(failures), "point")
        say(f"table: {store.place(chapter)}.parquet and .csv, {done}")
        results = table[table["kind"].isin(("claim", "number"))]
        if wrong := not_there(results.to_dict("records")):
            failures["--show"] = wrong
        elif results.empty:
            say("no figure: there is no claim and no number")
        else:
            store.write(f"{chapter}.png", encode(draw(results, chapter, grid.varied, shown)))
            say(f"figure: {store.place(chapter)}.png")
    if failures:
        raise BuildFailed("\n".join(failures.values()))


def _table(
    runs: Runs, points: Mapping[str, Mapping[str, Any]], failures: Mapping[str, str]
) -> pd.DataFrame:
    """All points in one table, in the order of the grid; a failed one has one row."""
    rows: list[dict[str, Any]] = []
    for name, point in points.items():
        notebook = None if name in failures else runs.raw(name)
        if notebook is None:
            found = [{"kind": "failure", "name": "error", "text": failures.get(name, "not run")}]
        else:
            seconds = notebook["metadata"]["collapse_book"]["seconds"]
            found = result_rows(notebook)
            found.append({"kind": "run", "name": "seconds", "value": seconds})
        rows += [{"point": runs.key(name), **point, **row} for row in found]
    return frame(rows)


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: parameters first, NaN where there is no number, "" where no text."""
    import pandas as pd

    table = pd.DataFrame(rows)
    parameters = [name for name in table.columns if name not in ("point", *NUMBERS, *TEXTS)]
    table = table.reindex(columns=["point", *parameters, *TEXTS[:3], *NUMBERS, *TEXTS[3:]])
    for name in TEXTS:
        table[name] = [text if isinstance(text, str) else "" for text in table[name]]
    return table.astype(dict.fromkeys(NUMBERS, float))


def result_rows(notebook: Notebook) -> list[dict[str, Any]]:
    """A row for each claim and each glued value of an executed notebook.

    Claims and glued numbers carry their numbers in full precision; ``text`` is what the page
    shows. A glued text that is no number has none.
    """
    rows = [_claim_row(claim) for claim in claims_of(notebook)]
    for _, _, output in outputs_of(notebook):
        if (key := glue_key(output)) is not None:
            number = {name: collapse_data(output).get(name) for name in ("value", "se")}
            rows.append({"kind": "number", "name": key, "text": glued_text(output), **number})
    return rows


def _claim_row(claim: Mapping[str, Any]) -> dict[str, Any]:
    strained = claim["strained"]
    return {
        **{name: strained[name] for name in ("at", *NUMBERS[:-1])},
        **{name: claim[name] for name in ("points", *TEXTS[4:])},
        "kind": "claim",
        "name": claim["id"],
        "text": claim["measured"],
        "expect": claim["expect"] or "",
    }


# ---------------------------------------------------------------- the figure


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
