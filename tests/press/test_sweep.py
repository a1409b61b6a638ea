"""Sweeps without a cluster: grids, tables, what is kept, what runs again, what is refused."""

from __future__ import annotations

import itertools
import math
import os
import signal
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from miniature import PARAMETERS, Author
from rounding import assert_within, bound
from test_cli import press
from test_press import slow, start, wait_for

from collapse_book import execute
from collapse_book import press as pressing
from collapse_book import sweep as sweeping
from collapse_book.execute import Options, Outcome, Task
from collapse_book.files import locked
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.notebooks import Notebook, read_cell
from collapse_book.scenarios import read_grid
from collapse_book.sweep import choose, draw, encode, frame, result_rows, run_sweep
from collapse_utils import Ledger


def grid_of(author: Author, text: str):
    return read_grid(author.write("grid.yml", text), read_cell(PARAMETERS))


def claim(name: str, measured: float, se: float = 0.1, points: int = 1) -> dict:
    """A claim as a ledger writes it."""
    ledger = Ledger()
    ledger.check(
        name,
        "It is one.",
        "Somebody",
        law=[1.0] * points,
        rival=(9.0, "no effect"),
        measured=[measured] * points,
        se=se,
    )
    return asdict(ledger.claims[0])


def outputs(parameters: dict, claims: Sequence[dict] = ()) -> list[dict]:
    """Claims, and two glued values."""
    prefix = "application/papermill.record/"
    share = parameters["n_samples"] / 1000
    glued = [
        {
            "output_type": "display_data",
            "data": {f"{prefix}text/plain": repr(text)},
            "metadata": {"scrapbook": {"name": name, "mime_prefix": prefix}} | more,
        }
        for name, text, more in (
            ("share", f"{share:.0%}", {"collapse": {"kind": "number", "value": share, "se": None}}),
            ("word", "often", {}),
        )
    ]
    ledger = {
        "output_type": "display_data",
        "data": {"text/plain": ""},
        "metadata": {"collapse": {"kind": "claims", "claims": list(claims)}},
    }
    return [*glued, ledger]


def executed(parameters: dict, claims: Sequence[dict] = ()) -> Notebook:
    """An executed notebook of one cell."""
    cell = {"cell_type": "code", "source": "1", "metadata": {}, "execution_count": 1}
    cell["outputs"] = outputs(parameters, claims)
    return {"cells": [cell], "metadata": {"collapse_book": {"seconds": 1.5}}}


class Stub:
    """An engine that makes results up; it fails, or is interrupted, where it is told to."""

    def __init__(self) -> None:
        self.ran: list[dict] = []
        self.fail: Callable[[dict], str | None] = lambda parameters: None
        self.before: Callable[[dict], None] = lambda parameters: None

    def __call__(self, tasks: Sequence[Task], options: Options, packages) -> Iterator[Outcome]:
        for task in tasks:
            parameters = dict(task.parameters)
            self.before(parameters)
            self.ran.append(parameters)
            claims = [claim("Z1", 1 + 0.01 * (parameters["seed"] % 7)), claim("Z2", 3.0, points=2)]
            yield Outcome(task.name, executed(parameters, claims), self.fail(parameters))


@pytest.fixture
def drawn(monkeypatch) -> Stub:
    """Made-up results, of which a figure is drawn."""
    engine = Stub()
    monkeypatch.setattr(pressing, "execute", engine)
    return engine


@pytest.fixture
def stub(drawn: Stub, monkeypatch) -> Stub:
    """Made-up results without a figure, whose drawing is most of the work of a sweep of them."""
    monkeypatch.setattr(sweeping, "draw", lambda *_: None)
    monkeypatch.setattr(sweeping, "encode", lambda _: b"")
    return drawn


def sweep(author: Author, text: str, out: str, shown: Sequence[str] = (), **options) -> None:
    grid = grid_of(author, text)
    run_sweep(author.project, "walk", grid, out, Options(**options), shown)


