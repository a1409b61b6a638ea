"""Run many notebooks: in threads of this process, or on the workers of a Dask scheduler."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from collapse_book.cache import distribution
from collapse_book.files import files_below
from collapse_book.messages import BadInput, BuildFailed, one_line
from collapse_book.notebooks import Notebook

#: Seconds: for a scheduler to answer, and for its first worker to join.
ANSWER, FIRST_WORKER = 10.0, 60.0
START = "dask worker ADDRESS --nworkers -1 --nthreads 1"
PACKAGES = ("collapse_utils", "collapse_book")


@dataclass(frozen=True)
class Task:
    """A notebook to execute; ``seconds`` is how long it may take, if anything is known."""

    name: str
    notebook: Notebook
    parameters: Mapping[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the notebook as far as it ran, and a message if it failed."""

    name: str
    notebook: Notebook
    error: str | None = None

    @property
    def seconds(self) -> float:
        """How long it took; 0 if it never came to its kernel."""
        return self.notebook["metadata"].get("collapse_book", {}).get("seconds", 0.0)


@dataclass(frozen=True)
class Options:
    """How to execute: notebooks at once, seconds per cell, ignore what is there, scheduler."""

    jobs: int | None = None
    timeout: float | None = None
    force: bool = False
    scheduler: str | None = None


def execute(
    tasks: Sequence[Task], options: Options, packages: Mapping[str, str]
) -> Iterator[Outcome]:
    """Execute notebooks, the longest first, and hand each outcome back as soon as it is there.

    Locally each notebook has a thread here, which waits, and a kernel, which works. On a cluster
    a task whose worker is lost runs again on another one. Close the iterator to stop early.

    Parameters
    ----------
    tasks : sequence of Task
    options : Options
    packages : mapping of str to str
        Versions that every worker must have.

    Raises
    ------
    BadInput
        If the scheduler does not answer or a worker has other sources or versions.
    BuildFailed
        If the scheduler is lost.
    """
    from collapse_book.kernel import execute_notebook

    waiting = longest_first(tasks)
    running: dict[Future[Any], Task] = {}
    place = _local(options) if options.scheduler is None else _cluster(options, packages)
    with place as (submit, slots):
        while waiting or running:
            while waiting and len(running) < slots():
                task = waiting.pop(0)
                given = (task.notebook, dict(task.parameters), options.timeout)
                running[submit(execute_notebook, *given)] = task
            for future in wait(running, return_when="FIRST_COMPLETED").done:
                task = running.pop(future)
                try:
                    yield Outcome(task.name, *future.result())
                except CancelledError:
                    raise BuildFailed(
                        f"the scheduler at {options.scheduler} is gone; what had finished is kept, "
                        "so run the same command again"
                    ) from None
                except BadInput:  # of a worker that is not as we are
                    raise
                except Exception as error:  # a lost worker, or the press: report, go on
                    what = f"{type(error).__name__}: {one_line(error)}"
                    yield Outcome(task.name, task.notebook, what)


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Tasks by the time they may take; those of which nothing is known come first."""
    return sorted(tasks, key=lambda task: -math.inf if task.seconds is None else -task.seconds)


Place = tuple[Callable[..., Future[Any]], Callable[[], int]]


@contextlib.contextmanager
def _local(options: Options) -> Iterator[Place]:
    """Threads of this process; when it is interrupted the kernels end at once."""
    import joblib
    import psutil

    jobs = options.jobs or joblib.cpu_count()
    pool, futures = ThreadPoolExecutor(jobs), []

    def submit(*call: Any) -> Future[Any]:
        futures.append(pool.submit(*call))
        return futures[-1]

    try:
        yield submit, lambda: jobs
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):  # one may be starting its kernel
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            time.sleep(0.1)


@contextlib.contextmanager
def _cluster(options: Options, packages: Mapping[str, str]) -> Iterator[Place]:
    """Workers at a scheduler; TLS, if any, comes from Dask's own configuration."""
    from distributed import Client

    address = str(options.scheduler)
    start = START.replace("ADDRESS", address)
    for name in ("distributed", "distributed.client"):  # what matters is said in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=ANSWER)
    except Exception as error:  # each transport has errors of its own
        raise BadInput(
            f"no Dask scheduler answers at {address}: {one_line(error)}; start one "
            f"with `dask scheduler`, and its workers with `{start}`"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError:
            raise BadInput(
                f"no worker has joined {address} in {FIRST_WORKER:g} s; start some: {start}"
            ) from None
        here = describe(packages) | dict(packages)
        executor: Executor = client.get_executor(pure=False)

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return executor.submit(_as_here, here, function, *arguments)

        # Few more than run: the scheduler would hold every notebook in its memory.
        yield submit, lambda: max(2, 2 * sum(client.nthreads().values()))


def describe(packages: Iterable[str]) -> dict[str, str]:
    """What must be the same everywhere: Python's minor version, our sources, what is installed."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in PACKAGES:
        folder, digest = Path(str(resources.files(package))), hashlib.sha256()
        for path in files_below(folder):
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
        found[package] = digest.hexdigest()[:8]
    return found | {name: distribution(name)[0] or "not installed" for name in packages}


def _as_here(here: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """On a worker, which may have joined late: refuse to work with other sources or versions."""
    there = describe(here.keys() - {"Python", *PACKAGES})
    other = [f"{k} {there[k]} there, {here[k]} here" for k in here if there[k] != here[k]]
    if other:
        what = "; ".join(other)
        raise BadInput(f"a worker on {platform.node()}: {what}: install the same on both")
    return function(*arguments)
