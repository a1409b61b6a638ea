"""Sweeps: one chapter over a grid of parameters, and one table of what all points found."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from collapse_book.cache import Store
from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.execute import Options
from collapse_book.gate import GLUE_PREFIX, claims_of, collapse_data, glue_key, outputs_of
from collapse_book.notebooks import Notebook, chapter_parameters, joined
from collapse_book.press import Run, Runs
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.scenarios import Grid

if TYPE_CHECKING:
    import pandas as pd

#: Columns beside the parameters of the chapter, whose names must differ.
NUMBERS = ("value", "se", "law", "rival", "noticed", "points")
TEXTS = (
    *("kind", "name", "at", "text"),
    *("verdict", "expect", "status", "statement", "source", "test"),
)


def run_sweep(
    project: Project,
    chapter: str,
    grid: Grid,
    out: str,
    options: Options,
    shown: Sequence[str],
    report: Report,
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
        failures = runs.execute(list(points), options, report, look)
        table = _table(runs, points, failures)
        store.write(f"{chapter}.parquet", table.to_parquet(index=False))
        store.write(f"{chapter}.csv", table.to_csv(index=False).encode())
        done = counted(len(points) - len(failures), "point")
        report.line(f"table: {store.place(chapter)}.parquet and .csv, {done}")
        results = table[table["kind"].isin(("claim", "number"))]
        if wrong := not_there(results.to_dict("records")):
            failures["--show"] = wrong
        elif results.empty:
            report.line("no figure: there is no claim and no number")
        else:
            from collapse_book.summary import draw, encode

            store.write(f"{chapter}.png", encode(draw(results, chapter, grid.varied, shown)))
            report.line(f"figure: {store.place(chapter)}.png")
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
            text = ast.literal_eval(joined(output["data"][f"{GLUE_PREFIX}text/plain"]))
            number = collapse_data(output)
            rows.append(
                {"kind": "number", "name": key, "text": text,
                 "value": number.get("value"), "se": number.get("se")}
            )  # fmt: skip
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
