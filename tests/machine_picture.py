"""The still picture of the collapse machine, drawn by the machine itself.

`PYTHONPATH=. python tests/machine_picture.py` writes it. It stands on paper, and where there is no
JavaScript. A test compares it with the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from collapse_book.pages import bundle
from collapse_book.pdf import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

BOOK = Path(__file__).parents[1] / "book"
PICTURE = BOOK / "_static" / "machine.svg"


def load(page: Page) -> Page:
    """Put the scripts of the machine into an empty page."""
    page.add_script_tag(content=bundle(BOOK / "_machine", "js"))
    return page


def draw(page: Page) -> str:
    """The picture of the first preset at its end."""
    return page.evaluate("""() => {
        const { Run, picture, presets } = collapseMachine;
        return picture(new Run(presets.spread.config).finish());
    }""")


if __name__ == "__main__":
    with chromium() as browser:
        PICTURE.write_text(draw(load(browser.new_page())), encoding="utf-8")
