"""Run many notebooks: in threads of this process, or on the workers of a Dask scheduler."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from collapse_book.errors import BadInput, BuildFailed
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
    here = _local(options) if options.scheduler is None else _cluster(options, packages)
    with here as (submit, slots):
        while waiting or running:
            while waiting and len(running) < slots():
                task = waiting.pop(0)
                future = submit(
                    execute_notebook, task.notebook, dict(task.parameters), options.timeout
                )
                running[future] = task
            for future in wait(running, return_when="FIRST_COMPLETED").done:
                task = running.pop(future)
                try:
                    yield Outcome(task.name, *future.result())
                except CancelledError:
                    raise BuildFailed(
                        f"the scheduler at {options.scheduler} is gone; what had finished is kept, "
                        "so run the same command again"
                    ) from None
                except Exception as error:  # a lost worker, or the press: report, go on
                    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    yield Outcome(task.name, task.notebook, what)


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Tasks by the time they may take; those of which nothing is known come first."""
    return sorted(
        tasks, key=lambda task: float("inf") if task.seconds is None else task.seconds, reverse=True
    )


Place = tuple[Callable[..., Future[Any]], Callable[[], int]]


@contextlib.contextmanager
def _local(options: Options) -> Iterator[Place]:
    """Threads of this process; when it is interrupted the kernels end at once."""
    import joblib

    from collapse_book.kernel import Kernels

    jobs, kernels = options.jobs or joblib.cpu_count(), Kernels()
    pool = ThreadPoolExecutor(jobs)

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return pool.submit(function, *arguments, kernels=kernels)

    try:
        yield submit, lambda: jobs
    finally:
        kernels.stop()
        pool.shutdown(cancel_futures=True)


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
            f"no Dask scheduler answers at {address}: {' '.join(str(error).split())}; start one "
            f"with `dask scheduler`, and its workers with `{start}`"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError:
            raise BadInput(
                f"no worker has joined {address} in {FIRST_WORKER:g} s; start some: {start}"
            ) from None
        here = describe(list(packages)) | dict(packages)
        answers = client.run(describe, list(packages), on_error="return")
        found = {at: _difference(here, there) for at, there in answers.items()}
        if any(found.values()):
            lines = [f"worker {at}: {why}" for at, why in found.items() if why]
            raise BadInput("\n".join(lines))
        executor: Executor = client.get_executor(pure=False)

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return executor.submit(_as_here, here, function, *arguments)

        # Few more than run: the scheduler would hold every notebook in its memory.
        yield submit, lambda: max(2, 2 * sum(client.nthreads().values()))


def describe(packages: Sequence[str]) -> dict[str, str]:
    """What must be the same everywhere: Python's minor version, our sources, what is installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: _digest(name) for name in PACKAGES}, **versions}


def _digest(package: str) -> str:
    """Hash of every source and data file of an importable package."""
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        return "missing"
    folder = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _difference(here: Mapping[str, str], there: Any) -> str | None:
    """What keeps a worker from giving the same results, or None."""
    if isinstance(there, (OSError, TimeoutError)):
        return f"does not answer ({there})"
    if isinstance(there, BaseException):
        return f"cannot load collapse_book ({there}): install this book's environment there"
    other = [f"{name} {there[name]} there, {here[name]} here"
             for name in here if there[name] != here[name]]  # fmt: skip
    return f"{'; '.join(other)}: install the same on both" if other else None


def _as_here(here: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """On a worker, which may have joined late: refuse to work with other sources."""
    packages = [name for name in here if name != "Python" and name not in PACKAGES]
    if why := _difference(here, describe(packages)):
        return arguments[0], f"a worker on {platform.node()}: {why}"
    return function(*arguments)
