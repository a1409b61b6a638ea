"""Sphinx, strictly; then a look at what it wrote; then the swap into place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from collapse_book.errors import BadInput, BuildFailed, counted
from collapse_book.files import write_atomic
from collapse_book.project import Project

CSS_URL = re.compile(r"url\(\s*['\"]?(?P<url>[^'\")\s]+)|@import\s+['\"](?P<import>[^'\"]+)")
#: Says in the build folder what the site was built from.
STAMP = "site.sha256"
LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "track": ("src",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
#: Relations of <link> that a browser loads by itself.
LOADED_LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "modulepreload",
    "icon",
    "manifest",
    "preconnect",
}


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
    target = project.vendor / "mathjax" / name
    try:
        package = metadata.distribution("sphinx-mathjax-offline")
    except metadata.PackageNotFoundError:
        raise BadInput("sphinx-mathjax-offline is not installed: run `make .venv`") from None
    found = [file for file in package.files or [] if file.name == name]
    if not found:
        raise BadInput(f"sphinx-mathjax-offline {package.version} has no file {name}")
    content = Path(found[0].locate()).read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        write_atomic(target, content)


def is_current(project: Project) -> bool:
    """Whether the site was built from these pages, by this press with these packages."""
    stamp = project.build / STAMP
    there = (project.html / "index.html").is_file() and stamp.is_file()
    return there and stamp.read_text(encoding="utf-8") == _sources(project)


def _sources(project: Project) -> str:
    """One hash of everything that Sphinx reads."""
    vendor_mathjax(project)
    packages = sorted(f"{d.name} {d.version}" for d in metadata.distributions())
    whole = hashlib.sha256("\n".join(packages).encode())
    press = Path(__file__).parent
    for path in sorted({project.config_file, *project.book.rglob("*"), *press.rglob("*.py")}):
        if path.is_file():
            whole.update(f"\n{path}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def build_site(project: Project, *, preview: bool = False) -> Path:
    """Build the site strictly, check it, and put it in place of the previous one.

    Sphinx writes beside the previous site, which stays whole until the new one is. A preview has
    a folder of its own and may lack what pages refer to.

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
    work = project.build / "site"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    sources = _sources(project)
    strict = () if preview else ("-W", "-n", "--keep-going")
    result = _jupyter_book(project, work, "--all", *strict)
    write_atomic(project.build / "site.log", result.stdout)
    if result.returncode:
        raise BuildFailed("\n".join(_warnings(project, result.stdout)))
    built = work / "_build" / "html"
    if preview:
        swap(built, project.build / "preview")
        return project.build / "preview" / "index.html"
    problems = check_site(built, project.prefix)
    if problems:
        raise BuildFailed("\n".join(problems))
    swap(built, project.html)
    write_atomic(project.build / STAMP, sources)
    shutil.rmtree(work, ignore_errors=True)
    return project.html / "index.html"


def check_links(project: Project) -> int:
    """Ask every external link of the staged pages whether it still leads somewhere.

    Returns
    -------
    int
        How many links were asked.

    Raises
    ------
    BadInput
        If the pages have not been staged yet.
    BuildFailed
        With one line for each broken link.
    """
    if not project.staged.is_dir():
        raise BadInput("there are no pages yet: run `collapse-book build`")
    with project.lock():
        work = project.build / "linkcheck"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        result = _jupyter_book(project, work, "--builder", "linkcheck")
        reports = list(work.rglob("output.json"))
        if not reports:
            raise BuildFailed("\n".join(_warnings(project, result.stdout)))
        links = [json.loads(line) for line in reports[0].read_text(encoding="utf-8").splitlines()]
        shutil.rmtree(work)
    asked = {link["uri"]: link for link in links if is_remote(link["uri"])}
    broken = [
        f"{link['filename']}, line {link['lineno']}: {uri}: {' '.join(link['info'].split())}"
        for uri, link in asked.items()
        if link["status"] in ("broken", "timeout")
    ]
    if broken:
        raise BuildFailed(
            "\n".join([*broken, f"{len(broken)} of {counted(len(asked), 'link')} broken"])
        )
    return len(asked)


def _jupyter_book(project: Project, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Jupyter Book on the staged pages; what it says goes into one text."""
    command = [
        *(sys.executable, "-c", "from jupyter_book.cli.main import main; main()"),
        *("build", str(project.book), "--path-output", str(work), *options),
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


class _Links(HTMLParser):
    """What a page loads by itself, where its links lead, and the anchors it offers."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.css: list[str] = []
        self.anchors: set[str] = set()
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        for name in LOADS.get(tag, ()):
            if values.get(name):
                urls = values[name].split(",") if name == "srcset" else [values[name]]
                self.loaded += [url.split()[0] for url in urls if url.strip()]
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values.get("href", ""))
        if tag == "a" and values.get("href"):
            self.linked.append(values["href"])
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.css.append(values.get("style", ""))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.css.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False


def check_site(html: Path, prefix: str = "/") -> list[str]:
    """Problems of a built site: requests to other hosts, and links that lead nowhere.

    Links from the root, which the page for unknown addresses has, must begin with ``prefix``.
    """
    problems: list[str] = []
    pages: dict[Path, _Links] = {}
    for path in sorted(html.rglob("*.html")):
        if path.relative_to(html).parts[0] != "_static":  # templates of the theme
            pages[path.resolve()] = parser = _Links()
            parser.feed(path.read_text(encoding="utf-8"))
    for path, parser in pages.items():
        page = str(path.relative_to(html.resolve()))
        loaded = [*parser.loaded, *(url for css in parser.css for url in css_urls(css))]
        problems += [f"{page} loads {url} from another host" for url in loaded if is_remote(url)]
        for url in dict.fromkeys([*loaded, *parser.linked]):
            inside = url if is_remote(url) else url.removeprefix(prefix)
            base = html.resolve() / "index.html" if inside != url else path
            if not _leads_somewhere(inside, base, pages):
                problems.append(f"{page} links to {url}, which is not there")
    for path in sorted(html.rglob("*.css")):
        for url in css_urls(path.read_text(encoding="utf-8")):
            if is_remote(url):
                problems.append(f"{path.relative_to(html)} loads {url} from another host")
    return problems


def css_urls(text: str) -> Iterable[str]:
    """URLs that a style sheet loads."""
    return [found["url"] or found["import"] for found in CSS_URL.finditer(text)]


def is_remote(url: str) -> bool:
    """Whether a URL leads to another host."""
    return bool(urlsplit(url).netloc)


def _leads_somewhere(url: str, page: Path, pages: Mapping[Path, _Links]) -> bool:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if parts.fragment and target in pages:
        return unquote(parts.fragment) in pages[target].anchors
    return target.exists()
