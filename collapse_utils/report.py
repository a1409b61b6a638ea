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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import _checks, _tables
from .loop import History, _written
from .metrics import mean_se, t_interval
from .publishing import plus_minus, show_html
from .yardstick import losses

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
#: And of tables, where they apply.
_OF_TABLES = {
    "categories": "real categories left",
    "pairs": "real pairs of categories left",
    "missing": "missing values",
}
_WORDS = MEASURES | _OF_TABLES
#: Kind of collapse that a resolved change stands for.
_KINDS = {
    ("spread", "falls"): "loss of variance",
    ("spread", "rises"): "growth",
    ("tails", "falls"): "loss of tails",
    ("tails", "rises"): "heavier tails",
    ("centre", "rises"): "drift",
    ("coverage", "falls"): "loss of coverage",
    ("categories", "falls"): "loss of categories",
    ("pairs", "falls"): "loss of combinations",
    ("missing", "falls"): "fewer missing values",
    ("missing", "rises"): "more missing values",
}
_TRIAL, _SURE = 100, 5  # most rows of a look for copies, and standard errors that find some


@dataclass(frozen=True)
class Report:
    """What `diagnose` found; `str()` says it in sentences, `show()` as a table.

    - `baseline`: Workflow that the others are compared with.
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
    - `losses` (pandas.DataFrame): Of tables whose rows were kept (``keep_samples``): one row per
      workflow and category, pair or column with missing values (``kind``, ``name``), with its mean
      share of the rows of the ``first`` and ``last`` generation, and ``lost``, the number of
      replicates in which the first model wrote it and the last one did not.
    - `curves` (dict): ``curves[workflow, measure]``: array of shape (G + 1, R).
    - `calls` (dict): What was asked of `recurse`, by the name of the history.
    """

    baseline: str
    generations: int
    replicates: int
    changes: pd.DataFrame
    speed: pd.DataFrame
    remedies: pd.DataFrame
    losses: pd.DataFrame
    curves: dict[tuple[str, str], Floats]
    calls: dict[str, dict[str, str]]

    def collapses(self, workflow: str | None = None) -> bool:
        """Whether the distance to the real data is seen to grow."""
        return self._measures(workflow).loc["distance", "verdict"] == "rises"

    def kinds(self, workflow: str | None = None) -> list[str]:
        """Kinds of change that are seen: loss of variance, loss of tails, drift, growth ..."""
        verdicts = self._measures(workflow)["verdict"]
        return [_KINDS[pair] for pair in verdicts.items() if pair in _KINDS]

    def _measures(self, workflow: str | None = None) -> pd.DataFrame:
        """Changes under one workflow (default: the baseline), by measure."""
        workflow = _checks.one_of(*self.speed["workflow"])("workflow", workflow or self.baseline)
        return self.changes[self.changes["workflow"] == workflow].set_index("measure")

    def sentences(self) -> list[str]:
        """The report in words, one finding each."""
        row = self._measures().loc["distance"]
        amount = plus_minus(row["change"], row["se"])
        span = f"from generation 1 to {self.generations}, over {self.replicates} replicates"
        kinds = ", ".join(self.kinds())
        if self.collapses():
            said = [
                f"Under {self.baseline} the model collapses: its distance to real data grows by "
                f"{amount} {span}, and visibly so from generation {row['since']:.0f} on.",
                f"Kind: {kinds or 'none of those that the report knows'}.",
            ]
        else:
            said = [
                f"No collapse is seen under {self.baseline}: the distance to real data changes by "
                f"{amount} {span}; a growth of up to {max(row['high'], 0):.2g} is not excluded."
            ]
            said += [f"But something moves by recursion: {kinds}."] * bool(kinds)
        said += [*self._lost(), self._pace()]
        if not math.isnan(row["first_model"]):
            said.append(
                f"The first model alone, which saw real data only, is "
                f"{plus_minus(row['first_model'], row['first_se'])} farther from unseen real data "
                f"than its own training rows are."
            )
        return said + [self._remedy(one) for _, one in self.remedies.iterrows()]

    def _lost(self) -> Iterator[str]:
        """What died, by name, where a change is seen."""
        titles = ("Categories that died", "Pairs of categories that died", "Missing values")
        lost = self.losses[self.losses["workflow"] == self.baseline]
        verdicts = self._measures()["verdict"]
        for measure, title in zip(_OF_TABLES, titles, strict=True):
            if (measure, verdicts.get(measure)) not in _KINDS:
                continue
            if lost.empty:
                yield f"{title}: give recurse keep_samples= for their names."
                continue
            found = lost[lost["kind"] == measure]
            said = [
                f"{one['name']} (from {100 * one['first']:.2g} % of the rows in generation 1 to "
                f"{100 * one['last']:.2g} %"
                + (")" if measure == "missing" else f", gone in {one['lost']:.0f} replicates)")
                for _, one in found.head(5).iterrows()
            ]
            more = f", and {len(found) - 5} more" * (len(found) > 5)
            yield f"{title}: {', '.join(said) or 'none of the rows that were kept'}{more}."

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

    def _remedy(self, row: pd.Series) -> str:
        texts = {
            "stops it": "stops it: no growth of the distance is seen there",
            "slows it": "slows it, and does not stop it",
            "makes it worse": "makes it worse",
            "not told apart": f"is not told apart from {self.baseline}",
            "nothing to stop": f"was not judged: no growth is seen under {self.baseline}",
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

        file = _checks.writable("path", path)
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
        file.write_text(page, encoding="utf-8")

    def _table(self) -> str:
        rows = [
            {
                "Workflow": row["workflow"],
                "Measure": _WORDS.get(row["measure"], row["measure"]),
                "First model": _plus_minus(row["first_model"], row["first_se"]),
                "By recursion": _plus_minus(row["change"], row["se"]),
                "Seen since": "" if math.isnan(row["since"]) else f"{row['since']:.0f}",
                "Verdict": row["verdict"],
            }
            for _, row in self.changes.iterrows()
        ]
        return pd.DataFrame(rows).to_html(index=False, border=0)

    def figure(self) -> Figure:
        """Every measure over the generations: means over the replicates, ± 2 standard errors."""
        from . import figures

        measures = list(dict.fromkeys(self.changes["measure"]))
        titles, n = [_WORDS.get(one, one) for one in measures], -(-(len(measures) + 1) // 3)
        fig, axes = figures.panels(
            *titles, "", rows=n, size=(7.2, 2.4 * n), sharex=True, xlabel="generation"
        )
        fig.set_layout_engine("constrained")
        for ax, measure in zip(axes, measures, strict=False):
            runs = {one: self.curves[one, measure][1:] for one in self.speed["workflow"]}
            figures.curves(ax, runs, x=np.arange(1, self.generations + 1), names="none")
            if measure in ("spread", "tails"):
                ax.axhline(1, **figures.THEORY)
            ax.set_title(ax.get_title(), fontsize=9.5)
        axes[-4].tick_params(labelbottom=True)  # the panel above the legend
        axes[-4].set_xlabel("generation")
        axes[-1].set_axis_off()
        axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="center", fontsize=9)
        return fig


def _plus_minus(value: float, error: float) -> str:
    return "" if math.isnan(value) else plus_minus(value, error)


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
    """Python, the system, and the packages that may have had a part in it."""
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for name in ("collapse-utils", "numpy", "scipy", "pandas", "scikit-learn", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def diagnose(
    history: History | Mapping[str, History], *, baseline: str | None = None, level: float = 0.05
) -> Report:
    """Say whether a model collapses, how fast, in which way, and what would stop it.

    - `history` (History or dict of name -> History): Of ``recurse`` with a `Yardstick` among its
      metrics, at least two generations and three replicates. Metrics of your own are judged beside
      it, if they report a number at every generation from 1 on. Several histories may differ in
      anything, such as the sample size; one of a single workflow goes by its name in the dict.
    - `baseline`: Workflow that the others are compared with; default the first.
    - `level`: Chance that the report of a model that recursion leaves alone names any change, at
      most. Half of it goes to the first question, whether the distance grows under the baseline;
      the other half is split evenly over all other intervals (Bonferroni).

    The intervals are Student's t over the replicates. They hold for the real rows and the
    settings of the run; replicates that share all of their real rows do not show how another
    data set would fare.
    """
    level = _checks.number(0, 1, above=True, below=True)("level", level)
    histories = history if isinstance(history, Mapping) else {"": history}
    if not histories or not all(isinstance(one, History) for one in histories.values()):
        raise ValueError(
            f"history must be a History of recurse, or a dict of name -> History, got "
            f"{_checks.short(history)}"
        )
    workflows = _workflows(histories)
    curves = _curves(histories, workflows)
    baseline = next(iter(workflows)) if baseline is None else baseline
    _checks.one_of(*workflows)("baseline", baseline)
    shapes = {curve.shape for curve in curves.values()}
    if len(shapes) > 1:
        raise ValueError(f"histories must have one shape (generations, replicates), got {shapes}")
    (rows, replicates) = shapes.pop()
    generations = rows - 1
    if generations < 2 or replicates < 3:
        raise ValueError(
            "history must have at least 2 generations and 3 replicates, got "
            f"{generations} and {replicates}"
        )
    for one in histories.values():
        _refuse_copies(one)
    lost = []
    for shown, (one, name) in workflows.items():
        lines = [kept for (writer, _), kept in one.samples.items() if writer == name and kept]
        table = lines and _tables.is_table(lines[0][0])
        lost.append(losses(lines if table else []).assign(workflow=shown))
    # Changes, paces, and comparisons with the baseline, but the first question.
    measures = [one for workflow, one in curves if workflow == baseline and one != "rows"]
    others = len(workflows) * (len(measures) + 1) + len(workflows) - 2
    first, rest = level / 2, level / 2 / others
    changes = pd.DataFrame(
        [
            {"workflow": workflow, "measure": measure}
            | _change(
                curves[workflow, measure],
                curves[workflow, "rows"],
                first if (workflow, measure) == (baseline, "distance") else rest,
            )
            for workflow in workflows
            for measure in measures
        ]
    )
    speed = pd.DataFrame(
        [{"workflow": name} | _speed(curves[name, "spread"], rest) for name in workflows]
    )
    growth = {
        name: curves[name, "distance"][-1] - curves[name, "distance"][1] for name in workflows
    }
    grows = changes[changes["measure"] == "distance"].set_index("workflow")["verdict"] == "rises"
    remedies = pd.DataFrame(
        [
            {"workflow": name}
            | _remedy(growth[name], growth[baseline], rest, *grows[[name, baseline]])
            for name in workflows
            if name != baseline
        ],
        columns=["workflow", "left", "left_se", "difference", "se", "low", "high", "verdict"],
    )
    calls = {name: one.call for name, one in histories.items()}
    return Report(
        baseline, generations, replicates, changes, speed, remedies, pd.concat(lost), curves, calls
    )


def _workflows(histories: Mapping[str, History]) -> dict[str, tuple[History, str]]:
    """Where each workflow stands, and its name there, by the name that the report shows."""
    found: dict[str, tuple[History, str]] = {}
    for label, one in histories.items():
        names = one.frame["workflow"].unique()
        for name in names:
            shown = name if not label else label if len(names) == 1 else f"{label}: {name}"
            if shown in found:
                raise ValueError(f"history must name each workflow once, got {shown!r} twice")
            found[shown] = one, name
    return found


def _curves(
    histories: Mapping[str, History], workflows: Mapping[str, tuple[History, str]]
) -> dict[tuple[str, str], Floats]:
    """Of the measures that all histories have at every generation from 1 on."""
    common = set.intersection(*(set(one.frame["metric"]) for one in histories.values()))
    for measure in (*MEASURES, "rows"):
        if measure not in common:
            raise ValueError(
                f"history lacks {measure!r}: give recurse metrics={{'yardstick': "
                "Yardstick(real_rows, rng)}"
            )
    measures = [one for one in (*_WORDS, "rows") if one in common]
    measures += sorted(common.difference(measures))
    curves = {
        (shown, measure): one.array(measure, name)
        for shown, (one, name) in workflows.items()
        for measure in measures
    }
    part = {measure for (_, measure), curve in curves.items() if np.isnan(curve[1:]).any()}
    return {key: curve for key, curve in curves.items() if key[1] not in part}


def _refuse_copies(history: History) -> None:
    """Replicates are copies if their models write rows with the same noise, one by one."""
    name = history.frame["workflow"].iloc[0]
    models = [model for (one, _), model in history.models.items() if one == name]
    if len(models) < 3:  # a history that was put together by hand
        return
    # All models but the last write as much, so that asking again gives the same answer.
    n, random = int(min(_TRIAL, history.array("rows", name).min())), np.random.default_rng(0)
    one, other, first, second = (
        _tables.rows(_written(model, n, random), f"model.sample({n})")
        for model in (*models[:2], models[-1], models[-1])
    )
    # Rows in a fixed order, such as class by class, look alike in two samples of one model, too.
    again, same = _likeness(first, second)
    if _likeness(one, other)[0] and (same or not again):
        raise ValueError(
            "history must hold independent replicates, but the model draws the same random numbers "
            "in each. It must take them from the rng (or random_state) that fit and sample are "
            "given, not from a generator of its own or a global seed"
        )


def _likeness(one: _tables.Rows, other: _tables.Rows) -> tuple[bool, bool]:
    """Whether rows are nearer to those in the same place than to those before, and the same."""
    tables = [_tables.flat(rows) for rows in (one, other)]
    both = pd.concat(tables, ignore_index=True)
    numbers = both.select_dtypes("number")
    others = both.drop(columns=numbers.columns).items()
    codes = pd.DataFrame(
        {name: pd.factorize(column.map(str))[0] for name, column in others}, both.index
    )
    ranks, codes, n = numbers.rank(pct=True).fillna(-1).to_numpy(), codes.to_numpy(), len(one)

    def gap(back: int) -> Floats:
        apart = np.abs(ranks[:n] - np.roll(ranks[n:], back, axis=0)).sum(axis=1)
        return apart + (codes[:n] != np.roll(codes[n:], back, axis=0)).sum(axis=1)

    here, before = gap(0), gap(1)
    nearer, farther = (here < before).sum(), (here > before).sum()
    return bool(nearer - farther > _SURE * math.sqrt(nearer + farther)), not here.any()


def _change(curve: Floats, rows: Floats, chance: float) -> dict[str, object]:
    means, ses, low, high = t_interval(curve[2:] - curve[1], chance)
    verdicts = np.where(low > 0, "rises", np.where(high < 0, "falls", "no change seen"))
    other = np.flatnonzero(verdicts != verdicts[-1])  # generations of other verdicts, less two
    seen = verdicts[-1] != "no change seen"
    first = curve[1] - curve[0] if (rows[0] == rows[1]).all() else np.full(len(curve[0]), np.nan)
    first_model, first_se = mean_se(first)
    return {
        "first_model": first_model,
        "first_se": first_se,
        "change": float(means[-1]),
        "se": float(ses[-1]),
        "low": float(low[-1]),
        "high": float(high[-1]),
        "verdict": str(verdicts[-1]),
        "since": max(other, default=-1) + 3.0 if seen else math.nan,
    }


def _speed(spread: Floats, chance: float) -> dict[str, float]:
    """Least-squares slope of the log spread of each replicate, over generations 1 .. G."""
    alive = (spread > 0).all(1)
    last = len(spread) if alive.all() else int(np.argmin(alive))
    if last < 3:
        return dict.fromkeys(("rate", "se", "low", "high", "half_life"), math.nan)
    logs = np.log(spread[1:last])
    time = np.arange(len(logs)) - (len(logs) - 1) / 2
    rate, se, low, high = t_interval(time @ logs / (time @ time), chance)
    half_life = math.log(2) / abs(rate) if low > 0 or high < 0 else math.nan
    return {"rate": rate, "se": se, "low": low, "high": high, "half_life": half_life}


def _remedy(
    here: Floats, there: Floats, chance: float, grows: bool, collapses: bool
) -> dict[str, object]:
    """What the growth of the distance says of a workflow, beside that under the baseline.

    And whether each of the two is seen.
    """
    difference, se, low, high = t_interval(here - there, chance)
    found = {"difference": difference, "se": se, "low": low, "high": high}
    if not collapses:
        return found | {"verdict": "nothing to stop"}
    n = len(here)
    # Jackknife over the replicates: a ratio of means, whose parts share real rows.
    left_out = (here.sum() - here) / (there.sum() - there)
    left_se = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    stops = "slows it" if grows else "stops it"
    verdict = "makes it worse" if low > 0 else "not told apart" if high >= 0 else stops
    return found | {"left": here.mean() / there.mean(), "left_se": left_se, "verdict": verdict}