def table(out) -> pd.DataFrame:
    return pd.read_parquet(f"{out}/walk.parquet")


def points(out) -> list:
    return sorted(out.glob("executed/walk/*.ipynb"))


# ---------------------------------------------------------------- grids


def test_mapping_is_a_product_and_the_rest_keeps_its_default(author: Author):
    grid = grid_of(author, "n_samples: [5, 10]\nseed: 3..5\nrate: 1\n")
    assert [(p["n_samples"], p["seed"]) for p in grid.points] == [
        (5, 3), (5, 4), (5, 5), (10, 3), (10, 4), (10, 5),
    ]  # fmt: skip
    assert grid.points[0] == {
        "seed": 3, "n_samples": 5, "rate": 1.0, "dataset": "digits", "quick": False,
    }  # fmt: skip
    assert grid.varied == ("n_samples", "seed")
    assert grid_of(author, "seed: [3..4, 5]\nn_samples: [5, 10..10]\nrate: 1\n").points == sorted(
        grid.points, key=lambda point: (point["seed"], point["n_samples"])
    )
    assert grid.label(grid.points[0]) == "n_samples=5, seed=3"


def test_single_point_is_called_by_what_its_file_names(author: Author):
    grid = grid_of(author, "n_samples: 5\nrate: [0.5]\n")
    assert grid.varied == ("n_samples", "rate")
    assert grid.label(grid.points[0]) == "n_samples=5, rate=0.5"


def test_list_of_mappings_is_all_of_their_points_once(author: Author):
    grid = grid_of(author, "- {n_samples: 100, seed: 1..2}\n- {seed: 2}\n- {dataset: mnist}\n")
    assert [(p["n_samples"], p["seed"], p["dataset"]) for p in grid.points] == [
        (100, 1, "digits"), (100, 2, "digits"), (100, 1, "mnist"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_sampels: [5]", "unknown parameter 'n_sampels'; did you mean 'n_samples'?"),
        ("n_samples: [5, 1]", "n_samples must be an integer from 2 to 1,000,000, got 1"),
        ("n_samples: [5, x]", "n_samples must be an integer from 2 to 1,000,000, got 'x'"),
        ("n_samples: 1..5", "n_samples must be an integer from 2 to 1,000,000, got 1"),
        ("n_samples: 5..2", "n_samples: '5..2' must go up"),
        (
            f"n_samples: 5..{'9' * 5000}",
            "n_samples must be an integer from 2 to 1,000,000, got a number",
        ),
        ("seed: 2020-99-99", "seed must be an integer >= 0, got '2020-99-99'"),
        ("seed: [1, 18446744073709551616]", "at most 9,223,372,036,854,775,807 in size, got 18446"),
        ("n_samples: []", "n_samples must have at least one value, got []"),
        ("n_samples: [[5]]", "n_samples must be an integer"),
        ("rate: [1e3]", "rate must be a finite number from 0 to 1, got 1000.0"),
        ("rate: 0..1", "rate must be a finite number from 0 to 1, got '0..1'"),
        ("dataset: [digits, cifar]", "dataset must be one of digits, mnist, got 'cifar'"),
        ("seed: [1]\nseed: [2]", "line 2: broken YAML: 'seed' is written twice"),
        ("- 5", "must map parameters to lists of values"),
        ("[]", "must map parameters to lists of values"),
        ("{}", "must map parameters to lists of values"),
        ("seed: 0..999\nn_samples: 2..102", "grid.yml: it has more than 100,000 points"),
        ("seed: 0..9223372036854775807", "grid.yml: it has more than 100,000 points"),
        ("- &a {seed: 0..99999}" + "\n- *a" * 10_000, "it has more than 100,000 points"),
    ],
)
def test_wrong_grid_is_refused_in_one_line(author: Author, text, message):
    with pytest.raises(BadInput) as error:
        grid_of(author, text)
    assert message in str(error.value)
    assert "grid.yml" in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- tables


