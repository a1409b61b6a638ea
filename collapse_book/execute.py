"""Run notebooks with papermill: one function for a task, two engines that run tasks."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol

from collapse_book.errors import BadInput, BuildFailed
from collapse_book.notebooks import Notebook
from collapse_book.workers import START, Crew

#: Seconds: for a scheduler to answer, for its first worker to join, between looks at the workers.
ANSWER, FIRST_WORKER, POLL = 10.0, 60.0, 2.0

#: One thread each: notebooks run side by side, and spinning BLAS threads cost more than they give.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TOKENIZERS_PARALLELISM": "false",
    # The C library of Linux hands memory back after every large array, and takes it again.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}
#: A fresh IPython profile: the reader's own start-up files must not change the book.
#: Level 50 silences ipykernel's remark that its local sockets are not encrypted, and what a
#: kernel says when it is stopped in the middle of a cell; papermill reports what matters.
KERNEL_CONFIG = "c = get_config()\nc.IPKernelApp.log_level = 50\nc.HistoryManager.enabled = False\n"
#: Name of the kernel: its interpreter is the one that was asked for, whatever else is installed.
KERNEL = "collapse-book"
VERSIONS = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "matplotlib",
    "seaborn",
    "torch",
    "transformers",
    "ipykernel",
    "papermill",
)


@dataclass(frozen=True)
class Task:
    """A notebook to execute; ``seconds`` is how long it took last time, if it is known."""

    name: str
    notebook: Notebook
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a task: the executed notebook, and a message if it did not end well."""

    name: str
    notebook: Notebook
    error: str | None = None


def execute_notebook(
    notebook: Notebook,
    parameters: Mapping[str, Any],
    timeout: float | None = None,
    python: str = sys.executable,
) -> tuple[Notebook, str | None]:
    """Execute a notebook in a temporary folder; needs nothing but its arguments.

    A kernel that dies is started once more, because sockets sometimes race; an exception in
    the notebook is final.

    Parameters
    ----------
    notebook : dict
        The notebook's JSON.
    parameters : mapping
        Values for papermill to inject; already checked.
    timeout : float, optional
        Seconds that one cell may take.
    python : str
        Interpreter of the kernel; it needs ipykernel.

    Returns
    -------
    executed : dict
        The notebook with outputs; a record of the run is in ``metadata.collapse_book``.
    error : str or None
        One line that says what went wrong.
    """
    executed, error, died = _attempt(notebook, parameters, timeout, python)
    if died:
        executed, error, _ = _attempt(notebook, parameters, timeout, python)
    return executed, error


def _attempt(
    notebook: Notebook, parameters: Mapping[str, Any], timeout: float | None, python: str
) -> tuple[Notebook, str | None, bool]:
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it logs, it raises
    logging.getLogger("asyncio").addFilter(_not_left_waiting)
    started = datetime.now(UTC)
    clock = time.perf_counter()
    error = None
    died = False
    with (
        tempfile.TemporaryDirectory(prefix="collapse-book-") as folder,
        _environment(folder, python),
    ):
        output = Path(folder) / "executed.ipynb"
        source = Path(folder) / "notebook.ipynb"
        source.write_text(json.dumps(notebook), encoding="utf-8")
        log = Path(folder) / "kernel.log"
        try:
            papermill.execute_notebook(
                source,
                output,
                parameters=dict(parameters),
                kernel_name=KERNEL,
                kernel_manager_class=_logged_kernel(log),
                progress_bar=False,
                start_timeout=120,
                execution_timeout=timeout,
                cwd=folder,
            )
        except papermill.PapermillExecutionError as problem:
            error = _describe(notebook, problem.source, f"{problem.ename}: {problem.evalue}")
        except CellTimeoutError:
            died_at = _running_source(output)
            error = _describe(notebook, died_at, f"took longer than {timeout:g} s")
        except (DeadKernelError, RuntimeError) as problem:
            if isinstance(problem, RuntimeError) and "Kernel died" not in str(problem):
                raise
            died = True
            error = _describe(notebook, _running_source(output), _last_words(log))
        if output.is_file():
            executed = json.loads(output.read_text(encoding="utf-8"))
        else:
            executed = json.loads(nbformat.writes(nbformat.from_dict(notebook)))
    for part in (executed, *executed["cells"]):
        part["metadata"].pop("papermill", None)  # it holds absolute paths
    executed["metadata"]["collapse_book"] = {
        "executed": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 2),
        "parameters": dict(parameters),
        "versions": _versions(),
        "machine": _machine(),
    }
    return executed, error, died


