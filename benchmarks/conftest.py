"""``--record`` keeps what the benchmarks print, for the page *How fast is it?*.

A goal is a ratio of two times of the same run, so that it holds on a slow machine as on a fast one:
at most two thirds of the least that was measured with AVX-512 kernels and with AVX2 kernels of
numpy, OpenBLAS, MKL and torch. The comment at each goal has that least ratio.
"""

from __future__ import annotations

import ast
import json
import re
import time
from pathlib import Path

import pytest
from machine import described

FILE = Path(__file__).resolve().parents[1] / "recorded" / "bench.json"
#: What only a reader of the source needs to know.
LAST = re.compile(r"The last test prints[^.]*\.")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help=f"write the printed tables to {FILE.name}"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record"):
        config.pluginmanager.register(Recorder(config.rootpath), "recorder")


class Recorder:
    """Collects, for each benchmark file, its question, printed tables, properties and failures."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, dict] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        path, name = report.nodeid.split("::", 1)
        if path not in self.files:
            source = (self.root / path).read_text(encoding="utf-8")
            about = ast.get_docstring(ast.parse(source)).split("\n\n")
            self.files[path] = {
                "question": " ".join(about[0].split()),
                "about": [
                    LAST.sub("", " ".join(text.split())).strip()
                    for text in about[1:]
                    if "pytest" not in text
                ],
                "tables": [],
                "missed": [],
            }
        entry = self.files[path]
        if report.capstdout.strip():
            entry["tables"].append(report.capstdout.strip("\n"))
        entry |= dict(report.user_properties)
        if report.failed:
            crash = report.longrepr.reprcrash.message.splitlines()[0]
            entry["missed"].append(f"{name}: {crash.removeprefix('AssertionError: ')}")

    def pytest_sessionfinish(self) -> None:
        if not self.files:
            return
        record = described() | {"files": dict(sorted(self.files.items()))}
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture
def clock(benchmark, request):
    """Benchmark a call of (generations x replicates) steps in process time, into SECONDS."""

    def run(name, steps, function, *arguments, **keywords):
        benchmark._timer = time.process_time
        benchmark.pedantic(function, arguments, keywords, rounds=10, warmup_rounds=1)
        if benchmark.stats is not None:  # absent with --benchmark-disable
            request.module.SECONDS[name] = seconds = benchmark.stats.stats.min / steps
            benchmark.extra_info["microseconds per generation x replicate"] = 1e6 * seconds

    return run
