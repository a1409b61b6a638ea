"""The template notebook with each of its models, and the code of its guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collapse_book.gate import check_chapter
from collapse_book.kernel import execute_notebook
from collapse_book.notebooks import chapter_parameters, dump_notebook, joined, read_notebook
from collapse_book.pages import merge
from collapse_book.project import Project

PROJECT = Project(Path(__file__).resolve().parents[1])
SMALL = {"n_samples": 60, "n_generations": 2, "n_replicates": 3}


def test_every_model_of_the_template_is_tried_here_or_in_the_smoke_scenario():
    (model,) = [p for p in chapter_parameters(PROJECT, "your_own_model") if p.name == "model"]
    assert model.default == "mixture"
    assert set(model.choices) == {"mixture", "kernel", "network", "command"}


@pytest.mark.parametrize("model", ["kernel", "network", "command"])
def test_template_reports_on(model, tmp_path):
    notebook = read_notebook(PROJECT.notebook("your_own_model"))
    executed, error = execute_notebook(notebook, SMALL | {"model": model})
    assert error is None
    path = tmp_path / "executed.ipynb"
    path.write_text(dump_notebook(executed), encoding="utf-8")
    merged = merge(notebook, read_notebook(path))
    assert check_chapter(model, merged, strict=False) == []
    printed = "".join(
        joined(output["text"])
        for cell in merged["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream"
    )
    assert re.search(r"(Under|under) replace", printed)
    assert "accumulate" in printed


def test_code_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = (PROJECT.book / "your_own_model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "your_own_model.md", "exec"), space)
    assert (tmp_path / "changes.csv").read_text().count("\n") == 16
    assert (tmp_path / "report.pdf").stat().st_size > 5000
