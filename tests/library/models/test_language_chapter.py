"""The chapter on the language model, on local folders, and after a kill -9."""

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collapse_utils import data, text
from collapse_utils.models import language

psutil = pytest.importorskip("psutil")
pytest.importorskip("papermill")
pytest.importorskip("torch")

NOTEBOOK = Path(__file__).resolve().parents[3] / "notebooks" / "systems" / "language.ipynb"
SMALL = {
    "block": 16, "n_blocks": 24, "epochs": 12, "n_generations": 4, "n_beam_generations": 2,
    "n_replicates": 2, "seed": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with its tokenizer, saved as anybody's, and a corpus, on disk."""
    root = tmp_path_factory.mktemp("local")
    human = text.paragraphs()[:300]
    recipe = language.Recipe(vocabulary=400, hidden=16, layers=1, heads=2, context=32)
    language._tokenizer(human, 400).save_pretrained(root / "model")
    language.untrained(recipe).save_pretrained(root / "model")
    (root / "text").mkdir()
    (root / "text" / "train.txt").write_text("\n".join(human[:200]), encoding="utf-8")
    with gzip.open(root / "text" / "test.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(human[200:210]))
    return root


def chapter(folder, output, **changed):
    """Start papermill on the chapter; what it says goes to a log beside the output."""
    given = {"model": folder / "model", "corpus": folder / "text"} | SMALL | changed
    options = [x for name, value in given.items() for x in ("-p", name, str(value))]
    with output.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "papermill", NOTEBOOK, output, "--no-progress-bar", *options],
            env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip


def said(output):
    return output.with_suffix(".log").read_text()


def results(path):
    """What the chapter says: its claims, its numbers, and the text that it prints."""
    found = {}
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            meta = output.get("metadata", {})
            if "collapse" in meta:
                found |= {c["id"]: c for c in meta["collapse"].get("claims", [])}
            if "scrapbook" in meta:
                found[meta["scrapbook"]["name"]] = output["data"]
    return found


def test_a_killed_chapter_continues_to_the_same_numbers_on_local_folders(
    folder, tmp_path, monkeypatch
):
    whole = chapter(folder, tmp_path / "whole.ipynb")
    assert whole.wait(timeout=300) == 0, said(tmp_path / "whole.ipynb")
    expected = results(tmp_path / "whole.ipynb")
    assert {"F1", "F2", "F3", "F4b", "F7", "ppl-replace"} <= set(expected)
    train, test = data.corpus(str(folder / "text"))
    assert text.fingerprint([*train, "\0", *test]) in str(
        expected["corpus-hash"]
    )  # the folder was read

    checkpoints = tmp_path / "checkpoints"
    target = checkpoints / f"replace-{SMALL['seed']}-0.checkpoint"
    killed = chapter(folder, tmp_path / "killed.ipynb", checkpoints=checkpoints)
    written: set[int] = set()
    end = time.monotonic() + 300
    while len(written) < 2:  # generations 1 and 2 are finished: this is generation 3
        assert killed.poll() is None and time.monotonic() < end, said(tmp_path / "killed.ipynb")
        if target.exists():
            written.add(target.stat().st_mtime_ns)
        time.sleep(0.002)
    for kernel in psutil.Process(killed.pid).children(recursive=True):
        kernel.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) != 0
    # The chapter's own class stands in the chapter.
    monkeypatch.setattr("__main__.Twin", language.LanguageModel, raising=False)
    _, _, (*_, finished) = pickle.loads(target.read_bytes())
    assert finished == 2

    resumed = chapter(folder, tmp_path / "resumed.ipynb", checkpoints=checkpoints)
    assert resumed.wait(timeout=300) == 0, said(tmp_path / "resumed.ipynb")
    assert results(tmp_path / "resumed.ipynb") == expected


def test_a_block_too_long_for_the_checkpoint_is_one_clear_line(folder, tmp_path):
    refused = chapter(folder, tmp_path / "refused.ipynb", block=17)
    assert refused.wait(timeout=120) != 0
    line = "ValueError: block must be at most 16 tokens, so that a prompt and its continuation fit"
    assert line in said(tmp_path / "refused.ipynb")
