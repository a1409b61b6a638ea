"""The command line: one line for a mistake, and the exit code that says which kind."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from miniature import Author

from collapse_book import cli
from collapse_book import press as press_module
from collapse_book import sweep as sweep_module
from collapse_book.messages import BuildFailed
from collapse_book.scenarios import check_scenarios

#: -P: the installed library, not the miniature one in the current folder.
PRESS = [sys.executable, "-P", "-m", "collapse_book"]


LIBZMQ = re.compile(r"^Assertion failed: .* \(src/\w+\.cpp:\d+\)\n", re.MULTILINE)


def press(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, standing in a folder; see `press_apart`."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
        except SystemExit as stopped:
            code = int(stopped.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def press_apart(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
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
        stdin=subprocess.DEVNULL,
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
        ("run gaussian -p seed 1 -p seed 2", "parameter 'seed' is given twice"),
        ("run gaussian -f broken.yml", "broken.yml, line 2: broken YAML"),
        ("run gaussian -f nowhere.yml", "cannot read nowhere.yml: No such file or directory"),
        ("run gaussian -f scenarios/other.yml", "says nothing about chapter 'gaussian'"),
        ("run gaussian -f scenarios", "cannot read scenarios: Is a directory"),
        (
            "run gaussian -f scenarios/smoke.yml -f dates.yml",
            "seed must be an integer >= 0, got '20",
        ),
        ("run gaussian -f /proc/self/mem", "cannot read /proc/self/mem: Input/output error"),
        ("run gaussian -f -", "standard input: parameters must be mapped to values, got None"),
        ("run gaussian -o nowhere/out.ipynb", "cannot write nowhere/out.ipynb: No such file or"),
        ("run gaussian -o broken.yml/out.ipynb", "cannot write broken.yml/out.ipynb: Not a dir"),
        ("run gaussian -o /proc/out.ipynb", "cannot write /proc/out.ipynb: "),
        (f"run gaussian -o {'x' * 300}.ipynb", "File name too long"),
        ("run gaussian -o pipe", "cannot write pipe: it is no file"),
        ("run gaussian -o scenarios", "File 'scenarios' is a directory"),
        ("pdf -o nowhere/book.pdf", "cannot write nowhere/book.pdf: No such file"),
        ("run gausian", "no chapter 'gausian'; did you mean 'gaussian'?"),
        ("run odd", "notebooks/odd.ipynb: parameters cell: line 1: write `name: type = value"),
        ("run", "Missing argument 'CHAPTER'"),
        ("run gaussian -p seed", "requires 2 arguments"),
        ("build nothing", "no chapter 'nothing'"),
        ("build --scenario smok", "no scenario 'smok'; did you mean 'smoke'?"),
        ("build --jobs 0", "0 is not in the range"),
        ("build --timeout nan", "'nan' is not a valid integer"),
        ("bild", "No such command 'bild'"),
        ("--project / list", "no book in /: it needs"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(author: Author, arguments, message, monkeypatch):
    author.chapter("gaussian")
    author.chapter("digits")
    author.chapter("odd", parameters="seed = 1")
    author.write("broken.yml", "description: x\nchapters: [gaussian: {seed\n")
    author.write("dates.yml", "seed: 2020-99-99\n")
    os.mkfifo(author.root / "pipe")
    author.write("scenarios/other.yml", "description: x\nchapters: {digits: {}}\n")
    author.write("scenarios/smoke.yml", "description: x\nchapters: {gaussian: {}, digits: {}}\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    done = press(author.root, *arguments.split())
    assert done.returncode == 2, done
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("collapse-book: ")
    assert done.stdout == ""


def test_mistake_and_its_exit_code_reach_the_shell(author: Author):
    author.chapter("gaussian")
    done = press_apart(author.root, "run", "gaussian", "-p", "n_samples", "-5")
    wrong = "n_samples must be an integer from 2 to 1,000,000, got -5"
    assert (done.returncode, done.stderr) == (2, f"collapse-book: {wrong}\n")


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


@pytest.mark.parametrize("command", ["build", "run", "sweep", "check", "list", "pdf", "lite"])
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


SMOKE = "description: x\nchapters: {gaussian: {seed: 2, rate: 0}}\n"


def test_later_files_win_and_the_command_line_wins_over_all(author: Author, monkeypatch):
    author.chapter("gaussian")
    author.write("scenarios/smoke.yml", SMOKE)
    author.write("flat.yml", "n_samples: 50\nseed: 3\n")
    runs = []

    def note(project, given, options):
        runs.append(given["gaussian"])
        return {}, {}

    monkeypatch.setattr(press_module, "run_chapters", note)
    monkeypatch.chdir(author.root)
    files = ["-f", "scenarios/smoke.yml", "-f", "flat.yml", "-f", "-"]
    for more, seed in ([], 4), (["-p", "seed", "5"], 5):
        done = CliRunner().invoke(cli.app, ["run", "gaussian", *files, *more], input="seed: 4")
        assert done.exit_code == 0, done.output
        assert runs.pop() == {"rate": 0.0, "n_samples": 50, "seed": seed}


WORDS = ("seed", "n_samples", "rate", "dataset", "quick", "description", "chapters", "gaussian")
#: What people and parsers stumble over, and the pieces of YAML.
PIECES = st.sampled_from(
    [
        *(*WORDS, "<<", "&a", "*a", "!!int", "!x", "%YAML 1.1"),
        *("2020-99-99", "12:30", "0o9", "1e999", ".nan", "1..9", "9..1", "9" * 450, "0x1"),
        *("true", "yes", "~", "\\ud800", "'", '"', "\t", "\x00", "\ufeff", "\u2028", "é", "#"),
        *("{", "}", "[", "]", ":", ": ", ",", "- ", "? ", "\n", "\n  ", " ", "|\n"),
        *("---\n", "...\n"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**65),
    st.floats(),
    st.text(),
    st.dates(),
    st.binary(max_size=3),
)
NAMES = st.sampled_from([*WORDS, "compare"]) | SCALARS
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4)
)
FILES = st.one_of(
    st.lists(PIECES, max_size=12).map(lambda pieces: "".join(pieces).encode()),
    st.dictionaries(NAMES, TREES, max_size=4).map(lambda tree: yaml.safe_dump(tree).encode()),
    st.text().map(str.encode),
    st.binary(),
)


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Author:
    """A book of one chapter for all examples, whose engines only note that they were reached."""
    author = Author(tmp_path_factory.mktemp("fuzz"))
    author.write("_config.yml", "title: Fuzz\nrepository: {url: https://example.org}\n")
    author.chapter("gaussian")
    author.toc("gaussian")
    author.write("scenarios/smoke.yml", "description: x\nchapters: {gaussian: {}}\n")
    author.write("book/index.md", "# Front\n")

    def reached(*arguments: Any) -> NoReturn:
        raise BuildFailed("reached")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(press_module, "run_chapters", reached)
        patch.setattr(sweep_module, "run_sweep", reached)
        yield author


def is_refused_or_reached(author: Author, *arguments: str) -> None:
    """One line and exit code 2, or nothing but the engine."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stopped:
        cli.main(["--project", str(author.root), *arguments])
    assert said.getvalue().startswith("collapse-book: ")
    assert said.getvalue().count("\n") == 1, said.getvalue()
    reached = said.getvalue() == "collapse-book: reached\n"
    assert stopped.value.code == (1 if reached else 2)


