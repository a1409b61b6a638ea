"""One notebook in one kernel, and several side by side: what is passed, lost, late, or wrong."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from miniature import Author

from collapse_book import kernel
from collapse_book.execute import Options, Task, execute, longest_first
from collapse_book.kernel import execute_notebook
from collapse_book.notebooks import Notebook, joined, read_notebook


def run(author: Author, *cells: str, **options) -> tuple[Notebook, str | None]:
    author.chapter("one", *cells)
    given = options.pop("parameters", {})
    return execute_notebook(read_notebook(author.project.notebook("one")), given, **options)


def printed(notebook: Notebook) -> str:
    return joined(notebook["cells"][-1]["outputs"][0]["text"])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1 / 0"], "cell 5 (1 / 0): ZeroDivisionError: division by zero"),
        (["x = 1", "x == 1", "x = 1\nx / 0"], "cell 7 (x = 1): ZeroDivisionError: division by"),
        (["f = lambda: x", "f()", "x = 0", "f()", "1 / x", "f()"], "cell 6 (f()): NameError"),
        (["%surely x"], "cell 5 (%surely x): UsageError: Line magic function `%surely` not found"),
        (["raise ValueError"], "cell 5 (raise ValueError): ValueError: ?"),
        (["import sys\nsys.exit(3)"], "cell 5 (import sys): SystemExit: 3"),
    ],
)
def test_what_fails_in_a_cell_is_named_with_its_cell(author: Author, cells, message):
    """Of two equal cells it is the one that failed; the cell of parameters is not counted."""
    executed, error = run(author, *cells, parameters={"seed": 3})
    assert error is not None and error.startswith(message)
    assert executed["cells"][4]["execution_count"] == 4


@pytest.fixture
def no_server(monkeypatch):
    """No fork server has been started yet."""
    monkeypatch.setattr(kernel.ForkProvisioner, "_server", None)


def starts(folder: Path, first: str) -> Path:
    """An interpreter that does something else when it is started for the first time."""
    path = folder / "python"
    marker = folder / "started"
    path.write_text(
        f"#!/bin/sh\nif ! [ -e {marker} ]; then touch {marker}; {first}; fi\n"
        f'echo again >> {marker}\nexec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("first", ["exit 1", "exec sleep 1000"])
def test_kernel_that_dies_or_does_not_answer_is_started_once_more(
    author: Author, no_server, tmp_path, monkeypatch, first
):
    monkeypatch.setattr(kernel, "patience", lambda attempt: {1: 1, 2: 120}[attempt])
    python = starts(tmp_path, first)
    monkeypatch.setattr(sys, "executable", str(python))
    executed, error = run(author, "print(seed)")
    assert error is None
    assert printed(executed) == "1\n"
    assert (tmp_path / "started").read_text() == "again\n"


def test_kernel_that_never_answers_is_reported_with_what_was_waited_for(
    author: Author, no_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(kernel, "PATIENCE", 1)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0, 0))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 1000\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    _, error = run(author)
    cores = kernel.joblib.cpu_count()
    assert error == f"the kernel did not answer in 2 s (load 0.5 on {cores} cores)"


def test_patience_grows_with_the_load_and_at_each_attempt(monkeypatch):
    monkeypatch.setattr(kernel.joblib, "cpu_count", lambda: 2)
    for load, attempt, seconds in ((0.1, 1, 120), (2.0, 1, 120), (9.0, 1, 540), (9.0, 2, 1080)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0, 0))
        assert kernel.patience(attempt) == seconds


def test_kernel_that_dies_in_a_cell_again_is_reported_with_its_last_words(author: Author):
    speak = "import os\nimport time\nos.write(2, b'out of luck\\n')\ntime.sleep(1)\nos._exit(1)"
    _, error = run(author, speak)
    assert error == "cell 5 (import os): the kernel died: out of luck"


def test_cell_that_takes_too_long_is_reported(author: Author):
    _, error = run(author, "import time\ntime.sleep(60)", timeout=2)
    assert error == "cell 5 (import time): took longer than 2 s"


def test_interpreter_that_is_not_there_is_reported(author: Author, no_server, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    _, error = run(author)
    assert error is not None and error.startswith("FileNotFoundError: ")
    assert "/nowhere/python" in error


def test_kernel_has_an_environment_and_a_folder_of_its_own(author: Author, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("COLLAPSE_DATA_DIR", "data")
    monkeypatch.chdir(author.root)
    before = dict(os.environ)
    executed, error = run(
        author,
        "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['COLLAPSE_DATA_DIR'], "
        "os.listdir(), os.path.exists(os.environ['IPYTHONDIR'] + '/profile_default/startup'))",
    )
    assert error is None
    assert printed(executed).split()[:3] == ["1", f"{author.root}/data", "[]"]
    assert os.environ == before
    assert Path.cwd() == author.root
    assert executed["metadata"]["kernelspec"]["name"] == "python3"  # opens anywhere


def test_kernel_finds_nothing_of_another_one_nor_of_the_press(author: Author, monkeypatch):
    """What is loaded before is loaded for all; what a chapter does to it stays its own."""
    monkeypatch.chdir(author.root)
    look = (
        "import numpy, sys\n"
        "print(hasattr(numpy, 'spoilt'), 'mine' in dir(), 'collapse_utils.loop' in sys.modules,\n"
        "      'torch' in sys.modules, sys.path[0] == '', len(sys.modules['__main__'].In),\n"
        "      [p for p in sys.path if p.endswith(('collapse_book', 'book'))])\n"
        "numpy.spoilt = mine = True\n"
        "import collapse_utils.loop"
    )
    for _ in range(2):
        executed, error = run(author, look)
        assert error is None
        assert printed(executed) == "False False False False False 5 []\n"


def test_notebooks_run_side_by_side_and_one_that_breaks_the_press_does_not_stop_the_others(
    author: Author, tmp_path, monkeypatch
):
    """Each waits until the other two are there; one never comes to its kernel."""
    wait = (
        "import os, pathlib, time\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "(place / f'{seed}.there').write_text(os.getcwd())\n"
        "while len(list(place.glob('*.there'))) < 2:\n    time.sleep(0.05)\n"
        "print(seed, os.getcwd())"
    )
    author.chapter("one", wait)
    notebook = read_notebook(author.project.notebook("one"))
    inject = kernel.parameterize_notebook

    def broken(nb, parameters, **options):
        if parameters["seed"] == 13:
            raise ArithmeticError("the press\nitself")
        return inject(nb, parameters, **options)

    monkeypatch.setattr(kernel, "parameterize_notebook", broken)
    tasks = [Task(f"seed {seed}", notebook, {"seed": seed}) for seed in (13, 4, 5)]
    outcomes = {o.name: o for o in execute(tasks, Options(jobs=2, timeout=60), {})}
    assert outcomes["seed 13"].error == "ArithmeticError: the press itself"
    assert outcomes["seed 4"].error is outcomes["seed 5"].error is None
    found = [printed(outcomes[f"seed {seed}"].notebook).split() for seed in (4, 5)]
    assert [seed for seed, _ in found] == ["4", "5"]
    assert len({folder for _, folder in found} | {os.getcwd()}) == 3


def test_longest_first_and_unknown_before_all():
    tasks = [Task("short", {}, {}, 1), Task("new", {}, {}), Task("long", {}, {}, 9)]
    assert [task.name for task in longest_first(tasks)] == ["new", "long", "short"]
