"""A report on any model: does it collapse, how fast, which kind, and what would stop it.

Every question is answered by one comparison: the last generation with the *first model*, within
each replicate. If training on generated data did nothing, as when each generation gets fresh real
data, all generations would have the same distribution, and the mean difference would be zero
whatever is measured. A paired t interval over the replicates that leaves zero out is therefore
evidence of a change by recursion; what the first model gets wrong for good is shown apart.
"""

from __future__ import annotations

import contextlib
import html
import importlib.metadata
import io
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from . import _checks
from .loop import History
from .metrics import mean_se
from .publishing import plus_minus, show_html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

#: What is measured, in words.
MEASURES = {
    "distance": "distance to real data",
    "spread": "spread",
    "tails": "weight of the tails",
    "centre": "distance of the centre",
    "coverage": "coverage of the real data",
}
#: Kind of collapse that a resolved change stands for.
KINDS = {
    ("spread", "falls"): "loss of variance",
    ("spread", "rises"): "growth",
    ("tails", "falls"): "loss of tails",
    ("tails", "rises"): "heavier tails",
    ("centre", "rises"): "drift",
    ("coverage", "falls"): "loss of coverage",
}
COPIES = 1e-10  # relative difference below which the replicates of a run are one
LEVEL = 0.05  # chance of a false alarm in a whole report, at most


class Yardstick:
    """Measures of generated rows against real rows that no model has seen; a metric for `recurse`.

    Coordinates are first centred and scaled by the real rows. With the rows of one generation,

    - ``distance``: mean over directions of the Wasserstein-1 distance between the projections of
      generated and real rows (the sliced distance of Bonneel et al. 2015, section 3, with p = 1);
    - ``spread``: root mean square distance from the own centre; 1 for the real rows;
    - ``tails``: mean distance of the farthest 5 % of the rows from the own centre, in units of
      the own spread; 1 for the real rows. Scale has no part in it;
    - ``centre``: distance between the centres, per root coordinate, in real standard deviations;
    - ``coverage``: share of real rows with a generated row as close as their fifth real
      neighbour, or closer (Naeem et al. 2020, eq. 4);
    - ``rows``: how many rows were measured.

    - `real` (array, shape (n, ...)): Real rows kept from the models, at least 20.
    - `rng`: Chooses directions and the rows for the coverage.
    - `features`: Turns rows into numbers of shape (n, k): for text, images, tables with categories.
    - `n_directions`, `n_neighbourhoods`: Directions of the distance, and real rows of the coverage.
    """

    def __init__(
        self,
        real: ArrayLike,
        rng: np.random.Generator,
        *,
        features: Callable[[NDArray], ArrayLike] | None = None,
        n_directions: int = 32,
        n_neighbourhoods: int = 300,
    ) -> None:
        _checks.generator(rng)
        _checks.integer("n_directions", n_directions, 1)
        _checks.integer("n_neighbourhoods", n_neighbourhoods, 10)
        self._features = features
        rows = self._numbers(np.asarray(real), "real")
        if len(rows) < 20:
            raise ValueError(f"real must hold at least 20 rows, got {len(rows)}")
        self._mean, sd = rows.mean(0), rows.std(0)
        # The spread that rounding gives to a column that is constant is no scale.
        varies = (np.ptp(rows, 0) > 0) & (sd > 8 * np.finfo(float).eps * np.abs(rows).max(0))
        if not varies.any():
            raise ValueError("real must hold rows that differ, got one row many times")
        self._mean = np.where(varies, self._mean, rows[0])
        self._scale = np.where(varies, sd, 1.0)
        rows = self._standardised(rows)
        d = rows.shape[1]
        directions = rng.standard_normal((d, n_directions)) if d > 1 else np.ones((1, 1))
        self._directions = directions / np.linalg.norm(directions, axis=0)
        self._projected = rows @ self._directions
        self._spread = _spread(rows)
        self._tails = _tails(rows)
        chosen = rows[rng.permutation(len(rows))[:n_neighbourhoods]]
        self._chosen = chosen
        self._reach = np.sort(cdist(chosen, chosen), axis=1)[:, min(5, len(chosen) - 1)]

    def __call__(self, snapshot: object) -> dict[str, float]:
        """Measure the ``sample`` of a snapshot, or rows: two or more, all finite."""
        rows = np.asarray(getattr(snapshot, "sample", snapshot))
        rows = self._standardised(self._numbers(rows, "generated"))
        nearest = cdist(self._chosen, rows).min(1)
        return {
            "distance": float(_wasserstein(rows @ self._directions, self._projected).mean()),
            "spread": _spread(rows) / self._spread,
            "tails": _tails(rows) / self._tails,
            "centre": float(np.linalg.norm(rows.mean(0)) / math.sqrt(rows.shape[1])),
            "coverage": float(np.mean(nearest <= self._reach)),
            "rows": float(len(rows)),
        }

    def _numbers(self, rows: NDArray, name: str) -> Floats:
        if self._features is not None:
            rows = np.asarray(self._features(rows))
        if rows.dtype.kind not in "fiub" or rows.ndim == 0:
            raise ValueError(
                f"{name} rows must be numbers, got {rows.dtype}: give features(rows) -> numbers"
            )
        rows = rows.reshape(len(rows), -1).astype(float)
        if len(rows) < 2 or rows.shape[1] == 0 or not np.isfinite(rows).all():
            raise ValueError(
                f"{name} rows must be two or more and finite, got shape {rows.shape}"
                + ("" if np.isfinite(rows).all() else " with NaN or infinity")
            )
        return rows

    def _standardised(self, rows: Floats) -> Floats:
        if rows.shape[1] != len(self._mean):
            raise ValueError(f"rows must have {len(self._mean)} numbers, got {rows.shape[1]}")
        return (rows - self._mean) / self._scale


