"""README, citation, licences, bibliography and style: what must agree with the settings."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

import collapse_utils
from collapse_book.cli import app
from collapse_book.gate import typed_values

ROOT = Path(__file__).resolve().parents[1]
#: What people read that is no notebook.
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"book/{p.name}" for p in ROOT.glob("book/*.md"))]

#: Whatever would name an owner of a repository or of its pages; a `$` or `{` stands for any.
OWNERS = re.compile(
    r"github\.com[/:][\w.-]+/[\w-]|[\w-]+\.github\.io|codeberg\.org/\w|gitlab\.com/\w"
    r"|mybinder\.org|colab\.research\.google\.com/(?:github|gist)/\w"
)
#: Files that must spell such addresses out: the tests of this rule.
SPELT_OUT = {
    "tests/test_front_matter.py",
    *(f"tests/press/test_{name}.py" for name in ("extension", "pages", "site")),
}


def test_no_file_names_an_owner():
    """Whoever registered a name that stands here could run code in every reader's Colab."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 100
    found = [
        f"{name}: {owner}"
        for name in set(names) - SPELT_OUT
        for owner in OWNERS.findall((ROOT / name).read_bytes().decode("utf-8", "ignore"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/some-one/book",
        "git+ssh://git@github.com:some-one/book",
        "https://some-one.github.io/book/",
        "https://mybinder.org/v2/gh/some-one/book/main",
        "https://colab.research.google.com/github/some-one/book/blob/main/notebooks/a.ipynb",
    ],
)
def test_the_rule_sees_an_owner(text):
    assert OWNERS.search(text)


def test_the_idea_that_the_readme_opens_with_runs_and_collapses():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], names)
    assert names["sd"] < 0.01 < abs(names["mean"])


def test_citation_has_the_version_and_licences_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == collapse_utils.__version__
    assert citation["license"] == ["BSD-3-Clause", "CC-BY-4.0"]
    assert "Redistribution and use" in (ROOT / "LICENSE-CODE").read_text(encoding="utf-8")
    text = (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    assert all(f"Section {n} -- " in text for n in range(1, 9)), "LICENSE-TEXT is not complete"


def test_every_reference_is_read_and_cited():
    known = set(parse_file(ROOT / "book/references.bib").entries)
    pages = [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/**/*.ipynb")]
    pages += ROOT.glob("collapse_book/templates/*")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    cited = set(re.findall(r"[\w-]+", " ".join(re.findall(r"\{cite:\w+\}`([^`]+)`", text))))
    assert known == cited


def test_bibliography_has_unique_keys_and_prints_no_remarks():
    source = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", source, re.MULTILINE)
    assert len(keys) == len(set(keys)) > 0
    remarks = re.findall(r"unsure|from memory|note\s*=\s*\{ok", source)
    assert not remarks, f"remarks about certainty would be printed: {remarks}"


@pytest.mark.parametrize("name", PAGES)
def test_no_page_promises_a_time(name):
    assert list(typed_values((ROOT / name).read_text(encoding="utf-8"))) == []


def test_style_fetches_nothing():
    for path in (ROOT / "book/_static").iterdir():
        if path.suffix in (".css", ".svg"):
            loads = re.findall(r"url\([^)]*\)|@import|(?:xlink:)?href=\S+", path.read_text("utf-8"))
            assert not loads, f"{path.name} would load {loads}"


def test_what_workflows_call_and_pages_and_messages_name_is_there():
    """Every `make` target and `collapse-book` command exists."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = set(app.commands)
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert {path.stem for path in files} == {"check", "deploy", "release", "weekly"}
    for path in files:
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    files += [*map(ROOT.joinpath, ("Makefile", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
    files += ROOT.glob("book/*.md")
    for folder in ("collapse_book", "collapse_utils", "benchmarks", "tests"):
        files += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".j2")]
    seen = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"(?:^|`|(?:run|yet|which): )make ([a-z]+)\b", text, re.MULTILINE):
            assert target in targets, f"{path.name}: make {target}"
            seen.add(target)
        for command in re.findall(r"(?:^|`|bin/)collapse-book ([a-z]+)\b", text, re.MULTILINE):
            assert command in commands, f"{path.name}: collapse-book {command}"
    assert {"book", "test", "serve", "recorded", "kernels", "bench", "audit"} <= seen


def test_every_chapter_stands_in_the_opener_of_its_part():
    toc = (ROOT / "book/_toc.yml").read_text(encoding="utf-8")
    openers = "".join(path.read_text("utf-8") for path in (ROOT / "book").glob("part_*.md"))
    chapters = re.findall(r"file: notebooks/(\w+)", toc)
    named = set(re.findall(r"\{doc\}`notebooks/(\w+)`", openers))
    assert len(chapters) > 20
    assert set(chapters) - named == {"what_is_collapse", "your_own_model"}


def test_a_chapter_has_a_name_of_one_line_beside_the_pages():
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    pages = [page for part in toc["parts"] for page in part["chapters"]]
    long = [page["file"] for page in pages if len(page.get("title", page["file"])) > 29]
    assert not long
    assert all("title" in page for page in pages if page["file"].startswith("notebooks/"))


def test_the_rooms_and_verbs_of_the_library_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (`[^|]+`) \|$", text, re.M)
    verbs = [(room, verb) for room, cell in rows for verb in re.findall(r"`(\w+)`", cell)]
    assert len(verbs) >= 40
    for room, verb in verbs:
        module = importlib.import_module(f"collapse_utils.{room}")
        if room == "models":
            module = importlib.import_module(f"collapse_utils.models.{verb}")
            assert module.__doc__
        else:
            assert getattr(module, verb).__doc__, (room, verb)
