"""Runs that a build does not repeat: they go on where they were cut off, and their page."""

import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from miniature import Author

from collapse_book.pages import recorded_page

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "recorded.py"
pytest.importorskip("torch")


def command(place: Path, *arguments: str) -> dict:
    """How to call the script on the miniature book in `place`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return {"args": [sys.executable, str(SCRIPT), *arguments], "cwd": place, "env": environment}


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        **command(place, *arguments), text=True, capture_output=True, check=False, timeout=300
    )


@pytest.fixture
def refusal(author: Author, monkeypatch):
    """Runs the script in this process, on a miniature book; its exit status and what it says."""
    author.chapter("gaussian")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.chdir(author.root)

    def refused(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        said = io.StringIO()
        with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        if isinstance(stopped.value.code, str):  # which Python prints, and ends with 1
            return 1, f"{stopped.value.code}\n"
        return stopped.value.code, said.getvalue()

    return refused


def planned(author: Author, generations: int) -> None:
    """As if a run of a minute had settled its plan."""
    plan = {"n_samples": 60, "n_generations": generations, "n_replicates": 2, "tol": 1e-3}
    saved = {"minutes": 1.0, "commit": "commit abc", "plan": plan | {"seed": 3}}
    author.write("_build/recorded/mixtures/plan.json", json.dumps(saved))


def numbers(author: Author) -> dict:
    record = json.loads((author.root / "recorded" / "mixtures.json").read_text())
    assert record["seconds"] >= 0 and record["commit"] == "commit abc"
    assert not (author.root / "_build" / "recorded" / "mixtures").exists()
    return record["numbers"]


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(author: Author):
    author.chapter("gaussian")
    planned(author, 150)
    whole = run(author.root, "mixtures", "--minutes", "1")
    assert whole.returncode == 0, whole.stderr
    expected = numbers(author)
    assert expected["generations"] == [1, 50, 100, 150]

    planned(author, 150)
    checkpoint = author.root / "_build" / "recorded" / "mixtures" / "run.checkpoint"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(**command(author.root, "mixtures", "--minutes", "1"), **silent) as killed:
        end = time.monotonic() + 300
        while not checkpoint.exists():
            assert killed.poll() is None and time.monotonic() < end
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
    assert checkpoint.exists(), "it was killed too late to show anything"
    resumed = run(author.root, "mixtures", "--minutes", "1")
    assert resumed.returncode == 0, resumed.stderr
    assert "| 300/300 " in resumed.stderr and "| 0/300 " not in resumed.stderr
    assert numbers(author) == expected


def test_missing_data_are_one_line_before_anything_is_timed(author: Author, refusal):
    for name, message in (("digits", "mnist10k is not in"), ("language", "corpus must be")):
        code, errors = refusal(name, "--data", "/nowhere")
        assert code != 0
        assert message in errors and errors.count("\n") == 1
        assert not (author.root / "recorded").exists()


def test_minutes_are_finite(refusal):
    code, errors = refusal("mixtures", "--minutes", "nan")
    assert code == 2
    assert "Invalid value for --minutes: nan is not finite" in errors


def test_page_shows_what_was_recorded_and_says_that_it_was(author: Author):
    author.chapter("gaussian")
    assert "Recorded run* of" not in recorded_page(author.project)
    for file in ("digits", "language", "mixtures"):
        path = ROOT / "recorded" / f"{file}.json"
        author.write(f"recorded/{file}.json", path.read_text(encoding="utf-8"))
        record = json.loads(path.read_text(encoding="utf-8"))
        text = recorded_page(author.project)
        assert f"*Recorded run* of {record['date'][:10]}, {record['commit']}" in text
    assert text.count("*Recorded run*") == 3
    assert text.count("<img") == 2  # the histogram, light and dark
