"""The library's wheel, and the cells that bring it into a copy of a notebook."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import IPython
import pytest
from miniature import Author

from collapse_book.copies import installed_wheel, library_wheel
from collapse_book.messages import BadInput
from collapse_book.notebooks import INSTALL_CELL
from collapse_book.pages import brings_library
from collapse_book.project import Project

BOOK = Project(Path(__file__).parents[2])
#: Runs a cell as a notebook would, in a Python that knows the packages and not this clone.
ELSEWHERE = """
import sys
sys.path.append(sys.argv[1])
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(colors="NoColor")
sys.exit(not shell.run_cell(sys.stdin.read()).success)
"""


def elsewhere(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    packages = Path(IPython.__file__).parents[1]
    command = [sys.executable, "-I", "-S", "-c", ELSEWHERE, packages]
    return subprocess.run(command, input=source, cwd=folder, capture_output=True, text=True)


def test_wheel_holds_the_library_alone_and_is_the_same_every_time():
    name, content = library_wheel(BOOK)
    assert library_wheel(BOOK) == (name, content)
    version = metadata.version("collapse-utils")
    assert name == f"collapse_utils-{version}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        folders = {entry.partition("/")[0] for entry in wheel.namelist()}
        assert folders == {"collapse_utils", f"collapse_utils-{version}.dist-info"}
        about = wheel.read(f"collapse_utils-{version}.dist-info/METADATA").decode()
        assert "Requires-Dist: numpy>=" in about and "torch" not in about
    assert len(content) < 300_000


def test_pip_takes_the_wheel(tmp_path):
    name, content = library_wheel(BOOK)
    (tmp_path / name).write_bytes(content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "there", tmp_path / name], check=True)
    assert (tmp_path / "there/collapse_utils/__init__.py").is_file()


def test_installed_package_becomes_a_wheel_again():
    name, content = installed_wheel("seaborn")
    assert name == f"seaborn-{metadata.version('seaborn')}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        assert "seaborn/__init__.py" in wheel.namelist()
    with pytest.raises(BadInput, match="no-such-package is not installed"):
        installed_wheel("no-such-package")


def test_without_a_version_one_line_says_so(author: Author):
    author.write("collapse_utils/__init__.py", "")
    with pytest.raises(BadInput, match=r"no wheel without pyproject\.toml and a version"):
        library_wheel(author.project)


def test_downloaded_copy_carries_the_library_and_runs(tmp_path):
    cell = brings_library(BOOK, *library_wheel(BOOK))
    use = "\nimport collapse_utils, numpy\nprint(collapse_utils.recurse, collapse_utils.__file__)"
    done = elsewhere(tmp_path, cell + use)
    assert done.returncode == 0, done
    assert "function recurse" in done.stdout
    assert str(BOOK.root) not in done.stdout


def test_copy_in_git_stops_with_one_sentence(tmp_path):
    done = elsewhere(tmp_path, INSTALL_CELL)
    assert done.returncode == 1
    assert done.stdout == (
        "The book's library is missing: open this chapter from the book's site, "
        "or run `pip install .` in a clone of the repository.\n"
    )


def test_published_copy_takes_exactly_the_wheel_of_the_site(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_ADDRESS", "https://book.invalid/here/")
    name, content = library_wheel(BOOK)
    cell = brings_library(Project(BOOK.root), name, content)
    assert f'URL = "https://book.invalid/here/wheel/{name}"' in cell
    assert hashlib.sha256(content).hexdigest() in cell

    done = elsewhere(tmp_path, cell)
    assert done.returncode == 1
    (said,) = done.stdout.splitlines()
    assert said.startswith("The book's library cannot be fetched from https://book.invalid/here/")

    wheel = tmp_path / name
    there = cell.replace(f"https://book.invalid/here/wheel/{name}", wheel.as_uri())
    wheel.write_bytes(content)
    assert elsewhere(tmp_path, f"{there}\nimport collapse_utils").returncode == 0
    wheel.write_bytes(content + b" ")
    done = elsewhere(tmp_path, there)
    assert done.returncode == 1
    (said,) = done.stdout.splitlines()
    assert said.startswith("The book has changed since this copy was made")
