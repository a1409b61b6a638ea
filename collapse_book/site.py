"""Sphinx, strictly; then a look at what it wrote; then the swap into place."""

from __future__ import annotations

import copy
import hashlib
import html
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from collapse_book.copies import add_lite, current_chapters
from collapse_book.files import write_atomic, write_changed
from collapse_book.messages import BadInput, BuildFailed
from collapse_book.pages import write_stubs
from collapse_book.project import Project

#: The branch that readers are invited to edit; the workflows publish it.
BRANCH = "main"
CSS_URL = re.compile(r"url\(\s*['\"]?(?P<url>[^'\")\s]+)|@import\s+['\"](?P<import>[^'\"]+)")
DATA = re.compile(r'"data:[^"]*"')
SCRIPT = re.compile(r"(<script\b[^>]*>).*?(?=</script)|<!--.*?-->", re.DOTALL | re.IGNORECASE)
ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
ANCHOR = re.compile(r"""\s(?:id|name)="([^"]*)\"""")
STYLE = re.compile(r"""<style[^>]*>(.*?)</style>|\sstyle=(?:"|')([^>]*)""", re.DOTALL)
#: Says in the build folder what the site was built from.
STAMP = "site.sha256"
#: Elements that load or link to something, by any of these attributes.
TAG = re.compile(
    r"<(script|img|source|iframe|embed|object|audio|video|track|input|image|use|link|a)\b"
    r"""((?:[^<>"']|"[^"]*"|'[^']*')*)>""",
    re.IGNORECASE,
)
LOADS = ("src", "data", "poster", "href", "xlink:href")
#: Relations of <link> that a browser loads by itself.
LOADED_LINK = re.compile("stylesheet|preload|prefetch|icon|manifest|preconnect", re.IGNORECASE)


def vendor_mathjax(project: Project) -> None:
    """Copy MathJax, one file, from its Python package to where ``mathjax_path`` points.

    Raises
    ------
    BadInput
        If the package is missing or has no such file.
    """
    name = Path(
        project.config.get("sphinx", {}).get("config", {}).get("mathjax_path", "tex-svg.js")
    ).name
    try:
        package = metadata.distribution("sphinx-mathjax-offline")
    except metadata.PackageNotFoundError:
        raise BadInput("sphinx-mathjax-offline is not installed: run `make book`") from None
    found = [file for file in package.files or [] if file.name == name]
    if not found:
        raise BadInput(f"sphinx-mathjax-offline {package.version} has no file {name}")
    write_changed(project.vendor / "mathjax" / name, Path(found[0].locate()).read_bytes())


@dataclass(frozen=True)
class Extras:
    """What stands beside the pages: chapters for the browser, and the printed book, if current."""

    lite: list[str]
    pdf: Path | None

    @classmethod
    def of(cls, project: Project) -> Extras:
        """What there is for these pages."""
        path, stamp = pdf_path(project), project.build / "pdf.sha256"
        there = path.is_file() and stamp.is_file()
        printed = there and stamp.read_text(encoding="utf-8") == content(project)
        return cls(current_chapters(project), path if printed else None)


def settings(project: Project, extras: Extras) -> dict[str, Any]:
    """What ``_config.yml`` says, and what only this build knows: the addresses, and what is there.

    ``published`` in that file holds settings of Sphinx for a site with an address.
    """
    config = copy.deepcopy(project.config)
    published = config.pop("published", {})
    sphinx = config.setdefault("sphinx", {}).setdefault("config", {})
    extensions = sphinx.setdefault("extensions", [])
    if project.repository:
        url = f"https://github.com/{project.repository}"
        config["repository"] = {"url": url, "branch": BRANCH, "path_to_book": ""}
        buttons = ("use_repository_button", "use_edit_page_button", "use_issues_button")
        config.setdefault("html", {}).update(dict.fromkeys(buttons, True))
        sources = {
            f"notebooks/{name}.ipynb": project.notebook(name).relative_to(project.root).as_posix()
            for name in project.chapters
        }
        sphinx.setdefault("html_context", {})["sources"] = sources
    if project.address:
        config.setdefault("html", {})["baseurl"] = project.address
        extensions += published.pop("extensions", [])
        sphinx |= published | {"ogp_site_url": project.address}
    if "collapse_book.extension" in extensions:
        sphinx["collapse_repository"] = project.repository or ""
        sphinx["collapse_lite"] = extras.lite
        sphinx["collapse_pdf"] = extras.pdf.name if extras.pdf else ""
    return config


