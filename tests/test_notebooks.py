"""The notebooks and scenarios of this book, as they are in git."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collapse_book.gate import check_notebook, check_pages
from collapse_book.notebooks import chapter_parameters, read_notebook
from collapse_book.project import Project
from collapse_book.scenarios import check_scenarios, named_scenario, scenario_names

PROJECT = Project(Path(__file__).resolve().parents[1])


@pytest.mark.parametrize("chapter", PROJECT.chapters)
def test_notebook_is_clean(chapter):
    assert check_notebook(PROJECT, chapter) == []


def test_statements_of_the_pages_have_claims_behind_them():
    assert check_pages(PROJECT) == []


def test_table_of_contents_names_what_exists():
    assert PROJECT.unwritten == []
    assert PROJECT.chapters == PROJECT.published


def test_machine_leads_to_chapters_that_exist():
    settings = (PROJECT.root / "book/_machine/5_settings.js").read_text()
    named = re.findall(r'chapter: "(\w+)"', settings)
    assert named and set(named) <= set(PROJECT.chapters)


def test_scenarios_are_valid_and_smoke_is_complete():
    assert check_scenarios(PROJECT) == []


@pytest.mark.parametrize("name", scenario_names(PROJECT))
def test_scenario_changes_something_in_every_chapter_it_names(name):
    for chapter, given in named_scenario(PROJECT, name).chapters.items():
        defaults = {p.name: p.default for p in chapter_parameters(PROJECT, chapter)}
        assert any(defaults[key] != value for key, value in given.items()), chapter


@pytest.mark.parametrize("chapter", PROJECT.chapters)
def test_papermill_reads_the_parameters_as_the_press_does(chapter):
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    path = PROJECT.notebook(chapter)
    theirs = _infer_parameters(load_notebook_node(str(path)))
    ours = chapter_parameters(PROJECT, chapter)
    assert [(p.name, p.inferred_type_name) for p in theirs] == [(p.name, p.type) for p in ours]
    assert all(p.help for p in theirs)


@pytest.mark.parametrize("chapter", PROJECT.chapters)
def test_nbstripout_has_nothing_to_strip(chapter):
    import nbformat
    from nbstripout import strip_output

    path = PROJECT.notebook(chapter)
    before = nbformat.read(path, as_version=4)
    after = strip_output(
        nbformat.read(path, as_version=4), keep_output=False, keep_count=False, keep_id=True
    )
    assert after.cells == before.cells
    nbformat.validate(before)
    assert read_notebook(path)["nbformat_minor"] == 5
