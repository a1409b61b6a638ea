"""Execute chapters with other numerical kernels of this machine, and compare what they publish.

    python benchmarks/kernels.py [--scenario smoke] [--setting avx2] [CHAPTER ...]

numpy, OpenBLAS, MKL and torch choose their kernels by the processor, so that another processor adds
numbers in another order. Environment variables make them choose as an older processor would. Each
setting has a copy of the book in ``_build/kernels``, with a cache of its own, in which finished
chapters stay. The comparison goes to ``recorded/kernels.json``, for the status page. Threads are no
part of it: the press gives each chapter one.
"""

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from collapse_book.files import write_atomic
from collapse_book.gate import GLUE_PREFIX, claims_of, glue_key, outputs_of
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.notebooks import joined, read_notebook
from collapse_book.pages import revision
from collapse_book.project import Project

COPIED = (
    *("_config.yml", "constraints.txt", "book", "notebooks", "scenarios"),
    *("collapse_book", "collapse_utils"),
)
NUMBER = re.compile(r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-−+]?\d+)?")
VARIABLES = (
    *("OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"),
    "NPY_DISABLE_CPU_FEATURES",
)
#: Asks the libraries what they chose.
CHOICE = """
import scipy.linalg, torch, threadpoolctl
from numpy._core._multiarray_umath import __cpu_features__ as on, __cpu_dispatch__ as known
blas = {lib["architecture"] for lib in threadpoolctl.threadpool_info() if lib.get("architecture")}
print(f"OpenBLAS {'/'.join(sorted(blas))}, torch {torch.backends.cpu.get_cpu_capability()}, "
      f"numpy {' '.join(name for name in known if on.get(name)) or 'without dispatch'}")
"""


def settings() -> dict[str, dict[str, str]]:
    """Environment of each setting; the first one leaves the choice to the libraries."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    features = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    wide = " ".join(name for name in features if "512" in name or name == "X86_V4")
    values = {
        "default": (),
        "avx2": ("Haswell", "avx2", "AVX2", "AVX2", wide),
        "compatible": ("Nehalem", "default", "COMPATIBLE", "SSE41", " ".join(features)),
    }
    rest = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {
        name: rest | dict(zip(VARIABLES, given, strict=False)) for name, given in values.items()
    }


def execute(
    project: Project, setting: str, chapters: Sequence[str], scenario: str | None
) -> dict[str, Path]:
    """Run chapters under a setting, one after the other; the executed notebooks."""
    folder = project.build / "kernels" / setting
    folder.mkdir(parents=True, exist_ok=True)
    for source in (project.root / name for name in COPIED):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, dirs_exist_ok=True)
        else:
            shutil.copy2(source, folder)
    # The copy is what runs, whatever happens here meanwhile; a network that is pre-trained once is
    # part of what the kernels decide.
    own = {"COLLAPSE_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    environment = settings()[setting] | own
    given = ["-f", f"scenarios/{scenario}.yml"] if scenario else []
    found = {}
    for chapter in chapters:
        found[chapter] = folder / f"{chapter}-{scenario or 'defaults'}.ipynb"
        found[chapter].unlink(missing_ok=True)
        command = ["-m", "collapse_book", "--project", str(folder), "run", chapter, *given]
        done = subprocess.run(
            [sys.executable, *command, "-o", str(found[chapter])],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not found[chapter].is_file():
            raise BuildFailed(f"{chapter} under {setting}: {done.stderr.strip()}")
        click.echo(f"{setting}: {chapter}, {'passed' if done.returncode == 0 else 'findings'}")
    return found


def published(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Glued texts, but for those of cells that read the clock, and claims, by key."""
    notebook = read_notebook(path)
    glued = {
        key: str(ast.literal_eval(joined(output["data"][f"{GLUE_PREFIX}text/plain"])))
        for _, cell, output in outputs_of(notebook)
        if (key := glue_key(output)) and "process_time" not in cell["source"]
    }
    return glued, {claim["id"]: claim for claim in claims_of(notebook)}


