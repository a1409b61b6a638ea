"""Whole builds of a miniature book: success, failure, and every way of being interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from miniature import Author
from test_cli import PRESS, press

from collapse_book.notebooks import read_notebook

FIGURE = """\
import matplotlib.pyplot as plt
from collapse_utils import figures
from collapse_utils.publishing import show
fig, ax = plt.subplots()
ax.plot([seed, n_samples])
show(fig, name="fig-line", caption="A line, $x^2$.", alt="line chart")"""
NUMBER = 'from collapse_utils import glue\nglue("half", f"{rate:.2f}")'


def executed(author: Author) -> dict[str, list[Path]]:
    """Stored copies by chapter; each must be a whole notebook."""
    found: dict[str, list[Path]] = {}
    for path in sorted((author.root / "_build/executed").glob("*/*.ipynb")):
        read_notebook(path)
        found.setdefault(path.parent.name, []).append(path)
    return found


def page(author: Author, name: str) -> str:
    return (author.root / f"_build/html/notebooks/{name}.html").read_text()


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_real_book_from_notebook_to_page(author: Author):
    author.chapter("line", FIGURE, NUMBER, "md:See {numref}`fig-line`: {glue:text}`half`.")
    author.toc("line")

    done = press(author.root, "build")
    assert done.returncode == 0, done
    assert f"the book is ready: {author.root}/_build/html/index.html" in done.stdout
    html = page(author, "line")
    assert '<span class="caption-number">Fig. 1 </span>' in html
    assert 'alt="line chart"' in html
    assert '<span class="pasted-text">0.50</span>' in html
    assert "Colophon" in html
    assert "pip install" not in html
    assert str(author.root) not in html
    assert (author.root / "_build/html/download/line.ipynb").is_file()
    assert (author.root / "_build/html/generated/ledger.html").is_file()

    # Nothing changed: the site stays, with what stands in it.
    author.write("_build/html/lite/index.html", "kept")
    done = press(author.root, "build")
    assert "nothing to execute: 1 notebook unchanged" in done.stdout
    assert "the site is up to date" in done.stdout
    assert (author.root / "_build/html/lite/index.html").read_text() == "kept"

    # Prose does not execute, and the page follows.
    path = author.root / "notebooks/line.ipynb"
    path.write_text(path.read_text().replace("A question.", "A better question."))
    done = press(author.root, "build")
    assert "nothing to execute: 1 notebook unchanged" in done.stdout
    assert "A better question." in page(author, "line")

    # A mistake that Sphinx finds leaves the site as it was.
    path.write_text(path.read_text().replace("A better question.", "{numref}`fig-gone`"))
    done = press(author.root, "build")
    assert done.returncode == 1
    assert "fig-gone" in done.stderr
    assert "_build/site.log" in done.stderr
    assert "A better question." in page(author, "line")


def test_failing_notebook_is_named_and_the_others_are_kept(author: Author):
    author.chapter("good")
    author.chapter("bad", "def f():\n    return 1 / 0", "x = 1\nf()")
    author.chapter("later")
    author.toc("good", "bad", "later")
    done = press(author.root, "build", "good", "bad")
    assert done.returncode == 1
    assert done.stderr == (
        "collapse-book: bad, cell 6 (x = 1): ZeroDivisionError: division by zero "
        "(notebook as far as it ran: _build/failed/bad.ipynb)\n"
    )
    assert list(executed(author)) == ["good"]
    assert not (author.root / "_build/html").exists()
    assert not (author.root / "book/notebooks").exists()  # "later" has not been tried

    # All have been tried: the pages of the others are there to look at, and nothing is published.
    author.chapter("later", "md:See {doc}`/notebooks/bad` and {glue:text}`bad.ipynb::gone`.")
    done = press(author.root, "build")
    assert done.returncode == 1
    assert done.stderr.startswith("collapse-book: bad, cell 6 (x = 1): ZeroDivisionError")
    assert done.stderr.count("\n") == 1
    preview = author.root / "_build/preview"
    assert f"preview of the pages that are there: {preview}/index.html" in done.stdout
    assert "A question." in (preview / "notebooks/good.html").read_text()
    assert "ZeroDivisionError: division by zero" in (preview / "notebooks/bad.html").read_text()
    assert not (author.root / "_build/html").exists()

    author.chapter("bad", "x = 1")
    done = press(author.root, "build", "bad")
    assert "executing 1 of 1 notebook, 0 unchanged" in done.stdout
    assert list(executed(author)) == ["bad", "good", "later"]
    assert not (author.root / "_build/failed/bad.ipynb").exists()


def test_gate_stops_the_build_before_the_site(author: Author):
    author.chapter("loud", "import sys\nprint('careful', file=sys.stderr)")
    author.toc("loud")
    done = press(author.root, "build")
    assert done.returncode == 1
    assert done.stderr == ("collapse-book: loud, cell 5 (import sys): wrote to stderr: careful\n")
    assert not (author.root / "book/notebooks").exists()


def test_build_of_one_chapter_waits_for_the_others(author: Author):
    author.chapter("one")
    author.chapter("two")
    author.toc("one", "two")
    done = press(author.root, "build", "one")
    assert done.returncode == 0
    assert "site not built: still to be executed: two" in done.stdout


def test_draft_is_executed_only_by_name(author: Author):
    author.chapter("draft", "1 / 0")
    author.chapter("one")
    author.chapter("two")
    author.toc("one", "two")
    assert "draft" not in press(author.root, "build", "one").stdout
    assert press(author.root, "build", "draft").returncode == 1


def test_chapter_that_nobody_wrote_stops_the_build_at_once(author: Author):
    author.chapter("one")
    author.toc("one", "two")
    done = press(author.root, "build")
    assert done.returncode == 1
    assert done.stderr == ("collapse-book: book/_toc.yml names notebooks that do not exist: two\n")
    assert executed(author) == {}


def test_run_with_parameters_leaves_the_book_alone(author: Author, tmp_path):
    author.chapter("one", "print(seed, n_samples)")
    output = tmp_path / "out.ipynb"
    done = press(
        author.root, "run", "one", "-p", "seed", "7", "-p", "n_samples", "50", "-o", str(output)
    )
    assert done.returncode == 0, done
    assert len(executed(author)["one"]) == 1
    notebook = json.loads(output.read_text())
    assert notebook["cells"][-1]["outputs"][0]["text"] in ("7 50\n", ["7 50\n"])
    assert str(tmp_path) not in output.read_text()
    assert "papermill" not in notebook["metadata"]
    assert all("papermill" not in cell["metadata"] for cell in notebook["cells"])


def test_scenario_builds_no_site_and_shares_its_runs(author: Author):
    author.chapter("one", "print(n_samples)")
    author.toc("one")
    author.write("scenarios/smoke.yml", "description: tiny\nchapters: {one: {n_samples: 5}}\n")
    done = press(author.root, "build", "--scenario", "smoke")
    assert done.returncode == 0, done
    assert not (author.root / "_build/html").exists()
    done = press(author.root, "run", "one", "-p", "n_samples", "5")
    assert "nothing to execute: 1 notebook unchanged" in done.stdout


def start(author: Author, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PRESS, *arguments],
        cwd=author.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell starts background jobs with Ctrl-C ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def slow(folder: Path) -> str:
    """A cell that notes its kernel and sleeps."""
    return (
        f"import os, pathlib, time\npathlib.Path({str(folder / 'kernel')!r})"
        ".write_text(str(os.getpid()))\ntime.sleep(100)"
    )


def alive(folder: Path, leader: int) -> list[str]:
    """Processes of the group and the kernel, which has a group of its own."""
    kernel = (folder / "kernel").read_text()
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=3) for line in listing.splitlines()]
    return [
        args
        for pid, group, state, args in rows
        if (group == str(leader) or pid == kernel) and state[0] != "Z"
    ]


def test_killed_build_loses_nothing_that_had_finished(author: Author, tmp_path):
    author.chapter("a_quick")
    author.chapter("b_quick")
    author.chapter("c_slow", slow(tmp_path))
    author.toc("a_quick", "b_quick", "c_slow")
    build = start(author, "build", "--jobs", "2")
    wait_for(lambda: len(executed(author)) == 2 and (tmp_path / "kernel").exists())
    build.kill()
    build.communicate()
    assert build.returncode == -signal.SIGKILL
    assert list(executed(author)) == ["a_quick", "b_quick"]
    assert not (author.root / "book/notebooks").exists()
    assert not (author.root / "_build/html").exists()
    wait_for(lambda: alive(tmp_path, build.pid) == [])  # no kernel lives on

    cut_off = [*(author.root / "_build").rglob("*.part")]  # what was written at that moment, if any
    left = author.root / "_build/executed/.seconds.json.x.part"
    left.write_text("half")
    os.utime(left, (0, 0))
    written_now = author.root / "_build/.other.x.part"  # by another command
    written_now.write_text("half")
    author.chapter("c_slow")
    done = press(author.root, "build")
    assert done.returncode == 0, done
    assert "executing 1 of 3 notebooks, 2 unchanged" in done.stdout
    assert sorted(executed(author)) == ["a_quick", "b_quick", "c_slow"]
    assert {*(author.root / "_build").rglob("*.part")} == {written_now, *cut_off}
    assert (author.root / "_build/html/notebooks/c_slow.html").is_file()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_is_one_line_and_exit_130(author: Author, tmp_path, jobs):
    author.chapter("a_quick")
    author.chapter("b_slow", slow(tmp_path))
    author.toc("a_quick", "b_slow")
    build = start(author, "build", "--jobs", jobs)
    wait_for(lambda: len(executed(author)) == 1 and (tmp_path / "kernel").exists())
    os.killpg(build.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, errors = build.communicate(timeout=90)
    assert build.returncode == 130
    assert errors == "\ncollapse-book: interrupted; notebooks that had finished are kept\n"
    assert list(executed(author)) == ["a_quick"]
    wait_for(lambda: alive(tmp_path, build.pid) == [])


def test_two_builds_do_not_meet(author: Author):
    author.chapter("one")
    with author.project.lock():
        done = press(author.root, "run", "one")
    assert done.returncode == 1
    assert done.stderr == "collapse-book: another build of this book is running\n"


def test_nobody_else_can_reach_a_build(author: Author, tmp_path):
    """No open port: the sockets of kernels are files in a folder of the user's own."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        author.chapter(name, slow(tmp_path / name))
    author.toc("one", "two")
    build = start(author, "build", "--jobs", "2")
    wait_for(lambda: all((tmp_path / name / "kernel").exists() for name in ("one", "two")))
    try:
        main = psutil.Process(build.pid)
        assert [c for c in main.net_connections("inet") if c.status == "LISTEN"] == []
        descendants = main.children(recursive=True)
        kernels = [child for child in descendants if not child.children()]
        assert len(kernels) == 2
        for server in set(descendants) - set(kernels):  # that forks them, where the press has one
            assert server.net_connections("all") == []
        for kernel in kernels:
            # ipykernel takes what forked processes print through a port, behind a secret
            ports = [c.laddr for c in kernel.net_connections("inet") if c.status == "LISTEN"]
            assert len(ports) <= 1
            assert all(port.ip == "127.0.0.1" for port in ports)
            sockets = {Path(c.laddr) for c in kernel.net_connections("unix") if c.laddr}
            assert len(sockets) == 5
            for path in sockets:
                assert path.parent.stat().st_mode & 0o077 == 0
                assert (path.parent / "k.json").stat().st_mode & 0o077 == 0
    finally:
        os.killpg(build.pid, signal.SIGINT)
        build.communicate(timeout=60)


