"""The library as a wheel, built from a copy of the sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from collapse_book.errors import BuildFailed
from collapse_book.project import Project

SOURCES = ("pyproject.toml", "README.md", "LICENSE-CODE", "collapse_utils", "collapse_book")


def build_wheel(project: Project, folder: Path, python: Path) -> Path:
    """Build the wheel of ``collapse_utils`` with the pip of ``python``, in ``folder / "wheel"``.

    Raises
    ------
    BuildFailed
        If pip fails; the message has the last line of what it said.
    """
    source, wheels = folder / "source", folder / "wheel"
    for used in (source, wheels):
        shutil.rmtree(used, ignore_errors=True)
    source.mkdir(parents=True)
    for name in SOURCES:  # setuptools would leave a folder beside the sources that it builds from
        there = project.root / name
        (shutil.copytree if there.is_dir() else shutil.copy)(there, source / name)
    pip(python, "wheel", "--no-deps", "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    return wheel


def pip(python: Path, *arguments: str) -> None:
    """Run pip quietly with a Python of one's choice."""
    quiet = ("--quiet", "--disable-pip-version-check")
    call(str(python), "-m", "pip", arguments[0], *quiet, *arguments[1:])


def call(*command: str, cwd: Path | None = None) -> None:
    """Run a command that says nothing unless it fails.

    Raises
    ------
    BuildFailed
        If it fails, with the last line of its errors.
    """
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise BuildFailed(f"{' '.join(command[1:5])} ... failed: {said}")
