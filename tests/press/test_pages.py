"""Pages: outputs merged into current prose, figures numbered, nothing private left."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from miniature import Author
from test_gate import claims, figure, glued

from collapse_book.notebooks import INSTALL_CELL, read_notebook
from collapse_book.pages import (
    chapter_map,
    colophon,
    front_figure,
    ledger_page,
    merge,
    page,
    render,
    status_page,
    write_pages,
)
from collapse_utils import Ledger

RECORD = {
    "executed": "2026-01-02T03:04:05+00:00",
    "seconds": 1.5,
    "parameters": {},
    "versions": {"python": "3.11.7", "numpy": "2.4.6"},
    "machine": {"platform": "Linux x86_64", "cores": 2, "accelerator": "none"},
}


def executed_copy(notebook, outputs, parameters=None):
    """What papermill makes of a notebook: counts, outputs in one cell, an injected cell."""
    copy = json.loads(json.dumps(notebook))
    code = [cell for cell in copy["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        cell["execution_count"] = number
    code[-1]["outputs"] = outputs
    if parameters:
        injected = {
            "cell_type": "code",
            "source": "seed = 7",
            "metadata": {"tags": ["injected-parameters"]},
            "outputs": [],
            "execution_count": 9,
        }
        copy["cells"].insert(3, injected)
    copy["metadata"]["collapse_book"] = RECORD | {"parameters": parameters or {}}
    return copy


@pytest.fixture
def notebook(author: Author):
    author.chapter("gaussian", "draw()", title="It forgets")
    return read_notebook(author.project.notebook("gaussian"))


def test_outputs_go_to_the_current_prose(notebook):
    executed = executed_copy(notebook, [figure()], {"seed": 7})
    notebook["cells"][0]["source"] = "# A better title"
    merged = merge(notebook, executed)
    assert [cell["source"] for cell in merged["cells"]] == [
        cell["source"] for cell in notebook["cells"]
    ]
    assert merged["cells"][0]["source"] == "# A better title"
    assert merged["cells"][-1]["outputs"] == [figure()]
    assert merged["metadata"]["collapse_book"]["parameters"] == {"seed": 7}


def test_other_code_than_was_executed_is_refused(notebook):
    executed = executed_copy(notebook, [])
    notebook["cells"][-1]["source"] = "draw(2)"
    with pytest.raises(ValueError, match="other code"):
        merge(notebook, executed)


def test_figure_gets_sphinx_name_and_caption_in_place_of_its_own(author: Author, notebook):
    output = figure()
    output["data"]["text/html"] = [
        "<figure class='collapse-figure'><img alt='line chart'>",
        "<figcaption>A caption.\nIn two lines.</figcaption></figure>",
    ]
    merged = merge(notebook, executed_copy(notebook, [output, glued()]))
    staged = page(author.project, "gaussian", merged)["cells"][-2]
    assert staged["metadata"]["mystnb"] == {"figure": {"name": "fig-a", "caption": "A caption."}}
    assert staged["outputs"][0]["data"]["text/html"] == (
        "<figure class='collapse-figure'><img alt='line chart'></figure>"
    )
    assert "figcaption" in "".join(merged["cells"][-1]["outputs"][0]["data"]["text/html"])


def test_page_says_how_long_it_took_to_run(author: Author, notebook):
    notebook["cells"][0]["source"] += "\n\n| | |\n|---|---|\n| **Time** | 20 minutes to read |"
    staged = page(author.project, "gaussian", merge(notebook, executed_copy(notebook, [])))
    assert (
        "| 20 minutes to read, 2 s to run when this page was made |"
        in (staged["cells"][0]["source"])
    )


def test_colophon_says_when_how_long_seed_parameters_versions_and_machine(author: Author, notebook):
    merged = merge(notebook, executed_copy(notebook, [], {"n_samples": 5, "dataset": "a|b"}))
    text = colophon(author.project, "gaussian", merged)
    for part in (
        "2026-01-02 03:04 UTC in 1.5 s with seed 1",
        "| `n_samples` | `5` | training-set size M per generation |",
        "| `rate` | `0.5` |",
        "| `dataset` | `a\\|b` |",
        "python 3.11.7, numpy 2.4.6",
        "Linux x86_64, 2 cores",
        'href="../download/gaussian.ipynb"',
        "collapse-book run gaussian -p seed 2",
        ":class: dropdown",
    ):
        assert part in text


def test_page_can_be_cited_with_date_version_and_the_address_there_is(
    author: Author, notebook, monkeypatch
):
    config = (author.root / "_config.yml").read_text()
    author.write("_config.yml", f"{config}author: A. Nobody\n")
    merged = merge(notebook, executed_copy(notebook, []))
    text = colophon(author.project, "gaussian", merged)
    for part in (
        "@incollection{collapse-gaussian,",
        "title     = {{It} forgets}",
        "author    = {{A. Nobody}}",
        "year      = {2026}",
        "note      = {Executed 2026-01-02, version ",
    ):
        assert part in text
    assert "url " not in text
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.com")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    text = colophon(author.project, "gaussian", merged)
    assert "url       = {https://github.com/a/b}" in text
    monkeypatch.setenv("BOOK_ADDRESS", "https://a.example/b")
    text = colophon(author.project, "gaussian", merged)
    assert "url       = {https://a.example/b/notebooks/gaussian.html}" in text


def test_pages_and_downloads_are_written_once_and_go_with_their_chapter(author: Author, notebook):
    merged = merge(notebook, executed_copy(notebook, [figure()]))
    write_pages(author.project, {"gaussian": merged, "other": merged})
    staged = author.root / "book/notebooks/gaussian.ipynb"
    assert "Colophon" in read_notebook(staged)["cells"][-1]["source"]
    download = read_notebook(author.root / "book/_vendor/download/gaussian.ipynb")
    install = download["cells"][1]
    assert install["source"] != INSTALL_CELL and "WHEEL" in install["source"]
    install |= {"source": INSTALL_CELL, "metadata": {"tags": install["metadata"]["tags"]}}
    assert download == read_notebook(author.root / "notebooks/gaussian.ipynb")
    assert "[It forgets](notebooks/gaussian.html)" in (
        author.root / "book/_vendor/llms.txt"
    ).read_text("utf-8")

    written = {path: path.stat().st_mtime_ns for path in author.project.book.rglob("*.*")}
    write_pages(author.project, {"gaussian": merged})
    left = {path: path.stat().st_mtime_ns for path in author.project.book.rglob("*.*")}
    assert sorted(p.relative_to(author.root).as_posix() for p in written.keys() - left.keys()) == [
        "book/_vendor/download/other.ipynb",
        "book/notebooks/other.ipynb",
    ]
    changed = {path.name for path in left if left[path] != written[path]}
    assert changed == {"status.md", "parameters.md", "llms.txt", "map.md"}


def test_scripts_of_the_machine_become_one_file_without_comments(author: Author, notebook):
    author.write("book/_machine/b.js", "  let b = 2;\n")
    author.write("book/_machine/a.js", "/* What\n it is. */\nlet a = 1;\n")
    write_pages(author.project, {})
    assert (author.project.vendor / "machine/machine.js").read_text() == "let a = 1;\nlet b = 2;\n"


def test_ledger_holds_every_claim_and_links_back(notebook):
    ledger = Ledger()
    ledger.check(
        "A1", "a < b", "S", law=1, rival=(0, "none"), measured=1.0, se=0.01, expect="reproduced"
    )
    output = claims()
    output["metadata"]["collapse"]["claims"] = [asdict(ledger.claims[0])]
    merged = merge(notebook, executed_copy(notebook, [output]))
    text = ledger_page({"gaussian": merged})
    assert "1 reproduced, 0 contradicted, 0 unresolved" in text
    assert "1 could have lost, and 0 of them did" in text
    assert '<a href="../notebooks/gaussian.html#claim-A1">It forgets</a>' in text
    assert 'data-chapter="It forgets" data-verdict="reproduced"' in text
    assert "a &lt; b" in text
    assert "must hold" in text


def test_status_has_seconds_date_parameters_counts_and_what_did_not_run(author: Author, notebook):
    author.toc("gaussian", "late")
    merged = merge(notebook, executed_copy(notebook, [claims()]))
    *_, row, missing = status_page(author.project, {"gaussian": merged}).splitlines()
    assert missing == "| {doc}`/notebooks/late` | did not run | | | |"
    assert row.startswith(
        "| {doc}`/notebooks/gaussian` | 2026-01-02 03:04 | 1.5 | 1 reproduced | `s"
    )
    assert row.endswith("`quick = False` |")


def test_front_page_shows_the_hero_of_the_chapter_that_draws_one(notebook):
    merged = merge(notebook, executed_copy(notebook, [figure()]))
    assert front_figure({"gaussian": merged}).strip() == ""
    hero = figure(name="fig-hero", caption="Digits that fade.")
    hero["data"]["text/html"] += "<figcaption>Digits that fade.</figcaption>"
    merged = merge(notebook, executed_copy(notebook, [hero]))
    text = front_figure({"gaussian": merged})
    assert text.count("<img") == 1
    assert text.count("Digits that fade. (From {doc}`/notebooks/gaussian`.)") == 1
    assert "figcaption" not in text


def test_an_opening_figure_stands_at_the_head_of_its_page_too(author: Author, notebook):
    """Before any code, without a second number or label."""
    drawn = figure(name="fig-spread", caption="It narrows.")
    drawn["data"]["text/html"] += "<figcaption>It narrows.</figcaption>"
    merged = merge(notebook, executed_copy(notebook, [drawn]))
    assert len(page(author.project, "gaussian", merged)["cells"]) == len(merged["cells"]) + 1
    merged["cells"][-1]["metadata"]["tags"] = ["opening"]
    _, opening, *_ = page(author.project, "gaussian", merged)["cells"]
    assert opening["cell_type"] == "markdown" and opening["source"].count("<img") == 1
    assert "It narrows. ({numref}`fig-spread`, whose code is below)" in opening["source"]
    assert "figcaption" not in opening["source"] and "name:" not in opening["source"]


def test_map_shows_what_each_chapter_needs_as_a_drawing_and_in_words(author: Author):
    """Prerequisites are links to chapters in the row of that name; other links are none."""
    row = "| **Prerequisites** | {doc}`one` and {doc}`that <two>`, {doc}`/how_to_use` |"
    author.chapter("one", title="First & foremost")
    author.chapter("two", title="{doc}`one`")
    author.chapter("three_more", title=f"Third\n\n| | |\n|---|---|\n{row}")
    author.toc("one", "two", "three_more")
    notebooks = {n: read_notebook(author.project.notebook(n)) for n in author.project.chapters}
    text = chapter_map(author.project, notebooks)
    assert text.count("<path") == 2
    assert 'href="notebooks/one.html" title="First &amp; foremost">one</a></li>' in text
    assert ">three more</a> <span>needs one, two</span></li>" in text


def test_what_other_kernels_change_stands_in_a_row_a_chapter(author: Author, notebook):
    merged = {"gaussian": merge(notebook, executed_copy(notebook, []))}
    assert "kernels" not in status_page(author.project, merged)
    run = {"chapter": "gaussian", "parameters": "defaults", "date": "2026-01-02T03:04:05+00:00"}
    run |= {"commit": "commit abc", "settings": ["avx2"], "claims": 3, "verdicts": ["A1: a, b"]}
    run |= {"numbers": 9, "changed": ["w2", "sd"], "digits": 2, "standard_errors": 0.125}
    same = run | {"verdicts": [], "changed": [], "digits": None, "parameters": "smoke"}
    gone = run | {"chapter": "gone"}
    record = {"machine": "A chip", "settings": {"avx2": "OpenBLAS Haswell"}}
    for runs, row in (
        (
            [run, same, gone],
            "defaults | avx2 | 1 of 3 | 2 of 9 | 2 | 0.12 | 2026-01-02, commit abc |",
        ),
        ([same], "smoke | avx2 | 0 of 3 | 0 of 9 | all | 0.12 | 2026-01-02, commit abc |"),
    ):
        author.write("recorded/kernels.json", json.dumps(record | {"runs": runs}))
        text = status_page(author.project, merged)
        assert [line for line in text.splitlines() if "commit abc" in line] == [
            f"| {{doc}}`/notebooks/gaussian` | {row}"
        ]
        assert "On A chip; *avx2*: OpenBLAS Haswell." in text


MACHINE = {"platform": "Linux", "processor": "A chip", "cores": 2}


def test_recorded_runs_say_that_they_are(author: Author, notebook):
    merged = {"gaussian": merge(notebook, executed_copy(notebook, []))}
    assert "recorded run" not in status_page(author.project, merged)
    record = {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": MACHINE,
        "versions": {"numpy": "2.0.2"},
        "chapters": {"gaussian": {"seconds": 12.3, "megabytes": 1234}, "gone": {}},
    }
    author.write("recorded/colab.json", json.dumps(record))
    text = status_page(author.project, merged)
    assert "*recorded run*" in text and "numpy 2.0.2" in text
    assert text.endswith("| {doc}`/notebooks/gaussian` | 12 | 1,234 |\n")

    entry = {"question": "How fast? Process time.", "about": ["Two ways."]}
    entry |= {"tables": ["a 1x\nb 9x"], "missed": ["test_goal: below 10"]}
    text = render("speed.md", **record, files={"bench_a.py": entry})
    assert "*recorded run* of 2026-01-02" in text
    assert "## How fast?\n\nProcess time.\n\nTwo ways.\n\n```text\na 1x\nb 9x\n```" in text
    assert "**Goal missed.** `test_goal: below 10`" in text
