"""Prove the notebooks where Colab's versions run: no press, an older IPython, NumPy 2.0."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collapse_book.errors import BuildFailed
from collapse_book.files import write_atomic
from collapse_book.gate import check_book
from collapse_book.kernel import execute_notebook
from collapse_book.notebooks import Notebook, dump_notebook, joined, read_notebook
from collapse_book.project import Project
from collapse_book.report import Report
from collapse_book.stage import merge
from collapse_book.wheel import build_wheel, call, pip

REQUIREMENTS = Path(__file__).with_name("colab.txt")
#: Appended to a copy of each notebook: peak memory of its process and of the largest child, in MB.
MEMORY = """import resource, sys
unit = 1e6 if sys.platform == "darwin" else 1e3
print(sum(resource.getrusage(who).ru_maxrss / unit
          for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))"""
SHOWN = ("python", "ipython", "numpy", "torch", "transformers")


def prove(
    project: Project,
    chapters: Sequence[str],
    parameters: Mapping[str, Mapping[str, Any]],
    timeout: float | None,
    report: Report,
) -> dict[str, Any]:
    """Execute chapters with the library's wheel in an environment like Colab's.

    Returns
    -------
    dict
        ``date``, ``versions``, ``machine``, and for each chapter ``seconds`` and peak
        ``megabytes``.

    Raises
    ------
    BuildFailed
        If the environment cannot be made, or after all chapters have run, if one failed.
    """
    report.line("the environment: _build/colab")
    python = _environment(project)
    record: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(python),
        "chapters": {},
    }
    failures = []
    with report.executing(len(chapters)):
        for chapter in chapters:
            notebook = read_notebook(project.notebook(chapter))
            executed, error = execute_notebook(
                _with_memory(notebook), parameters.get(chapter, {}), timeout, python=str(python)
            )
            run = executed["metadata"]["collapse_book"]
            report.finished(chapter, error, run["seconds"])
            if error is not None:
                failures.append(f"{chapter}, {error}")
                continue
            megabytes = _read_memory(executed)
            path = project.build / "colab" / "runs" / f"{chapter}.ipynb"
            write_atomic(path, dump_notebook(executed))
            merged = merge(notebook, read_notebook(path))
            findings = check_book({chapter: merged}, strict=not parameters)
            failures += [str(finding) for finding in findings]
            record["machine"] = run["machine"]
            record["chapters"][chapter] = {
                "seconds": run["seconds"],
                "megabytes": round(megabytes),
            }
    if failures:
        raise BuildFailed("\n".join(failures))
    return record


def write_record(project: Project, record: Mapping[str, Any]) -> Path:
    """Keep a run for the status page."""
    path = project.recorded / "colab.json"
    write_atomic(path, json.dumps(record, indent=1) + "\n")
    return path


def _environment(project: Project) -> Path:
    """Python of an environment with Colab's versions and this book's wheel."""
    folder = project.build / "colab"
    python = folder / "bin" / "python"
    torch = re.search(r"^torch==.*$", project.constraints.read_text(), re.MULTILINE)
    wanted = REQUIREMENTS.read_text() + (torch[0] if torch else "")
    key = hashlib.sha256(wanted.encode()).hexdigest()
    stamp = folder / "installed"
    if not stamp.is_file() or stamp.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        call(sys.executable, "-m", "venv", str(folder))
        pins = folder / "torch.txt"
        pins.write_text(torch[0] if torch else "")
        pip(python, "install", "-c", str(pins), "-r", str(REQUIREMENTS))
        write_atomic(stamp, key)
    wheel = build_wheel(project, folder, python)
    pip(python, "install", "--force-reinstall", "--no-deps", str(wheel))
    pip(python, "install", "-c", str(folder / "torch.txt"), str(wheel))
    return python


def _versions(python: Path) -> dict[str, str]:
    script = (
        "import json, platform\nfrom importlib.metadata import version\n"
        f"names = {SHOWN[1:]!r}\n"
        "print(json.dumps({'python': platform.python_version(), **{n: version(n) for n in names}}))"
    )
    done = subprocess.run(
        [str(python), "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(done.stdout)


def _with_memory(notebook: Notebook) -> Notebook:
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "id": "peak-memory",
        "metadata": {},
        "outputs": [],
        "source": MEMORY,
    }
    return notebook | {"cells": [*notebook["cells"], cell]}


def _read_memory(executed: Notebook) -> float:
    """Take the appended cell off again and return what it printed."""
    cell = executed["cells"].pop()
    return float(joined(cell["outputs"][0]["text"]))