TEXTS = """\
seed: int = 1  # seed of the run [0..]
corpus: str = "none"  # a name, or a text file or folder [path]
checkpoints: str = ""  # folder to go on from [folder]
"""
READ = """\
from pathlib import Path
result = (seed, n_samples) = (seed, 0)
if checkpoints:
    Path(checkpoints).mkdir(exist_ok=True)
    (Path(checkpoints) / f"{seed}.txt").write_text("done")
print(Path(corpus, "train.txt").read_text() if corpus != "none" else corpus)"""


def test_paths_count_from_where_the_user_stands_and_what_is_read_is_part_of_the_key(
    author: Author, tmp_path, monkeypatch
):
    monkeypatch.setattr("miniature.USE", READ)
    author.chapter("texts", parameters=TEXTS)
    here = tmp_path / "here"
    (here / "my_texts").mkdir(parents=True)
    text = here / "my_texts/train.txt"
    text.write_text("first")
    root = ("--project", str(author.root))
    command = (*root, "run", "texts", "-p", "corpus", "my_texts/", "-p", "checkpoints", "runs_ck")

    done = press(here, *command, "-o", "out.ipynb")
    assert done.returncode == 0, done
    assert (here / "runs_ck/1.txt").read_text() == "done"
    assert "first" in (here / "out.ipynb").read_text()
    assert "nothing to execute" in press(here, *command).stdout  # checkpoints are not read

    text.write_text("other")
    done = press(here, *command, "-o", "out.ipynb")
    assert "executing 1 of 1 notebook" in done.stdout
    assert "other" in (here / "out.ipynb").read_text()
