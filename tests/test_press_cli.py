"""The command line: one line for a mistake, the exit code that says which kind, and quickly."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Author

#: -P: the installed library, not the miniature one in the current folder.
PRESS = [sys.executable, "-P", "-m", "collapse_book"]


LIBZMQ = re.compile(r"^Assertion failed: .* \(src/\w+\.cpp:\d+\)\n", re.MULTILINE)


def press(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process, as a user does.

    libzmq may remark on a socket that lost a race when a process ended; what the press itself
    says is what is left.
    """
    done = subprocess.run(
        [*PRESS, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    done.stderr = LIBZMQ.sub("", done.stderr)
    return done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "run gaussian -p n_samples -5",
            "n_samples must be an integer from 2 to 1,000,000, got -5",
        ),
        (
            "run gaussian -p n_sampels 50",
            "unknown parameter 'n_sampels'; did you mean 'n_samples'",
        ),
        ("run gaussian -p n_samples fifty", "n_samples must be an integer from 2"),
        ("run gaussian -p n_samples=50", "-p n_samples=50: write -p n_samples 50, with a space"),
        ("run gaussian -p seed 7 -p n_samples=50 -p rate 1", "write -p n_samples 50, with a space"),
        ("run gaussian -p seed 1 -p seed 2", "parameter 'seed' is given twice"),
        ("run gaussian -f broken.yml", "broken.yml, line 2: broken YAML"),
        ("run gaussian -f nowhere.yml", "no file nowhere.yml"),
        ("run gaussian -f scenarios/other.yml", "says nothing about chapter 'gaussian'"),
        ("run gaussian -f smoke", "no file smoke; did you mean scenarios/smoke.yml?"),
        ("run gaussian -o nowhere/out.ipynb", "no folder nowhere"),
        ("run gaussian -o scenarios", "scenarios is a folder: give the notebook a name"),
        ("run gausian", "no chapter 'gausian'; did you mean 'gaussian'?"),
        ("run odd", "notebooks/odd.ipynb: parameters cell: line 1 must read"),
        ("run", "Missing argument 'CHAPTER'"),
        ("run gaussian -p seed", "requires 2 arguments"),
        ("build nothing", "no chapter 'nothing'"),
        ("build --scenario smok", "no scenario 'smok'; did you mean 'smoke'?"),
        ("build --jobs 0", "0 is not in the range"),
        ("bild", "No such command 'bild'"),
        ("gaussian --help", "gaussian is a chapter: write collapse-book run gaussian --help"),
        ("--project / list", "no book in /: it needs"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(author: Author, arguments, message):
    author.chapter("gaussian")
    author.chapter("digits")
    author.chapter("odd", parameters="seed = 1")
    author.write("broken.yml", "description: x\nchapters: [gaussian: {seed\n")
    author.write("scenarios/other.yml", "description: x\nchapters: {digits: {}}\n")
    author.write("scenarios/smoke.yml", "description: x\nchapters: {gaussian: {}, digits: {}}\n")
    start = time.perf_counter()
    done = press(author.root, *arguments.split())
    seconds = time.perf_counter() - start
    assert done.returncode == 2, done
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("collapse-book: ")
    assert done.stdout == ""
    assert seconds < 3


def test_project_outside_of_a_book_is_found_by_its_folder(author: Author, tmp_path):
    author.chapter("gaussian", title="It forgets")
    done = press(tmp_path, "--project", str(author.root), "list")
    assert done.returncode == 0
    assert "gaussian  never run  It forgets" in done.stdout


def test_list_shows_parameters_with_their_ranges(author: Author):
    author.chapter("gaussian")
    done = press(author.root, "list", "gaussian")
    assert (
        "n_samples: int = 100 training-set size M per generation "
        "(an integer from 2 to 1,000,000)" in " ".join(done.stdout.split())
    )


def test_list_shows_scenarios_and_what_ifs_with_their_sentences(author: Author):
    author.chapter("gaussian")
    author.chapter("digits")
    author.toc("gaussian", "digits")
    author.write("scenarios/smoke.yml", "description: All small.\nchapters: {gaussian: {}}\n")
    what_if = "description: What if {}?\nchapters: {{{}: {{seed: 2}}}}\ncompare: {{a: b}}\n"
    author.write("scenarios/what_if/fewer.yml", what_if.format("there were fewer", "digits"))
    author.write("scenarios/what_if/more.yml", what_if.format("there were more", "gaussian"))
    done = press(author.root, "list")
    assert done.returncode == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[2:] == [
        "",
        "Scenarios (collapse-book build --scenario NAME):",
        "smoke All small.",
        "",
        "What if? (collapse-book run CHAPTER -f scenarios/what_if/NAME.yml):",
        "more gaussian: What if there were more?",
        "fewer digits: What if there were fewer?",
    ]
    done = press(author.root, "list", "digits")
    assert "fewer  digits: What if there were fewer?" in done.stdout
    assert "more" not in done.stdout and "smoke" not in done.stdout


@pytest.mark.parametrize("command", ["build", "run", "sweep", "check", "list"])
def test_help_shows_examples_and_exit_codes(author: Author, command):
    done = press(author.root, command, "--help")
    assert done.returncode == 0
    assert f"\n    collapse-book {command}" in done.stdout
    assert "Exit codes:" in done.stdout


def test_command_line_starts_without_heavy_libraries(author: Author):
    code = (
        "import sys; from collapse_book import cli\n"
        "try: cli.main(['list'])\n"
        "except SystemExit: pass\n"
        "heavy = {'papermill', 'distributed', 'nbformat', 'numpy', 'torch', 'sphinx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=author.root, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_check_reports_every_finding_and_fix_repairs(author: Author):
    author.chapter("gaussian")
    author.write("scenarios/smoke.yml", "description: x\nchapters: {gaussian: {}}\n")
    author.toc("gaussian")
    path = author.root / "notebooks/gaussian.ipynb"
    path.write_text(path.read_text().replace("library is missing", "library is gone"))
    done = press(author.root, "check")
    assert done.returncode == 1
    assert "gaussian, cell 2 (# Stops" in done.stderr
    assert press(author.root, "check", "--fix").returncode == 0
    done = press(author.root, "check")
    assert done.returncode == 0
    assert done.stdout == "1 notebook checked, 0 with a run of what is there now\n"
