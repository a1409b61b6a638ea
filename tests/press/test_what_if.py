"""What-ifs: one chapter under another value, and its numbers beside those of the default."""

from __future__ import annotations

import pytest
from miniature import Author

from collapse_book.messages import BadInput, BuildFailed
from collapse_book.pages import what_if_page
from collapse_book.press import Options, book_runs, build_book
from collapse_book.scenarios import check_scenarios, what_ifs

NUMBER = 'from collapse_utils import glue\nglue("half", f"{rate / 2:.2f} | of it")'
SMOKE = "description: All small.\nchapters: {line: {}}\n"
LARGE = """
    description: What if the rate is larger? Then half of it is larger too.
    chapters: {line: {rate: 0.8}}
    compare: {half: half of the rate}
"""


@pytest.fixture
def line(author: Author) -> Author:
    """A book of one chapter that glues one number."""
    author.chapter("line", NUMBER)
    author.toc("line")
    author.write("scenarios/smoke.yml", SMOKE)
    return author


def test_a_number_stands_beside_its_default(line: Author):
    line.write("scenarios/what_if/large.yml", LARGE)
    project = line.project
    assert check_scenarios(project) == []
    scenarios = what_ifs(project)
    options = Options(jobs=1)
    runs = book_runs(project, questions=scenarios)
    assert runs.execute(["line", "what_if/large"], options) == {}
    page = what_if_page(
        {"line": runs.executed("line")}, scenarios, {"large": runs.executed("what_if/large")}
    )
    assert "## What if the rate is larger?\n\nThen half of it is larger too." in page
    assert "`rate = 0.8` instead of `0.5`" in page
    assert "| half of the rate | 0.25 \\| of it | 0.40 \\| of it |" in page
    assert "collapse-book run line -f scenarios/what_if/large.yml" in page
    assert len(runs.finished(runs.runs)) == 2  # kept for the next build

    line.write("scenarios/what_if/large.yml", LARGE.replace("{half:", "{hafl:"))
    with pytest.raises(
        BuildFailed, match="compares 'hafl', which line does not glue; did you mean"
    ):
        what_if_page(
            {"line": runs.executed("line")},
            what_ifs(project),
            {"large": runs.executed("what_if/large")},
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LARGE.replace("larger?", "larger."), "must begin with a question"),
        (LARGE.replace("compare: {half: half of the rate}", ""), "the numbers to look at"),
        (LARGE.replace("half of the rate", "2"), "`compare:` must map keys"),
        (LARGE.replace("0.8", "fast"), "rate must be"),
        (LARGE.replace("line", "draft"), "draft is not in book/_toc.yml"),
    ],
)
def test_a_wrong_what_if_is_named(line: Author, text: str, message: str):
    line.chapter("draft", NUMBER)
    line.write("scenarios/smoke.yml", SMOKE.replace("{}", "{}, draft: {}"))
    line.write("scenarios/what_if/large.yml", text)
    (problem,) = check_scenarios(line.project)
    assert problem.startswith("scenarios/what_if/large.yml")
    assert message in problem
    with pytest.raises(BadInput) as refused:  # by a build too, and before it executes anything
        build_book(line.project, [], Options(jobs=1))
    assert str(refused.value) == problem
    assert not (line.root / "_build/executed").exists()