def _not_left_waiting(record: logging.LogRecord) -> bool:
    """Whether a message is not about the task that nbclient leaves when a cell takes too long."""
    return "_async_poll_output_msg" not in record.getMessage()


def _logged_kernel(log: Path) -> type:
    """A kernel manager whose kernel process writes to `log` what is not a cell's output.

    Native libraries speak there, sockets that race when a kernel ends among them; what the
    notebook itself writes to stderr is an output of its cell and goes through the gate.
    """
    from jupyter_client import AsyncKernelManager

    class LoggedKernelManager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            with log.open("ab") as stream:
                await self._async_start_kernel(**options, stderr=stream)

    return LoggedKernelManager


def _last_words(log: Path) -> str:
    """``the kernel died``, with the last line that it logged, if there is one."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return f"the kernel died: {said[-1]}" if said else "the kernel died"


@contextlib.contextmanager
def _environment(folder: str, python: str) -> Iterator[None]:
    """Environment variables of the kernel, set for the time of one execution."""
    spec = Path(folder) / "kernels" / KERNEL
    spec.mkdir(parents=True)
    launch = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    content = {"argv": launch, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(content))
    profile = Path(folder) / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG)
    values = ENVIRONMENT | {"IPYTHONDIR": str(profile.parent), "JUPYTER_PATH": folder}
    data = os.environ.get("COLLAPSE_DATA_DIR")
    if data:  # the kernel works in a temporary folder
        values["COLLAPSE_DATA_DIR"] = str(Path(data).absolute())
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _describe(notebook: Notebook, source: str | None, what: str) -> str:
    """``cell 7 (fit = model.fit(x)): ValueError: ...``, counting cells from 1."""
    from collapse_book.notebooks import first_line, joined

    what = " ".join(what.split())
    for number, cell in enumerate(notebook["cells"], start=1):
        if source is not None and joined(cell["source"]) == source:
            return f"cell {number} ({first_line(cell)}): {what}"
    return what


def _running_source(output: Path) -> str | None:
    """Source of the last cell that was started, as papermill saved it."""
    from collapse_book.notebooks import joined

    if not output.is_file():
        return None
    source = None
    for cell in json.loads(output.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and cell["metadata"].get("papermill", {}).get("start_time"):
            source = joined(cell["source"])
    return source


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, Any]:
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "accelerator": _accelerator(),
    }


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _accelerator() -> str:
    """Accelerator that torch would find, asked from the operating system without loading torch."""
    if Path("/proc/driver/nvidia/version").is_file():
        return "NVIDIA GPU"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "Apple GPU"
    return "none"


class Engine(Protocol):
    """Runs tasks and hands each outcome back as soon as it is there; to be entered first."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *exception: object) -> None: ...

    def run(
        self, tasks: Sequence[Task], *, timeout: float | None, started: Callable[[str], None]
    ) -> Iterator[Outcome]: ...


class InlineEngine:
    """One task after the other in this process: nothing to start for a single notebook."""

    def __enter__(self) -> InlineEngine:
        return self

    def __exit__(self, *exception: object) -> None:
        """There is nothing to end."""

    def run(
        self, tasks: Sequence[Task], *, timeout: float | None, started: Callable[[str], None]
    ) -> Iterator[Outcome]:
        for task in longest_first(tasks):
            started(task.name)
            yield Outcome(task.name, *execute_notebook(task.notebook, task.parameters, timeout))