def rows_of(point: str, parameters: dict, claims: Sequence[dict]) -> list[dict]:
    found = result_rows(executed(parameters, claims))
    return [{"point": point, **parameters, **row} for row in found]


def test_table_has_the_numbers_themselves_and_what_the_page_shows():
    parameters = {"n_samples": 55, "seed": 2}
    found = frame(rows_of("key", parameters, [claim("Z1", 1.0234567)]))
    assert list(found.columns[:5]) == ["point", "n_samples", "seed", "kind", "name"]
    assert list(found["kind"]) == ["claim", "number", "number"]
    assert list(found["name"]) == ["Z1", "share", "word"]
    assert list(found["text"][1:]) == ["6%", "often"]  # rounded on the page only
    np.testing.assert_equal(found["value"].to_numpy(), [1.0234567, 0.055, math.nan])
    np.testing.assert_equal(found["se"].to_numpy(), [0.1, math.nan, math.nan])
    first = found.iloc[0]
    assert (first["law"], first["rival"], first["verdict"]) == (1.0, 9.0, "reproduced")
    assert 0.5 < first["noticed"] < 0.6


def test_figure_shows_claims_measured_at_one_place_and_numbers_that_vary():
    rows = []
    for seed in range(4):
        for n_samples in (5, 50):
            parameters = {"n_samples": n_samples, "seed": seed}
            claims = [claim("Z1", 1 + seed / 10), claim("Z2", 3.0, points=2), claim("Z3", 1.0)]
            rows += rows_of(f"{seed}-{n_samples}", parameters, claims)
    results = frame(rows).dropna(subset="value")
    assert choose(results) == ["Z1", "share"]
    figure = draw(results, "walk", ("n_samples", "seed"), [])
    assert [ax.get_title() for ax in figure.axes] == ["Z1: It is one.", "share"]
    mean, law = (line.get_xydata() for line in figure.axes[0].lines)
    assert_within(mean, [[5, 1.15], [50, 1.15]], bound(2 * 4 + 2, 1.15))  # means of four
    np.testing.assert_array_equal(law, [[5, 1.0], [50, 1.0]])
    assert len(figure.axes[0].collections[0].get_offsets()) == 8
    assert figure.get_suptitle() == "walk over n_samples, seed"
    assert encode(figure).startswith(b"\x89PNG")
    chosen = draw(results, "walk", ("n_samples", "seed"), ["Z2"])
    assert [ax.get_title() for ax in chosen.axes] == ["Z2: It is one."]
    assert encode(chosen).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("values", "colours", "kinds"),
    [
        ([3], None, "numbers"),
        ([3], [1.0], "claims"),
        (["digits"], [True], "numbers"),
        ([3, 50], list("abcdef"), "constant"),
        (list(range(2, 40)), [0.1, 0.2, 1e6], "claims"),
        (["a", "b"], None, "far"),
        ([True, False], [True, False], "claims"),
        ([0, 100], None, "zero"),
    ],
)
def test_whatever_was_varied_and_found_there_is_a_figure(values, colours, kinds):
    rows = []
    for n, (value, colour, seed) in enumerate(
        itertools.product(values, colours or [0], (1, 2**63 - 1))
    ):
        point = {"point": str(n), "first": value, "second": colour, "seed": seed}
        blank = dict.fromkeys(("se", "law", "points", "value"), math.nan)
        result = {
            **point,
            **blank,
            "kind": "number",
            "name": "share",
            "statement": "",
            "text": "often",
        }
        measured = {"constant": 2.0, "far": 10.0 ** (n % 7 * 40), "zero": 0.0}
        rows.append(result | {"value": measured.get(kinds, n)})
        if kinds == "claims":
            claim = {"kind": "claim", "law": 1.0, "statement": "It grows.", "points": 1}
            rows.append(result | claim | {"name": "Z1", "value": n / 7})
    table = pd.DataFrame(rows)
    varied = ("first", "second", "seed") if colours else ("first", "seed")
    figure = draw(table, "walk", varied, [])
    assert len(figure.axes) == (2 if kinds == "claims" else 1)
    for ax in figure.axes:
        assert len(ax.collections[0].get_offsets()) == table["point"].nunique()
    assert encode(figure).startswith(b"\x89PNG")


