"""A Python that has loaded what most chapters import; a kernel is a fork of it.

It has one thread, reads a line of JSON for each kernel, and answers with its process id. It ends
with the process that started it, and its kernels end with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
from importlib import import_module
from typing import Any

from ipykernel.kernelapp import launch_new_instance


def serve(modules: list[str]) -> None:
    """Fork a kernel for each line; load the modules, those that are installed, before the second.

    A kernel that stays the only one loads what it needs, and no more.
    """
    signal.signal(signal.SIGCHLD, _reap)
    end_with_me = f"--IPKernelApp.parent_handle={os.getpid()}"
    for number, line in enumerate(sys.stdin):
        for name in modules if number == 1 else ():
            with contextlib.suppress(ImportError):
                import_module(name)
        gc.freeze()  # a collection in a kernel would copy every page that it shares with the others
        if (process := os.fork()) == 0:
            become_kernel(end_with_me, **json.loads(line))
        print(process, flush=True)


def _reap(*_: Any) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become_kernel(
    *more: str, arguments: list[str], environment: dict[str, str], folder: str, log: str
) -> None:
    """Do in a fork what starting a program does, then be the kernel until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDWR)
    for here, there in enumerate((nothing, nothing, os.open(log, os.O_WRONLY | os.O_APPEND))):
        os.dup2(there, here)
    sys.argv[1:] = [*arguments, *more]
    sys.exit(launch_new_instance())


if __name__ == "__main__":
    serve(sys.argv[1:])