def content(project: Project) -> str:
    """One hash of the pages and of everything else that Sphinx reads."""
    vendor_mathjax(project)
    return _hash(project, [path for path in project.book.rglob("*") if path.is_file()])


def _frame(project: Project) -> str:
    """The same without the text of the pages: when this changes, all of them are read again."""
    files = [path for path in sorted(project.book.rglob("*")) if path.is_file()]
    names = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest()
    changing = (".md", ".ipynb")
    return names + _hash(
        project,
        [f for f in files if f.suffix not in changing and not f.is_relative_to(project.vendor)],
    )


def _hash(project: Project, files: Iterable[Path]) -> str:
    """Hash of files of the book, of the settings, and of the press and the packages it uses."""
    config = json.dumps(project.config, sort_keys=True, default=str)
    whole = hashlib.sha256(
        f"{_packages()} {config} {project.repository} {project.address}".encode()
    )
    press = (path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".j2"))
    for path in sorted({*files, *press}):
        whole.update(f"\n{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


@cache
def _packages() -> list[str]:
    """What is installed, with versions."""
    return sorted(f"{package.name} {package.version}" for package in metadata.distributions())


def is_current(project: Project) -> bool:
    """Whether the site was built from these pages, with what is there to be added to it."""
    stamp = project.build / STAMP
    there = (project.html / "index.html").is_file() and stamp.is_file()
    return there and stamp.read_text(encoding="utf-8") == _stamp(project, Extras.of(project))


def pdf_path(project: Project) -> Path:
    """Where the book is printed to, to be linked from the site."""
    return project.build / f"{project.config.get('project', 'book')}.pdf"


def _stamp(project: Project, extras: Extras) -> str:
    return f"{content(project)} {extras}"


def build_site(project: Project, *, missing: Mapping[str, str] | None = None) -> Path:
    """Build the site strictly, check it, and put it in place of the previous one.

    Sphinx works in a folder of its own, which it keeps, so that the next build reads what changed.
    The previous site stays whole until the new one is. A build that failed, that is published or
    that lacks chapters starts from nothing.

    Parameters
    ----------
    missing : mapping of str to str
        Chapters that did not run, with the reason; not None asks for a preview. It goes into
        ``_build/preview``, with a page for each of them, and what quotes them is no error.

    Returns
    -------
    Path
        The front page.

    Raises
    ------
    BuildFailed
        If Sphinx warns, a page would load something from another host, or a link to a file of
        the site is broken.
    """
    preview = missing is not None
    work = project.build / "sphinx"
    frame = work / "frame.sha256"
    write_stubs(project, missing or {})
    extras = Extras.of(project)
    stamp, wanted = _stamp(project, extras), _frame(project)
    known = frame.read_text(encoding="utf-8") if frame.is_file() else ""
    if known != wanted or preview or project.address:
        shutil.rmtree(work, ignore_errors=True)
    frame.unlink(missing_ok=True)
    shutil.rmtree(work / "_build" / "html" / "_static", ignore_errors=True)  # all of it is copied
    write_atomic(work / "config.yml", yaml.safe_dump(settings(project, extras), sort_keys=False))
    strict = () if preview else ("-W", "-n", "--keep-going")
    result = _jupyter_book(project, work, *strict)
    write_atomic(project.build / "site.log", result.stdout)
    if result.returncode:
        raise BuildFailed("\n".join(_warnings(project, result.stdout)))
    new = project.build / "new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(work / "_build" / "html", new)
    if extras.lite:
        add_lite(project, extras.lite, new)
    if extras.pdf:
        shutil.copy(extras.pdf, new)
    problems = [] if preview else check_site(new, project.prefix)
    if problems:
        raise BuildFailed("\n".join(problems))
    place = project.build / "preview" if preview else project.html
    swap(new, place)
    if not preview:
        write_atomic(frame, wanted)
        write_atomic(project.build / STAMP, stamp)
    return place / "index.html"


def _jupyter_book(project: Project, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Jupyter Book on the staged pages; what it says goes into one text."""
    command = [
        *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
        *("build", str(project.book), "--path-output", str(work)),
        *("--config", str(work / "config.yml"), *options),
    ]
    return subprocess.run(
        command,
        cwd=project.root,
        env=os.environ | {"NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _warnings(project: Project, output: str) -> list[str]:
    """The lines of Sphinx's output that say what is wrong."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output).replace(f"{project.root}/", "")
    lines = [
        line
        for line in plain.splitlines()
        if re.search(
            r": (WARNING|ERROR|CRITICAL|SEVERE): |^(WARNING|ERROR): |^[\w.]+Error: \S", line
        )
    ]
    lines = lines or [line for line in plain.splitlines() if line.strip(" =")][-3:]
    where = f"the site was not built; all of Sphinx's output is in {project.build.name}/site.log"
    return [*dict.fromkeys(lines[:30]), where]


def swap(new: Path, place: Path) -> None:
    """Put a folder in place of another by renaming; `recover` undoes a half-done swap."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def recover(place: Path) -> None:
    """After a kill in the middle of `swap`: take the previous folder back."""
    old = place.with_name(f"{place.name}.old")
    if old.exists():
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(place)


@dataclass(frozen=True)
class _Page:
    """What a page loads by itself, where its links lead, and the anchors it offers."""

    loaded: list[str]
    linked: list[str]
    anchors: set[str]

    @classmethod
    def of(cls, text: str) -> _Page:
        text, loaded, linked = DATA.sub('"data:"', text), [], []  # pictures are most of a page
        for tag, content in TAG.findall(SCRIPT.sub(r"\1", text)):
            values = {name: html.unescape(a or b) for name, a, b in ATTRIBUTE.findall(content)}
            urls = [values[name] for name in LOADS if values.get(name)]
            choices = values.get("srcset", "").split(",")
            urls += [choice.split()[0] for choice in choices if choice.strip()]
            if tag == "a":
                linked += urls
            elif tag != "link" or LOADED_LINK.search(values.get("rel", "")):
                loaded += urls
        styles = [a or b for a, b in STYLE.findall(text)]
        loaded += [url for style in styles for url in css_urls(style)]
        return cls(loaded, linked, {html.unescape(anchor) for anchor in ANCHOR.findall(text)})


def check_site(site: Path, prefix: str = "/") -> list[str]:
    """Problems of a built site: requests to other hosts, and links that lead nowhere.

    Links from the root, which the page for unknown addresses has, must begin with ``prefix``.
    """
    problems: list[str] = []
    files = {path.relative_to(site).as_posix() for path in site.rglob("*")} | {"."}
    pages = {
        name: _Page.of((site / name).read_text(encoding="utf-8"))
        for name in sorted(files)
        if name.endswith(".html") and not name.startswith(("_static/", "lite/"))
    }
    for name, page in pages.items():
        problems += [
            f"{name} loads {url} from another host" for url in page.loaded if is_remote(url)
        ]
        for url in dict.fromkeys([*page.loaded, *page.linked]):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            inside = parts.path.removeprefix(prefix)
            folder = "" if inside != parts.path else posixpath.dirname(name)
            target = posixpath.normpath(posixpath.join(folder, unquote(inside)))
            target = target if parts.path else name
            known = pages[target].anchors if target in pages else {parts.fragment}
            if target not in files or (parts.fragment and unquote(parts.fragment) not in known):
                problems.append(f"{name} links to {url}, which is not there")
    for name in sorted(files):
        if name.endswith(".css"):
            for url in css_urls((site / name).read_text(encoding="utf-8")):
                if is_remote(url):
                    problems.append(f"{name} loads {url} from another host")
    return problems


def css_urls(text: str) -> list[str]:
    """URLs that a style sheet loads."""
    return [found["url"] or found["import"] for found in CSS_URL.finditer(text)]


def is_remote(url: str) -> bool:
    """Whether a URL leads to another host."""
    return bool(urlsplit(url).netloc)