# ---------------------------------------------------------------- sweeps

GRID = "n_samples: [20, 50]\nseed: 1..3\n"


@pytest.fixture
def walk(author: Author) -> Author:
    author.chapter("walk", "from collapse_utils import gaussian")
    author.toc("walk")
    return author


def test_finished_points_are_not_run_again(walk: Author, drawn: Stub, tmp_path, capsys):
    stub = drawn
    out = tmp_path / "out"
    sweep(walk, GRID, str(out))
    assert len(stub.ran) == 6
    first = table(out)
    assert list(first["n_samples"][first["kind"] == "run"]) == [20, 20, 20, 50, 50, 50]
    assert list(first["seed"][first["kind"] == "run"]) == [1, 2, 3, 1, 2, 3]
    assert (out / "walk.png").is_file()
    csv = pd.read_csv(out / "walk.csv", keep_default_na=False, na_values={"value": ""})
    assert len(csv) == len(first) and list(csv.columns) == list(first.columns)

    sweep(walk, GRID, str(out))
    assert len(stub.ran) == 6
    pd.testing.assert_frame_equal(table(out), first)
    assert "nothing to execute: 6 notebooks unchanged" in capsys.readouterr().out

    sweep(walk, "seed: 3..4\nn_samples: 50\n", str(out))  # one of them is new
    assert stub.ran[6:] == [{**stub.ran[0], "n_samples": 50, "seed": 4}]
    assert table(out)["point"].nunique() == 2
    assert len(points(out)) == 7


@pytest.mark.parametrize("grid", ["seed: 3\n", "seed: 1..2\nn_samples: 50\n", "rate: 0.5\n"])
def test_one_point_or_numbers_that_do_not_vary_are_a_table_too(
    walk: Author, drawn: Stub, tmp_path, monkeypatch, grid
):
    monkeypatch.setattr("test_sweep.claim", lambda name, *_, **__: claim_at_one(name))
    sweep(walk, grid, str(tmp_path / "out"))
    assert (table(tmp_path / "out")["kind"] == "claim").any()


claim_at_one = lambda name, made=claim: made(name, 1.0)  # noqa: E731


def test_sweep_of_a_chapter_without_results_has_a_table(walk: Author, stub, tmp_path, monkeypatch):
    monkeypatch.setattr("test_sweep.outputs", lambda *_: [])
    sweep(walk, GRID, str(tmp_path / "out"))
    assert list(table(tmp_path / "out")["kind"]) == ["run"] * 6


@pytest.mark.parametrize(
    ("name", "before", "after", "runs"),
    [
        ("notebooks/walk.ipynb", "A question.", "A better question.", 6),
        ("notebooks/walk.ipynb", "result = ", "outcome = ", 12),
        ("collapse_utils/gaussian.py", "loop", "loop  # edited", 12),
        ("collapse_utils/figures.py", "SCRIPT", "SCRIPT_", 6),
        ("constraints.txt", "2.0", "2.1", 6),
    ],
)
def test_a_point_is_its_content(walk: Author, stub: Stub, tmp_path, name, before, after, runs):
    sweep(walk, GRID, str(tmp_path / "out"))
    path = walk.root / name
    path.write_text(path.read_text().replace(before, after))
    sweep(walk, GRID, str(tmp_path / "out"))
    assert len(stub.ran) == runs


