"""Sweeps on a scheduler and workers started from the command line, which get killed."""

from __future__ import annotations

import io
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
from joblib.externals.loky.backend import context
from miniature import Author
from test_cli import press_apart as press
from test_press import start, wait_for

import collapse_utils
from collapse_book import execute
from collapse_book.execute import Options, Task, describe
from collapse_book.messages import BadInput

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
        'glue("double", 2 * seed)',
    )
    author.toc("walk")
    author.write("grid.yml", "seed: 1..9\nrate: 0.2\n")
    out = tmp_path / "out"
    command = ("sweep", "walk", "--grid", "grid.yml", "--out", str(out))
    command += ("--scheduler", cluster.address)

    # A worker with other sources is refused before any work.
    other = shutil.copytree(Path(collapse_utils.__file__).parent, tmp_path / "old/collapse_utils")
    (other / "_checks.py").write_text("# an older one\n")
    path = os.pathsep.join([str(other.parent), os.environ.get("PYTHONPATH", "")])
    cluster.worker("old", PYTHONPATH=path)
    done = press(author.root, *command)
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1
    assert ": collapse_utils " in done.stderr
    assert "install the same on both" in done.stderr
    assert not (out / "executed").exists()
    cluster.kill("old")

    def finished() -> set[Path]:
        return set(out.glob("executed/walk/*.ipynb"))

    cluster.worker("one")
    cluster.worker("two", "--nthreads", "2")
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
    assert f"executing {9 - len(kept)} of 9 notebooks, {len(kept)} unchanged" in done.stdout
    assert done.stderr.startswith(
        "collapse-book: walk with seed=5, cell 6 (if seed == 5: raise ValueError('unlucky')): "
        "ValueError: unlucky (notebook as far as it ran: "
    )
    assert done.stderr.count("\n") == 1
    for path, changed in kept.items():
        assert path.stat().st_mtime_ns == changed

    # The table is that of an undisturbed run: each point once, in the order of the grid.
    table = pd.read_parquet(out / "walk.parquet")
    seeds = [seed for seed in range(1, 10) if seed != 5]
    numbers = table[table["kind"] == "number"]
    assert list(numbers["seed"]) == seeds
    assert list(numbers["value"]) == [2.0 * seed for seed in seeds]
    assert list(table["seed"][table["kind"] == "failure"]) == [5]
    assert list(table["seed"][table["kind"] == "run"]) == seeds


def test_worker_with_other_sources_or_versions_does_no_work_whenever_it_joins():
    here = describe(["numpy", "surely-not"])
    assert here["surely-not"] == "not installed"
    assert execute._as_here(here, max, 1, 2) == 2
    other = here | {"collapse_utils": "abc", "Python": "3.9", "numpy": "1.0"}
    with pytest.raises(BadInput) as error:
        execute._as_here(other, max, 1, 2)
    assert str(error.value).partition(": ")[2] == (
        f"Python {here['Python']} there, 3.9 here; collapse_utils {here['collapse_utils']} there, "
        f"abc here; numpy {here['numpy']} there, 1.0 here: install the same on both"
    )


def test_scheduler_without_workers_is_bad_input(cluster: Cluster, monkeypatch):
    monkeypatch.setattr(execute, "FIRST_WORKER", 0.5)
    message = f"no worker has joined {cluster.address} in 0.5 s; start some: dask worker"
    with pytest.raises(BadInput, match=message):
        list(execute.execute([Task("x", {}, {})], Options(scheduler=cluster.address), {}))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://", "tcp://127.0.0.1"])
def test_scheduler_that_does_not_answer_is_bad_input(monkeypatch, address):
    monkeypatch.setattr(execute, "ANSWER", 1.0)
    start = f"dask worker {address} --nworkers -1 --nthreads 1"
    message = f"no Dask scheduler answers at {address}: .* with `dask scheduler`, .* `{start}`"
    with pytest.raises(BadInput, match=message):
        list(execute.execute([Task("x", {}, {})], Options(scheduler=address), {}))


CGROUP = "/sys/fs/cgroup/cpu.max"  # where Linux says how much time a container may have


@pytest.mark.parametrize(("quota", "jobs"), [("300000 100000", 3), ("max 100000", 8)])
def test_notebooks_at_once_are_the_cores_that_a_container_may_use(monkeypatch, quota, jobs):
    here, exists = context.os, context.os.path.exists
    monkeypatch.setattr(here, "cpu_count", lambda: 8)
    monkeypatch.setattr(here, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(here.path, "exists", lambda name: name == CGROUP or exists(name))
    files = {CGROUP: io.StringIO(quota)}
    monkeypatch.setattr(context, "open", lambda name: files[name], raising=False)
    with execute._local(Options()) as (_, room):
        assert room() == jobs
