"""README, citation, licences, bibliography and style: what must agree with the settings."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import collapse_utils

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
OWNER, NAME = urlsplit(CONFIG["repository"]["url"]).path.strip("/").split("/")

#: Everything that names the repository: its pages, its site, and its launch links.
ADDRESSES = re.compile(
    r"https://github\.com/([^/\s)]+)/([^/\s)\"]+)"
    r"|https://([^./\s]+)\.github\.io/([^/\s)]+)"
    r"|(?:colab\.research\.google\.com/github|mybinder\.org/v2/gh)/([^/\s]+)/([^/\s]+)"
)


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", "_config.yml"])
def test_every_address_is_the_repository_of_the_settings(name):
    found = ADDRESSES.findall((ROOT / name).read_text(encoding="utf-8"))
    assert found, f"{name} names the repository nowhere"
    assert {tuple(filter(None, groups)) for groups in found} == {(OWNER, NAME)}


def test_citation_has_the_version_and_licences_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == collapse_utils.__version__
    assert citation["license"] == ["BSD-3-Clause", "CC-BY-4.0"]
    assert "Redistribution and use" in (ROOT / "LICENSE-CODE").read_text(encoding="utf-8")
    text = (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")
    assert all(f"Section {n} -- " in text for n in range(1, 9)), "LICENSE-TEXT is not complete"


def test_bibliography_has_unique_keys_and_prints_no_remarks():
    source = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", source, re.MULTILINE)
    assert len(keys) == len(set(keys)) > 0
    remarks = re.findall(r"unsure|from memory|note\s*=\s*\{ok", source)
    assert not remarks, f"remarks about certainty would be printed: {remarks}"


def test_style_fetches_nothing():
    for path in (ROOT / "book/_static").iterdir():
        if path.suffix in (".css", ".svg"):
            loads = re.findall(r"url\([^)]*\)|@import|(?:xlink:)?href=\S+", path.read_text("utf-8"))
            assert not loads, f"{path.name} would load {loads}"
