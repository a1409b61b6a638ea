"""The pages that nobody wrote: chapters with their outputs, and what is made of them."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from collapse_book import gate
from collapse_book import notebooks as nb
from collapse_book.copies import copy_with, library_wheel
from collapse_book.files import write_changed
from collapse_book.messages import BuildFailed, counted, suggestion
from collapse_book.project import Project
from collapse_book.scenarios import Scenario
from collapse_utils.claims import COLUMNS, VERDICTS, cells

#: An author types how long a chapter takes to read; how long it takes to run, its run knows.
TO_READ = re.compile(r"\d+ minutes to read")
PREREQUISITES = re.compile(r"^\|\s*\*\*Prerequisites\*\*.*$", re.MULTILINE)
DOC = re.compile(r"\{doc\}`(?:[^`]*<)?(?:/?notebooks/)?(\w+)>?`")
#: A cell whose figure the page shows at its head as well, before any code.
OPENING_TAG = "opening"
FIGCAPTION = re.compile(r"<figcaption>.*?</figcaption>", re.DOTALL)


def render(template: str, **values: Any) -> str:
    """A page from ``templates/``."""
    return TEMPLATES.get_template(f"{template}.j2").render(values)


def when(record: Mapping[str, Any]) -> str:
    """Date and minute of an execution."""
    return record["executed"][:16].replace("T", " ")


def record_of(notebook: nb.Notebook) -> dict[str, Any]:
    """When, where, with what and how long a notebook was executed."""
    return notebook["metadata"]["collapse_book"]


def values_of(merged: nb.Notebook) -> list[tuple[nb.Parameter, Any]]:
    """Parameters of an executed notebook with the values that it ran with."""
    given = record_of(merged)["parameters"]
    return [(p, given.get(p.name, p.default)) for p in nb.parameters_of(merged)]


def drawing_of(output: Mapping[str, Any]) -> str:
    """A figure without its caption, which the page sets in its own form."""
    return FIGCAPTION.sub("", nb.joined(output["data"]["text/html"]))


TEMPLATES = Environment(
    loader=PackageLoader("collapse_book"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown; HTML is escaped where it stands
)
TEMPLATES.filters |= {
    "cell": lambda text: str(text).replace("|", "\\|"),
    "claim_cells": cells,
    "claims": gate.claims_of,
    "counted": counted,
    "literal": repr,
    "parameters": nb.parameters_of,
    "partition": str.partition,
    "record": record_of,
    "title": nb.title,
    "values_of": values_of,
    "when": when,
}


def merge(current: nb.Notebook, executed: nb.Notebook) -> nb.Notebook:
    """Put the outputs of an executed copy into the current notebook, cell by cell.

    The prose is the current one; the code must be what was executed.

    Raises
    ------
    ValueError
        If the code cells differ.
    """
    merged = nb.clean_copy(current)
    ran = nb.code_cells(executed, without=nb.INJECTED_TAG)
    cells = nb.code_cells(merged)
    same = len(ran) == len(cells) and all(
        nb.INSTALL_TAG in nb.tags(cell) or cell["source"] == nb.joined(other["source"])
        for cell, other in zip(cells, ran, strict=True)
    )
    if not same:
        raise ValueError("the executed copy holds other code than the notebook")
    for cell, other in zip(cells, ran, strict=True):
        cell |= {"execution_count": other["execution_count"], "outputs": other["outputs"]}
    merged["metadata"]["collapse_book"] = record_of(executed)
    return merged


def page(project: Project, chapter: str, merged: nb.Notebook) -> nb.Notebook:
    """The notebook that Sphinx reads: the time to run, captions in its own form, a colophon."""
    result = copy.deepcopy(merged)
    first = result["cells"][0]
    run = rf"\g<0>, {math.ceil(record_of(merged)['seconds'])} s to run when this page was made"
    first["source"] = TO_READ.sub(run, first["source"], count=1)
    for cell in list(result["cells"]):
        for output in cell.get("outputs", []):
            if gate.is_figure(output):
                data = gate.collapse_data(output)
                figure = {"name": data["name"], "caption": data["caption"]}
                cell["metadata"].setdefault("mystnb", {})["figure"] = figure
                output["data"]["text/html"] = drawing_of(output)
                if OPENING_TAG in nb.tags(cell):
                    text = picture(output, f"{{numref}}`{data['name']}`, whose code is below")
                    result["cells"].insert(1, _prose(text, "opening"))
    result["cells"].append(_prose(colophon(project, chapter, merged), "colophon"))
    return result


def picture(output: Mapping[str, Any], source: str) -> str:
    """A figure once more, where no number is counted, with the words that say where it is from."""
    caption = gate.collapse_data(output)["caption"]
    return render("picture.md", picture=drawing_of(output), caption=caption, source=source)


def _prose(source: str, identity: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": identity, "metadata": {}, "source": source}


def colophon(project: Project, chapter: str, merged: nb.Notebook) -> str:
    """When, how long, seed, parameters, versions and machine of a run, and how to cite its page."""
    url = f"{project.address}notebooks/{chapter}.html" if project.address else ""
    if not url and project.repository:
        url = f"https://github.com/{project.repository}"
    values = values_of(merged)
    return render(
        "colophon.md",
        book=project.config,
        chapter=chapter,
        heading=re.sub(r"\b(?=[A-Z])(\w+)", r"{\1}", re.sub(r"[`*]", "", nb.title(merged))),
        record=record_of(merged),
        values=values,
        seed=next((value for parameter, value in values if parameter.name == "seed"), 0),
        version=metadata.version("collapse-utils"),
        url=url,
    )


def revision(project: Project) -> str:
    """The commit that the book is built from, or its version where there is no repository."""
    commit = project.git("describe", "--always", "--exclude=*", "--dirty")
    if commit is None:
        return f"version {metadata.version('collapse-utils')}"
    return f"commit {commit.replace('-dirty', ' with changes')}"


def write_pages(project: Project, notebooks: Mapping[str, nb.Notebook], what_if: str = "") -> None:
    """Write the pages of executed chapters, the pages made of them, and the files to download.

    What is there already stays untouched, with its time; what belongs to no chapter goes.
    """
    name, wheel = library_wheel(project)
    cell = brings_library(project, name, wheel)
    files: dict[Path, str | bytes] = {project.vendor / "wheel" / name: wheel}
    for chapter, merged in notebooks.items():
        path = project.staged / f"{chapter}.ipynb"
        files[path] = nb.dump_notebook(page(project, chapter, merged))
        download = copy_with(merged, cell)
        del download["metadata"]["collapse_book"]
        files[project.vendor / "download" / f"{chapter}.ipynb"] = nb.dump_notebook(download)
    files |= {
        project.generated / "front.md": front_figure(notebooks),
        project.generated / "map.md": chapter_map(project, notebooks),
        project.generated / "ledger.md": ledger_page(notebooks),
        project.generated / "status.md": status_page(project, notebooks),
        project.generated / "parameters.md": render("parameters.md", notebooks=notebooks),
        project.generated / "what_if.md": what_if,
        project.vendor / "llms.txt": render("llms.txt", book=project.config, notebooks=notebooks),
    }
    machine = project.book / "_machine"
    for kind in ("js", "css"):
        files[project.vendor / "machine" / f"machine.{kind}"] = bundle(machine, kind)
    if recorded := _recorded(project, "bench"):
        files[project.generated / "speed.md"] = render("speed.md", **recorded)
    files[project.generated / "recorded.md"] = recorded_page(project)
    for path, text in files.items():
        write_changed(path, text)
    for folder in (project.staged, project.vendor / "download", project.vendor / "wheel"):
        for path in set(folder.glob("*")) - files.keys():
            path.unlink()


def bundle(folder: Path, kind: str) -> str:
    """The files of a kind in a folder, by name, as one that is smaller: no comments, no indents.

    A classic script, because browsers load no modules from a folder. No string of them may hold a
    block comment, nor a line break whose indent counts.
    """
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"*.{kind}")))
    return re.sub(r"^\s+", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), flags=re.MULTILINE)


def brings_library(project: Project, name: str, wheel: bytes) -> str:
    """Source of the cell that makes the library importable in a copy of a notebook.

    A build that is published names its wheel by its address on the site. Any other carries the
    wheel in the cell, so that the copy needs nothing from anywhere.
    """
    if project.address:
        url, sha256 = f"{project.address}wheel/{name}", hashlib.sha256(wheel).hexdigest()
        return render("fetch.py", url=url, sha256=sha256).rstrip()
    text = "\n".join(textwrap.wrap(base64.b64encode(wheel).decode(), 96))
    return render("carry.py", wheel=text).rstrip()


def write_stubs(project: Project, missing: Mapping[str, str]) -> None:
    """Write a page for each chapter that did not run, which says why."""
    for chapter, reason in missing.items():
        notebook = nb.read_notebook(project.notebook(chapter))
        text = render("stub.md", heading=nb.title(notebook), reason=" ".join(reason.split()))
        stub = notebook | {"cells": [_prose(text, "stub")]}
        write_changed(project.staged / f"{chapter}.ipynb", nb.dump_notebook(stub))


def front_figure(notebooks: Mapping[str, nb.Notebook]) -> str:
    """The picture of the front page: the figure ``fig-hero`` of the chapter that draws it."""
    for chapter, notebook in notebooks.items():
        for _, _, output in gate.outputs_of(notebook):
            if gate.collapse_data(output).get("name") == "fig-hero":
                return picture(output, f"From {{doc}}`/notebooks/{chapter}`.")
    return ""


def chapter_map(project: Project, notebooks: Mapping[str, nb.Notebook]) -> str:
    """Which chapter needs which: what the tables at their beginnings call prerequisites."""
    parts = {page.removeprefix("notebooks/"): part for page, part in project.pages}
    needs = {}
    for chapter, notebook in notebooks.items():
        row = PREREQUISITES.search(notebook["cells"][0]["source"])
        named = dict.fromkeys(DOC.findall(row[0]) if row else ())
        needs[chapter] = [name for name in named if name in notebooks]
    return render("map.md", notebooks=notebooks, needs=needs, parts=parts)


def ledger_page(notebooks: Mapping[str, nb.Notebook]) -> str:
    """Every claim of the book in one table, each linked to its chapter; what could have lost."""
    claims = [(name, claim) for name, run in notebooks.items() for claim in gate.claims_of(run)]
    shares = [
        point["noticed"] / abs(point["rival"] - point["law"])
        for _, claim in claims
        if claim["verdict"] == "reproduced"
        and (point := claim["deciding"])["rival"] != point["law"]
    ]
    return render(
        "ledger.md",
        notebooks=notebooks,
        claims=claims,
        heads=("Chapter", *COLUMNS),
        counts={v: sum(claim["verdict"] == v for _, claim in claims) for v in VERDICTS},
        typical=f"{median(shares):.1%}" if shares else "",
    )


def status_page(project: Project, notebooks: Mapping[str, nb.Notebook]) -> str:
    """What was executed when, how long it took, with which parameters and with what result."""
    return render(
        "status.md",
        notebooks=notebooks,
        kinds=VERDICTS,
        revision=revision(project),
        missing=[chapter for chapter in project.published if chapter not in notebooks],
        kernels=_recorded(project, "kernels"),
        colab=_recorded(project, "colab"),
    )


def recorded_page(project: Project) -> str:
    """The paper's systems on real data: runs that were recorded, told apart from this build."""
    runs = {name: _recorded(project, name) for name in ("digits", "language", "mixtures")}
    return render("recorded.md", **runs, perplexity=math.exp)


