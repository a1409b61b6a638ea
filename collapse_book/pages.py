"""Pages the press writes itself: the book's claims, the state of its run, its parameters."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from collapse_book.files import write_atomic
from collapse_book.gate import claims_of, collapse_data, outputs_of
from collapse_book.notebooks import Notebook, joined, parameters_of, title
from collapse_book.project import Project
from collapse_book.stage import FIGCAPTION, table_cell, when
from collapse_utils.claims import COLUMNS, VERDICTS, cells

#: Adds two menus above the table; without JavaScript the whole table stays visible.
FILTER = """
<script>
{
  const table = document.querySelector("table.claims");
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("p");
  bar.className = "ledger-filter";
  const count = document.createElement("output");
  const menus = ["chapter", "verdict"].map((key) => {
    const label = document.createElement("label");
    const menu = document.createElement("select");
    const values = [...new Set(rows.map((row) => row.dataset[key]))];
    menu.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    menu.addEventListener("change", show);
    label.append(key[0].toUpperCase() + key.slice(1) + " ", menu);
    bar.append(label, " ");
    return [key, menu];
  });
  function show() {
    for (const row of rows)
      row.hidden = menus.some(([key, menu]) => menu.value && menu.value !== row.dataset[key]);
    count.textContent = rows.filter((row) => !row.hidden).length + " of " + rows.length + " claims";
  }
  bar.append(count);
  table.parentElement.before(bar);
  show();
}
</script>
"""


def write_pages(project: Project, notebooks: Mapping[str, Notebook]) -> None:
    """Write into ``generated/`` what the executed chapters give to other pages."""
    write_atomic(project.generated / "front.md", front_figure(notebooks))
    write_atomic(project.generated / "ledger.md", ledger_page(notebooks))
    write_atomic(project.generated / "status.md", status_page(notebooks) + colab_section(project))
    if (project.recorded / "bench.json").is_file():
        write_atomic(project.generated / "speed.md", speed_page(project))
    write_atomic(project.generated / "parameters.md", parameters_page(notebooks))


def front_figure(notebooks: Mapping[str, Notebook]) -> str:
    """The picture of the front page: the figure ``fig-hero`` of the chapter that draws it."""
    for chapter, notebook in notebooks.items():
        for _, _, output in outputs_of(notebook):
            data = collapse_data(output)
            if data.get("name") == "fig-hero":
                picture = FIGCAPTION.sub("", joined(output["data"]["text/html"]))
                return (
                    f"```{{raw}} html\n{picture}\n```\n\n:::{{div}} cover-note\n{data['caption']} "
                    f"(From {{doc}}`/notebooks/{chapter}`.)\n:::\n"
                )
    return ""


def ledger_page(notebooks: Mapping[str, Notebook]) -> str:
    """Every claim of the book in one table, each linked to its chapter."""
    rows = "\n".join(
        _ledger_row(chapter, title(notebook), claim)
        for chapter, notebook in notebooks.items()
        for claim in claims_of(notebook)
    )
    claims = [claim for notebook in notebooks.values() for claim in claims_of(notebook)]
    counts = Counter(claim["verdict"] for claim in claims)
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Chapter", *COLUMNS))
    return f"""# Claims ledger

Every claim that a chapter states, with what theory or a paper expects and what the run of this
book measured: {total}. {power_of(claims)}

{{ref}}`verdicts` has the rule. A claim marked *must hold* stops the build when its verdict changes.

```{{raw}} html
<div class="claims-box"><table class="claims">
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
{FILTER}```
"""


def power_of(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many claims could have lost, by how much, and how many did."""
    open_ = sum(claim["verdict"] == "unresolved" for claim in claims)
    lost = sum(claim["verdict"] == "contradicted" for claim in claims)
    shares = [
        point["noticed"] / abs(point["rival"] - point["law"])
        for claim in claims
        if claim["verdict"] == "reproduced"
        and (point := claim["deciding"])["rival"] != point["law"]
    ]
    typical = ""
    if shares:
        typical = (
            "Half of the reproduced claims with a rival value would have noticed, nine times in "
            f"ten, a deviation of {median(shares):.1%} of the way from the law to the rival. "
        )
    return (
        f"{len(claims) - open_} could have lost, and {lost} of them did. {typical}"
        f"{open_} had not the power to tell the law from its rival: they are *unresolved*."
    )


def _ledger_row(chapter: str, heading: str, claim: dict[str, Any]) -> str:
    link = f"../notebooks/{html.escape(chapter)}.html#claim-{html.escape(claim['id'])}"
    held = '<br><span class="claim-note">must hold</span>' if claim["expect"] else ""
    return (
        f'<tr data-chapter="{html.escape(heading)}" data-verdict="{claim["verdict"]}">'
        f'<td><a href="{link}">{html.escape(heading)}</a>{held}</td>{cells(claim)}</tr>'
    )


def status_page(notebooks: Mapping[str, Notebook]) -> str:
    """What was executed when, how long it took, with which parameters and with what result."""
    rows = "\n".join(_status_row(chapter, notebook) for chapter, notebook in notebooks.items())
    seconds = sum(nb["metadata"]["collapse_book"]["seconds"] for nb in notebooks.values())
    return f"""# Status of the run

Each chapter of this site was executed with the default parameters, in a process of its own, in
{seconds:.0f} s altogether. The colophon at the end of each chapter has versions and machine.

| chapter | executed (UTC) | seconds | claims | parameters |
| --- | --- | ---: | --- | --- |
{rows}
"""