def _spread(rows: Floats) -> float:
    """Root mean square distance from the centre; zero where only rounding is left."""
    spread = float(np.sqrt(rows.var(0).sum()))
    return spread if spread > 8 * np.finfo(float).eps * np.abs(rows).max() else 0.0


def _tails(rows: Floats) -> float:
    """Mean distance of the farthest 5 % from the centre, over the root mean square distance."""
    spread = _spread(rows)
    if spread == 0:
        return 0.0
    radii = np.sort(np.linalg.norm(rows - rows.mean(0), axis=1)) / spread
    return float(radii[-math.ceil(len(rows) / 20) :].mean())


def _wasserstein(a: Floats, b: Floats) -> Floats:
    """Wasserstein-1 distance of each column of `a` from that of `b`: area between the CDFs."""
    values = np.concatenate([a, b])
    order = np.argsort(values, axis=0)
    steps = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    gap = np.abs(np.cumsum(steps[order], axis=0)[:-1])
    return (gap * np.diff(np.take_along_axis(values, order, 0), axis=0)).sum(0)


@dataclass(frozen=True)
class Report:
    """What `diagnose` found; `str()` says it in sentences, `show()` as a table.

    - `baseline`: Workflow that the others are compared with.
    - `generations`, `replicates`
    - `changes` (pandas.DataFrame): One row per workflow and measure: ``first_model`` (generation 1
      minus generation 0, with ``first_se``), ``change`` (last generation minus generation 1),
      ``se``, ``low``, ``high``, ``verdict`` (rises, falls, no change seen) and ``since`` (the first
      generation from which on the change is seen at every generation).
    - `speed` (pandas.DataFrame): One row per workflow: the change of the logarithm of the spread
      per generation (``rate``, ``se``, ``low``, ``high``) and ``half_life`` in generations (of
      growth: the time to double), NaN when the rate may be zero.
    - `remedies` (pandas.DataFrame): One row per workflow but the baseline: how much of the
      baseline's growth in distance is ``left`` (with ``left_se``), the paired ``difference`` with
      ``low`` and ``high``, and the ``verdict``: stops it, slows it, not told apart, makes it worse,
      nothing to stop.
    - `curves` (dict): ``curves[workflow, measure]``: array of shape (G + 1, R).
    - `calls` (dict): What was asked of `recurse`, by the name of the history.
    """

    baseline: str
    generations: int
    replicates: int
    changes: pd.DataFrame
    speed: pd.DataFrame
    remedies: pd.DataFrame
    curves: dict[tuple[str, str], Floats]
    calls: dict[str, dict[str, str]]

    def collapses(self, workflow: str | None = None) -> bool:
        """Whether the distance to the real data is seen to grow."""
        return self._verdict(workflow or self.baseline, "distance") == "rises"

    def kinds(self, workflow: str | None = None) -> list[str]:
        """Kinds of change that are seen: loss of variance, loss of tails, drift, growth ..."""
        rows = self.changes[self.changes["workflow"] == (workflow or self.baseline)]
        found = zip(rows["measure"], rows["verdict"], strict=True)
        return [KINDS[pair] for pair in found if pair in KINDS]

    def _verdict(self, workflow: str, measure: str) -> str:
        return str(self._row(workflow, measure)["verdict"])

    def _row(self, workflow: str, measure: str) -> pd.Series:
        workflow = _checks.choice("workflow", workflow, list(self.speed["workflow"]))
        rows = self.changes
        return rows[(rows["workflow"] == workflow) & (rows["measure"] == measure)].iloc[0]

    def sentences(self) -> list[str]:
        """The report in words, one finding each."""
        row = self._row(self.baseline, "distance")
        amount = plus_minus(row["change"], row["se"])
        span = f"from generation 1 to {self.generations}, over {self.replicates} replicates"
        if not self.collapses():
            first = (
                f"No collapse is seen under {self.baseline}: the distance to real data changes by "
                f"{amount} {span}; a growth of up to {max(row['high'], 0):.2g} is not excluded."
            )
        else:
            first = (
                f"Under {self.baseline} the model collapses: its distance to real data grows by "
                f"{amount} {span}, and visibly so from generation {row['since']:.0f} on."
            )
        said = [first]
        kinds = ", ".join(self.kinds())
        if self.collapses():
            said.append(f"Kind: {kinds or 'none of those that the report knows'}.")
        elif kinds:
            said.append(f"But something moves by recursion: {kinds}.")
        said += [sentence for sentence in (self._pace(), self._first_model()) if sentence]
        return said + [self._remedy(one) for _, one in self.remedies.iterrows()]

    def _pace(self) -> str:
        speed = self.speed[self.speed["workflow"] == self.baseline].iloc[0]
        if math.isnan(speed["half_life"]):
            return "The spread is not seen to change at a steady rate."
        what = "doubles" if speed["rate"] > 0 else "halves"
        return (
            f"Pace: the logarithm of the spread changes by "
            f"{plus_minus(speed['rate'], speed['se'])} per generation: the spread {what} in "
            f"{speed['half_life']:.3g} generations."
        )

    def _first_model(self) -> str:
        row = self._row(self.baseline, "distance")
        if math.isnan(row["first_model"]):
            return ""
        return (
            f"The first model alone, which saw real data only, is "
            f"{plus_minus(row['first_model'], row['first_se'])} farther from unseen real data "
            f"than its own training rows are."
        )

    def _remedy(self, row: pd.Series) -> str:
        texts = {
            "stops it": "stops it: no growth of the distance is seen there",
            "slows it": "slows it, and does not stop it",
            "makes it worse": "makes it worse",
            "not told apart": f"is not told apart from {self.baseline}",
            "nothing to stop": f"was not needed: {self.baseline} shows no collapse",
        }
        left = ""
        if not math.isnan(row["left"]):
            share = plus_minus(100 * row["left"], 100 * row["left_se"])
            left = f" ({share} % of the growth is left)"
        return f"{row['workflow']} {texts[row['verdict']]}{left}."

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def show(self) -> None:
        """Display the changes of every workflow as a table."""
        show_html(self._table(), str(self), {"kind": "report"})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML file that needs nothing else, to attach to a ticket.

        Sentences, figure, table, what was asked of `recurse` with its seed, and versions.
        """
        import matplotlib.pyplot as plt

        drawing = io.StringIO()
        figure = self.figure()
        figure.savefig(drawing, format="svg", bbox_inches="tight")
        plt.close(figure)
        picture = drawing.getvalue()
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences())
        asked = "".join(
            f"<h3>{html.escape(name)}</h3>" * bool(name) + _list(call)
            for name, call in self.calls.items()
        )
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>Does the model collapse?'
            f"</title><style>{_STYLE}</style><h1>Does the model collapse?</h1>{said}"
            f'<figure>{picture[picture.index("<svg") :]}</figure><div class="wide">'
            f"{self._table()}</div><h2>What was asked</h2>{asked}<h2>With</h2>{_list(_versions())}"
            "</html>\n"
        )
        Path(path).write_text(page, encoding="utf-8")

    def _table(self) -> str:
        titles = ("Workflow", "Measure", "First model", "By recursion", "Seen since", "Verdict")
        head = "".join(f'<th scope="col">{title}</th>' for title in titles)
        body = "".join(self._table_row(row) for _, row in self.changes.iterrows())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @staticmethod
    def _table_row(row: pd.Series) -> str:
        first = row["first_model"]
        cells = (
            MEASURES[row["measure"]],
            "" if math.isnan(first) else plus_minus(first, row["first_se"]),
            plus_minus(row["change"], row["se"]),
            "" if math.isnan(row["since"]) else f"{row['since']:.0f}",
            row["verdict"],
        )
        rest = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        return f'<tr><th scope="row">{html.escape(row["workflow"])}</th>{rest}</tr>'

    def figure(self) -> Figure:
        """Every measure over the generations: means over the replicates, ± 2 standard errors."""
        import matplotlib.pyplot as plt

        from . import figures

        workflows = list(self.speed["workflow"])
        palette = [figures.MODEL, figures.TRUTH, figures.THIRD, figures.FOURTH]
        if len(workflows) > len(palette):
            palette = figures.generation_colours(len(workflows))
        fig, axes = plt.subplots(2, 3, figsize=(7.2, 4.8), sharex=True, layout="constrained")
        for ax, (measure, words) in zip(axes.flat, MEASURES.items(), strict=False):
            for workflow, colour in zip(workflows, palette, strict=False):
                curve = self.curves[workflow, measure][1:]
                generations = np.arange(1, len(curve) + 1)
                mean, se = mean_se(curve)
                band = {"color": colour, "alpha": 0.22, "linewidth": 0}
                ax.fill_between(generations, mean - 2 * se, mean + 2 * se, **band)
                ax.plot(generations, mean, color=colour, label=workflow)
            if measure in ("spread", "tails"):
                ax.axhline(1, **figures.THEORY)
            ax.set_title(words, fontsize=9.5)
        for ax in axes[1]:
            ax.set_xlabel("generation")
        axes[0, 2].tick_params(labelbottom=True)
        axes[1, 2].set_axis_off()
        handles, labels = axes[0, 0].get_legend_handles_labels()
        axes[1, 2].legend(handles, labels, loc="center", fontsize=9)
        return fig


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}"
    "svg{max-width:100%;height:auto}figure{margin:1rem 0}.wide{overflow-x:auto}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.25rem .6rem;"
    "border-bottom:1px solid #ccc}dt{font-weight:600}dd{margin:0 0 .4rem}"
)


def _list(entries: Mapping[str, str]) -> str:
    rows = (f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in entries.items())
    return f"<dl>{''.join(rows)}</dl>"


def _versions() -> dict[str, str]:
    """Python, the system, and the packages that are loaded and may have had a part in it."""
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for name in ("collapse-utils", "numpy", "scipy", "pandas", "scikit-learn", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def diagnose(
    history: History | Mapping[str, History],
    *,
    baseline: str | None = None,
    level: float = LEVEL,
) -> Report:
    """Say whether a model collapses, how fast, in which way, and what would stop it.

    - `history` (History or dict of name -> History): Of ``recurse`` with a `Yardstick` among its
      metrics, at least two generations and three replicates. Several histories may differ in
      anything, such as the sample size; one of a single workflow goes by its name in the dict.
    - `baseline`: Workflow that the others are compared with; default the first.
    - `level`: Chance that the report of a model that recursion leaves alone names any change, at
      most. Half of it goes to the first question, whether the distance grows under the baseline;
      the other half is split evenly over all other intervals (Bonferroni).

    The intervals are Student's t over the replicates. They hold for the real rows and the
    settings of the run; replicates that share all of their real rows do not show how another
    data set would fare.
    """
    level = _checks.real("level", level, 0, 1, open_low=True, open_high=True)
    curves = _curves(history)
    workflows = list(dict.fromkeys(workflow for workflow, _ in curves))
    baseline = workflows[0] if baseline is None else baseline
    _checks.choice("baseline", baseline, workflows)
    shapes = {curve.shape for curve in curves.values()}
    if len(shapes) > 1:
        raise ValueError(f"histories must have one shape (generations, replicates), got {shapes}")
    (generations, replicates) = shapes.pop()
    generations -= 1
    if generations < 2 or replicates < 3:
        raise ValueError(
            "history must have at least 2 generations and 3 replicates, got "
            f"{generations} and {replicates}"
        )
    for workflow in workflows:
        _refuse_copies(workflow, curves[workflow, "spread"])
    # Changes, paces, and comparisons with the baseline, but the first question.
    others = len(workflows) * (len(MEASURES) + 1) + len(workflows) - 2
    first = float(stats.t.isf(level / 4, replicates - 1))
    width = float(stats.t.isf(level / (4 * others), replicates - 1))
    changes = pd.DataFrame(
        [
            {"workflow": workflow, "measure": measure}
            | _change(
                curves[workflow, measure],
                curves[workflow, "rows"],
                first if (workflow, measure) == (baseline, "distance") else width,
            )
            for workflow in workflows
            for measure in MEASURES
        ]
    )
    speed = pd.DataFrame(
        [{"workflow": name} | _speed(curves[name, "spread"], width) for name in workflows]
    )
    verdicts = changes[changes["measure"] == "distance"].set_index("workflow")["verdict"]
    remedies = pd.DataFrame(
        [
            {"workflow": name}
            | _remedy(curves[name, "distance"], curves[baseline, "distance"], width)
            for name in workflows
            if name != baseline
        ],
        columns=["workflow", "left", "left_se", "difference", "se", "low", "high"],
    )
    if verdicts[baseline] != "rises":  # a share of nothing
        remedies[["left", "left_se"]] = math.nan
    remedies["verdict"] = [
        _remedy_verdict(row, verdicts[baseline], verdicts[row["workflow"]])
        for _, row in remedies.iterrows()
    ]
    histories = history if isinstance(history, Mapping) else {"": history}
    calls = {name: one.call for name, one in histories.items()}
    return Report(baseline, generations, replicates, changes, speed, remedies, curves, calls)


def _curves(history: History | Mapping[str, History]) -> dict[tuple[str, str], Floats]:
    histories = history if isinstance(history, Mapping) else {"": history}
    curves: dict[tuple[str, str], Floats] = {}
    for label, one in histories.items():
        names = list(one.frame["workflow"].unique())
        for name in names:
            shown = label if label and len(names) == 1 else f"{label}: {name}" if label else name
            for measure in (*MEASURES, "rows"):
                if measure not in set(one.frame["metric"]):
                    raise ValueError(
                        f"history lacks {measure!r}: give recurse metrics={{'yardstick': "
                        "Yardstick(real_rows, rng)}"
                    )
                curves[shown, measure] = one.array(measure, name)
    return curves


def _refuse_copies(workflow: str, spread: Floats) -> None:
    """Replicates whose spread moves alike to rounding had the same random numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pace = spread[2:] / spread[1]
    moves = (pace > 0) & np.isfinite(pace) & (np.abs(pace - 1) > COPIES)
    alike = np.ptp(pace, axis=1) <= COPIES * np.abs(pace).max(1)
    if (moves.all(1) & alike).any():
        raise ValueError(
            f"history must hold independent replicates, but under {workflow} the spread of all "
            f"{spread.shape[1]} moves alike to rounding: the model draws the same random numbers "
            "in each. It must take them from the rng (or random_state) that fit and sample are "
            "given, not from a generator of its own or a global seed"
        )


