"""Hygiene: what a notebook in git must look like."""

from __future__ import annotations

import json
from fnmatch import fnmatch

import nbformat
import pytest
from miniature import Author

from collapse_book.gate import check_notebook, check_pages, fix_notebook, unbacked_statements
from collapse_book.messages import BadInput
from collapse_book.notebooks import chapter_parameters


def findings(author: Author) -> list[str]:
    return check_notebook(author.project, "gaussian")


def change(author: Author, edit) -> None:
    path = author.root / "notebooks/gaussian.ipynb"
    notebook = json.loads(path.read_text())
    edit(notebook)
    path.write_text(json.dumps(notebook))


UNTIDY = "is not as git keeps it * run `collapse-book check --fix`"


def set_cell(number, **values):
    return lambda notebook: notebook["cells"][number].update(values)


def test_clean_notebook_passes(author: Author):
    author.chapter("gaussian", "md:We measured {glue:text}`w2` (see {numref}`fig-a`).")
    assert findings(author) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_cell(3, execution_count=1), f"cell 4 (*: {UNTIDY}"),
        (
            set_cell(3, outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}]),
            f"cell 4 (*: {UNTIDY}",
        ),
        (set_cell(3, source=" "), "is an empty code cell"),
        (set_cell(3, source="x = ("), "line 1 is not Python"),
        (set_cell(3, source="from collapse_book import gate"), "imports collapse_book"),
        (set_cell(3, source="import myst_nb"), "imports myst_nb"),
        (set_cell(3, id="cell-2"), f"cell 4 (*: {UNTIDY}"),
        (set_cell(3, id=None), f"cell 4 (*: {UNTIDY}"),
        (set_cell(0, source="Some text"), "must begin with a heading"),
        (set_cell(1, source="%pip install x"), f"cell 2 (*: {UNTIDY}"),
        (set_cell(1, metadata={"tags": ["colab-install"]}), f"cell 2 (*: {UNTIDY}"),
        (set_cell(1, metadata={}), f"cell 2 (*: {UNTIDY}"),
        (set_cell(3, metadata={"papermill": {}}), f"cell 4 (*: {UNTIDY}"),
        (set_cell(2, metadata={}), "parameters cell: needs one cell tagged 'parameters', has 0"),
        (set_cell(2, source="n: int = 1  # size"), "needs `seed: int"),
        (set_cell(2, source="seed: int = 1  # seed"), "needs `seed: int"),
        (set_cell(2, source="seed = 1"), "parameters cell: line 1: write"),
        (set_cell(3, source="print(seed)"), "parameter rate is never used"),
        (lambda nb: nb.update(nbformat_minor=4), f"gaussian: {UNTIDY}"),
        (lambda nb: nb["metadata"].update(kernelspec={"name": "conda"}), f"gaussian: {UNTIDY}"),
        (lambda nb: nb["metadata"].update(papermill={}), f"gaussian: {UNTIDY}"),
    ],
)
def test_untidy_notebook_is_found(author: Author, edit, message):
    author.chapter("gaussian")
    change(author, edit)
    found = findings(author)
    assert any(fnmatch(line, f"*{message}*") for line in found), found
    assert all(line.startswith("gaussian") for line in found)


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("After ten generations we measured 0.83 of the spread.", True),
        ("We find a ratio of 0.25.", True),
        ("It is 0.52 ± 0.01 at the end.", True),
        ("The run ends at ± 3.", True),
        ("In the simulation, 12.5 % survive.", True),
        ("We find {glue:text}`ratio`, and `x = 0.5` is code.", False),
        ("We find $\\alpha = 0.25$ by algebra.", False),
        ("{cite:t}`shumailov` measured a perplexity of 53.1.", False),
        ("We measured it with Python 3.12.1, see section 2.", False),
        ("The learning rate is 0.1.", False),
        ("| we measured | 0.83 |", False),
    ],
)
def test_typed_measured_number_is_found(author: Author, sentence, found):
    author.chapter("gaussian", f"md:A sentence before.\n{sentence}")
    assert bool(findings(author)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("| **Time** | 20 minutes to read, about 15 seconds to run |", True),
        ("| **Time** | 20 minutes to read, half a minute to run |", True),
        ("On one core it takes half a day.", True),
        ("Wait some\nminutes.", True),
        ("It ends after 15 s.", True),
        (":::{note}\nIt needs 2.5 hours.\n:::", True),
        ("| **Time** | 20 minutes to read |", False),
        ("It takes {glue:text}`cost`, see `timeout = 60 s`.", False),
        ("```bash\nsleep 10  # 10 seconds\n```", False),
        ("A second look, the page of the day, $3 s$ and 2 s.e. in the 1990s.", False),
        ("They trained for 3 days {cite:p}`shumailov`.", False),
    ],
)
def test_typed_run_time_is_found(author: Author, text, found):
    author.chapter("gaussian", f"md:A sentence before.\n\n{text}")
    assert ["types the time" in line for line in findings(author)] == [True] * found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a notebook: Expecting value"),
        (b"{" * 100_000, "is not a notebook: "),
        (b"[" * 100_000, "is not a notebook: maximum recursion depth"),
        (b"\xff", "is not a notebook: 'utf-8' codec can't decode"),
        (b"<<<<<<< HEAD\n{}", "is not a notebook: Expecting value"),
        (b"[]", "is not a notebook: it lacks cells"),
        (b'{"cells": {}, "metadata": {}}', "is not a notebook: it lacks cells"),
        (b'{"cells": [3], "metadata": {}}', "is not a notebook: it lacks cells"),
        (b'{"cells": [{"cell_type": "code"}], "metadata": {}}', "or a cell its source"),
        (
            b'{"cells": [{"cell_type": "code", "metadata": {}, "source": [1]}], "metadata": {}}',
            "or a cell its source",
        ),
        (b'{"cells": [], "metadata": {"a": ' + b"9" * 5000 + b"}}", "is not a notebook: Exceeds"),
    ],
)
def test_what_is_no_notebook_is_one_line(author: Author, content, message):
    author.chapter("gaussian")
    author.project.notebook("gaussian").write_bytes(content)
    for look in (check_notebook, fix_notebook, chapter_parameters):
        with pytest.raises(BadInput) as error:
            look(author.project, "gaussian")
        assert message in str(error.value) and "\n" not in str(error.value)
        assert "gaussian.ipynb" in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("## Takeaways\n\n- It falls (A1a).\n- It rises.\n- It stays, A9.\n\nFurther.", 2),
        ("## Takeaways\n- It falls, `A1a`.", 0),
        ("## Three findings\n\n1. **It falls.** And\n   more.\n2. It rises (B2).", 1),
        ("# What to do on Monday\n\n1. Store it.", 1),
        ("**On Monday.** Store it.", 1),
        ("- **What to do on Monday.** Store it, as B2 says.", 0),
        ("It is so: **every row counts\nonce and for all**.", 1),
        ("It is so: **every row counts once and for all** (B2).", 0),
        ("This is a **term of art**.", 0),
        ("## Exercises\n\n**3. Find out how much it is.** Try.", 0),
        ("It is so: **does every row count once and for all?**", 0),
        ("## What if?\n\n**Every row counts once and for all.** Then less is lost.", 0),
        ("| **every row counts once and for all** | x |", 0),
        ("```\n**every row counts once and for all**\n```", 0),
    ],
)
def test_statement_without_a_claim_is_found(text, found):
    messages = list(unbacked_statements(text, {"A1a", "B2"}))
    assert len(messages) == found
    assert all(message.startswith("states '") for message in messages)