def colab_section(project: Project) -> str:
    """A recorded run in an environment like Colab's, if there is one."""
    path = project.recorded / "colab.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    rows = "\n".join(
        f"| {{doc}}`/notebooks/{chapter}` | {cost['seconds']:.0f} | {cost['megabytes']:,} |"
        for chapter, cost in record["chapters"].items()
        if chapter in project.chapters
    )
    machine = record["machine"]
    return f"""
## In an environment like Colab's

A *recorded run*, not part of this build: all chapters with their defaults on
{record["date"][:10]}, from a wheel of the library, with {versions}, on {machine["platform"]} with
{machine["cores"]} cores and no accelerator. Colab's own machines were not measured.

| chapter | seconds | peak memory (MB) |
| --- | ---: | ---: |
{rows}
"""


def speed_page(project: Project) -> str:
    """What the benchmarks printed when they were last recorded."""
    record = json.loads((project.recorded / "bench.json").read_text(encoding="utf-8"))
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    sections = "\n".join(_speed_section(*item) for item in record["files"].items())
    return f"""# How fast is it?

The simulators of this book against what a reader would write instead: a plain NumPy loop, a loop
over scikit-learn fits, `generate` and `Trainer` of transformers. Both sides of a ratio ran in the
same process, one after the other, in one thread, and the time is processor time. The goals of the
benchmarks are such ratios; the times beside them belong to the machine.

This page is a *recorded run* of {record["date"][:10]}, not part of this build:
{machine["processor"]}, {machine["platform"]}, {machine["cores"]} cores, {versions}. `make bench`
repeats it on your machine.

{sections}"""


def _speed_section(path: str, entry: Mapping[str, Any]) -> str:
    question, _, how = entry["question"].partition("? ")
    about = "\n\n".join([how] * bool(how) + entry["about"])
    tables = "\n\n".join(f"```text\n{table}\n```" for table in entry["tables"])
    missed = "".join(f"\n\n**Goal missed.** `{what}`" for what in entry["missed"])
    curves = f"\n\n{_growth_figure(entry['curves'])}" if "curves" in entry else ""
    title = question + ("?" if how else "")
    return f"## {title.rstrip('.')}\n\n{about}\n\n{tables}{curves}{missed}\n\nSource: `{path}`\n"


def _growth_figure(curves: Sequence[Mapping[str, Any]]) -> str:
    """Time against size on logarithmic axes, one panel for each of the sizes that grow."""
    import matplotlib.pyplot as plt

    from collapse_utils import figures, publishing

    loops = list(dict.fromkeys(curve["loop"] for curve in curves))
    grows = list(dict.fromkeys(curve["grows"] for curve in curves))
    colours = dict(zip(loops, plt.colormaps["tab10"].colors, strict=False))
    figures.use_theme()
    fig, axes = plt.subplots(1, len(grows), figsize=(7.8, 3.8), sharey=True, squeeze=False)
    for curve in curves:
        ax = axes[0, grows.index(curve["grows"])]
        colour = colours[curve["loop"]]
        ax.plot("sizes", "seconds", "o-", data=curve, color=colour, label=curve["loop"])
        ax.set(xscale="log", yscale="log", xlabel=curve["grows"].removeprefix("n_"))
    axes[0, 0].set_ylabel("seconds")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    alt = (
        f"{len(grows)} panels with logarithmic axes: processor time of loops against "
        "samples, generations and replicates. The table above has the slopes."
    )
    return (
        f'```{{raw}} html\n<figure class="collapse-figure">{publishing.variants(fig, alt=alt)}'
        "<figcaption>Processor time in one thread. A line that falls behind another to the right "
        "grows more slowly.</figcaption></figure>\n```"
    )


def _status_row(chapter: str, notebook: Notebook) -> str:
    record = notebook["metadata"]["collapse_book"]
    parameters = ", ".join(
        f"`{p.name} = {record['parameters'].get(p.name, p.default)!r}`"
        for p in parameters_of(notebook)
    )
    counts = Counter(claim["verdict"] for claim in claims_of(notebook))
    claims = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name]) or "none"
    return (
        f"| {{doc}}`/notebooks/{chapter}` | {when(record)} | {record['seconds']:.1f} "
        f"| {claims} | {parameters} |"
    )


def parameters_page(notebooks: Mapping[str, Notebook]) -> str:
    """Every parameter of every chapter: name, type, default, what is allowed, meaning."""
    sections = "\n".join(_parameters_section(*item) for item in notebooks.items())
    return f"""# Parameters

What you can change in each chapter, as its first cell of code declares it. The command under each
table executes that chapter with a value of your own; a wrong name, type or value is refused in one
line, before anything runs. {{doc}}`/sweeps` shows how to run a chapter over many values.

{sections}"""


def _parameters_section(chapter: str, notebook: Notebook) -> str:
    parameters = parameters_of(notebook)
    rows = "\n".join(
        f"| `{p.name}` | {p.type} | `{p.default!r}` | {p.allowed} | {table_cell(p.help)} |"
        for p in parameters
    )
    first = next((p for p in parameters if p.name == "seed"), parameters[0])
    value = first.default + 1 if first.name == "seed" else first.default
    return f"""## {title(notebook)}

{{doc}}`/notebooks/{chapter}`

| parameter | type | default | allowed | meaning |
| --- | --- | --- | --- | --- |
{rows}

```bash
collapse-book run {chapter} -p {first.name} {value}
```
"""