class DaskEngine:
    """A Dask cluster: local processes, or the scheduler at ``address``.

    Entering it starts the processes, or connects and looks at the workers. A task that was
    running on a worker that is lost runs again on another one; what has been handed back is never
    run twice. A remote worker must have the same sources as this process.
    """

    def __init__(
        self, jobs: int, address: str | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.jobs = jobs
        self.address = address
        self.say = say
        self._crew: Crew | None = None

    def __enter__(self) -> DaskEngine:
        os.environ.update(ENVIRONMENT)  # before the workers start
        for name in ("distributed", "distributed.client"):  # what matters is said in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with contextlib.ExitStack() as stack:
            if self.address is None:
                self._client = stack.enter_context(_local_client(self.jobs))
            else:
                self._client = stack.enter_context(_remote_client(self.address))
                self._crew = Crew(self._client, self.address)
                self._crew.muster(FIRST_WORKER)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def run(
        self, tasks: Sequence[Task], *, timeout: float | None, started: Callable[[str], None]
    ) -> Iterator[Outcome]:
        from concurrent.futures import CancelledError

        from distributed import wait

        client, crew = self._client, self._crew
        waiting = list(longest_first(tasks))
        running: dict[Any, tuple[Task, list[str] | None]] = {}

        def submit(task: Task, workers: list[str] | None) -> None:
            future = client.submit(
                execute_notebook,
                task.notebook,
                dict(task.parameters),
                timeout,
                pure=False,
                workers=workers,
            )
            running[future] = (task, workers)

        try:
            while waiting or running:
                workers = None if crew is None else self._look(crew)
                # Never more tasks than threads: the scheduler would hand the rest out early.
                slots = sum(client.nthreads().values()) if workers is None else len(workers)
                for future, (task, allowed) in list(running.items()):
                    if allowed is not None and workers and not set(allowed) & set(workers):
                        future.cancel()  # all it may run on are gone
                        del running[future]
                        submit(task, workers)
                while waiting and len(running) < slots:
                    task = waiting.pop(0)
                    submit(task, workers)
                    started(task.name)
                if not running:
                    time.sleep(POLL)
                    continue
                with contextlib.suppress(TimeoutError):
                    wait(list(running), timeout=POLL, return_when="FIRST_COMPLETED")
                for future in [future for future in running if future.done()]:
                    task, _ = running.pop(future)
                    try:
                        outcome = Outcome(task.name, *future.result())
                    except CancelledError:
                        raise
                    except Exception as error:  # a lost worker, or the press: report, go on
                        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
                        outcome = Outcome(task.name, task.notebook, what)
                    future.release()  # its __del__ would: Python drops a Ctrl-C that falls there
                    yield outcome
        except (CancelledError, OSError):
            if self.address is None:
                raise
            raise BuildFailed(
                f"the scheduler at {self.address} is gone; what had finished is kept, "
                "so run the same command again"
            ) from None
        except BaseException:
            if self.address is not None:
                client.cancel(list(running))
            raise

    def _look(self, crew: Crew) -> list[str]:
        """Workers that may work now; a newcomer that may not is named once."""
        known = set(crew.refused)
        ready = crew.ready()
        for at in crew.refused.keys() - known:
            if self.say is not None:
                self.say(f"not used: worker {at}: {crew.refused[at]}")
        return ready


@contextlib.contextmanager
def _remote_client(address: str) -> Iterator[Any]:
    """Client of the scheduler at ``address``."""
    from distributed import Client

    try:
        client = Client(address, timeout=ANSWER)
    except (OSError, TimeoutError, ValueError) as error:
        why = " ".join(str(error).split())
        raise BadInput(
            f"no Dask scheduler answers at {address}: {why}; start one with `dask scheduler`, "
            f"and its workers with `{START.replace('ADDRESS', address)}`"
        ) from None
    with client:
        yield client


@contextlib.contextmanager
def _local_client(jobs: int) -> Iterator[Any]:
    """Client of a cluster of one-thread processes on this machine."""
    from distributed import Client, LocalCluster

    stack = contextlib.ExitStack()
    try:
        with _interrupts_held():
            cluster = LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # any free port: two builds may run at once
                silence_logs=logging.CRITICAL,
            )
            stack.callback(cluster.close, timeout=30)
            client = stack.enter_context(Client(cluster))
            client.run(_ignore_interrupts)
        yield client
    finally:
        with _interrupts_held():
            stack.close()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, here and in processes that are started meanwhile; it counts afterwards.

    It reaches every process of a terminal. A worker that is still loading would die of it with a
    traceback, and Dask cannot close a cluster that is half started, or that is half closed.
    """
    resource_tracker.ensure_running()  # when it starts, Python lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    """In a worker: leave Ctrl-C to the main process, and let kernels be interrupted again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """Tasks by the time they took before; those never run come first."""
    return sorted(
        tasks, key=lambda task: float("inf") if task.seconds is None else task.seconds, reverse=True
    )