def _change(curve: Floats, rows: Floats, width: float) -> dict[str, object]:
    differences = curve[2:] - curve[1]
    means, ses = mean_se(differences)
    low, high = means - width * ses, means + width * ses
    signs = np.where(low > 0, 1, np.where(high < 0, -1, 0))
    sign = int(signs[-1])
    seen = signs == sign
    since = math.nan
    if sign:
        unseen = np.flatnonzero(~seen)
        since = float(2 + (unseen[-1] + 1 if len(unseen) else 0))
    first = curve[1] - curve[0] if (rows[0] == rows[1]).all() else np.full(len(curve[0]), np.nan)
    first_model, first_se = mean_se(first)
    return {
        "first_model": first_model,
        "first_se": first_se,
        "change": float(means[-1]),
        "se": float(ses[-1]),
        "low": float(low[-1]),
        "high": float(high[-1]),
        "verdict": {1: "rises", -1: "falls", 0: "no change seen"}[sign],
        "since": since,
    }


def _speed(spread: Floats, width: float) -> dict[str, float]:
    """Least-squares slope of the log spread of each replicate, over generations 1 .. G."""
    alive = (spread > 0).all(1)
    last = len(spread) if alive.all() else int(np.argmin(alive))
    if last < 3:
        return dict.fromkeys(("rate", "se", "low", "high", "half_life"), math.nan)
    logs = np.log(spread[1:last])
    time = np.arange(len(logs)) - (len(logs) - 1) / 2
    rate, se = mean_se(time @ logs / (time @ time))
    low, high = rate - width * se, rate + width * se
    half_life = math.log(2) / abs(rate) if low > 0 or high < 0 else math.nan
    return {"rate": rate, "se": se, "low": low, "high": high, "half_life": half_life}


def _remedy(curve: Floats, base: Floats, width: float) -> dict[str, float]:
    here, there = curve[-1] - curve[1], base[-1] - base[1]
    difference, se = mean_se(here - there)
    n = len(here)
    # Jackknife over the replicates: a ratio of means, whose parts share real rows.
    left_out = (here.sum() - here) / (there.sum() - there)
    return {
        "left": float(here.mean() / there.mean()),
        "left_se": math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()),
        "difference": difference,
        "se": se,
        "low": difference - width * se,
        "high": difference + width * se,
    }


def _remedy_verdict(row: pd.Series, baseline: str, workflow: str) -> str:
    if baseline != "rises":
        return "nothing to stop"
    if row["low"] > 0:
        return "makes it worse"
    if row["high"] >= 0:
        return "not told apart"
    return "slows it" if workflow == "rises" else "stops it"