@pytest.mark.parametrize("name", ["seed", "rate", "dataset", "quick"])
@settings(deadline=None)
@given(text=st.text() | PIECES | SCALARS.map(str))
def test_any_value_of_a_parameter_is_taken_or_refused(book: Author, name: str, text: str):
    is_refused_or_reached(book, "run", "gaussian", "-p", name, text)


@settings(deadline=None)
@given(text=st.text())
def test_any_word_is_taken_or_refused(book: Author, text: str):
    for arguments in (["run", text], ["run", "gaussian", "-p", text, "1"], [text]):
        if not text.startswith("-"):
            is_refused_or_reached(book, *arguments)


@settings(max_examples=300, deadline=None)
@given(content=FILES)
@example(b"seed: 2020-99-99")
@example(b"a: &a [*a]")
@example(b"seed: " + b"9" * 5000)
def test_any_file_of_parameters_is_taken_or_refused(book: Author, content: bytes):
    path = book.root / "scenarios/fuzz.yml"
    path.write_bytes(content)
    is_refused_or_reached(book, "run", "gaussian", "-f", str(path))
    is_refused_or_reached(book, "sweep", "gaussian", "--grid", str(path), "--out", "out")
    for problem in check_scenarios(book.project):
        assert problem.startswith("scenarios/") and "\n" not in problem
