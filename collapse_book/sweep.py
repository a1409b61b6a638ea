"""Sweeps: one chapter over a grid of parameters; a table and a figure of what all points found."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from collapse_book import gate
from collapse_book.cache import Store
from collapse_book.execute import Options
from collapse_book.messages import BadInput, BuildFailed, counted, say
from collapse_book.notebooks import Notebook, chapter_parameters
from collapse_book.press import Run, Runs
from collapse_book.project import Project
from collapse_book.scenarios import Grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Columns beside the parameters of the chapter, whose names must differ.
NUMBERS = ("value", "se", "law", "rival", "noticed", "points")
TEXTS = (
    *("kind", "name", "at", "text"),
    *("verdict", "expect", "status", "statement", "source", "test"),
)
MOST_PANELS = 6


def run_sweep(
    project: Project, chapter: str, grid: Grid, out: str, options: Options, shown: Sequence[str]
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
    store = Store(out)
    points = {f"{chapter} with {grid.label(point)}": point for point in grid.points}
    runs = Runs(project, store, [Run(name, chapter, point) for name, point in points.items()])
    with store.lock():
        failures = runs.execute(list(points), options)
        table = _table(runs, points, failures)
        store.write(f"{chapter}.parquet", table.to_parquet(index=False))
        store.write(f"{chapter}.csv", table.to_csv(index=False).encode())
        done = counted(len(points) - len(failures), "point")
        say(f"table: {store.place(chapter)}.parquet and .csv, {done}")
        numbers = table[table["kind"].isin(("claim", "number"))].dropna(subset="value")
        names = dict.fromkeys(numbers["name"])
        if wrong := [repr(name) for name in shown if name not in names]:
            known = f"{chapter} measures {', '.join(names) or 'nothing'}"
            failures["--show"] = f"--show {', '.join(wrong)}: no such number; {known}"
        elif numbers.empty:
            say("no figure: there is no number")
        else:
            store.write(f"{chapter}.png", encode(draw(numbers, chapter, grid.varied, shown)))
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
    rows = [_claim_row(claim) for claim in gate.claims_of(notebook)]
    for _, _, output in gate.outputs_of(notebook):
        if (key := gate.glue_key(output)) is not None:
            number = {name: gate.collapse_data(output).get(name) for name in ("value", "se")}
            rows.append({"kind": "number", "name": key, "text": gate.glued_text(output), **number})
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
    """Draw what was measured against the varied parameters, and dashed what is expected.

    The first varied parameter is the horizontal axis and the second gives the colours; what else
    varies, seeds first of all, appears as repeated dots with a line through their means.

    Parameters
    ----------
    table : pandas.DataFrame
        Claims and numbers with a value, at least one, as `run_sweep` makes it.
    chapter : str
        For the title.
    varied : sequence of str
        Parameters with more than one value, or what a single point is called by.
    shown : sequence of str
        Claims and glued numbers to draw; `choose` finds some when empty.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    from collapse_utils import figures

    figures.use_theme()
    x, hue = [*([name for name in varied if name != "seed"] or varied), None][:2]
    names = list(shown) or choose(table)
    table = table[table["name"].isin(names)]
    for name in filter(None, (x, hue)):
        if is_bool_dtype(table[name]) or not is_numeric_dtype(table[name]):
            table = table.assign(**{name: table[name].astype(str)})
    colours = {"hue": hue, "palette": "flare"} if hue else {}
    size = {"height": 2.5, "aspect": 3, "facet_kws": {"sharey": False}}
    plt.rcParams["figure.constrained_layout.use"] = False  # seaborn has its own
    grid = sns.relplot(table, x=x, y="value", row="name", row_order=names, **colours, **size)
    for column, dash in {"value": "-", "law": "--"}.items():
        line = {"linestyle": dash, "errorbar": None, "legend": False}
        grid.map_dataframe(sns.lineplot, x=x, y=column, **colours, **line)
    for name, ax in grid.axes_dict.items():
        statement = table.loc[table["name"] == name, "statement"].iloc[0]
        ax.set_title(textwrap.shorten(f"{name}: {statement}".removesuffix(": "), 80))
        ax.set_ylabel("")
        for axis, (low, high) in {"x": ax.dataLim.intervalx, "y": ax.dataLim.intervaly}.items():
            if 0 < 10 * low <= high:
                ax.set(**{f"{axis}scale": "log"})
    grid.figure.suptitle(f"{chapter} over {', '.join(varied)}", y=1.02)
    return grid.figure


def choose(table: pd.DataFrame) -> list[str]:
    """Results worth a panel: claims measured at one place and numbers, if any vary only those."""
    results = table[(table["kind"] == "number") | (table["points"] == 1)]
    values = (results if len(results) else table).groupby("name", sort=False)["value"].nunique()
    return list(values.index[values > 1] if (values > 1).any() else values.index)[:MOST_PANELS]


def encode(fig: Figure) -> bytes:
    """The figure as a PNG on white paper; closes it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=130, facecolor="white", bbox_inches="tight")
    plt.close(fig)
    return buffer.getvalue()