def shared_digits(a: str, b: str) -> int:
    """To how many digits the numbers of two texts round to the same; 0 if other words differ."""
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return 0
    pairs = [
        [float(text.replace(",", "").replace("−", "-")) for text in pair]
        for pair in zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    ]
    same = [d + 1 for d in range(16) if all(f"{x:.{d}e}" == f"{y:.{d}e}" for x, y in pairs)]
    return max(same, default=0)


def compare(reference: Path, others: Mapping[str, Path]) -> dict[str, Any]:
    """What changes in a chapter: verdicts, glued numbers, and measurements in standard errors."""
    glued, claims = published(reference)
    verdicts, changed, digits, moved = [], set(), [], [0.0]
    for setting, path in others.items():
        other_glued, other_claims = published(path)
        for key in glued.keys() | other_glued.keys():
            texts = glued.get(key, "absent"), other_glued.get(key, "absent")
            if texts[0] != texts[1]:
                changed.add(key)
                digits.append(shared_digits(*texts))
        for key in claims.keys() | other_claims.keys():
            was, now = ({"verdict": "absent"} | c.get(key, {}) for c in (claims, other_claims))
            if was["verdict"] != now["verdict"]:
                verdicts.append(f"{key}: {was['verdict']}, {now['verdict']} under {setting}")
            elif was["strained"]["at"] == now["strained"]["at"] and was["strained"]["se"]:
                shift = abs(was["strained"]["value"] - now["strained"]["value"])
                moved.append(shift / was["strained"]["se"])
    return {
        "settings": list(others),
        "claims": len(claims),
        "verdicts": sorted(verdicts),
        "numbers": len(glued),
        "changed": sorted(changed),
        "digits": min(digits, default=None),
        "standard_errors": round(max(moved), 2),
    }


@click.command()
@click.argument("chapters", nargs=-1)
@click.option("--scenario", help="A scenario's parameters in place of the defaults.")
@click.option(
    "--setting", "names", multiple=True, default=[*settings()][1:], show_default=True,
    type=click.Choice([*settings()][1:]), help="Repeat it for several.",
)  # fmt: skip
def main(chapters: tuple[str, ...], scenario: str | None, names: tuple[str, ...]) -> None:
    """Compare CHAPTERS (default: all) under other kernels; write recorded/kernels.json."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise BadInput(f"the settings are for x86-64 processors, got {platform.machine()}")
    project = Project.find()
    for chapter in chapters:
        project.notebook(chapter)
    chapters = chapters or tuple(project.chapters)
    with ThreadPoolExecutor(min(len(names) + 1, os.cpu_count() or 1)) as pool:
        tasks = {
            name: pool.submit(execute, project, name, chapters, scenario)
            for name in ("default", *names)
        }
        executed = {name: task.result() for name, task in tasks.items()}
    when = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": revision(project)}
    new = {
        (chapter, scenario or "defaults"): when
        | compare(executed["default"][chapter], {name: executed[name][chapter] for name in names})
        for chapter in chapters
    }
    path = project.recorded / "kernels.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []
    before = {(run.pop("chapter"), run.pop("parameters")): run for run in runs}
    ask = [sys.executable, "-c", CHOICE]
    record = {
        "machine": f"{platform.system()} {platform.machine()}",
        "settings": {
            name: subprocess.check_output(ask, env=given, text=True).strip()
            for name, given in settings().items()
        },
        "runs": [
            {"chapter": chapter, "parameters": parameters} | run
            for (chapter, parameters), run in sorted((before | new).items())
        ],
    }
    write_atomic(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    changes = [
        f"{chapter}, {line}" for (chapter, _), run in new.items() for line in run["verdicts"]
    ]
    if changes:
        raise BuildFailed("\n".join(changes))


if __name__ == "__main__":
    try:
        main()
    except (BadInput, BuildFailed) as error:
        sys.exit(str(error))