def _recorded(project: Project, name: str) -> Any:
    """Numbers of a run that a build does not repeat, or None."""
    path = project.recorded / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def what_if_page(
    notebooks: Mapping[str, nb.Notebook],
    scenarios: Sequence[Scenario],
    outcomes: Mapping[str, nb.Notebook],
) -> str:
    """Scenarios with what they changed and what came of it, beside what the default gave.

    Parameters
    ----------
    notebooks : mapping of chapter to executed notebook
        With the default parameters.
    scenarios : sequence of Scenario
    outcomes : mapping of scenario name to executed notebook

    Raises
    ------
    BuildFailed
        If a scenario compares a number that its chapter does not glue.
    """
    questions = []
    for scenario in scenarios:
        default, outcome = notebooks[scenario.chapter], outcomes[scenario.name]
        before, after = _glued(default), _glued(outcome)
        for key in scenario.compare:
            if key not in before or key not in after:
                raise BuildFailed(
                    f"scenarios/what_if/{scenario.name}.yml compares {key!r}, which "
                    f"{scenario.chapter} does not glue{suggestion(key, before, 'numbers')}"
                )
        verdicts, there = (
            {claim["id"]: claim["verdict"] for claim in gate.claims_of(run)}
            for run in (default, outcome)
        )
        moved = {id: there[id] for id in verdicts if there.get(id, verdicts[id]) != verdicts[id]}
        questions.append(
            {
                "scenario": scenario,
                "defaults": {p.name: p.default for p in nb.parameters_of(default)},
                "rows": [(mean, before[k], after[k]) for k, mean in scenario.compare.items()],
                "verdicts": len(verdicts),
                "moved": [f"{id} from {verdicts[id]} to {now}" for id, now in moved.items()],
            }
        )
    return render("what_if.md", questions=questions)


def _glued(notebook: nb.Notebook) -> dict[str, str]:
    """What a notebook glues, as the page shows it."""
    return {
        key: str(gate.glued_text(output))
        for _, _, output in gate.outputs_of(notebook)
        if (key := gate.glue_key(output)) is not None
    }
