"""The gate: each of its conditions, and that it names notebook, cell and first line."""

from __future__ import annotations

import pytest

from collapse_book.gate import check_book, check_chapter

FIGURE = {"kind": "figure", "name": "fig-a", "caption": "A caption.", "alt": "line chart"}


def display(data, **metadata):
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def figure(**changes):
    html = "<figure><img alt='line chart' src='data:'></figure>"
    return display({"text/html": html}, collapse=FIGURE | changes)


def glued(key="w2"):
    prefix = "application/papermill.record/"
    scrapbook = {"name": key, "mime_prefix": prefix}
    return display({f"{prefix}text/plain": "0.5"}, scrapbook=scrapbook)


def claims(verdict="reproduced", expect="reproduced", identity="A1"):
    claim = {
        "id": identity,
        "verdict": verdict,
        "expect": expect,
        "expected": "1",
        "measured": "2 ± 0.1",
    }
    return display({"text/html": "<table>"}, collapse={"kind": "claims", "claims": [claim]})


def stream(name="stdout", text="hello\n"):
    return {"output_type": "stream", "name": name, "text": [text]}


def notebook(*cells, prose=""):
    written = [
        {
            "cell_type": "code",
            "source": f"\nstep_{number}()\nmore()",
            "execution_count": number,
            "metadata": {},
            "outputs": outputs,
        }
        for number, outputs in enumerate(cells, start=1)
    ]
    markdown = {"cell_type": "markdown", "source": f"# Title\n{prose}", "metadata": {}}
    return {"cells": [markdown, *written], "metadata": {}}


def messages(*cells, prose="", strict=True):
    return check_chapter("gaussian", notebook(*cells, prose=prose), strict=strict)


def test_good_chapter_passes():
    fine = notebook(
        [figure()],
        [glued(), glued("kl"), stream()],
        [claims()],
        [],
        prose="It is {glue:text}`w2` and {glue:text}`kl:.3f`, see {glue:text}`other.ipynb::x`.\n"
        "```\n{glue:text}`only an example`\n```",
    )
    assert check_chapter("gaussian", fine, strict=True) == []


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (
            [{"output_type": "error", "ename": "ValueError", "evalue": "no\nway", "traceback": []}],
            "ValueError: no way",
        ),
        ([stream("stderr", "UserWarning: x\n  y\n")], "wrote to stderr: UserWarning: x"),
        ([figure(alt=" ")], "figure without alt text"),
        ([figure(caption="")], "figure without caption"),
        ([figure(name=None)], "figure without name"),
        ([figure(kind="player", alt="")], "figure without alt text"),
        ([display({"image/png": "iVBO", "text/plain": "<Figure>"})], "use show(fig, ...)"),
        ([display({"image/svg+xml": "<svg/>"})], "use show(fig, ...)"),
        ([display({"text/html": "<p><img src='x.png'></p>"})], "use show(fig, ...)"),
        ([figure(), figure(name="fig-b")], "shows 2 figures: show one figure per cell"),
        ([figure(), stream()], "shows a figure and other output"),
        ([figure(), claims()], "shows a figure and other output"),
        ([glued(), glued()], "glue key 'w2' is used twice"),
        (
            [claims("contradicted")],
            "claim A1 is contradicted, expected reproduced: law 1, measure",
        ),
        ([claims("unresolved")], "claim A1 is unresolved, expected reproduced"),
        ([claims("reproduced", "contradicted")], "claim A1 is reproduced, expected contradicted"),
    ],
)
def test_bad_output_is_found_with_its_place(outputs, message):
    (found,) = messages([], outputs)
    assert found.startswith("gaussian, cell 3 (step_2()): ")
    assert message in found


def test_figure_and_glued_numbers_may_share_a_cell():
    assert messages([figure(), glued()]) == []


def test_unexecuted_cell_is_found():
    executed = notebook([], [])
    executed["cells"][2]["execution_count"] = None
    (found,) = check_chapter("gaussian", executed, strict=True)
    assert found == "gaussian, cell 3 (step_2()): was not executed"


def test_figure_name_used_twice_is_found():
    assert messages([figure()], [figure()]) == [
        "gaussian, cell 3 (step_2()): figure name 'fig-a' is used twice"
    ]


def test_quoted_number_that_nobody_glues_is_found():
    assert messages([glued()], prose="It is {glue:text}`w3`.") == [
        "gaussian, cell 1 (# Title): quotes 'w3', which no cell glues"
    ]


def test_claim_without_expectation_may_have_any_verdict():
    assert messages([claims("contradicted", None)]) == []


@pytest.mark.parametrize(("verdict", "found"), [("unresolved", 0), ("contradicted", 1)])
def test_small_run_may_leave_a_claim_open_but_not_turn_it(verdict, found):
    assert len(messages([claims(verdict)], strict=False)) == found


def test_claim_ids_are_unique_in_a_chapter_and_in_the_book():
    assert messages([claims()], [claims()]) == [
        "gaussian, cell 3 (step_2()): claim 'A1' is used twice"
    ]
    book = {"one": notebook([claims()]), "two": notebook([claims()]), "three": notebook([])}
    found = check_book(book, strict=True)
    assert found == {"two": ["two: claim A1 is also a claim of one"]}
