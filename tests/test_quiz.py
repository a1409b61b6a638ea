"""Exercises that check themselves, as a reader meets them: typed and picked answers, by keyboard,
from a folder, without JavaScript."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collapse_book.project import Project
from collapse_utils import publishing

STATIC = Project(Path(__file__).parents[1]).book / "_static"
NUMBER = "Which share <is> left?"
CHOICE = "Which end is reached?"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Two exercises, as the site has them: question, solution, and its cell, which is folded."""
    pages: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "show_html", lambda page, text, metadata: pages.append(page))
        publishing.quiz(NUMBER, 0.5, error=0.02, hints={0.25: "That is its square."})
        publishing.quiz(CHOICE, True, choices=["the <truth>", "a guess"], hints={0: "It never is."})
    folder = tmp_path_factory.mktemp("site")
    for name in ("book.css", "book.js"):
        shutil.copy(STATIC / name, folder)
    exercises = "".join(
        f'<p>Exercise {k}</p><div class="admonition dropdown"><p>Because.</p></div>'
        f'<div class="cell tag_hide-cell"><details class="hide"><summary>Code</summary>'
        f'<div class="cell_output">{page}</div></details></div>'
        for k, page in enumerate(pages)
    )
    (folder / "page.html").write_text(
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>A page</title>'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="book.css">'
        "<style>body {background: var(--book-paper); color: var(--book-ink)}</style>"
        f'<script src="book.js"></script></head><body><main class="bd-article"><h1>A page</h1>'
        f"{exercises}</main></body></html>"
    )
    return folder


@pytest.fixture
def page(browser, site) -> Iterator[Any]:
    """The page from its folder, as a reader without a network opens it; nothing may go wrong."""
    page = browser.new_page(viewport={"width": 360, "height": 700}, reduced_motion="reduce")
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(error.message))
    page.on("console", lambda message: found.append(message.text))
    page.on("request", lambda r: found.append(r.url) if r.url.startswith("http") else None)
    page.goto((site / "page.html").as_uri())
    yield page
    page.close()
    assert found == []


NO_NUMBER = "is no number. Write 0.25, 1e-3 or 25 %."


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("0.5", "Right: 0.5."),
        ("0,5", "Right: 0.5."),
        (".5", "Right: 0.5."),
        (" 50 % ", "Right: 0.5."),
        ("5e-1", "Right: 0.5."),
        ("+0.519", "Right: 0.5."),
        ("0.55", "Close, but too high."),
        ("0.45", "Close, but too low."),
        ("0.9", "Too high."),
        ("-0.5", "Too low."),
        ("\u22120.5", "Too low."),
        ("1e-3", "Too low."),
        ("1,000", "Too high."),
        ("50", "Too high."),
        ("0.25", "Too low. That is its square."),
        ("", "Type a number first."),
        ("  ", "Type a number first."),
        ("abc", f'"abc" {NO_NUMBER}'),
        ("1e", f'"1e" {NO_NUMBER}'),
        ("0x1", f'"0x1" {NO_NUMBER}'),
        ("Infinity", f'"Infinity" {NO_NUMBER}'),
        ("1e999", f'"1e999" {NO_NUMBER}'),
        ("1.2.3", f'"1.2.3" {NO_NUMBER}'),
        ("%", f'"%" {NO_NUMBER}'),
        ("<b>1</b>", f'"<b>1</b>" {NO_NUMBER}'),
    ],
)
def test_a_number_is_judged_in_words(page, typed, said):
    field = page.get_by_label(f"{NUMBER} (within 0.02)")
    field.fill(typed)
    field.press("Enter")
    assert page.get_by_role("status").first.inner_text() == said
    assert page.locator(".quiz-right").count() == said.startswith("Right")


def test_a_choice_from_the_keyboard(page):
    said = page.get_by_role("status").last
    group = page.get_by_role("group", name=CHOICE)
    group.locator("xpath=..").get_by_role("button", name="Check").press("Enter")
    assert said.inner_text() == "Choose one first."
    page.get_by_label("the <truth>").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert said.inner_text() == "No. It never is."
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert said.inner_text() == "Right: a guess."


def test_questions_stand_before_their_solutions_and_fit_a_phone(page):
    order = page.evaluate(
        "[...document.querySelector('main').children].map((one) => one.className || one.tagName)"
    )
    assert order == ["H1", *["P", "quiz", "admonition dropdown", "cell tag_hide-cell"] * 2]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
    assert page.locator("details p").first.is_hidden()
    page.emulate_media(media="print")
    assert page.locator(".quiz").first.is_hidden()


def test_without_javascript_the_solution_has_question_and_answer(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "page.html").as_uri())
    page.locator("summary").first.click()
    assert page.locator("details p").first.inner_text() == f"{NUMBER} 0.5"
    assert page.get_by_role("button").count() == 0
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible(page, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    page.locator(".quiz > input").fill("0.5")
    for button in page.get_by_role("button").all():
        button.click()
    options = {"preload": False, "resultTypes": ["violations"]}
    wrong = axe.Axe().run(page, options=options).response["violations"]
    assert [(one["id"], one["nodes"][0]["target"]) for one in wrong] == []


def test_it_is_small():
    """At most 3 kB of script for all exercises."""
    script = (STATIC / "book.js").read_text()
    assert len(script[script.index("/* Exercises that check themselves") :]) <= 3000
