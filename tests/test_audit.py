"""The audit finds what is wrong with a page in a browser, and nothing where nothing is."""

from __future__ import annotations

import base64
import importlib.util
import os

import pytest
from conftest import Author

from collapse_book import audit, browser
from collapse_book.errors import BadInput, BuildFailed

GOOD = """<!DOCTYPE html><html lang="en"><head><title>A page</title></head><body><main>
<h1>A page</h1><h2>A section</h2><p>Words.</p>
<table><thead><tr><th scope="col">n</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>
<details><summary>More</summary><p>Folded words.</p></details>
</main></body></html>"""


@pytest.fixture(scope="module")
def chromium_is_there() -> None:
    if any(importlib.util.find_spec(n) is None for n in ("playwright", "axe_playwright_python")):
        pytest.skip("the extra `audit` is not installed: pages are not opened in a browser")
    try:
        browser.find_chromium()
    except BadInput as error:
        pytest.skip(f"{error}: pages are not opened in a browser")


def findings(author: Author, body: str) -> str:
    """What the audit says of one page with more in its body than the good one."""
    site(author, GOOD.replace("</main>", f"{body}</main>"))
    with pytest.raises(BuildFailed) as failed:
        audit.audit_site(author.project, [], lambda line: None)
    return str(failed.value)


def site(author: Author, page: str) -> None:
    author.write("_build/html/index.html", page)


def test_good_page_passes_and_is_reported(author: Author, chromium_is_there):
    site(author, GOOD)
    lines: list[str] = []
    (report,) = audit.audit_site(author.project, [], lines.append)
    assert report.weight == len(GOOD.encode())
    assert report.requests == 1
    assert lines == ["index.html: 0.00 MB, 1 request, 0 findings"]
    assert (author.root / "_build/audit.json").is_file()


def test_each_kind_of_finding_is_reported_on_one_page(author: Author, chromium_is_there):
    said = findings(
        author,
        '<h4>Too deep</h4><img src="https://example.org/a.png" alt="a">'
        "<script>console.error('broken'); undefined.x</script><img src='gone.png'>"
        "<table><tbody><tr><td>bare</td></tr></tbody></table><div style='width:600px'>wide</div>"
        "<details><summary>More</summary><p style='color:#ccc;background:#fff'>Pale.</p></details>",
    )
    for part in (
        "asks another host for https://example.org/a.png",
        "console error: broken",
        "script error: Cannot read properties of undefined",
        "status 404 for http://127.0.0.1",
        "heading 'Too deep' is of level 4 after level 2",
        "table without a header: 'bare'",
        "axe, light: image-alt (critical)",
        "axe, light: color-contrast (serious), 1 x",
        "axe, dark: color-contrast (serious), 1 x",
        "scrolls sideways at 390 px: div to",
    ):
        assert part in said


def test_weight_counts_the_pictures_of_one_theme(author: Author, chromium_is_there):
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg'>{' ' * 675_000}</svg>"
    picture = f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"
    both = "".join(f'<img class="only-{t}" alt="a" src="{picture}">' for t in ("light", "dark"))
    site(author, GOOD.replace("</main>", f"{both}</main>"))
    (report,) = audit.audit_site(author.project, ["index"], lambda line: None)
    assert 900_000 < report.weight < 1_000_000
    assert "weighs 1.80 MB, more than 1.5 MB" in findings(author, both.replace("only-", "x-"))


def test_pages_may_be_named_without_folder_and_suffix(author: Author):
    site(author, GOOD)
    author.write("_build/html/notebooks/gaussian.html", GOOD)
    author.write("_build/html/_static/template.html", GOOD)
    html = author.project.html
    assert audit.site_pages(html) == ["index.html", "notebooks/gaussian.html"]
    assert audit.site_pages(html, ["gaussian", "index.html"]) == [
        "notebooks/gaussian.html",
        "index.html",
    ]
    with pytest.raises(BadInput, match=r"no page 'gausian' in the site; did you mean 'gaussian'"):
        audit.site_pages(html, ["gausian"])


def test_without_a_site_there_is_nothing_to_audit(author: Author):
    with pytest.raises(BadInput, match="there is no site yet"):
        audit.site_pages(author.project.html)


def test_missing_browser_is_one_line(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(BadInput, match="CHROMIUM=/nowhere/chromium is no program: install"):
        browser.find_chromium()
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(BadInput, match="no Chromium or Chrome found: install chromium"):
        browser.find_chromium()
