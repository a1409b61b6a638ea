"""Execute one notebook with papermill, in a kernel that only this user can reach."""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from select import select
from typing import Any

import joblib
import nbformat
import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import LocalProvisioner
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError
from papermill.engines import papermill_engines
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from collapse_book.cache import distribution
from collapse_book.messages import one_line
from collapse_book.notebooks import INJECTED_TAG, Notebook, first_line, tags

#: Seconds that a kernel may take to answer on a quiet machine; twice as many the second time.
PATIENCE = 120.0
#: How often a kernel that dies or does not answer is started.
STARTS = 2
#: What a socket's path may measure (104 bytes on macOS), less what Jupyter appends to the folder.
LONGEST_FOLDER = 80

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
#: Level 50 silences what a kernel says when it is stopped in the middle of a cell; papermill
#: reports what matters.
KERNEL_OPTIONS = ("--IPKernelApp.log_level=50", "--HistoryManager.enabled=False")
#: What a kernel finds loaded, none of which starts a thread: packages that every reader has.
WARM = (
    *("numpy", "pandas", "PIL.Image", "seaborn", "scipy.optimize", "scipy.special", "scipy.stats"),
    *("matplotlib.pyplot", "matplotlib_inline.backend_inline"),
    *("sklearn.decomposition", "sklearn.mixture", "sklearn.neighbors"),
)
VERSIONS = (
    *("numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "seaborn"),
    *("torch", "transformers", "ipykernel", "papermill"),
)

# What papermill and traitlets log, they raise; asyncio tells of what nbclient leaves undone when a
# cell takes too long.
for name in ("papermill", "traitlets", "asyncio"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


def execute_notebook(
    notebook: Notebook, parameters: Mapping[str, Any], timeout: float | None = None
) -> tuple[Notebook, str | None]:
    """Execute a notebook in an empty temporary folder; several threads may do so at once.

    A kernel that dies or does not answer is started once more; an exception in the notebook is
    final.

    Parameters
    ----------
    notebook : dict
        The notebook's JSON.
    parameters : mapping
        Values for papermill to inject; already checked.
    timeout : float, optional
        Seconds that one cell may take.

    Returns
    -------
    executed : dict
        The notebook with outputs; a record of the run is in ``metadata.collapse_book``.
    error : str or None
        One line that says what went wrong.
    """
    for attempt in range(1, STARTS + 1):
        run = _Attempt(notebook, parameters, patience(attempt), timeout)
        if not run.kernel_lost:
            break
    return run.executed(), run.error


def patience(attempt: int) -> int:
    """Seconds that a kernel may take to answer: more on a loaded machine and at each attempt."""
    return math.ceil(PATIENCE * attempt * max(1.0, os.getloadavg()[0] / joblib.cpu_count()))


class _Attempt:
    """One kernel, one pass through the cells."""

    cell: int | None = None  # the one that runs, or failed
    kernel_lost = False
    error: str | None = None

    def __init__(
        self,
        notebook: Notebook,
        parameters: Mapping[str, Any],
        patience: int,
        timeout: float | None,
    ) -> None:
        self.started, self.clock = datetime.now(UTC), time.perf_counter()
        self.parameters, self.patience, self.timeout = dict(parameters), patience, timeout
        self.reply: Mapping[str, Any] = {}  # of the cell that failed
        self.nb = load_notebook_node(nbformat.from_dict(notebook))
        if parameters:
            self.nb = parameterize_notebook(self.nb, self.parameters, language="python")
        place = None if len(tempfile.gettempdir()) < LONGEST_FOLDER else "/tmp"
        with tempfile.TemporaryDirectory(prefix="book-", dir=place) as folder:
            manager = _manager(Path(folder), patience)
            try:
                self._run(manager)
            except Exception as error:
                self.error = self._describe(error, Path(folder) / "log")
            finally:
                ensure_event_loop().close()  # of this thread; the next attempt makes another

    def _run(self, manager: type) -> None:
        papermill_engines.execute_notebook_with_engine(
            None,
            self.nb,
            manager.kernel_name.default_value,
            progress_bar=False,
            kernel_manager_class=manager,
            start_timeout=self.patience,
            execution_timeout=self.timeout,
            iopub_timeout=self.patience,
            on_cell_start=self._note_cell,
            on_cell_error=self._note_reply,
        )
        if self.nb.metadata.papermill.exception:
            reason = ": ".join(str(self.reply.get(part) or "?") for part in ("ename", "evalue"))
            self.error = self._at_cell(reason)

    def _note_cell(self, cell: Any, cell_index: int) -> None:
        self.cell = cell_index

    def _note_reply(self, cell: Any, cell_index: int, execute_reply: Mapping[str, Any]) -> None:
        self.reply = execute_reply["content"]

    def _describe(self, error: Exception, log: Path) -> str:
        """What to say of an exception of papermill, nbclient or jupyter_client."""
        message = one_line(error)
        silent = "didn't respond" in message or "IOPub" in message
        self.kernel_lost = silent or "ernel died" in message
        if silent:
            load = f"load {os.getloadavg()[0]:.1f} on {joblib.cpu_count()} cores"
            return self._at_cell(f"the kernel did not answer in {self.patience} s ({load})")
        if self.kernel_lost:
            lines = log.read_text("utf-8", "replace").splitlines() if log.is_file() else []
            last = [line.strip() for line in lines if line.strip()][-1:]
            return self._at_cell(": ".join(["the kernel died", *last]))
        if isinstance(error, CellTimeoutError):
            return self._at_cell(f"took longer than {self.timeout:g} s")
        return self._at_cell(f"{type(error).__name__}: {message}")

    def _at_cell(self, what: str) -> str:
        """``cell 7 (fit = model.fit(x)): ValueError: ...``, as the author counts cells."""
        if self.cell is None:
            return one_line(what)
        what, cell = one_line(what), self.nb.cells[self.cell]
        if INJECTED_TAG in tags(cell):
            return f"the parameters given: {what}"
        before = [other for other in self.nb.cells[: self.cell] if INJECTED_TAG not in tags(other)]
        return f"cell {len(before) + 1} ({first_line(cell)}): {what}"

    def executed(self) -> Notebook:
        """The notebook as far as it ran, without what papermill notes for itself."""
        result = json.loads(json.dumps(self.nb))
        for part in (result, *result["cells"]):
            part["metadata"].pop("papermill", None)
        versions = {name: found for name in VERSIONS if (found := distribution(name)[0])}
        result["metadata"]["collapse_book"] = {
            "executed": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.clock, 2),
            "parameters": self.parameters,
            "versions": {"python": platform.python_version(), **versions},
            "machine": {
                "platform": f"{platform.system()} {platform.machine()}",
                "cores": joblib.cpu_count(),
                "accelerator": _accelerator(),
            },
        }
        return result


def _manager(folder: Path, patience: int) -> type[AsyncKernelManager]:
    """A kernel manager that keeps everything of its kernel in one private folder.

    The sockets are files there, so no port is open and nobody else can reach them; the IPython
    profile is empty, so that the reader's own start-up files do not change the book; and what the
    process writes to stderr outside of cells goes to a log.
    """
    work = folder / "work"
    work.mkdir()
    changes = ENVIRONMENT | {"IPYTHONDIR": str(folder / "ipython")}
    if data := os.environ.get("COLLAPSE_DATA_DIR"):
        changes["COLLAPSE_DATA_DIR"] = str(Path(data).absolute())

    class PrivateKernel(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            options |= {"transport": "ipc", "connection_file": str(folder / "k.json")}
            super().__init__(**options)
            if sys.platform == "linux":  # elsewhere libraries do not survive a fork
                self.provisioner = ForkProvisioner(kernel_spec=self.kernel_spec, parent=self)
                self.provisioner.patience = patience

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=[*launch, *KERNEL_OPTIONS], language="python")

        async def start_kernel(self, **options: Any) -> None:
            with open(folder / "log", "ab") as log:
                await self._async_start_kernel(
                    **options, cwd=str(work), env=os.environ | changes, stderr=log
                )

    return PrivateKernel


class ForkProvisioner(LocalProvisioner):
    """Starts a kernel as a fork of the fork server of this process, which starts when needed."""

    patience: float
    _lock = threading.Lock()
    _server: subprocess.Popen[str] | None = None

    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        order = {"arguments": cmd[3:], "environment": options["env"], "folder": options["cwd"]}
        order["log"] = options["stderr"].name
        with self._lock:
            server = self._running_server()
            try:
                print(json.dumps(order), file=server.stdin, flush=True)
                if not select([server.stdout], [], [], self.patience)[0]:
                    server.kill()
                    raise RuntimeError("Kernel didn't respond")
                self.process = _Fork(int(server.stdout.readline()))
            except (OSError, ValueError, psutil.NoSuchProcess):
                raise RuntimeError("Kernel died before it began") from None
        self.pid = self.pgid = self.process.pid
        return self.connection_info

    @classmethod
    def _running_server(cls) -> subprocess.Popen[str]:
        if cls._server is None or cls._server.poll() is not None:
            command = [sys.executable, "-P", "-m", "collapse_book.forkserver", *WARM]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            environment = os.environ | ENVIRONMENT
            cls._server = subprocess.Popen(
                command, env=environment, start_new_session=True, **pipes
            )
            atexit.register(cls._server.communicate)
        return cls._server


class _Fork(psutil.Process):
    """A process of the fork server, as `LocalProvisioner` wants it."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """None while it lives."""
        try:
            return 0 if self.status() == psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return 0


def _accelerator() -> str:
    """Accelerator that torch would find, asked from the operating system without loading torch."""
    if Path("/proc/driver/nvidia/version").is_file():
        return "NVIDIA GPU"
    arm = sys.platform == "darwin" and platform.machine() == "arm64"
    return "Apple GPU" if arm else "none"
