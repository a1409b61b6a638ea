"""Sweeps on a scheduler and workers started from the command line, which get killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import Author
from test_press_build import start, wait_for
from test_press_cli import press

import collapse_utils
from collapse_book import execute
from collapse_book.errors import BadInput
from collapse_book.execute import DaskEngine
from collapse_book.workers import Crew, describe

DASK = [sys.executable, "-m", "dask"]


class Cluster:
    """``dask scheduler`` and ``dask worker`` on this machine, as a user starts them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._spawn(
            "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"
        )
        wait_for(lambda: self.file.is_file() and self.file.read_text().endswith("}"))
        self.address = json.loads(self.file.read_text())["address"]

    def worker(self, name: str, *options: str, **environment: str) -> None:
        options = options or ("--nthreads", "1")
        fixed = ("--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--name", name)
        self._spawn(name, "worker", *fixed, *options, **environment)
        log = self.folder / f"{name}.log"
        wait_for(lambda: b"Registered to" in log.read_bytes())

    def kill(self, name: str) -> None:
        """As a machine dies: at once, with everything it runs."""
        process = self._started.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _spawn(self, name: str, command: str, *options: str, **environment: str) -> None:
        with open(self.folder / f"{name}.log", "wb") as log:
            self._started[name] = subprocess.Popen(
                [*DASK, command, "--scheduler-file", str(self.file), *options],
                cwd=self.folder,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def close(self) -> None:
        for name in reversed(list(self._started)):
            self.kill(name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    cluster.close()


def test_killed_worker_and_interrupted_sweep_lose_nothing_and_double_nothing(
    author: Author, cluster: Cluster, tmp_path: Path
):
    author.chapter(
        "walk",
        "import time\nfrom collapse_utils import glue\ntime.sleep(rate)",
        "if seed == 5: raise ValueError('unlucky')",
        'glue("double", str(2 * seed))',
    )
    author.toc("walk")
    author.write("grid.yml", "seed: 1..9\nrate: 0.2\n")
    out = tmp_path / "out"
    command = ("sweep", "walk", "--grid", "grid.yml", "--out", str(out))
    command += ("--scheduler", cluster.address)

    # A worker with other sources, and one with two threads, are refused before any work.
    other = shutil.copytree(Path(collapse_utils.__file__).parent, tmp_path / "old/collapse_utils")
    (other / "checks.py").write_text("# an older one\n")
    cluster.worker("old", "--nthreads", "2", PYTHONPATH=str(other.parent))
    done = press(author.root, *command)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert "collapse_utils 0.1.0 (" in done.stderr
    assert "install the same commit" in done.stderr
    assert not (out / "points").exists()
    cluster.kill("old")

    def finished() -> set[Path]:
        return set(out.glob("points/*.parquet"))

    cluster.worker("one")
    cluster.worker("two")
    sweep = start(author, *command)
    wait_for(lambda: len(finished()) >= 2)
    cluster.kill("one")
    before = len(finished())
    wait_for(lambda: len(finished()) >= before + 1)
    os.killpg(sweep.pid, signal.SIGINT)
    output, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output + errors
    kept = {path: path.stat().st_mtime_ns for path in finished()}
    assert 3 <= len(kept) < 8

    cluster.worker("three")
    done = press(author.root, *command)
    assert done.returncode == 1, done
    assert f"9 points of walk: {len(kept)} finished before, {9 - len(kept)} to run" in done.stdout
    assert done.stderr.startswith(
        "collapse-book: walk with seed=5, cell 6 (if seed == 5: raise ValueError('unlucky')): "
        "ValueError: unlucky (notebook as far as it ran: "
    )
    assert done.stderr.count("\n") == 1
    for path, changed in kept.items():
        assert path.stat().st_mtime_ns == changed

    # The table is that of an undisturbed run: each point once, in the order of the grid.
    table = pd.read_parquet(out / "table.parquet")
    seeds = [seed for seed in range(1, 10) if seed != 5]
    numbers = table[table["kind"] == "number"]
    assert list(numbers["seed"]) == seeds
    assert list(numbers["value"]) == [2.0 * seed for seed in seeds]
    assert list(table["seed"][table["kind"] == "failure"]) == [5]
    assert list(table["seed"][table["kind"] == "run"]) == seeds


class Client:
    """What a crew asks of a client, with made-up workers."""

    def __init__(self, **workers: tuple[int, object]) -> None:
        self.workers = workers

    def wait_for_workers(self, n_workers: int, timeout: float) -> None:
        if not self.workers:
            raise TimeoutError

    def nthreads(self) -> dict[str, int]:
        return {at: threads for at, (threads, _) in self.workers.items()}

    def run(self, function, workers: list[str], on_error: str) -> dict[str, object]:
        assert (function, on_error) == (describe, "return")
        return {at: self.workers[at][1] for at in workers}


def test_each_objection_to_a_worker_is_said():
    here = describe()
    client = Client(
        good=(1, here),
        old=(1, here | {"collapse_utils": "0.0.9 (abc)", "Python": "3.9"}),
        wide=(4, here),
        bare=(1, ModuleNotFoundError("No module named 'collapse_book'")),
        silent=(1, OSError("Timed out")),
    )
    with pytest.raises(BadInput) as error:
        Crew(client, "tcp://here").muster(1)
    lines = dict(
        line.removeprefix("worker ").split(": ", 1) for line in str(error.value).split("\n")
    )
    assert set(lines) == {"old", "wide", "bare", "silent"}
    assert (
        f"Python 3.9 there, {here['Python']} here; collapse_utils 0.0.9 (abc) there" in lines["old"]
    )
    assert "has 4 threads" in lines["wide"] and "--nthreads 1" in lines["wide"]
    assert "cannot load collapse_book (No module named 'collapse_book')" in lines["bare"]
    assert lines["silent"] == "does not answer (Timed out)"


def test_newcomer_is_looked_at_before_it_gets_work():
    here = describe()
    client = Client(good=(1, here))
    crew = Crew(client, "tcp://here")
    crew.muster(1)
    client.workers["late"] = (1, here)
    client.workers["old"] = (1, here | {"collapse_book": "0.0.9 (abc)"})
    assert crew.ready() == ["good", "late"]
    assert list(crew.refused) == ["old"]
    del client.workers["good"]
    assert crew.ready() == ["late"]


def test_scheduler_without_workers_is_bad_input():
    start = "dask worker tcp://here --nworkers -1 --nthreads 1"
    with pytest.raises(BadInput, match=f"no worker has joined tcp://here in 1 s; start .* {start}"):
        Crew(Client(), "tcp://here").muster(1)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://", "tcp://127.0.0.1"])
def test_scheduler_that_does_not_answer_is_bad_input(monkeypatch, address):
    monkeypatch.setattr(execute, "ANSWER", 1.0)
    start = f"dask worker {address} --nworkers -1 --nthreads 1"
    message = f"no Dask scheduler answers at {address}: .* with `dask scheduler`, .* `{start}`"
    with pytest.raises(BadInput, match=message), DaskEngine(1, address):
        pass