def test_failure_is_listed_and_not_fatal_to_the_others(walk: Author, stub: Stub, tmp_path):
    out = tmp_path / "out"
    stub.fail = lambda p: "cell 5 (x): ValueError: no" if p["seed"] == 2 else None
    with pytest.raises(BuildFailed) as error:
        sweep(walk, GRID, str(out))
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "walk with n_samples=20, seed=2, cell 5 (x): ValueError: no (notebook as far as it ran: "
    )
    failed = table(out)[table(out)["kind"] == "failure"]
    assert list(failed["n_samples"]) == [20, 50]
    assert all("cell 5 (x): ValueError: no" in text for text in failed["text"])
    assert len(list((out / "failed").iterdir())) == 2

    stub.fail = lambda p: None
    sweep(walk, GRID, str(out))
    assert [p["seed"] for p in stub.ran[6:]] == [2, 2]
    assert list((out / "failed").iterdir()) == []
    assert "failure" not in set(table(out)["kind"])


def test_interrupted_sweep_keeps_what_had_finished(walk: Author, stub: Stub, tmp_path):
    def interrupt(parameters: dict) -> None:
        if len(stub.ran) == 4:
            raise KeyboardInterrupt

    sweep(walk, GRID, str(tmp_path / "whole"))
    stub.ran.clear()
    stub.before = interrupt
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        sweep(walk, GRID, str(out))
    assert len(points(out)) == 4
    stub.before = lambda parameters: None
    sweep(walk, GRID, str(out))
    assert len(stub.ran) == 6  # four before, two after: none twice
    pd.testing.assert_frame_equal(table(out), table(tmp_path / "whole"))


def test_forced_sweep_runs_again_and_shows_what_fails_now(walk: Author, stub: Stub, tmp_path):
    out = tmp_path / "out"
    sweep(walk, GRID, str(out))
    stub.fail = lambda p: "broken" if p["seed"] == 2 else None
    with pytest.raises(BuildFailed):
        sweep(walk, GRID, str(out), force=True)
    assert len(stub.ran) == 12
    assert (table(out)["kind"] == "failure").sum() == 2
    assert (table(out)["kind"] == "run").sum() == 4


def test_sweep_into_memory(walk: Author, stub: Stub):
    import fsspec

    sweep(walk, GRID, "memory://sweep/walk")
    sweep(walk, GRID, "memory://sweep/walk")
    assert len(stub.ran) == 6
    memory = fsspec.filesystem("memory")
    names = {path.rsplit("/", 1)[1] for path in memory.ls("/sweep/walk", detail=False)}
    assert names == {"executed", "walk.parquet", "walk.csv", "walk.png"}
    assert len(memory.ls("/sweep/walk/executed/walk", detail=False)) == 6


def test_damaged_point_is_named(walk: Author, stub: Stub, tmp_path):
    sweep(walk, GRID, str(tmp_path / "out"))
    points(tmp_path / "out")[0].write_bytes(b"half")
    with pytest.raises(BuildFailed, match=r"\.ipynb: ValueError: damaged, delete it and run again"):
        sweep(walk, GRID, str(tmp_path / "out"))


def test_one_sweep_at_a_time_and_chapters_side_by_side(walk: Author, stub: Stub, tmp_path):
    out = tmp_path / "out"
    with locked(out / ".lock", ""), pytest.raises(BuildFailed, match="another sweep is writing to"):
        sweep(walk, GRID, str(out))
    sweep(walk, GRID, str(out))
    first = table(out)
    walk.chapter("other")
    grid = grid_of(walk, "seed: 1..2")
    run_sweep(walk.project, "other", grid, str(out), Options(), ())
    pd.testing.assert_frame_equal(table(out), first)
    assert (out / "other.csv").is_file()


def test_parameter_with_the_name_of_a_column_is_refused(author: Author, tmp_path):
    author.chapter("walk", parameters=PARAMETERS + "value: int = 1  # clash\n")
    with pytest.raises(BadInput, match="parameter 'value' of walk has the name of a column"):
        sweep(author, GRID, str(tmp_path / "out"))