def test_statements_of_a_chapter_and_of_a_page_need_a_claim_of_any_chapter(author: Author):
    author.chapter("other", 'ledger.check("B2", "It falls.")')
    author.chapter("gaussian", "md:## Takeaways", "md:- It falls (B2).\n- It rises (C3).")
    author.write("book/index.md", "# Front\n\n**What is kept is never lost again** (B2).\n")
    author.write("book/more.md", "# More\n\n**What is kept is never lost again** (C3).\n")
    (line,) = findings(author)
    assert line.startswith(
        "gaussian, cell 6 (- It falls (B2).): states '- It rises (C3).' and names"
    )
    (line,) = check_pages(author.project)
    assert line.startswith("book/more.md: states 'What is kept is never lost again' and names no")


def test_fix_makes_an_executed_notebook_clean(author: Author):
    author.chapter("gaussian")

    def spoil(notebook):
        notebook["cells"][3].update(
            execution_count=3, outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}]
        )
        notebook["cells"][3]["metadata"] = {"papermill": {"status": "completed"}}
        notebook["cells"][0].pop("id")
        notebook["metadata"] = {"kernelspec": {"name": "conda"}, "papermill": {}}
        del notebook["cells"][1]

    change(author, spoil)
    assert findings(author)
    assert fix_notebook(author.project, "gaussian")
    assert findings(author) == []
    assert not fix_notebook(author.project, "gaussian")


def test_fix_leaves_what_jupyter_saved_as_it_is(author: Author):
    author.chapter("gaussian", "md:Two\nlines.")
    fix_notebook(author.project, "gaussian")
    path = author.project.notebook("gaussian")
    saved = nbformat.writes(nbformat.read(path, as_version=4)) + "\n"
    path.write_text(saved, encoding="utf-8")
    assert not fix_notebook(author.project, "gaussian")
    assert path.read_text(encoding="utf-8") == saved


@pytest.mark.parametrize(
    ("cell", "tag", "message"),
    [
        ("quiz('How many?', 1 + seed)", "hide-cell", None),
        ("x = 1", "hide-cell", "no exercise checks its answer: end a solution with quiz("),
        ("quiz('How many?', seed)", "hide-input", "gives an answer away: a cell with quiz(...)"),
        ("quiz('How many?', 2)", "hide-cell", "types the answer 2 of a quiz: compute it"),
    ],
)
def test_a_quiz_is_there_and_hidden_and_computed(author: Author, cell, tag, message):
    author.chapter("gaussian", "md:## Exercises\n\n**1. How many?** Count.", cell)
    change(author, set_cell(-1, metadata={"tags": [tag]}))
    found = findings(author)
    assert [message] == [message in line and message for line in found] if message else not found
