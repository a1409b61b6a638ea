"""The template notebook with each of its models, and the code of its guide."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pandas as pd
import pytest

from collapse_book.gate import check_chapter
from collapse_book.kernel import execute_notebook
from collapse_book.notebooks import chapter_parameters, dump_notebook, joined, read_notebook
from collapse_book.pages import merge
from collapse_book.project import Project
from collapse_utils import data
from collapse_utils.models import language
from collapse_utils.models.language import LanguageModel

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


@pytest.fixture
def language_model(tmp_path, monkeypatch):
    """The guide's script, beside a tiny checkpoint that is no OPT and a folder with text."""
    pytest.importorskip("torch")
    language._ready()
    from transformers import GPT2Config, GPT2LMHeadModel

    paragraphs, held_out = data.corpus()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.txt").write_text("\n".join(paragraphs[:80]))
    (tmp_path / "text" / "test.txt").write_text("\n".join(held_out[:20]))
    language._tokenizer(paragraphs[:80], 300).save_pretrained(tmp_path / "model")
    size = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(vocab_size=300, bos_token_id=2, eos_token_id=2, **size)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.syspath_prepend(PROJECT.book / "examples")
    script = importlib.import_module("own_language_model")
    sizes = {"block": 16, "n_blocks": 24, "generations": 2, "epochs": 1, "rate": 1e-3}
    given = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    return lambda *more: script.main(["model", "text", *given, *more])


def test_a_language_model_of_ones_own_is_reported_on_and_goes_on(
    language_model, monkeypatch, capsys
):
    whole = language_model("--checkpoint", "whole.pickle")
    said = capsys.readouterr().out
    assert re.search(r"^19 fits .* minutes, [\d.]+ GB of main memory, at most [\d.]+ MB", said)
    own = ["distinct 2-grams", "perplexity of human text", "repeated 4-grams"]
    measures = list(dict.fromkeys(whole.changes["measure"]))
    assert [*own, "tail under the first model"] == measures[5:]
    assert set(whole.changes["workflow"]) == {"replace", "accumulate", "10 % real"}
    assert all(one in Path("report.html").read_text() for one in measures[5:])
    limit = float(re.search(r"at most ([\d.]+) MB", said)[1]) * 1e6 + 1e5
    assert Path("whole.pickle").stat().st_size < limit

    wrote, plain = [], LanguageModel.write

    def write(self, rng):
        wrote.append(1)
        if len(wrote) == 12:  # one to time it, nine in generation 1, and then
            raise KeyboardInterrupt
        return plain(self, rng)

    monkeypatch.setattr(LanguageModel, "write", write)
    with pytest.raises(KeyboardInterrupt):
        language_model()
    wrote.clear()
    monkeypatch.setattr(LanguageModel, "write", lambda *a: wrote.append(1) or plain(*a))
    pd.testing.assert_frame_equal(language_model().changes, whole.changes)
    assert len(wrote) == 1 + 9  # to time it, and generation 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--replicates", "2"), "--replicates must be at least 3, got 2"),
        (("--n_blocks", "0"), "--n_blocks must be at least 20, got 0"),
        (("--n_blocks", "100000"), "train.txt must fill 100000 blocks of 16 tokens, got"),
        (("--report", "nowhere/report.html"), "--report must be in a folder that can be written"),
        (("--generations", "1"), "--generations must be at least 2, got 1"),
        (("--rate", "nan"), "rate must be a finite number"),
        (("--epochs", "-1"), "--epochs must be at least 1, got -1"),
    ],
)
def test_the_script_refuses_what_it_cannot_do_before_it_starts(
    language_model, capsys, given, message
):
    with pytest.raises((SystemExit, ValueError)) as stopped:
        language_model(*given)
    said = capsys.readouterr()
    assert message in said.err + str(stopped.value) and " fits to " not in said.out