def test_wrong_result_to_show_loses_nothing(walk: Author, stub: Stub, tmp_path):
    out = tmp_path / "out"
    wrong = r"^--show 'shore', 'word': no such number; walk measures Z1, Z2, share$"
    with pytest.raises(BuildFailed, match=wrong):
        sweep(walk, GRID, str(out), ["Z1", "shore", "word"])
    assert table(out)["point"].nunique() == len(stub.ran) == 6
    sweep(walk, GRID, str(out), ["Z1", "share"])
    assert len(stub.ran) == 6


def test_nothing_is_run_before_a_scheduler_answers(walk: Author, monkeypatch, tmp_path):
    monkeypatch.setattr(execute, "ANSWER", 0.5)
    with pytest.raises(BadInput, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: "):
        sweep(walk, GRID, str(tmp_path / "out"), scheduler="tcp://127.0.0.1:1")
    assert points(tmp_path / "out") == []


def test_nothing_to_run_needs_no_scheduler(walk: Author, stub: Stub, monkeypatch, tmp_path):
    sweep(walk, GRID, str(tmp_path / "out"))
    monkeypatch.setattr(pressing, "execute", execute.execute)
    sweep(walk, GRID, str(tmp_path / "out"), scheduler="tcp://127.0.0.1:1")  # nobody is there


def test_log_names_each_point(walk: Author, stub: Stub, tmp_path, capsys):
    sweep(walk, GRID, str(tmp_path / "out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "executing 6 of 6 notebooks, 0 unchanged"
    assert lines[1] == "  walk with n_samples=20, seed=1: done after 1.5 s (1/6)"


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sweep walk --out out", "Missing option '--grid'"),
        ("sweep walk --grid good.yml", "Missing option '--out'"),
        ("sweep walk --grid none.yml --out out", "cannot read none.yml: No such file"),
        ("sweep walk --grid bad.yml --out out", "bad.yml: n_samples must be an integer from 2"),
        ("sweep wolk --grid good.yml --out out", "no chapter 'wolk'; did you mean 'walk'?"),
        ("sweep walk --grid good.yml --out s4://x", "--out s4://x: Protocol not known"),
        (
            "sweep walk --grid good.yml --out good.yml/x",
            "good.yml/x: Not a directory",
        ),
        ("sweep walk --grid good.yml --out good.yml", "--out good.yml is a file: give a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(walk: Author, arguments, message):
    walk.write("good.yml", "seed: 1..2\n")
    walk.write("bad.yml", "n_samples: [50, 1]\n")
    done = press(walk.root, *arguments.split())
    assert done.returncode == 2, done
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(walk.root.glob("out/executed/*"))


def test_points_that_take_too_long_are_one_line_each(walk: Author):
    walk.chapter("walk", "import time\ntime.sleep(60)")
    walk.write("grid.yml", "seed: 1..2\n")
    command = ("sweep", "walk", "--grid", "grid.yml", "--out", "out", "--jobs", "2")
    done = press(walk.root, *command, "--timeout", "1")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "collapse-book: walk with seed=1, cell 5",
        "collapse-book: walk with seed=2, cell 5",
    ]
    assert all("(import time): took longer than 1 s (notebook as far as" in line for line in lines)
    assert "no figure: there is no number" in done.stdout


def test_ctrl_c_keeps_finished_points_and_the_sweep_goes_on(walk: Author, tmp_path):
    walk.chapter("walk", "if seed == 3:\n" + textwrap.indent(slow(tmp_path), "    "))
    walk.write("grid.yml", "seed: 1..3\n")
    command = ("sweep", "walk", "--grid", "grid.yml", "--out", "out", "--jobs", "1")
    out = walk.root / "out"
    running = start(walk, *command)
    wait_for((tmp_path / "kernel").exists)
    assert len(points(out)) == 2
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.strip() == "collapse-book: interrupted; notebooks that had finished are kept"
    assert len(points(out)) == 2

    walk.write("grid.yml", "seed: 1..2\n")
    done = press(walk.root, *command)
    assert done.returncode == 0, done
    assert "nothing to execute: 2 notebooks unchanged" in done.stdout
